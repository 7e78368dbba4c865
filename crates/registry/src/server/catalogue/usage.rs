//! What is taken of quotas. It is counted by triggers of the connection that writes, in tables that only this connection has and that
//! are in memory: so a count changes in the transaction that changes the rows, is taken back with it, and is never older than the process.
//!
//! A blob counts once for a holder, however many of its repositories have it; a manifest in each of them. What is cached of upstreams
//! has a limit of its own, and counts for nobody here.

use std::sync::{Arc, PoisonError};

use rusqlite::{Connection, params};

use super::{Catalogue, CatalogueError, Result, Step, repository_id, repository_to_change};
use crate::server::quota::{Exceeded, Ledger, Quota, QuotaConfig, Usage, What};

const TABLES: &str = "
CREATE TEMP TABLE quota_config (config TEXT NOT NULL);
CREATE TEMP TABLE quota_holders (
    id INTEGER PRIMARY KEY,
    quota INTEGER NOT NULL,
    name TEXT NOT NULL,
    bytes_max INTEGER,
    tags_max INTEGER,
    bytes INTEGER NOT NULL DEFAULT 0,
    tags INTEGER NOT NULL DEFAULT 0,
    -- Since the ledger was told.
    changed INTEGER NOT NULL DEFAULT 1,
    UNIQUE (quota, name)
);
CREATE INDEX quota_holders_changed ON quota_holders(id) WHERE changed;
CREATE TEMP TABLE quota_members (
    repository INTEGER NOT NULL,
    holder INTEGER NOT NULL,
    PRIMARY KEY (repository, holder)
) WITHOUT ROWID;
CREATE INDEX quota_members_of ON quota_members(holder);
";

/// What a change of a row means for its repository's holders.
fn triggers() -> String {
    let mut text = String::new();
    for (event, row, sign) in [("INSERT", "NEW", "+"), ("DELETE", "OLD", "-")] {
        let holders = format!("id IN (SELECT holder FROM quota_members WHERE repository = {row}.repository)");
        // CROSS JOIN keeps the order: by the blob's links, which are few.
        text += &format!(
            "CREATE TEMP TRIGGER quota_link_{event} AFTER {event} ON main.links BEGIN
                UPDATE quota_holders SET changed = 1, bytes = bytes {sign} (SELECT size FROM blobs WHERE id = {row}.blob)
                WHERE {holders} AND NOT EXISTS (SELECT 1 FROM links l CROSS JOIN quota_members o
                    ON o.repository = l.repository AND o.holder = quota_holders.id
                    WHERE l.blob = {row}.blob AND l.repository <> {row}.repository);
             END;
             CREATE TEMP TRIGGER quota_manifest_{event} AFTER {event} ON main.manifests BEGIN
                UPDATE quota_holders SET changed = 1, bytes = bytes {sign} {row}.size WHERE {holders};
             END;
             CREATE TEMP TRIGGER quota_tag_{event} AFTER {event} ON main.tags BEGIN
                UPDATE quota_holders SET changed = 1, tags = tags {sign} 1 WHERE {holders};
             END;"
        );
    }
    // What is an upstream's is nobody's: it is known to be that only after it has come.
    text += "CREATE TEMP TRIGGER quota_repository_UPDATE AFTER UPDATE OF cached ON main.repositories WHEN NEW.cached BEGIN
                UPDATE quota_holders SET changed = 1,
                    bytes = bytes - (SELECT coalesce(sum(b.size), 0) FROM links l CROSS JOIN blobs b ON b.id = l.blob
                        WHERE l.repository = NEW.id AND NOT EXISTS (SELECT 1 FROM links e CROSS JOIN quota_members o
                            ON o.repository = e.repository AND o.holder = quota_holders.id
                            WHERE e.blob = l.blob AND e.repository <> NEW.id))
                        - (SELECT coalesce(sum(size), 0) FROM manifests WHERE repository = NEW.id),
                    tags = tags - (SELECT count(*) FROM tags WHERE repository = NEW.id)
                WHERE id IN (SELECT holder FROM quota_members WHERE repository = NEW.id);
                DELETE FROM quota_members WHERE repository = NEW.id;
             END;";
    text += "CREATE TEMP TRIGGER quota_repository_DELETE AFTER DELETE ON main.repositories BEGIN
                DELETE FROM quota_members WHERE repository = OLD.id;
             END;";
    text
}

const NO_TRIGGERS: &str = "
DROP TRIGGER IF EXISTS temp.quota_link_INSERT; DROP TRIGGER IF EXISTS temp.quota_link_DELETE;
DROP TRIGGER IF EXISTS temp.quota_manifest_INSERT; DROP TRIGGER IF EXISTS temp.quota_manifest_DELETE;
DROP TRIGGER IF EXISTS temp.quota_tag_INSERT; DROP TRIGGER IF EXISTS temp.quota_tag_DELETE;
DROP TRIGGER IF EXISTS temp.quota_repository_DELETE; DROP TRIGGER IF EXISTS temp.quota_repository_UPDATE;
DELETE FROM quota_members; DELETE FROM quota_holders; DELETE FROM quota_config;
";

