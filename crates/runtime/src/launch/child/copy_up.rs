//! `tmpcopyup`: what a directory held is copied into the tmpfs that will hide it.

use core::ffi::CStr;
use core::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RawDir, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::paths;

/// Each level takes some 5 KiB of stack.
const DEPTH_MAX: u32 = 64;
const ENTRIES_BYTES: usize = 2048;

/// Copies all that is in directory `path` of `root` into the file system `into`; nothing when there is no such directory.
pub(super) fn copy(root: BorrowedFd<'_>, path: &CStr, into: BorrowedFd<'_>) -> Result<(), Errno> {
    let from = match paths::open(root, path, OFlags::RDONLY | OFlags::DIRECTORY) {
        Err(Errno::NOENT) => return Ok(()),
        from => from?,
    };
    let into = directory(into, c".")?;
    copy_directory(from, into.as_fd(), DEPTH_MAX)
}

fn directory(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

fn copy_directory(from: OwnedFd, into: BorrowedFd<'_>, depth: u32) -> Result<(), Errno> {
    let stat = rustix::fs::fstat(&from)?;
    let mut buffer = [MaybeUninit::uninit(); ENTRIES_BYTES];
    let mut entries = RawDir::new(&from, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            copy_entry(from.as_fd(), name, into, depth)?;
        }
    }
    let owner = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
    rustix::fs::fchown(into, owner.0, owner.1)?;
    rustix::fs::fchmod(into, Mode::from_raw_mode(stat.st_mode))?;
    rustix::fs::futimens(into, &times(&stat))
}

fn copy_entry(from: BorrowedFd<'_>, name: &CStr, into: BorrowedFd<'_>, depth: u32) -> Result<(), Errno> {
    let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let mode = Mode::from_raw_mode(stat.st_mode);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            let deeper = depth.checked_sub(1).ok_or(Errno::NAMETOOLONG)?;
            rustix::fs::mkdirat(into, name, mode)?;
            let target = directory(into, name)?;
            return copy_directory(directory(from, name)?, target.as_fd(), deeper);
        }
        FileType::Symlink => {
            let mut target = [0u8; 4096];
            let length = rustix::fs::readlinkat_raw(from, name, &mut target[..4095])?;
            target[length] = 0;
            let target = CStr::from_bytes_until_nul(&target).map_err(|_| Errno::INVAL)?;
            rustix::fs::symlinkat(target, into, name)?;
        }
        FileType::RegularFile => copy_file(from, name, into, mode, stat.st_size as u64)?,
        kind => rustix::fs::mknodat(into, name, kind, mode, stat.st_rdev)?,
    }
    let owner = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
    rustix::fs::chownat(into, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        // A change of owner takes set-id bits away.
        rustix::fs::chmodat(into, name, mode, AtFlags::empty())?;
    }
    rustix::fs::utimensat(into, name, &times(&stat), AtFlags::SYMLINK_NOFOLLOW)
}

fn copy_file(
    from: BorrowedFd<'_>,
    name: &CStr,
    into: BorrowedFd<'_>,
    mode: Mode,
    size: u64,
) -> Result<(), Errno> {
    let source =
        rustix::fs::openat(from, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = rustix::fs::openat(into, name, flags, mode)?;
    let mut left = size;
    while left > 0 {
        match rustix::fs::sendfile(&target, &source, None, left as usize) {
            Ok(0) => break,
            Ok(n) => left = left.saturating_sub(n as u64),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime as _, tv_nsec: stat.st_atime_nsec as _ },
        last_modification: Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ },
    }
}
