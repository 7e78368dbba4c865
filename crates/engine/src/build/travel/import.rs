//! Caches that a build's asker names: what they say of steps is read at once, and layers come when somebody needs their files.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use corten_api::auth::AuthConfig;
use corten_build::{Asker, CacheSource, Elsewhere, Error, Result, Teller, Told};
use corten_image::build::{BuildCache, BuildSession, CachedSource, StepLayer};
use corten_image::manifest::Descriptor;
use corten_image::{DiffId, Digest, Platform, Reference, RemoteLayer};
use futures_util::future::join_all;
use tokio::sync::Semaphore;

use super::super::{auth_for, progress};
use super::place::{self, Found, Origin};
use super::{imported_key, warn};
use crate::Engine;
use crate::image::{Report, failed, tell_received};

/// Layers that come at the same time for one build.
const FETCHES_MAX: usize = 4;

/// The caches of one build.
pub struct Imports {
    pub(super) engine: Engine,
    pub(super) caches: Vec<Cache>,
    /// Of layers that steps were promised: the key to remember them under, and what made them.
    promised: Mutex<HashMap<DiffId, (Digest, String)>>,
    /// Directories of cache mounts that could not be had.
    useless: Mutex<HashSet<DiffId>>,
    fetches: Semaphore,
}

/// A cache that was read.
pub(super) struct Cache {
    /// For people.
    pub name: String,
    pub origin: Origin,
    pub content: BuildCache,
    /// A layer could not be had, or was another one: no more are asked for.
    is_broken: AtomicBool,
}

impl Cache {
    pub fn blob(&self, layer: &DiffId) -> Option<&Descriptor> {
        self.content.layers.get(layer).filter(|_| !self.is_broken.load(Ordering::Relaxed))
    }

    fn source(&self, request: &Digest) -> Option<&CachedSource> {
        self.content.sources.get(request).filter(|_| !self.is_broken.load(Ordering::Relaxed))
    }
}

impl Engine {
    /// Reads what caches say. One that can't be read is told of, and nothing more.
    pub(in crate::build) async fn open_caches(
        &self,
        sources: &[CacheSource],
        platform: &Platform,
        auths: &BTreeMap<String, AuthConfig>,
        asker: &dyn Asker,
        teller: &Teller,
    ) -> Result<Imports> {
        let opened = sources.iter().map(|source| self.open_cache(source, platform, auths, asker, teller));
        let opened = join_all(opened).await.into_iter().collect::<Result<Vec<Option<Cache>>>>()?;
        Ok(Imports { caches: opened.into_iter().flatten().collect(), ..Imports::none(self) })
    }

    async fn open_cache(
        &self,
        source: &CacheSource,
        platform: &Platform,
        auths: &BTreeMap<String, AuthConfig>,
        asker: &dyn Asker,
        teller: &Teller,
    ) -> Result<Option<Cache>> {
        let id = Digest::of(format!("import {source}").as_bytes());
        let mut told = Told::new(teller, id, format!("importing build cache from {source}"), Vec::new());
        told.start().await?;
        let opened = self.read_cache(source, platform, auths, asker, teller, id).await;
        let cache = match opened {
            Ok((origin, content)) => {
                Some(Cache { name: source.to_string(), origin, content, is_broken: AtomicBool::new(false) })
            }
            Err(why) => {
                warn(teller, id, format!("the build cache {source} is not used: {why}")).await;
                None
            }
        };
        told.end(Ok(cache)).await
    }

    /// The error is a text for people.
    async fn read_cache(
        &self,
        source: &CacheSource,
        platform: &Platform,
        auths: &BTreeMap<String, AuthConfig>,
        asker: &dyn Asker,
        teller: &Teller,
        vertex: Digest,
    ) -> std::result::Result<(Origin, BuildCache), String> {
        if let CacheSource::Image(name) = source
            && let Some(here) = self.cache_of_store(name)
        {
            return Ok((Origin::Store, here?));
        }
        let listener = progress::statuses(teller.clone(), vertex);
        let Found { origin, manifest, source } = match source {
            CacheSource::Registry(name) | CacheSource::Image(name) => {
                let auth = auth_for(auths, asker, name).await.map_err(|error| error.to_string())?;
                self.cache_at_registry(name, auth, listener).await?
            }
            CacheSource::Client { place, manifest } => {
                place::cache_at_client(place, manifest, asker, listener).await?
            }
        };
        let platform = platform.clone();
        let read = move || place::read(source.as_ref(), &manifest, &platform).map_err(crate::Error::internal);
        let content = self.heavily(read).await.map_err(|error| error.message)?;
        Ok((origin, content))
    }

