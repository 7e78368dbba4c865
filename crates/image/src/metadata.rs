//! The image database (`images.db`): which images, names, documents, blobs and layers there are, and what keeps
//! what alive. SQLite in WAL mode; one transaction per change; the file has a schema version and migrates.
//!
//! Reference counts are not stored but follow from the rows of `image_content` and `image_layers`: a count that
//! is derived cannot drift. Knows nothing of files; who removes the rows' files asks [`Database::garbage`] first.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use crate::digest::{DiffId, Digest, ImageId};
use crate::reserve::Reserve;

mod change;
mod rows;
mod schema;
#[cfg(test)]
mod tests;

pub use change::Change;
pub use rows::{
    BlobRow, CompressedRow, DocumentRow, Garbage, ImageRow, LayerRow, NameRow, NewImage, SnapshotRow,
    StepRow, StepUse,
};

#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error("cannot open the image database {path}")]
    Open { path: PathBuf, source: rusqlite::Error },
    #[error(
        "the image database {path} has schema version {found}; this program knows up to {known}: use a newer one"
    )]
    TooNew { path: PathBuf, found: i64, known: i64 },
    #[error("the image database cannot {step}")]
    Statement { step: &'static str, source: rusqlite::Error },
    #[error("the image database holds {text:?} where a digest should be")]
    Digest { text: String },
}

