//! Who does what a build needs of an engine: finds images, runs programs in containers, keeps caches.

use std::any::Any;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use corten_image::build::{BuildSession, CachedMount, CachedSource, Fingerprints, Stack, StepLayer};
use corten_image::config::RunConfig;
use corten_image::manifest::Descriptor;
use corten_image::{DiffId, Digest, Image, ImageId, Platform, Reference};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::Result;
use crate::progress::{Stream, Teller};
use crate::repository::Repository;
use crate::request::{Debug, Limits, Network, Tree};

#[async_trait]
pub trait Worker: Send + Sync {
    /// A session at the store that keeps layers from being deleted.
    fn session(&self) -> Arc<BuildSession>;

    /// Contents of files that were read before.
    fn fingerprints(&self) -> Arc<Fingerprints>;

    /// The image of that name for the platform, from the store or else from its registry. `vertex` is what progress is told of.
    async fn image(
        &self,
        name: &str,
        platform: &Platform,
        pull: bool,
        teller: &Teller,
        vertex: Digest,
    ) -> Result<Arc<Image>>;

    /// The image for the platform that a store of the asker's has by that digest of its manifest or index.
    async fn layout_image(
        &self,
        store: &str,
        manifest: &Digest,
        platform: &Platform,
        teller: &Teller,
        vertex: Digest,
    ) -> Result<Arc<Image>>;

    /// A file of another host. Without `wants_file` it may be one that is known to be the same still, and then has no tree.
    async fn fetch(&self, url: &str, expected: Option<&Digest>, wants_file: bool) -> Result<Fetched>;

    /// Files of a repository's commit, by their commit. Without `wants_files` they may be known to be the same still, and then there
    /// is no tree.
    async fn repository(&self, repository: &Repository, wants_files: bool) -> Result<Fetched>;

    /// What is in a tar archive, compressed or not.
    async fn unpack(&self, archive: File) -> Result<Tree>;

    /// What the step with that key made, as a cache says that the asker has named; its layer may not be here.
    fn imported(&self, session: &BuildSession, key: &Digest) -> Result<Option<Option<StepLayer>>>;

    /// What was read of layers, as a cache says that the asker has named.
    fn imported_source(&self, request: &Digest) -> Option<CachedSource>;

    /// Brings layers here that caches have. `vertex` is what progress is told of.
    ///
    /// # Errors
    /// [`crate::Error::Lost`] when one can't be had; it is named by no cache from then on.
    async fn bring(
        &self,
        session: &Arc<BuildSession>,
        layers: &[DiffId],
        teller: &Teller,
        vertex: Digest,
    ) -> Result<()>;

    /// Where a layer is that a cache has and that is not here.
    fn elsewhere(&self, layer: &DiffId) -> Option<Elsewhere>;

