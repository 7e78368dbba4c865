//! What languages' own package managers leave behind.

pub mod cargo;
mod elf;
mod go;
pub mod java;
pub mod node;
pub mod program;
pub mod python;
pub mod ruby;
