//! What a builder needs of the store: layers on top of each other that no image owns yet, steps that made such layers and are
//! remembered by a key, and images made of both.
//!
//! What a key is made of is the builder's to say; here it is 32 bytes.

mod cache;
mod fingerprint;
mod graft;
mod index;
mod mode;
mod steps;
mod walk;

#[cfg(test)]
mod tests;

pub use cache::{
    BuildCache, CACHE_CONFIG, CACHE_CONFIG_BYTES_MAX, CacheError, CacheList, CachedMount, CachedSource,
    CachedStep, compose_cache,
};
pub use fingerprint::{Fingerprint, Fingerprints};
pub use graft::{Graft, GraftError, Item, Owner, Source};
pub use index::{Part, Shape, Statement, Transport};
pub use mode::{ModeChange, ModeEdit};
pub use steps::{BuildSession, StepInfo};
pub use walk::{Filter, TakeAll, Verdict, list, open_file, open_path, read_file};

use crate::catalogue::Image;
use crate::digest::DiffId;
use crate::metadata::{BlobRow, LayerRow};

/// Layers on top of each other, bottom first.
#[derive(Clone, Debug, Default)]
pub struct Stack {
    layers: Vec<Stacked>,
}

#[derive(Clone, Debug)]
struct Stacked {
    id: DiffId,
    /// None of one that was not here.
    blob: Option<BlobRow>,
}

impl Stack {
    pub fn of_image(image: &Image) -> Stack {
        let layers = image.layers.iter().zip(&image.blobs);
        Stack { layers: layers.map(|(id, blob)| Stacked { id: *id, blob: Some(blob.clone()) }).collect() }
    }

    /// Bottom first.
    pub fn ids(&self) -> Vec<DiffId> {
        self.layers.iter().map(|layer| layer.id).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// The layer with that number from the bottom, alone.
    pub fn only(&self, number: usize) -> Option<Stack> {
        Some(Stack { layers: vec![self.layers.get(number)?.clone()] })
    }

    pub fn push(&mut self, layer: StepLayer) {
        let blob = layer.row.as_ref().map(crate::archive::plain_blob);
        self.layers.push(Stacked { id: layer.id, blob });
    }

    /// The layers that were not here when they were pushed.
    pub fn absent(&self) -> Vec<DiffId> {
        self.layers.iter().filter(|layer| layer.blob.is_none()).map(|layer| layer.id).collect()
    }
}

/// A layer that a step has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepLayer {
    id: DiffId,
    /// None: it is not here.
    row: Option<LayerRow>,
}

impl StepLayer {
    fn here(row: LayerRow) -> StepLayer {
        StepLayer { id: row.diff_id, row: Some(row) }
    }

    /// One that is elsewhere: who wants its files brings it here first.
    pub fn absent(id: DiffId) -> StepLayer {
        StepLayer { id, row: None }
    }

    pub fn id(&self) -> DiffId {
        self.id
    }

    pub fn disk_bytes(&self) -> u64 {
        self.row.map_or(0, |row| row.disk_bytes)
    }

    pub fn tar_bytes(&self) -> u64 {
        self.row.map_or(0, |row| row.tar_bytes)
    }
}
