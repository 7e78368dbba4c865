//! The schema of the image database and its migrations. `docs/image-store.md` explains the tables.

use std::path::Path;

use rusqlite::Connection;

use super::{DatabaseError, Step};

/// One entry per schema version; the file's `user_version` says how many were applied. Never edit an entry that
/// was released: add one.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE images (
        id        TEXT PRIMARY KEY,
        manifest  TEXT NOT NULL,
        parent    TEXT,
        stored_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE names (
        name      TEXT PRIMARY KEY,
        image     TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
        target    TEXT NOT NULL,
        tagged_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX names_by_image ON names (image);

    CREATE TABLE documents (
        digest     TEXT PRIMARY KEY,
        media_type TEXT NOT NULL,
        bytes      BLOB NOT NULL
    ) STRICT;

    CREATE TABLE layers (
        diff_id        TEXT PRIMARY KEY,
        tar_bytes      INTEGER NOT NULL,
        unpacked_bytes INTEGER NOT NULL,
        disk_bytes     INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE blobs (
        digest     TEXT PRIMARY KEY,
        media_type TEXT NOT NULL,
        size       INTEGER NOT NULL,
        diff_id    TEXT,
        stored     INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE image_layers (
        image    TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        diff_id  TEXT NOT NULL REFERENCES layers (diff_id),
        blob     TEXT NOT NULL,
        PRIMARY KEY (image, position)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX image_layers_by_layer ON image_layers (diff_id);

    CREATE TABLE image_content (
        image  TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
        digest TEXT NOT NULL,
        PRIMARY KEY (image, digest)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX image_content_by_digest ON image_content (digest);

    CREATE TABLE snapshots (
        id     TEXT PRIMARY KEY,
        image  TEXT NOT NULL,
        layers TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE unsynced (
        digest TEXT PRIMARY KEY,
        boot   TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
",
    "
    CREATE TABLE members (
        member TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
        owner  TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
        PRIMARY KEY (member, owner)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX members_by_owner ON members (owner);
",
    "
    CREATE TABLE compressed (
        diff_id    TEXT NOT NULL REFERENCES layers (diff_id) ON DELETE CASCADE,
        media_type TEXT NOT NULL,
        digest     TEXT NOT NULL,
        size       INTEGER NOT NULL,
        PRIMARY KEY (diff_id, media_type)
    ) STRICT, WITHOUT ROWID;
",
    "
    CREATE TABLE steps (
        key         TEXT PRIMARY KEY,
        diff_id     TEXT REFERENCES layers (diff_id),
        description TEXT NOT NULL,
        created_at  INTEGER NOT NULL,
        used_at     INTEGER NOT NULL,
        uses        INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX steps_by_layer ON steps (diff_id);
",
    "
    ALTER TABLE images ADD COLUMN made_as TEXT;
",
];

/// Applies what the file lacks, all of it in one transaction.
pub fn migrate(connection: &mut Connection, path: &Path) -> Result<(), DatabaseError> {
    let step = "bring its schema up to date";
    let known = MIGRATIONS.len() as i64;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).step(step)?;
    if found > known {
        return Err(DatabaseError::TooNew { path: path.to_owned(), found, known });
    }
    if found == known {
        return Ok(());
    }
    let transaction = connection.transaction().step(step)?;
    for migration in &MIGRATIONS[found.max(0) as usize..] {
        transaction.execute_batch(migration).step(step)?;
    }
    transaction.pragma_update(None, "user_version", known).step(step)?;
    transaction.commit().step(step)
}
