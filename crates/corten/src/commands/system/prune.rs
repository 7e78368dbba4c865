//! `system prune`: removes what nobody uses, of every kind.

use corten_api::Filters;
use corten_api::client::Client;
use corten_api::disk::BuildPruneOptions;

use crate::cli::{Context, Failure, Outcome, Verb};
use crate::commands::prune::{PruneFlags, image_line, tell_deleted, tell_reclaimed};

#[derive(Clone, Debug, clap::Args)]
pub struct Prune {
    /// Remove all unused images not just dangling ones
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    flags: PruneFlags,
    /// Prune anonymous volumes
    #[arg(long)]
    volumes: bool,
}

impl Verb for Prune {
    const ABOUT: &'static str = "Remove unused data";
    const USAGE: &'static str = "[OPTIONS]";

    fn run(self, context: &Context) -> Outcome {
        let filters = self.flags.filters()?;
        if self.volumes && filters.contains("until") {
            return Err(Failure::new("the \"until\" filter is not supported with \"--volumes\"")
                .hint("prune volumes on their own: corten volume prune"));
        }
        let client = self.flags.confirm(context, "system prune", &self.warning(&filters))?;
        let reclaimed = context.block_on(self.prune(&client, &filters))??;
        tell_reclaimed(reclaimed)
    }
}

impl Prune {
    fn warning(&self, filters: &Filters) -> String {
        let mut items = vec!["all stopped containers", "all networks not used by at least one container"];
        if self.volumes {
            items.push("all anonymous volumes not used by at least one container");
        }
        items.push(match self.all {
            true => "all images without at least one container associated to them",
            false => "all dangling images",
        });
        if takes_build_cache(filters) {
            items.push(match self.all {
                true => "all build cache",
                false => "unused build cache",
            });
        }
        let mut text = "This will remove:\n".to_owned();
        items.iter().for_each(|item| text.push_str(&format!("  - {item}\n")));
        if !filters.is_empty() {
            text.push_str("\n  Items to be pruned will be filtered with:\n");
            for name in filters.names() {
                for value in filters.get(name) {
                    text.push_str(&format!("  - {name}={value}\n"));
                }
            }
        }
        text
    }

    /// One kind after the other, in an order in which each frees what the next looks at. Yields bytes.
    async fn prune(&self, client: &Client, filters: &Filters) -> Result<u64, Failure> {
        let containers = client.containers_prune(filters).await?;
        tell_deleted("Containers", &containers.containers_deleted)?;
        let networks = client.network_prune(filters).await?;
        tell_deleted("Networks", &networks.networks_deleted)?;
        let mut reclaimed = containers.space_reclaimed;
        if self.volumes {
            let volumes = client.volume_prune(filters).await?;
            tell_deleted("Volumes", &volumes.volumes_deleted)?;
            reclaimed += volumes.space_reclaimed;
        }
        let takes_build_cache = takes_build_cache(filters);
        let cache_filters = filters.clone();
        let mut filters = filters.clone();
        filters.add("dangling", if self.all { "false" } else { "true" });
        let images = client.images_prune(&filters).await?;
        tell_deleted("Images", images.images_deleted.iter().map(image_line))?;
        reclaimed += images.space_reclaimed;
        // Last: what images had is the cache's own by now.
        if takes_build_cache {
            let options = BuildPruneOptions { all: self.all, ..BuildPruneOptions::default() };
            let cache = client.build_prune(&cache_filters, options).await?;
            tell_deleted("build cache objects", &cache.caches_deleted)?;
            reclaimed += cache.space_reclaimed;
        }
        Ok(reclaimed)
    }
}

/// What builds leave has no labels: filtered by these, nothing of it is meant.
fn takes_build_cache(filters: &Filters) -> bool {
    !filters.names().any(|name| name.starts_with("label"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_names_what_goes() {
        let mut prune = Prune { all: false, flags: PruneFlags::default(), volumes: false };
        let mut filters = Filters::new();
        let text = prune.warning(&filters);
        assert!(
            text.contains("  - all dangling images\n")
                && text.contains("  - unused build cache\n")
                && !text.contains("volumes")
                && !text.contains("filtered")
        );
        (prune.all, prune.volumes) = (true, true);
        filters.add("label", "a=b");
        let text = prune.warning(&filters);
        assert!(!text.contains("build cache"), "it has no labels");
        assert!(text.contains("anonymous volumes") && text.contains("all images without"));
        assert!(text.ends_with("filtered with:\n  - label=a=b\n"), "{text}");
    }
}
