//! A layer on its way from the archive to the disk: threads joined by bounded channels.
//!
//! The reader of the archive fills buffers; per layer a worker imports them while the reader goes on. A
//! compressed layer has two: one keeps the bytes as they came, hashes and decompresses them, one imports.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use super::LoadError;
use crate::blobs::{BlobError, BlobWriter, StagedBlob};
use crate::compression::Compression;
use crate::layer::{ImportOptions, ImportedLayer, LayerError};
use crate::store::{Session, Store};

const BUFFER_BYTES: usize = 256 << 10;
/// Buffers under way between two threads: 1 MiB, and as many again at rest.
const BUFFERS_MAX: usize = 4;

enum Piece {
    Data(Vec<u8>),
    /// The stream is whole. Without it the reader at the other end gets an error, not an end.
    End,
}

/// The writing end.
pub(crate) struct Feed {
    pieces: SyncSender<Piece>,
    used: Receiver<Vec<u8>>,
    broken: bool,
}

/// The reading end.
pub(crate) struct Pipe {
    pieces: Receiver<Piece>,
    used: Sender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
    ended: bool,
}

pub(crate) fn pipe() -> (Feed, Pipe) {
    let (pieces, receiver) = sync_channel(BUFFERS_MAX);
    let (used, returned) = channel();
    let feed = Feed { pieces, used: returned, broken: false };
    (feed, Pipe { pieces: receiver, used, current: Vec::new(), position: 0, ended: false })
}

impl Feed {
    /// Moves up to one buffer from `input`; 0 at its end. A reader that gave up is not an error here: its own
    /// result says why, and the archive must be read on anyway.
    pub(crate) fn fill(&mut self, input: &mut dyn Read, bytes_max: u64) -> io::Result<usize> {
        let mut buffer = self.used.try_recv().unwrap_or_default();
        let want = usize::try_from(bytes_max).unwrap_or(usize::MAX).min(BUFFER_BYTES);
        buffer.resize(want, 0);
        let mut filled = 0;
        while filled < want {
            match input.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        buffer.truncate(filled);
        if filled > 0 && !self.broken {
            self.broken = self.pieces.send(Piece::Data(buffer)).is_err();
        }
        Ok(filled)
    }

    /// The feed as a `Write`. It pretends success when nobody reads any more: the reader's own error counts.
    pub(crate) fn writer(&mut self) -> FeedWriter<'_> {
        FeedWriter { feed: self, buffer: Vec::new() }
    }

    /// Whether nobody reads any more.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    pub(crate) fn finish(self) {
        let _ = self.pieces.send(Piece::End);
    }
}

/// Collects what is written into buffers; [`Write::flush`] hands the last one over.
pub(crate) struct FeedWriter<'a> {
    feed: &'a mut Feed,
    buffer: Vec<u8>,
}

impl Write for FeedWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.capacity() == 0 {
            self.buffer = self.feed.used.try_recv().unwrap_or_default();
            self.buffer.clear();
            self.buffer.reserve(BUFFER_BYTES);
        }
        let count = bytes.len().min(BUFFER_BYTES - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == BUFFER_BYTES {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        let full = std::mem::take(&mut self.buffer);
        if !full.is_empty() && !self.feed.broken {
            self.feed.broken = self.feed.pieces.send(Piece::Data(full)).is_err();
        }
        Ok(())
    }
}

