//! The files of one log: `<path>` is the newest, `<path>.1` the one before it, and so on.
//!
//! Whoever holds a file open recognises it after a rotation by its inode, which can't be given to another file meanwhile.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::LogError;

/// Rotated files that a reader looks for, whatever the configuration was when they were written.
const ROTATED_MAX: u32 = 1000;

/// The path of rotation `number`; 0 is the file that is written to.
pub(super) fn rotated(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// Shifts every file by one and drops the oldest, so that `files_max` are there once `<path>` is created anew.
pub(super) fn rotate(path: &Path, files_max: u32) -> Result<(), LogError> {
    let error = |path: &Path, source| LogError::Rotate { path: path.to_owned(), source };
    let oldest = files_max.max(1) - 1;
    if oldest == 0 {
        return ignore_missing(std::fs::remove_file(path)).map_err(|e| error(path, e));
    }
    for number in (0..oldest).rev() {
        let from = rotated(path, number);
        ignore_missing(std::fs::rename(&from, rotated(path, number + 1))).map_err(|e| error(&from, e))?;
    }
    Ok(())
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })
}

/// A log file that is open for reading.
pub(super) struct LogFile {
    pub file: File,
    /// Bytes in it when it was opened.
    pub len: u64,
    inode: u64,
}

impl LogFile {
    fn open(path: &Path) -> Result<Option<Self>, LogError> {
        let error = |source| LogError::Open { path: path.to_owned(), source };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(error(e)),
        };
        let metadata = file.metadata().map_err(error)?;
        Ok(Some(Self { file, len: metadata.len(), inode: metadata.ino() }))
    }

    /// Whether `path` now names another file, or none.
    pub(super) fn is_rotated(&self, path: &Path) -> bool {
        std::fs::metadata(path).map_or(true, |m| m.ino() != self.inode)
    }
}

/// Opens all files, oldest first. Going from the newest to the oldest, a rotation in between shows a file twice and hides none.
pub(super) fn open_all(path: &Path) -> Result<Vec<LogFile>, LogError> {
    let mut files: Vec<LogFile> = Vec::new();
    for number in 0..ROTATED_MAX {
        match LogFile::open(&rotated(path, number))? {
            Some(file) if files.iter().any(|f| f.inode == file.inode) => {}
            Some(file) => files.push(file),
            // The newest may be missing for a moment in the middle of a rotation.
            None if number == 0 => {}
            None => break,
        }
    }
    files.reverse();
    Ok(files)
}

/// The files that came after `last`, oldest first; all there are when `last` has been rotated away.
pub(super) fn open_newer(path: &Path, last: &LogFile) -> Result<Vec<LogFile>, LogError> {
    let mut files = open_all(path)?;
    match files.iter().position(|f| f.inode == last.inode) {
        Some(at) => drop(files.drain(..=at)),
        // The log is being removed, newest file first.
        None if !path.exists() => files.clear(),
        None => {}
    }
    Ok(files)
}
