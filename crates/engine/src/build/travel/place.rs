//! Where the blobs of caches are: what tells a registry from a directory of the client's is here, and nowhere else.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use corten_api::auth::AuthConfig;
use corten_api::stream::JsonMessage;
use corten_build::{Asker, Content, client_store};
use corten_image::build::{BuildCache, CACHE_CONFIG_BYTES_MAX, CacheError};
use corten_image::manifest::{Descriptor, Document, Manifest, media};
use corten_image::{Digest, Platform, Reference, Source, Target};
use corten_registry::{RegistryAddress, Repository};
use tokio::sync::mpsc::Sender;

use super::super::auth_for;
use super::super::content::{ContentSource, ContentTarget, document};
use crate::Engine;
use crate::image::{RemoteSource, RemoteTarget};
use crate::registry::{credentials, notices};

/// Where the blobs of a cache are that is read.
pub(super) enum Origin {
    /// Those of an image of the store: where its layers are, if they are anywhere.
    Store,
    Registry(Reference, Repository),
    Client(Arc<dyn Content>),
}

impl Origin {
    /// For threads; `listener` is whoever waits for what comes. None where there is nothing to fetch.
    pub fn source(&self, listener: Sender<JsonMessage>) -> Option<Box<dyn Source + Send>> {
        match self {
            Origin::Store => None,
            Origin::Registry(_, repository) => Some(Box::new(RemoteSource::of_blobs(repository, listener))),
            Origin::Client(content) => Some(Box::new(ContentSource::new(content.clone(), listener))),
        }
    }

    /// What it is called at a registry.
    pub fn reference(&self) -> Option<&Reference> {
        match self {
            Origin::Registry(name, _) => Some(name),
            Origin::Store | Origin::Client(_) => None,
        }
    }
}

/// A cache that is there, and not yet read.
pub(super) struct Found {
    pub origin: Origin,
    /// Of the cache, or of the image that it is in.
    pub manifest: Descriptor,
    pub source: Box<dyn Source + Send>,
}

impl Engine {
    /// A cache at a registry. The error is a text for people, here and below.
    pub(super) async fn cache_at_registry(
        &self,
        name: &Reference,
        auth: AuthConfig,
        listener: Sender<JsonMessage>,
    ) -> Result<Found, String> {
        let registry = RegistryAddress::parse(name.domain()).map_err(|error| error.to_string())?;
        let repository = self.registries.repository(&registry, name.path(), credentials(auth));
        let wanted = name.digest().map(|digest| digest.to_string());
        let wanted = wanted.or_else(|| name.tag().map(str::to_owned)).unwrap_or_default();
        let top = repository.manifest(&wanted).await.map_err(|error| error.to_string())?;
        // What comes of a cache is run and shipped as what comes of an image is.
        self.check_signature(&repository, name, &top).await.map_err(|error| error.message)?;
        let manifest = Descriptor::new(&top.media_type, top.digest, top.bytes.len() as u64);
        let source = Box::new(RemoteSource::of_document(&repository, top, listener));
        Ok(Found { origin: Origin::Registry(name.clone(), repository), manifest, source })
    }

    /// What takes a cache that goes to a registry; layers may be taken from `siblings`, other repositories there.
    pub(super) async fn target_at_registry(
        &self,
        name: &Reference,
        siblings: Vec<String>,
        auths: &BTreeMap<String, AuthConfig>,
        asker: &dyn Asker,
        listener: &Sender<JsonMessage>,
    ) -> crate::Result<Arc<dyn Target + Send>> {
        let auth = auth_for(auths, asker, name).await;
        let auth = auth.map_err(|error| crate::Error::internal(error.to_string()))?;
        let registry = RegistryAddress::parse(name.domain())?;
        let repository = self.registries.repository(&registry, name.path(), credentials(auth));
        let repository = repository.without_mirrors().with_notices(notices(listener));
        Ok(Arc::new(RemoteTarget::new(&repository, siblings)))
    }
}

/// A cache in a directory of the client's.
pub(super) async fn cache_at_client(
    place: &str,
    manifest: &Digest,
    asker: &dyn Asker,
    listener: Sender<JsonMessage>,
) -> Result<Found, String> {
    let content = client_content(place, asker).await?;
    let size = content.size(manifest).await.map_err(|error| error.to_string())?;
    let size = size.ok_or_else(|| format!("{manifest} is not there"))?;
    let source = Box::new(ContentSource::new(content.clone(), listener));
    Ok(Found { origin: Origin::Client(content), manifest: Descriptor::new("", *manifest, size), source })
}

/// What takes a cache that goes to a directory of the client's.
pub(super) async fn target_at_client(
    place: &str,
    asker: &dyn Asker,
) -> Result<Arc<dyn Target + Send>, String> {
    Ok(Arc::new(ContentTarget::new(client_content(place, asker).await?)))
}

async fn client_content(place: &str, asker: &dyn Asker) -> Result<Arc<dyn Content>, String> {
    let content = asker.content(&client_store(place)).await.map_err(|error| error.to_string())?;
    content.ok_or_else(|| "the client does not offer the directory".to_owned())
}

/// Reads what a cache says, by its manifest or, of an image of several platforms, that of one.
pub(super) fn read(source: &dyn Source, top: &Descriptor, platform: &Platform) -> Result<BuildCache, String> {
    let foreign = || {
        let kind = if top.media_type.is_empty() { media::OCI_INDEX } else { &top.media_type };
        CacheError::Foreign(kind.to_owned()).to_string()
    };
    let manifest = match document(source, top)? {
        Document::Manifest(manifest) => *manifest,
        Document::Index(index) => {
            let chosen = index.choose(platform).ok_or_else(foreign)?;
            // The caches of others are indexes of layers.
            if media::kind(&chosen.media_type) != Some(media::Kind::Manifest) {
                return Err(foreign());
            }
            match document(source, chosen)? {
                Document::Manifest(manifest) => *manifest,
                Document::Index(_) => return Err(foreign()),
            }
        }
    };
    BuildCache::check(&manifest).map_err(|error| error.to_string())?;
    let config = configuration(source, &manifest)?;
    BuildCache::read(&manifest, &config).map_err(|error| error.to_string())
}

fn configuration(source: &dyn Source, manifest: &Manifest) -> Result<Vec<u8>, String> {
    let blob = &manifest.config;
    if blob.size > CACHE_CONFIG_BYTES_MAX {
        return Err(format!("its list of steps is larger than {} MiB", CACHE_CONFIG_BYTES_MAX >> 20));
    }
    let mut bytes = Vec::new();
    let read = source.blob(blob, 0).and_then(|list| list.take(blob.size).read_to_end(&mut bytes));
    read.map_err(|error| error.to_string())?;
    match Digest::of(&bytes) == blob.digest {
        true => Ok(bytes),
        false => Err(format!("its list of steps is not {}", blob.digest)),
    }
}