impl Pipe {
    /// Whether bytes are at hand or come; false at the end.
    fn advance(&mut self) -> io::Result<bool> {
        while self.position == self.current.len() {
            if self.ended {
                return Ok(false);
            }
            match self.pieces.recv() {
                Ok(Piece::Data(piece)) => {
                    let done = std::mem::replace(&mut self.current, piece);
                    self.position = 0;
                    let _ = self.used.send(done);
                }
                Ok(Piece::End) => self.ended = true,
                Err(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        Ok(true)
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.advance()? {
            return Ok(0);
        }
        let count = buffer.len().min(self.current.len() - self.position);
        buffer[..count].copy_from_slice(&self.current[self.position..self.position + count]);
        self.position += count;
        Ok(count)
    }
}

/// A compressed layer: its bytes, kept, and what came of unpacking them.
pub(super) struct Unpacked {
    pub blob: StagedBlob,
    /// The error tells why the blob is no layer; it may still be something else.
    pub layer: Result<ImportedLayer, LoadError>,
}

/// Keeps, decompresses and imports one layer. Runs on the layer's worker.
pub(super) fn unpack(
    object: &str,
    mut incoming: Incoming<impl Read>,
    compression: Compression,
    store: &Store,
    session: &Session<'_>,
    options: &ImportOptions,
) -> Result<Unpacked, LoadError> {
    let (mut feed, mut plain) = pipe();
    let (decompressed, imported) = thread::scope(|scope| {
        let importer = thread::Builder::new()
            .name("layer-import".to_owned())
            .spawn_scoped(scope, move || store.layers.import(&mut plain, options, &|_| {}))
            .map_err(LoadError::Thread)?;
        let decompressed = decompress(compression, &mut incoming, &mut feed);
        match &decompressed {
            Ok(()) => feed.finish(),
            Err(_) => drop(feed),
        }
        Ok::<_, LoadError>((decompressed, join(importer)))
    })?;
    if let Ok(layer) = &imported {
        // It goes when no image wants it, as when its blob turns out to be none.
        session.brought_layer(layer.id);
    }
    let kept = io::copy(&mut incoming, &mut io::sink());
    if let Some(failure) = incoming.failure {
        incoming.blob.forget();
        return Err(failure.into());
    }
    kept.map_err(LoadError::Read)?;
    let layer = match (imported, decompressed) {
        (Ok(layer), Ok(())) => Ok(layer),
        (Err(error), Ok(())) => Err(LoadError::Layer { object: object.to_owned(), source: Box::new(error) }),
        // The importer failed because its input broke off; or, after the tar's end, didn't care.
        (_, Err(error)) => Err(LoadError::NotALayer {
            object: object.to_owned(),
            reason: format!("cannot decompress it: {error}"),
        }),
    };
    Ok(Unpacked { blob: incoming.blob.finish(), layer })
}

fn decompress(compression: Compression, input: &mut dyn Read, feed: &mut Feed) -> io::Result<()> {
    let mut plain = compression.reader(input)?;
    while feed.fill(&mut plain, u64::MAX)? > 0 {
        // Nobody unpacks any more; the rest is only kept.
        if feed.is_broken() {
            break;
        }
    }
    Ok(())
}

pub(super) fn join<T>(handle: thread::ScopedJoinHandle<'_, T>) -> T {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Whether an import's error speaks of the input's format, so that the input may be something else than a layer.
pub(super) fn is_format(error: &LayerError) -> bool {
    matches!(error, LayerError::Tar(_))
}

/// A blob on its way in: what is read of it is kept and hashed. What an earlier attempt left comes first, and is not written again.
pub(super) struct Incoming<R> {
    input: R,
    blob: BlobWriter,
    failure: Option<BlobError>,
}

impl<R: Read> Incoming<R> {
    /// `input` goes on where the blob has come to.
    pub(super) fn new(input: R, blob: BlobWriter) -> Self {
        Self { input, blob, failure: None }
    }

    fn take(&mut self, buffer: &mut [u8]) -> io::Result<Result<usize, BlobError>> {
        match self.blob.replay(buffer) {
            Ok(0) => {}
            replayed => return Ok(replayed),
        }
        let count = self.input.read(buffer)?;
        Ok(self.blob.write(&buffer[..count]).map(|()| count))
    }
}

impl<R: Read> Read for Incoming<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.failure.is_some() {
            return Err(io::ErrorKind::Other.into());
        }
        match self.take(buffer)? {
            Ok(count) => Ok(count),
            Err(failure) => {
                self.failure = Some(failure);
                Err(io::ErrorKind::Other.into())
            }
        }
    }
}
