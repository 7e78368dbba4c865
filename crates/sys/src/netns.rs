//! Network namespaces, held by descriptor only: never pinned to a path, so that one is gone with its last
//! process, socket and descriptor, however those end.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// The calling thread's network namespace.
pub fn current() -> io::Result<OwnedFd> {
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}

/// Moves the calling thread into a new, empty network namespace.
pub fn unshare() -> io::Result<()> {
    // SAFETY: only CLONE_FILES makes `unshare` unsound (other threads' descriptors); a network namespace
    // changes nothing but which network the calling thread sees.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.map_err(io::Error::from)
}

/// Moves the calling thread into `namespace`.
pub fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network)).map_err(io::Error::from)
}
