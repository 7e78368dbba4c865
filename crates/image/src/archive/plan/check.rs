//! The single checks that a plan consists of, with the errors that name the object.

use crate::archive::LoadError;
use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::manifest::{Descriptor, media};
use crate::reference::Reference;

pub(super) fn parse_name(text: &str) -> Result<Reference, LoadError> {
    Reference::parse(text).map_err(|source| LoadError::Name { name: text.to_owned(), source })
}

pub(super) fn parse_config(object: &str, bytes: &[u8]) -> Result<ImageConfig, LoadError> {
    serde_json::from_slice(bytes).map_err(|source| LoadError::Json { object: object.to_owned(), source })
}

pub(super) fn check_count(image: Digest, diff_ids: usize, layers: usize) -> Result<(), LoadError> {
    if diff_ids == layers { Ok(()) } else { Err(LoadError::LayerCount { image, diff_ids, layers }) }
}

pub(super) fn check_type(descriptor: &Descriptor, kind: media::Kind) -> Result<(), LoadError> {
    if media::kind(&descriptor.media_type) == Some(kind) {
        return Ok(());
    }
    let (object, media_type) = (descriptor.digest.to_string(), descriptor.media_type.clone());
    Err(LoadError::MediaType { object, media_type })
}

pub(super) fn check_size(descriptor: &Descriptor, actual: u64) -> Result<(), LoadError> {
    if descriptor.size == actual {
        return Ok(());
    }
    Err(LoadError::Size { object: descriptor.digest.to_string(), expected: descriptor.size, actual })
}

pub(super) fn missing(descriptor: &Descriptor) -> LoadError {
    LoadError::Missing { object: descriptor.digest.to_string() }
}
