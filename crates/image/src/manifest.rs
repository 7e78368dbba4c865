//! The documents between a name and its layers: media types, descriptors, manifests, indexes.
//!
//! OCI image spec 1.1 and Docker's schema 2, which differ in media types only. A document's digest is that of its
//! bytes, so bytes are kept as they came and the types here are views. Knows nothing of where documents lie.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::platform::Platform;

pub mod media {
    //! Media types by their registered names.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// Of `{}`, where there has to be something.
    pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
    /// A statement of something (github.com/in-toto/attestation).
    pub const IN_TOTO: &str = "application/vnd.in-toto+json";
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

    /// What a descriptor's media type promises.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Kind {
        Index,
        Manifest,
        Config,
        Layer,
    }

    /// Classifies; `None` for what is not part of a container image.
    pub fn kind(media_type: &str) -> Option<Kind> {
        Some(match media_type {
            OCI_INDEX | DOCKER_INDEX => Kind::Index,
            OCI_MANIFEST | DOCKER_MANIFEST => Kind::Manifest,
            OCI_CONFIG | DOCKER_CONFIG => Kind::Config,
            OCI_LAYER
            | OCI_LAYER_GZIP
            | OCI_LAYER_ZSTD
            | "application/vnd.oci.image.layer.nondistributable.v1.tar"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
            | "application/vnd.docker.image.rootfs.diff.tar"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Kind::Layer,
            _ => return None,
        })
    }
}

/// Points at a blob: what it is, its digest and its size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urls: Option<Vec<String>>,
}

impl Descriptor {
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Descriptor {
        Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size,
            platform: None,
            annotations: None,
            artifact_type: None,
            urls: None,
        }
    }

    /// The descriptor of a document held in memory.
    pub fn of(media_type: &str, bytes: &[u8]) -> Descriptor {
        Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// The manifest that an attestation in an index is about.
    pub fn attestation_subject(&self) -> Option<Digest> {
        self.annotation("vnd.docker.reference.digest")?.parse().ok().filter(|_| self.is_attestation())
    }

    /// BuildKit's provenance and SBOM manifests stand in an index but are no images.
    pub fn is_attestation(&self) -> bool {
        self.annotation("vnd.docker.reference.type").is_some()
            || self.platform.as_ref().is_some_and(|p| p.os == "unknown" && p.architecture == "unknown")
    }
}

/// An image of one platform: its configuration and its layers, bottom first.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What it is when it isn't an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    pub config: Descriptor,
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one says something of; of an image there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Box<Descriptor>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// Manifests side by side, usually one per platform.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

impl Index {
    /// The image that suits a platform best.
    pub fn choose(&self, platform: &Platform) -> Option<&Descriptor> {
        let images = || self.manifests.iter().filter(|descriptor| !descriptor.is_attestation());
        let fitness = |descriptor: &Descriptor| descriptor.platform.as_ref()?.fitness(platform);
        let suiting = images().filter_map(|descriptor| Some((fitness(descriptor)?, descriptor)));
        // Of several that are as good the first: so their author ordered them.
        let best = suiting.min_by_key(|(fitness, _)| *fitness).map(|(_, descriptor)| descriptor);
        // An index that tells of no platforms has one image.
        best.or_else(|| images().find(|descriptor| descriptor.platform.is_none()))
    }
}

/// A manifest or an index, told apart by its bytes and its declared type.
#[derive(Clone, Debug)]
pub enum Document {
    Manifest(Box<Manifest>),
    Index(Index),
}

#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    #[error("{digest} is not a valid manifest: {source}")]
    Json { digest: Digest, source: serde_json::Error },
    #[error("{digest}: manifest schema version {version} is not supported")]
    SchemaVersion { digest: Digest, version: u32 },
    #[error("{digest}: media type {media_type:?} is not that of an image manifest or index")]
    MediaType { digest: Digest, media_type: String },
    #[error("{digest}: is declared as {declared:?} but says {embedded:?} itself")]
    Confused { digest: Digest, declared: String, embedded: String },
    #[error("{digest}: has the fields of both a manifest and an index")]
    Ambiguous { digest: Digest },
}

