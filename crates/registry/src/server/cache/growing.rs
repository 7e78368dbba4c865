//! A part of a blob that is still on its way: what has come is passed on, what hasn't is waited for. The blob's last bytes are only
//! given out when all of it is verified, so whoever has a whole one has the right one. When the fetch fails, the body breaks off.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::failure::Failure;
use super::fetch::Reader;
use crate::server::wire::{Marks, Outbox};

/// Bytes read at once.
const PIECE: u64 = 256 << 10;

pub struct Growing {
    size: u64,
    /// What hasn't been handed out.
    at: u64,
    end: u64,
    file: Arc<File>,
    /// None while it waits.
    reader: Option<Reader>,
    waiting: Option<Pin<Box<dyn Future<Output = Reader> + Send>>>,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    /// Where the bytes needn't pass through this process.
    marks: Option<Marks>,
}

impl Growing {
    /// Bytes at the end of a blob that wait until it is verified. A blob of no more is verified before anything is said of it.
    pub const HELD_BACK: u64 = 64 << 10;

    pub fn new(reader: Reader, file: Arc<File>, size: u64) -> Self {
        Self { size, at: 0, end: size, file, reader: Some(reader), waiting: None, reading: None, marks: None }
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// A part of it; nothing of it must have been read before.
    pub fn part(self, range: Range<u64>) -> Self {
        Self { at: range.start, end: range.end, ..self }
    }

    /// The same by way of a connection's outbox.
    pub fn by(self, outbox: &Outbox) -> Self {
        let marks = outbox.put(self.file.clone(), self.at, self.end - self.at);
        Self { marks: Some(marks), ..self }
    }

    pub fn remaining(&self) -> u64 {
        self.end - self.at
    }

    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            if self.remaining() == 0 {
                return Poll::Ready(None);
            }
            if let Some(reading) = &mut self.reading {
                let piece = ready!(Pin::new(reading).poll(cx));
                self.reading = None;
                return Poll::Ready(Some(
                    self.handed(piece.unwrap_or_else(|error| Err(io::Error::other(error)))),
                ));
            }
            if let Some(waiting) = &mut self.waiting {
                self.reader = Some(ready!(waiting.as_mut().poll(cx)));
                self.waiting = None;
            }
            let Some(reader) = &self.reader else { return Poll::Ready(None) };
            let available = match reader.available(self.size, Self::HELD_BACK) {
                Ok(available) => available.min(self.end),
                Err(failure) => return Poll::Ready(Some(self.handed(Err(broken(failure))))),
            };
            if available <= self.at {
                self.waiting = self.reader.take().map(|mut reader| {
                    Box::pin(async move {
                        reader.changed().await;
                        reader
                    }) as Pin<Box<dyn Future<Output = Reader> + Send>>
                });
            } else if let Some(marks) = &mut self.marks {
                let mark = ready!(marks.poll_up_to(cx, available - self.at));
                return Poll::Ready(mark.map(|mark| self.handed(mark)));
            } else {
                let (file, at, length) = (self.file.clone(), self.at, PIECE.min(available - self.at));
                self.reading = Some(tokio::task::spawn_blocking(move || {
                    let mut piece = vec![0; length as usize];
                    file.read_exact_at(&mut piece, at)?;
                    Ok(piece.into())
                }));
            }
        }
    }

    fn handed(&mut self, piece: io::Result<Bytes>) -> io::Result<Bytes> {
        match &piece {
            Ok(bytes) => self.at += bytes.len() as u64,
            Err(_) => self.at = self.end,
        }
        piece
    }
}

fn broken(failure: Failure) -> io::Error {
    io::Error::other(match failure {
        Failure::Gone => "the upstream doesn't have it any more".to_owned(),
        Failure::Denied(why) => why,
        Failure::Trouble(trouble) => trouble.why,
        Failure::Own(refusal) => refusal.message,
    })
}
