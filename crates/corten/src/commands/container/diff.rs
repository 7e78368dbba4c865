//! `diff`: the files that a container has changed.

use crate::cli::{Context, Outcome, Verb};
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct Diff {
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Verb for Diff {
    const ABOUT: &'static str = "Inspect changes to files or directories on a container's filesystem";
    const USAGE: &'static str = "CONTAINER";

    fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        let changes = context.block_on(client.container_changes(&self.container))??;
        let mut text = String::with_capacity(changes.iter().map(|change| change.path.len() + 3).sum());
        for change in changes {
            text.push_str(match change.kind {
                0 => "C ",
                1 => "A ",
                2 => "D ",
                _ => "? ",
            });
            text.push_str(&change.path);
            text.push('\n');
        }
        output::print(&text)?;
        Ok(0)
    }
}
