//! `network rm` and `network prune`.

use crate::cli::{Context, Outcome, Verb};
use crate::commands::each::{Missing, each_or};
use crate::commands::prune::{PruneFlags, tell_deleted};

#[derive(Clone, Debug, clap::Args)]
pub struct Rm {
    /// Do not error if the network does not exist
    #[arg(short, long)]
    force: bool,
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
}

impl Verb for Rm {
    const ABOUT: &'static str = "Remove one or more networks";
    const USAGE: &'static str = "[OPTIONS] NETWORK [NETWORK...]";

    fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        let missing = if self.force { Missing::IsFine } else { Missing::Fails };
        context.block_on(each_or(missing, &client, self.networks, move |client, name| async move {
            client.network_remove(&name).await.map(|()| name)
        }))?
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct Prune {
    #[command(flatten)]
    flags: PruneFlags,
}

impl Verb for Prune {
    const ABOUT: &'static str = "Remove all unused networks";
    const USAGE: &'static str = "[OPTIONS]";

    fn run(self, context: &Context) -> Outcome {
        let filters = self.flags.filters()?;
        let warning = "This will remove all custom networks not used by at least one container.";
        let client = self.flags.confirm(context, "network prune", warning)?;
        let report = context.block_on(client.network_prune(&filters))??;
        tell_deleted("Networks", &report.networks_deleted)?;
        Ok(0)
    }
}
