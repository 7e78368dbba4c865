//! What is kept of upstreams. A repository is either one's own or cached, from its beginning on; what lies in a cached one can be had
//! again, so it goes by its last use when all of it together has become too much.

use rusqlite::{Connection, OptionalExtension, params};

use super::manifests::{NewManifest, Pushed, add, discard};
use super::{Catalogue, Condemned, Result, Step, blobs, digest, now, repository_id};
use crate::server::digest::Digest;

/// Steps in one plan, as for other collections.
const STEPS_MAX: usize = 10_000;

/// What is cached takes room: blobs that no repository of one's own has, and manifests.
const COUNTED: &str = "SELECT
    (SELECT coalesce(sum(b.size), 0) FROM blobs b
     WHERE EXISTS (SELECT 1 FROM links l JOIN repositories r ON r.id = l.repository WHERE l.blob = b.id AND r.cached)
       AND NOT EXISTS (SELECT 1 FROM links l JOIN repositories r ON r.id = l.repository WHERE l.blob = b.id AND NOT r.cached))
  + (SELECT coalesce(sum(m.size), 0) FROM manifests m JOIN repositories r ON r.id = m.repository WHERE r.cached)";

/// All of it, by its last use. A manifest that was used with a blob goes after it.
const BY_LAST_USE: &str = "SELECT kind, id, digest, size, used_at, name, repository FROM (
    SELECT 0 AS kind, b.id AS id, b.digest AS digest, b.size AS size, max(l.touched_at) AS used_at, '' AS name, 0 AS repository
    FROM links l JOIN repositories r ON r.id = l.repository JOIN blobs b ON b.id = l.blob GROUP BY b.id HAVING min(r.cached)
    UNION ALL
    SELECT 1, m.id, m.digest, m.size, max(m.pushed_at, coalesce(m.pulled_at, 0)), r.name, r.id
    FROM manifests m JOIN repositories r ON r.id = m.repository WHERE r.cached
) ORDER BY used_at, kind, id LIMIT ?1";

impl Catalogue {
    /// Keeps a manifest of an upstream. Its tags were there at that time.
    pub async fn add_cached_manifest(&self, new: NewManifest, checked_at: i64) -> Result<()> {
        self.change(move |connection| {
            // All may be missing of it, so it can't be refused for that.
            let Pushed::Done = add(connection, &new)? else { return Ok(()) };
            mark(connection, &new.repository)?;
            for tag in &new.tags {
                checked(connection, &new.repository, tag, checked_at)?;
            }
            Ok(())
        })
        .await
    }

    /// Has a tag stand for a manifest that is here, as the upstream has just said; false when it isn't here.
    pub async fn check_cached_tag(
        &self,
        repository: String,
        tag: String,
        digest: Digest,
        checked_at: i64,
    ) -> Result<bool> {
        self.note(move |connection| {
            let set = connection
                .prepare_cached(
                    "INSERT INTO tags (repository, name, manifest, tagged_at)
                     SELECT r.id, ?2, m.id, ?4 FROM repositories r JOIN manifests m ON m.repository = r.id
                     WHERE r.name = ?1 AND m.digest = ?3
                     ON CONFLICT DO UPDATE SET tagged_at = iif(manifest = excluded.manifest, tagged_at, excluded.tagged_at),
                        manifest = excluded.manifest",
                )
                .and_then(|mut set| set.execute(params![repository, tag, digest.to_string(), now()]))
                .step("set a tag")?;
            checked(connection, &repository, &tag, checked_at)?;
            Ok(set > 0)
        })
        .await
    }

    /// Enters a blob of an upstream whose bytes are in the storage.
    pub async fn add_cached_blob(&self, repository: String, digest: Digest, size: u64) -> Result<()> {
        self.change(move |connection| {
            let digest = digest.to_string();
            blobs::add_stored(connection, &digest, size)?;
            blobs::link(connection, &repository, &digest)?;
            mark(connection, &repository)
        })
        .await
    }

