//! Reads the files of a layer that is a directory.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno;

use super::directory::{descriptor_path, open_beneath};
use super::files::{FileKind, Found, LayerFiles};
use super::{LayerError, Metadata};
use crate::digest::DiffId;
use crate::tar::{Device, Time, Xattrs};

pub(super) struct DirectoryFiles {
    id: DiffId,
    root: OwnedFd,
}

impl DirectoryFiles {
    pub(super) fn new(id: DiffId, root: OwnedFd) -> DirectoryFiles {
        DirectoryFiles { id, root }
    }

    fn error(&self, error: impl Into<io::Error>) -> LayerError {
        LayerError::Read { id: self.id, source: error.into() }
    }

    /// A descriptor for a file of any kind, or `None` when there is none.
    fn open(&self, path: &[u8]) -> Result<Option<OwnedFd>, Errno> {
        match open_beneath(&self.root, trim(path), OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(fd) => Ok(Some(fd)),
            // A parent that is a symbolic link is not followed: LOOP.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn names(&self, path: &[u8]) -> io::Result<Vec<(Vec<u8>, FileKind)>> {
        let fd = match open_beneath(&self.root, trim(path), OFlags::DIRECTORY | OFlags::RDONLY) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&fd)? {
            let entry = entry?;
            let name: &CStr = entry.file_name();
            if name != c"." && name != c".." {
                let node = open_beneath(&fd, name.to_bytes(), OFlags::PATH | OFlags::NOFOLLOW)?;
                names.push((name.to_bytes().to_vec(), inspect(&node)?.kind));
            }
        }
        names.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(names)
    }

    fn contents(&self, path: &[u8], bytes_max: u64) -> io::Result<Vec<u8>> {
        let node = self.open(path)?.ok_or(Errno::NOENT)?;
        let stat = rustix::fs::fstat(&node)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            return Ok(rustix::fs::readlinkat(&node, "", Vec::new())?.into_bytes());
        }
        if stat.st_size as u64 > bytes_max {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        let fd = open_beneath(&self.root, trim(path), OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK)?;
        let mut contents = Vec::new();
        File::from(fd).take(bytes_max).read_to_end(&mut contents)?;
        Ok(contents)
    }
}

impl LayerFiles for DirectoryFiles {
    fn stat(&self, path: &[u8]) -> Result<Option<Found>, LayerError> {
        let node = self.open(path).map_err(|error| self.error(error))?;
        node.map(|node| inspect(&node)).transpose().map_err(|error| self.error(error))
    }

    fn read(&self, path: &[u8], bytes_max: u64) -> Result<Vec<u8>, LayerError> {
        self.contents(path, bytes_max).map_err(|error| self.error(error))
    }

    fn list(&self, path: &[u8]) -> Result<Vec<(Vec<u8>, FileKind)>, LayerError> {
        self.names(path).map_err(|error| self.error(error))
    }
}

fn trim(path: &[u8]) -> &[u8] {
    let start = path.iter().position(|&byte| byte != b'/').unwrap_or(path.len());
    let end = path.iter().rposition(|&byte| byte != b'/').map_or(start, |last| last + 1);
    &path[start..end]
}

/// What an open node (of any kind, also by `O_PATH`) is.
pub(crate) fn inspect(node: &OwnedFd) -> io::Result<Found> {
    let stat = rustix::fs::fstat(node)?;
    let xattrs = xattrs(node)?;
    let metadata = Metadata {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Time { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32 },
        xattrs,
    };
    Ok(Found {
        kind: kind(&stat, &metadata.xattrs),
        size: stat.st_size as u64,
        links: stat.st_nlink as u32,
        metadata,
    })
}

fn kind(stat: &Stat, xattrs: &[(Vec<u8>, Vec<u8>)]) -> FileKind {
    let device = Device { major: rustix::fs::major(stat.st_rdev), minor: rustix::fs::minor(stat.st_rdev) };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            let opaque =
                xattrs.iter().any(|(name, value)| name == b"trusted.overlay.opaque" && value == b"y");
            FileKind::Directory { opaque }
        }
        FileType::Symlink => FileKind::Symlink,
        FileType::CharacterDevice if device == Device::default() => FileKind::Whiteout,
        FileType::CharacterDevice => FileKind::CharDevice(device),
        FileType::BlockDevice => FileKind::BlockDevice(device),
        FileType::Fifo => FileKind::Fifo,
        _ => FileKind::File,
    }
}

/// The attributes by name. The kernel's own `security.selinux` on unlabelled files is not told apart.
fn xattrs(node: &OwnedFd) -> io::Result<Xattrs> {
    let path = descriptor_path(node);
    let mut names = vec![0u8; 64 * 1024];
    let count = match rustix::fs::listxattr(&path, &mut names[..]) {
        Ok(count) => count,
        Err(Errno::NOTSUP) => 0,
        Err(error) => return Err(error.into()),
    };
    let mut xattrs = Vec::new();
    for name in names[..count].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0u8; 64 * 1024];
        let count = rustix::fs::getxattr(&path, name, &mut value[..])?;
        value.truncate(count);
        xattrs.push((name.to_vec(), value));
    }
    xattrs.sort();
    Ok(xattrs)
}
