//! Reading and writing the small files of a group.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, Result};

use super::Error;

/// Bytes to read at once: most files are a few, `memory.stat` is two thousand.
const PIECE: usize = 2048;

/// Writes a value in one call, as the kernel wants it.
pub(super) fn write(dir: &Path, file: &str, value: &str) -> Result<()> {
    write_each(dir, file, std::iter::once(value))
}

/// Writes values one after the other, each in a call of its own.
pub(super) fn write_each<T: AsRef<str>>(
    dir: &Path,
    file: &str,
    values: impl IntoIterator<Item = T>,
) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::CLOEXEC;
    let fd = rustix::fs::open(dir.join(file), flags, Mode::empty())?;
    for value in values {
        rustix::io::retry_on_intr(|| rustix::io::write(&fd, value.as_ref().as_bytes()))?;
    }
    Ok(())
}

/// The whole text of a file. Statistics read dozens of them per group: no call but open, read and close.
pub(super) fn read(dir: &Path, file: &str) -> Result<String> {
    let fd = rustix::fs::open(dir.join(file), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = Vec::with_capacity(PIECE);
    loop {
        bytes.reserve(PIECE);
        let read =
            rustix::io::retry_on_intr(|| rustix::io::read(&fd, rustix::buffer::spare_capacity(&mut bytes)))?;
        if read == 0 {
            return String::from_utf8(bytes).map_err(|_| Errno::ILSEQ);
        }
    }
}

/// Reads a file that must be there.
pub(super) fn text(dir: &Path, file: &str) -> std::result::Result<String, Error> {
    read(dir, file).map_err(|source| Error::Read { path: dir.join(file), source })
}

/// A file that holds one number; `max` is the largest.
pub(super) fn number(dir: &Path, file: &str) -> std::result::Result<u64, Error> {
    Ok(parse_number(&text(dir, file)?))
}

/// The number behind a key, in a file of `key number` lines.
pub(super) fn keyed(dir: &Path, file: &str, key: &str) -> std::result::Result<Option<u64>, Error> {
    Ok(pairs(&text(dir, file)?).find(|(name, _)| *name == key).map(|(_, value)| value))
}

/// The `key number` lines of a text.
pub(super) fn pairs(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, parse_number(value)))
    })
}

pub(super) fn parse_number(text: &str) -> u64 {
    match text.trim() {
        "max" | "-1" => u64::MAX,
        number => number.parse().unwrap_or(0),
    }
}

pub(super) fn open_dir(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Is root here somebody else outside?
pub(super) fn in_user_namespace() -> bool {
    read(Path::new("/proc/self"), "uid_map")
        .is_ok_and(|map| map.split_ascii_whitespace().ne(["0", "0", "4294967295"]))
}
