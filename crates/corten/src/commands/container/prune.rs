//! `container prune`: removes all that are stopped.

use crate::cli::{Context, Outcome, Verb};
use crate::commands::prune::{PruneFlags, tell_deleted, tell_reclaimed};

#[derive(Clone, Debug, clap::Args)]
pub struct Prune {
    #[command(flatten)]
    flags: PruneFlags,
}

impl Verb for Prune {
    const ABOUT: &'static str = "Remove all stopped containers";
    const USAGE: &'static str = "[OPTIONS]";

    fn run(self, context: &Context) -> Outcome {
        let filters = self.flags.filters()?;
        let client =
            self.flags.confirm(context, "container prune", "This will remove all stopped containers.")?;
        let report = context.block_on(client.containers_prune(&filters))??;
        tell_deleted("Containers", &report.containers_deleted)?;
        tell_reclaimed(report.space_reclaimed)
    }
}
