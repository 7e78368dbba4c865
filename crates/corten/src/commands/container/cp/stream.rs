//! Archives between a connection and the files of this host: the one side waits in the event loop, the other on a thread.

use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use corten_api::client::{Body, Pieces, Response};
use corten_image::files::{Input, Output, PackError, Source, pack};
use indicatif::ProgressBar;
use tokio::sync::mpsc;

use crate::cli::Failure;

/// How many pieces may lie between socket and file.
const QUEUE: usize = 8;

/// Counts what goes by.
#[derive(Clone)]
pub struct Meter {
    bytes: Arc<AtomicU64>,
    bar: Option<ProgressBar>,
}

impl Meter {
    pub fn new(bar: Option<ProgressBar>) -> Meter {
        Meter { bytes: Arc::default(), bar }
    }

    pub fn bytes(&self) -> i64 {
        i64::try_from(self.bytes.load(Ordering::Relaxed)).unwrap_or(i64::MAX)
    }

    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn count(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.inc(bytes as u64);
        }
    }
}

/// A piece of an archive; none is its end, without which it broke off.
type Piece = Option<Vec<u8>>;

/// What comes in, for a thread that reads.
pub struct Incoming {
    pieces: mpsc::Receiver<Piece>,
    current: Vec<u8>,
    position: usize,
    ended: bool,
    meter: Meter,
}

/// The other end of [`Incoming`].
pub struct Feed(mpsc::Sender<Piece>);

impl Incoming {
    pub fn new(meter: Meter) -> (Feed, Incoming) {
        let (sender, pieces) = mpsc::channel(QUEUE);
        (Feed(sender), Incoming { pieces, current: Vec::new(), position: 0, ended: false, meter })
    }
}

impl Feed {
    /// Hands over a whole body. A reader that gave up is no failure here: its own result says why.
    pub async fn all(self, body: &mut Response) -> Result<(), Failure> {
        while let Some(piece) = body.chunk().await? {
            if self.0.send(Some(piece.into())).await.is_err() {
                return Ok(());
            }
        }
        let _ = self.0.send(None).await;
        Ok(())
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = self.fill_buf()?;
        let count = buffer.len().min(piece.len());
        buffer[..count].copy_from_slice(&piece[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Incoming {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.position == self.current.len() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Some(piece)) => (self.current, self.position) = (piece, 0),
                Some(None) => self.ended = true,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        Ok(&self.current[self.position..])
    }

    fn consume(&mut self, bytes: usize) {
        self.position += bytes;
        self.meter.count(bytes);
    }
}

/// Why an archive could not be made, for whoever only sees that its request was broken off.
#[derive(Clone, Default)]
pub struct Trouble(Arc<Mutex<Option<String>>>);

impl Trouble {
    pub fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A body that is packed while it is sent.
pub fn packed(source: Source, meter: Meter) -> (Body, Trouble) {
    let trouble = Trouble::default();
    let told = trouble.clone();
    let body = Body::from_writer(move |output: &mut Pieces| {
        let mut counted = Counted { inner: Sent(output), meter };
        pack(source, &mut counted).map_err(|error| match error {
            PackError::Write(error) => error,
            PackError::Read { .. } => {
                let text = in_full(&error);
                *told.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(text.clone());
                io::Error::other(text)
            }
        })
    });
    (body, trouble)
}

/// What becomes a request's body.
struct Sent<'a>(&'a mut Pieces);

impl Write for Sent<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Output for Sent<'_> {
    fn write_from(&mut self, file: &mut File, bytes: usize) -> io::Result<usize> {
        self.0.write_from(file, bytes)
    }
}

pub fn in_full(error: &PackError) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}")
}

/// One end of an archive, and what goes through it counted.
pub struct Counted<T> {
    pub inner: T,
    pub meter: Meter,
}

impl<T: Write> Write for Counted<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.meter.count(count);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Output> Output for Counted<T> {
    fn write_from(&mut self, file: &mut File, bytes: usize) -> io::Result<usize> {
        let count = self.inner.write_from(file, bytes)?;
        self.meter.count(count);
        Ok(count)
    }
}

impl<T: Read> Read for Counted<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.meter.count(count);
        Ok(count)
    }
}

impl<T: BufRead> BufRead for Counted<T> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, bytes: usize) {
        self.inner.consume(bytes);
        self.meter.count(bytes);
    }
}

impl<T: Input> Input for Counted<T> {
    fn copy_to(&mut self, file: &File, at: u64, bytes: u64) -> io::Result<u64> {
        let count = self.inner.copy_to(file, at, bytes)?;
        self.meter.count(usize::try_from(count).unwrap_or(usize::MAX));
        Ok(count)
    }
}