    /// Lets a repository have a blob that another one of the same upstream has, which has said that it is there, too.
    pub async fn link_cached_blob(
        &self,
        upstream: String,
        repository: String,
        digest: Digest,
    ) -> Result<bool> {
        self.change(move |connection| {
            let text = digest.to_string();
            if !elsewhere(connection, &upstream, &text)? {
                return Ok(false);
            }
            blobs::link(connection, &repository, &text)?;
            mark(connection, &repository)?;
            Ok(true)
        })
        .await
    }

    /// Whether a repository of that upstream has a blob.
    pub async fn is_cached_blob(&self, upstream: String, digest: Digest) -> Result<bool> {
        self.read(move |connection| elsewhere(connection, &upstream, &digest.to_string())).await
    }

    /// Forgets that a repository has a blob, whatever needs it: it can be had again.
    pub async fn forget_cached_blob(&self, repository: String, digest: Digest) -> Result<bool> {
        self.remove(move |connection| {
            let removed = connection
                .prepare_cached(
                    "DELETE FROM links WHERE repository = (SELECT id FROM repositories WHERE name = ?1)
                     AND blob = (SELECT id FROM blobs WHERE digest = ?2)",
                )
                .and_then(|mut delete| delete.execute(params![repository, digest.to_string()]))
                .step("take a blob out of a repository")?;
            Ok(removed > 0)
        })
        .await
    }

    /// Notes when blobs were last used, each with its repository.
    pub async fn note_uses(&self, uses: Vec<((String, Digest), i64)>) -> Result<()> {
        self.note(move |connection| {
            let step = "note uses";
            let mut statement = connection
                .prepare_cached(
                    "UPDATE links SET touched_at = max(touched_at, ?3)
                     WHERE repository = (SELECT id FROM repositories WHERE name = ?1)
                       AND blob = (SELECT id FROM blobs WHERE digest = ?2)",
                )
                .step(step)?;
            for ((repository, digest), time) in &uses {
                statement.execute(params![repository, digest.to_string(), time]).step(step)?;
            }
            Ok(())
        })
        .await
    }

    /// Forgets what was cached of others than these upstreams; how many repositories that were. The bytes are for the collection.
    pub async fn keep_cached_of(&self, upstreams: Vec<String>) -> Result<usize> {
        self.remove(move |connection| {
            let upstreams = serde_json::to_string(&upstreams).unwrap_or_default();
            connection
                .prepare_cached(
                    "DELETE FROM repositories WHERE cached
                     AND substr(name, 1, instr(name, '/') - 1) NOT IN (SELECT value FROM json_each(?1))",
                )
                .and_then(|mut delete| delete.execute([upstreams]))
                .step("forget an upstream")
        })
        .await
    }

    /// A repository of one's own whose name is below one of these upstreams, if there is any with something in it.
    pub async fn own_below(&self, upstreams: Vec<String>) -> Result<Option<String>> {
        self.read(move |connection| {
            let upstreams = serde_json::to_string(&upstreams).unwrap_or_default();
            connection
                .prepare_cached(
                    "SELECT r.name FROM repositories r WHERE NOT r.cached
                     AND substr(r.name, 1, instr(r.name, '/') - 1) IN (SELECT value FROM json_each(?1))
                     AND (EXISTS (SELECT 1 FROM manifests m WHERE m.repository = r.id)
                          OR EXISTS (SELECT 1 FROM links l WHERE l.repository = r.id)) LIMIT 1",
                )
                .and_then(|mut query| query.query_row([upstreams], |row| row.get(0)).optional())
                .step("look for repositories")
        })
        .await
    }

    /// How many bytes count as cached.
    pub async fn cached_bytes(&self) -> Result<u64> {
        self.read(counted).await
    }

