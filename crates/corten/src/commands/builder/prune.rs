//! `builder prune`: removes what builds have left.

use corten_api::disk::BuildPruneOptions;

use crate::cli::{Context, Outcome, Verb};
use crate::commands::prune::{PruneFlags, tell_deleted, tell_reclaimed};
use crate::options::values::bytes_of;

#[derive(Clone, Debug, clap::Args)]
pub struct Prune {
    /// Remove all unused build cache, not just dangling ones
    #[arg(short, long)]
    all: bool,
    /// Remove only what fits: until=TIME, unused-for=DURATION, id=ID, type=TYPE, description=TEXT, inuse=BOOL, shared=BOOL or private=BOOL
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
    /// Amount of disk space to keep for cache
    #[arg(long, value_name = "BYTES")]
    reserved_space: Option<String>,
    /// The former name of --reserved-space
    #[arg(long, value_name = "BYTES", conflicts_with = "reserved_space")]
    keep_storage: Option<String>,
    /// Maximum amount of disk space allowed to keep for cache
    #[arg(long, value_name = "BYTES")]
    max_used_space: Option<String>,
    /// Target amount of free disk space after pruning
    #[arg(long, value_name = "BYTES")]
    min_free_space: Option<String>,
}

impl Verb for Prune {
    const ABOUT: &'static str = "Remove build cache";
    const USAGE: &'static str = "[OPTIONS]";

    fn run(self, context: &Context) -> Outcome {
        let options = BuildPruneOptions {
            all: self.all,
            reserved_space: bytes_of("reserved-space", self.reserved_space.or(self.keep_storage).as_deref())?,
            max_used_space: bytes_of("max-used-space", self.max_used_space.as_deref())?,
            min_free_space: bytes_of("min-free-space", self.min_free_space.as_deref())?,
        };
        let flags = PruneFlags::new(self.filter, self.force);
        let filters = flags.filters()?;
        let warning = match self.all {
            true => "This will remove all build cache.",
            false => "This will remove all dangling build cache.",
        };
        let client = flags.confirm(context, "builder prune", warning)?;
        let report = context.block_on(client.build_prune(&filters, options))??;
        tell_deleted("build cache objects", &report.caches_deleted)?;
        tell_reclaimed(report.space_reclaimed)
    }
}
