//! Changes to the files of a place. Every name is looked up below the place's own descriptor, and no link is followed on the way.

use super::SyncError;
use super::entry::{Entry, Kind};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags, chownat,
    fchmod, fchown, fsetxattr, futimens, linkat, mkdirat, mknodat, openat2, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

pub struct Files {
    root: OwnedFd,
    /// The directory that was looked up last: neighbours come one after the other.
    last: Option<(String, OwnedFd)>,
}

impl Files {
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self { root: rustix::fs::open(path, flags, Mode::empty())?, last: None })
    }

    /// Removes whatever stands there, with all that is in it.
    pub fn remove(&mut self, path: &str) -> Result<(), SyncError> {
        self.within("remove", path, |directory, name| match unlinkat(directory, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {
                std::fs::remove_dir_all(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()))
            }
            Err(Errno::NOENT) => Ok(()),
            other => Ok(other?),
        })?;
        // It may have been what is remembered, or above it.
        self.last = None;
        Ok(())
    }

    /// Makes a directory, a symbolic link or a pipe.
    pub fn make(&mut self, entry: &Entry) -> Result<(), SyncError> {
        self.within("make", &entry.path, |directory, name| {
            let mode = Mode::from_raw_mode(entry.mode);
            match &entry.kind {
                Kind::Directory => mkdirat(directory, name, Mode::RWXU)?,
                Kind::Symlink { to } => symlinkat(to.as_str(), directory, name)?,
                Kind::Pipe => mknodat(directory, name, FileType::Fifo, mode, 0)?,
                Kind::File { .. } | Kind::HardLink { .. } => return Err(io::ErrorKind::InvalidInput.into()),
            }
            Ok(())
        })?;
        self.dress(entry)
    }

    /// Gives a name that stands there its owner, mode, attributes and time.
    pub fn dress(&mut self, entry: &Entry) -> Result<(), SyncError> {
        self.within("set the attributes of", &entry.path, |directory, name| {
            if let Kind::Symlink { .. } | Kind::Pipe = entry.kind {
                let (uid, gid) = owner(entry);
                chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
                return Ok(utimensat(directory, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)?);
            }
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = openat2(directory, name, flags, Mode::empty(), BENEATH)?;
            finish(file.as_fd(), entry)
        })
    }

    /// A new, empty file.
    pub fn create(&mut self, path: &str) -> Result<File, SyncError> {
        self.within("create", path, |directory, name| {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            Ok(openat2(directory, name, flags, Mode::RUSR | Mode::WUSR, BENEATH)?.into())
        })
    }

    /// Another name for a file that is there.
    pub fn link(&mut self, path: &str, to: &str) -> Result<(), SyncError> {
        let root = self.root.try_clone().map_err(|source| disk("link", path, source))?;
        let existing = to.rsplit_once('/').map_or(Ok(None), |(parent, _)| {
            directory(&root, parent).map(Some).map_err(|source| disk("find", to, source))
        })?;
        let existing_name = to.rsplit('/').next().unwrap_or(to);
        self.within("link", path, |directory, name| {
            let from = existing.as_ref().map_or(root.as_fd(), AsFd::as_fd);
            Ok(linkat(from, existing_name, directory, name, AtFlags::empty())?)
        })
    }

    /// Does something in the directory that a path is in.
    fn within<T>(
        &mut self,
        step: &'static str,
        path: &str,
        act: impl FnOnce(BorrowedFd<'_>, &str) -> io::Result<T>,
    ) -> Result<T, SyncError> {
        let done = match path.rsplit_once('/') {
            None => act(self.root.as_fd(), path),
            Some((parent, name)) => self.parent(parent).and_then(|directory| act(directory, name)),
        };
        done.map_err(|source| disk(step, path, source))
    }

    fn parent(&mut self, path: &str) -> io::Result<BorrowedFd<'_>> {
        let last = match self.last.take() {
            Some((known, fd)) if known == path => (known, fd),
            _ => (path.to_owned(), directory(&self.root, path)?),
        };
        Ok(self.last.insert(last).1.as_fd())
    }
}

/// Gives an open file its owner, mode, attributes and time; the time last, as the others would change it.
pub fn finish(file: BorrowedFd<'_>, entry: &Entry) -> io::Result<()> {
    let (uid, gid) = owner(entry);
    fchown(file, Some(uid), Some(gid))?;
    for (name, value) in &entry.xattrs {
        match fsetxattr(file, name.as_str(), value, XattrFlags::empty()) {
            // A file system without them: Docker's builder loses them there too.
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // After the owner, whose change takes the set-user-id bit away.
    fchmod(file, Mode::from_raw_mode(entry.mode))?;
    Ok(futimens(file, &times(entry))?)
}

fn directory(root: &OwnedFd, path: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
    Ok(openat2(root, path, flags, Mode::empty(), BENEATH)?)
}

fn disk(step: &'static str, path: &str, source: io::Error) -> SyncError {
    SyncError::Disk { step, path: path.to_owned(), source }
}

fn owner(entry: &Entry) -> (Uid, Gid) {
    (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid))
}

fn times(entry: &Entry) -> Timestamps {
    let modified = Timespec {
        tv_sec: entry.modified_ns.div_euclid(1_000_000_000),
        tv_nsec: entry.modified_ns.rem_euclid(1_000_000_000),
    };
    Timestamps { last_access: modified, last_modification: modified }
}
