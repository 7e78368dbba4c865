//! `top`: the processes of a container.

use crate::cli::{Context, Outcome, Verb};
use crate::format::tabwriter::align_from;
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct Top {
    /// The container, then options for ps
    #[arg(required = true, num_args = 1.., trailing_var_arg = true, value_name = "CONTAINER [ps OPTIONS]")]
    words: Vec<String>,
}

impl Verb for Top {
    const ABOUT: &'static str = "Display the running processes of a container";
    const USAGE: &'static str = "CONTAINER [ps OPTIONS]";

    fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        let ps_args = self.words[1..].join(" ");
        let top = context.block_on(client.container_top(&self.words[0], &ps_args))??;
        let mut text = format!("{}\n", top.titles.join("\t"));
        for process in &top.processes {
            text.push_str(&process.join("\t"));
            text.push('\n');
        }
        output::print(&align_from(20, &text))?;
        Ok(0)
    }
}
