//! Steps that the image store remembers, with their layers.

use std::collections::HashSet;
use std::sync::Arc;

use corten_api::Timestamp;
use corten_image::{Digest, Store};

use super::{CacheEntry, CacheKind, CachePart, CacheRemoval};
use crate::error::Result;
use crate::image::failed;

pub struct Steps(pub Arc<Store>);

impl CachePart for Steps {
    fn kind(&self) -> CacheKind {
        CacheKind::Step
    }

    fn entries(&self) -> Result<Vec<CacheEntry>> {
        let mut counted = HashSet::new();
        let steps = self.0.steps().map_err(failed)?;
        // From the last used on: a layer goes with the last step that has it.
        let entries = steps.into_iter().rev().map(|step| CacheEntry {
            id: step.key.hex(),
            kind: CacheKind::Step,
            description: step.description,
            bytes: step
                .layer
                .filter(|layer| counted.insert(layer.id()))
                .map_or(0, |layer| layer.disk_bytes()),
            created: Timestamp::from_unix_nanos(step.created_at),
            used: Timestamp::from_unix_nanos(step.used_at),
            uses: step.uses,
            is_in_use: step.is_in_use,
            is_shared: step.is_shared,
        });
        Ok(entries.collect())
    }

    fn remove(&self, ids: &[String]) -> Result<CacheRemoval> {
        let keys: Vec<Digest> = ids.iter().filter_map(|id| Digest::from_hex(id)).collect();
        let (gone, bytes) = self.0.forget_steps(&keys).map_err(failed)?;
        Ok(CacheRemoval { ids: gone.iter().map(Digest::hex).collect(), bytes })
    }
}
