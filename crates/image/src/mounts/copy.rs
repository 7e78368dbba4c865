//! Copies a directory of a container's root out of it, with owners, modes, times, attributes, hard links and
//! devices: what a new volume starts with.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawMode};
use rustix::io::Errno;

use super::open_in_root;
use crate::layer::{FileKind, Found, dress, dress_name, inspect, open_beneath};

/// Copies what lies in the directory `inside` of a root into `target`, which must exist and takes over the
/// directory's owner, mode and times. No such directory: nothing happens.
pub fn copy_tree(root: &impl AsFd, inside: &Path, target: &Path) -> io::Result<()> {
    let source = match open_in_root(root, inside, OFlags::DIRECTORY | OFlags::RDONLY) {
        Ok(source) => OwnedFd::from(source),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            _ => return Err(error),
        },
    };
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let base = rustix::fs::openat(CWD, target, flags, Mode::empty())?;
    let mut copy = Copy { base, links: HashMap::new() };
    copy.directory(&source, b"")
}

struct Copy {
    base: OwnedFd,
    /// Where the first name of a file with several was copied to, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl Copy {
    /// Copies a directory's contents below `path` of the target, then gives it its metadata.
    fn directory(&mut self, source: &OwnedFd, path: &[u8]) -> io::Result<()> {
        for name in names(source)? {
            let node = open_beneath(source, &name, OFlags::PATH | OFlags::NOFOLLOW)?;
            let found = inspect(&node)?;
            let to = if path.is_empty() { name.clone() } else { [path, b"/", &name].concat() };
            if let FileKind::Directory { .. } = found.kind {
                let parent = self.parent(path)?;
                rustix::fs::mkdirat(&parent, name.as_slice(), Mode::from_raw_mode(0o700))?;
                drop(parent);
                let below = open_beneath(source, &name, OFlags::DIRECTORY | OFlags::RDONLY)?;
                self.directory(&below, &to)?;
            } else {
                self.file(source, &name, &node, &found, path, to)?;
            }
        }
        let made = open_beneath(&self.base, path, OFlags::DIRECTORY | OFlags::RDONLY)?;
        dress(&File::from(made), &inspect(source)?.metadata)
    }

    fn file(
        &mut self,
        source: &OwnedFd,
        name: &[u8],
        node: &OwnedFd,
        found: &Found,
        parent_path: &[u8],
        to: Vec<u8>,
    ) -> io::Result<()> {
        let parent = self.parent(parent_path)?;
        if found.links > 1 {
            let stat = rustix::fs::fstat(node)?;
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                rustix::fs::linkat(&self.base, first.as_slice(), &parent, name, AtFlags::empty())?;
                return Ok(());
            }
            self.links.insert((stat.st_dev, stat.st_ino), to);
        }
        match found.kind {
            FileKind::Symlink => {
                let target = rustix::fs::readlinkat(node, "", Vec::new())?;
                rustix::fs::symlinkat(target, &parent, name)?;
                dress_name(&parent, name, &found.metadata, false)
            }
            FileKind::File => {
                let mut from = File::from(open_beneath(source, name, OFlags::RDONLY | OFlags::NOFOLLOW)?);
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mode = Mode::from_raw_mode(0o600);
                let mut made = File::from(rustix::fs::openat(&parent, name, flags, mode)?);
                io::copy(&mut from, &mut made)?;
                dress(&made, &found.metadata)
            }
            _ => {
                let stat = rustix::fs::fstat(node)?;
                let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode as RawMode);
                rustix::fs::mknodat(&parent, name, kind, Mode::from_raw_mode(0o600), stat.st_rdev)?;
                dress_name(&parent, name, &found.metadata, true)
            }
        }
    }

    fn parent(&self, path: &[u8]) -> io::Result<OwnedFd> {
        Ok(open_beneath(&self.base, path, OFlags::DIRECTORY | OFlags::PATH)?)
    }
}

fn names(directory: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    Ok(names)
}
