//! What can go wrong in the store as a whole, and which kind of answer it asks for.

use std::io;
use std::path::PathBuf;

use crate::archive::{LoadError, SaveError};
use crate::base::BaseError;
use crate::blobs::BlobError;
use crate::commit::CommitError;
use crate::digest::Digest;
use crate::import::ImportError;
use crate::layer::LayerError;
use crate::metadata::DatabaseError;
use crate::mounts::MountError;
use crate::reference::ReferenceError;

/// Whose turn it is after an error: what an HTTP status or an exit code is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    NotFound,
    Conflict,
    InvalidParameter,
    Internal,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    #[error("No such image: {0}")]
    NotFound(String),
    #[error(
        "image with reference {image} was found but does not provide the specified platform ({platform})"
    )]
    NoPlatform { image: String, platform: Box<crate::platform::Platform> },
    #[error("the image ID prefix {0:?} is ambiguous: give more digits")]
    Ambiguous(String),
    #[error("{0}")]
    Conflict(String),
    #[error("cannot create a tag with a digest reference")]
    TagByDigest,
    #[error("No such snapshot: {0}")]
    NoSnapshot(String),
    #[error("invalid snapshot name {0:?}")]
    SnapshotName(String),
    #[error("{name} is damaged: its configuration is not valid: {source}")]
    Config { name: Digest, source: serde_json::Error },
    #[error("no such content in the store: {0}")]
    NoContent(Digest),
    #[error("cannot {step} {path}")]
    File { step: &'static str, path: PathBuf, source: io::Error },
    #[error("the image store {0} is in use by another process")]
    Locked(PathBuf),
    #[error("the image store {path} was made with the layer driver {found}, not {wanted}")]
    Driver { path: PathBuf, found: String, wanted: &'static str },
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Save(#[from] SaveError),
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error(transparent)]
    Base(#[from] BaseError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Graft(crate::build::GraftError),
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::NotFound(_) | Error::NoPlatform { .. } | Error::NoSnapshot(_) | Error::NoContent(_) => {
                ErrorKind::NotFound
            }
            Error::Conflict(_) => ErrorKind::Conflict,
            Error::Reference(_) | Error::Ambiguous(_) | Error::TagByDigest | Error::SnapshotName(_) => {
                ErrorKind::InvalidParameter
            }
            Error::Load(error) => error.kind(),
            Error::Import(error) => error.kind(),
            Error::Base(error) => error.kind(),
            Error::Commit(error) => error.kind(),
            Error::Graft(error) => error.kind(),
            _ => ErrorKind::Internal,
        }
    }

    /// The error with its causes, outermost first, on one line.
    pub fn explain(&self) -> String {
        explain(self)
    }
}

/// An error with its causes, outermost first, on one line.
pub fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        // Some have named their cause already.
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}
