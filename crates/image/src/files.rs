//! Files of a tree that somebody untrusted has filled, taken out and put in as tar archives: the root of a container, or a
//! directory of the host on a client's side.
//!
//! Everything happens below a descriptor: no path is resolved in the caller's own tree, and no name that was looked at is
//! resolved again. Knows nothing of layers, containers and mounts.

mod describe;
mod lookup;
mod node;
mod pack;
mod passing;
mod paths;
mod rebase;
mod unpack;
mod walk;

pub use describe::describe;
pub(crate) use lookup::open;
pub use lookup::{PathStat, resolve, resolve_existing, stat};
pub(crate) use node::{Links, Node};
pub(crate) use pack::attributes;
pub use pack::{Buffered, Output, PackError, Source, pack, pack_below, pack_contents, pack_for_others};
pub use passing::{OthersWait, Receiver, STALLED, Sender, stalled};
pub use paths::{asserts_directory, base_name, clean, keep_ending, specifies_current, split};
pub use rebase::Rebase;
pub use unpack::{Distrust, Input, Owner, Plain, UnpackError, UnpackOptions, unpack};
pub(crate) use walk::{Trail, names};

#[cfg(test)]
mod tests;
