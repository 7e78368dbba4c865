//! Caches that a build's asker names: what they say of steps is read at once, and layers come when somebody needs their files.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use corten_api::auth::AuthConfig;
use corten_build::{Asker, CacheSource, Elsewhere, Error, Result, Teller, Told};
use corten_image::build::{BuildCache, BuildSession, CACHE_CONFIG_BYTES_MAX, CacheError, StepLayer};
use corten_image::manifest::{Descriptor, Document, Manifest, media};
use corten_image::{DiffId, Digest, Platform, Reference, RemoteLayer};
use corten_registry::{RegistryAddress, Repository};
use futures_util::future::join_all;
use tokio::sync::Semaphore;

use super::super::{auth_for, progress};
use super::{imported_key, warn};
use crate::Engine;
use crate::image::{RemoteSource, Report, failed, tell_received};
use crate::registry::credentials;

/// Layers that come at the same time for one build.
const FETCHES_MAX: usize = 4;

/// The caches of one build.
pub struct Imports {
    engine: Engine,
    caches: Vec<Cache>,
    /// Of layers that steps were promised: the key to remember them under, and what made them.
    promised: Mutex<HashMap<DiffId, (Digest, String)>>,
    fetches: Semaphore,
}

/// A cache at a registry, or an image of the store.
struct Cache {
    name: Reference,
    /// Where layers are that are not here.
    repository: Option<Repository>,
    content: BuildCache,
    /// A layer could not be had, or was another one: no more are asked for.
    is_broken: AtomicBool,
}

impl Cache {
    fn blob(&self, layer: &DiffId) -> Option<&Descriptor> {
        self.content.layers.get(layer).filter(|_| !self.is_broken.load(Ordering::Relaxed))
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
        let (CacheSource::Registry(name) | CacheSource::Image(name)) = source;
        let id = Digest::of(format!("import {name}").as_bytes());
        let mut told = Told::new(teller, id, format!("importing build cache from {name}"), Vec::new());
        told.start().await?;
        let here = match source {
            CacheSource::Registry(_) => None,
            CacheSource::Image(_) => self.cache_of_store(name),
        };
        let opened = match (here, auth_for(auths, asker, name).await) {
            (Some(here), _) => here,
            (None, Ok(auth)) => self.read_cache(name, platform, auth).await,
            (None, Err(error)) => Err(error.to_string()),
        };
        let cache = match opened {
            Ok(cache) => Some(cache),
            Err(why) => {
                warn(teller, id, format!("the build cache {name} is not used: {why}")).await;
                None
            }
        };
        told.end(Ok(cache)).await
    }

    /// What an image of the store says; none where it isn't there.
    fn cache_of_store(&self, name: &Reference) -> Option<std::result::Result<Cache, String>> {
        let (image, _) = self.images.named(name)?;
        let content = BuildCache::of_image(&image.config_bytes, &[]).map_err(|error| error.to_string());
        let cache = |content| Cache {
            name: name.clone(),
            repository: None,
            content,
            is_broken: AtomicBool::new(false),
        };
        Some(content.map(cache))
    }

    /// The error is a text for people.
    async fn read_cache(
        &self,
        name: &Reference,
        platform: &Platform,
        auth: AuthConfig,
    ) -> std::result::Result<Cache, String> {
        let registry = RegistryAddress::parse(name.domain()).map_err(|error| error.to_string())?;
        let repository = self.registries.repository(&registry, name.path(), credentials(auth));
        let wanted = name.digest().map(|digest| digest.to_string());
        let wanted = wanted.or_else(|| name.tag().map(str::to_owned)).unwrap_or_default();
        let top = repository.manifest(&wanted).await.map_err(|error| error.to_string())?;
        // What comes of a cache is run and shipped as what comes of an image is.
        self.check_signature(&repository, name, &top).await.map_err(|error| error.message)?;
        let manifest = image_manifest(&repository, &top, platform).await?;
        BuildCache::check(&manifest).map_err(|error| error.to_string())?;
        let config = small_blob(&repository, &manifest.config).await?;
        let content = BuildCache::read(&manifest, &config).map_err(|error| error.to_string())?;
        let repository = Some(repository);
        Ok(Cache { name: name.clone(), repository, content, is_broken: AtomicBool::new(false) })
    }
}

/// The manifest of a cache or, of an image of several platforms, that of one.
async fn image_manifest(
    repository: &Repository,
    top: &corten_registry::Document,
    platform: &Platform,
) -> std::result::Result<Manifest, String> {
    let parse = |document: &corten_registry::Document| {
        Document::parse(&document.bytes, &document.media_type).map_err(|error| error.to_string())
    };
    let foreign = |kind: &str| CacheError::Foreign(kind.to_owned()).to_string();
    let index = match parse(top)? {
        Document::Manifest(manifest) => return Ok(*manifest),
        Document::Index(index) => index,
    };
    let chosen = index.choose(platform).ok_or_else(|| foreign(&top.media_type))?;
    // The caches of others are indexes of layers.
    if media::kind(&chosen.media_type) != Some(media::Kind::Manifest) {
        return Err(foreign(&top.media_type));
    }
    let document =
        repository.manifest(&chosen.digest.to_string()).await.map_err(|error| error.to_string())?;
    match parse(&document)? {
        Document::Manifest(manifest) => Ok(*manifest),
        Document::Index(_) => Err(foreign(&top.media_type)),
    }
}

/// A blob that is held in memory.
async fn small_blob(repository: &Repository, blob: &Descriptor) -> std::result::Result<Vec<u8>, String> {
    if blob.size > CACHE_CONFIG_BYTES_MAX {
        return Err(format!("its list of steps is larger than {} MiB", CACHE_CONFIG_BYTES_MAX >> 20));
    }
    let mut download = repository.download(blob, 0);
    let mut bytes = Vec::new();
    while let Some(piece) = download.chunk().await.map_err(|error| error.to_string())? {
        bytes.extend_from_slice(&piece);
    }
    match Digest::of(&bytes) == blob.digest {
        true => Ok(bytes),
        false => Err(format!("its list of steps is not {}", blob.digest)),
    }
}

impl Imports {
    pub fn none(engine: &Engine) -> Imports {
        let (engine, fetches) = (engine.clone(), Semaphore::new(FETCHES_MAX));
        Imports { engine, caches: Vec::new(), promised: Mutex::default(), fetches }
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
        let repository =
            cache.repository.as_ref().ok_or_else(|| crate::Error::internal("a cache without layers"))?;
        let source = RemoteSource::of_blobs(repository, messages.clone());
        let session = session.clone();
        let fetched = self.engine.heavily(move || {
            let report = Report::new(messages);
            let watch = |layer: &Descriptor, stage| tell_received(&report, layer, stage);
            session.fetch(&key, &description, &layer, &source, &watch).map_err(failed)
        });
        fetched.await
    }

    /// Where a layer is that is not here.
    pub fn elsewhere(&self, layer: &DiffId) -> Option<Elsewhere> {
        self.caches.iter().find_map(|cache| {
            let blob = cache.blob(layer)?.clone();
            Some(Elsewhere { repository: cache.name.clone(), blob })
        })
    }
}
