//! The `corten` command: Docker's commands and flags, and the entry point of the engine.
//!
//! `cli` parses and dispatches, `commands` holds one file per command, `options` turns flags into requests, `format`
//! writes tables and templates, `contexts` are engines with a name, `stream` keeps terminals and containers connected. Nothing here knows how a container
//! is run; all of that is behind the API.

mod cli;
mod commands;
mod contexts;
mod credentials;
mod format;
mod options;
mod output;
mod stream;

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(cli::main(std::env::args_os().collect()))
}
