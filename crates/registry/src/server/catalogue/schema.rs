//! The catalogue's tables. What is needed by what follows from rows. What a repository has altogether is kept beside its name, by
//! triggers and so in the transactions that change it: no count can drift.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::{CatalogueError, Result, Step};

/// One entry per schema version; the file's `user_version` says how many it has seen.
const MIGRATIONS: [&str; 6] = [
    "
CREATE TABLE repositories (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL
) STRICT;

-- Whose bytes are in the storage.
CREATE TABLE blobs (
    id INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    stored_at INTEGER NOT NULL
) STRICT;

-- Which blob can be had from which repository.
CREATE TABLE links (
    repository INTEGER NOT NULL REFERENCES repositories(id) ON DELETE CASCADE,
    blob INTEGER NOT NULL REFERENCES blobs(id),
    -- When it was last pushed, mounted, said to be there, or left by a manifest.
    touched_at INTEGER NOT NULL,
    PRIMARY KEY (repository, blob)
) STRICT, WITHOUT ROWID;
CREATE INDEX links_of_blob ON links(blob);

CREATE TABLE manifests (
    id INTEGER PRIMARY KEY,
    repository INTEGER NOT NULL REFERENCES repositories(id) ON DELETE CASCADE,
    digest TEXT NOT NULL,
    media_type TEXT NOT NULL,
    subject TEXT,
    artifact_type TEXT,
    pushed_at INTEGER NOT NULL,
    pulled_at INTEGER,
    -- Since when the subject that it had is gone.
    orphaned_at INTEGER,
    -- A JSON object.
    annotations TEXT,
    size INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    UNIQUE (repository, digest)
) STRICT;
CREATE INDEX manifests_of_subject ON manifests(repository, subject, digest) WHERE subject IS NOT NULL;

-- What a manifest needs of its repository: blobs, and manifests.
CREATE TABLE needs (
    manifest INTEGER NOT NULL REFERENCES manifests(id) ON DELETE CASCADE,
    digest TEXT NOT NULL,
    is_manifest INTEGER NOT NULL,
    PRIMARY KEY (manifest, digest, is_manifest)
) STRICT, WITHOUT ROWID;
CREATE INDEX needs_of_digest ON needs(digest);

CREATE TABLE tags (
    repository INTEGER NOT NULL REFERENCES repositories(id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    manifest INTEGER NOT NULL REFERENCES manifests(id) ON DELETE CASCADE,
    tagged_at INTEGER NOT NULL,
    PRIMARY KEY (repository, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX tags_of_manifest ON tags(manifest);

CREATE TABLE uploads (
    id TEXT PRIMARY KEY,
    repository TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    started_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
",
    "
-- Whether it is an upstream's: what is in it can be had again from there.
ALTER TABLE repositories ADD COLUMN cached INTEGER NOT NULL DEFAULT 0;
-- Of a cached repository, when the upstream last said that this is what the tag stands for.
ALTER TABLE tags ADD COLUMN checked_at INTEGER;
",
    "
-- Bytes of its blobs, each once; its tags; when anything was last pushed to it and pulled from it.
ALTER TABLE repositories ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN tag_count INTEGER NOT NULL DEFAULT 0;
ALTER TABLE repositories ADD COLUMN pushed_at INTEGER;
ALTER TABLE repositories ADD COLUMN pulled_at INTEGER;
UPDATE repositories SET
    bytes = (SELECT coalesce(sum(b.size), 0) FROM links l JOIN blobs b ON b.id = l.blob
        WHERE l.repository = repositories.id),
    tag_count = (SELECT count(*) FROM tags t WHERE t.repository = repositories.id),
    pushed_at = (SELECT max(m.pushed_at) FROM manifests m WHERE m.repository = repositories.id),
    pulled_at = (SELECT max(m.pulled_at) FROM manifests m WHERE m.repository = repositories.id);

CREATE TRIGGER link_added AFTER INSERT ON links BEGIN
    UPDATE repositories SET bytes = bytes + (SELECT size FROM blobs WHERE id = NEW.blob) WHERE id = NEW.repository;
END;
CREATE TRIGGER link_removed AFTER DELETE ON links BEGIN
    UPDATE repositories SET bytes = bytes - (SELECT size FROM blobs WHERE id = OLD.blob) WHERE id = OLD.repository;
END;
CREATE TRIGGER tag_added AFTER INSERT ON tags BEGIN
    UPDATE repositories SET tag_count = tag_count + 1 WHERE id = NEW.repository;
END;
CREATE TRIGGER tag_removed AFTER DELETE ON tags BEGIN
    UPDATE repositories SET tag_count = tag_count - 1 WHERE id = OLD.repository;
END;
CREATE TRIGGER manifest_added AFTER INSERT ON manifests BEGIN
    UPDATE repositories SET pushed_at = max(coalesce(pushed_at, 0), NEW.pushed_at) WHERE id = NEW.repository;
END;
CREATE TRIGGER manifest_pushed_again AFTER UPDATE OF pushed_at ON manifests BEGIN
    UPDATE repositories SET pushed_at = max(coalesce(pushed_at, 0), NEW.pushed_at) WHERE id = NEW.repository;
END;
CREATE TRIGGER manifest_pulled AFTER UPDATE OF pulled_at ON manifests BEGIN
    UPDATE repositories SET pulled_at = max(coalesce(pulled_at, 0), NEW.pulled_at) WHERE id = NEW.repository;
END;

-- The latest ones first, without looking at all others.
CREATE INDEX tags_by_time ON tags(repository, tagged_at);
",
    OBJECT_STORE,
    "
-- Tags that retention has taken away, as long as their manifests are there. Without a name: listed by one whose tag went.
CREATE TABLE retired (
    repository INTEGER NOT NULL REFERENCES repositories(id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    manifest INTEGER NOT NULL REFERENCES manifests(id) ON DELETE CASCADE,
    retired_at INTEGER NOT NULL,
    PRIMARY KEY (repository, name, manifest)
) STRICT, WITHOUT ROWID;
CREATE INDEX retired_of_manifest ON retired(manifest);
",
    "
-- What webhooks are still to be told, in this order for each.
CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    hook TEXT NOT NULL,
    body TEXT NOT NULL,
    made_at INTEGER NOT NULL
) STRICT;
CREATE INDEX deliveries_of_hook ON deliveries(hook, id);
",
];

/// Where blobs are in an object store, the name that says there whose they are. One row or none.
const OBJECT_STORE: &str = "
CREATE TABLE object_store (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    registry TEXT NOT NULL
) STRICT;
";

pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<()> {
    let step = "be brought up to date";
    let known = MIGRATIONS.len() as i64;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).step(step)?;
    if found > known {
        return Err(CatalogueError::TooNew { path: path.to_owned(), found, known });
    }
    let missing = MIGRATIONS.iter().enumerate().skip(usize::try_from(found).unwrap_or_default());
    for (version, migration) in missing {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).step(step)?;
        transaction.execute_batch(migration).step(step)?;
        transaction.pragma_update(None, "user_version", version as i64 + 1).step(step)?;
        transaction.commit().step(step)?;
    }
    Ok(())
}

/// An older catalogue, to see what becomes of it.
#[cfg(test)]
pub(super) fn migrate_to(connection: &Connection, version: usize) {
    for migration in &MIGRATIONS[..version] {
        connection.execute_batch(migration).unwrap();
    }
    connection.pragma_update(None, "user_version", version as i64).unwrap();
}
