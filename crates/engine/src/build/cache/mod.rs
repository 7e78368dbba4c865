//! What builds leave for the next ones: steps with their layers, cache mounts, and contexts that clients have sent. All of it is counted,
//! listed and pruned in one way, whatever it is.

mod budget;
mod entry;
mod filter;
mod mounts;
mod origin;
mod steps;
mod unwanted;
mod uses;

use std::sync::{Arc, OnceLock};

use corten_api::disk::{BuildCache, BuildCachePruneReport};
use corten_api::filters::Filters;

use super::callbacks::Callbacks;
use super::history::History;
use super::turns::Turns;
use crate::Engine;
use crate::error::Result;
pub use budget::CacheRule;
pub use entry::{CacheEntry, CacheKind, CachePart, CacheRemoval};
pub(crate) use mounts::CacheMounts;
pub(in crate::build) use mounts::Import;
pub(in crate::build) use origin::{
    dress as dress_mount, key as mount_key, make as make_mount, make_parent as make_mount_parent,
};
use steps::Steps;
use unwanted::unwanted;
pub use unwanted::{CacheBounds, CachePrune};
pub(in crate::build) use uses::Use;

/// What of builds outlives a build.
pub(crate) struct Builds {
    pub fingerprints: Arc<corten_image::build::Fingerprints>,
    pub mounts: Arc<CacheMounts>,
    /// At cache mounts that only one step may use at a time, by id; at directories that come from a cache, by name; and at steps, by key.
    pub mount_turns: Turns,
    pub import_turns: Turns,
    pub step_turns: Turns,
    steps: Arc<Steps>,
    /// Kept by who speaks the protocol by which they come.
    contexts: OnceLock<Arc<dyn CachePart>>,
    turn: budget::Turn,
    pub callbacks: Callbacks,
    pub history: Arc<History>,
}

impl Builds {
    pub fn new(mounts: CacheMounts, images: Arc<corten_image::Store>, history: History) -> Builds {
        Builds {
            fingerprints: Arc::default(),
            mounts: Arc::new(mounts),
            mount_turns: Turns::default(),
            import_turns: Turns::default(),
            step_turns: Turns::default(),
            steps: Arc::new(Steps(images)),
            contexts: OnceLock::new(),
            turn: budget::Turn::default(),
            callbacks: Callbacks::default(),
            history: Arc::new(history),
        }
    }

    fn parts(&self) -> Vec<Arc<dyn CachePart>> {
        let own: [Arc<dyn CachePart>; 2] = [self.steps.clone(), self.mounts.clone()];
        own.into_iter().chain(self.contexts.get().cloned()).collect()
    }

    /// All that is kept, what was used longest ago first.
    fn entries(&self) -> Result<Vec<CacheEntry>> {
        let mut entries = Vec::new();
        for part in self.parts() {
            entries.extend(part.entries()?);
        }
        entries.sort_by(|a, b| (a.used, &a.id).cmp(&(b.used, &b.id)));
        Ok(entries)
    }

    /// Removes entries, but those that a build has come to use; gives those that are gone, and the bytes that came back.
    fn remove(&self, entries: Vec<CacheEntry>) -> Result<(Vec<CacheEntry>, u64)> {
        let (mut gone, mut bytes) = (Vec::new(), 0);
        for part in self.parts() {
            let own = entries.iter().filter(|entry| entry.kind == part.kind());
            let ids: Vec<String> = own.map(|entry| entry.id.clone()).collect();
            if !ids.is_empty() {
                let removal = part.remove(&ids)?;
                bytes += removal.bytes;
                gone.extend(removal.ids.into_iter().map(|id| (part.kind(), id)));
            }
        }
        let is_gone =
            |entry: &CacheEntry| gone.iter().any(|(kind, id)| *kind == entry.kind && *id == entry.id);
        Ok((entries.into_iter().filter(is_gone).collect(), bytes))
    }
}

impl Engine {
    /// Says who keeps clients' contexts; once, before the first build.
    pub fn keep_build_contexts(&self, contexts: Arc<dyn CachePart>) {
        // A second one would be the same again.
        let _ = self.builds.contexts.set(contexts);
    }

    /// What builds keep, what was used longest ago first.
    pub async fn build_cache(&self) -> Result<Vec<CacheEntry>> {
        let engine = self.clone();
        crate::image::blocking(move || engine.builds.entries()).await
    }

    /// Removes from what builds keep; gives what is gone, and the bytes that came back.
    pub async fn build_cache_prune(&self, wanted: CachePrune) -> Result<(Vec<CacheEntry>, u64)> {
        let engine = self.clone();
        crate::image::blocking(move || {
            let free = engine.disk_space()?.free_bytes;
            engine.builds.remove(unwanted(engine.builds.entries()?, &wanted, free))
        })
        .await
    }

    /// The same by Docker's filters, with Docker's report.
    pub async fn build_prune(
        &self,
        filters: &Filters,
        all: bool,
        bounds: CacheBounds,
    ) -> Result<BuildCachePruneReport> {
        let wanted = CachePrune::parse(filters, all, bounds)?;
        let (gone, space_reclaimed) = self.build_cache_prune(wanted).await?;
        // Of what was at URLs nothing is left then that could be found again.
        if all && filters.is_empty() && bounds == CacheBounds::default() {
            let _ = std::fs::remove_dir_all(self.url_records());
        }
        let caches_deleted: Vec<String> = gone.into_iter().map(|entry| entry.id).collect();
        Ok(BuildCachePruneReport { caches_deleted: caches_deleted.into(), space_reclaimed })
    }

    /// What of it Docker's filters mean, as Docker tells of it.
    pub async fn build_cache_listed(&self, filters: &Filters) -> Result<Vec<BuildCache>> {
        let wanted = CachePrune::parse(filters, true, CacheBounds::default())?;
        let entries = self.build_cache().await?;
        Ok(entries.iter().filter(|entry| wanted.means(entry)).map(record).collect())
    }

    /// What builds keep, as Docker tells of it.
    pub(crate) fn build_cache_records(&self) -> Result<Vec<BuildCache>> {
        Ok(self.builds.entries()?.iter().map(record).collect())
    }
}

fn record(entry: &CacheEntry) -> BuildCache {
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    BuildCache {
        id: entry.id.clone(),
        kind: entry.kind.name().to_owned(),
        description: entry.description.clone(),
        in_use: entry.is_in_use,
        shared: entry.is_shared,
        size: signed(entry.bytes),
        created_at: entry.created,
        last_used_at: Some(entry.used),
        usage_count: signed(entry.uses),
        ..BuildCache::default()
    }
}
