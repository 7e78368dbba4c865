//! What the versions of the API differ in: answers are made in the newest shape and brought into the one that a client asked
//! for; requests of older clients lose what their version didn't know. All of it is pure, and all of it is here, so that
//! the engine knows of one shape only. A wish that a version merely ignores is ignored where a handler reads it
//! (`Call::at_least`). Facts: moby's `api/docs/CHANGELOG.md`.

pub mod container;
pub mod disk;
pub mod event;
pub mod image;
pub mod network;
pub mod request;
pub mod system;

#[cfg(test)]
mod tests;

use crate::http::ApiVersion;
use serde_json::{Map, Value};

/// Whether a client of `version` knows what came with 1.`minor`.
fn knows(version: ApiVersion, minor: u32) -> bool {
    version >= ApiVersion::new(1, minor)
}

/// Does something with the object in a document's field, when there is one.
fn within(document: &mut Value, field: &str, change: impl FnOnce(&mut Map<String, Value>)) {
    if let Some(object) = document.get_mut(field).and_then(Value::as_object_mut) {
        change(object);
    }
}
