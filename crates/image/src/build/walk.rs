//! A file, or a tree of which a filter takes a part, in the order of the names.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::files::{Trail, names, open, resolve_existing};

/// What a filter says of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Take,
    /// Not this one, and nothing below it.
    Skip,
    /// Of a directory: not for its own sake, but below it something may be taken.
    Look,
}

/// Which files of a tree are wanted. `path` is that below the tree's root, without a slash in front.
pub trait Filter: Sync {
    fn verdict(&self, path: &[u8], is_directory: bool) -> Verdict;
}

pub struct TakeAll;

impl Filter for TakeAll {
    fn verdict(&self, _: &[u8], _: bool) -> Verdict {
        Verdict::Take
    }
}

/// What a walk has found.
pub(super) struct Found<'a> {
    /// Below what was walked, empty for that itself.
    pub relative: &'a [u8],
    pub directory: &'a OwnedFd,
    pub name: &'a [u8],
    pub stat: &'a Stat,
    pub kind: FileType,
}

/// The names in a directory below a root, sorted, each with whether it is a directory. Links are followed within the root.
pub fn list(root: &impl AsFd, path: &[u8]) -> io::Result<Vec<(Vec<u8>, bool)>> {
    let directory = open(root, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC)?;
    let mut listed = Vec::new();
    for (name, kind) in names(&directory)? {
        let is_directory = match kind {
            FileType::Unknown => {
                let stat = rustix::fs::statat(&directory, &*name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            }
            known => known == FileType::Directory,
        };
        listed.push((name, is_directory));
    }
    Ok(listed)
}

/// A directory that was gone into, and told of only when something below it is taken.
struct Level {
    /// What is to be told of it still: where it is, its name there, what it is.
    untold: Option<(OwnedFd, Vec<u8>, Stat)>,
    /// The length of its path below what is walked.
    relative: usize,
}

/// Visits what a path below a root leads to, and all that is wanted below that. Links in the path are followed within the root, none
/// below it are. Of a directory with [`Verdict::Look`] is told when something below it was taken, right before that.
pub(super) fn walk(
    root: &OwnedFd,
    path: &[u8],
    filter: &dyn Filter,
    visit: &mut dyn FnMut(&Found<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let path = resolve_existing(root, path)?;
    let path = path.strip_prefix(b"/").unwrap_or(&path).to_vec();
    let (above, name) = match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&b""[..], &path[..]),
    };
    let name = if name.is_empty() { b"." } else { name };
    let directory = open(root, above, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC)?;
    let stat = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let found = Found { relative: b"", directory: &directory, name, stat: &stat, kind };
    if kind != FileType::Directory {
        return match filter.verdict(&path, false) {
            Verdict::Take => visit(&found),
            _ => Err(Errno::NOENT.into()),
        };
    }
    // The top is asked for by its name: it is there even when nothing in it is wanted.
    if !path.is_empty() && filter.verdict(&path, true) == Verdict::Skip {
        return Err(Errno::NOENT.into());
    }
    visit(&found)?;
    let prefix = if path.is_empty() { Vec::new() } else { [path.as_slice(), b"/"].concat() };
    let top = open_directory(&directory, name)?;
    let mut trail = Trail::new(top, Vec::new(), Level { untold: None, relative: 0 })?;
    while let Some((name, _)) = trail.next()? {
        let Some((directory, above, _)) = trail.current() else { break };
        let stat = match rustix::fs::statat(directory, &*name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // It is gone by now.
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(error.into()),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let relative = [above, &name].concat();
        let is_directory = kind == FileType::Directory;
        let verdict = filter.verdict(&[prefix.as_slice(), &relative].concat(), is_directory);
        match verdict {
            Verdict::Skip => continue,
            Verdict::Look if !is_directory => continue,
            _ => {}
        }
        let below = if is_directory { Some(open_directory(directory, &name)?) } else { None };
        let mut untold = None;
        if verdict == Verdict::Take {
            tell_levels(&mut trail, visit)?;
            let Some((directory, _, _)) = trail.current() else { break };
            visit(&Found { relative: &relative, directory, name: &name, stat: &stat, kind })?;
        } else {
            untold = Some((directory.try_clone()?, name, stat));
        }
        if let Some(below) = below {
            let level = Level { untold, relative: relative.len() };
            trail.enter(below, [relative.as_slice(), b"/"].concat(), level)?;
        }
    }
    Ok(())
}

/// Tells of the directories on the way that were not told of.
fn tell_levels(
    trail: &mut Trail<Level>,
    visit: &mut dyn FnMut(&Found<'_>) -> io::Result<()>,
) -> io::Result<()> {
    if trail.known_mut().all(|level| level.untold.is_none()) {
        return Ok(());
    }
    let Some((_, path, _)) = trail.current() else { return Ok(()) };
    let path = path.to_vec();
    for level in trail.known_mut() {
        if let Some((directory, name, stat)) = level.untold.take() {
            let relative = &path[..level.relative];
            let kind = FileType::Directory;
            visit(&Found { relative, directory: &directory, name: &name, stat: &stat, kind })?;
        }
    }
    Ok(())
}

fn open_directory(directory: &impl AsFd, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(directory, name, flags, Mode::empty())?)
}

/// A file or directory below a root for being looked at or mounted; links are followed within the root.
pub fn open_path(root: &impl AsFd, path: &[u8]) -> io::Result<OwnedFd> {
    Ok(open(root, path, OFlags::PATH | OFlags::CLOEXEC)?)
}

/// A file below a root for reading; links are followed within the root.
pub fn open_file(root: &impl AsFd, path: &[u8]) -> io::Result<std::fs::File> {
    Ok(open(root, path, OFlags::RDONLY | OFlags::CLOEXEC)?.into())
}

/// What a file below a root holds; none when there is no such file. One that is larger is an error.
pub fn read_file(root: &impl AsFd, path: &[u8], bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match open(root, path, OFlags::RDONLY | OFlags::CLOEXEC) {
        Ok(file) => std::fs::File::from(file),
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(&file, bytes_max + 1), &mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it has more than {bytes_max} bytes"),
        ));
    }
    Ok(Some(bytes))
}
