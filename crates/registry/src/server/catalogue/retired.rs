//! Tags that retention takes away: noted as long as their manifests are there, so that they can be put back, and so that manifests
//! that nothing but such a tag has kept go when that can't be undone any more.

use rusqlite::{Connection, OptionalExtension, params};

use super::deliveries::enter;
use super::usage::within;
use super::{Catalogue, Result, Step, now, repository_id};
use crate::server::retention::{Retired, TagFacts};
use crate::server::webhooks::Notice;

/// What became of the wish to put a tag back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restored {
    /// It stands for this manifest again.
    Done(String),
    Unknown,
    /// It stands for something else by now.
    Taken(String),
}

impl Catalogue {
    /// The tags of a repository, with what retention wants to know of them. What is an upstream's has none.
    pub async fn tag_facts(&self, repository: String) -> Result<Vec<TagFacts>> {
        self.read(move |connection| {
            let step = "look at tags";
            let mut statement = connection
                .prepare_cached(
                    "SELECT t.name, m.digest, t.tagged_at, m.pulled_at FROM tags t JOIN manifests m ON m.id = t.manifest
                     WHERE t.repository = (SELECT id FROM repositories WHERE name = ?1 AND NOT cached) ORDER BY t.name",
                )
                .step(step)?;
            let rows = statement.query_map([repository], |row| {
                Ok(TagFacts {
                    name: row.get(0)?,
                    digest: row.get(1)?,
                    tagged_at: row.get(2)?,
                    pulled_at: row.get(3)?,
                })
            });
            rows.step(step)?.collect::<rusqlite::Result<_>>().step(step)
        })
        .await
    }

    /// Takes tags away, if they are still what was looked at: not pushed or pulled since. The names of those that went.
    pub async fn retire_tags(
        &self,
        repository: String,
        tags: Vec<(TagFacts, Vec<Notice>)>,
    ) -> Result<Vec<String>> {
        self.remove(move |connection| {
            let Some(repository) = repository_id(connection, &repository)? else { return Ok(Vec::new()) };
            let mut gone = Vec::new();
            for (tag, notices) in &tags {
                if retire(connection, repository, tag)? {
                    enter(connection, notices)?;
                    gone.push(tag.name.clone());
                }
            }
            Ok(gone)
        })
        .await
    }

    /// Tags that can be put back.
    pub async fn retired(&self) -> Result<Vec<Retired>> {
        self.read(|connection| {
            let step = "list tags that can be put back";
            let mut statement = connection
                .prepare(
                    "SELECT r.name, x.name, m.digest, x.retired_at FROM retired x JOIN manifests m ON m.id = x.manifest
                     JOIN repositories r ON r.id = x.repository WHERE x.name <> '' ORDER BY r.name, x.name, x.retired_at",
                )
                .step(step)?;
            let rows = statement.query_map([], |row| {
                Ok(Retired {
                    repository: row.get(0)?,
                    tag: row.get(1)?,
                    digest: row.get(2)?,
                    retired_s: row.get::<_, i64>(3)?.max(0) as u64,
                })
            });
            rows.step(step)?.collect::<rusqlite::Result<_>>().step(step)
        })
        .await
    }

    /// Puts a tag back; the last that was taken away, if there were several of the name. It counts as pushed now.
    pub async fn restore_tag(&self, repository: String, tag: String) -> Result<Restored> {
        self.change(move |connection| {
            within(connection, &repository, || restore(connection, &repository, &tag))
        })
        .await
    }
}

fn retire(connection: &Connection, repository: i64, tag: &TagFacts) -> Result<bool> {
    let step = "take a tag away";
    let manifest: Option<i64> = connection
        .prepare_cached(
            "DELETE FROM tags WHERE repository = ?1 AND name = ?2 AND tagged_at = ?3 AND EXISTS
                (SELECT 1 FROM manifests m WHERE m.id = tags.manifest AND m.digest = ?4 AND m.pulled_at IS ?5)
             RETURNING manifest",
        )
        .and_then(|mut delete| {
            let values = params![repository, tag.name, tag.tagged_at, tag.digest, tag.pulled_at];
            delete.query_row(values, |row| row.get(0)).optional()
        })
        .step(step)?;
    let Some(manifest) = manifest else { return Ok(false) };
    connection
        .prepare_cached(
            "INSERT INTO retired (repository, name, manifest, retired_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET retired_at = excluded.retired_at",
        )
        .and_then(|mut insert| insert.execute(params![repository, tag.name, manifest, now()]))
        .step(step)?;
    Ok(true)
}

fn restore(connection: &Connection, repository: &str, tag: &str) -> Result<Restored> {
    let step = "put a tag back";
    let Some(id) = repository_id(connection, repository)? else { return Ok(Restored::Unknown) };
    let taken: Option<String> = connection
        .prepare_cached(
            "SELECT m.digest FROM tags t JOIN manifests m ON m.id = t.manifest WHERE t.repository = ?1 AND t.name = ?2",
        )
        .and_then(|mut query| query.query_row(params![id, tag], |row| row.get(0)).optional())
        .step(step)?;
    if let Some(digest) = taken {
        return Ok(Restored::Taken(digest));
    }
    let found: Option<(i64, String)> = connection
        .prepare_cached(
            "SELECT m.id, m.digest FROM retired x JOIN manifests m ON m.id = x.manifest
             WHERE x.repository = ?1 AND x.name = ?2 AND x.name <> '' ORDER BY x.retired_at DESC, m.id DESC LIMIT 1",
        )
        .and_then(|mut query| {
            query.query_row(params![id, tag], |row| Ok((row.get(0)?, row.get(1)?))).optional()
        })
        .step(step)?;
    let Some((manifest, digest)) = found else { return Ok(Restored::Unknown) };
    connection
        .prepare_cached("INSERT INTO tags (repository, name, manifest, tagged_at) VALUES (?1, ?2, ?3, ?4)")
        .and_then(|mut insert| insert.execute(params![id, tag, manifest, now()]))
        .step(step)?;
    connection
        .prepare_cached("DELETE FROM retired WHERE repository = ?1 AND name = ?2 AND manifest = ?3")
        .and_then(|mut delete| delete.execute(params![id, tag, manifest]))
        .step(step)?;
    Ok(Restored::Done(digest))
}

/// A manifest is wanted again: what has become of its tags before is over.
pub(super) fn keep(connection: &Connection, manifest: i64) -> Result<()> {
    connection
        .prepare_cached("DELETE FROM retired WHERE manifest = ?1")
        .and_then(|mut delete| delete.execute([manifest]))
        .map(drop)
        .step("keep a manifest")
}

/// A manifest that went with its tags takes along those that only it has listed: they go with the next collection.
pub(super) fn pass_on(connection: &Connection, repository: i64, manifest: i64) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO retired (repository, name, manifest, retired_at)
             SELECT ?1, '', c.id, (SELECT max(retired_at) FROM retired WHERE manifest = ?2)
             FROM needs n JOIN manifests c ON c.digest = n.digest AND c.repository = ?1
             WHERE n.manifest = ?2 AND n.is_manifest AND EXISTS (SELECT 1 FROM retired WHERE manifest = ?2)
             ON CONFLICT DO NOTHING",
        )
        .and_then(|mut insert| insert.execute([repository, manifest]))
        .map(drop)
        .step("let go of what an index has listed")
}
