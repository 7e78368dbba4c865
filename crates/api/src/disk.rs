//! Where the disk's bytes are: `GET /system/df` in the shape of API 1.52, and our own account of the data root.

use crate::Timestamp;
use crate::container::ContainerSummary;
use crate::image::ImageSummary;
use crate::json::{List, is_zero};
use crate::volume::Volume;
use serde::{Deserialize, Serialize};

/// Answer of `GET /system/df`; what wasn't asked for is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DiskUsage {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_usage: Option<KindUsage<ImageSummary>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_usage: Option<KindUsage<ContainerSummary>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_usage: Option<KindUsage<Volume>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_cache_usage: Option<KindUsage<BuildCache>>,
}

/// What objects of one kind take, in bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "T: Deserialize<'de>"))]
pub struct KindUsage<T> {
    /// How many are in use.
    #[serde(skip_serializing_if = "is_zero")]
    pub active_count: i64,
    /// With `verbose` only.
    #[serde(skip_serializing_if = "List::is_empty")]
    pub items: List<T>,
    /// What a removal of those that aren't in use brings back.
    #[serde(skip_serializing_if = "is_zero")]
    pub reclaimable: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub total_count: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub total_size: i64,
}

impl<T> Default for KindUsage<T> {
    fn default() -> Self {
        Self { active_count: 0, items: List::default(), reclaimable: 0, total_count: 0, total_size: 0 }
    }
}

/// Which kinds of objects are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskUsageOptions {
    pub images: bool,
    pub containers: bool,
    pub volumes: bool,
    pub build_cache: bool,
}

impl DiskUsageOptions {
    pub const ALL: Self = Self { images: true, containers: true, volumes: true, build_cache: true };
    pub const NONE: Self = Self { images: false, containers: false, volumes: false, build_cache: false };
}

/// Answer of `GET /corten/system/df`: every byte that the data root takes of its disk, once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DataRootUsage {
    pub path: String,
    /// The sum of the parts.
    pub total: u64,
    pub parts: List<DataRootPart>,
    /// Of the file system that holds the data root.
    pub disk_size: u64,
    /// What root can still write there.
    pub disk_available: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DataRootPart {
    /// Such as `image layers`; `other` is what isn't the engine's.
    pub name: String,
    pub bytes: u64,
    /// For `other`: what it is, by path.
    #[serde(skip_serializing_if = "List::is_empty")]
    pub paths: List<String>,
}

/// What a build has left: of a step, of a cache mount, of a context.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BuildCache {
    #[serde(rename = "ID")]
    pub id: String,
    #[serde(skip_serializing_if = "List::is_empty")]
    pub parents: List<String>,
    /// `regular`, `exec.cachemount`, `source.local`
    #[serde(rename = "Type")]
    pub kind: String,
    pub description: String,
    pub in_use: bool,
    /// An image has it as well.
    pub shared: bool,
    pub size: i64,
    pub created_at: Timestamp,
    pub last_used_at: Option<Timestamp>,
    pub usage_count: i64,
}

/// What `POST /build/prune` is to remove and to leave; bytes, and 0 for no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BuildPruneOptions {
    /// Also what images have as well.
    pub all: bool,
    /// So much may stay in any case.
    pub reserved_space: i64,
    /// No more than this stays.
    pub max_used_space: i64,
    /// So much of the disk is to be free.
    pub min_free_space: i64,
}

/// Answer of `POST /build/prune`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BuildCachePruneReport {
    pub caches_deleted: List<String>,
    pub space_reclaimed: u64,
}
