//! Images: list, inspect, history, removal, and the options of load, save and import.

use crate::container::{GraphDriver, HealthConfig};
use crate::filters::Filters;
use crate::json::{self, List, Map, is_zero};
use crate::network::PortSet;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// An OCI content descriptor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Descriptor {
    pub media_type: String,
    pub digest: String,
    pub size: i64,
    #[serde(skip_serializing_if = "List::is_empty")]
    pub urls: List<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub annotations: Map<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub artifact_type: String,
}

/// An OCI platform; also the `platform` parameter of newer API versions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    pub architecture: String,
    pub os: String,
    #[serde(rename = "os.version", skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    #[serde(rename = "os.features", skip_serializing_if = "List::is_empty")]
    pub os_features: List<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// An element of `GET /images/json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageSummary {
    /// -1: not counted.
    pub containers: i64,
    /// Seconds since 1970.
    pub created: i64,
    pub id: String,
    pub labels: Map<String>,
    pub parent_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
    #[serde(skip_serializing_if = "List::is_empty")]
    pub manifests: List<ManifestSummary>,
    pub repo_digests: List<String>,
    pub repo_tags: List<String>,
    /// -1: not computed.
    pub shared_size: i64,
    pub size: i64,
    /// Sent to clients before API 1.44 only; the daemon fills it.
    #[serde(skip_serializing_if = "is_zero")]
    pub virtual_size: i64,
}

/// One manifest of an image, told on the wish `manifests=1`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ManifestSummary {
    #[serde(rename = "ID")]
    pub id: String,
    pub descriptor: Descriptor,
    pub available: bool,
    pub size: ManifestSize,
    /// image, attestation or unknown.
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_data: Option<ManifestImageData>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attestation_data: Option<ManifestAttestationData>,
}

/// What an attestation manifest is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ManifestAttestationData {
    /// The digest of an image manifest.
    #[serde(rename = "For")]
    pub subject: String,
}

/// An element of the answer of `GET /images/{name}/attestations`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AttestationStatement {
    pub descriptor: Descriptor,
    pub predicate_type: String,
    /// The in-toto statement, when it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statement: Option<serde_json::Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageInspectOptions {
    pub manifests: bool,
    pub platform: Option<Platform>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ManifestSize {
    pub total: i64,
    pub content: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ManifestImageData {
    pub platform: Platform,
    pub containers: List<String>,
    pub size: ManifestUnpackedSize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ManifestUnpackedSize {
    pub unpacked: i64,
}

/// Answer of `GET /images/{name}/json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageInspect {
    pub id: String,
    pub repo_tags: List<String>,
    pub repo_digests: List<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub parent: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub comment: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub docker_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub author: String,
    pub config: Option<ImageConfig>,
    pub architecture: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
    pub os: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    pub size: i64,
    /// Sent to clients before API 1.44 only; the daemon fills it.
    #[serde(skip_serializing_if = "is_zero")]
    pub virtual_size: i64,
    pub graph_driver: GraphDriver,
    #[serde(rename = "RootFS")]
    pub root_fs: RootFs,
    pub metadata: ImageMetadata,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
    #[serde(skip_serializing_if = "List::is_empty")]
    pub manifests: List<ManifestSummary>,
}

/// How the image's containers run, without what is empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageConfig {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub exposed_ports: PortSet,
    #[serde(skip_serializing_if = "List::is_empty")]
    pub env: List<String>,
    #[serde(skip_serializing_if = "List::is_empty", deserialize_with = "json::words")]
    pub entrypoint: List<String>,
    #[serde(skip_serializing_if = "List::is_empty", deserialize_with = "json::words")]
    pub cmd: List<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub volumes: Map<json::Empty>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub labels: Map<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub args_escaped: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    #[serde(skip_serializing_if = "List::is_empty")]
    pub on_build: List<String>,
    #[serde(skip_serializing_if = "List::is_empty", deserialize_with = "json::words")]
    pub shell: List<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RootFs {
    /// `layers`.
    #[serde(rename = "Type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Digests of the uncompressed layers, the base first.
    #[serde(skip_serializing_if = "List::is_empty")]
    pub layers: List<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageMetadata {
    pub last_tag_time: Timestamp,
}

/// An element of `GET /images/{name}/history`, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageHistory {
    pub comment: String,
    /// Seconds since 1970.
    pub created: i64,
    pub created_by: String,
    /// `<missing>` for the layers that came with the image.
    pub id: String,
    pub size: i64,
    pub tags: List<String>,
}

/// An element of the answer of `DELETE /images/{name}`: one of the two is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageDelete {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deleted: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub untagged: String,
}

/// Answer of `POST /images/prune`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImagesPruneReport {
    pub images_deleted: List<ImageDelete>,
    pub space_reclaimed: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageListOptions {
    pub all: bool,
    pub filters: Filters,
    pub digests: bool,
    pub shared_size: bool,
    pub manifests: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageRemoveOptions {
    pub force: bool,
    /// Keep untagged parents.
    pub noprune: bool,
    /// Remove only what belongs to these platforms.
    pub platforms: Vec<Platform>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageImportOptions {
    pub repo: String,
    pub tag: String,
    pub message: String,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// `os[/arch[/variant]]`.
    pub platform: Option<String>,
}

/// What a registry has under a name: `GET /distribution/{name}/json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DistributionInspect {
    pub descriptor: Descriptor,
    pub platforms: List<Platform>,
}

/// A repository of a registry that fits a search: `GET /images/search`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SearchResult {
    pub star_count: u64,
    pub is_official: bool,
    pub name: String,
    pub is_automated: bool,
    pub description: String,
}

/// Parameters of `POST /images/{name}/push`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImagePushOptions {
    /// The name, without tag.
    pub name: String,
    /// Empty: all tags.
    pub tag: String,
    /// A JSON document as [`Platform`].
    pub platform: Option<String>,
    /// `gzip` or `zstd`; ours.
    pub compression: Option<String>,
}

/// Parameters of `POST /images/create` for a pull.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImagePullOptions {
    /// The name, without tag.
    pub from_image: String,
    /// A tag or a digest; empty: all tags.
    pub tag: String,
    pub platform: Option<String>,
}
