//! Opening files below a root that somebody untrusted has filled.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};

/// Opens a path as a process would whose root directory is `root`: absolute paths and symbolic links start there,
/// `..` stays there. Nothing is made.
pub fn open_in_root(root: &impl AsFd, path: &Path, flags: OFlags) -> io::Result<File> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // Never waits for the other end of a fifo, never becomes somebody's terminal.
    let more = if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NOCTTY | OFlags::NONBLOCK };
    let flags = flags | OFlags::CLOEXEC | more;
    Ok(File::from(rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)?))
}
