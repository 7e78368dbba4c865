//! `completion`: scripts for shells.

use crate::cli::{Context, Form, Outcome, Verb, tree};

#[derive(Clone, Debug, clap::Args)]
pub struct Completion {
    /// The shell to complete for
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

impl Verb for Completion {
    const ABOUT: &'static str = "Generate the autocompletion script for the specified shell";
    const USAGE: &'static str = "bash|zsh|fish|powershell|elvish";

    fn run(self, _context: &Context) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut tree(Form::Offered), "corten", &mut script);
        crate::output::write(&script)?;
        Ok(0)
    }
}
