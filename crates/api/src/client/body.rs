//! Request bodies: nothing, bytes, or what a reader yields.

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use std::io::Read;
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
