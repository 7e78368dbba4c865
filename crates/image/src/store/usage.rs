//! Where the bytes are: per image, per layer, and what is shared.

use std::collections::HashMap;

use super::Store;
use crate::digest::{DiffId, Digest, ImageId};
use crate::error::Error;

/// What one image accounts for, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageUsage {
    pub id: ImageId,
    /// Files of all its layers, as programs see them.
    pub size: u64,
    /// The part of `size` that other images have too.
    pub shared_size: u64,
    /// Disk that comes back when only this image is removed: layers and blobs nobody else needs.
    pub exclusive_disk_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerUsage {
    pub diff_id: DiffId,
    pub unpacked_bytes: u64,
    pub disk_bytes: u64,
    /// How many images have the layer.
    pub images: usize,
}

/// Every byte below the store's directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub images: Vec<ImageUsage>,
    pub layers: Vec<LayerUsage>,
    /// Compressed layers and other blobs that are kept as they came.
    pub blob_bytes: u64,
    /// Blobs that are not whole: on their way, or left for the next attempt.
    pub partial_bytes: u64,
    /// Layers on the disk.
    pub layer_disk_bytes: u64,
    /// All together.
    pub disk_bytes: u64,
}

impl Store {
    pub fn usage(&self) -> Result<Usage, Error> {
        let all: Vec<_> = self.catalogue().images().cloned().collect();
        // What is unpacked for other platforms of an image counts as its own.
        let mut images = Vec::new();
        for image in all.iter().filter(|image| !image.is_hidden()) {
            let mut own = (**image).clone();
            for member in all.iter().filter(|other| other.is_hidden() && other.owner == Some(image.id)) {
                own.layers.extend(&member.layers);
                own.size += member.size;
            }
            images.push(own);
        }
        let database = self.writer();
        let mut layer_users: HashMap<Digest, usize> = HashMap::new();
        let mut blob_users: HashMap<Digest, usize> = HashMap::new();
        for image in &images {
            let mut layers = image.layers.clone();
            layers.sort();
            layers.dedup();
            layers.into_iter().for_each(|id| *layer_users.entry(id).or_default() += 1);
            for digest in database.content(&image.id)? {
                *blob_users.entry(digest).or_default() += 1;
            }
        }
        let layers: HashMap<Digest, _> =
            database.layers()?.into_iter().map(|row| (row.diff_id, row)).collect();
        let blobs: HashMap<Digest, _> = database
            .blobs()?
            .into_iter()
            .filter(|row| row.stored)
            .map(|row| (row.digest, row.size))
            .collect();
        let mut usage = Usage::default();
        for image in &images {
            let (mut shared_size, mut exclusive_disk_bytes) = (0, 0);
            let mut stack = image.layers.clone();
            stack.sort();
            stack.dedup();
            for id in &stack {
                let Some(row) = layers.get(id) else { continue };
                if layer_users.get(id).is_some_and(|users| *users > 1) {
                    shared_size += row.unpacked_bytes;
                } else {
                    exclusive_disk_bytes += row.disk_bytes;
                }
            }
            for digest in database.content(&image.id)? {
                if blob_users.get(&digest) == Some(&1) {
                    exclusive_disk_bytes += blobs.get(&digest).copied().unwrap_or(0);
                }
            }
            usage.images.push(ImageUsage {
                id: image.id,
                size: image.size,
                shared_size,
                exclusive_disk_bytes,
            });
        }
        usage.layers = layers
            .values()
            .map(|row| LayerUsage {
                diff_id: row.diff_id,
                unpacked_bytes: row.unpacked_bytes,
                disk_bytes: row.disk_bytes,
                images: layer_users.get(&row.diff_id).copied().unwrap_or(0),
            })
            .collect();
        usage.layers.sort_by_key(|layer| layer.diff_id);
        usage.blob_bytes = blobs.values().sum();
        usage.layer_disk_bytes = usage.layers.iter().map(|layer| layer.disk_bytes).sum();
        usage.partial_bytes = self.blobs.partial_bytes();
        usage.disk_bytes = usage.blob_bytes + usage.partial_bytes + usage.layer_disk_bytes;
        Ok(usage)
    }
}
