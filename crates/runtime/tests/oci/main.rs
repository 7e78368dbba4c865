//! `corten-oci` as its callers use it: command lines in, exit codes, JSON and descriptors out. Needs root.

mod bundle;
mod callers;
mod commands;
mod configuration;
mod processes;
mod terminals;
