//! `image prune`: removes what no container uses.

use crate::cli::{Context, Failure, Outcome, Verb};
use crate::commands::prune::{PruneFlags, image_line, tell_deleted, tell_reclaimed};

#[derive(Clone, Debug, clap::Args)]
pub struct Prune {
    /// Remove all unused images, not just dangling ones
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    flags: PruneFlags,
}

impl Verb for Prune {
    const ABOUT: &'static str = "Remove unused images";
    const USAGE: &'static str = "[OPTIONS]";

    fn run(self, context: &Context) -> Outcome {
        let mut filters = self.flags.filters()?;
        if self.all {
            if filters.contains("dangling") {
                let why = "conflicting options: --all and --filter dangling=… exclude each other";
                return Err(Failure::new(why));
            }
            filters.add("dangling", "false");
        }
        let warning = match self.all {
            true => "This will remove all images without at least one container associated to them.",
            false => "This will remove all dangling images.",
        };
        let client = self.flags.confirm(context, "image prune", warning)?;
        let report = context.block_on(client.images_prune(&filters))??;
        tell_deleted("Images", report.images_deleted.iter().map(image_line))?;
        tell_reclaimed(report.space_reclaimed)
    }
}
