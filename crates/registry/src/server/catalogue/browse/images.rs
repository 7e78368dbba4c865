//! Tags of a repository with what they stand for, and what a manifest is made of and surrounded by.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, OptionalExtension, params};

use super::{COMPANION, RepositorySummary, one_summary};
use crate::server::catalogue::{Catalogue, Result, Step, digest, repository_id};
use crate::server::digest::Digest;

/// In which order tags are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TagOrder {
    #[default]
    Time,
    Name,
}

/// A tag, and the manifest that it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagSummary {
    pub name: String,
    pub tagged_at: i64,
    pub manifest: ManifestSummary,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestSummary {
    pub digest: Digest,
    pub media_type: String,
    pub artifact_type: Option<String>,
    pub pushed_at: i64,
    pub pulled_at: Option<i64>,
    /// Of all blobs that it needs, by way of other manifests, too; each once.
    pub bytes: u64,
    /// Its own. Empty when there are more than [`MANIFEST_BYTES_MAX`].
    pub text: Vec<u8>,
    pub referrers: Vec<ReferrerSummary>,
    /// What belongs to it by tags (`sha256-….sig`), in cosign's older way: tag, and the artifact's digest.
    pub companions: Vec<(String, Digest)>,
}

/// A manifest whose subject is another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferrerSummary {
    pub digest: Digest,
    pub artifact_type: Option<String>,
    pub annotations: BTreeMap<String, String>,
    pub pushed_at: i64,
    /// Of its blobs.
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagsPage {
    pub repository: RepositorySummary,
    pub tags: Vec<TagSummary>,
    /// How many there are of those that are asked for.
    pub total: u64,
    /// Tags that say what belongs to an image (`sha256-….sig`): not among the others.
    pub companions: u64,
}

/// What a repository has of a manifest's surroundings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestDetails {
    pub summary: ManifestSummary,
    pub tags: Vec<String>,
    pub subject: Option<Digest>,
    /// Bytes of the blobs that it needs itself.
    pub blobs: HashMap<Digest, u64>,
    /// The manifests that it lists, as far as they are here.
    pub children: Vec<ManifestSummary>,
}

/// Manifests longer than this are not understood for a list. Images and indexes have some thousand bytes.
pub const MANIFEST_BYTES_MAX: usize = 256 << 10;
/// Referrers that are told of each manifest.
const REFERRERS_MAX: usize = 64;
/// Children that are told of an index.
const CHILDREN_MAX: usize = 64;
/// Other tags of the same manifest that are told.
const TAGS_MAX: usize = 64;

