//! Copies a directory of a container's root out of it, with owners, modes, times, attributes, hard links and
//! devices: what a new volume starts with.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawMode, RenameFlags, SeekFrom};
use rustix::io::Errno;

use super::open_in_root;
use crate::layer::{FileKind, Found, dress, dress_name, inspect, open_beneath};

/// Copies what lies in the directory `inside` of a root into `target`, which must exist and takes over the
/// directory's owner, mode and times. No such directory: nothing happens, and the answer is false.
pub fn copy_tree(root: &impl AsFd, inside: &Path, target: &Path) -> io::Result<bool> {
    let source = match open_in_root(root, inside, OFlags::DIRECTORY | OFlags::RDONLY) {
        Ok(source) => OwnedFd::from(source),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::NOTDIR) => return Ok(false),
            _ => return Err(error),
        },
    };
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let base = rustix::fs::openat(CWD, target, flags, Mode::empty())?;
    Copy { source, base, links: HashMap::new(), steps: vec![Step::Enter(Vec::new())] }.run()?;
    Ok(true)
}

/// Whether there is such a directory in a root, and something in it.
pub fn has_files(root: &impl AsFd, inside: &Path) -> bool {
    let found = open_in_root(root, inside, OFlags::DIRECTORY | OFlags::RDONLY);
    found.is_ok_and(|directory| names(&directory.into()).is_ok_and(|names| !names.is_empty()))
}

/// Moves what lies in one directory into another of the same file system, which takes over its owner, mode and times. What has
/// a name that is taken stays where it is.
pub fn move_contents(from: &Path, to: &Path) -> io::Result<()> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let from = rustix::fs::openat(CWD, from, flags, Mode::empty())?;
    let to = rustix::fs::openat(CWD, to, flags, Mode::empty())?;
    let metadata = inspect(&from)?.metadata;
    for name in names(&from)? {
        match rustix::fs::renameat_with(&from, name.as_slice(), &to, name.as_slice(), RenameFlags::NOREPLACE)
        {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    dress(&File::from(to), &metadata)
}

/// What is left to do, last first, with paths below both roots. Neither the stack nor the open descriptors grow with the
/// depth of the tree; a path that is too long for the kernel is an error.
enum Step {
    /// Copies what the directory has.
    Enter(Vec<u8>),
    /// Gives the copied directory its metadata: after everything in it, which changes its times.
    Dress(Vec<u8>),
}

struct Copy {
    source: OwnedFd,
    base: OwnedFd,
    steps: Vec<Step>,
    /// Where the first name of a file with several was copied to, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl Copy {
    fn run(mut self) -> io::Result<()> {
        while let Some(step) = self.steps.pop() {
            match step {
                Step::Enter(path) => self.directory(path)?,
                Step::Dress(path) => {
                    let flags = OFlags::DIRECTORY | OFlags::RDONLY;
                    let source = open_beneath(&self.source, &path, flags)?;
                    let made = open_beneath(&self.base, &path, flags)?;
                    dress(&File::from(made), &inspect(&source)?.metadata)?;
                }
            }
        }
        Ok(())
    }

    /// Copies what a directory has; the directories in it are only made.
    fn directory(&mut self, path: Vec<u8>) -> io::Result<()> {
        let source = open_beneath(&self.source, &path, OFlags::DIRECTORY | OFlags::RDONLY)?;
        let parent = open_beneath(&self.base, &path, OFlags::DIRECTORY | OFlags::PATH)?;
        let names = names(&source)?;
        self.steps.push(Step::Dress(path.clone()));
        for name in names {
            let node = open_beneath(&source, &name, OFlags::PATH | OFlags::NOFOLLOW)?;
            let found = inspect(&node)?;
            let to = if path.is_empty() { name.clone() } else { [path.as_slice(), b"/", &name].concat() };
            if let FileKind::Directory { .. } = found.kind {
                rustix::fs::mkdirat(&parent, name.as_slice(), Mode::from_raw_mode(0o700))?;
                self.steps.push(Step::Enter(to));
            } else {
                self.file(&source, &name, &node, &found, &parent, to)?;
            }
        }
        Ok(())
    }

    fn file(
        &mut self,
        source: &OwnedFd,
        name: &[u8],
        node: &OwnedFd,
        found: &Found,
        parent: &OwnedFd,
        to: Vec<u8>,
    ) -> io::Result<()> {
        if found.links > 1 {
            let stat = rustix::fs::fstat(node)?;
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                rustix::fs::linkat(&self.base, first.as_slice(), parent, name, AtFlags::empty())?;
                return Ok(());
            }
            self.links.insert((stat.st_dev, stat.st_ino), to);
        }
        match found.kind {
            FileKind::Symlink => {
                let target = rustix::fs::readlinkat(node, "", Vec::new())?;
                rustix::fs::symlinkat(target, parent, name)?;
                dress_name(parent, name, &found.metadata, false)
            }
            FileKind::File => {
                let mut from = File::from(open_beneath(source, name, OFlags::RDONLY | OFlags::NOFOLLOW)?);
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mode = Mode::from_raw_mode(0o600);
                let mut made = File::from(rustix::fs::openat(parent, name, flags, mode)?);
                copy_data(&mut from, &mut made, found.size)?;
                dress(&made, &found.metadata)
            }
            _ => {
                let stat = rustix::fs::fstat(node)?;
                let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode as RawMode);
                rustix::fs::mknodat(parent, name, kind, Mode::from_raw_mode(0o600), stat.st_rdev)?;
                dress_name(parent, name, &found.metadata, true)
            }
        }
    }
}

/// Copies what a file holds, sharing its blocks where the file system can; holes stay holes.
fn copy_data(from: &mut File, to: &mut File, size: u64) -> io::Result<()> {
    if size == 0 {
        return Ok(());
    }
    // Not on this file system, or not across two.
    if rustix::fs::ioctl_ficlone(&*to, &*from).is_ok() {
        return Ok(());
    }
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(&*from, SeekFrom::Data(at)) {
            Ok(start) => start,
            // Nothing but a hole is left.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => at,
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(&*from, SeekFrom::Hole(start)).unwrap_or(size);
        rustix::fs::seek(&*from, SeekFrom::Start(start))?;
        rustix::fs::seek(&*to, SeekFrom::Start(start))?;
        let wanted = end.saturating_sub(start);
        // Within the kernel where it can (copy_file_range).
        let copied = io::copy(&mut (&mut *from).take(wanted), to)?;
        at = start + copied;
        if copied < wanted {
            // It became shorter meanwhile.
            return Ok(());
        }
    }
    to.set_len(size)
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
