//! The engine's durable state: one SQLite file, one writer, one transaction per change.
//!
//! WAL with `synchronous=NORMAL`: a killed engine loses nothing, a power cut at most the last transactions,
//! and a commit waits for the disk only when it is its turn to move the log into the file. Records are JSON documents, so that a new field needs no migration; the
//! schema version guards what does.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use corten_image::Reserve;
use corten_sys::private;
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// What each version adds to the one before it: the first makes a new database, and one of an older version gets the rest.
const SCHEMA: [&str; 5] = [
    "
CREATE TABLE container (id TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE volume (name TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;
-- Containers that are gone for every user, but whose files may still be on the disk.
CREATE TABLE garbage (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
",
    "CREATE TABLE network (id TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;",
    // The volumes that go with the container, as a JSON list.
    "ALTER TABLE garbage ADD COLUMN volumes TEXT NOT NULL DEFAULT '[]';",
    // The directories of builds' cache mounts.
    "CREATE TABLE cache_mount (name TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;",
    // Builds that are over.
    "CREATE TABLE build (reference TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;",
];

pub struct StateStore {
    connection: Mutex<Connection>,
    reserve: Reserve,
}

impl StateStore {
    /// Opens or makes the database; refuses one that a newer version has written.
    pub fn open(path: &Path) -> Result<Self> {
        // Records have environments, and so secrets; SQLite gives the files beside it the rights of this one.
        make_private(path).map_err(|e| Error::io("open", path, e))?;
        let reserve = Reserve::at(path.with_extension("reserve"));
        let connect = || -> Result<Connection> {
            let connection = Connection::open(path)
                .map_err(|e| Error::internal(format!("open {}: {e}", path.display())))?;
            prepare(&connection).map_err(|e| Error::internal(format!("prepare {}: {e}", path.display())))?;
            migrate(&connection, path)?;
            Ok(connection)
        };
        let store = Self { connection: Mutex::new(reserve.give(connect)?), reserve };
        Ok(store)
    }

    /// Does what an engine's start must do on a full disk, too, with the room kept for removals.
    pub fn with_room<T>(&self, work: impl Fn() -> Result<T>) -> Result<T> {
        self.reserve.give(work)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn containers<T: DeserializeOwned>(&self) -> Result<Vec<T>> {
        self.records("SELECT record FROM container")
    }

    /// Writes down what has changed of a container. One that has been discarded meanwhile does not come back by this.
    pub fn put_container(&self, id: &str, record: &impl Serialize) -> Result<()> {
        self.put("UPDATE container SET record = ?2 WHERE id = ?1", id, record)
    }

    /// Keeps room for removals, once all is open.
    pub fn refill_reserve(&self) {
        self.reserve.refill();
    }

    /// Notes what is to go of a container, should the engine end before [`StateStore::add_container`].
    pub fn expect_container(&self, id: &str, volumes: &[String]) -> Result<()> {
        let connection = self.lock();
        connection.execute(NOTE_GARBAGE, params![id, list(volumes)?]).map(drop).map_err(failed)
    }

    /// Writes down a new container, whether or not it was expected.
    pub fn add_container(&self, id: &str, record: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(record).map_err(|e| Error::internal(format!("record {id}: {e}")))?;
        let mut connection = self.lock();
        let change = connection.transaction().map_err(failed)?;
        run(&change, "INSERT INTO container (id, record) VALUES (?1, ?2)", &[id, &text])?;
        run(&change, "DELETE FROM garbage WHERE id = ?1", &[id])?;
        change.commit().map_err(failed)
    }

    /// Forgets a container and remembers that its files must go, and these volumes; on a full disk with the room kept for this.
    pub fn discard_container(&self, id: &str, volumes: &[String]) -> Result<()> {
        let volumes = list(volumes)?;
        self.reserve.spend(|| self.try_discard(id, &volumes))
    }

    /// The same of one that could not be made: it frees nothing, so it takes nothing of the room for removals.
    pub fn discard_unmade(&self, id: &str, volumes: &[String]) -> Result<()> {
        self.try_discard(id, &list(volumes)?)
    }

    fn try_discard(&self, id: &str, volumes: &str) -> Result<()> {
        let mut connection = self.lock();
        let change = connection.transaction().map_err(failed)?;
        run(&change, "DELETE FROM container WHERE id = ?1", &[id])?;
        run(&change, NOTE_GARBAGE, &[id, volumes])?;
        change.commit().map_err(failed)
    }

    /// Containers that are gone and may have left something, each with its volumes.
    pub fn garbage(&self) -> Result<Vec<(String, Vec<String>)>> {
        let connection = self.lock();
        let mut query = connection.prepare_cached("SELECT id, volumes FROM garbage").map_err(failed)?;
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?))).map_err(failed)?;
        let rows = rows.collect::<rusqlite::Result<Vec<_>>>().map_err(failed)?;
        // What nobody has written has no volumes.
        Ok(rows.into_iter().map(|(id, list)| (id, serde_json::from_str(&list).unwrap_or_default())).collect())
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

    /// Gives a volume another name, and its users records that know it by that.
    pub fn rename_volume(
        &self,
        old: &str,
        new: &str,
        record: &impl Serialize,
        users: &[crate::container::Record],
    ) -> Result<()> {
        let text = |name: &str, error| Error::internal(format!("record {name}: {error}"));
        let volume = serde_json::to_string(record).map_err(|e| text(new, e))?;
        let mut connection = self.lock();
        let change = connection.transaction().map_err(failed)?;
        change.execute("DELETE FROM volume WHERE name = ?1", [old]).map_err(failed)?;
        change
            .execute("INSERT INTO volume (name, record) VALUES (?1, ?2)", params![new, volume])
            .map_err(failed)?;
        for user in users {
            let record = serde_json::to_string(user).map_err(|e| text(&user.id, e))?;
            change
                .execute("UPDATE container SET record = ?2 WHERE id = ?1", params![user.id, record])
                .map_err(failed)?;
        }
        change.commit().map_err(failed)
    }

    pub fn remove_volume(&self, name: &str) -> Result<()> {
        self.remove("DELETE FROM volume WHERE name = ?1", name)
    }

    pub fn cache_mounts<T: DeserializeOwned>(&self) -> Result<Vec<T>> {
        self.records("SELECT record FROM cache_mount")
    }

    pub fn cache_mount<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let query = "SELECT record FROM cache_mount WHERE name = ?1";
        let text: Option<String> =
            self.lock().query_row(query, [name], |row| row.get(0)).optional().map_err(failed)?;
        text.map(|text| read(&text)).transpose()
    }

    pub fn put_cache_mount(&self, name: &str, record: &impl Serialize) -> Result<()> {
        self.put("INSERT OR REPLACE INTO cache_mount (name, record) VALUES (?1, ?2)", name, record)
    }

    pub fn remove_cache_mount(&self, name: &str) -> Result<()> {
        self.remove("DELETE FROM cache_mount WHERE name = ?1", name)
    }

    pub fn builds<T: DeserializeOwned>(&self) -> Result<Vec<T>> {
        self.records("SELECT record FROM build")
    }

    pub fn put_build(&self, reference: &str, record: &impl Serialize) -> Result<()> {
        self.put("INSERT OR REPLACE INTO build (reference, record) VALUES (?1, ?2)", reference, record)
    }

    pub fn remove_build(&self, reference: &str) -> Result<()> {
        self.remove("DELETE FROM build WHERE reference = ?1", reference)
    }

    pub fn networks<T: DeserializeOwned>(&self) -> Result<Vec<T>> {
        self.records("SELECT record FROM network")
    }

    pub fn put_network(&self, id: &str, record: &impl Serialize) -> Result<()> {
        self.put("INSERT OR REPLACE INTO network (id, record) VALUES (?1, ?2)", id, record)
    }

    pub fn remove_network(&self, id: &str) -> Result<()> {
        self.remove("DELETE FROM network WHERE id = ?1", id)
    }

    pub fn setting(&self, name: &str) -> Result<Option<String>> {
        self.lock()
            .query_row("SELECT value FROM setting WHERE name = ?1", [name], |row| row.get(0))
            .optional()
            .map_err(failed)
    }

    pub fn put_setting(&self, name: &str, value: &str) -> Result<()> {
        self.reserve.spend(|| {
            let statement = "INSERT OR REPLACE INTO setting (name, value) VALUES (?1, ?2)";
            run(&self.lock(), statement, &[name, value])
        })
    }

    /// On a full disk with the room kept for this.
    fn remove(&self, statement: &str, key: &str) -> Result<()> {
        self.reserve.spend(|| run(&self.lock(), statement, &[key]))
    }

    fn put(&self, statement: &str, key: &str, record: &impl Serialize) -> Result<()> {
        let text =
            serde_json::to_string(record).map_err(|e| Error::internal(format!("record {key}: {e}")))?;
        run(&self.lock(), statement, &[key, &text])
    }

    fn records<T: DeserializeOwned>(&self, statement: &str) -> Result<Vec<T>> {
        let connection = self.lock();
        let mut query = connection.prepare(statement).map_err(failed)?;
        let rows = query.query_map([], |row| row.get::<_, String>(0)).map_err(failed)?;
        let mut records = Vec::new();
        for row in rows {
            let text = row.map_err(failed)?;
            records.push(read(&text)?);
        }
        Ok(records)
    }
}

fn read<T: DeserializeOwned>(record: &str) -> Result<T> {
    serde_json::from_str(record)
        .map_err(|e| Error::internal(format!("unreadable record in the state database: {e}")))
}

const NOTE_GARBAGE: &str = "INSERT OR REPLACE INTO garbage (id, volumes) VALUES (?1, ?2)";

/// Runs a statement that is prepared once.
fn run(connection: &Connection, statement: &str, parameters: &[&str]) -> Result<()> {
    let mut query = connection.prepare_cached(statement).map_err(failed)?;
    query.execute(rusqlite::params_from_iter(parameters)).map(drop).map_err(failed)
}

fn list(names: &[String]) -> Result<String> {
    serde_json::to_string(names).map_err(|e| Error::internal(format!("a list of names: {e}")))
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

/// Brings the database to the newest version, in one transaction.
fn migrate(connection: &Connection, path: &Path) -> Result<()> {
    let newest = SCHEMA.len();
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
    let known = usize::try_from(version).ok().filter(|version| *version <= newest);
    let Some(missing) = known.and_then(|version| SCHEMA.get(version..)) else {
        return Err(Error::internal(format!(
            "{} has schema version {version}, this engine knows {newest}: start the newer engine that wrote it",
            path.display()
        )));
    };
    if missing.is_empty() {
        return Ok(());
    }
    let steps = missing.concat();
    connection
        .execute_batch(&format!("BEGIN; {steps} PRAGMA user_version = {newest}; COMMIT;"))
        .map_err(failed)
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "journal_size_limit", 4 << 20)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_was_expected_and_did_not_come_is_garbage() {
        let directory = tempfile::tempdir().unwrap();
        let store = StateStore::open(&directory.path().join("engine.db")).unwrap();
        let volumes = ["v1".to_owned(), "v2".to_owned()];
        store.expect_container("one", &volumes).unwrap();
        assert_eq!(store.garbage().unwrap(), [("one".to_owned(), volumes.to_vec())]);
        store.add_container("one", &"record").unwrap();
        assert!(store.garbage().unwrap().is_empty());
        store.put_container("one", &"changed").unwrap();
        assert_eq!(store.containers::<String>().unwrap(), ["changed"]);
        store.discard_container("one", &volumes[..1]).unwrap();
        // Who was about to write down a change comes too late.
        store.put_container("one", &"record").unwrap();
        assert!(store.containers::<String>().unwrap().is_empty());
        assert_eq!(store.garbage().unwrap(), [("one".to_owned(), vec!["v1".to_owned()])]);
        store.garbage_collected(&["one".to_owned()]).unwrap();
        assert!(store.garbage().unwrap().is_empty());
    }

    #[test]
    fn a_database_of_the_first_version_is_migrated_and_a_newer_one_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("engine.db");
        let first = Connection::open(&path).unwrap();
        first.execute_batch(&format!("{} PRAGMA user_version = 1;", SCHEMA[0])).unwrap();
        first.execute("INSERT INTO setting VALUES ('instance', 'abc')", []).unwrap();
        drop(first);
        let store = StateStore::open(&path).unwrap();
        assert_eq!(store.setting("instance").unwrap().as_deref(), Some("abc"));
        store.put_network("1", &"record").unwrap();
        drop(store);
        assert_eq!(StateStore::open(&path).unwrap().networks::<String>().unwrap(), ["record"]);
        let newer = Connection::open(&path).unwrap();
        newer.pragma_update(None, "user_version", SCHEMA.len() as i64 + 1).unwrap();
        drop(newer);
        let refused = StateStore::open(&path).map(drop).unwrap_err().message;
        assert!(refused.contains("start the newer engine"), "{refused}");
    }
}
