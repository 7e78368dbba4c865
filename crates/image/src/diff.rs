//! What a container has changed, told from its writable directory alone.
//!
//! The directory is an overlay's upper one: what is in it is new or replaces what the layers beneath have, a character device 0/0
//! deletes a name, and an opaque directory hides the one beneath (Documentation/filesystems/overlayfs.rst). A directory that was
//! renamed as a whole (`redirect`) and a file of which only the metadata was changed (`metacopy`) are read where the overlay shows
//! them; ours are mounted so that neither is made, but not every upper directory was ours from the beginning.

use std::cell::OnceCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::files::{Node, names};
use crate::mounts::open_by;

mod changes;
mod layer;
#[cfg(test)]
mod tests;

pub(crate) use changes::changes;
pub use changes::{Change, ChangeKind};
pub use layer::DiffError;
pub(crate) use layer::write_layer;

const OPAQUE: &[u8] = b"trusted.overlay.opaque";
const REDIRECT: &[u8] = b"trusted.overlay.redirect";
const METACOPY: &[u8] = b"trusted.overlay.metacopy";

/// What a start makes in every container for its mounts, unless the image has it. They are no change of the container's.
const IMPLIED_FILES: [&[u8]; 3] = [b"etc/hostname", b"etc/hosts", b"etc/resolv.conf"];
const IMPLIED_DIRECTORIES: [&[u8]; 4] = [b"dev", b"etc", b"proc", b"sys"];

/// How changes become a layer.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// No file of the layer is newer, Unix seconds; none: the files keep their times.
    pub newest: Option<i64>,
    /// Paths without a slash in front that a start made as places to mount on: no changes while they are empty.
    pub stubs: Vec<Vec<u8>>,
}

/// A container's writable directory and what it lies on.
pub(crate) struct Upper<'a> {
    /// Without devices: what the container puts in the place of a file while it is read must not be opened as one.
    pub upper: OwnedFd,
    /// The layers beneath, merged.
    pub lower: OwnedFd,
    /// Opens the whole as the container sees it.
    pub open_merged: &'a dyn Fn() -> io::Result<OwnedFd>,
    merged: OnceCell<OwnedFd>,
    stubs: Vec<Vec<u8>>,
}

impl<'a> Upper<'a> {
    pub(crate) fn new(
        upper: OwnedFd,
        lower: OwnedFd,
        open_merged: &'a dyn Fn() -> io::Result<OwnedFd>,
    ) -> Upper<'a> {
        Upper { upper, lower, open_merged, merged: OnceCell::new(), stubs: Vec::new() }
    }

    /// With places to mount on that are no changes.
    pub(crate) fn with_stubs(self, stubs: &[Vec<u8>]) -> Upper<'a> {
        Upper { stubs: stubs.to_vec(), ..self }
    }

    fn merged(&self) -> io::Result<&OwnedFd> {
        if self.merged.get().is_none() {
            let opened = (self.open_merged)()?;
            return Ok(self.merged.get_or_init(|| opened));
        }
        self.merged.get().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Opens a path as the container sees it.
    fn open_merged(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        Ok(beneath(self.merged()?, path, flags)?)
    }

    /// What the layers beneath have at a path.
    fn beneath(&self, path: &[u8]) -> io::Result<Option<Stat>> {
        match beneath(&self.lower, path, OFlags::PATH) {
            Ok(found) => Ok(Some(rustix::fs::fstat(&found)?)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it is empty and the layers beneath have nothing there.
    fn is_stub(&self, directory: &OwnedFd, name: &[u8], path: &[u8]) -> io::Result<bool> {
        let Some(node) = Node::open(directory, name, FileType::Unknown)? else { return Ok(false) };
        let is_empty = match &node.file {
            Some(file) if node.is_directory() => {
                names(file)?.iter().all(|(name, _)| self.stubs.contains(&[path, b"/", name].concat()))
            }
            Some(_) => node.stat.st_size == 0,
            None => false,
        };
        Ok(is_empty && self.beneath(path)?.is_none())
    }

    /// Whether a file is only there because a start needed a place to mount on.
    fn is_implied(&self, directory: &OwnedFd, name: &[u8], path: &[u8]) -> io::Result<bool> {
        if self.stubs.iter().any(|stub| stub == path) {
            return self.is_stub(directory, name, path);
        }
        if IMPLIED_FILES.contains(&path) {
            let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let is_empty =
                FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_size == 0;
            return Ok(is_empty && self.beneath(path)?.is_none());
        }
        if !IMPLIED_DIRECTORIES.contains(&path) {
            return Ok(false);
        }
        let Some(node) = Node::open(directory, name, FileType::Unknown)?.filter(Node::is_directory) else {
            return Ok(false);
        };
        if self.beneath(path)?.is_some_and(|below| !is_same(&below, &node.stat, false)) {
            return Ok(false);
        }
        let Some(own) = &node.file else { return Ok(false) };
        for (name, _) in names(own)? {
            if !self.is_implied(own, &name, &[path, b"/", &name].concat())? {
                return Ok(false);
            }
        }
        Ok(node.xattr(OPAQUE)?.is_none())
    }
}

fn beneath(root: &impl AsFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let path = if path.is_empty() { b"." } else { path };
    open_by(root, path, flags | OFlags::NOFOLLOW, resolve)
}

/// Whether a directory is as it was.
fn is_same(one: &Stat, other: &Stat, with_time: bool) -> bool {
    let facts = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid);
    let time = |stat: &Stat| (stat.st_mtime, stat.st_mtime_nsec);
    facts(one) == facts(other) && (!with_time || time(one) == time(other))
}

/// Whether a name stands for nothing: it hides that of the layers beneath.
fn is_whiteout(directory: &OwnedFd, name: &[u8], hint: FileType) -> io::Result<bool> {
    if !matches!(hint, FileType::CharacterDevice | FileType::Unknown) {
        return Ok(false);
    }
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => {
            Ok(FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0)
        }
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
