//! What nobody needs any more. A plan is made from what readers see; each of its steps is checked again when it is made, in
//! the order of all other changes, so that nothing has to stand still meanwhile.

use rusqlite::{Connection, params};

use super::manifests::discard;
use super::{Catalogue, Result, Step, digest};
use crate::server::digest::Digest;

/// Steps of one kind in one plan. What is left is for the next one.
const STEPS_MAX: usize = 10_000;

/// What is too much as of when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Excess {
    /// What was touched, stored or orphaned before this time may go.
    pub before: i64,
    /// Manifests without a tag that were pushed before this time go, too.
    pub untagged_before: Option<i64>,
}

/// Why a manifest goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It refers to a manifest that was deleted.
    SubjectDeleted,
    /// It has no tag any more: a retention rule took it.
    Retired,
    /// It has no tag, and the configuration wants such manifests to go.
    Untagged,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condemned {
    Manifest {
        id: i64,
        repository: String,
        digest: Digest,
        size: u64,
        why: Why,
    },
    /// A blob's place in a repository.
    Link {
        repository_id: i64,
        blob_id: i64,
        repository: String,
        digest: Digest,
    },
    /// A blob's bytes.
    Blob {
        id: i64,
        digest: Digest,
        size: u64,
    },
    Repository {
        id: i64,
        name: String,
    },
    /// A blob that only cached repositories have, with its places in them.
    CachedBlob {
        id: i64,
        digest: Digest,
        size: u64,
        used_at: i64,
    },
    CachedManifest {
        id: i64,
        repository: String,
        repository_id: i64,
        digest: Digest,
        size: u64,
        used_at: i64,
    },
}

impl Catalogue {
    /// What would go now, in the order in which it has to. True when there is more than one plan holds.
    pub async fn condemned(&self, excess: Excess) -> Result<(Vec<Condemned>, bool)> {
        self.read(move |connection| {
            // One view of it all.
            let view = connection.unchecked_transaction().step("begin to look")?;
            plan(&view, excess)
        })
        .await
    }

    /// Takes a step, if it is still to be taken. Of a blob this is the row; its bytes are the caller's to remove afterwards.
    pub async fn condemn(&self, step: Condemned, excess: Excess) -> Result<bool> {
        self.remove(move |connection| take(connection, &step, excess)).await
    }
}

const NO_TAG: &str = "NOT EXISTS (SELECT 1 FROM tags WHERE tags.manifest = m.id)";
const NO_PARENT: &str = "NOT EXISTS (SELECT 1 FROM needs n JOIN manifests p ON p.id = n.manifest
    WHERE n.digest = m.digest AND n.is_manifest AND p.repository = m.repository AND p.id <> m.id)";
const SUBJECT_DELETED: &str = "m.orphaned_at < ?1";
// What is an upstream's goes by its last use (`cached`).
const UNTAGGED: &str = "m.pushed_at < ?2 AND NOT (SELECT r.cached FROM repositories r WHERE r.id = m.repository) AND (m.subject IS NULL OR NOT EXISTS
    (SELECT 1 FROM manifests s WHERE s.repository = m.repository AND s.digest = m.subject))";
const RETIRED: &str = "m.id IN (SELECT manifest FROM retired)
    AND NOT EXISTS (SELECT 1 FROM retired x WHERE x.manifest = m.id AND x.retired_at >= ?1) AND (m.subject IS NULL OR NOT EXISTS
    (SELECT 1 FROM manifests s WHERE s.repository = m.repository AND s.digest = m.subject))";
const EMPTY: &str = "r.created_at < ?1 AND NOT EXISTS (SELECT 1 FROM manifests m WHERE m.repository = r.id)
    AND NOT EXISTS (SELECT 1 FROM links l WHERE l.repository = r.id)
    AND NOT EXISTS (SELECT 1 FROM uploads u WHERE u.repository = r.name)";

