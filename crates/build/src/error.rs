//! Why a build came to nothing.

/// What went wrong, and where in the Dockerfile.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The asker's fault: the Dockerfile, an option, a file that is not in the context.
    #[error("{0}")]
    Invalid(String),
    /// A program of a step ended with this code.
    #[error("process {command:?} did not complete successfully: exit code: {code}")]
    Exit { command: String, code: i64 },
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Internal(String),
    /// A layer that a cache has promised can't be had: the build begins anew without it.
    #[error("a layer of a build cache can't be had")]
    Lost,
    /// Nobody wants it any more.
    #[error("the build was canceled")]
    Canceled,
    /// At an instruction: the lines in the Dockerfile, from 1.
    #[error("{source}")]
    At { first: usize, last: usize, source: Box<Error> },
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn at(self, first: usize, last: usize) -> Error {
        match self {
            at @ (Error::At { .. } | Error::Canceled) => at,
            source => Error::At { first, last, source: Box::new(source) },
        }
    }

    /// What happened, without the place.
    pub fn cause(&self) -> &Error {
        match self {
            Error::At { source, .. } => source.cause(),
            other => other,
        }
    }

    /// First and last line in the Dockerfile, from 1.
    pub fn lines(&self) -> Option<(usize, usize)> {
        match self {
            Error::At { first, last, .. } => Some((*first, *last)),
            _ => None,
        }
    }
}

impl From<corten_image::Error> for Error {
    fn from(error: corten_image::Error) -> Error {
        use corten_image::ErrorKind;
        let text = error.explain();
        match error.kind() {
            ErrorKind::NotFound => Error::NotFound(text),
            ErrorKind::InvalidParameter => Error::Invalid(text),
            _ => Error::Internal(text),
        }
    }
}
