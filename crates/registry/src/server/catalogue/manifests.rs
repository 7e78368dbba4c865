//! Manifests, tags and referrers.

use std::collections::BTreeMap;

use corten_image::manifest::Descriptor;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::deliveries::enter;
use super::usage::within;
use super::{Catalogue, Result, Step, digest, now, repository_id, repository_to_change};
use crate::server::digest::Digest;
use crate::server::manifest::Manifest;
use crate::server::name::Reference;
use crate::server::webhooks::Notice;

/// A manifest as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestRow {
    pub id: i64,
    pub digest: Digest,
    pub media_type: String,
    pub size: u64,
    /// Empty when there are more than were asked for.
    pub bytes: Vec<u8>,
    /// Of a tag that is an upstream's, when that last said so.
    pub checked_at: Option<i64>,
}

/// A manifest to be kept, with the tags that it gets.
#[derive(Clone, Debug)]
pub struct NewManifest {
    pub repository: String,
    pub digest: Digest,
    pub bytes: Vec<u8>,
    pub manifest: Manifest,
    pub tags: Vec<String>,
    /// Whether what it needs may be missing.
    pub blobs_may_miss: bool,
    pub manifests_may_miss: bool,
}

/// What became of a manifest that was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pushed {
    Done,
    /// The repository doesn't have these.
    Missing(Vec<String>),
}

/// What an answer about referrers says of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    pub digest: Digest,
    pub media_type: String,
    pub size: u64,
    pub artifact_type: Option<String>,
    pub annotations: BTreeMap<String, String>,
}

/// Some of a manifest's referrers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReferrersPage {
    pub referrers: Vec<Referrer>,
    /// The digest after which to go on.
    pub next: Option<String>,
}

impl ReferrersPage {
    /// Of a whole list, those after that digest.
    pub fn of(list: Vec<Descriptor>, after: &str, bytes_max: usize) -> ReferrersPage {
        let mut page = ReferrersPage::default();
        let mut bytes = 0;
        let digest = |one: &Descriptor| one.digest.to_string().parse::<Digest>();
        let mut list: Vec<_> = list.into_iter().filter_map(|one| Some((digest(&one).ok()?, one))).collect();
        list.sort_by_key(|(digest, _)| *digest);
        list.dedup_by_key(|(digest, _)| *digest);
        for (digest, one) in list.into_iter().filter(|(digest, _)| digest.to_string().as_str() > after) {
            let annotations = one.annotations.unwrap_or_default();
            bytes += 400 + annotations.iter().map(|(key, value)| key.len() + value.len() + 6).sum::<usize>();
            if bytes > bytes_max && !page.referrers.is_empty() {
                page.next = page.referrers.last().map(|last| last.digest.to_string());
                break;
            }
            page.referrers.push(Referrer {
                digest,
                media_type: one.media_type,
                size: one.size,
                artifact_type: one.artifact_type,
                annotations,
            });
        }
        page
    }
}

impl Catalogue {
    /// A manifest by tag or digest; with its bytes, if they are no more than so many.
    pub async fn manifest(
        &self,
        repository: String,
        reference: Reference,
        bytes_max: u64,
    ) -> Result<Option<ManifestRow>> {
        self.read(move |connection| {
            let (checked_at, from, wanted) = match &reference {
                Reference::Tag(tag) => (
                    "tags.checked_at",
                    "tags JOIN manifests ON manifests.id = tags.manifest WHERE tags.name = ?2 AND tags.repository",
                    tag.to_string(),
                ),
                Reference::Digest(digest) => {
                    ("NULL", "manifests WHERE manifests.digest = ?2 AND manifests.repository", digest.to_string())
                }
            };
            let query = format!(
                "SELECT manifests.id, manifests.digest, manifests.media_type, manifests.size,
                 CASE WHEN manifests.size <= ?3 THEN manifests.bytes ELSE x'' END, {checked_at}
                 FROM {from} = (SELECT id FROM repositories WHERE name = ?1)"
            );
            let bytes_max = i64::try_from(bytes_max).unwrap_or(i64::MAX);
            let row = connection
                .prepare_cached(&query)
                .and_then(|mut query| query.query_row(params![repository, wanted, bytes_max], manifest_row).optional())
                .step("find a manifest")?;
            row.map(|(text, row)| Ok(ManifestRow { digest: digest(text)?, ..row })).transpose()
        })
        .await
    }

    /// Keeps a manifest, and sets its tags; and tells of that.
    pub async fn add_manifest(&self, new: NewManifest, notices: Vec<Notice>) -> Result<Pushed> {
        self.change(move |connection| {
            let pushed = within(connection, &new.repository, || add(connection, &new))?;
            if pushed == Pushed::Done {
                enter(connection, &notices)?;
            }
            Ok(pushed)
        })
        .await
    }

