//! Between async bodies and blocking code: a body as `std::io::Read`, a `std::io::Write` as a body. In large pieces,
//! since each costs two task switches, and in bounded queues, so that the slower side sets the pace.

use bytes::{Buf, Bytes};
use corten_engine::{OthersWait, Output, STALLED, Upload};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// Size of the pieces that a writer collects before it hands them over.
const PIECE: usize = 512 * 1024;
/// How many pieces may wait for the socket.
const QUEUE: usize = 4;
/// How long a refused upload is read on, and how long it is waited for: a client that has stopped to send wants the answer.
const DRAIN_MAX: Duration = Duration::from_secs(10);
const DRAIN_IDLE: Duration = Duration::from_secs(1);

/// A request's body, to be read on a blocking thread (never on one of the runtime's own).
pub struct BodyReader {
    runtime: Handle,
    body: Incoming,
    current: Bytes,
    ended: bool,
    /// Whether somebody waits for the end of this upload.
    waited_for: Option<OthersWait>,
}

impl BodyReader {
    /// Call it from within the runtime.
    pub fn new(body: Incoming) -> Self {
        Self { runtime: Handle::current(), body, current: Bytes::new(), ended: false, waited_for: None }
    }

    /// The next piece of the body without copying; empty at its end.
    fn next_piece(&mut self) -> io::Result<Bytes> {
        while self.current.is_empty() && !self.ended {
            let came = match &self.waited_for {
                None => self.next_frame(None)?,
                Some(_) => self.next_frame(Some(STALLED))?,
            };
            if !came && self.waited_for.as_ref().is_some_and(|others_wait| others_wait()) {
                self.ended = true;
                return Err(corten_engine::stalled());
            }
        }
        Ok(std::mem::take(&mut self.current))
    }

    /// Waits for the client; false when it has sent nothing in that time.
    fn next_frame(&mut self, patience: Option<Duration>) -> io::Result<bool> {
        let frame = self.body.frame();
        let frame = self.runtime.block_on(async {
            match patience {
                None => Ok(frame.await),
                Some(patience) => tokio::time::timeout(patience, frame).await,
            }
        });
        match frame {
            Err(_) => return Ok(false),
            Ok(None) => self.ended = true,
            Ok(Some(Ok(frame))) => self.current = frame.into_data().unwrap_or_default(),
            Ok(Some(Err(error))) => {
                self.ended = true;
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, error));
            }
        }
        Ok(true)
    }

    /// Reads what is left and drops it. A client that still sends when the connection closes loses our answer with it,
    /// and with the answer the reason.
    pub fn drain(&mut self) {
        let deadline = Instant::now() + DRAIN_MAX;
        while !self.ended && Instant::now() < deadline && self.next_frame(Some(DRAIN_IDLE)).unwrap_or(false) {
            self.current.clear();
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
pub struct SharedReader {
    shared: Arc<Mutex<BodyReader>>,
    /// What this handle has taken out and not given on yet.
    current: Bytes,
}

impl SharedReader {
    pub fn new(reader: BodyReader) -> Self {
        Self { shared: Arc::new(Mutex::new(reader)), current: Bytes::new() }
    }

    pub fn drain(&self) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).drain();
    }
}

impl Upload for SharedReader {
    fn give_up_when(&mut self, others_wait: OthersWait) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).waited_for = Some(others_wait);
    }
}

impl BufRead for SharedReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.current.is_empty() {
            self.current = self.shared.lock().unwrap_or_else(PoisonError::into_inner).next_piece()?;
        }
        Ok(&self.current)
    }

    fn consume(&mut self, bytes: usize) {
        self.current.advance(bytes);
    }
}

impl Read for SharedReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let piece = self.fill_buf()?;
        let count = piece.len().min(buf.len());
        buf[..count].copy_from_slice(&piece[..count]);
        self.consume(count);
        Ok(count)
    }
}

/// A writer and the body that it fills. The pieces end when the writer is dropped.
pub fn body_writer() -> (BodyWriter, BodyPieces) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (BodyWriter { sender, buffer: Vec::with_capacity(PIECE) }, BodyPieces(receiver))
}

/// Writes into a response's body, from a blocking thread.
pub struct BodyWriter {
    sender: mpsc::Sender<Bytes>,
    buffer: Vec<u8>,
}

impl BodyWriter {
    fn send(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        self.sender.blocking_send(piece.into()).map_err(|_| io::ErrorKind::BrokenPipe.into())
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

impl Output for BodyWriter {
    /// Straight into the piece that goes out.
    fn write_from(&mut self, file: &mut File, bytes: usize) -> io::Result<usize> {
        let room = PIECE - self.buffer.len();
        let count = if bytes < room {
            file.take(bytes as u64).read_to_end(&mut self.buffer)?
        } else {
            rustix::io::read(&*file, rustix::buffer::spare_capacity(&mut self.buffer))?
        };
        if self.buffer.len() == PIECE {
            self.send()?;
        }
        Ok(count)
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
