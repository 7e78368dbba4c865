//! A directory that is no image's as a blob, compressed as a layer is, and back again. Names that mean deletions in a layer are names like
//! all others here.
//!
//! What is packed is nobody's to change meanwhile. What comes is a stranger's: it is bounded, and it counts only when its digests are those
//! that were promised.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;

use super::fetch::{RemoteLayer, Source, Stage, Watch};
use crate::compress::{Format, compress};
use crate::compression::{Compression, UnsupportedCompression, peek};
use crate::digest::{DiffId, Digest, HashingReader, HashingWriter};
use crate::files::{self, Buffered, Distrust, PackError, Plain, UnpackError, UnpackOptions};
use crate::layer::Limits;
use crate::manifest::Descriptor;
use crate::tar::{BLOCK, Kind};

const BUFFER_BYTES: usize = 256 << 10;

/// A directory as a blob.
#[derive(Clone, Debug)]
pub struct PackedDirectory {
    /// Of its tar stream.
    pub diff_id: DiffId,
    pub tar_bytes: u64,
    pub blob: Descriptor,
    /// It has nothing but the blob.
    pub file: Arc<File>,
}

/// Why a blob did not become a directory again.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    #[error("cannot fetch {digest}")]
    Fetch { digest: Digest, source: io::Error },
    #[error("{what} is {actual}, and not {expected}")]
    Mismatch { what: &'static str, expected: Digest, actual: Digest },
    #[error("{digest} is {source}")]
    Compression { digest: Digest, source: UnsupportedCompression },
    #[error("cannot unpack {digest}")]
    Unpack { digest: Digest, source: UnpackError },
}

/// How many entries are in a directory, and about how many bytes of tar they are.
pub fn measure_directory(directory: &impl AsFd) -> io::Result<(u64, u64)> {
    let (mut entries, mut bytes) = (0, 0);
    files::describe(directory, &mut |entry| {
        if !matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice) {
            entries += 1;
            bytes += BLOCK as u64 + entry.stored_bytes.next_multiple_of(BLOCK as u64);
        }
        Ok(())
    })?;
    Ok((entries, bytes))
}

/// Packs what is in a directory into an empty file. The same tree gives the same bytes.
pub fn pack_directory(
    directory: &(impl AsFd + Sync),
    format: Format,
    file: File,
) -> Result<PackedDirectory, PackError> {
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut blob = HashingWriter::new(file);
    let (mut plain, mut unread) = (None, None);
    let compressed = compress(format, threads, &mut blob, |sink| {
        let mut tar = Buffered::new(HashingWriter::new(sink));
        match files::pack_for_others(directory, &mut tar) {
            Ok(()) => {
                let (diff_id, bytes, _) = tar.into_inner().finish();
                plain = Some((diff_id, bytes));
            }
            Err(PackError::Write(source)) => return Err(source),
            Err(error) => unread = Some(error),
        }
        Ok(())
    });
    compressed.map_err(PackError::Write)?;
    let (diff_id, tar_bytes) = match (plain, unread) {
        (Some(plain), _) => plain,
        (None, Some(error)) => return Err(error),
        (None, None) => return Err(PackError::Write(io::ErrorKind::BrokenPipe.into())),
    };
    let (digest, size, file) = blob.finish();
    let blob = Descriptor::new(format.layer_media_type(), digest, size);
    Ok(PackedDirectory { diff_id, tar_bytes, blob, file: Arc::new(file) })
}

/// Fetches what was packed, and unpacks it into an empty directory that nobody uses yet. Of one that fails the directory has some.
///
/// # Errors
/// When the source fails, or gives another directory than it should, or one beyond the limits.
pub fn fetch_directory(
    wanted: &RemoteLayer,
    source: &dyn Source,
    limits: &Limits,
    directory: &impl AsFd,
    watch: Watch<'_>,
) -> Result<(), DirectoryError> {
    let RemoteLayer { blob, diff_id } = wanted;
    let digest = blob.digest;
    let unfetched = |source| DirectoryError::Fetch { digest, source };
    watch(blob, Stage::Wanted);
    let input = source.blob(blob, 0).map_err(unfetched)?;
    let mut arriving = HashingReader::new(Promised { input, blob, received: 0, watch });
    let (head, whole) = peek(&mut arriving, 6).map_err(unfetched)?;
    let compression = Compression::detect(&head);
    let compression = compression.map_err(|source| DirectoryError::Compression { digest, source })?;
    let limits = limits.of_compressed(blob.size);
    let bytes_max = limits.data_bytes_max.min(limits.tar_bytes_max);
    let input = compression.reader(whole).map_err(unfetched)?;
    let mut plain = HashingReader::new(Bounded { input, left: bytes_max, bytes_max });
    let options = UnpackOptions {
        leaves_holes: true,
        distrust: Some(Distrust { entries_max: limits.entries_max }),
        ..UnpackOptions::default()
    };
    let archive = Plain(BufReader::with_capacity(BUFFER_BYTES, &mut plain));
    files::unpack(directory, b"/", archive, &options)
        .map_err(|source| DirectoryError::Unpack { digest, source })?;
    // What stands behind the archive's end is part of both digests.
    io::copy(&mut plain, &mut io::sink()).map_err(unfetched)?;
    let (actual, _) = plain.finish();
    io::copy(&mut arriving, &mut io::sink()).map_err(unfetched)?;
    let (arrived, _) = arriving.finish();
    let is = |what, expected: &Digest, actual: Digest| match actual == *expected {
        true => Ok(()),
        false => Err(DirectoryError::Mismatch { what, expected: *expected, actual }),
    };
    is("what came", &digest, arrived)?;
    is("what was packed", diff_id, actual)?;
    watch(blob, Stage::Unpacked);
    Ok(())
}

/// A blob as it comes: no more and no fewer bytes than were promised.
struct Promised<'a> {
    input: Box<dyn Read + Send>,
    blob: &'a Descriptor,
    received: u64,
    watch: Watch<'a>,
}

impl Read for Promised<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.blob.size.saturating_sub(self.received);
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        if room == 0 {
            return Ok(0);
        }
        let count = self.input.read(&mut buffer[..room])?;
        if count == 0 {
            let why = format!("it ends {left} bytes before its end");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
        }
        self.received += count as u64;
        (self.watch)(self.blob, Stage::Received(self.received));
        if self.received == self.blob.size {
            (self.watch)(self.blob, Stage::Whole);
        }
        Ok(count)
    }
}

/// An archive that has no more bytes than it may.
struct Bounded<R> {
    input: R,
    left: u64,
    bytes_max: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        match self.left.checked_sub(count as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::other(format!("it has more than {} bytes", self.bytes_max))),
        }
        Ok(count)
    }
}
