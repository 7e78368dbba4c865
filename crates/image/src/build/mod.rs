//! What a builder needs of the store: layers on top of each other that no image owns yet, steps that made such layers and are
//! remembered by a key, and images made of both.
//!
//! What a key is made of is the builder's to say; here it is 32 bytes.

mod fingerprint;
mod graft;
mod index;
mod mode;
mod steps;
mod walk;

#[cfg(test)]
mod tests;

pub use fingerprint::{Fingerprint, Fingerprints};
pub use graft::{Graft, GraftError, Item, Owner, Source};
pub use index::{Part, Statement};
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
    blob: BlobRow,
}

impl Stack {
    pub fn of_image(image: &Image) -> Stack {
        let layers = image.layers.iter().zip(&image.blobs);
        Stack { layers: layers.map(|(id, blob)| Stacked { id: *id, blob: blob.clone() }).collect() }
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
        let StepLayer(row) = layer;
        self.layers.push(Stacked { id: row.diff_id, blob: crate::archive::plain_blob(&row) });
    }
}

/// A layer that a step has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepLayer(LayerRow);

impl StepLayer {
    pub fn id(&self) -> DiffId {
        self.0.diff_id
    }

    pub fn disk_bytes(&self) -> u64 {
        self.0.disk_bytes
    }
}
