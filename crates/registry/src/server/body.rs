//! Response bodies: nothing, bytes, a blob that streams from the storage, or lines as they come.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::cache::{Growing, Passing, Reading};
use super::storage::BlobStream;
use super::wire::{Marks, Outbox};

/// Bytes passed on at once of those that take room.
const PIECE: usize = 64 << 10;

/// An error in a stream breaks the connection off, so that no client takes it for the end.
pub struct Body {
    kind: Kind,
    /// What keeps the blob where it is.
    _reading: Option<Reading>,
}

enum Kind {
    Whole(Bytes),
    /// With the room that it takes in memory, until it is sent.
    Held {
        bytes: Bytes,
        _room: OwnedSemaphorePermit,
    },
    Blob(BlobStream),
    Marks(Marks),
    /// A blob of an upstream that is still coming.
    Growing(Box<Growing>),
    /// One that isn't kept.
    Passing(Passing),
    Lines(mpsc::Receiver<Bytes>),
}

impl Kind {
    fn body(self) -> Body {
        Body { kind: self, _reading: None }
    }
}

impl Body {
    pub fn empty() -> Body {
        Kind::Whole(Bytes::new()).body()
    }

    /// Bytes that hold the room which they take until they are sent.
    pub fn with_room(bytes: Bytes, room: OwnedSemaphorePermit) -> Body {
        Kind::Held { bytes, _room: room }.body()
    }

    pub fn blob(stream: BlobStream) -> Body {
        Kind::Blob(stream).body()
    }

    /// A blob that isn't given up meanwhile.
    pub fn kept_blob(stream: BlobStream, reading: Reading) -> Body {
        Body { kind: Kind::Blob(stream), _reading: Some(reading) }
    }

    pub fn growing(blob: Growing) -> Body {
        Kind::Growing(Box::new(blob)).body()
    }

    pub fn passing(blob: Passing) -> Body {
        Kind::Passing(blob).body()
    }

    /// A blob that is a file goes by way of the connection's outbox, anything else as it is.
    pub fn by(self, outbox: &Outbox) -> Body {
        let kind = match self.kind {
            Kind::Blob(stream) => stream.by(outbox).map_or_else(Kind::Blob, Kind::Marks),
            Kind::Growing(blob) => Kind::Growing(Box::new(blob.by(outbox))),
            other => other,
        };
        Body { kind, ..self }
    }

    /// Ends when nobody is left who could send more.
    pub fn lines(lines: mpsc::Receiver<Bytes>) -> Body {
        Kind::Lines(lines).body()
    }
}

impl<B: Into<Bytes>> From<B> for Body {
    fn from(bytes: B) -> Body {
        Kind::Whole(bytes.into()).body()
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.get_mut().kind {
            Kind::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Kind::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Kind::Held { bytes, .. } if bytes.is_empty() => Poll::Ready(None),
            // In pieces: what was passed on counts as sent, and hyper passes on no more than it can hold.
            Kind::Held { bytes, .. } => {
                let piece = bytes.split_to(bytes.len().min(PIECE));
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Kind::Blob(stream) => stream.poll_next(cx).map(|piece| piece.map(|p| p.map(Frame::data))),
            Kind::Marks(marks) => marks.poll_next(cx).map(|mark| mark.map(|m| m.map(Frame::data))),
            Kind::Growing(blob) => blob.poll_next(cx).map(|piece| piece.map(|p| p.map(Frame::data))),
            Kind::Passing(blob) => blob.poll_next(cx).map(|piece| piece.map(|p| p.map(Frame::data))),
            Kind::Lines(lines) => lines.poll_recv(cx).map(|line| line.map(|line| Ok(Frame::data(line)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(bytes) | Kind::Held { bytes, .. } => bytes.is_empty(),
            Kind::Blob(stream) => stream.remaining() == 0,
            Kind::Marks(marks) => marks.remaining() == 0,
            Kind::Growing(blob) => blob.remaining() == 0,
            Kind::Passing(blob) => blob.remaining() == 0,
            Kind::Lines(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(bytes) | Kind::Held { bytes, .. } => SizeHint::with_exact(bytes.len() as u64),
            Kind::Blob(stream) => SizeHint::with_exact(stream.remaining()),
            Kind::Marks(marks) => SizeHint::with_exact(marks.remaining()),
            Kind::Growing(blob) => SizeHint::with_exact(blob.remaining()),
            Kind::Passing(blob) => SizeHint::with_exact(blob.remaining()),
            Kind::Lines(_) => SizeHint::default(),
        }
    }
}
