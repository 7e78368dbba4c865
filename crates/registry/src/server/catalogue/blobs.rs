//! Blobs, and which repository has them.

use rusqlite::{Connection, OptionalExtension, params};

use super::usage::within;
use super::{Catalogue, Result, Step, now, repository_id, repository_to_change};
use crate::server::digest::Digest;
use crate::server::name::UploadId;

/// A blob as a repository has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkedBlob {
    pub size: u64,
    pub touched_at: i64,
}

/// What became of the wish to take a blob out of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unlinked {
    Done,
    Unknown,
    /// This manifest needs it.
    Needed(String),
}

impl Catalogue {
    /// A blob that a repository has.
    pub async fn blob(&self, repository: String, digest: Digest) -> Result<Option<LinkedBlob>> {
        self.read(move |connection| linked(connection, &repository, &digest.to_string())).await
    }

    /// Notes that a client was told of a blob, so that it stays for a while; false when it isn't there any more.
    pub async fn touch_blob(&self, repository: String, digest: Digest) -> Result<bool> {
        self.note(move |connection| {
            let changed = connection
                .prepare_cached(
                    "UPDATE links SET touched_at = ?3
                     WHERE repository = (SELECT id FROM repositories WHERE name = ?1)
                       AND blob = (SELECT id FROM blobs WHERE digest = ?2)",
                )
                .and_then(|mut statement| statement.execute(params![repository, digest.to_string(), now()]))
                .step("touch a blob")?;
            Ok(changed > 0)
        })
        .await
    }

    /// The size of a blob that any repository has.
    pub async fn stored_blob(&self, digest: Digest) -> Result<Option<u64>> {
        self.read(move |connection| Ok(stored(connection, &digest.to_string())?.map(|(_, size)| size))).await
    }

    /// Enters a blob whose bytes are in the storage into a repository, and ends its upload.
    pub async fn add_blob(
        &self,
        repository: String,
        digest: Digest,
        size: u64,
        upload: UploadId,
    ) -> Result<()> {
        self.change(move |connection| {
            let digest = digest.to_string();
            within(connection, &repository, || {
                add_stored(connection, &digest, size)?;
                link(connection, &repository, &digest)
            })?;
            super::uploads::forget(connection, upload)
        })
        .await
    }

    /// Lets a repository have a blob that another one has. Its size, when that one has it.
    pub async fn mount_blob(&self, repository: String, from: String, digest: Digest) -> Result<Option<u64>> {
        self.change(move |connection| {
            let digest = digest.to_string();
            let Some(found) = linked(connection, &from, &digest)? else { return Ok(None) };
            within(connection, &repository, || link(connection, &repository, &digest))?;
            Ok(Some(found.size))
        })
        .await
    }

    /// Repositories that have a blob: some, if there are many.
    pub async fn repositories_with(&self, digest: Digest, count: usize) -> Result<Vec<String>> {
        self.read(move |connection| {
            let step = "find a blob's repositories";
            let mut statement = connection
                .prepare_cached(
                    "SELECT repositories.name FROM blobs JOIN links ON links.blob = blobs.id
                     JOIN repositories ON repositories.id = links.repository
                     WHERE blobs.digest = ?1 ORDER BY links.touched_at DESC LIMIT ?2",
                )
                .step(step)?;
            let rows = statement
                .query_map(params![digest.to_string(), count as i64], |row| row.get(0))
                .step(step)?;
            rows.collect::<rusqlite::Result<_>>().step(step)
        })
        .await
    }

    /// Takes a blob out of a repository, unless a manifest there needs it. Its bytes stay for the collection.
    pub async fn unlink_blob(&self, repository: String, digest: Digest) -> Result<Unlinked> {
        self.remove(move |connection| {
            let digest = digest.to_string();
            let step = "take a blob out of a repository";
            let Some(repository) = repository_id(connection, &repository)? else {
                return Ok(Unlinked::Unknown);
            };
            let needed: Option<String> = connection
                .prepare_cached(
                    "SELECT manifests.digest FROM needs JOIN manifests ON manifests.id = needs.manifest
                     WHERE needs.digest = ?1 AND NOT needs.is_manifest AND manifests.repository = ?2 LIMIT 1",
                )
                .and_then(|mut query| query.query_row(params![digest, repository], |row| row.get(0)).optional())
                .step(step)?;
            if let Some(manifest) = needed {
                return Ok(Unlinked::Needed(manifest));
            }
            let removed = connection
                .prepare_cached(
                    "DELETE FROM links WHERE repository = ?1 AND blob = (SELECT id FROM blobs WHERE digest = ?2)",
                )
                .and_then(|mut statement| statement.execute(params![repository, digest]))
                .step(step)?;
            Ok(if removed > 0 { Unlinked::Done } else { Unlinked::Unknown })
        })
        .await
    }
}

/// The row and the size of a blob.
fn stored(connection: &Connection, digest: &str) -> Result<Option<(i64, u64)>> {
    connection
        .prepare_cached("SELECT id, size FROM blobs WHERE digest = ?1")
        .and_then(|mut query| {
            query.query_row([digest], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64))).optional()
        })
        .step("find a blob")
}

pub(super) fn linked(connection: &Connection, repository: &str, digest: &str) -> Result<Option<LinkedBlob>> {
    connection
        .prepare_cached(
            "SELECT blobs.size, links.touched_at FROM repositories
             JOIN links ON links.repository = repositories.id JOIN blobs ON blobs.id = links.blob
             WHERE repositories.name = ?1 AND blobs.digest = ?2",
        )
        .and_then(|mut query| {
            let row = query.query_row([repository, digest], |row| {
                Ok(LinkedBlob { size: row.get::<_, i64>(0)? as u64, touched_at: row.get(1)? })
            });
            row.optional()
        })
        .step("find a blob of a repository")
}

/// Notes that a blob's bytes are in the storage.
pub(super) fn add_stored(connection: &Connection, digest: &str, size: u64) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO blobs (digest, size, stored_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        )
        .and_then(|mut statement| statement.execute(params![digest, size as i64, now()]))
        .map(drop)
        .step("add a blob")
}

pub(super) fn link(connection: &Connection, repository: &str, digest: &str) -> Result<()> {
    let repository = repository_to_change(connection, repository)?;
    connection
        .prepare_cached(
            "INSERT INTO links (repository, blob, touched_at) SELECT ?1, id, ?3 FROM blobs WHERE digest = ?2
             ON CONFLICT DO UPDATE SET touched_at = excluded.touched_at",
        )
        .and_then(|mut statement| statement.execute(params![repository, digest, now()]))
        .map(drop)
        .step("put a blob into a repository")
}