    /// Runs a program to its end in a container of its own. What it prints goes to `output` as it comes. Dropped in the middle, the
    /// container ends with it.
    async fn run(&self, step: RunStep, output: Output<'_>) -> Result<Ran>;

    /// Readies the container of a program that has failed for a shell, tells of it ([`Event::Failed`](crate::Event::Failed)), and waits
    /// until the asker has removed it.
    async fn look_into(&self, failed: &Ran, shell: Vec<String>, debug: Debug, teller: &Teller) -> Result<()>;

    /// The directory of a cache mount; made when there is none, of what a cache has where the asker has named one. `vertex` is what
    /// progress is told of.
    async fn cache_directory(
        &self,
        wish: CacheWish,
        teller: &Teller,
        vertex: Digest,
    ) -> Result<CacheDirectory>;

    /// What a cache has of a cache mount that the asker has named.
    fn imported_mount(&self, wish: &CacheWish) -> Option<CachedMount>;

    /// Waits until nobody else has the turn of the cache mount of that name.
    async fn cache_turn(&self, id: &str) -> Box<dyn Any + Send + Sync>;

    /// Waits until nobody else, of this build or another, does the step with that key.
    async fn step_turn(&self, key: &Digest) -> Box<dyn Any + Send + Sync>;
}

/// A layer that is not here.
#[derive(Clone, Debug)]
pub struct Elsewhere {
    /// None where it is at no registry.
    pub repository: Option<Reference>,
    pub blob: Descriptor,
}

/// A file or a repository of another host.
pub struct Fetched {
    /// Of a file's contents; of the commit and of what is meant of it.
    pub digest: Digest,
    /// Of a repository: the commit, in hexadecimal digits.
    pub commit: Option<String>,
    pub bytes: u64,
    /// When it was changed, as its host says; Unix seconds.
    pub modified: Option<i64>,
    /// Where it was fetched: the repository's files, or nothing but the file by the name [`FETCHED`].
    pub tree: Option<Tree>,
}

/// The name of a fetched file in its tree.
pub const FETCHED: &str = "file";

/// What a program prints, piece by piece.
pub type Output<'a> = &'a (dyn Fn(Stream, Vec<u8>) -> futures_util::future::BoxFuture<'a, ()> + Send + Sync);

/// A program and all that is around it.
pub struct RunStep {
    /// The image that the stack began as; for the record only.
    pub image: Option<ImageId>,
    pub stack: Stack,
    pub platform: Platform,
    pub command: Vec<String>,
    /// Environment, user, working directory.
    pub config: RunConfig,
    /// What it calls its host.
    pub hostname: String,
    /// `NAME=value` of the environment that nobody may write down.
    pub secret_env: Vec<String>,
    pub network: Network,
    pub mounts: Vec<StepMount>,
    pub extra_hosts: Vec<String>,
    pub limits: Limits,
}

/// A directory that outlives builds.
#[derive(Clone, Debug)]
pub struct CacheWish {
    /// Its name, together with what it begins as.
    pub id: String,
    /// Of the directory when it is made.
    pub mode: u32,
    pub owner: (u32, u32),
    /// Nobody else's as long as the source lives.
    pub is_private: bool,
    /// It begins as a copy of the directory that layers have at a path.
    pub origin: Option<(Stack, String)>,
}

/// The directory of a cache mount.
pub struct CacheDirectory {
    pub path: PathBuf,
    /// What keeps it there.
    pub keep: Arc<dyn Any + Send + Sync>,
    /// It is not the host's own: it began as what a cache has, with this layer.
    pub imported: Option<DiffId>,
}

/// Something at a path of the container that is no part of the layer.
pub struct StepMount {
    pub target: String,
    pub is_read_only: bool,
    pub source: MountSource,
}

pub enum MountSource {
    /// A directory of the host, and what keeps it there.
    Path {
        path: PathBuf,
        keep: Option<Arc<dyn Any + Send + Sync>>,
    },
    /// What layers have at a path, which is empty for all of it. Nothing is ever written there: what a step writes that may is
    /// thrown away.
    Layers {
        stack: Stack,
        path: String,
    },
    /// A socket behind which is an SSH agent.
    Agent {
        agent: Arc<dyn Agent>,
        mode: u32,
        uid: u32,
        gid: u32,
    },
    Tmpfs {
        bytes: u64,
    },
    /// A file that is never on a disk.
    Secret {
        bytes: Vec<u8>,
        mode: u32,
        uid: u32,
        gid: u32,
    },
}

/// Makes connections to an SSH agent.
#[async_trait]
pub trait Agent: Send + Sync {
    async fn connect(&self) -> std::io::Result<Box<dyn AgentLine>>;
}

/// A connection to an SSH agent, over whatever it goes.
pub trait AgentLine: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> AgentLine for T {}

/// A container whose program has ended.
pub struct Ran {
    pub exit_code: i64,
    /// Whether the kernel ended it for want of memory.
    pub is_out_of_memory: bool,
    /// The name of its writable layer.
    pub snapshot: String,
    /// The container is removed when this is dropped.
    pub keep: Box<dyn Any + Send + Sync>,
}
