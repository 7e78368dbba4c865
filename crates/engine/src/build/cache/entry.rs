//! One thing that builds keep, and who keeps such things.

use corten_api::Timestamp;

use crate::error::Result;

#[derive(Clone, Debug, PartialEq)]
pub struct CacheEntry {
    /// The only one of its kind.
    pub id: String,
    pub kind: CacheKind,
    /// For people: `RUN make`
    pub description: String,
    /// On the disk. What several entries have is counted with the one that was used last.
    pub bytes: u64,
    pub created: Timestamp,
    pub used: Timestamp,
    pub uses: u64,
    /// A build relies on it: it can't be removed.
    pub is_in_use: bool,
    /// An image has the same: its removal frees nothing.
    pub is_shared: bool,
}

impl CacheEntry {
    /// What its removal frees.
    pub fn own_bytes(&self) -> u64 {
        if self.is_shared { 0 } else { self.bytes }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheKind {
    /// What a step has made.
    Step,
    /// The directory of a cache mount.
    Mount,
    /// Files that a client has sent.
    Context,
}

impl CacheKind {
    /// As BuildKit calls it.
    pub fn name(self) -> &'static str {
        match self {
            CacheKind::Step => "regular",
            CacheKind::Mount => "exec.cachemount",
            CacheKind::Context => "source.local",
        }
    }

    /// Whether builds change it after it was made.
    pub fn is_mutable(self) -> bool {
        self != CacheKind::Step
    }
}

/// Keeps entries of one kind.
pub trait CachePart: Send + Sync {
    fn kind(&self) -> CacheKind;

    fn entries(&self) -> Result<Vec<CacheEntry>>;

    /// Removes entries, but those that a build uses.
    fn remove(&self, ids: &[String]) -> Result<CacheRemoval>;
}

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheRemoval {
    pub ids: Vec<String>,
    /// That came back of the disk.
    pub bytes: u64,
}
