//! One file of a tree on its way into an archive: opened once, described from what was opened.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::tar::{Device, Entry, Kind, Time, Xattrs};

/// A file below a directory that is open.
pub(crate) struct Node {
    pub stat: Stat,
    pub kind: FileType,
    /// Regular files and directories are open for reading, all others not at all.
    pub file: Option<OwnedFd>,
}

impl Node {
    /// Opens a name of a directory; `None` when there is no such file (any more).
    pub(crate) fn open(directory: &impl AsFd, name: &[u8], hint: FileType) -> io::Result<Option<Node>> {
        let mut kind = hint;
        if !matches!(kind, FileType::RegularFile | FileType::Directory) {
            // Nothing but files and directories is ever opened: opening a device or a fifo does things.
            let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            kind = FileType::from_raw_mode(stat.st_mode);
            if !matches!(kind, FileType::RegularFile | FileType::Directory) {
                return Ok(Some(Node { stat, kind, file: None }));
            }
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(directory, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let stat = rustix::fs::fstat(&file)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        // Somebody put another file in its place between the two looks: the next archive will have it.
        let file = matches!(kind, FileType::RegularFile | FileType::Directory).then_some(file);
        Ok(if file.is_some() { Some(Node { stat, kind, file }) } else { None })
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.kind == FileType::Directory
    }

    /// Device and inode of a file with several names.
    fn link_key(&self) -> Option<(u64, u64)> {
        (!self.is_directory() && self.stat.st_nlink > 1).then_some((self.stat.st_dev, self.stat.st_ino))
    }

    /// The tar entry with this path; `None` for what archives don't know (sockets). Times are whole seconds, as in all archives
    /// of Docker's.
    pub(crate) fn entry(&self, path: Vec<u8>) -> Option<Entry> {
        let kind = match self.kind {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            FileType::CharacterDevice => Kind::CharDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::Fifo => Kind::Fifo,
            _ => return None,
        };
        let stat = &self.stat;
        let mut entry = Entry::new(kind, path, stat.st_mode & 0o7777);
        (entry.uid, entry.gid) = (stat.st_uid, stat.st_gid);
        entry.mtime = Time { seconds: stat.st_mtime, nanoseconds: 0 };
        if kind == Kind::File {
            entry.size = stat.st_size as u64;
            entry.stored_bytes = entry.size;
        }
        if matches!(kind, Kind::CharDevice | Kind::BlockDevice) {
            entry.device =
                Device { major: rustix::fs::major(stat.st_rdev), minor: rustix::fs::minor(stat.st_rdev) };
        }
        Some(entry)
    }

    /// The extended attributes that `wanted` names, by name.
    pub(crate) fn xattrs(&self, wanted: impl Fn(&[u8]) -> bool) -> io::Result<Xattrs> {
        let Some(file) = &self.file else { return Ok(Vec::new()) };
        let mut small = [0u8; 512];
        let mut large = Vec::new();
        let names: &[u8] = match rustix::fs::flistxattr(file, &mut small[..]) {
            Ok(0) | Err(Errno::NOTSUP) => return Ok(Vec::new()),
            Ok(count) => &small[..count],
            Err(Errno::RANGE) => {
                large.resize(64 * 1024, 0);
                let count = rustix::fs::flistxattr(file, &mut large[..])?;
                &large[..count]
            }
            Err(error) => return Err(error.into()),
        };
        let mut xattrs = Vec::new();
        for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty() && wanted(name)) {
            if let Some(value) = read_xattr(file, name)? {
                xattrs.push((name.to_vec(), value));
            }
        }
        xattrs.sort();
        Ok(xattrs)
    }

    /// One extended attribute of a file or directory.
    pub(crate) fn xattr(&self, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.file.as_ref().map_or(Ok(None), |file| read_xattr(file, name))
    }

    /// The file for reading its content.
    pub(crate) fn into_file(self) -> Option<File> {
        self.file.map(File::from)
    }
}

/// What several names in one archive have to do with each other.
#[derive(Default)]
pub(crate) struct Links {
    /// The first name of each file that has several.
    first: HashMap<(u64, u64), Vec<u8>>,
}

impl Links {
    /// The tar entry of what a directory has under `name`, complete but for its attributes. Every further name of a file becomes a
    /// hard link to the first, which has no attributes.
    pub(crate) fn entry(
        &mut self,
        node: &Node,
        directory: &impl AsFd,
        name: &[u8],
        path: Vec<u8>,
    ) -> io::Result<Option<Entry>> {
        let path = if node.is_directory() { [&path, &b"/"[..]].concat() } else { path };
        let Some(mut entry) = node.entry(path) else { return Ok(None) };
        if let Some(key) = node.link_key() {
            if let Some(first) = self.first.get(&key) {
                (entry.kind, entry.link) = (Kind::HardLink, first.clone());
                (entry.size, entry.stored_bytes) = (0, 0);
                return Ok(Some(entry));
            }
            self.first.insert(key, entry.path.clone());
        }
        if entry.kind == Kind::Symlink {
            entry.link = rustix::fs::readlinkat(directory, name, Vec::new())?.into_bytes();
        }
        Ok(Some(entry))
    }
}

fn read_xattr(file: &OwnedFd, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut small = [0u8; 256];
    match rustix::fs::fgetxattr(file, name, &mut small[..]) {
        Ok(count) => Ok(Some(small[..count].to_vec())),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(Errno::RANGE) => {
            let mut large = vec![0u8; 64 * 1024];
            let count = rustix::fs::fgetxattr(file, name, &mut large[..])?;
            large.truncate(count);
            Ok(Some(large))
        }
        Err(error) => Err(error.into()),
    }
}