    /// Removes a tag; false when there is none.
    pub async fn remove_tag(&self, repository: String, tag: String, notices: Vec<Notice>) -> Result<bool> {
        self.remove(move |connection| {
            let removed = connection
                .prepare_cached(
                    "DELETE FROM tags WHERE name = ?2 AND repository = (SELECT id FROM repositories WHERE name = ?1)",
                )
                .and_then(|mut statement| statement.execute([&repository, &tag]))
                .step("remove a tag")?;
            if removed > 0 {
                enter(connection, &notices)?;
            }
            Ok(removed > 0)
        })
        .await
    }

    /// Removes a manifest with its tags; false when there is none.
    pub async fn remove_manifest(
        &self,
        repository: String,
        digest: Digest,
        notices: Vec<Notice>,
    ) -> Result<bool> {
        self.remove(move |connection| {
            let Some(repository) = repository_id(connection, &repository)? else { return Ok(false) };
            let digest = digest.to_string();
            let found: Option<i64> = connection
                .prepare_cached("SELECT id FROM manifests WHERE repository = ?1 AND digest = ?2")
                .and_then(|mut query| {
                    query.query_row(params![repository, digest], |row| row.get(0)).optional()
                })
                .step("find a manifest")?;
            let Some(id) = found else { return Ok(false) };
            remove(connection, repository, id, &digest)?;
            enter(connection, &notices).map(|()| true)
        })
        .await
    }

    /// Referrers of a manifest, which itself needn't be there, after that digest.
    pub async fn referrers(
        &self,
        repository: String,
        subject: Digest,
        artifact_type: Option<String>,
        after: String,
        bytes_max: usize,
    ) -> Result<ReferrersPage> {
        self.read(move |connection| {
            let step = "list referrers";
            let mut statement = connection
                .prepare_cached(
                    "SELECT digest, media_type, size, artifact_type, annotations FROM manifests
                     WHERE repository = (SELECT id FROM repositories WHERE name = ?1) AND subject = ?2
                       AND (?3 IS NULL OR artifact_type = ?3) AND digest > ?4 ORDER BY digest",
                )
                .step(step)?;
            let mut rows =
                statement.query(params![repository, subject.to_string(), artifact_type, after]).step(step)?;
            let mut page = ReferrersPage::default();
            let mut bytes = 0;
            while let Some(row) = rows.next().step(step)? {
                let annotations: Option<String> = row.get(4).step(step)?;
                bytes += 400 + annotations.as_ref().map_or(0, String::len);
                if bytes > bytes_max && !page.referrers.is_empty() {
                    page.next = page.referrers.last().map(|last| last.digest.to_string());
                    break;
                }
                page.referrers.push(Referrer {
                    digest: digest(row.get(0).step(step)?)?,
                    media_type: row.get(1).step(step)?,
                    size: row.get::<_, i64>(2).step(step)? as u64,
                    artifact_type: row.get(3).step(step)?,
                    annotations: annotations
                        .and_then(|text| serde_json::from_str(&text).ok())
                        .unwrap_or_default(),
                });
            }
            Ok(page)
        })
        .await
    }

    /// Notes when manifests were last pulled.
    pub async fn note_pulls(&self, pulls: Vec<(i64, i64)>) -> Result<()> {
        self.note(move |connection| {
            let step = "note pulls";
            let mut statement =
                connection.prepare_cached("UPDATE manifests SET pulled_at = ?2 WHERE id = ?1").step(step)?;
            for (manifest, time) in &pulls {
                statement.execute([manifest, time]).step(step)?;
            }
            Ok(())
        })
        .await
    }
}

fn manifest_row(row: &Row<'_>) -> rusqlite::Result<(String, ManifestRow)> {
    let placeholder = Digest::of(crate::server::digest::Algorithm::Sha256, &[]);
    let row_of = ManifestRow {
        id: row.get(0)?,
        digest: placeholder,
        media_type: row.get(2)?,
        size: row.get::<_, i64>(3)? as u64,
        bytes: row.get(4)?,
        checked_at: row.get(5)?,
    };
    Ok((row.get(1)?, row_of))
}

