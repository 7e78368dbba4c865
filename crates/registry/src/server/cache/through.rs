//! A blob that goes straight from the upstream to one client, as there is no room for it here. Always from its first byte on, since
//! its last ones are held back until all of it is verified.

use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::failure::Failure;
use super::upstream::Source;
use crate::client::Download;
use crate::server::digest::{Digest, Hasher};

/// Pieces of up to 64 KiB that wait for the client.
const QUEUE: usize = 8;

/// It has been asked for, and is there.
pub struct Through {
    source: Source,
    digest: Digest,
    download: Download,
}

impl Through {
    pub async fn open(source: &Source, digest: Digest) -> Result<Self, Failure> {
        let wanted = super::asked(&digest)?;
        let download = source.open().await?.open(&wanted).await?;
        if download.size() == 0 && digest != Digest::of(digest.algorithm(), &[]) {
            let status = hyper::StatusCode::BAD_GATEWAY;
            let why = format!("it gives nothing for {digest}");
            return Err(Failure::Trouble(super::failure::Trouble::new(status, why)));
        }
        Ok(Self { source: source.clone(), digest, download })
    }

    pub fn size(&self) -> u64 {
        self.download.size()
    }

    /// Lets a part of it come.
    pub fn part(self, range: Range<u64>) -> Passing {
        let (pieces, queue) = mpsc::channel(QUEUE);
        let remaining = range.end - range.start;
        tokio::spawn(self.pass(range, pieces));
        Passing { queue, remaining }
    }

    async fn pass(mut self, range: Range<u64>, pieces: mpsc::Sender<io::Result<Bytes>>) {
        let passed = self.try_pass(range, &pieces).await;
        if let Err(failure) = passed {
            self.source.note_failure(&self.digest.to_string(), &failure);
            // Nobody may be reading any more.
            let _ = pieces.send(Err(io::Error::other("the upstream failed"))).await;
        }
    }

    async fn try_pass(
        &mut self,
        range: Range<u64>,
        pieces: &mpsc::Sender<io::Result<Bytes>>,
    ) -> Result<(), Failure> {
        let _turn = super::fetch::turn(&self.source).await?;
        let mut hasher = Hasher::new(self.digest.algorithm());
        let (mut at, mut held) = (0, Bytes::new());
        while let Some(bytes) = self.download.chunk().await? {
            hasher.update(&bytes);
            let counts = &self.source.upstream.counts;
            counts.fetched_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            let (start, length) = (at, bytes.len() as u64);
            at += length;
            let cut = |edge: u64| edge.clamp(start, start + length) - start;
            let wanted = bytes.slice(cut(range.start) as usize..cut(range.end) as usize);
            if wanted.is_empty() {
                continue;
            }
            let before = std::mem::replace(&mut held, wanted);
            if !before.is_empty() && pieces.send(Ok(before)).await.is_err() {
                return Ok(());
            }
        }
        if hasher.digest() != self.digest {
            self.download.distrust();
            let why = format!("the bytes that it gives for {} are others", self.digest);
            let status = hyper::StatusCode::BAD_GATEWAY;
            return Err(Failure::Trouble(super::failure::Trouble::new(status, why)));
        }
        let _ = pieces.send(Ok(held)).await;
        Ok(())
    }
}

/// The part on its way.
pub struct Passing {
    queue: mpsc::Receiver<io::Result<Bytes>>,
    remaining: u64,
}

impl Passing {
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.remaining == 0 {
            return Poll::Ready(None);
        }
        let piece = ready!(self.queue.poll_recv(cx));
        let piece = piece.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()));
        match &piece {
            Ok(bytes) => self.remaining -= (bytes.len() as u64).min(self.remaining),
            Err(_) => self.remaining = 0,
        }
        Poll::Ready(Some(piece))
    }
}
