//! Blobs of the asker's, by their digest: an image layout in a directory, say. They are asked for one by one, and what comes is checked
//! by whoever asked.

use std::io;

use async_trait::async_trait;
use bytes::Bytes;
use corten_image::Digest;
use futures_util::stream::BoxStream;

/// A store of blobs, over whatever it is reached.
#[async_trait]
pub trait Content: Send + Sync {
    /// A blob's length in bytes; none where it isn't there.
    async fn size(&self, digest: &Digest) -> io::Result<Option<u64>>;

    /// A blob's bytes from `offset` on, piece by piece.
    async fn read(&self, digest: &Digest, offset: u64) -> io::Result<ContentPieces>;

    /// Begins to write a blob.
    async fn write(&self) -> io::Result<Box<dyn ContentWriter>>;
}

pub type ContentPieces = BoxStream<'static, io::Result<Bytes>>;

/// A blob on its way; dropped unfinished, nothing of it stays.
#[async_trait]
pub trait ContentWriter: Send {
    async fn send(&mut self, bytes: Bytes) -> io::Result<()>;

    /// The blob is whole; it is there if it is what its digest says.
    async fn finish(self: Box<Self>, digest: &Digest) -> io::Result<()>;
}
