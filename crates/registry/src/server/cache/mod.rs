//! Repositories of other registries, to be had here: `docker.io/library/nginx` is `library/nginx` of the upstream `docker.io`. What was
//! fetched once is kept as far as there is room for it. `docs/registry-cache.md`.
//!
//! [`config`] says which upstreams there are, [`place`] which requests are for them, [`upstream`] who asks them (with the client of
//! pull and push). [`manifests`] and [`lists`] decide what is fresh, what is asked for and what is served though it is stale;
//! [`fetch`] gets a blob once for all who want it, [`growing`] and [`through`] give it to them. What is kept lies in the same storage and
//! catalogue as everything else, and goes by the same collection. Knows nothing of who may ask: the gate has let them in.

mod config;
mod credentials;
mod failure;
mod fetch;
mod flights;
mod growing;
mod lists;
mod manifests;
mod metrics;
mod place;
mod through;
mod upstream;
mod uses;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::StatusCode;
use serde_json::json;
use tokio::sync::Notify;

use super::catalogue::CatalogueError;
use super::digest::Digest;
use super::name::RepositoryName;
use super::refusal::{Code, Refusal};
use super::registry::Registry;
use super::settings::Settings;
use flights::Flights;
use upstream::Upstream;

pub use config::{CacheConfig, CacheSettings};
pub use failure::Failure;
pub use fetch::Content;
pub use growing::Growing;
pub use manifests::Found;
pub use through::Passing;
pub use upstream::Source;
pub use uses::{Reading, Uses};

/// What is cached, and what is just being fetched.
#[derive(Debug)]
pub struct Cache {
    upstreams: BTreeMap<String, Arc<Upstream>>,
    /// Bytes; none where nothing is cached.
    size: Option<u64>,
    fresh: Duration,
    patience: Duration,
    pub uses: Uses,
    fetches: fetch::Fetches,
    manifests: Flights<manifests::Outcome>,
    /// Bytes that are kept, or a bit more, as of the last count.
    held: AtomicU64,
    grown: Notify,
}

impl Cache {
    /// # Errors
    /// When nobody can be asked, because of the environment's proxies.
    pub fn open(settings: &Settings) -> Result<Cache, Refusal> {
        let cache = settings.cache.as_ref();
        let mut upstreams = BTreeMap::new();
        if let Some(cache) = cache {
            let client = upstream::client(&cache.upstreams).map_err(Refusal::internal)?;
            for (name, settings) in &cache.upstreams {
                upstreams
                    .insert(name.clone(), Arc::new(Upstream::new(name, settings, &client, cache.fetches)));
            }
        }
        Ok(Cache {
            upstreams,
            size: cache.map(|cache| cache.size),
            fresh: cache.map(|cache| cache.fresh).unwrap_or_default(),
            patience: cache.map(|cache| cache.patience).unwrap_or_default(),
            uses: Uses::default(),
            fetches: fetch::Fetches::default(),
            manifests: Flights::default(),
            held: AtomicU64::new(0),
            grown: Notify::new(),
        })
    }

    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// Notes that there is more of it.
    fn grew(&self, bytes: u64) {
        let held = self.held.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if self.size.is_some_and(|size| held > size) {
            self.grown.notify_one();
        }
    }

    /// Waits until there may be too much of it.
    pub async fn is_large(&self) {
        self.grown.notified().await;
    }

    /// Notes how much there is.
    pub fn counted(&self, bytes: u64) {
        self.held.store(bytes, Ordering::Relaxed);
    }

    /// The path of a request as if it had been asked in the usual way.
    pub fn place<'p>(&self, path: &'p str, query: Option<&str>, mirror_of: Option<&str>) -> Cow<'p, str> {
        if self.upstreams.is_empty() {
            return Cow::Borrowed(path);
        }
        place::of(path, query, mirror_of, |name| self.upstreams.contains_key(name))
    }

    /// Where a repository comes from; none when it is one's own.
    ///
    /// # Errors
    /// When it is an upstream's and may not be had.
    pub fn source(&self, repository: &RepositoryName) -> Result<Option<Source>, Refusal> {
        let found = repository.as_str().split_once('/');
        let found = found.and_then(|(name, below)| Some((self.upstreams.get(name)?, below)));
        let Some((upstream, below)) = found else { return Ok(None) };
        match Source::new(upstream, repository, below) {
            Some(source) => Ok(Some(source)),
            None => {
                let text = format!("this is not among what this registry gives of {}", upstream.name);
                let refusal = Refusal::new(StatusCode::NOT_FOUND, Code::NameUnknown, text);
                Err(refusal.detail(json!({"name": repository.as_str()})))
            }
        }
    }

    /// Whether what is said to be pushed there would be an upstream's.
    pub fn is_upstreams(&self, repository: &RepositoryName) -> bool {
        let name = repository.as_str().split_once('/').map(|(name, _)| name);
        name.is_some_and(|name| self.upstreams.contains_key(name))
    }
}

/// For the start of a registry: upstreams' credentials can be read, and the catalogue agrees with the configuration. What was cached of others than the upstreams of now goes, and there is nothing of
/// one's own below their names.
pub async fn settle(registry: &Registry) -> Result<(), Refusal> {
    for (name, upstream) in &registry.cache.upstreams {
        upstream.check().map_err(|why| Refusal::internal(format!("upstream {name}: {why}")))?;
    }
    let upstreams: Vec<String> = registry.cache.upstreams.keys().cloned().collect();
    if let Some(own) = registry.catalogue.own_below(upstreams.clone()).await? {
        let text = format!(
            "{own} is a repository of this registry, and its name is below that of an upstream: nobody could tell them apart. \
             Copy it elsewhere and delete it, or call the upstream something else (\"registry\" says where it is)"
        );
        return Err(Refusal::internal(text));
    }
    match registry.catalogue.keep_cached_of(upstreams).await? {
        0 => {}
        count => tracing::info!(count, "repositories of upstreams that are no more were forgotten"),
    }
    Ok(())
}

/// Writes down what was noted of uses.
pub async fn write_uses(registry: &Registry) -> Result<(), CatalogueError> {
    registry.cache.uses.write(&registry.catalogue).await
}

/// A digest as upstreams are asked for it.
///
/// # Errors
/// When it is none of theirs: the client knows SHA-256 only.
fn asked(digest: &Digest) -> Result<corten_image::Digest, Failure> {
    digest.to_string().parse().map_err(|_| {
        let text = format!("{digest}: upstreams are asked for sha256 only");
        Failure::Own(Refusal::new(StatusCode::NOT_FOUND, Code::Unsupported, text))
    })
}