/// Counts all that is there.
const COUNT: &str = "
UPDATE quota_holders SET changed = 1,
    bytes = (SELECT coalesce(sum(size), 0) FROM blobs WHERE id IN
                (SELECT l.blob FROM quota_members m CROSS JOIN links l ON l.repository = m.repository
                 WHERE m.holder = quota_holders.id))
          + (SELECT coalesce(sum(x.size), 0) FROM quota_members m CROSS JOIN manifests x ON x.repository = m.repository
             WHERE m.holder = quota_holders.id),
    tags = (SELECT count(*) FROM quota_members m CROSS JOIN tags t ON t.repository = m.repository
            WHERE m.holder = quota_holders.id);
";

impl Catalogue {
    /// Has other quotas count from now on.
    pub async fn set_quotas(&self, ledger: Arc<Ledger>) -> Result<()> {
        let (before, slot) = (self.ledger(), self.ledger.clone());
        let counted = self.note(move |connection| {
            set(connection, ledger.quotas())?;
            // Here, so that what is counted from now on is told to this one.
            *slot.write().unwrap_or_else(PoisonError::into_inner) = ledger.clone();
            Ok(())
        });
        let counted = counted.await;
        if counted.is_err() {
            *self.ledger.write().unwrap_or_else(PoisonError::into_inner) = before;
        }
        counted
    }

    /// What each repository holds.
    pub async fn held(&self) -> Result<Vec<Usage>> {
        self.read(|connection| {
            let step = "add up what repositories hold";
            let mut statement = connection
                .prepare(
                    "SELECT r.name, (SELECT coalesce(sum(b.size), 0) FROM links l CROSS JOIN blobs b ON b.id = l.blob
                                     WHERE l.repository = r.id)
                        + (SELECT coalesce(sum(size), 0) FROM manifests m WHERE m.repository = r.id),
                        (SELECT count(*) FROM tags t WHERE t.repository = r.id)
                     FROM repositories r ORDER BY r.name",
                )
                .step(step)?;
            let rows = statement.query_map([], |row| {
                let number = |at| row.get::<_, i64>(at).map(|number| number as u64);
                Ok(Usage { name: row.get(0)?, bytes: number(1)?, tags: number(2)?, ..Usage::default() })
            });
            rows.step(step)?.collect::<rusqlite::Result<_>>().step(step)
        })
        .await
    }
}

/// Makes the tables, empty, on the connection that writes.
pub(super) fn prepare(connection: &Connection) -> Result<()> {
    let step = "prepare for quotas";
    connection.pragma_update(None, "temp_store", "MEMORY").step(step)?;
    connection.execute_batch(TABLES).step(step)
}

fn set(connection: &Connection, quotas: &[Quota]) -> Result<()> {
    let step = "set quotas";
    connection.execute_batch(NO_TRIGGERS).step(step)?;
    if quotas.is_empty() {
        return Ok(());
    }
    let configs: Vec<&QuotaConfig> = quotas.iter().map(|quota| &quota.config).collect();
    let config = serde_json::to_string(&configs).unwrap_or_default();
    connection.execute("INSERT INTO quota_config (config) VALUES (?1)", [config]).step(step)?;
    let mut statement =
        connection.prepare("SELECT id, name FROM repositories WHERE NOT cached").step(step)?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)));
    for row in rows.step(step)? {
        let (repository, name) = row.step(step)?;
        enroll_in(connection, quotas, repository, &name)?;
    }
    connection.execute_batch(COUNT).step(step)?;
    connection.execute_batch(&triggers()).step(step)
}

/// Finds the quotas of a repository that has just been made.
pub(super) fn enroll(connection: &Connection, repository: i64, name: &str) -> Result<()> {
    let step = "find a repository's quotas";
    let mut statement = connection.prepare_cached("SELECT config FROM quota_config").step(step)?;
    let mut rows = statement.query([]).step(step)?;
    let Some(row) = rows.next().step(step)? else { return Ok(()) };
    let configs: String = row.get(0).step(step)?;
    // It was written from what was understood.
    let configs: Vec<QuotaConfig> = serde_json::from_str(&configs).unwrap_or_default();
    let quotas: Vec<Quota> = configs.iter().filter_map(|config| Quota::read(config).ok()).collect();
    enroll_in(connection, &quotas, repository, name)
}