impl Catalogue {
    /// Tags of a repository whose names contain a text, as many as `count` after the first `from`. None when there is no such
    /// repository.
    pub async fn browse_tags(
        &self,
        repository: String,
        search: String,
        order: TagOrder,
        (from, count): (usize, usize),
        companions: bool,
    ) -> Result<Option<TagsPage>> {
        self.look(move |connection| {
            let step = "list tags";
            let view = connection.unchecked_transaction().step(step)?;
            let Some((id, repository)) = one_summary(&view, &repository)? else { return Ok(None) };
            let companion_count: i64 = view
                .prepare_cached(&format!("SELECT count(*) FROM tags t WHERE t.repository = ?1 AND {COMPANION}"))
                .and_then(|mut query| query.query_row([id], |row| row.get(0)))
                .step(step)?;
            let which = match (search.is_empty(), companions) {
                (true, true) => "t.repository = ?1 AND ?2 = ''".to_owned(),
                (true, false) => format!("t.repository = ?1 AND ?2 = '' AND NOT ({COMPANION})"),
                (false, true) => "t.repository = ?1 AND instr(t.name, ?2) > 0".to_owned(),
                (false, false) => format!("t.repository = ?1 AND instr(t.name, ?2) > 0 AND NOT ({COMPANION})"),
            };
            let by = match order {
                TagOrder::Time => "t.tagged_at DESC, t.name DESC",
                TagOrder::Name => "t.name",
            };
            let total = match (search.is_empty(), companions) {
                (true, true) => repository.tags,
                (true, false) => repository.tags.saturating_sub(companion_count as u64),
                _ => view
                    .prepare_cached(&format!("SELECT count(*) FROM tags t WHERE {which}"))
                    .and_then(|mut query| query.query_row(params![id, search], |row| row.get::<_, i64>(0)))
                    .step(step)? as u64,
            };
            let mut statement = view
                .prepare_cached(&format!(
                    "SELECT t.name, t.tagged_at, t.manifest FROM tags t WHERE {which} ORDER BY {by} LIMIT ?3 OFFSET ?4"
                ))
                .step(step)?;
            let rows = statement
                .query_map(params![id, search, count as i64, from as i64], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                })
                .step(step)?;
            let rows: Vec<(String, i64, i64)> = rows.collect::<rusqlite::Result<_>>().step(step)?;
            drop(statement);
            let tags = rows.into_iter().map(|(name, tagged_at, manifest)| {
                Ok(TagSummary { name, tagged_at, manifest: manifest_summary(&view, manifest)? })
            });
            let tags = tags.collect::<Result<_>>()?;
            Ok(Some(TagsPage { repository, tags, total, companions: companion_count as u64 }))
        })
        .await
    }

    /// A manifest of a repository, by its digest, with what surrounds it.
    pub async fn browse_manifest(
        &self,
        repository: String,
        wanted: Digest,
    ) -> Result<Option<ManifestDetails>> {
        self.look(move |connection| {
            let step = "look at a manifest";
            let view = connection.unchecked_transaction().step(step)?;
            let Some(repository) = repository_id(&view, &repository)? else { return Ok(None) };
            let found: Option<(i64, Option<String>)> = view
                .prepare_cached("SELECT id, subject FROM manifests WHERE repository = ?1 AND digest = ?2")
                .and_then(|mut query| {
                    query
                        .query_row(params![repository, wanted.to_string()], |row| {
                            Ok((row.get(0)?, row.get(1)?))
                        })
                        .optional()
                })
                .step(step)?;
            let Some((id, subject)) = found else { return Ok(None) };
            Ok(Some(ManifestDetails {
                summary: manifest_summary(&view, id)?,
                tags: strings(&view, "SELECT name FROM tags WHERE manifest = ?1 ORDER BY name LIMIT ?2", params![id, TAGS_MAX as i64])?,
                subject: subject.map(digest).transpose()?,
                blobs: pairs(
                    &view,
                    "SELECT b.digest, b.size FROM needs n JOIN blobs b ON b.digest = n.digest
                     JOIN links l ON l.repository = ?2 AND l.blob = b.id WHERE n.manifest = ?1 AND NOT n.is_manifest",
                    params![id, repository],
                )?
                .into_iter()
                .map(|(blob, size)| Ok((digest(blob)?, size)))
                .collect::<Result<_>>()?,
                children: pairs(
                    &view,
                    "SELECT c.digest, c.id FROM needs n JOIN manifests c ON c.repository = ?2 AND c.digest = n.digest
                     WHERE n.manifest = ?1 AND n.is_manifest LIMIT ?3",
                    params![id, repository, CHILDREN_MAX as i64],
                )?
                .into_iter()
                .map(|(_, child)| manifest_summary(&view, child as i64))
                .collect::<Result<_>>()?,
            }))
        })
        .await
    }
}

fn strings(connection: &Connection, query: &str, values: impl rusqlite::Params) -> Result<Vec<String>> {
    let step = "look at a manifest's surroundings";
    let mut statement = connection.prepare_cached(query).step(step)?;
    let rows = statement.query_map(values, |row| row.get(0)).step(step)?;
    rows.collect::<rusqlite::Result<_>>().step(step)
}

/// Rows of a text and a number that isn't negative.
fn pairs(connection: &Connection, query: &str, values: impl rusqlite::Params) -> Result<Vec<(String, u64)>> {
    let step = "look at a manifest's surroundings";
    let mut statement = connection.prepare_cached(query).step(step)?;
    let rows =
        statement.query_map(values, |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64))).step(step)?;
    rows.collect::<rusqlite::Result<_>>().step(step)
}

