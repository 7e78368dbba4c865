//! Who takes how much room, and what is shared.

use std::collections::HashMap;

use rusqlite::Connection;

use super::Sees;
use crate::server::catalogue::{Catalogue, Result, Step, digest};
use crate::server::digest::Digest;

/// Who takes how much, as somebody sees it: blobs count for each repository that they see, and for nobody else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of all blobs, each once.
    pub bytes: u64,
    pub blobs: u64,
    pub tags: u64,
    /// The largest first.
    pub repositories: Vec<RepositoryUsage>,
    /// The largest blobs.
    pub largest: Vec<BlobUsage>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryUsage {
    pub name: String,
    pub bytes: u64,
    /// Of blobs that no other repository has.
    pub own_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobUsage {
    pub digest: Digest,
    pub bytes: u64,
    pub repositories: u64,
    /// One of these.
    pub repository: String,
}

/// Blobs in the list of the largest.
const LARGEST_MAX: usize = 10;

impl Catalogue {
    /// Looks at every blob's place in every repository: not for each request.
    pub async fn usage(&self, sees: Sees) -> Result<Usage> {
        self.look(move |connection| {
            let view = connection.unchecked_transaction().step("begin to look")?;
            usage(&view, sees)
        })
        .await
    }
}

/// A blob, and the repositories that have it.
#[derive(Default)]
struct Place {
    blob: i64,
    bytes: u64,
    repositories: u64,
    one: i64,
}

fn usage(connection: &Connection, sees: Sees) -> Result<Usage> {
    let step = "measure what there is";
    let mut usage = Usage::default();
    let mut repositories: HashMap<i64, RepositoryUsage> = HashMap::new();
    let mut statement =
        connection.prepare_cached("SELECT id, name, tag_count FROM repositories").step(step)?;
    let mut rows = statement.query([]).step(step)?;
    while let Some(row) = rows.next().step(step)? {
        let name: String = row.get(1).step(step)?;
        if sees(&name) {
            usage.tags += row.get::<_, i64>(2).step(step)? as u64;
            let mine = RepositoryUsage { name, bytes: 0, own_bytes: 0 };
            repositories.insert(row.get(0).step(step)?, mine);
        }
    }
    let mut largest: Vec<Place> = Vec::new();
    let mut settle = |place: Place, repositories: &mut HashMap<i64, RepositoryUsage>| {
        if place.repositories == 0 {
            return;
        }
        usage.bytes += place.bytes;
        usage.blobs += 1;
        if place.repositories == 1
            && let Some(mine) = repositories.get_mut(&place.one)
        {
            mine.own_bytes += place.bytes;
        }
        if largest.len() < LARGEST_MAX || largest.last().is_some_and(|last| last.bytes < place.bytes) {
            let at = largest.partition_point(|other| other.bytes >= place.bytes);
            largest.insert(at, place);
            largest.truncate(LARGEST_MAX);
        }
    };
    // In the order of blobs, so that one pass sees all places of each.
    let mut statement = connection
        .prepare_cached(
            "SELECT l.blob, l.repository, b.size FROM links l INDEXED BY links_of_blob JOIN blobs b ON b.id = l.blob
             ORDER BY l.blob",
        )
        .step(step)?;
    let mut rows = statement.query([]).step(step)?;
    let mut place = Place::default();
    while let Some(row) = rows.next().step(step)? {
        let (blob, repository): (i64, i64) = (row.get(0).step(step)?, row.get(1).step(step)?);
        let bytes = row.get::<_, i64>(2).step(step)? as u64;
        if blob != place.blob {
            settle(std::mem::take(&mut place), &mut repositories);
        }
        if let Some(mine) = repositories.get_mut(&repository) {
            mine.bytes += bytes;
            place = Place { blob, bytes, repositories: place.repositories + 1, one: repository };
        }
    }
    settle(place, &mut repositories);
    let mut digest_of = connection.prepare_cached("SELECT digest FROM blobs WHERE id = ?1").step(step)?;
    for place in largest {
        let text: String = digest_of.query_row([place.blob], |row| row.get(0)).step(step)?;
        let repository = repositories.get(&place.one).map(|mine| mine.name.clone()).unwrap_or_default();
        let (bytes, repositories) = (place.bytes, place.repositories);
        usage.largest.push(BlobUsage { digest: digest(text)?, bytes, repositories, repository });
    }
    usage.repositories = repositories.into_values().collect();
    usage.repositories.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    Ok(usage)
}
