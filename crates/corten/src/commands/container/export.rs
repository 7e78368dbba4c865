//! `export`: all files of a container as an archive.

use std::path::PathBuf;

use crate::cli::{Context, Outcome, Verb};
use crate::commands::archive::Target;

#[derive(Clone, Debug, clap::Args)]
pub struct Export {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Verb for Export {
    const ABOUT: &'static str = "Export a container's filesystem as a tar archive";
    const USAGE: &'static str = "[OPTIONS] CONTAINER";

    fn run(self, context: &Context) -> Outcome {
        let target = Target::open(self.output.as_deref())?;
        let client = context.client()?;
        context.block_on(async {
            target.receive(client.container_export(&self.container).await?).await?;
            Ok(0)
        })?
    }
}
