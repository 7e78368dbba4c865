//! `manifest`: images of several platforms under one name, made of what registries have. Lists are gathered in files that Docker's client
//! shares, until they are pushed. No engine takes part.

mod annotate;
mod create;
mod found;
mod inspect;
mod list;
mod push;
mod remove;

pub use annotate::Annotate;
pub use create::Create;
pub use inspect::InspectManifest;
pub use push::PushManifest;
pub use remove::Rm;

use corten_image::Reference;

use super::image::pull::{parse, with_default_tag};
use crate::cli::Failure;

/// A name with its tag or digest.
fn reference(text: &str) -> Result<Reference, Failure> {
    with_default_tag(parse(text)?)
}

/// As Docker's client says it, whose scripts may look for it.
fn missing(name: &str) -> Failure {
    Failure::new(format!("No such manifest: {name}"))
}
