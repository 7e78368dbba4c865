//! Directories of any depth with a bounded number of descriptors.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;

/// How many directories above the current one stay open; those further up are found again by `..`.
const OPEN_MAX: usize = 64;

/// The longest path of a directory. The kernel takes no longer one in a call; going down step by step, a container can make paths of
/// megabytes, and what is known of a tree would grow with the square of its depth.
const PATH_BYTES_MAX: usize = 4096;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The names of a directory in their order, each with what the directory says of its type.
pub(crate) fn names(directory: &impl AsFd) -> io::Result<Vec<(Vec<u8>, FileType)>> {
    let mut buffer = vec![MaybeUninit::uninit(); 32 * 1024];
    let mut entries = RawDir::new(directory, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push((name.to_vec(), entry.file_type()));
        }
    }
    names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(names)
}

/// The way from the top of a tree to the directory that is being read, with what is known of each directory on it.
pub(crate) struct Trail<T = ()> {
    levels: Vec<Level<T>>,
}

struct Level<T> {
    directory: Option<OwnedFd>,
    identity: (u64, u64),
    /// What is left to do here, the next one last.
    names: Vec<(Vec<u8>, FileType)>,
    /// The path in the archive, ending with a slash unless it is empty.
    path: Vec<u8>,
    known: T,
}

impl<T> Trail<T> {
    pub(crate) fn new(top: OwnedFd, path: Vec<u8>, known: T) -> io::Result<Trail<T>> {
        let mut trail = Trail { levels: Vec::new() };
        trail.enter(top, path, known)?;
        Ok(trail)
    }

    /// Goes down into a directory of the current one, opened for reading.
    pub(crate) fn enter(&mut self, directory: OwnedFd, path: Vec<u8>, known: T) -> io::Result<()> {
        if path.len() > PATH_BYTES_MAX {
            return Err(Errno::NAMETOOLONG.into());
        }
        let stat = rustix::fs::fstat(&directory)?;
        let mut names = names(&directory)?;
        names.reverse();
        let identity = (stat.st_dev, stat.st_ino);
        self.levels.push(Level { directory: Some(directory), identity, names, path, known });
        if let Some(far) = self.levels.len().checked_sub(OPEN_MAX + 1) {
            self.levels[far].directory = None;
        }
        Ok(())
    }

    /// The next name of the current directory, or of one above it when it has no more.
    pub(crate) fn next(&mut self) -> io::Result<Option<(Vec<u8>, FileType)>> {
        while let Some(level) = self.levels.last_mut() {
            if let Some(name) = level.names.pop() {
                return Ok(Some(name));
            }
            self.leave()?;
        }
        Ok(None)
    }

    /// The directory that the last name is in, its path, and what is known of it.
    pub(crate) fn current(&mut self) -> Option<(&OwnedFd, &[u8], &mut T)> {
        let level = self.levels.last_mut()?;
        Some((level.directory.as_ref()?, &level.path, &mut level.known))
    }

    /// What is known of the directories from the top down to the current one.
    pub(crate) fn known_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.levels.iter_mut().map(|level| &mut level.known)
    }

    fn leave(&mut self) -> io::Result<()> {
        let left = self.levels.pop();
        let (Some(left), Some(above)) = (left, self.levels.last_mut()) else { return Ok(()) };
        if above.directory.is_none() {
            let below = left.directory.ok_or_else(moved)?;
            let parent = rustix::fs::openat(&below, c"..", DIRECTORY, Mode::empty())?;
            let stat = rustix::fs::fstat(&parent)?;
            if (stat.st_dev, stat.st_ino) != above.identity {
                return Err(moved());
            }
            above.directory = Some(parent);
        }
        Ok(())
    }
}

fn moved() -> io::Error {
    io::Error::other("a directory was moved while its tree was read")
}
