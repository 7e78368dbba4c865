//! What Docker lacks: volumes as wholes.

use crate::cli::{Context, Outcome, Verb};
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct CloneVolume {
    /// Copy the volume as it is, even if running containers may write to it
    #[arg(long)]
    live: bool,
    #[arg(value_name = "VOLUME")]
    source: String,
    #[arg(value_name = "NEW")]
    target: String,
}

impl Verb for CloneVolume {
    const ABOUT: &'static str = "Create a volume with the files of another one";
    const USAGE: &'static str = "[OPTIONS] VOLUME NEW";

    fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        let volume = context.block_on(client.volume_clone(&self.source, &self.target, self.live))??;
        output::line(&volume.name)?;
        Ok(0)
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct Rename {
    #[arg(value_name = "VOLUME")]
    old: String,
    #[arg(value_name = "NEW")]
    new: String,
}

impl Verb for Rename {
    const ABOUT: &'static str = "Rename a volume, in the containers that use it too";
    const USAGE: &'static str = "VOLUME NEW";

    fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        context.block_on(client.volume_rename(&self.old, &self.new))??;
        Ok(0)
    }
}
