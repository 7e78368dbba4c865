//! Compression by content: what a stream is, told from its first bytes, and its decompressed form.
//! Media types and file names are not believed; nobody agrees on them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use liblzma::stream::Stream;

use crate::manifest::media;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("compressed with {0}, which is not supported: use gzip or zstd, or decompress it first")]
pub struct UnsupportedCompression(pub &'static str);

/// Compressed input is read in pieces of this size.
const BUFFER_BYTES: usize = 256 << 10;

impl Compression {
    /// Tells from the first bytes (six are enough).
    pub fn detect(head: &[u8]) -> Result<Compression, UnsupportedCompression> {
        const FOREIGN: [(&[u8], &str); 4] =
            [(b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"\x04\x22\x4d\x18", "lz4"), (b"PK\x03\x04", "zip")];
        if head.starts_with(b"\x1f\x8b") {
            return Ok(Compression::Gzip);
        }
        // A frame, or a skippable frame in front of it (0x184D2A50 to 5F), as in zstd:chunked layers.
        if head.starts_with(b"\x28\xb5\x2f\xfd")
            || (head.len() >= 4 && head[0] & 0xf0 == 0x50 && head[1..4] == *b"\x2a\x4d\x18")
        {
            return Ok(Compression::Zstd);
        }
        match FOREIGN.iter().find(|(magic, _)| head.starts_with(magic)) {
            Some((_, name)) => Err(UnsupportedCompression(name)),
            None => Ok(Compression::None),
        }
    }

    /// The decompressed stream; concatenated gzip members and zstd frames are one stream.
    pub fn reader<'a>(self, input: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
        let input = BufReader::with_capacity(BUFFER_BYTES, input);
        Ok(match self {
            Compression::None => Box::new(input),
            Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
            Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(input)?),
        })
    }

    /// What people and clients call it.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "uncompressed",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        }
    }

    /// The media type of a layer kept this way.
    pub fn layer_media_type(self) -> &'static str {
        match self {
            Compression::None => media::OCI_LAYER,
            Compression::Gzip => media::OCI_LAYER_GZIP,
            Compression::Zstd => media::OCI_LAYER_ZSTD,
        }
    }
}

/// Memory that an xz stream may want for its dictionary: `xz -9` takes 65 MiB, what people find on the way takes what it says.
const XZ_MEMORY_BYTES_MAX: u64 = 256 << 20;

/// The plain stream of an archive that people made: compressed as layers are, or with bzip2 or xz.
pub fn archive_reader(file: File) -> io::Result<Box<dyn Read + Send>> {
    archive_stream(BufReader::with_capacity(BUFFER_BYTES, file))
}

/// The same of one that comes as a stream.
pub fn archive_stream<'a>(mut input: impl BufRead + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut head = Vec::with_capacity(6);
    (&mut input).take(6).read_to_end(&mut head)?;
    let compression = Compression::detect(&head);
    let input = io::Cursor::new(head).chain(input);
    match compression {
        Ok(Compression::None) => Ok(Box::new(input)),
        Ok(Compression::Gzip) => Ok(Box::new(flate2::bufread::MultiGzDecoder::new(input))),
        Ok(Compression::Zstd) => Ok(Box::new(zstd::stream::read::Decoder::with_buffer(input)?)),
        Err(UnsupportedCompression("bzip2")) => Ok(Box::new(bzip2::bufread::MultiBzDecoder::new(input))),
        Err(UnsupportedCompression("xz")) => {
            let stream = Stream::new_stream_decoder(XZ_MEMORY_BYTES_MAX, liblzma::stream::CONCATENATED)?;
            Ok(Box::new(liblzma::bufread::XzDecoder::new_stream(input, stream)))
        }
        Err(other) => Err(io::Error::other(other)),
    }
}

/// Whether a file that begins so may be an archive: compressed in whatever way, or a tar.
pub fn looks_like_archive(block: &[u8]) -> bool {
    !matches!(Compression::detect(block), Ok(Compression::None)) || looks_like_tar(block)
}

/// The plain stream of one that may be compressed.
pub fn decompressed<'a>(mut input: impl BufRead + 'a) -> io::Result<Box<dyn BufRead + 'a>> {
    let mut head = Vec::with_capacity(6);
    (&mut input).take(6).read_to_end(&mut head)?;
    let compression = Compression::detect(&head).map_err(io::Error::other)?;
    let whole = io::Cursor::new(head).chain(input);
    if compression == Compression::None {
        return Ok(Box::new(whole));
    }
    Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, compression.reader(whole)?)))
}

/// Reads up to `count` bytes from the front and gives them back together with a reader of the whole.
pub(crate) fn peek<R: Read>(mut input: R, count: usize) -> io::Result<(Vec<u8>, impl Read)> {
    let mut head = Vec::with_capacity(count);
    (&mut input).take(count as u64).read_to_end(&mut head)?;
    let whole = io::Cursor::new(head.clone()).chain(input);
    Ok((head, whole))
}

/// Whether a block is a tar header (its checksum holds) or the first of an empty archive.
pub fn looks_like_tar(block: &[u8]) -> bool {
    const CHECKSUM: std::ops::Range<usize> = 148..156;
    let Some(block) = block.get(..crate::tar::BLOCK) else { return false };
    if block.iter().all(|byte| *byte == 0) {
        return true;
    }
    let digits: Vec<u8> = block[CHECKSUM]
        .iter()
        .copied()
        .skip_while(|byte| *byte == b' ')
        .take_while(u8::is_ascii_digit)
        .collect();
    let stored = std::str::from_utf8(&digits).ok().and_then(|text| u32::from_str_radix(text, 8).ok());
    let sum = |value: fn(u8) -> i64| -> i64 {
        let bytes = block.iter().enumerate();
        bytes.map(|(at, byte)| if CHECKSUM.contains(&at) { i64::from(b' ') } else { value(*byte) }).sum()
    };
    // Old writers summed signed bytes.
    stored.is_some_and(|stored| {
        i64::from(stored) == sum(i64::from) || i64::from(stored) == sum(|byte| i64::from(byte as i8))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_compressions_apart() {
        assert_eq!(Compression::detect(b"\x1f\x8b\x08"), Ok(Compression::Gzip));
        assert_eq!(Compression::detect(b"\x28\xb5\x2f\xfd\0"), Ok(Compression::Zstd));
        assert_eq!(Compression::detect(b"\x50\x2a\x4d\x18\0"), Ok(Compression::Zstd));
        assert_eq!(Compression::detect(b""), Ok(Compression::None));
        assert_eq!(Compression::detect(b"BZh9"), Err(UnsupportedCompression("bzip2")));
    }

    #[test]
    fn round_trips_concatenated_streams() {
        let plain = b"hello world".repeat(1000);
        let mut double = zstd::encode_all(&plain[..], 1).unwrap();
        double.extend(zstd::encode_all(&plain[..], 1).unwrap());
        let mut out = Vec::new();
        Compression::Zstd.reader(&double[..]).unwrap().read_to_end(&mut out).unwrap();
        assert_eq!(out.len(), 2 * plain.len());
        let gzip = |bytes: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            io::Write::write_all(&mut encoder, bytes).unwrap();
            encoder.finish().unwrap()
        };
        let double = [gzip(&plain), gzip(&plain)].concat();
        out.clear();
        Compression::Gzip.reader(&double[..]).unwrap().read_to_end(&mut out).unwrap();
        assert_eq!(out.len(), 2 * plain.len());
    }
}