fn plan(connection: &Connection, excess: Excess) -> Result<(Vec<Condemned>, bool)> {
    let step = "look for what is not needed";
    let mut steps = Vec::new();
    let mut more = false;
    let mut condemned = Vec::new();
    let query = format!(
        "SELECT m.id, r.name, m.digest, m.size, m.orphaned_at IS NOT NULL AND {SUBJECT_DELETED}, {RETIRED}
         FROM manifests m JOIN repositories r ON r.id = m.repository
         WHERE {NO_TAG} AND {NO_PARENT} AND ({SUBJECT_DELETED} OR {RETIRED} OR (?2 IS NOT NULL AND {UNTAGGED})) LIMIT {STEPS_MAX}"
    );
    let mut statement = connection.prepare(&query).step(step)?;
    let mut rows = statement.query(params![excess.before, excess.untagged_before]).step(step)?;
    while let Some(row) = rows.next().step(step)? {
        let id: i64 = row.get(0).step(step)?;
        condemned.push(id);
        let orphan: bool = row.get(4).step(step)?;
        steps.push(Condemned::Manifest {
            id,
            repository: row.get(1).step(step)?,
            digest: digest(row.get(2).step(step)?)?,
            size: row.get::<_, i64>(3).step(step)? as u64,
            why: match (orphan, row.get(5).step(step)?) {
                (true, _) => Why::SubjectDeleted,
                (false, true) => Why::Retired,
                (false, false) => Why::Untagged,
            },
        });
    }
    more |= condemned.len() == STEPS_MAX;
    let condemned = serde_json::to_string(&condemned).unwrap_or_default();
    let links =
        "l.touched_at < ?1 AND NOT EXISTS (SELECT 1 FROM needs n JOIN manifests m ON m.id = n.manifest
        WHERE n.digest = b.digest AND NOT n.is_manifest AND m.repository = l.repository
        AND m.id NOT IN (SELECT value FROM json_each(?2)))";
    let query = format!(
        "SELECT l.repository, l.blob, r.name, b.digest FROM links l JOIN blobs b ON b.id = l.blob
         JOIN repositories r ON r.id = l.repository WHERE {links} LIMIT {STEPS_MAX}"
    );
    let before = steps.len();
    let mut statement = connection.prepare(&query).step(step)?;
    let mut rows = statement.query(params![excess.before, condemned]).step(step)?;
    while let Some(row) = rows.next().step(step)? {
        steps.push(Condemned::Link {
            repository_id: row.get(0).step(step)?,
            blob_id: row.get(1).step(step)?,
            repository: row.get(2).step(step)?,
            digest: digest(row.get(3).step(step)?)?,
        });
    }
    more |= steps.len() - before == STEPS_MAX;
    let query = format!(
        "SELECT b.id, b.digest, b.size FROM blobs b WHERE b.stored_at < ?1 AND NOT EXISTS
         (SELECT 1 FROM links l WHERE l.blob = b.id AND NOT ({links})) LIMIT {STEPS_MAX}"
    );
    let before = steps.len();
    let mut statement = connection.prepare(&query).step(step)?;
    let mut rows = statement.query(params![excess.before, condemned]).step(step)?;
    while let Some(row) = rows.next().step(step)? {
        steps.push(Condemned::Blob {
            id: row.get(0).step(step)?,
            digest: digest(row.get(1).step(step)?)?,
            size: row.get::<_, i64>(2).step(step)? as u64,
        });
    }
    more |= steps.len() - before == STEPS_MAX;
    let query = format!("SELECT r.id, r.name FROM repositories r WHERE {EMPTY} LIMIT {STEPS_MAX}");
    let mut statement = connection.prepare(&query).step(step)?;
    let mut rows = statement.query([excess.before]).step(step)?;
    while let Some(row) = rows.next().step(step)? {
        steps.push(Condemned::Repository { id: row.get(0).step(step)?, name: row.get(1).step(step)? });
    }
    Ok((steps, more))
}

fn take(connection: &Connection, condemned: &Condemned, excess: Excess) -> Result<bool> {
    let step = "remove what is not needed";
    let changed = match condemned {
        Condemned::Manifest { id, digest, .. } => {
            let query = format!(
                "SELECT m.repository FROM manifests m WHERE m.id = ?3 AND {NO_TAG} AND {NO_PARENT}
                 AND ({SUBJECT_DELETED} OR {RETIRED} OR (?2 IS NOT NULL AND {UNTAGGED}))"
            );
            let mut statement = connection.prepare_cached(&query).step(step)?;
            let mut rows =
                statement.query(params![excess.before, excess.untagged_before, id]).step(step)?;
            let Some(row) = rows.next().step(step)? else { return Ok(false) };
            let repository = row.get(0).step(step)?;
            super::retired::pass_on(connection, repository, *id)?;
            discard(connection, repository, *id, &digest.to_string())?;
            1
        }
        Condemned::Link { repository_id, blob_id, digest, .. } => connection
            .prepare_cached(
                "DELETE FROM links WHERE repository = ?1 AND blob = ?2 AND touched_at < ?3 AND NOT EXISTS
                 (SELECT 1 FROM needs n JOIN manifests m ON m.id = n.manifest
                  WHERE n.digest = ?4 AND NOT n.is_manifest AND m.repository = ?1)",
            )
            .and_then(|mut delete| {
                delete.execute(params![repository_id, blob_id, excess.before, digest.to_string()])
            })
            .step(step)?,
        Condemned::Blob { id, .. } => connection
            .prepare_cached(
                "DELETE FROM blobs WHERE id = ?1 AND stored_at < ?2
                 AND NOT EXISTS (SELECT 1 FROM links WHERE blob = ?1)",
            )
            .and_then(|mut delete| delete.execute(params![id, excess.before]))
            .step(step)?,
        Condemned::Repository { id, .. } => connection
            .prepare_cached(&format!(
                "DELETE FROM repositories WHERE id IN (SELECT r.id FROM repositories r WHERE r.id = ?2 AND {EMPTY})"
            ))
            .and_then(|mut delete| delete.execute(params![excess.before, id]))
            .step(step)?,
        Condemned::CachedBlob { .. } | Condemned::CachedManifest { .. } => {
            return super::cached::take(connection, condemned);
        }
    };
    Ok(changed > 0)
}
