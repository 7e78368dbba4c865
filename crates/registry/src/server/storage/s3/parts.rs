//! Objects that go up in parts, several at once. What was begun is noted in a file of the registry's directory before the store
//! hears of it: `parts/<algorithm>-<hex>`, with the upload's id in it as soon as that is known.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use object_store::PutPayload;
use object_store::multipart::{MultipartStore, PartId};
use tokio::task::JoinSet;

use super::failure::{failed, is_missing};
use super::list::Parts;
use super::{PART, PART_MAX, PARTS_MAX, S3, Unsent};
use crate::server::digest::{Algorithm, Digest};
use crate::server::storage::{self, StorageError, blocking};

/// Of one object at once.
const AT_ONCE: usize = 4;

/// How long each part but the last is; none where an object would have too many.
fn part_length(size: u64) -> Option<u64> {
    // Whole MiB, so that a part needs no more memory than it says.
    let least = size.div_ceil(PARTS_MAX).next_multiple_of(1 << 20);
    Some(least.max(PART)).filter(|length| *length <= PART_MAX)
}

impl S3 {
    pub(super) async fn put_in_parts(
        self: &Arc<Self>,
        file: Arc<File>,
        size: u64,
        digest: Digest,
    ) -> Result<(), StorageError> {
        let length = part_length(size).ok_or_else(|| StorageError::Refused {
            step: "put blob",
            object: digest.to_string(),
            why: format!("{}: it is larger than {} GiB", self.place, (PARTS_MAX * PART_MAX) >> 30),
        })?;
        let tell = |step| move |error| failed(step, digest, &self.place, &error);
        let object = self.object(&digest);
        self.note(digest, None).await?;
        let id = self.store.create_multipart(&object).await.map_err(tell("begin blob"))?;
        self.note(digest, Some(id.clone())).await?;
        let put = match self.put_parts(file, size, length, digest, &id).await {
            Ok(parts) => {
                let done = self.store.complete_multipart(&object, &id, parts).await;
                done.map(drop).map_err(tell("put together blob"))
            }
            Err(error) => Err(error),
        };
        match put {
            Ok(()) => self.forget(digest).await,
            // It may have been put together all the same, and then there are no parts any more.
            Err(error) => match self.abort(&Parts { digest, id }).await {
                Ok(()) if self.size(digest).await.ok().flatten() == Some(size) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// All parts of a file, in their order. When this returns, none is on its way.
    async fn put_parts(
        self: &Arc<Self>,
        file: Arc<File>,
        size: u64,
        length: u64,
        digest: Digest,
        id: &str,
    ) -> Result<Vec<PartId>, StorageError> {
        let count = size.div_ceil(length) as usize;
        let mut put: Vec<Option<PartId>> = vec![None; count];
        let mut failure = None;
        let mut next = 0;
        let mut under_way = JoinSet::new();
        loop {
            while failure.is_none() && next < count && under_way.len() < AT_ONCE {
                let (s3, file, object, id) =
                    (self.clone(), file.clone(), self.object(&digest), id.to_owned());
                let (index, at) = (next, next as u64 * length);
                under_way.spawn(async move {
                    let sent = s3.send(file, at, length.min(size - at), move |s3, bytes| async move {
                        s3.store.put_part(&object, &id, index, PutPayload::from_bytes(bytes)).await
                    });
                    (index, sent.await)
                });
                next += 1;
            }
            match under_way.join_next().await {
                None => break,
                Some(Ok((index, Ok(part)))) => put[index] = Some(part),
                Some(Ok((_, Err(error)))) => failure = failure.or(Some(error)),
                Some(Err(_)) => failure = failure.or(Some(Unsent::GivenUp)),
            }
        }
        match failure {
            Some(error) => Err(error.told("put blob", digest, &self.place)),
            None => put.into_iter().collect::<Option<_>>().ok_or(StorageError::GivenUp),
        }
    }

    /// Has the store forget the parts of an upload that nobody goes on with. One that is over is no error.
    async fn abort(&self, parts: &Parts) -> Result<(), StorageError> {
        let Parts { digest, id } = parts;
        match self.store.abort_multipart(&self.object(digest), id).await {
            Err(error) if !is_missing(&error) => {
                self.set_untidy(true);
                Err(failed("give up blob", digest, &self.place, &error))
            }
            _ => self.forget(*digest).await,
        }
    }

    /// Blobs of which uploads in parts were begun, as notes here and the store tell; each once.
    pub async fn unfinished(&self) -> Result<Vec<Digest>, StorageError> {
        let mut found: BTreeSet<Digest> = self.noted().await?.into_iter().map(|(digest, _)| digest).collect();
        found.extend(self.parts(self.blobs_prefix()).await?.into_iter().map(|parts| parts.digest));
        Ok(found.into_iter().collect())
    }

    /// Has nothing left of uploads in parts of a blob that is just put by nobody. True if there were any.
    pub async fn give_up(&self, digest: Digest) -> Result<bool, StorageError> {
        // Some stores tell of uploads only by their whole name; others of none, and then the note has to do.
        let mut parts = self.parts(self.object(&digest).to_string()).await?;
        let noted = self.noted().await?.into_iter().find(|(noted, _)| *noted == digest);
        if let Some((_, Some(id))) = noted
            && parts.iter().all(|known| known.id != id)
        {
            parts.push(Parts { digest, id });
        }
        for parts in &parts {
            self.abort(parts).await?;
        }
        self.forget(digest).await?;
        Ok(!parts.is_empty())
    }

    /// Uploads in parts that were begun and are noted here; some never got an id that we know.
    async fn noted(&self) -> Result<Vec<(Digest, Option<String>)>, StorageError> {
        let notes = self.notes.clone();
        blocking(move || {
            let mut found = Vec::new();
            let open = |source| storage::failed("list", notes.display())(source);
            for entry in fs::read_dir(&notes).map_err(open)? {
                let entry = entry.map_err(open)?;
                let name = entry.file_name();
                let digest = name
                    .to_str()
                    .and_then(|name| name.split_once('-'))
                    .and_then(|(algorithm, hex)| Digest::from_hex(algorithm.parse::<Algorithm>().ok()?, hex));
                let Some(digest) = digest else { continue };
                let id = fs::read_to_string(entry.path()).map_err(open)?;
                found.push((digest, Some(id).filter(|id| !id.is_empty())));
            }
            Ok(found)
        })
        .await
    }

    fn note_of(&self, digest: Digest) -> PathBuf {
        self.notes.join(format!("{}-{}", digest.algorithm().name(), digest.hex()))
    }

    async fn note(&self, digest: Digest, id: Option<String>) -> Result<(), StorageError> {
        let path = self.note_of(digest);
        blocking(move || {
            fs::write(&path, id.unwrap_or_default()).map_err(storage::failed("write", path.display()))
        })
        .await
    }

    /// Forgets what was begun of a blob.
    async fn forget(&self, digest: Digest) -> Result<(), StorageError> {
        let path = self.note_of(digest);
        blocking(move || match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(storage::failed("remove", path.display())(error))
            }
            _ => Ok(()),
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_as_s3_takes_them() {
        const MIB: u64 = 1 << 20;
        for (size, length) in [
            (PART + 1, Some(PART)),
            (80_000 * MIB, Some(PART)),
            (80_000 * MIB + 1, Some(9 * MIB)),
            (640_000 * MIB, Some(64 * MIB)),
            (640_000 * MIB + 1, None),
            (u64::MAX / 2, None),
        ] {
            assert_eq!(part_length(size), length, "{size}");
            assert!(length.is_none_or(|length| size.div_ceil(length) <= PARTS_MAX));
        }
    }
}