    /// What goes so that no more than so many bytes are cached, in its order. True when there is more than one plan holds.
    pub async fn surplus(&self, bytes_max: u64) -> Result<(Vec<Condemned>, bool)> {
        self.read(move |connection| {
            let step = "look for what is cached";
            // One view of it all.
            let view = connection.unchecked_transaction().step(step)?;
            let mut left = counted(&view)?;
            if left <= bytes_max {
                return Ok((Vec::new(), false));
            }
            let mut steps = Vec::new();
            let mut statement = view.prepare_cached(BY_LAST_USE).step(step)?;
            let mut rows = statement.query([STEPS_MAX as i64]).step(step)?;
            while left > bytes_max
                && let Some(row) = rows.next().step(step)?
            {
                let (id, size) = (row.get(1).step(step)?, row.get::<_, i64>(3).step(step)? as u64);
                let (digest, used_at) = (digest(row.get(2).step(step)?)?, row.get(4).step(step)?);
                steps.push(match row.get::<_, i64>(0).step(step)? {
                    0 => Condemned::CachedBlob { id, digest, size, used_at },
                    _ => Condemned::CachedManifest {
                        id,
                        repository: row.get(5).step(step)?,
                        repository_id: row.get(6).step(step)?,
                        digest,
                        size,
                        used_at,
                    },
                });
                left = left.saturating_sub(size);
            }
            let more = steps.len() == STEPS_MAX;
            Ok((steps, more))
        })
        .await
    }
}

/// Takes a step of such a plan, unless it was used since.
pub(super) fn take(connection: &Connection, condemned: &Condemned) -> Result<bool> {
    let step = "remove what is cached";
    match condemned {
        Condemned::CachedBlob { id, used_at, .. } => {
            let may_go: bool = connection
                .prepare_cached(
                    "SELECT coalesce(min(r.cached) AND max(l.touched_at) <= ?2, 0) FROM links l
                     JOIN repositories r ON r.id = l.repository WHERE l.blob = ?1",
                )
                .and_then(|mut query| query.query_row([id, used_at], |row| row.get(0)))
                .step(step)?;
            if may_go {
                for delete in ["DELETE FROM links WHERE blob = ?1", "DELETE FROM blobs WHERE id = ?1"] {
                    let deleted =
                        connection.prepare_cached(delete).and_then(|mut delete| delete.execute([id]));
                    deleted.step(step)?;
                }
            }
            Ok(may_go)
        }
        Condemned::CachedManifest { id, repository_id, digest, used_at, .. } => {
            let may_go: bool = connection
                .prepare_cached(
                    "SELECT 1 FROM manifests WHERE id = ?1 AND max(pushed_at, coalesce(pulled_at, 0)) <= ?2",
                )
                .and_then(|mut query| query.exists([id, used_at]))
                .step(step)?;
            if may_go {
                discard(connection, *repository_id, *id, &digest.to_string())?;
            }
            Ok(may_go)
        }
        _ => Ok(false),
    }
}

fn counted(connection: &Connection) -> Result<u64> {
    let bytes: rusqlite::Result<i64> =
        connection.prepare_cached(COUNTED).and_then(|mut query| query.query_row([], |row| row.get(0)));
    bytes.map(|bytes| bytes as u64).step("count what is cached")
}

/// Says of a repository that it is an upstream's.
fn mark(connection: &Connection, repository: &str) -> Result<()> {
    connection
        .prepare_cached("UPDATE repositories SET cached = 1 WHERE name = ?1 AND NOT cached")
        .and_then(|mut update| update.execute([repository]))
        .map(drop)
        .step("mark a repository")
}

fn checked(connection: &Connection, repository: &str, tag: &str, checked_at: i64) -> Result<()> {
    let Some(repository) = repository_id(connection, repository)? else { return Ok(()) };
    connection
        .prepare_cached("UPDATE tags SET checked_at = ?3 WHERE repository = ?1 AND name = ?2")
        .and_then(|mut update| update.execute(params![repository, tag, checked_at]))
        .map(drop)
        .step("note that a tag was looked at")
}

fn elsewhere(connection: &Connection, upstream: &str, digest: &str) -> Result<bool> {
    connection
        .prepare_cached(
            "SELECT 1 FROM blobs b JOIN links l ON l.blob = b.id JOIN repositories r ON r.id = l.repository
             WHERE b.digest = ?2 AND r.cached AND substr(r.name, 1, length(?1) + 1) = ?1 || '/'",
        )
        .and_then(|mut query| query.exists([upstream, digest]))
        .step("find a blob of an upstream")
}
