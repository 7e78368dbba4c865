//! A part of an object, as it comes over the wire: nothing is read ahead but what the sockets hold. Where it breaks off, the rest
//! is asked for.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use object_store::{GetOptions, GetRange, ObjectStore};

use super::S3;
use super::failure::{failed, is_missing};
use crate::server::digest::Digest;
use crate::server::storage::StorageError;

/// How often the rest is asked for without anything having come.
const TRIES: usize = 3;

/// Pieces, up to the end or to an error.
pub type Pieces = BoxStream<'static, io::Result<Bytes>>;
type Incoming = BoxStream<'static, object_store::Result<Bytes>>;

struct Reading {
    s3: Arc<S3>,
    digest: Digest,
    size: u64,
    left: Range<u64>,
    incoming: Incoming,
    tries: usize,
}

impl S3 {
    /// Bytes of a blob that has `size` of them; none when there is no such blob.
    pub async fn read(
        self: &Arc<Self>,
        digest: Digest,
        size: u64,
        range: Range<u64>,
    ) -> Result<Option<Pieces>, StorageError> {
        if range.is_empty() {
            let found = self.size(digest).await?.filter(|found| *found == size);
            return Ok(found.map(|_| futures_util::stream::empty().boxed()));
        }
        let Some(incoming) = self.get(digest, size, range.clone()).await? else { return Ok(None) };
        let reading = Reading { s3: self.clone(), digest, size, left: range, incoming, tries: 0 };
        let pieces = futures_util::stream::try_unfold(reading, |mut reading| async move {
            Ok(reading.next().await?.map(|piece| (piece, reading)))
        });
        Ok(Some(pieces.boxed()))
    }

    async fn get(
        &self,
        digest: Digest,
        size: u64,
        range: Range<u64>,
    ) -> Result<Option<Incoming>, StorageError> {
        // Also for all of it: the answer then tells the whole's size as well.
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        match self.store.get_opts(&self.object(&digest), options).await {
            Ok(found) if found.meta.size == size => Ok(Some(found.into_stream())),
            Ok(_) => Ok(None),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(failed("read blob", digest, &self.place, &error)),
        }
    }
}

impl Reading {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        while !self.left.is_empty() {
            let why = match self.incoming.next().await {
                Some(Ok(piece)) if piece.is_empty() => continue,
                Some(Ok(piece)) if piece.len() as u64 <= self.left.end - self.left.start => {
                    self.left.start += piece.len() as u64;
                    self.tries = 0;
                    return Ok(Some(piece));
                }
                Some(Ok(_)) => return Err(io::Error::other("the store sends more than was asked for")),
                Some(Err(error)) => failed("read blob", self.digest, &self.s3.place, &error).explain(),
                None => "the store's answer ended early".to_owned(),
            };
            self.tries += 1;
            if self.tries > TRIES {
                tracing::warn!(digest = %self.digest, left = ?self.left, why, "a blob breaks off");
                return Err(io::Error::other(why));
            }
            match self.s3.get(self.digest, self.size, self.left.clone()).await {
                Ok(Some(incoming)) => self.incoming = incoming,
                Ok(None) => return Err(io::ErrorKind::NotFound.into()),
                Err(error) => return Err(io::Error::other(error.explain())),
            }
        }
        Ok(None)
    }
}
