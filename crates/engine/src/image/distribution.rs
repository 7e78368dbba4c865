//! What a registry has under a name, without pulling it.

use corten_api::auth::AuthConfig;
use corten_api::image::DistributionInspect;
use corten_image::manifest::{self, Descriptor};
use corten_image::{ImageConfig, Platform};
use corten_registry::{RegistryAddress, Repository};

use super::platforms::{api_platform, descriptor};
use super::{invalid, named};
use crate::Engine;
use crate::error::{Error, Result};
use crate::registry::credentials;

/// A configuration is small; one that is not is none.
const CONFIG_BYTES_MAX: u64 = 8 << 20;

impl Engine {
    pub async fn image_distribution(&self, name: &str, auth: AuthConfig) -> Result<DistributionInspect> {
        let name = named(name, "")?;
        let registry = RegistryAddress::parse(name.domain())?;
        let repository = self.registries.repository(&registry, name.path(), credentials(auth));
        let wanted = match name.digest() {
            Some(digest) => digest.to_string(),
            None if name.tag().is_none() => {
                name.with_tag("latest").map_err(invalid)?.tag().unwrap_or_default().to_owned()
            }
            None => name.tag().unwrap_or_default().to_owned(),
        };
        let document = repository.manifest(&wanted).await?;
        let unread =
            |error: manifest::DocumentError| Error::internal(format!("{}: {error}", name.familiar()));
        let platforms = match manifest::Document::parse(&document.bytes, &document.media_type)
            .map_err(unread)?
        {
            manifest::Document::Index(index) => {
                index.manifests.into_iter().filter_map(|below| below.platform).collect()
            }
            manifest::Document::Manifest(manifest) => vec![platform(&repository, &manifest.config).await?],
        };
        let top = Descriptor::new(&document.media_type, document.digest, document.bytes.len() as u64);
        Ok(DistributionInspect {
            descriptor: descriptor(&top),
            platforms: platforms.iter().map(api_platform).collect(),
        })
    }
}

/// The platform that a configuration says.
async fn platform(repository: &Repository, config: &Descriptor) -> Result<Platform> {
    let object = config.digest;
    if config.size > CONFIG_BYTES_MAX {
        return Err(Error::internal(format!("the configuration {object} has {} bytes", config.size)));
    }
    let mut bytes = Vec::new();
    let mut download = repository.download(config, 0);
    while let Some(piece) = download.chunk().await? {
        bytes.extend_from_slice(&piece);
    }
    if corten_image::Digest::of(&bytes) != object {
        return Err(Error::internal(format!("what the registry gives for {object} is something else")));
    }
    let config: ImageConfig = serde_json::from_slice(&bytes)
        .map_err(|error| Error::internal(format!("the configuration {object}: {error}")))?;
    Ok(config.platform())
}
