//! Images of several platforms: which one a container runs, what is told of each, what is said of them.

use std::path::Path;
use std::sync::Arc;

use corten_api::image::{
    AttestationStatement, Descriptor, ManifestAttestationData, ManifestImageData, ManifestSize,
    ManifestSummary, ManifestUnpackedSize, Platform as ApiPlatform,
};
use corten_image::{Image, ManifestInfo, ManifestKind, Platform};

use super::{blocking, failed, parse_platform, signed, with_tag};
use crate::Engine;
use crate::error::{Error, ErrorKind, Result};

/// As the image store writes platforms.
pub(super) fn wanted(platform: &ApiPlatform) -> Platform {
    let host = Platform::host();
    let or = |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
    let variant = Some(platform.variant.as_str()).filter(|variant| !variant.is_empty());
    Platform::new(&or(&platform.os, &host.os), &or(&platform.architecture, &host.architecture), variant)
}

pub(super) fn api_platform(platform: &Platform) -> ApiPlatform {
    ApiPlatform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        os_version: platform.os_version.clone().unwrap_or_default(),
        os_features: platform.os_features.clone().map(Into::into).unwrap_or_default(),
        variant: platform.variant.clone().unwrap_or_default(),
    }
}

pub(super) fn descriptor(own: &corten_image::manifest::Descriptor) -> Descriptor {
    Descriptor {
        media_type: own.media_type.clone(),
        digest: own.digest.to_string(),
        size: signed(own.size),
        urls: own.urls.clone().map(Into::into).unwrap_or_default(),
        annotations: own.annotations.clone().map(Into::into).unwrap_or_default(),
        platform: own.platform.as_ref().map(api_platform),
        artifact_type: own.artifact_type.clone().unwrap_or_default(),
    }
}

impl Engine {
    /// An image as it is on a platform, to be looked at.
    pub(super) fn image_on(&self, name: &str, platform: Option<&ApiPlatform>) -> Result<Arc<Image>> {
        match platform {
            None => self.images.resolve(name).map_err(failed),
            Some(platform) => self.images.on_platform(name, &wanted(platform)).map_err(failed),
        }
    }

    pub(super) fn manifest_summaries(&self, image: &Image) -> Result<Vec<ManifestSummary>> {
        let manifests = self.images.manifests(image).map_err(failed)?;
        Ok(manifests.iter().map(|manifest| self.manifest_summary(manifest)).collect())
    }

    fn manifest_summary(&self, manifest: &ManifestInfo) -> ManifestSummary {
        let (content, unpacked) = (signed(manifest.content_bytes), signed(manifest.unpacked_bytes));
        let mut summary = ManifestSummary {
            id: manifest.descriptor.digest.to_string(),
            descriptor: descriptor(&manifest.descriptor),
            available: manifest.available,
            size: ManifestSize { total: content.saturating_add(unpacked), content },
            ..ManifestSummary::default()
        };
        match &manifest.kind {
            ManifestKind::Image { platform } => {
                summary.kind = "image".to_owned();
                summary.image_data = Some(ManifestImageData {
                    platform: api_platform(platform),
                    containers: self.containers_of(manifest).into(),
                    size: ManifestUnpackedSize { unpacked },
                });
            }
            ManifestKind::Attestation { subject } => {
                summary.kind = "attestation".to_owned();
                let subject = subject.map(|digest| digest.to_string()).unwrap_or_default();
                summary.attestation_data = Some(ManifestAttestationData { subject });
            }
            ManifestKind::Unknown => summary.kind = "unknown".to_owned(),
        }
        summary
    }

    fn containers_of(&self, manifest: &ManifestInfo) -> Vec<String> {
        let Some(image) = manifest.image.map(|id| id.to_string()) else { return Vec::new() };
        let users = self.containers.all().into_iter().filter(|container| container.read().image_id == image);
        users.map(|container| container.id.clone()).collect()
    }

