//! Archives that ADD unpacks: told by their first bytes, read through their decompression.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;

use corten_image::compression::{archive_reader, looks_like_tar};

use crate::error::{Error, Result};

/// A tar block.
const HEAD: u64 = 512;

/// Whether a file is a tar archive, compressed or not. Its position is at the start afterwards.
pub fn is_archive(file: &File) -> Result<bool> {
    let failed =
        |error: io::Error| Error::Internal(format!("cannot read a file that may be an archive: {error}"));
    if !file.metadata().map_err(failed)?.is_file() {
        return Ok(false);
    }
    let mut start = file;
    let mut plain = Vec::new();
    // What can't be decompressed is a file as others.
    start.rewind().map_err(failed)?;
    let opened = archive_reader(file.try_clone().map_err(failed)?);
    let is_plain = opened.and_then(|reader| reader.take(HEAD).read_to_end(&mut plain)).is_ok();
    start.rewind().map_err(failed)?;
    Ok(is_plain && looks_like_tar(&plain))
}

pub fn reader(file: File) -> Result<Box<dyn Read + Send>> {
    archive_reader(file).map_err(|error| Error::Invalid(format!("cannot read the archive: {error}")))
}

/// A directory in which nothing is.
pub fn nothing() -> Result<OwnedFd> {
    let failed = |error: io::Error| Error::Internal(format!("cannot make an empty directory: {error}"));
    let directory = tempfile::tempdir().map_err(failed)?;
    Ok(File::open(directory.path()).map_err(failed)?.into())
}
