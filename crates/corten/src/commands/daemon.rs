//! `daemon`: the engine itself.

use crate::cli::{Context, Failure, Outcome, Verb};

#[derive(Clone, Debug, clap::Args)]
pub struct Daemon {}

impl Verb for Daemon {
    const ABOUT: &'static str = "Run the engine";
    const USAGE: &'static str = "[OPTIONS]";

    fn run(self, _context: &Context) -> Outcome {
        Err(Failure::new("x"))
    }
}
