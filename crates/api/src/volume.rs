//! Volumes.

use crate::json::{List, Map};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Volume {
    #[serde(skip_serializing_if = "Timestamp::is_zero")]
    pub created_at: Timestamp,
    pub driver: String,
    pub labels: Map<String>,
    pub mountpoint: String,
    pub name: String,
    pub options: Map<String>,
    /// `local`.
    pub scope: String,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub status: Map<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_data: Option<VolumeUsage>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumeUsage {
    /// -1: not known.
    pub ref_count: i64,
    /// -1: not known.
    pub size: i64,
}

/// Body of `POST /volumes/create`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumeCreateRequest {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub driver_opts: Map<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub labels: Map<String>,
    /// Empty: the engine makes one up.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// Answer of `GET /volumes`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumeList {
    pub volumes: List<Volume>,
    pub warnings: List<String>,
}

/// Answer of `POST /volumes/prune`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumesPruneReport {
    pub volumes_deleted: List<String>,
    pub space_reclaimed: u64,
}
