//! The files of one log: `<path>` is the newest, `<path>.1` the one before it, and so on; a rotated one may be compressed, as
//! `<path>.N.gz`. The index of a file that isn't stands beside it.
//!
//! Whoever holds a file open recognises it after a rotation by its inode, which can't be given to another file meanwhile. A compressed
//! file remembers the inode and the first time of what it was made from: together they name one file for good.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::cursor::Cursor;
use super::packed::Packed;
use super::source::ReadAt;
use super::{LogError, index};
use crate::monitor::protocol::{LogDriver, Timestamp};

/// Rotated files that a reader looks for, whatever the configuration was when they were written.
const ROTATED_MAX: u32 = 1000;

/// The path of rotation `number`; 0 is the file that is written to.
pub(super) fn rotated(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    with_suffix(path, &format!(".{number}"))
}

/// The same, compressed.
pub(super) fn packed(path: &Path, number: u32) -> PathBuf {
    with_suffix(path, &format!(".{number}.gz"))
}

/// Where a file is compressed to before it gets its place.
pub(super) fn unfinished(path: &Path) -> PathBuf {
    with_suffix(path, ".gz.new")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Everything that belongs to rotation `number`.
fn parts(path: &Path, number: u32) -> [PathBuf; 3] {
    let plain = rotated(path, number);
    let index = index::path_of(&plain);
    [plain, index, packed(path, number)]
}

/// Shifts every file by one and drops the oldest, so that `files_max` are there once `<path>` is created anew.
pub(super) fn rotate(path: &Path, files_max: u32) -> Result<(), LogError> {
    let error = |path: &Path, source| LogError::Rotate { path: path.to_owned(), source };
    let oldest = files_max.max(1) - 1;
    for part in parts(path, oldest) {
        ignore_missing(std::fs::remove_file(&part)).map_err(|e| error(&part, e))?;
    }
    for number in (0..oldest).rev() {
        for (from, to) in parts(path, number).iter().zip(parts(path, number + 1)) {
            ignore_missing(std::fs::rename(from, to)).map_err(|e| error(from, e))?;
        }
    }
    Ok(())
}

/// The youngest rotated file that is not compressed.
pub(super) fn youngest_unpacked(path: &Path, files_max: u32) -> Option<(PathBuf, u64)> {
    (1..files_max).find_map(|number| {
        let path = rotated(path, number);
        Some((std::fs::metadata(&path).ok()?.ino(), path)).map(|(inode, path)| (path, inode))
    })
}

/// Puts what was made of the file with this inode in its place, wherever that is by now.
pub(super) fn replace(path: &Path, files_max: u32, inode: u64) -> io::Result<()> {
    let is_it = |number: &u32| std::fs::metadata(rotated(path, *number)).is_ok_and(|m| m.ino() == inode);
    let Some(number) = (1..files_max).find(is_it) else {
        // Rotated away meanwhile.
        return ignore_missing(std::fs::remove_file(unfinished(path)));
    };
    std::fs::rename(unfinished(path), packed(path, number))?;
    // In this order: a reader that does not find the one finds the other.
    let [plain, index, _] = parts(path, number);
    ignore_missing(std::fs::remove_file(plain))?;
    ignore_missing(std::fs::remove_file(index))
}

/// Removes what a writer that was killed left behind while it compressed.
pub(super) fn tidy(path: &Path, files_max: u32) {
    let _ = std::fs::remove_file(unfinished(path));
    for number in 1..files_max {
        if rotated(path, number).exists() {
            // Both are there: the compressed one was about to take the other's place.
            let _ = std::fs::remove_file(packed(path, number));
        }
    }
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })
}

/// A log file that is open for reading.
pub(super) struct LogFile {
    content: Content,
    /// Bytes in it when it was opened.
    pub len: u64,
    inode: u64,
    /// Where it was then.
    path: PathBuf,
}

enum Content {
    Plain(File),
    Packed(Box<Packed>),
}

impl LogFile {
    fn open(path: PathBuf) -> Result<Option<Self>, LogError> {
        let error = |source| LogError::Open { path: path.clone(), source };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(error(e)),
        };
        let metadata = file.metadata().map_err(error)?;
        Ok(Some(Self { content: Content::Plain(file), len: metadata.len(), inode: metadata.ino(), path }))
    }

    /// A compressed one; one that can't be read is passed over, as the others can.
    fn open_packed(path: PathBuf) -> Option<Self> {
        let packed = Packed::open(File::open(&path).ok()?).ok()?;
        let (len, inode) = (packed.len, packed.inode);
        Some(Self { content: Content::Packed(Box::new(packed)), len, inode, path })
    }

    pub(super) fn bytes(&self) -> &dyn ReadAt {
        match &self.content {
            Content::Plain(file) => file,
            Content::Packed(packed) => packed.as_ref(),
        }
    }

    /// Where the first record that may not be older than `since` begins.
    pub(super) fn start_of(&self, since: Option<Timestamp>) -> u64 {
        match (&self.content, since) {
            (_, None) => 0,
            (Content::Packed(packed), Some(since)) => packed.start_of(since),
            (Content::Plain(_), Some(since)) => index::start_of(&self.path, self.inode, self.len, since),
        }
    }

    /// Whether `path` now names another file, or none.
    pub(super) fn is_rotated(&self, path: &Path) -> bool {
        std::fs::metadata(path).map_or(true, |m| m.ino() != self.inode)
    }

    fn is_same(&self, other: &Self, format: LogDriver) -> bool {
        let both_plain = matches!((&self.content, &other.content), (Content::Plain(_), Content::Plain(_)));
        self.inode == other.inode && (both_plain || self.first(format) == other.first(format))
    }

    /// The time of the first record.
    fn first(&self, format: LogDriver) -> Option<Timestamp> {
        match &self.content {
            Content::Plain(file) => Cursor::new(format).next(file).ok()?.map(|record| record.time),
            Content::Packed(packed) => Some(packed.first),
        }
    }
}

/// Opens all files, oldest first. Going from the newest to the oldest, a rotation in between shows a file twice and hides none.
pub(super) fn open_all(path: &Path, format: LogDriver) -> Result<Vec<LogFile>, LogError> {
    let mut files: Vec<LogFile> = Vec::new();
    let mut missing = 0;
    for number in 0..ROTATED_MAX {
        let found = match LogFile::open(rotated(path, number))? {
            None if number > 0 => LogFile::open_packed(packed(path, number)),
            found => found,
        };
        match found {
            Some(file) if files.iter().any(|f| f.is_same(&file, format)) => {}
            Some(file) => files.push(file),
            // In the middle of a rotation, one may be missing for a moment.
            None if missing == 1 => break,
            None => missing += 1,
        }
    }
    files.reverse();
    Ok(files)
}

/// The files that came after `last`, oldest first; all there are when `last` has been rotated away.
pub(super) fn open_newer(path: &Path, last: &LogFile, format: LogDriver) -> Result<Vec<LogFile>, LogError> {
    let mut files = open_all(path, format)?;
    match files.iter().position(|f| f.is_same(last, format)) {
        Some(at) => drop(files.drain(..=at)),
        // The log is being removed, newest file first.
        None if !path.exists() => files.clear(),
        None => {}
    }
    Ok(files)
}
