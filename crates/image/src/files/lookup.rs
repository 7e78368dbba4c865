//! Finding files below a root as a process would whose root directory it is.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::mounts::open_by;
use crate::tar::Time;

/// As many links as Go's `EvalSymlinks` follows.
const LINKS_MAX: usize = 255;

/// What is found at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathStat {
    pub size: i64,
    /// `st_mode`, type and permissions.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Time,
    /// Of a symbolic link: where it leads in the end, as far as that exists.
    pub link_target: Option<Vec<u8>>,
}

impl PathStat {
    pub fn is_directory(&self) -> bool {
        FileType::from_raw_mode(self.mode) == FileType::Directory
    }
}

/// Looks at a path; a link at its end is not followed unless the path ends with a slash.
pub fn stat(root: &impl AsFd, path: &[u8]) -> io::Result<PathStat> {
    let found: Stat = rustix::fs::fstat(&open(root, path, OFlags::PATH | OFlags::NOFOLLOW)?)?;
    let is_link = FileType::from_raw_mode(found.st_mode) == FileType::Symlink;
    Ok(PathStat {
        size: found.st_size,
        mode: found.st_mode,
        uid: found.st_uid,
        gid: found.st_gid,
        mtime: Time { seconds: found.st_mtime, nanoseconds: found.st_mtime_nsec as u32 },
        link_target: is_link.then(|| resolve(root, path)).transpose()?,
    })
}

/// Opens below the root; absolute paths and links start there, `..` stays there. No fifo is waited for.
pub(crate) fn open(root: &impl AsFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let more = if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NOCTTY | OFlags::NONBLOCK };
    let path = if path.is_empty() { b"." } else { path };
    open_by(root, path, flags | more, resolve)
}

/// The path with all links replaced by what they lead to, the last one too. What does not exist is taken as it is written.
pub fn resolve(root: &impl AsFd, path: &[u8]) -> io::Result<Vec<u8>> {
    follow(root, path, true)
}

/// The same for a path of which everything must exist.
pub fn resolve_existing(root: &impl AsFd, path: &[u8]) -> io::Result<Vec<u8>> {
    follow(root, path, false)
}

fn follow(root: &impl AsFd, path: &[u8], missing_is_fine: bool) -> io::Result<Vec<u8>> {
    let parts = |text: &[u8]| -> Vec<Vec<u8>> {
        text.split(|&byte| byte == b'/')
            .rev()
            .filter(|p| !p.is_empty() && *p != b".")
            .map(<[u8]>::to_vec)
            .collect()
    };
    // Reversed, so that a link's target is put in front by pushing.
    let mut rest = parts(path);
    let (mut resolved, mut links) = (Vec::new(), 0);
    while let Some(part) = rest.pop() {
        if part == b".." {
            let parent = resolved.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
            resolved.truncate(parent);
            continue;
        }
        let next = [resolved.as_slice(), b"/", &part].concat();
        match read_link(root, &next) {
            Ok(Some(target)) => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Errno::LOOP.into());
                }
                if target.starts_with(b"/") {
                    resolved.clear();
                }
                rest.extend(parts(&target));
            }
            Ok(None) => resolved = next,
            Err(Errno::NOENT | Errno::NOTDIR) if missing_is_fine => resolved = next,
            Err(error) => return Err(error.into()),
        }
    }
    if resolved.is_empty() {
        resolved.push(b'/');
    }
    Ok(resolved)
}

/// The target of a link whose parents are no links; `None` of anything else.
fn read_link(root: &impl AsFd, path: &[u8]) -> rustix::io::Result<Option<Vec<u8>>> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    let node = open_by(root, path, OFlags::PATH | OFlags::NOFOLLOW, resolve)?;
    if FileType::from_raw_mode(rustix::fs::fstat(&node)?.st_mode) != FileType::Symlink {
        return Ok(None);
    }
    Ok(Some(rustix::fs::readlinkat(&node, "", Vec::new())?.into_bytes()))
}
