//! Between async bodies and blocking code: a body as `std::io::Read`, a `std::io::Write` as a body. In large pieces,
//! since each costs two task switches, and in bounded queues, so that the slower side sets the pace.

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// Size of the pieces that a writer collects before it hands them over.
const PIECE: usize = 512 * 1024;
/// How many pieces may wait for the socket.
const QUEUE: usize = 4;
/// How long a refused upload is read on.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// A request's body, to be read on a blocking thread (never on one of the runtime's own).
pub struct BodyReader {
    runtime: Handle,
    body: Incoming,
    current: Bytes,
    ended: bool,
}

impl BodyReader {
    /// Call it from within the runtime.
    pub fn new(body: Incoming) -> Self {
        Self { runtime: Handle::current(), body, current: Bytes::new(), ended: false }
    }

    /// The next piece of the body without copying; empty at its end.
    fn next_piece(&mut self) -> io::Result<Bytes> {
        while self.current.is_empty() && !self.ended {
            match self.runtime.block_on(self.body.frame()) {
                None => self.ended = true,
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.current = data;
                    }
                }
                Some(Err(error)) => {
                    self.ended = true;
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, error));
                }
            }
        }
        Ok(std::mem::take(&mut self.current))
    }

    /// Reads what is left and drops it. A client that still sends when the connection closes loses our answer with it,
    /// and with the answer the reason.
    pub fn drain(&mut self) {
        let deadline = Instant::now() + DRAIN_MAX;
        while Instant::now() < deadline {
            match self.next_piece() {
                Ok(piece) if !piece.is_empty() => {}
                _ => break,
            }
        }
    }
}

impl Read for BodyReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut piece = self.next_piece()?;
        let count = piece.len().min(buf.len());
        piece.copy_to_slice(&mut buf[..count]);
        self.current = piece;
        Ok(count)
    }
}

/// A reader that can be given away and still be drained afterwards; the lock is free whenever nobody reads.
#[derive(Clone)]
pub struct SharedReader(Arc<Mutex<BodyReader>>);

impl SharedReader {
    pub fn new(reader: BodyReader) -> Self {
        Self(Arc::new(Mutex::new(reader)))
    }

    pub fn drain(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).drain();
    }
}

impl Read for SharedReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).read(buf)
    }
}

/// A writer and the body that it fills. The pieces end when the writer is dropped.
pub fn body_writer() -> (BodyWriter, BodyPieces) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (BodyWriter { sender, buffer: BytesMut::with_capacity(PIECE) }, BodyPieces(receiver))
}

/// Writes into a response's body, from a blocking thread.
pub struct BodyWriter {
    sender: mpsc::Sender<Bytes>,
    buffer: BytesMut,
}

impl BodyWriter {
    fn send(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.buffer, BytesMut::with_capacity(PIECE)).freeze();
        self.sender.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE - self.buffer.len();
        let count = bytes.len().min(room);
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == PIECE {
            self.send()?;
        }
        Ok(count)
    }

    /// Hands over what is collected.
    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

impl Drop for BodyWriter {
    fn drop(&mut self) {
        // The reader being gone is its own choice.
        let _ = self.send();
    }
}

/// The pieces that a `BodyWriter` wrote.
pub struct BodyPieces(mpsc::Receiver<Bytes>);

impl BodyPieces {
    /// None when the writer is gone.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.0.recv().await
    }
}
