//! Configurations of images, read from the storage: bounded, and checked, as what lies there may be damaged. And the platforms that they
//! name, which are remembered: a list of tags shows many.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;

use super::document::{ImageConfig, Platform};
use crate::server::digest::Digest;
use crate::server::name::RepositoryName;
use crate::server::refusal::Refusal;
use crate::server::registry::Registry;

/// Longer ones aren't read. Usual ones have some thousand bytes.
const BYTES_MAX: u64 = 1 << 20;
/// Platforms that are remembered: some 2 MiB.
const REMEMBERED_MAX: usize = 16_384;
/// How long a list waits for platforms that aren't.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why there is no configuration to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    Missing,
    TooLong(u64),
    /// Its bytes aren't those that its digest names.
    Damaged,
}

/// The bytes of a blob that a repository has.
pub async fn read(
    registry: &Registry,
    repository: &RepositoryName,
    digest: Digest,
) -> Result<Result<Vec<u8>, Unreadable>, Refusal> {
    // A manifest can name what its repository doesn't have (`sparse`): another repository's are not for its readers.
    let Some(linked) = registry.catalogue.blob(repository.to_string(), digest).await? else {
        return Ok(Err(Unreadable::Missing));
    };
    if linked.size > BYTES_MAX {
        return Ok(Err(Unreadable::TooLong(linked.size)));
    }
    let _room = registry.manifest_room(linked.size).await?;
    let Some(mut stream) = registry.storage.read(digest, linked.size, 0..linked.size).await? else {
        let other = registry.storage.size(digest).await?.is_some();
        return Ok(Err(if other { Unreadable::Damaged } else { Unreadable::Missing }));
    };
    let mut bytes = Vec::with_capacity(linked.size as usize);
    while let Some(piece) = poll_fn(|context| stream.poll_next(context)).await {
        match piece {
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(_) => return Ok(Err(Unreadable::Damaged)),
        }
    }
    let whole = Digest::of(digest.algorithm(), &bytes) == digest;
    Ok(if whole { Ok(bytes) } else { Err(Unreadable::Damaged) })
}

type Key = (RepositoryName, Digest);

/// Platforms by repository and configuration; of a configuration that names none, that it does so.
#[derive(Debug, Default)]
pub struct Platforms(Mutex<HashMap<Key, Option<Platform>>>);

impl Platforms {
    fn get(&self, key: &Key) -> Option<Option<Platform>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn put(&self, key: Key, platform: Option<Platform>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.insert(key, platform);
    }
}

/// The platforms that configurations of a repository name, as far as they can be had soon.
pub async fn platforms(
    registry: &Registry,
    repository: &RepositoryName,
    wanted: impl IntoIterator<Item = Digest>,
) -> HashMap<Digest, Platform> {
    let memory = &registry.web.configs;
    let mut found = HashMap::new();
    let mut reading = JoinSet::new();
    for digest in wanted {
        match memory.get(&(repository.clone(), digest)) {
            Some(platform) => found.extend(platform.map(|platform| (digest, platform))),
            None => {
                let (registry, repository) = (registry.clone(), repository.clone());
                reading.spawn(async move {
                    let platform = match read(&registry, &repository, digest).await {
                        Ok(Ok(bytes)) => ImageConfig::parse(&bytes).and_then(|config| config.platform),
                        Ok(Err(_)) => None,
                        // It may be there the next time.
                        Err(_) => return None,
                    };
                    registry.web.configs.put((repository, digest), platform.clone());
                    Some((digest, platform?))
                });
            }
        }
    }
    let rest = async {
        while let Some(read) = reading.join_next().await {
            found.extend(read.ok().flatten());
        }
    };
    // What isn't here by then is left away; dropping the set ends its tasks.
    let _ = tokio::time::timeout(PATIENCE, rest).await;
    found
}
