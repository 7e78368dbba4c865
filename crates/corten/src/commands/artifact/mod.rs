//! `artifact`: files at registries, by themselves or attached to images (image specification 1.1, "Guidelines for Artifact Usage"). The
//! client speaks to the registry itself; no engine takes part.

mod list;
mod parcel;
mod pull;
mod push;

pub use list::Ls;
pub use pull::PullArtifact;
pub use push::{Attach, PushArtifact};

/// The annotation with a file's name.
const TITLE: &str = "org.opencontainers.image.title";
const CREATED: &str = "org.opencontainers.image.created";
