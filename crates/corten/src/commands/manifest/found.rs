//! What a name stands for at its registry.

use corten_image::config::ImageConfig;
use corten_image::manifest::{Descriptor, Document, Manifest, media};
use corten_image::{Platform, Reference};
use corten_registry::Repository;

use super::list::Member;
use crate::cli::Failure;
use crate::commands::remote::{Remote, small_blob};

pub enum Found {
    Image(Box<Member>),
    /// An index: its bytes, and what it lists.
    List(Vec<u8>, Vec<Descriptor>),
}

pub async fn find(remote: &Remote<'_>, name: &Reference) -> Result<Found, Failure> {
    let (repository, document) = remote.document(name).await?;
    let parsed = Document::parse(&document.bytes, &document.media_type)
        .map_err(|error| Failure::new(error.to_string()).while_doing(name.familiar()))?;
    match parsed {
        Document::Index(index) => Ok(Found::List(document.bytes.to_vec(), index.manifests)),
        Document::Manifest(manifest) => {
            let mut descriptor = Descriptor::of(&document.media_type, &document.bytes);
            descriptor.platform = platform(&repository, &manifest).await?;
            Ok(Found::Image(Box::new(Member::new(name, descriptor, &document.bytes)?)))
        }
    }
}

/// What an image runs on, by its configuration; nothing of what isn't an image.
async fn platform(repository: &Repository, manifest: &Manifest) -> Result<Option<Platform>, Failure> {
    if media::kind(&manifest.config.media_type) != Some(media::Kind::Config) {
        return Ok(None);
    }
    let config: ImageConfig = serde_json::from_slice(&small_blob(repository, &manifest.config).await?)
        .map_err(|error| {
            Failure::new(format!("the configuration {} is none: {error}", manifest.config.digest))
        })?;
    Ok(Some(config.platform()))
}