fn enroll_in(connection: &Connection, quotas: &[Quota], repository: i64, name: &str) -> Result<()> {
    let step = "enter a repository into a quota";
    for (at, quota) in quotas.iter().enumerate() {
        let Some(holder) = quota.holder(name) else { continue };
        connection
            .prepare_cached(
                "INSERT INTO quota_holders (quota, name, bytes_max, tags_max) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO NOTHING",
            )
            .and_then(|mut insert| {
                let bytes_max = quota.size_max.map(|bytes| bytes as i64);
                let tags_max = quota.config.tags.map(|tags| i64::try_from(tags).unwrap_or(i64::MAX));
                insert.execute(params![at as i64, holder, bytes_max, tags_max])
            })
            .step(step)?;
        connection
            .prepare_cached(
                "INSERT INTO quota_members (repository, holder)
                 SELECT ?1, id FROM quota_holders WHERE quota = ?2 AND name = ?3 ON CONFLICT DO NOTHING",
            )
            .and_then(|mut insert| insert.execute(params![repository, at as i64, holder]))
            .step(step)?;
    }
    Ok(())
}

/// What one holder has.
struct Held {
    id: i64,
    name: String,
    bytes: u64,
    bytes_max: Option<u64>,
    tags: u64,
    tags_max: Option<u64>,
}

fn held(connection: &Connection, repository: &str) -> Result<Vec<Held>> {
    let step = "look at a quota";
    let Some(repository) = repository_id(connection, repository)? else { return Ok(Vec::new()) };
    let mut statement = connection
        .prepare_cached(
            "SELECT h.id, h.name, h.bytes, h.bytes_max, h.tags, h.tags_max FROM quota_members m
             JOIN quota_holders h ON h.id = m.holder WHERE m.repository = ?1",
        )
        .step(step)?;
    let rows = statement.query_map([repository], |row| {
        let number =
            |at| row.get::<_, Option<i64>>(at).map(|number| number.map(|number| number.max(0) as u64));
        Ok(Held {
            id: row.get(0)?,
            name: row.get(1)?,
            bytes: number(2)?.unwrap_or_default(),
            bytes_max: number(3)?,
            tags: number(4)?.unwrap_or_default(),
            tags_max: number(5)?,
        })
    });
    rows.step(step)?.collect::<rusqlite::Result<_>>().step(step)
}

/// Makes a change that adds to a repository, unless it takes more than there may be. What doesn't grow is never too much: a
/// lower quota keeps nobody from pushing what is there.
pub(super) fn within<T>(
    connection: &Connection,
    repository: &str,
    change: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let before = held_before(connection, repository)?;
    let changed = change()?;
    for after in held(connection, repository)? {
        let earlier = before.iter().find(|earlier| earlier.id == after.id);
        let (bytes, tags) = earlier.map_or((0, 0), |earlier| (earlier.bytes, earlier.tags));
        for (what, used, now, limit) in [
            (What::Bytes, bytes, after.bytes, after.bytes_max),
            (What::Tags, tags, after.tags, after.tags_max),
        ] {
            if let Some(limit) = limit.filter(|limit| now > *limit && now > used) {
                let holder = after.name.clone();
                return Err(CatalogueError::Quota(Exceeded {
                    holder,
                    what,
                    limit,
                    coming: 0,
                    used,
                    wanted: now - used,
                }));
            }
        }
    }
    Ok(changed)
}

/// What the holders of a repository have that is made by the change, if at all: it is made for a look, and taken back.
fn held_before(connection: &Connection, repository: &str) -> Result<Vec<Held>> {
    if repository_id(connection, repository)?.is_some() {
        return held(connection, repository);
    }
    let step = "look at a quota";
    connection.execute_batch("SAVEPOINT look").step(step)?;
    let found = repository_to_change(connection, repository).and_then(|_| held(connection, repository));
    connection.execute_batch("ROLLBACK TO look; RELEASE look").step(step)?;
    found
}

/// Tells the ledger what has been counted since it was told last. For what is committed.
pub(super) fn publish(connection: &Connection, ledger: &Ledger) -> Result<()> {
    if ledger.quotas().is_empty() {
        return Ok(());
    }
    let step = "read what was counted";
    let mut statement = connection
        .prepare_cached("SELECT quota, name, bytes, tags FROM quota_holders WHERE changed")
        .step(step)?;
    let mut rows = statement.query([]).step(step)?;
    let mut any = false;
    while let Some(row) = rows.next().step(step)? {
        let number = |at| row.get::<_, i64>(at).map(|number| number.max(0) as u64).step(step);
        let name: String = row.get(1).step(step)?;
        ledger.publish(number(0)? as usize, &name, number(2)?, number(3)?);
        any = true;
    }
    if any {
        connection
            .prepare_cached("UPDATE quota_holders SET changed = 0 WHERE changed")
            .and_then(|mut update| update.execute([]))
            .step(step)?;
    }
    Ok(())
}
