//! Who builds: what this crate asks of it. The wire knows what clients want and how they are told of it, and nothing of how it is done.

use crate::asker::Asker;
use crate::filters::Filters;
use crate::output::Output;
use async_trait::async_trait;
use corten_build::{Options, Result, Teller};
use corten_image::{Digest, Platform};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

#[async_trait]
pub trait Builder: Send + Sync + 'static {
    /// What clients see in a list of workers.
    fn worker(&self) -> Worker;

    /// Builds. Ends early when it is dropped, or when the teller's other end is.
    async fn build(&self, job: Job) -> Result<Built>;

    /// What the cache holds, clients' contexts included.
    async fn usage(&self) -> Result<Vec<Usage>>;

    /// Removes from the cache; what was removed.
    async fn prune(&self, wanted: Prune) -> Result<Vec<Usage>>;
}

#[derive(Clone, Debug)]
pub struct Worker {
    pub id: String,
    pub labels: BTreeMap<String, String>,
    pub platforms: Vec<Platform>,
    pub version: String,
}

/// One build.
pub struct Job {
    pub options: Options,
    pub outputs: Vec<Output>,
    pub asker: Arc<Asker>,
    pub teller: Teller,
}

/// What a build made.
#[derive(Clone, Debug, Default)]
pub struct Built {
    pub image: Option<Image>,
}

#[derive(Clone, Debug)]
pub struct Image {
    /// Of its configuration: what Docker calls an image's id. None where the names stand for an index.
    pub id: Option<Digest>,
    /// Of its manifest or index.
    pub manifest: Manifest,
    pub names: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Manifest {
    pub media_type: String,
    pub digest: Digest,
    pub bytes: u64,
}

/// One thing in the cache.
#[derive(Clone, Debug)]
pub struct Usage {
    pub id: String,
    pub description: String,
    /// `regular`, `source.local`, `exec.cachemount`.
    pub kind: String,
    pub bytes: u64,
    pub created: Option<SystemTime>,
    pub last_used: Option<SystemTime>,
    pub use_count: u64,
    pub is_mutable: bool,
    pub is_in_use: bool,
    pub is_shared: bool,
    pub parents: Vec<String>,
}

/// What to remove.
#[derive(Clone, Debug, Default)]
pub struct Prune {
    /// Also what would be wanted again soon.
    pub all: bool,
    /// Only what has not been used for so long.
    pub unused_for: Duration,
    /// So much may stay in any case; 0, here and below: no bound.
    pub reserved_bytes: u64,
    /// Stops when no more than this is left.
    pub used_bytes_max: u64,
    /// Stops when so much of the disk is free.
    pub free_bytes_min: u64,
    /// Only what these take.
    pub filters: Filters,
}
