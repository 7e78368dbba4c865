//! Events.

use crate::filters::Filters;
use crate::json::{Map, is_zero};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// One line of `GET /events`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventMessage {
    /// As `action`: one of three fields of API 1.21, which the daemon sends to clients before API 1.52 for containers and images.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The container's image.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// container, image, volume, network, daemon, …
    #[serde(rename = "Type")]
    pub kind: String,
    #[serde(rename = "Action")]
    pub action: String,
    #[serde(rename = "Actor")]
    pub actor: EventActor,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// Seconds since 1970.
    #[serde(skip_serializing_if = "is_zero")]
    pub time: i64,
    /// Nanoseconds since 1970.
    #[serde(rename = "timeNano", skip_serializing_if = "is_zero")]
    pub time_nano: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventActor {
    #[serde(rename = "ID")]
    pub id: String,
    #[serde(rename = "Attributes")]
    pub attributes: Map<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventsOptions {
    /// Begin with what happened from here on; none: with what happens from now on.
    pub since: Option<Timestamp>,
    /// End here; a time that is past ends the stream at once.
    pub until: Option<Timestamp>,
    pub filters: Filters,
}
