//! A part of a blob, piece by piece: of a file, one piece is read ahead while the one before goes over the wire.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::s3::Pieces;
use crate::server::wire::{Marks, Outbox};

/// Bytes read at once. Two such pieces, and what the socket takes, are all the memory that a download needs.
const PIECE: u64 = 256 << 10;

pub struct BlobStream {
    source: Source,
    /// What hasn't been handed out.
    remaining: u64,
}

enum Source {
    File(Reading),
    Pieces(Pieces),
}

struct Reading {
    file: Arc<File>,
    /// Where the next piece begins.
    at: u64,
    end: u64,
    ahead: Option<JoinHandle<io::Result<Bytes>>>,
}

impl BlobStream {
    pub(super) fn file(file: Arc<File>, range: Range<u64>) -> BlobStream {
        let remaining = range.end - range.start;
        let reading = Reading { file, at: range.start, end: range.end, ahead: None };
        BlobStream { source: Source::File(reading), remaining }
    }

    pub(super) fn pieces(pieces: Pieces, length: u64) -> BlobStream {
        BlobStream { source: Source::Pieces(pieces), remaining: length }
    }

    /// The same by way of a connection's outbox, where it is a file; nothing of it must have been read before.
    pub fn by(self, outbox: &Outbox) -> Result<Marks, BlobStream> {
        match self.source {
            Source::File(reading) => Ok(outbox.put(reading.file, reading.at, self.remaining)),
            Source::Pieces(_) => Err(self),
        }
    }

    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.remaining == 0 {
            return Poll::Ready(None);
        }
        let piece = match &mut self.source {
            Source::File(reading) => ready!(reading.poll_next(cx)),
            Source::Pieces(pieces) => match ready!(pieces.as_mut().poll_next(cx)) {
                Some(piece) => piece,
                None => Err(io::ErrorKind::UnexpectedEof.into()),
            },
        };
        match &piece {
            Ok(bytes) => self.remaining -= bytes.len() as u64,
            Err(_) => self.remaining = 0,
        }
        Poll::Ready(Some(piece))
    }
}

impl Reading {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let mut reading = self.ahead.take().unwrap_or_else(|| self.read());
        let piece = match Pin::new(&mut reading).poll(cx) {
            Poll::Pending => {
                self.ahead = Some(reading);
                return Poll::Pending;
            }
            Poll::Ready(Ok(piece)) => piece,
            Poll::Ready(Err(error)) => Err(io::Error::other(error)),
        };
        if piece.is_ok() {
            self.ahead = (self.at < self.end).then(|| self.read());
        }
        Poll::Ready(piece)
    }

    fn read(&mut self) -> JoinHandle<io::Result<Bytes>> {
        let (file, at, length) = (self.file.clone(), self.at, PIECE.min(self.end - self.at));
        self.at += length;
        tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; length as usize];
            file.read_exact_at(&mut piece, at)?;
            Ok(piece.into())
        })
    }
}