impl Document {
    /// Parses a manifest or index; `declared` is the media type of the descriptor that led here (may be empty).
    ///
    /// The type in the document and that of the descriptor must agree, and a manifest must not carry an index's
    /// fields: two readers must never see two different images in the same bytes (CVE-2021-41190).
    pub fn parse(bytes: &[u8], declared: &str) -> Result<Document, DocumentError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Probe {
            #[serde(default)]
            schema_version: u32,
            #[serde(default)]
            media_type: Option<String>,
            config: Option<serde::de::IgnoredAny>,
            layers: Option<serde::de::IgnoredAny>,
            manifests: Option<serde::de::IgnoredAny>,
        }
        let digest = Digest::of(bytes);
        let json = |source| DocumentError::Json { digest, source };
        let probe: Probe = serde_json::from_slice(bytes).map_err(json)?;
        if probe.schema_version != 2 {
            return Err(DocumentError::SchemaVersion { digest, version: probe.schema_version });
        }
        if probe.manifests.is_some() && (probe.config.is_some() || probe.layers.is_some()) {
            return Err(DocumentError::Ambiguous { digest });
        }
        let embedded = probe.media_type.filter(|text| !text.is_empty());
        let media_type = match &embedded {
            Some(embedded) if !declared.is_empty() && embedded != declared => {
                let (declared, embedded) = (declared.to_owned(), embedded.clone());
                return Err(DocumentError::Confused { digest, declared, embedded });
            }
            Some(embedded) => embedded.as_str(),
            None if !declared.is_empty() => declared,
            None if probe.manifests.is_some() => media::OCI_INDEX,
            None => media::OCI_MANIFEST,
        };
        match media::kind(media_type) {
            Some(media::Kind::Index) => Ok(Document::Index(serde_json::from_slice(bytes).map_err(json)?)),
            Some(media::Kind::Manifest) => {
                Ok(Document::Manifest(Box::new(serde_json::from_slice(bytes).map_err(json)?)))
            }
            _ => Err(DocumentError::MediaType { digest, media_type: media_type.to_owned() }),
        }
    }
}

/// Writes an index of manifests, always to the same bytes.
pub fn compose_index(manifests: Vec<Descriptor>, annotations: BTreeMap<String, String>) -> Vec<u8> {
    let media_type = Some(media::OCI_INDEX.to_owned());
    let annotations = Some(annotations).filter(|annotations| !annotations.is_empty());
    let index = Index { schema_version: 2, media_type, manifests, annotations };
    serde_json::to_vec(&index).expect("an index has string keys only")
}

/// Writes the manifest for a configuration and layers, always to the same bytes.
pub fn compose(config: Descriptor, layers: Vec<Descriptor>) -> Vec<u8> {
    compose_annotated(config, layers, BTreeMap::new())
}

/// The same with annotations.
pub fn compose_annotated(
    config: Descriptor,
    layers: Vec<Descriptor>,
    annotations: BTreeMap<String, String>,
) -> Vec<u8> {
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media::OCI_MANIFEST.to_owned()),
        artifact_type: None,
        config,
        layers,
        subject: None,
        annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
    };
    serde_json::to_vec(&manifest).expect("a manifest has string keys only")
}

/// Writes the manifest of an artifact that says something of a subject (OCI image specification, "Guidelines for Artifact Usage"). Its
/// configuration is the empty one.
pub fn compose_referrer(artifact_type: &str, layers: Vec<Descriptor>, subject: &Descriptor) -> Vec<u8> {
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media::OCI_MANIFEST.to_owned()),
        artifact_type: Some(artifact_type.to_owned()),
        config: Descriptor::of(media::OCI_EMPTY, b"{}"),
        layers,
        subject: Some(Box::new(Descriptor::new(&subject.media_type, subject.digest, subject.size))),
        annotations: None,
    };
    serde_json::to_vec(&manifest).expect("a manifest has string keys only")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#""config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":2}"#;

    #[test]
    fn tells_manifest_and_index_apart() {
        let manifest = format!(r#"{{"schemaVersion":2,{CONFIG},"layers":[]}}"#);
        assert!(matches!(Document::parse(manifest.as_bytes(), ""), Ok(Document::Manifest(_))));
        assert!(matches!(
            Document::parse(manifest.as_bytes(), media::DOCKER_MANIFEST),
            Ok(Document::Manifest(_))
        ));
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        assert!(matches!(Document::parse(index.as_bytes(), ""), Ok(Document::Index(_))));
    }

    #[test]
    fn refuses_confusion() {
        let both = format!(r#"{{"schemaVersion":2,{CONFIG},"manifests":[]}}"#);
        assert!(matches!(Document::parse(both.as_bytes(), ""), Err(DocumentError::Ambiguous { .. })));
        let says_index =
            format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, media::OCI_INDEX);
        assert!(matches!(
            Document::parse(says_index.as_bytes(), media::OCI_MANIFEST),
            Err(DocumentError::Confused { .. })
        ));
        let old = r#"{"schemaVersion":1,"fsLayers":[]}"#;
        assert!(matches!(
            Document::parse(old.as_bytes(), ""),
            Err(DocumentError::SchemaVersion { version: 1, .. })
        ));
        let strange = r#"{"schemaVersion":2,"mediaType":"text/plain"}"#;
        assert!(matches!(Document::parse(strange.as_bytes(), ""), Err(DocumentError::MediaType { .. })));
        assert!(matches!(Document::parse(b"{", ""), Err(DocumentError::Json { .. })));
    }
}