    /// What an image of the store says; none where it isn't there.
    fn cache_of_store(&self, name: &Reference) -> Option<std::result::Result<BuildCache, String>> {
        let (image, _) = self.images.named(name)?;
        Some(BuildCache::of_image(&image.config_bytes, &[]).map_err(|error| error.to_string()))
    }
}

impl Imports {
    pub fn none(engine: &Engine) -> Imports {
        let (engine, fetches) = (engine.clone(), Semaphore::new(FETCHES_MAX));
        Imports { engine, caches: Vec::new(), promised: Mutex::default(), useless: Mutex::default(), fetches }
    }

    pub(super) fn useless(&self) -> MutexGuard<'_, HashSet<DiffId>> {
        self.useless.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the step with that key made, as the caches say.
    pub fn find(&self, session: &BuildSession, key: &Digest) -> Result<Option<Option<StepLayer>>> {
        for cache in &self.caches {
            let Some(step) = cache.content.steps.get(key) else { continue };
            let Some(id) = step.layer else { return Ok(Some(None)) };
            let own = imported_key(key, &id);
            if let Some(layer) = session.find_layer(&id)? {
                session.keep(&own, &layer, &step.description)?;
                return Ok(Some(Some(layer)));
            }
            if cache.blob(&id).is_some() {
                let mut promised = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
                promised.insert(id, (own, step.description.clone()));
                return Ok(Some(Some(StepLayer::absent(id))));
            }
        }
        Ok(None)
    }

    /// What was read of layers, as the first cache says that knows it.
    pub fn find_source(&self, request: &Digest) -> Option<CachedSource> {
        self.caches.iter().find_map(|cache| cache.source(request).copied())
    }

    /// Brings layers here.
    pub async fn bring(
        &self,
        session: &Arc<BuildSession>,
        layers: &[DiffId],
        teller: &Teller,
        vertex: Digest,
    ) -> Result<()> {
        let brought = layers.iter().map(|layer| self.bring_one(session, layer, teller, vertex));
        join_all(brought).await.into_iter().collect()
    }

    async fn bring_one(
        &self,
        session: &Arc<BuildSession>,
        layer: &DiffId,
        teller: &Teller,
        vertex: Digest,
    ) -> Result<()> {
        let _turn = self.fetches.acquire().await.map_err(|_| Error::Canceled)?;
        if session.find_layer(layer)?.is_some() {
            return Ok(());
        }
        for cache in &self.caches {
            let Some(blob) = cache.blob(layer) else { continue };
            let wanted = RemoteLayer { blob: blob.clone(), diff_id: *layer };
            let Err(error) = self.fetch(session, cache, wanted, teller, vertex).await else { return Ok(()) };
            if teller.is_closed() {
                return Err(Error::Canceled);
            }
            cache.is_broken.store(true, Ordering::Relaxed);
            let text = format!("the build cache {} is not used any more: {}", cache.name, error.message);
            warn(teller, vertex, text).await;
        }
        Err(Error::Lost)
    }

    async fn fetch(
        &self,
        session: &Arc<BuildSession>,
        cache: &Cache,
        layer: RemoteLayer,
        teller: &Teller,
        vertex: Digest,
    ) -> crate::Result<()> {
        let promised = {
            let promised = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
            promised.get(&layer.diff_id).cloned()
        };
        let (key, description) = promised.ok_or_else(|| {
            crate::Error::internal(format!("no step was promised the layer {}", layer.diff_id))
        })?;
        let messages = progress::statuses(teller.clone(), vertex);
        let source = cache.origin.source(messages.clone());
        let source = source.ok_or_else(|| crate::Error::internal("a cache without layers"))?;
        let session = session.clone();
        let fetched = self.engine.heavily(move || {
            let report = Report::new(messages);
            let watch = |layer: &Descriptor, stage| tell_received(&report, layer, stage);
            session.fetch(&key, &description, &layer, source.as_ref(), &watch).map_err(failed)
        });
        fetched.await
    }

    /// Where a layer is that is not here.
    pub fn elsewhere(&self, layer: &DiffId) -> Option<Elsewhere> {
        self.caches.iter().find_map(|cache| {
            let blob = cache.blob(layer)?.clone();
            Some(Elsewhere { repository: cache.origin.reference().cloned(), blob })
        })
    }
}
