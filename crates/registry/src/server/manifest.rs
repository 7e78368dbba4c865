//! What a manifest says: its media type, what it needs, its subject. Pure; the bytes themselves are kept as they came.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::digest::Digest;

/// Larger ones are refused (the specification wants 4 MiB to be possible).
pub const SIZE_MAX: usize = 4 << 20;
/// More would be a way to make the catalogue work.
const NEEDS_MAX: usize = 10_000;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Of Docker's first schema, whose digest isn't that of its bytes.
const DOCKER_SCHEMA_1: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];
/// Layers that are had from elsewhere.
const FOREIGN_LAYER: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
const NONDISTRIBUTABLE: &str = "application/vnd.oci.image.layer.nondistributable.";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("the manifest is no JSON that this registry understands: {0}")]
    Syntax(String),
    #[error("schemaVersion is {0}, not 2")]
    Schema(u32),
    #[error("manifests of Docker's schema 1 are not supported: push the image with a newer client")]
    Schema1,
    #[error("the manifest says that it is {said}, and was sent as {sent}")]
    MediaType { said: String, sent: String },
    #[error("{0} is no media type of manifests")]
    UnknownType(String),
    #[error("the manifest has neither a config nor manifests")]
    Neither,
    #[error("the manifest has both a config and manifests")]
    Both,
    #[error("the manifest refers to more than {NEEDS_MAX} objects")]
    TooMany,
    #[error("{0}")]
    Digest(#[from] super::digest::DigestError),
}

/// What the registry wants to know of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub media_type: String,
    pub blobs: BTreeSet<Digest>,
    pub manifests: BTreeSet<Digest>,
    pub subject: Option<Digest>,
    /// Of a manifest without one, the type of its config.
    pub artifact_type: Option<String>,
    pub annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    schema_version: Option<u32>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    /// Of an artifact manifest, which the image specification had for a while.
    blobs: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
}

impl Descriptor {
    fn is_elsewhere(&self) -> bool {
        self.media_type == FOREIGN_LAYER || self.media_type.starts_with(NONDISTRIBUTABLE)
    }
}

impl Manifest {
    /// Of the bytes, and the media type that they were sent with.
    pub fn parse(bytes: &[u8], sent: Option<&str>) -> Result<Manifest, ManifestError> {
        let sent = sent.map(|sent| sent.split(';').next().unwrap_or_default().trim());
        let sent = sent.filter(|sent| !sent.is_empty());
        if sent.is_some_and(|sent| DOCKER_SCHEMA_1.contains(&sent)) {
            return Err(ManifestError::Schema1);
        }
        let wire: Wire =
            serde_json::from_slice(bytes).map_err(|error| ManifestError::Syntax(error.to_string()))?;
        let is_artifact = |of: Option<&str>| of == Some(OCI_ARTIFACT);
        match wire.schema_version {
            Some(2) => {}
            Some(1) => return Err(ManifestError::Schema1),
            None if is_artifact(sent) || is_artifact(wire.media_type.as_deref()) => {}
            other => return Err(ManifestError::Schema(other.unwrap_or_default())),
        }
        let media_type = media_type(&wire, sent)?;
        let mut manifest = Manifest {
            media_type,
            blobs: BTreeSet::new(),
            manifests: BTreeSet::new(),
            subject: wire.subject.map(|subject| subject.digest.parse()).transpose()?,
            artifact_type: wire.artifact_type.filter(|text| !text.is_empty()),
            annotations: wire.annotations.unwrap_or_default(),
        };
        if manifest.artifact_type.is_none() {
            manifest.artifact_type =
                wire.config.as_ref().map(|config| config.media_type.clone()).filter(|text| !text.is_empty());
        }
        let layers = wire.layers.into_iter().chain(wire.blobs).flatten();
        for blob in wire.config.into_iter().chain(layers).filter(|blob| !blob.is_elsewhere()) {
            manifest.blobs.insert(blob.digest.parse()?);
        }
        for child in wire.manifests.into_iter().flatten() {
            manifest.manifests.insert(child.digest.parse()?);
        }
        if manifest.blobs.len() + manifest.manifests.len() > NEEDS_MAX {
            return Err(ManifestError::TooMany);
        }
        Ok(manifest)
    }
}