/// Adds the step to a failed statement.
pub(crate) trait Step<T> {
    fn step(self, step: &'static str) -> Result<T, DatabaseError>;
}

impl<T> Step<T> for rusqlite::Result<T> {
    fn step(self, step: &'static str) -> Result<T, DatabaseError> {
        self.map_err(|source| DatabaseError::Statement { step, source })
    }
}

fn transact<T, E: From<DatabaseError>>(
    connection: &mut Connection,
    change: impl FnOnce(&Change<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).step("begin a change")?;
    let change_made = change(&Change::within(&transaction))?;
    transaction.commit().step("commit a change")?;
    Ok(change_made)
}

/// The journal is no longer than this when nothing is in it.
const JOURNAL_BYTES_KEPT: i64 = 4 << 20;

/// More free pages than these (4 KiB each) are given back to the file system.
const FREE_PAGES_KEPT: i64 = 1024;

/// What running builds rely on: in memory, since it ends with the process.
const HELD: &str = "
    PRAGMA temp_store = MEMORY;
    CREATE TEMP TABLE held (
        holder INTEGER NOT NULL,
        digest TEXT NOT NULL,
        PRIMARY KEY (holder, digest)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX temp.held_by_digest ON held (digest);
";

/// An open image database. Not `Sync`: the store keeps it behind its writer's mutex.
pub struct Database {
    connection: Connection,
    reserve: Reserve,
}

impl Database {
    /// Opens or creates the database and brings its schema up to date.
    pub fn open(path: &Path) -> Result<Database, DatabaseError> {
        let open = |source| DatabaseError::Open { path: path.to_owned(), source };
        let mut connection = Connection::open(path).map_err(open)?;
        connection.busy_timeout(Duration::from_secs(5)).map_err(open)?;
        // Before anything is in it: a database that is there already stays as it is.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(open)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(open)?;
        connection.pragma_update(None, "journal_size_limit", JOURNAL_BYTES_KEPT).map_err(open)?;
        // A transaction that was reported may be lost by a power cut, never by a crash of the engine; the
        // database stays whole in both cases. Deletions that files depend on are synced: see `synced`.
        connection.pragma_update(None, "synchronous", "NORMAL").map_err(open)?;
        connection.pragma_update(None, "foreign_keys", "ON").map_err(open)?;
        schema::migrate(&mut connection, path)?;
        connection.execute_batch(HELD).map_err(open)?;
        Ok(Database { connection, reserve: Reserve::at(path.with_extension("reserve")) })
    }

    /// Runs one change as one transaction.
    pub fn change<T, E>(&mut self, change: impl FnOnce(&Change<'_>) -> Result<T, E>) -> Result<T, E>
    where
        E: From<DatabaseError>,
    {
        transact(&mut self.connection, change)
    }

    /// Keeps room for removals, once all is open.
    pub fn refill_reserve(&self) {
        self.reserve.refill();
    }

    /// As [`Database::change`], for what makes room: on a full disk with the room that is kept for it.
    pub fn remove<T, E>(&mut self, change: impl Fn(&Change<'_>) -> Result<T, E>) -> Result<T, E>
    where
        E: From<DatabaseError>,
    {
        let Self { connection, reserve } = self;
        reserve.spend(|| transact(connection, &change))
    }

    /// As [`Database::remove`], and on the disk when it returns: for changes after which files are deleted.
    pub fn remove_synced<T, E>(&mut self, change: impl Fn(&Change<'_>) -> Result<T, E>) -> Result<T, E>
    where
        E: From<DatabaseError>,
    {
        self.connection.pragma_update(None, "synchronous", "FULL").step("be made durable")?;
        let outcome = self.remove(change);
        self.connection.pragma_update(None, "synchronous", "NORMAL").step("be made fast again")?;
        if outcome.is_ok()
            && let Err(error) = self.give_back()
        {
            // All that was wished is done; the room is used by what comes next.
            tracing::debug!(%error, "free pages of the image database stay with it");
        }
        outcome
    }

    /// Makes the file smaller where much of it is free.
    fn give_back(&self) -> rusqlite::Result<()> {
        let free: i64 = self.connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
        if free <= FREE_PAGES_KEPT {
            return Ok(());
        }
        let mut vacuum = self.connection.prepare("PRAGMA incremental_vacuum")?;
        let mut rows = vacuum.query([])?;
        // It goes on page by page.
        while rows.next()?.is_some() {}
        drop(rows);
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    }

    pub fn images(&self) -> Result<Vec<ImageRow>, DatabaseError> {
        let step = "list images";
        let mut statement = self
            .connection
            .prepare_cached("SELECT id, manifest, parent, stored_at, made_as FROM images ORDER BY id")
            .step(step)?;
        let rows = statement
            .query_map([], |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, String>(1)?,
                    row.get::<_, Option<String>>(2)?,
                    row.get(3)?,
                    row.get::<_, Option<String>>(4)?,
                ))
            })
            .step(step)?;
        let mut images = Vec::new();
        for row in rows {
            let (id, manifest, parent, stored_at, made_as) = row.step(step)?;
            let parent = parent.map(|text| digest(&text)).transpose()?;
            let made_as = made_as.map(|text| digest(&text)).transpose()?;
            images.push(ImageRow {
                id: digest(&id)?,
                manifest: digest(&manifest)?,
                parent,
                made_as,
                stored_at,
            });
        }
        Ok(images)
    }

    pub fn image(&self, id: &ImageId) -> Result<Option<ImageRow>, DatabaseError> {
        let step = "read an image";
        let row = self
            .connection
            .prepare_cached("SELECT manifest, parent, stored_at, made_as FROM images WHERE id = ?1")
            .step(step)?
            .query_row([id.to_string()], |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, Option<String>>(1)?,
                    row.get(2)?,
                    row.get::<_, Option<String>>(3)?,
                ))
            })
            .optional()
            .step(step)?;
        let Some((manifest, parent, stored_at, made_as)) = row else { return Ok(None) };
        let parent = parent.map(|text| digest(&text)).transpose()?;
        let made_as = made_as.map(|text| digest(&text)).transpose()?;
        Ok(Some(ImageRow { id: *id, manifest: digest(&manifest)?, parent, made_as, stored_at }))
    }

    /// The names of one image, or of all.
    pub fn names(&self, image: Option<&ImageId>) -> Result<Vec<NameRow>, DatabaseError> {
        let step = "list names";
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT name, image, target, tagged_at FROM names WHERE ?1 IS NULL OR image = ?1 ORDER BY name",
            )
            .step(step)?;
        let rows = statement
            .query_map([image.map(Digest::to_string)], |row| {
                Ok((row.get(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?, row.get(3)?))
            })
            .step(step)?;
        let mut names = Vec::new();
        for row in rows {
            let (name, image, target, tagged_at) = row.step(step)?;
            names.push(NameRow { name, image: digest(&image)?, target: digest(&target)?, tagged_at });
        }
        Ok(names)
    }

    pub fn document(&self, wanted: &Digest) -> Result<Option<DocumentRow>, DatabaseError> {
        self.connection
            .prepare_cached("SELECT media_type, bytes FROM documents WHERE digest = ?1")
            .step("read a document")?
            .query_row([wanted.to_string()], |row| {
                Ok(DocumentRow { digest: *wanted, media_type: row.get(0)?, bytes: row.get(1)? })
            })
            .optional()
            .step("read a document")
    }

    pub fn blob(&self, wanted: &Digest) -> Result<Option<BlobRow>, DatabaseError> {
        let step = "read a blob's row";
        let row = self
            .connection
            .prepare_cached("SELECT media_type, size, diff_id, stored FROM blobs WHERE digest = ?1")
            .step(step)?
            .query_row([wanted.to_string()], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get::<_, Option<String>>(2)?, row.get(3)?))
            })
            .optional()
            .step(step)?;
        let Some((media_type, size, diff_id, stored)) = row else { return Ok(None) };
        let diff_id = diff_id.map(|text| digest(&text)).transpose()?;
        Ok(Some(BlobRow { digest: *wanted, media_type, size, diff_id, stored }))
    }

    pub fn blobs(&self) -> Result<Vec<BlobRow>, DatabaseError> {
        let digests = self.digests("SELECT digest FROM blobs ORDER BY digest", None)?;
        let mut blobs = Vec::with_capacity(digests.len());
        for digest in digests {
            blobs.extend(self.blob(&digest)?);
        }
        Ok(blobs)
    }

    pub fn layer(&self, wanted: &DiffId) -> Result<Option<LayerRow>, DatabaseError> {
        self.connection
            .prepare_cached("SELECT tar_bytes, unpacked_bytes, disk_bytes FROM layers WHERE diff_id = ?1")
            .step("read a layer's row")?
            .query_row([wanted.to_string()], |row| {
                Ok(LayerRow {
                    diff_id: *wanted,
                    tar_bytes: row.get(0)?,
                    unpacked_bytes: row.get(1)?,
                    disk_bytes: row.get(2)?,
                })
            })
            .optional()
            .step("read a layer's row")
    }

    /// What a layer was when it was last compressed so.
    pub fn compressed(
        &self,
        layer: &DiffId,
        media_type: &str,
    ) -> Result<Option<CompressedRow>, DatabaseError> {
        let step = "read a layer's compressed form";
        let row = self
            .connection
            .prepare_cached("SELECT digest, size FROM compressed WHERE diff_id = ?1 AND media_type = ?2")
            .step(step)?
            .query_row([layer.to_string().as_str(), media_type], |row| {
                Ok((row.get::<_, String>(0)?, row.get(1)?))
            })
            .optional()
            .step(step)?;
        let Some((text, size)) = row else { return Ok(None) };
        let (diff_id, media_type) = (*layer, media_type.to_owned());
        Ok(Some(CompressedRow { diff_id, media_type, digest: digest(&text)?, size }))
    }

    pub fn layers(&self) -> Result<Vec<LayerRow>, DatabaseError> {
        let digests = self.digests("SELECT diff_id FROM layers ORDER BY diff_id", None)?;
        let mut layers = Vec::with_capacity(digests.len());
        for digest in digests {
            layers.extend(self.layer(&digest)?);
        }
        Ok(layers)
    }

    /// The layers of an image, bottom first, each with the blob it came from.
    pub fn stack(&self, image: &ImageId) -> Result<Vec<(DiffId, Digest)>, DatabaseError> {
        let image = image.to_string();
        let layers = self
            .digests("SELECT diff_id FROM image_layers WHERE image = ?1 ORDER BY position", Some(&image))?;
        let blobs =
            self.digests("SELECT blob FROM image_layers WHERE image = ?1 ORDER BY position", Some(&image))?;
        Ok(layers.into_iter().zip(blobs).collect())
    }

    /// The image of whose platforms this one is, if any.
    pub fn owner(&self, member: &ImageId) -> Result<Option<ImageId>, DatabaseError> {
        let query = "SELECT owner FROM members WHERE member = ?1 ORDER BY owner LIMIT 1";
        Ok(self.digests(query, Some(&member.to_string()))?.into_iter().next())
    }

    /// The images that are other platforms of this one.
    pub fn members(&self, owner: &ImageId) -> Result<Vec<ImageId>, DatabaseError> {
        let query = "SELECT member FROM members WHERE owner = ?1 ORDER BY member";
        self.digests(query, Some(&owner.to_string()))
    }

    /// All documents and blobs that an image keeps alive.
    pub fn content(&self, image: &ImageId) -> Result<Vec<Digest>, DatabaseError> {
        self.digests(
            "SELECT digest FROM image_content WHERE image = ?1 ORDER BY digest",
            Some(&image.to_string()),
        )
    }

    pub fn snapshots(&self) -> Result<Vec<SnapshotRow>, DatabaseError> {
        let step = "list snapshots";
        let mut statement =
            self.connection.prepare_cached("SELECT id, image, layers FROM snapshots").step(step)?;
        let rows = statement
            .query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?)))
            .step(step)?;
        let mut snapshots = Vec::new();
        for row in rows {
            let (id, image, layers) = row.step(step)?;
            let layers = serde_json::from_str(&layers).map_err(|_| DatabaseError::Digest { text: layers })?;
            snapshots.push(SnapshotRow { id, image: digest(&image)?, layers });
        }
        Ok(snapshots)
    }

    /// What the step with that key has made.
    pub fn step(&self, key: &Digest) -> Result<Option<StepRow>, DatabaseError> {
        let mut rows = self.steps_where("WHERE key = ?1", Some(&key.to_string()))?;
        Ok(rows.pop().map(|(row, _)| row))
    }

    /// All steps, the one that was used longest ago first, each with who else has its layer.
    pub fn steps(&self) -> Result<Vec<(StepRow, StepUse)>, DatabaseError> {
        self.steps_where("ORDER BY used_at, key", None)
    }

    fn steps_where(
        &self,
        clause: &str,
        argument: Option<&str>,
    ) -> Result<Vec<(StepRow, StepUse)>, DatabaseError> {
        let step = "read what steps have made";
        // What an image has of a layer besides the layer itself is its tar stream, under the same digest.
        let query = format!(
            "SELECT key, description, created_at, used_at, uses, diff_id, tar_bytes, unpacked_bytes, disk_bytes,
                 EXISTS (SELECT 1 FROM image_layers WHERE image_layers.diff_id = steps.diff_id)
                     OR EXISTS (SELECT 1 FROM image_content WHERE digest = steps.diff_id),
                 EXISTS (SELECT 1 FROM held WHERE digest = steps.diff_id)
             FROM steps LEFT JOIN layers USING (diff_id) {clause}"
        );
        let mut statement = self.connection.prepare_cached(&query).step(step)?;
        let mut rows = match argument {
            Some(argument) => statement.query([argument]),
            None => statement.query([]),
        }
        .step(step)?;
        let mut steps = Vec::new();
        while let Some(row) = rows.next().step(step)? {
            let layer = match row.get::<_, Option<String>>(5).step(step)? {
                Some(text) => Some(LayerRow {
                    diff_id: digest(&text)?,
                    tar_bytes: row.get(6).step(step)?,
                    unpacked_bytes: row.get(7).step(step)?,
                    disk_bytes: row.get(8).step(step)?,
                }),
                None => None,
            };
            let found = StepRow {
                key: digest(&row.get::<_, String>(0).step(step)?)?,
                layer,
                description: row.get(1).step(step)?,
                created_at: row.get(2).step(step)?,
                used_at: row.get(3).step(step)?,
                uses: row.get(4).step(step)?,
            };
            let is_shared = row.get(9).step(step)?;
            steps.push((found, StepUse { is_shared, is_held: row.get(10).step(step)? }));
        }
        Ok(steps)
    }

    /// Content whose bytes may not have reached the disk, as recorded under other boots than this one.
    pub fn unsynced(&self, boot: &str) -> Result<Vec<Digest>, DatabaseError> {
        self.digests("SELECT digest FROM unsynced WHERE boot != ?1", Some(boot))
    }

    /// Content of this boot that still waits to be written out.
    pub fn pending_sync(&self) -> Result<Vec<Digest>, DatabaseError> {
        self.digests("SELECT digest FROM unsynced", None)
    }

    /// The images that use a layer or keep a blob.
    pub fn users(&self, content: &Digest) -> Result<Vec<ImageId>, DatabaseError> {
        self.digests(
            "SELECT image FROM image_content WHERE digest = ?1
             UNION SELECT image FROM image_layers WHERE diff_id = ?1
             UNION SELECT image FROM image_content JOIN blobs USING (digest) WHERE diff_id = ?1 AND NOT stored",
            Some(&content.to_string()),
        )
    }

    fn digests(&self, query: &str, argument: Option<&str>) -> Result<Vec<Digest>, DatabaseError> {
        let step = "list digests";
        let mut statement = self.connection.prepare_cached(query).step(step)?;
        let read = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
        let rows = match argument {
            Some(argument) => statement.query_map([argument], read),
            None => statement.query_map([], read),
        };
        let mut digests = Vec::new();
        for row in rows.step(step)? {
            digests.push(digest(&row.step(step)?)?);
        }
        Ok(digests)
    }
}

fn digest(text: &str) -> Result<Digest, DatabaseError> {
    text.parse().map_err(|_| DatabaseError::Digest { text: text.to_owned() })
}
