//! A client's directory, kept here between builds. What was sent once is not asked for again as long as the client tells the same
//! of it: name, mode, owner, size, time. Each directory of a client has a place below the root: `files/`, and `index`, which says
//! what is in there. The index is written last and removed before the first change, so that a sync that broke off (or an
//! engine that was killed) is found out by its absence, and everything is fetched anew.
//!
//! Knows fsutil's packets, but not how they come. Whoever reads the files holds the place (`Place`), and nobody else changes it.

mod apply;
mod entry;
mod index;
mod order;
mod receive;
mod send;
mod store;

pub use receive::{Limits, REQUESTS_OUTSTANDING_MAX, receive};
pub use send::{SendError, send};
pub use store::{KeptContext, Place, Store};

use std::io;

/// Why a directory didn't arrive.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    #[error("the client broke off in the middle of its files")]
    BrokenOff,
    #[error("from the client: {0}")]
    Client(String),
    #[error("the client sent {0:?}, which is no path below a directory")]
    BadPath(String),
    #[error("the client sent {path:?} after {after:?}, or without its directory")]
    OutOfOrder { path: String, after: String },
    #[error("the client sent {path:?}: {what}")]
    BadEntry { path: String, what: &'static str },
    #[error("the client sent a packet that nobody waits for ({0})")]
    Unexpected(&'static str),
    #[error("the client's directory has more than {0} files")]
    TooManyFiles(usize),
    #[error("the client's directory has more than {0} bytes of names")]
    TooManyNames(usize),
    #[error("{path:?} grew without end while it was sent")]
    Endless { path: String },
    #[error("{step} {path:?}: {source}")]
    Disk { step: &'static str, path: String, source: io::Error },
}
