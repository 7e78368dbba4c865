//! A range of a blob that is fetched before it is needed, into memory that is reserved for it.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use corten_image::manifest::Descriptor;
use hyper::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::AbortHandle;

use super::super::repository::Repository;
use super::check_range;
use crate::{Cause, Error, Result};

/// Large enough that a way by the registry to its object storage is not what takes the time.
pub(super) const PIECE_BYTES: u64 = 8 << 20;
/// Beside the one that is being read.
pub(super) const PIECES_MAX: usize = 3;
/// Of all downloads of a client together.
pub(crate) const PIECES_OF_CLIENT_MAX: usize = 4;
/// What is handed over at once: so that the queue has a bound however small the pieces are that the server sends.
const BLOCK_BYTES: usize = 64 << 10;
/// All blocks of a piece, the last one being shorter, and the word that it has begun.
const QUEUE_LENGTH: usize = PIECE_BYTES as usize / BLOCK_BYTES + 2;

pub(super) struct Piece {
    range: Range<u64>,
    /// What was taken out of it.
    taken: u64,
    queue: mpsc::Receiver<Result<Bytes>>,
    task: AbortHandle,
    _memory: OwnedSemaphorePermit,
}

impl Piece {
    /// Begins to fetch a range; `None` where others have all the memory or connections.
    pub fn fetch(repository: &Repository, blob: &Descriptor, range: Range<u64>) -> Option<Self> {
        let memory = repository.inner.shared.pieces.clone().try_acquire_owned().ok()?;
        let (sender, queue) = mpsc::channel(QUEUE_LENGTH);
        let (repository, blob, wanted) = (repository.clone(), blob.clone(), range.clone());
        let task = tokio::spawn(async move {
            if let Err(error) = fetch(&repository, &blob, wanted, &sender).await {
                let _ = sender.send(Err(error)).await;
            }
        });
        Some(Self { range, taken: 0, queue, task: task.abort_handle(), _memory: memory })
    }

    pub fn start(&self) -> u64 {
        self.range.start
    }

    pub fn end(&self) -> u64 {
        self.range.end
    }

    /// Waits until the server has agreed to give the range.
    pub async fn has_begun(&mut self) -> bool {
        matches!(self.queue.recv().await, Some(Ok(_)))
    }

    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        let next = self.queue.recv().await.transpose()?;
        self.taken += next.as_ref().map_or(0, |bytes| bytes.len() as u64);
        Ok(next)
    }

    pub fn is_done(&self) -> bool {
        self.start() + self.taken >= self.end()
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn fetch(
    repository: &Repository,
    blob: &Descriptor,
    range: Range<u64>,
    queue: &mpsc::Sender<Result<Bytes>>,
) -> Result<()> {
    let (answer, _) = repository.blob(blob, range.start, Some(range.end)).await?;
    let gone = |why: &str| Error::Unreachable {
        url: format!("{} (blob {})", repository.name(), blob.digest),
        cause: Cause::Broken,
        why: why.to_owned(),
    };
    if answer.status != StatusCode::PARTIAL_CONTENT {
        return Err(gone("the registry gives no parts of blobs"));
    }
    check_range(&answer, &range, blob.size)?;
    // An empty block says that it has begun.
    if queue.send(Ok(Bytes::new())).await.is_err() {
        return Ok(());
    }
    let mut body = answer.body;
    let mut left = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    let mut block = BytesMut::with_capacity(BLOCK_BYTES.min(left));
    while left > 0 {
        let Some(mut bytes) = body.chunk().await? else { return Err(gone("the connection ended early")) };
        bytes.truncate(left);
        left -= bytes.len();
        while !bytes.is_empty() {
            let fits = bytes.split_to(bytes.len().min(BLOCK_BYTES - block.len()));
            block.extend_from_slice(&fits);
            if block.len() == BLOCK_BYTES || (left == 0 && bytes.is_empty()) {
                let whole = std::mem::replace(
                    &mut block,
                    BytesMut::with_capacity(BLOCK_BYTES.min(left + bytes.len())),
                );
                if queue.send(Ok(whole.freeze())).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
    // So that the connection can be used again.
    let _ = body.chunk().await;
    Ok(())
}