pub(super) fn add(connection: &Connection, new: &NewManifest) -> Result<Pushed> {
    let missing = missing(connection, repository_id(connection, &new.repository)?, new)?;
    if !missing.is_empty() {
        return Ok(Pushed::Missing(missing));
    }
    let repository = repository_to_change(connection, &new.repository)?;
    let step = "add a manifest";
    let digest = new.digest.to_string();
    let manifest = &new.manifest;
    let annotations = match manifest.annotations.is_empty() {
        true => None,
        // A map of texts can't fail to be JSON.
        false => serde_json::to_string(&manifest.annotations).ok(),
    };
    let subject = manifest.subject.map(|subject| subject.to_string());
    let id: i64 = connection
        .prepare_cached(
            "INSERT INTO manifests (repository, digest, media_type, subject, artifact_type, pushed_at, annotations,
                size, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT DO UPDATE SET pushed_at = excluded.pushed_at, media_type = excluded.media_type,
                orphaned_at = NULL RETURNING id",
        )
        .and_then(|mut insert| {
            let values = params![
                repository,
                digest,
                manifest.media_type,
                subject,
                manifest.artifact_type,
                now(),
                annotations,
                new.bytes.len() as i64,
                new.bytes
            ];
            insert.query_row(values, |row| row.get(0))
        })
        .step(step)?;
    super::retired::keep(connection, id)?;
    let mut need = connection
        .prepare_cached(
            "INSERT INTO needs (manifest, digest, is_manifest) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        )
        .step(step)?;
    for (needed, is_manifest) in needs(manifest) {
        need.execute(params![id, needed.to_string(), is_manifest]).step(step)?;
    }
    // Its referrers, if it was gone for a while, have a subject again.
    connection
        .prepare_cached("UPDATE manifests SET orphaned_at = NULL WHERE repository = ?1 AND subject = ?2")
        .and_then(|mut update| update.execute(params![repository, digest]))
        .step(step)?;
    let mut tag = connection
        .prepare_cached(
            "INSERT INTO tags (repository, name, manifest, tagged_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET manifest = excluded.manifest, tagged_at = excluded.tagged_at",
        )
        .step(step)?;
    for name in &new.tags {
        tag.execute(params![repository, name, id, now()]).step(step)?;
    }
    Ok(Pushed::Done)
}

fn needs(manifest: &Manifest) -> impl Iterator<Item = (&Digest, bool)> {
    let blobs = manifest.blobs.iter().map(|blob| (blob, false));
    blobs.chain(manifest.manifests.iter().map(|child| (child, true)))
}

/// What a manifest needs that its repository doesn't have. Another repository's doesn't count: who may push here need not be
/// somebody who may read there.
fn missing(connection: &Connection, repository: Option<i64>, new: &NewManifest) -> Result<Vec<String>> {
    let step = "look for what a manifest needs";
    let mut blob = connection
        .prepare_cached(
            "SELECT 1 FROM links WHERE repository = ?1 AND blob = (SELECT id FROM blobs WHERE digest = ?2)",
        )
        .step(step)?;
    let mut child = connection
        .prepare_cached("SELECT 1 FROM manifests WHERE repository = ?1 AND digest = ?2")
        .step(step)?;
    let mut missing = Vec::new();
    for (needed, is_manifest) in needs(&new.manifest) {
        let (query, may_miss) = match is_manifest {
            true => (&mut child, new.manifests_may_miss),
            false => (&mut blob, new.blobs_may_miss),
        };
        let text = needed.to_string();
        if !may_miss && !query.exists(params![repository, text]).step(step)? {
            missing.push(text);
        }
    }
    Ok(missing)
}

/// Removes a manifest. What it needed is kept for a while as if it had just been pushed.
fn remove(connection: &Connection, repository: i64, id: i64, digest: &str) -> Result<()> {
    let step = "remove a manifest";
    connection
        .prepare_cached(
            "UPDATE links SET touched_at = ?3 WHERE repository = ?1 AND blob IN
                (SELECT blobs.id FROM needs JOIN blobs ON blobs.digest = needs.digest
                 WHERE needs.manifest = ?2 AND NOT needs.is_manifest)",
        )
        .and_then(|mut touch| touch.execute(params![repository, id, now()]))
        .step(step)?;
    discard(connection, repository, id, digest)
}

/// Removes a manifest, and notes its referrers as orphans.
pub(super) fn discard(connection: &Connection, repository: i64, id: i64, digest: &str) -> Result<()> {
    let step = "remove a manifest";
    connection
        .prepare_cached(
            "UPDATE manifests SET orphaned_at = ?3 WHERE repository = ?1 AND subject = ?2 AND orphaned_at IS NULL",
        )
        .and_then(|mut orphan| orphan.execute(params![repository, digest, now()]))
        .step(step)?;
    connection
        .prepare_cached("DELETE FROM manifests WHERE id = ?1")
        .and_then(|mut delete| delete.execute([id]))
        .map(drop)
        .step(step)
}
