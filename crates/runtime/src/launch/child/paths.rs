//! Paths inside the container's root, resolved so that nothing in the container can lead outside.

use core::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

const PATH_BYTES_MAX: usize = 4096;
const LINKS_MAX: u32 = 40;

/// What is made where a path leads to nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Directory,
    File,
}

/// Opens `path` below `root`; links inside are followed as if `root` were `/`.
pub(super) fn open(root: BorrowedFd<'_>, path: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    resolve(root, path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// Like [`open`], but fails with `ELOOP` where a part of the path is a symbolic link.
pub(super) fn open_real(root: BorrowedFd<'_>, path: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    resolve(root, path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS)
}

/// Opens a file of procfs for writing; `procfs` was checked to be one, and nothing mounted over it is entered.
pub(super) fn open_proc(procfs: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, Errno> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    resolve(procfs, path, OFlags::WRONLY, how)
}

fn resolve(dir: BorrowedFd<'_>, path: &CStr, flags: OFlags, how: ResolveFlags) -> Result<OwnedFd, Errno> {
    loop {
        match openat2(dir, path, flags | OFlags::CLOEXEC, Mode::empty(), how) {
            // A rename elsewhere crossed the walk: the kernel could not be sure and asks for another try.
            Err(Errno::AGAIN | Errno::INTR) => {}
            answer => return answer,
        }
    }
}

/// Opens (`O_PATH`) what `path` leads to below `root`, making missing directories and the last part on the way. A dangling link
/// has its target made, inside the root.
pub(super) fn create(root: BorrowedFd<'_>, path: &CStr, missing: Missing) -> Result<OwnedFd, Errno> {
    let mut rest = PathBuffer::new();
    rest.extend(path.to_bytes())?;
    let mut done = PathBuffer::new();
    let mut links = 0;
    let mut component = PathBuffer::new();
    while rest.take_component(&mut component)? {
        match component.bytes() {
            b"." => continue,
            b".." => {
                done.pop_component();
                continue;
            }
            _ => done.push_component(component.bytes())?,
        }
        let last = rest.is_empty();
        let found = match open_real(root, done.c_str(), OFlags::PATH | OFlags::NOFOLLOW) {
            Err(Errno::NOENT) => {
                make(root, &mut done, &component, if last { missing } else { Missing::Directory })?
            }
            answer => answer?,
        };
        if FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) == FileType::Symlink {
            links += 1;
            if links > LINKS_MAX {
                return Err(Errno::LOOP);
            }
            let mut target = PathBuffer::new();
            target.read_link(found.as_fd())?;
            if target.bytes().first() == Some(&b'/') {
                done = PathBuffer::new();
            } else {
                done.pop_component();
            }
            target.push_component(rest.bytes())?;
            rest = target;
        } else if last {
            return Ok(found);
        }
    }
    // Nothing remained after a link to `/` or a way back up.
    open_real(root, done.c_str_or_dot(), OFlags::PATH)
}

/// Makes the last component of `done` in the directory that the others name.
fn make(
    root: BorrowedFd<'_>,
    done: &mut PathBuffer,
    name: &PathBuffer,
    missing: Missing,
) -> Result<OwnedFd, Errno> {
    done.pop_component();
    let parent = open_real(root, done.c_str_or_dot(), OFlags::PATH | OFlags::DIRECTORY)?;
    done.push_component(name.bytes())?;
    let made = match missing {
        Missing::Directory => rustix::fs::mkdirat(&parent, name.c_str(), Mode::from_raw_mode(0o755)),
        Missing::File => {
            rustix::fs::mknodat(&parent, name.c_str(), FileType::RegularFile, Mode::from_raw_mode(0o644), 0)
        }
    };
    match made {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    open_real(parent.as_fd(), name.c_str(), OFlags::PATH | OFlags::NOFOLLOW)
}

/// A path on the stack: the child has no heap.
pub(super) struct PathBuffer {
    bytes: [u8; PATH_BYTES_MAX],
    length: usize,
}

impl PathBuffer {
    pub(super) fn new() -> Self {
        Self { bytes: [0; PATH_BYTES_MAX], length: 0 }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The terminating byte is always there: nothing is ever written to the last one.
    pub(super) fn c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }

    fn c_str_or_dot(&self) -> &CStr {
        if self.is_empty() { c"." } else { self.c_str() }
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        let end = self.length + bytes.len();
        if end >= PATH_BYTES_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        self.bytes[self.length..end].copy_from_slice(bytes);
        self.bytes[end] = 0;
        self.length = end;
        Ok(())
    }

    pub(super) fn number(&mut self, mut number: u32, base: u32) -> Result<(), Errno> {
        let mut digits = [0u8; 12];
        let mut start = digits.len();
        loop {
            start -= 1;
            digits[start] = b'0' + (number % base) as u8;
            number /= base;
            if number == 0 {
                return self.extend(&digits[start..]);
            }
        }
    }

    fn push_component(&mut self, component: &[u8]) -> Result<(), Errno> {
        if !self.is_empty() {
            self.extend(b"/")?;
        }
        self.extend(component)
    }

    /// Takes off the last component.
    fn pop_component(&mut self) {
        self.length = self.bytes().iter().rposition(|b| *b == b'/').unwrap_or(0);
        self.bytes[self.length] = 0;
    }

    /// Moves the first component to `out`; `false` when there is none.
    fn take_component(&mut self, out: &mut Self) -> Result<bool, Errno> {
        let start = self.bytes().iter().position(|b| *b != b'/').unwrap_or(self.length);
        let end = self.bytes()[start..].iter().position(|b| *b == b'/').map_or(self.length, |n| start + n);
        if start == end {
            return Ok(false);
        }
        *out = Self::new();
        out.extend(&self.bytes[start..end])?;
        let next = self.bytes()[end..].iter().position(|b| *b != b'/').map_or(self.length, |n| end + n);
        self.bytes.copy_within(next..self.length, 0);
        self.length -= next;
        self.bytes[self.length] = 0;
        Ok(true)
    }

    fn read_link(&mut self, link: BorrowedFd<'_>) -> Result<(), Errno> {
        let (_, free) =
            rustix::fs::readlinkat_raw(link, c"", &mut self.bytes[..PATH_BYTES_MAX - 1]).map(|n| ((), n))?;
        self.length = free;
        self.bytes[free] = 0;
        Ok(())
    }
}

/// The directory part of a path below the root, and the last component.
pub(super) fn split(path: &CStr) -> Result<(PathBuffer, &CStr), Errno> {
    let bytes = path.to_bytes_with_nul();
    let cut = path.to_bytes().iter().rposition(|b| *b == b'/');
    let mut dir = PathBuffer::new();
    dir.extend(match cut {
        Some(cut) => &bytes[..cut],
        None => b".",
    })?;
    let name = CStr::from_bytes_with_nul(&bytes[cut.map_or(0, |c| c + 1)..]).map_err(|_| Errno::INVAL)?;
    Ok((dir, name))
}

/// Whether `path` (relative to `dir`) is a file that the caller's effective ids may execute.
pub(super) fn is_program(dir: BorrowedFd<'_>, path: &CStr) -> Result<(), Errno> {
    let stat = rustix::fs::statat(dir, path, AtFlags::empty())?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::ACCESS);
    }
    rustix::fs::accessat(dir, path, rustix::fs::Access::EXEC_OK, AtFlags::EACCESS)
}
