//! Compressing a stream on several threads: it is cut into pieces of one size, each becomes a gzip member or a zstd frame, and these
//! follow each other (RFC 1952, section 2.2; RFC 8878, section 3). So the result is the same whatever the number of threads.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use libdeflater::{CompressionLvl, Compressor};

use crate::compression::Compression;
use crate::manifest::media;

/// Bytes of the stream per member or frame: larger ones are hardly any smaller.
const PIECE_BYTES: usize = 1 << 20;
/// libdeflate's level 4 makes what zlib's level 6 makes, in half the time.
const GZIP_LEVEL: i32 = 4;
/// As small as gzip, and five times as fast.
const ZSTD_LEVEL: i32 = 2;

/// How layers are compressed for a registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// What every engine reads.
    #[default]
    Gzip,
    /// What engines of the last years read (Docker since 23).
    Zstd,
}

impl Format {
    pub fn layer_media_type(self) -> &'static str {
        match self {
            Format::Gzip => media::OCI_LAYER_GZIP,
            Format::Zstd => media::OCI_LAYER_ZSTD,
        }
    }

    pub fn compression(self) -> Compression {
        match self {
            Format::Gzip => Compression::Gzip,
            Format::Zstd => Compression::Zstd,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Gzip => "gzip",
            Format::Zstd => "zstd",
        })
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Format, String> {
        match text {
            "gzip" => Ok(Format::Gzip),
            "zstd" => Ok(Format::Zstd),
            _ => Err(format!("unknown compression {text:?}: use gzip or zstd")),
        }
    }
}

/// A piece on its way to a thread, and where that puts what it makes of it.
type Job = (Vec<u8>, SyncSender<io::Result<Vec<u8>>>);

/// Compresses what `produce` writes, into `output`, on so many threads besides the caller's.
///
/// # Errors
/// Of `output`, which `produce` sees as a broken pipe; else of `produce`.
pub fn compress(
    format: Format,
    threads: usize,
    output: &mut (dyn Write + Send),
    produce: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let threads = threads.max(1);
    let (jobs, queue) = sync_channel::<Job>(threads);
    let (made, order) = sync_channel::<Receiver<io::Result<Vec<u8>>>>(threads * 2);
    let queue = Mutex::new(queue);
    thread::scope(|scope| {
        for _ in 0..threads {
            thread::Builder::new()
                .name("compress".to_owned())
                .spawn_scoped(scope, || work(format, &queue))?;
        }
        let writer = thread::Builder::new().name("compressed".to_owned()).spawn_scoped(scope, || {
            // Ends, and with it whoever waits to hand something over, at the first failure.
            for piece in order {
                output.write_all(&piece.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))?)?;
            }
            output.flush()
        })?;
        let mut cutter = Cutter { piece: Vec::new(), jobs, made, any: false };
        let produced = produce(&mut cutter).and_then(|()| cutter.finish());
        drop(cutter);
        // The producer only meets the closed pipe.
        writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).and(produced)
    })
}

fn work(format: Format, queue: &Mutex<Receiver<Job>>) {
    // `new` is certain for levels that exist.
    let mut gzip = CompressionLvl::new(GZIP_LEVEL).ok().map(Compressor::new);
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((piece, made)) = job else { return };
        let compressed = match (format, &mut gzip) {
            (Format::Gzip, Some(gzip)) => member(gzip, &piece),
            (Format::Gzip, None) => Err(io::Error::other("the compressor has no such level")),
            (Format::Zstd, _) => zstd::bulk::compress(&piece, ZSTD_LEVEL),
        };
        // Nobody waits for it after a failure.
        let _ = made.send(compressed);
    }
}

fn member(compressor: &mut Compressor, piece: &[u8]) -> io::Result<Vec<u8>> {
    let mut compressed = vec![0; compressor.gzip_compress_bound(piece.len())];
    let size = compressor.gzip_compress(piece, &mut compressed).map_err(io::Error::other)?;
    compressed.truncate(size);
    Ok(compressed)
}

/// Cuts the stream into pieces and hands them out.
struct Cutter {
    piece: Vec<u8>,
    jobs: SyncSender<Job>,
    made: SyncSender<Receiver<io::Result<Vec<u8>>>>,
    any: bool,
}

impl Cutter {
    fn hand_out(&mut self) -> io::Result<()> {
        let closed = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        let (made, piece) = sync_channel(1);
        self.any = true;
        self.made.send(piece).map_err(closed)?;
        let full = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        self.jobs.send((full, made)).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }

    /// The rest; a stream of nothing is one member, too.
    fn finish(&mut self) -> io::Result<()> {
        if self.piece.is_empty() && self.any { Ok(()) } else { self.hand_out() }
    }
}

impl Write for Cutter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.capacity() == 0 {
            self.piece.reserve_exact(PIECE_BYTES);
        }
        let count = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..count]);
        if self.piece.len() == PIECE_BYTES {
            self.hand_out()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn compressed(format: Format, threads: usize, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        compress(format, threads, &mut out, |sink| {
            bytes.chunks(70_001).try_for_each(|part| sink.write_all(part))
        })
        .unwrap();
        out
    }

    #[test]
    fn streams_come_back_and_do_not_depend_on_threads() {
        let text: Vec<u8> =
            (0..3_000_000_u32).flat_map(|n| [(n >> 3) as u8, (n.wrapping_mul(n) >> 7) as u8]).collect();
        for bytes in [&b""[..], b"a", &text[..PIECE_BYTES], &text] {
            for format in [Format::Gzip, Format::Zstd] {
                let one = compressed(format, 1, bytes);
                assert_eq!(one, compressed(format, 5, bytes), "{format}");
                let mut back = Vec::new();
                format.compression().reader(&one[..]).unwrap().read_to_end(&mut back).unwrap();
                assert_eq!(back, bytes, "{format}");
                assert_eq!(Compression::detect(&one), Ok(format.compression()));
            }
        }
    }

    #[test]
    fn failures_of_either_end_come_out() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let many = |sink: &mut dyn Write| (0..64).try_for_each(|_| sink.write_all(&[7; PIECE_BYTES]));
        let error = compress(Format::Gzip, 2, &mut Full, many).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let error = compress(Format::Zstd, 2, &mut Vec::new(), |sink| {
            many(sink)?;
            Err(io::Error::from(io::ErrorKind::NotFound))
        });
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
