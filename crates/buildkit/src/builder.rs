//! Who builds: what this crate asks of it. The wire knows what clients want and how they are told of it, and nothing of how it is done.

use crate::asker::Asker;
use crate::filters::Filters;
use crate::output::Output;
use crate::promise::Promise;
use async_trait::async_trait;
use corten_build::{Answer, Definition, Event, Options, Question, RemoteContext, Result, Teller, Tree};
use corten_image::{Digest, Platform};
use std::collections::BTreeMap;
use std::io::BufRead;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

#[async_trait]
pub trait Builder: Send + Sync + 'static {
    /// What clients see in a list of workers.
    fn worker(&self) -> Worker;

    /// Builds. Ends early when it is dropped, or when the teller's other end is.
    async fn build(&self, job: Job) -> Result<Built>;

    /// Answers a question about a Dockerfile.
    async fn answer(&self, question: Question, definition: Definition, options: Options) -> Result<Answer>;

    /// Begins to record a build in the history; who tells of it tells the new teller.
    fn record(&self, about: Past, teller: Teller) -> (Box<dyn Recording>, Teller);

    /// Builds under way, and the last ones that were; newest first.
    async fn history(&self) -> Result<Vec<Past>>;

    /// Changes with the history.
    fn history_changes(&self) -> watch::Receiver<u64>;

    /// What a build has told that is over.
    async fn told(&self, reference: &str) -> Result<Vec<Event>>;

    /// Keeps a build in the history, or no longer.
    async fn pin(&self, reference: &str, pinned: bool) -> Result<()>;

    /// Removes a build from the history.
    async fn forget(&self, reference: &str) -> Result<()>;

    /// Fetches the context that is at a URL; `asker` has what it is asked for there.
    async fn remote_context(
        &self,
        url: &str,
        options: &Options,
        asker: Arc<dyn corten_build::Asker>,
        teller: &Teller,
    ) -> Result<RemoteContext>;

    /// Unpacks an archive, compressed or not; the files are there as long as the tree is.
    async fn unpack(&self, archive: Box<dyn BufRead + Send>) -> Result<Tree>;

    /// What the cache holds, clients' contexts included.
    async fn usage(&self) -> Result<Vec<Usage>>;

    /// Removes from the cache; what was removed.
    async fn prune(&self, wanted: Prune) -> Result<Vec<Usage>>;
}

/// A build that is being recorded. Dropped before its end is told, it was canceled.
#[async_trait]
pub trait Recording: Send {
    /// All has been told, and nobody tells any more; the error where it failed.
    async fn end(self: Box<Self>, outcome: std::result::Result<Built, String>);
}

/// A build of the history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    pub reference: String,
    /// What was built, for people.
    pub name: String,
    pub dockerfile: String,
    pub target: String,
    pub platform: String,
    pub started: Option<SystemTime>,
    /// None as long as it goes on.
    pub completed: Option<SystemTime>,
    /// Empty where nothing went wrong.
    pub error: String,
    pub steps: usize,
    pub completed_steps: usize,
    pub cached_steps: usize,
    pub warnings: usize,
    /// The digest of the image, where one was made, and its names.
    pub image: String,
    pub image_names: Vec<String>,
    pub is_pinned: bool,
    /// Where its files come from, as far as its client said.
    pub repository: String,
    /// Given up by its client.
    pub is_canceled: bool,
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
    /// For those who go on from what is made.
    pub promise: Arc<Promise>,
}

/// What a build made.
#[derive(Clone, Debug, Default)]
pub struct Built {
    pub image: Option<Image>,
    /// The cache that the client has got for a directory of its own.
    pub cache: Option<Manifest>,
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
    pub filters: Filters<Usage>,
}
