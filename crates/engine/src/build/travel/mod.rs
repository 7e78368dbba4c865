//! Build caches that travel: steps of other machines count as done here, and the steps of a build go where others find them. The format is
//! docs/build-cache.md's.
//!
//! What comes from a cache that somebody names is remembered under keys that only those ask for who name a cache that says the same:
//! whoever fills a cache decides nothing for builds that don't trust it.

mod export;
mod import;
mod mounts;
mod pack;
mod place;

use corten_build::{Event, Teller, Warning};
use corten_image::{DiffId, Digest};

pub use export::SentCache;
pub(super) use import::Imports;

/// What of one cache mount travels at most: bytes of its tar stream, and files and directories.
const MOUNT_BYTES_MAX: u64 = 8 << 30;
const MOUNT_ENTRIES_MAX: u64 = 2 << 20;

/// The key under which a layer from a cache is remembered.
fn imported_key(key: &Digest, layer: &DiffId) -> Digest {
    Digest::of(&[b"imported".as_slice(), key.as_bytes(), layer.as_bytes()].concat())
}

/// Tells of what is wrong with a cache, which is no reason to end a build.
async fn warn(teller: &Teller, vertex: Digest, text: String) {
    let warning = Warning {
        vertex: Some(vertex),
        rule: "BuildCache".to_owned(),
        short: text,
        detail: Vec::new(),
        url: String::new(),
        lines: None,
    };
    // Nobody listens any more: the build is about to end.
    let _ = teller.send(Event::Warning(warning)).await;
}
