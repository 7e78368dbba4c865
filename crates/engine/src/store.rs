//! The engine's durable state: one SQLite file, one writer, one transaction per change.
//!
//! WAL with `synchronous=NORMAL`: a killed engine loses nothing, a power cut at most the last transactions,
//! and a commit waits for the disk only when it is its turn to move the log into the file. Records are JSON documents, so that a new field needs no migration; the
//! schema version guards what does.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use corten_sys::private;
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

const SCHEMA_VERSION: i64 = 1;

const SCHEMA: &str = "
CREATE TABLE container (id TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE volume (name TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;
-- Containers that are gone for every user, but whose files may still be on the disk.
CREATE TABLE garbage (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
";

/// Kept free for removals: on a full disk they are what makes room, and both databases need some to note them.
const RESERVE_BYTES: usize = 1 << 20;

pub struct StateStore {
    connection: Mutex<Connection>,
    /// A file of [`RESERVE_BYTES`], given up when a removal finds the disk full.
    reserve: PathBuf,
}

impl StateStore {
    /// Opens or makes the database; refuses one that a newer version has written.
    pub fn open(path: &Path) -> Result<Self> {
        // Records have environments, and so secrets; SQLite gives the files beside it the rights of this one.
        make_private(path).map_err(|e| Error::io("open", path, e))?;
        let connection =
            Connection::open(path).map_err(|e| Error::internal(format!("open {}: {e}", path.display())))?;
        prepare(&connection).map_err(|e| Error::internal(format!("prepare {}: {e}", path.display())))?;
        let version: i64 =
            connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
        match version {
            0 => connection
                .execute_batch(&format!("BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"))
                .map_err(failed)?,
            SCHEMA_VERSION => {}
            newer => {
                return Err(Error::internal(format!(
                    "{} has schema version {newer}, this engine knows {SCHEMA_VERSION}: start the newer engine that wrote it",
                    path.display()
                )));
            }
        }
        let store = Self { connection: Mutex::new(connection), reserve: path.with_extension("reserve") };
        store.refill_reserve();
        Ok(store)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn containers<T: DeserializeOwned>(&self) -> Result<Vec<T>> {
        self.records("SELECT record FROM container")
    }

    pub fn put_container(&self, id: &str, record: &impl Serialize) -> Result<()> {
        self.put("INSERT OR REPLACE INTO container (id, record) VALUES (?1, ?2)", id, record)
    }

    /// Best effort: a disk that is too full for it is refilled after the next removal.
    fn refill_reserve(&self) {
        let whole = std::fs::metadata(&self.reserve).is_ok_and(|m| m.len() == RESERVE_BYTES as u64);
        if !whole && std::fs::write(&self.reserve, vec![0; RESERVE_BYTES]).is_err() {
            let _ = std::fs::remove_file(&self.reserve);
        }
    }

    /// Forgets a container and remembers that its files must go; on a full disk with the room kept for this.
    pub fn discard_container(&self, id: &str) -> Result<()> {
        self.try_discard(id).or_else(|error| {
            std::fs::remove_file(&self.reserve).map_err(|_| error)?;
            self.try_discard(id)
        })
    }

    fn try_discard(&self, id: &str) -> Result<()> {
        let mut connection = self.lock();
        let change = connection.transaction().map_err(failed)?;
        change.execute("DELETE FROM container WHERE id = ?1", [id]).map_err(failed)?;
        change.execute("INSERT OR IGNORE INTO garbage (id) VALUES (?1)", [id]).map_err(failed)?;
        change.commit().map_err(failed)
    }

    pub fn garbage(&self) -> Result<Vec<String>> {
        let connection = self.lock();
        let mut query = connection.prepare_cached("SELECT id FROM garbage").map_err(failed)?;
        let rows = query.query_map([], |row| row.get(0)).map_err(failed)?;
        rows.collect::<rusqlite::Result<_>>().map_err(failed)
    }

    /// The files of these containers are gone.
    pub fn garbage_collected(&self, ids: &[String]) -> Result<()> {
        let mut connection = self.lock();
        let change = connection.transaction().map_err(failed)?;
        for id in ids {
            change.execute("DELETE FROM garbage WHERE id = ?1", [id]).map_err(failed)?;
        }
        change.commit().map_err(failed)?;
        drop(connection);
        self.refill_reserve();
        Ok(())
    }

    pub fn volumes<T: DeserializeOwned>(&self) -> Result<Vec<T>> {
        self.records("SELECT record FROM volume")
    }

    pub fn put_volume(&self, name: &str, record: &impl Serialize) -> Result<()> {
        self.put("INSERT OR REPLACE INTO volume (name, record) VALUES (?1, ?2)", name, record)
    }

    pub fn remove_volume(&self, name: &str) -> Result<()> {
        let remove =
            || self.lock().execute("DELETE FROM volume WHERE name = ?1", [name]).map(drop).map_err(failed);
        remove().or_else(|error| {
            std::fs::remove_file(&self.reserve).map_err(|_| error)?;
            remove()
        })
    }

    pub fn setting(&self, name: &str) -> Result<Option<String>> {
        self.lock()
            .query_row("SELECT value FROM setting WHERE name = ?1", [name], |row| row.get(0))
            .optional()
            .map_err(failed)
    }

    pub fn put_setting(&self, name: &str, value: &str) -> Result<()> {
        self.lock()
            .execute("INSERT OR REPLACE INTO setting (name, value) VALUES (?1, ?2)", params![name, value])
            .map(drop)
            .map_err(failed)
    }

    fn put(&self, statement: &str, key: &str, record: &impl Serialize) -> Result<()> {
        let text =
            serde_json::to_string(record).map_err(|e| Error::internal(format!("record {key}: {e}")))?;
        let connection = self.lock();
        let mut query = connection.prepare_cached(statement).map_err(failed)?;
        query.execute(params![key, text]).map(drop).map_err(failed)
    }

    fn records<T: DeserializeOwned>(&self, statement: &str) -> Result<Vec<T>> {
        let connection = self.lock();
        let mut query = connection.prepare(statement).map_err(failed)?;
        let rows = query.query_map([], |row| row.get::<_, String>(0)).map_err(failed)?;
        let mut records = Vec::new();
        for row in rows {
            let text = row.map_err(failed)?;
            records.push(
                serde_json::from_str(&text)
                    .map_err(|e| Error::internal(format!("unreadable record in the state database: {e}")))?,
            );
        }
        Ok(records)
    }
}

fn make_private(path: &Path) -> std::io::Result<()> {
    private::file(path)?;
    for suffix in ["-wal", "-shm"] {
        let mut beside = path.as_os_str().to_owned();
        beside.push(suffix);
        match private::reduce(Path::new(&beside), 0o600) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    // A small page cache: the engine keeps its truth in memory, the database is its journal.
    connection.pragma_update(None, "cache_size", -256)
}

fn failed(error: rusqlite::Error) -> Error {
    let full =
        matches!(&error, rusqlite::Error::SqliteFailure(e, _) if e.code == rusqlite::ErrorCode::DiskFull);
    if full {
        return Error::internal(
            "state database: no space left on the data root's file system; free some and try again",
        );
    }
    Error::internal(format!("state database: {error}"))
}