    /// The in-toto statements that came with an image; of these predicate types only, if there are any.
    pub async fn image_attestations(
        &self,
        name: &str,
        platform: Option<&ApiPlatform>,
        types: &[String],
        with_statements: bool,
    ) -> Result<Vec<AttestationStatement>> {
        let platform = platform.map_or_else(Platform::host, wanted);
        let (engine, name) = (self.clone(), name.to_owned());
        let found = blocking(move || engine.images.attestations(&name, &platform).map_err(failed)).await?;
        let mut statements = Vec::new();
        for (own, bytes) in found {
            let statement: serde_json::Value = serde_json::from_slice(&bytes)
                .map_err(|e| Error::internal(format!("attestation {}: {e}", own.digest)))?;
            let said =
                own.annotation("in-toto.io/predicate-type").or_else(|| statement["predicateType"].as_str());
            let predicate_type = said.unwrap_or_default().to_owned();
            if types.is_empty() || types.contains(&predicate_type) {
                statements.push(AttestationStatement {
                    descriptor: descriptor(&own),
                    predicate_type,
                    statement: with_statements.then_some(statement),
                });
            }
        }
        Ok(statements)
    }

    /// The image that a container is to be made from, unpacked for its platform.
    pub(crate) async fn image_for(&self, name: &str, platform: Option<&str>) -> Result<Arc<Image>> {
        let (image, host) = (self.find_image(name)?, Platform::host());
        let own = image.config.platform();
        let wish = match parse_platform(platform)? {
            // What the name stands for may be another platform's, if only that was there at first.
            None if runs_here(&own) => return Ok(image),
            None => host.clone(),
            Some(wish) if own.fitness(&wish) == Some(0) && runs_here(&own) => return Ok(image),
            Some(wish) => wish,
        };
        let (engine, text, wanted) = (self.clone(), name.to_owned(), wish.clone());
        let found = blocking(move || engine.images.resolve_platform(&text, &wanted).map_err(failed)).await;
        let found = match found {
            Err(error) if error.kind == ErrorKind::NotFound && platform.is_none() => {
                return Err(foreign(name, &own));
            }
            Err(error) if error.kind == ErrorKind::NotFound && image.descriptor.digest == image.manifest => {
                return Err(Error::not_found(format!(
                    "image with reference {name} was found but its platform ({own}) does not match the specified platform ({wish})"
                )));
            }
            found => found?,
        };
        let own = found.config.platform();
        if runs_here(&own) { Ok(found) } else { Err(foreign(name, &own)) }
    }

    /// The image of a name, for what is mounted of it.
    pub(crate) fn find_image_for(&self, name: &str) -> Result<Arc<Image>> {
        let image = self.find_image(name)?;
        let own = image.config.platform();
        if runs_here(&own) { Ok(image) } else { Err(foreign(name, &own)) }
    }

    fn find_image(&self, name: &str) -> Result<Arc<Image>> {
        if name.is_empty() {
            return Err(Error::invalid("no image given: config.Image must not be empty"));
        }
        self.images.resolve(name).map_err(|error| match error.kind() {
            corten_image::ErrorKind::NotFound => {
                Error::not_found(format!("No such image: {}", with_tag(name)))
            }
            _ => failed(error),
        })
    }
}

fn foreign(name: &str, own: &Platform) -> Error {
    Error::invalid(format!(
        "image {name} is made for {own}, this host runs {}: it can be kept, served and saved here, but not run",
        Platform::host()
    ))
}

/// Whether this host runs programs of a platform: its own, 32-bit ones beside 64-bit ones, and those that an emulator is registered for.
pub(crate) fn runs_here(platform: &Platform) -> bool {
    let host = Platform::host();
    if platform.fitness(&host).is_some() {
        return true;
    }
    if platform.os != host.os {
        return false;
    }
    let family = matches!((host.architecture.as_str(), platform.architecture.as_str()), ("amd64", "386"));
    family || has_emulator(&platform.architecture)
}

/// What qemu-user-static and its like register (binfmt_misc), by the names that they use.
fn has_emulator(architecture: &str) -> bool {
    let name = match architecture {
        "amd64" => "x86_64",
        "386" => "i386",
        "arm64" => "aarch64",
        "loong64" => "loongarch64",
        "mips64le" => "mips64el",
        other => other,
    };
    let entry = Path::new("/proc/sys/fs/binfmt_misc").join(format!("qemu-{name}"));
    std::fs::read_to_string(entry).is_ok_and(|text| text.starts_with("enabled"))
}