fn companions(connection: &Connection, repository: i64, prefix: &str) -> Result<Vec<(String, Digest)>> {
    let step = "look for what belongs to a manifest";
    let mut statement = connection
        .prepare_cached(
            "SELECT t.name, m.digest FROM tags t JOIN manifests m ON m.id = t.manifest
             WHERE t.repository = ?1 AND t.name IN (?2 || '.sig', ?2 || '.att', ?2 || '.sbom') ORDER BY t.name",
        )
        .step(step)?;
    let rows = statement
        .query_map(params![repository, prefix], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))
        .step(step)?;
    let rows: Vec<(String, String)> = rows.collect::<rusqlite::Result<_>>().step(step)?;
    rows.into_iter().map(|(tag, text)| Ok((tag, digest(text)?))).collect()
}

/// What can be said of a manifest in a line.
fn manifest_summary(connection: &Connection, id: i64) -> Result<ManifestSummary> {
    let step = "look at a manifest";
    let (row, repository) = connection
        .prepare_cached(
            "SELECT digest, media_type, artifact_type, pushed_at, pulled_at, repository,
             CASE WHEN size <= ?2 THEN bytes ELSE x'' END FROM manifests WHERE id = ?1",
        )
        .and_then(|mut query| {
            query.query_row(params![id, MANIFEST_BYTES_MAX as i64], |row| {
                let text: String = row.get(0)?;
                let summary = ManifestSummary {
                    digest: Digest::of(crate::server::digest::Algorithm::Sha256, &[]),
                    media_type: row.get(1)?,
                    artifact_type: row.get(2)?,
                    pushed_at: row.get(3)?,
                    pulled_at: row.get(4)?,
                    bytes: 0,
                    text: row.get(6)?,
                    referrers: Vec::new(),
                    companions: Vec::new(),
                };
                Ok(((text, summary), row.get::<_, i64>(5)?))
            })
        })
        .step(step)?;
    let (text, summary) = row;
    let bytes = blob_bytes(connection, repository, id)?;
    let referrers = referrers(connection, repository, &text)?;
    let companions = companions(connection, repository, &text.replace(':', "-"))?;
    Ok(ManifestSummary { digest: digest(text)?, bytes, referrers, companions, ..summary })
}

/// Bytes of a manifest's blobs and of those of the manifests that it lists, each once. Blobs that only other repositories have are
/// nobody's business here (a manifest may name any digest, where `sparse` permits).
fn blob_bytes(connection: &Connection, repository: i64, manifest: i64) -> Result<u64> {
    let bytes: i64 = connection
        .prepare_cached(
            "SELECT coalesce(sum(b.size), 0) FROM blobs b JOIN links l ON l.repository = ?2 AND l.blob = b.id
             WHERE b.digest IN (
                SELECT n.digest FROM needs n WHERE n.manifest = ?1 AND NOT n.is_manifest
                UNION SELECT n.digest FROM needs p
                JOIN manifests c ON c.repository = ?2 AND c.digest = p.digest JOIN needs n ON n.manifest = c.id
                WHERE p.manifest = ?1 AND p.is_manifest AND NOT n.is_manifest)",
        )
        .and_then(|mut query| query.query_row([manifest, repository], |row| row.get(0)))
        .step("measure an image")?;
    Ok(bytes as u64)
}

fn referrers(connection: &Connection, repository: i64, subject: &str) -> Result<Vec<ReferrerSummary>> {
    let step = "list referrers";
    let mut statement = connection
        .prepare_cached(
            "SELECT m.digest, m.artifact_type, m.annotations, m.pushed_at,
             (SELECT coalesce(sum(b.size), 0) FROM needs n JOIN blobs b ON b.digest = n.digest
              JOIN links l ON l.repository = ?1 AND l.blob = b.id WHERE n.manifest = m.id AND NOT n.is_manifest)
             FROM manifests m WHERE m.repository = ?1 AND m.subject = ?2 ORDER BY m.digest LIMIT ?3",
        )
        .step(step)?;
    let mut rows = statement.query(params![repository, subject, REFERRERS_MAX as i64]).step(step)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().step(step)? {
        let annotations: Option<String> = row.get(2).step(step)?;
        let annotations = annotations.filter(|text| text.len() <= MANIFEST_BYTES_MAX);
        found.push(ReferrerSummary {
            digest: digest(row.get(0).step(step)?)?,
            artifact_type: row.get(1).step(step)?,
            annotations: annotations.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
            pushed_at: row.get(3).step(step)?,
            bytes: row.get::<_, i64>(4).step(step)? as u64,
        });
    }
    Ok(found)
}
