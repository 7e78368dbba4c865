//! What can go wrong on the client's side.

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0:?} is not a host to connect to: {1}")]
    BadHost(String, &'static str),
    #[error("{0}: TLS is not spoken yet; unset DOCKER_TLS_VERIFY and DOCKER_TLS, or use the unix socket")]
    TlsUnsupported(String),
    #[error("cannot connect to the engine at {host}: {source}")]
    Connect { host: String, source: std::io::Error },
    #[error("{path} makes no valid request: {source}")]
    BadRequest { path: String, source: hyper::http::Error },
    #[error("{path}: the body cannot be written as JSON: {source}")]
    Encode { path: String, source: serde_json::Error },
    #[error("the connection to {host} broke: {source}")]
    Transport { host: String, source: hyper::Error },
    #[error("{what}: the answer broke off: {source}")]
    Body { what: String, source: hyper::Error },
    #[error("{what}: the answer is not what the API describes: {source}")]
    Decode { what: String, source: serde_json::Error },
    #[error("{what}: the server kept the connection to itself (status {status})")]
    NotHijacked { what: String, status: u16 },
    #[error("the connection could not be taken over: {0}")]
    Hijack(String),
    /// The server's refusal, in its own words.
    #[error("{message}")]
    Server { status: u16, message: String },
}

impl Error {
    /// The status of a refusal; none for every other failure.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Server { status, .. } => Some(*status),
            _ => None,
        }
    }

    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// Whether nobody listens at the host.
    pub fn is_no_server(&self) -> bool {
        use std::io::ErrorKind::{ConnectionRefused, NotFound};
        matches!(self, Self::Connect { source, .. } if matches!(source.kind(), NotFound | ConnectionRefused))
    }
}
