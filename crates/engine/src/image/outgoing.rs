//! Blobs on their way to whoever takes them in large pieces.

use std::io::{self, Write};

use bytes::{Bytes, BytesMut};
use corten_image::{Digest, Outgoing};

/// What is handed over at once.
pub const PIECE_BYTES: usize = 256 << 10;

/// Where the pieces of a blob go, in their order.
pub trait Taker: Send {
    fn send(&mut self, piece: Bytes) -> io::Result<()>;

    /// Nothing more comes: it is to be this.
    fn finish(self, digest: &Digest) -> io::Result<()>;
}

/// What is written becomes pieces.
pub struct InPieces<T> {
    taker: T,
    pending: BytesMut,
}

impl<T: Taker> InPieces<T> {
    pub fn new(taker: T) -> InPieces<T> {
        InPieces { taker, pending: BytesMut::with_capacity(PIECE_BYTES) }
    }
}

impl<T: Taker> Write for InPieces<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE_BYTES - self.pending.len());
        self.pending.extend_from_slice(&bytes[..count]);
        if self.pending.len() == PIECE_BYTES {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.pending, BytesMut::with_capacity(PIECE_BYTES));
        self.taker.send(full.freeze())
    }
}

impl<T: Taker> Outgoing for InPieces<T> {
    fn finish(mut self: Box<Self>, digest: &Digest) -> io::Result<()> {
        self.flush()?;
        self.taker.finish(digest)
    }
}
