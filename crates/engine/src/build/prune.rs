//! What builds have left in the cache: told, and forgotten on wish.

use corten_api::Timestamp;
use corten_api::disk::{BuildCache, BuildCachePruneReport};
use corten_api::filters::Filters;
use corten_image::Digest;
use corten_image::build::StepInfo;

use crate::Engine;
use crate::container::until;
use crate::error::{Error, Result};
use crate::image::failed;

impl Engine {
    /// The steps that are remembered, the one that was used longest ago first.
    pub async fn build_steps(&self) -> Result<Vec<StepInfo>> {
        let engine = self.clone();
        crate::image::blocking(move || engine.images.steps().map_err(failed)).await
    }

    /// Forgets these steps; gives the bytes that became free.
    pub async fn build_steps_forget(&self, keys: Vec<Digest>) -> Result<u64> {
        let engine = self.clone();
        crate::image::blocking(move || engine.images.forget_steps(&keys).map_err(failed)).await
    }

    /// The steps that are remembered, as Docker tells of them.
    pub(crate) fn build_cache(&self) -> Result<Vec<BuildCache>> {
        Ok(self.images.steps().map_err(failed)?.iter().map(record).collect())
    }

    /// Forgets steps: those whose layers no image has, or `all`; those used longest ago first, until no more than `keep_bytes` is left.
    pub async fn build_cache_prune(
        &self,
        filters: &Filters,
        all: bool,
        keep_bytes: u64,
    ) -> Result<BuildCachePruneReport> {
        let known = ["until", "unused-for", "id"];
        filters.validate(&known).map_err(|error| Error::invalid(error.to_string()))?;
        let mut bounds = filters.clone();
        for age in filters.get("unused-for") {
            bounds.add("until", age);
        }
        let before = until(&bounds)?;
        let ids: Vec<String> = filters.get("id").map(str::to_owned).collect();
        let engine = self.clone();
        crate::image::blocking(move || {
            let steps = engine.images.steps().map_err(failed)?;
            let mut left: u64 = steps.iter().map(own_bytes).sum();
            let mut gone = Vec::new();
            for step in &steps {
                let is_old = before.as_ref().is_none_or(|before| time(step.used_at) < *before);
                let is_meant = ids.is_empty() || ids.iter().any(|id| step.key.hex().starts_with(id.as_str()));
                if !is_old || !is_meant || (step.is_shared && !all) {
                    continue;
                }
                if keep_bytes > 0 && left <= keep_bytes {
                    break;
                }
                left -= own_bytes(step);
                gone.push(step.key);
            }
            let bytes = engine.images.forget_steps(&gone).map_err(failed)?;
            let caches_deleted: Vec<String> = gone.iter().map(Digest::hex).collect();
            Ok(BuildCachePruneReport { caches_deleted: caches_deleted.into(), space_reclaimed: bytes })
        })
        .await
    }
}

/// What the step alone keeps.
fn own_bytes(step: &StepInfo) -> u64 {
    match (&step.layer, step.is_shared) {
        (Some(layer), false) => layer.disk_bytes(),
        _ => 0,
    }
}

fn record(step: &StepInfo) -> BuildCache {
    BuildCache {
        id: step.key.hex(),
        kind: "regular".to_owned(),
        description: step.description.clone(),
        in_use: false,
        shared: step.is_shared,
        size: step.layer.map_or(0, |layer| i64::try_from(layer.disk_bytes()).unwrap_or(i64::MAX)),
        created_at: time(step.created_at),
        last_used_at: Some(time(step.used_at)),
        usage_count: i64::try_from(step.uses).unwrap_or(i64::MAX),
        ..BuildCache::default()
    }
}

fn time(nanoseconds: i64) -> Timestamp {
    Timestamp::from_unix_nanos(nanoseconds)
}
