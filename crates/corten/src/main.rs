//! The `corten` command.
mod format;
mod options;

fn main() {}
