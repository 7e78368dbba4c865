//! Archives that ADD unpacks: told by their first bytes, read through their decompression.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;

use corten_image::compression::{Compression, UnsupportedCompression, looks_like_tar};

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
    let mut head = Vec::new();
    let mut start = file;
    start.take(HEAD).read_to_end(&mut head).map_err(failed)?;
    start.rewind().map_err(failed)?;
    let compression = match Compression::detect(&head) {
        Ok(compression) => compression,
        // Docker would unpack them.
        Err(UnsupportedCompression(name @ ("xz" | "bzip2"))) => {
            return Err(Error::Invalid(format!(
                "ADD of a file compressed with {name} is not supported: use COPY for the file itself, or compress the archive with gzip or zstd"
            )));
        }
        Err(_) => return Ok(false),
    };
    if compression == Compression::None {
        return Ok(looks_like_tar(&head));
    }
    // What can't be decompressed is a file as others.
    let mut plain = Vec::new();
    let is_plain =
        compression.reader(file).and_then(|reader| reader.take(HEAD).read_to_end(&mut plain)).is_ok();
    start.rewind().map_err(failed)?;
    Ok(is_plain && looks_like_tar(&plain))
}

pub fn reader(mut file: File) -> Result<Box<dyn Read + Send>> {
    let failed = |error: io::Error| Error::Invalid(format!("cannot read the archive: {error}"));
    let mut head = Vec::new();
    (&file).take(HEAD).read_to_end(&mut head).map_err(failed)?;
    file.rewind().map_err(failed)?;
    let compression = Compression::detect(&head).map_err(|error| Error::Invalid(error.to_string()))?;
    compression.file_reader(file).map_err(failed)
}

/// A directory in which nothing is.
pub fn nothing() -> Result<OwnedFd> {
    let failed = |error: io::Error| Error::Internal(format!("cannot make an empty directory: {error}"));
    let directory = tempfile::tempdir().map_err(failed)?;
    Ok(File::open(directory.path()).map_err(failed)?.into())
}