/// What kind of manifest it is: as it says itself, as it was sent, or as it looks. All that speak must agree.
fn media_type(wire: &Wire, sent: Option<&str>) -> Result<String, ManifestError> {
    let said = wire.media_type.as_deref().filter(|said| !said.is_empty());
    // What clients send that know no better.
    let sent = sent.filter(|sent| !matches!(*sent, "application/json" | "application/octet-stream"));
    if let (Some(said), Some(sent)) = (said, sent)
        && said != sent
    {
        return Err(ManifestError::MediaType { said: said.to_owned(), sent: sent.to_owned() });
    }
    let has_index = wire.manifests.is_some();
    let has_image = wire.config.is_some();
    let looks = match (has_image, has_index) {
        (true, true) => return Err(ManifestError::Both),
        (true, false) => Some(OCI_MANIFEST),
        (false, true) => Some(OCI_INDEX),
        (false, false) => None,
    };
    let media_type = said.or(sent).or(looks).ok_or(ManifestError::Neither)?;
    let fits = match media_type {
        OCI_MANIFEST | DOCKER_MANIFEST => has_image,
        OCI_INDEX | DOCKER_LIST => has_index,
        OCI_ARTIFACT => !has_image && !has_index,
        other => return Err(ManifestError::UnknownType(other.to_owned())),
    };
    if fits { Ok(media_type.to_owned()) } else { Err(ManifestError::Neither) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::digest::Algorithm;
    use serde_json::{Value, json};

    fn digest(text: &str) -> Digest {
        Digest::of(Algorithm::Sha256, text.as_bytes())
    }

    fn descriptor(media_type: &str, text: &str) -> Value {
        json!({"mediaType": media_type, "digest": digest(text).to_string(), "size": 1})
    }

    fn parse(value: &Value, sent: Option<&str>) -> Result<Manifest, ManifestError> {
        Manifest::parse(value.to_string().as_bytes(), sent)
    }

    #[test]
    fn an_image_needs_its_blobs_but_for_those_from_elsewhere() {
        let image = json!({
            "schemaVersion": 2,
            "config": descriptor("application/vnd.oci.image.config.v1+json", "config"),
            "layers": [
                descriptor("application/vnd.oci.image.layer.v1.tar+gzip", "layer"),
                descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "elsewhere"),
                descriptor(FOREIGN_LAYER, "foreign"),
            ],
            "subject": descriptor(OCI_MANIFEST, "subject"),
            "annotations": {"a": "b"},
        });
        let manifest =
            parse(&image, Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8")).unwrap();
        assert_eq!(manifest.media_type, OCI_MANIFEST);
        assert_eq!(manifest.blobs, BTreeSet::from([digest("config"), digest("layer")]));
        assert_eq!(manifest.subject, Some(digest("subject")));
        assert_eq!(manifest.artifact_type.as_deref(), Some("application/vnd.oci.image.config.v1+json"));
        assert_eq!(manifest.annotations["a"], "b");
        // Without a word about what it is.
        assert_eq!(parse(&image, None).unwrap().media_type, OCI_MANIFEST);
    }

    #[test]
    fn an_index_needs_manifests() {
        let index = json!({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": [descriptor(DOCKER_MANIFEST, "a")]});
        let manifest = parse(&index, Some(DOCKER_LIST)).unwrap();
        assert_eq!((manifest.manifests.len(), manifest.blobs.len()), (1, 0));
        assert_eq!(manifest.artifact_type, None);
        assert_eq!(parse(&json!({"schemaVersion": 2, "manifests": []}), None).unwrap().media_type, OCI_INDEX);
    }

    #[test]
    fn refuses_what_it_doesnt_understand() {
        let config = descriptor("x", "config");
        for (value, sent) in [
            (json!([]), None),
            (json!({}), None),
            (json!({"schemaVersion": 1}), None),
            (json!({"schemaVersion": 2}), None),
            (json!({"schemaVersion": 2}), Some(OCI_MANIFEST)),
            (json!({"schemaVersion": 2, "config": config, "layers": []}), Some("text/plain")),
            (json!({"schemaVersion": 2, "config": config, "layers": []}), Some(OCI_INDEX)),
            (json!({"schemaVersion": 2, "config": config, "layers": []}), Some(DOCKER_SCHEMA_1[0])),
            (json!({"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": config}), Some(OCI_MANIFEST)),
            (json!({"schemaVersion": 2, "config": config, "manifests": []}), None),
            (json!({"schemaVersion": 2, "config": {"digest": "sha256:../../x"}}), None),
            (json!({"schemaVersion": 2, "config": config, "subject": {"digest": ""}}), None),
        ] {
            assert!(parse(&value, sent).is_err(), "{value} {sent:?}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(Manifest::parse(deep.as_bytes(), None).is_err());
    }
}
