//! Request bodies: nothing, bytes, or what a reader yields.

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use std::io::{Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::sync::mpsc;

/// Pieces of an upload: large, so that the costs per piece (a task switch, a chunk header, a write) don't count.
const PIECE: usize = 512 * 1024;
/// How many pieces may lie between reader and socket.
const QUEUE: usize = 4;

/// What a request carries.
#[derive(Debug)]
pub struct Body(Kind);

#[derive(Debug)]
enum Kind {
    Whole(Option<Bytes>),
    Pieces { pieces: mpsc::Receiver<std::io::Result<Bytes>>, left: Option<u64> },
}

impl Body {
    pub fn empty() -> Self {
        Self(Kind::Whole(None))
    }

    /// Reads on a thread of its own while it is sent; `len` becomes the Content-Length when it is known.
    pub fn from_reader(mut reader: impl Read + Send + 'static, len: Option<u64>) -> Self {
        let (sender, pieces) = mpsc::channel(QUEUE);
        tokio::task::spawn_blocking(move || {
            loop {
                let mut piece = Vec::with_capacity(PIECE);
                match reader.by_ref().take(PIECE as u64).read_to_end(&mut piece) {
                    Ok(0) => break,
                    Ok(_) if sender.blocking_send(Ok(piece.into())).is_err() => break,
                    Ok(_) => {}
                    Err(e) => {
                        // Nobody listens: the request was given up already.
                        let _ = sender.blocking_send(Err(e));
                        break;
                    }
                }
            }
        });
        Self(Kind::Pieces { pieces, left: len })
    }

    /// Sends what `write` writes on a thread of its own. Its failure breaks the request off, so that nobody takes it for the end.
    pub fn from_writer(write: impl FnOnce(&mut Pieces) -> std::io::Result<()> + Send + 'static) -> Self {
        let (sender, pieces) = mpsc::channel(QUEUE);
        tokio::task::spawn_blocking(move || {
            let mut output = Pieces { sender: sender.clone(), piece: Vec::new() };
            if let Err(error) = write(&mut output).and_then(|()| output.flush()) {
                // Nobody listens: the request was given up already.
                let _ = sender.blocking_send(Err(error));
            }
        });
        Self(Kind::Pieces { pieces, left: None })
    }
}

/// The pieces of a body that a writer fills.
pub struct Pieces {
    sender: mpsc::Sender<std::io::Result<Bytes>>,
    piece: Vec<u8>,
}

impl Pieces {
    /// Writes what a file has next, up to `bytes`, straight into a piece; gives how many there were.
    pub fn write_from(&mut self, file: &mut std::fs::File, bytes: usize) -> std::io::Result<usize> {
        self.reserve();
        let room = PIECE - self.piece.len();
        let count = if bytes < room {
            file.take(bytes as u64).read_to_end(&mut self.piece)?
        } else {
            rustix::io::read(&*file, rustix::buffer::spare_capacity(&mut self.piece))?
        };
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        Ok(count)
    }

    fn reserve(&mut self) {
        if self.piece.capacity() == 0 {
            self.piece.reserve_exact(PIECE);
        }
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.reserve();
        let count = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..count]);
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let piece = std::mem::take(&mut self.piece);
        if piece.is_empty() {
            return Ok(());
        }
        self.sender.blocking_send(Ok(piece.into())).map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Kind::Whole(Some(bytes.into()).filter(|b: &Bytes| !b.is_empty())))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match &mut self.get_mut().0 {
            Kind::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Kind::Pieces { pieces, left } => {
                let piece = ready!(pieces.poll_recv(cx));
                if let (Some(left), Some(Ok(piece))) = (left, &piece) {
                    *left = left.saturating_sub(piece.len() as u64);
                }
                Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Pieces { left, .. } => *left == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Kind::Pieces { left: Some(left), .. } => SizeHint::with_exact(*left),
            Kind::Pieces { left: None, .. } => SizeHint::default(),
        }
    }
}
