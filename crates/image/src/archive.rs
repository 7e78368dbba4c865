//! Images as archives: loading what `docker save`, podman, buildah and skopeo write, and saving.
//!
//! Loading is one pass. `intake` takes the entries as they come and imports layers at once, before it is known
//! what they belong to; `plan` then decides from manifests alone what is an image (no I/O); `load` puts
//! blobs in place and commits all images in one transaction. What no image wants is dropped. `fetch` is the same for a source that is
//! asked for what is wanted, blob by blob.

use std::path::PathBuf;

use crate::blobs::BlobError;
use crate::compression::UnsupportedCompression;
use crate::digest::{Digest, ImageId};
use crate::error::ErrorKind;
use crate::layer::{LayerError, Limits};
use crate::manifest::DocumentError;
use crate::metadata::DatabaseError;
use crate::platform::Platform;
use crate::reference::ReferenceError;
use crate::tar::TarError;

mod directory;
mod fetch;
mod intake;
mod layout;
mod load;
mod pipeline;
mod plan;
mod publish;
mod save;

pub use directory::{DirectoryError, PackedDirectory, fetch_directory, measure_directory, pack_directory};
pub use fetch::{Fetch, RemoteLayer, Source, Stage, Watch};
pub use publish::{
    Artifact, ArtifactLayer, Outgoing, Place, Publish, Published, SendStage, SendWatch, Target,
};
pub use save::SaveError;

pub(crate) use intake::TakenLayer;
pub(crate) use pipeline::{Feed, pipe as feed_pipe};
pub(crate) use plan::plain_blob;

#[cfg(test)]
pub(crate) mod tests;

/// What an archive may cost; one that wants more is refused.
#[derive(Clone, Copy, Debug)]
pub struct LoadLimits {
    /// Per layer.
    pub layer: Limits,
    /// Bytes of one manifest, configuration or other document.
    pub document_bytes_max: u64,
    /// Bytes of all documents together: they are kept in memory until the archive ends.
    pub documents_bytes_max: u64,
    /// Files in the archive.
    pub entries_max: u64,
}

impl Default for LoadLimits {
    fn default() -> LoadLimits {
        LoadLimits {
            layer: Limits::default(),
            document_bytes_max: 8 << 20,
            documents_bytes_max: 64 << 20,
            entries_max: 100_000,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Which platforms of a multi-platform index to load; none: all that are there.
    pub platforms: Vec<Platform>,
}

/// How far a load has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The layer's abbreviated digest, or the name of its file.
    pub object: String,
    pub current_bytes: u64,
    /// 0 when it is not known beforehand.
    pub total_bytes: u64,
}

/// One image that a load brought, or found there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    pub image: ImageId,
    /// The familiar name, if the archive gave one.
    pub reference: Option<String>,
    /// The image that had the name before.
    pub replaced: Option<ImageId>,
}

/// Why an archive was not loaded. Nothing of it is kept.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("cannot read the image archive")]
    Read(#[source] std::io::Error),
    #[error("cannot read {path}")]
    ReadFile { path: PathBuf, source: std::io::Error },
    #[error("the image archive is {0}")]
    Compression(#[from] UnsupportedCompression),
    #[error("cannot read the image archive")]
    Tar(#[from] TarError),
    #[error("{path} is truncated: {missing_bytes} bytes are missing")]
    Truncated { path: String, missing_bytes: u64 },
    #[error("the image archive has more than {max} {what}")]
    Limit { what: &'static str, max: u64 },
    #[error("the image archive has {path:?} twice, with different content")]
    Duplicate { path: String },
    #[error("{path} does not have the content it is named after: it is {actual}")]
    BlobDigest { path: String, actual: Digest },
    #[error("{object} is missing in the image archive")]
    Missing { object: String },
    #[error("{object} is a chain of links that leads nowhere")]
    Link { object: String },
    #[error("{object} is not valid JSON: {source}")]
    Json { object: String, source: serde_json::Error },
    #[error("{object} is {actual} bytes long, but {expected} are promised")]
    Size { object: String, expected: u64, actual: u64 },
    #[error("{object} is {actual}, but the image wants {expected}")]
    Mismatch { object: String, expected: Digest, actual: Digest },
    #[error("image {image} has {diff_ids} layers in its configuration and {layers} in its manifest")]
    LayerCount { image: Digest, diff_ids: usize, layers: usize },
    #[error("{object} has the unknown media type {media_type:?}")]
    MediaType { object: String, media_type: String },
    #[error("{object} is not a layer: {reason}")]
    NotALayer { object: String, reason: String },
    #[error("cannot unpack layer {object}")]
    Layer { object: String, source: Box<LayerError> },
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error("{name:?} is no name for an image")]
    Name { name: String, source: ReferenceError },
    #[error(
        "image with reference {image} was found but does not provide the specified platform ({platform})"
    )]
    Platform { image: String, platform: Box<Platform> },
    #[error("no matching manifest for {platform} in the manifest list entries of {image}")]
    NoPlatform { image: String, platform: Box<Platform> },
    #[error("cannot fetch {object}")]
    Fetch { object: String, source: std::io::Error },
    #[error("cannot send {object}")]
    Send { object: String, source: std::io::Error },
    #[error("given up because another part of the image failed")]
    Stopped,
    #[error("indexes are nested too deeply at {0}")]
    Nesting(Digest),
    #[error(
        "the archive has the layout of Docker before 1.10 (no manifest.json): load it with an older Docker and save it again"
    )]
    Ancient,
    #[error("this is not an image archive: it has neither manifest.json nor index.json")]
    NotAnImage,
    #[error("{image} is no image, but an artifact of type {kind}")]
    Artifact { image: String, kind: String },
    #[error("the archive's list of images is empty")]
    Empty,
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
}

impl LoadError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            LoadError::Platform { .. } | LoadError::NoPlatform { .. } => ErrorKind::NotFound,
            LoadError::Read(_)
            | LoadError::Fetch { .. }
            | LoadError::Send { .. }
            | LoadError::Stopped
            | LoadError::ReadFile { .. }
            | LoadError::Blob(_)
            | LoadError::Database(_)
            | LoadError::Thread(_) => ErrorKind::Internal,
            LoadError::Layer { source, .. } => match **source {
                LayerError::NoSpace { .. } | LayerError::Write { .. } | LayerError::Open { .. } => {
                    ErrorKind::Internal
                }
                _ => ErrorKind::InvalidParameter,
            },
            _ => ErrorKind::InvalidParameter,
        }
    }
}
