//! What can go wrong on the client's side.

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the answer has no valid {name} header")]
    Header { name: &'static str },
    #[error("{0:?} is not a host to connect to: {1}")]
    BadHost(String, &'static str),
    #[error("TLS: {0}")]
    Tls(String),
    #[error("cannot connect to the engine at {host}: {source}")]
    Connect { host: String, source: std::io::Error },
    #[error("{path} makes no valid request: {source}")]
    BadRequest { path: String, source: hyper::http::Error },
    #[error("{path}: the body cannot be written as JSON: {source}")]
    Encode { path: String, source: serde_json::Error },
    #[error("what is to be sent can't be read: {0}")]
    Upload(String),
    #[error("the connection to {host} broke: {}", in_full(source))]
    Transport { host: String, source: hyper::Error },
    #[error("{what}: the answer broke off: {}", in_full(source))]
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

    /// The newest API version of an engine that is older than the request's, in its own words.
    pub fn newest_version(&self) -> Option<&str> {
        let Self::Server { status: 400, message } = self else { return None };
        let (_, rest) = message.split_once("is too new. Maximum supported API version is ")?;
        let version = rest.trim_end_matches('.');
        let numbers = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        version.split_once('.').filter(|(major, minor)| numbers(major) && numbers(minor)).map(|_| version)
    }

    /// Whether nobody listens at the host.
    pub fn is_no_server(&self) -> bool {
        use std::io::ErrorKind::{ConnectionRefused, NotFound};
        matches!(self, Self::Connect { source, .. } if matches!(source.kind(), NotFound | ConnectionRefused))
    }
}

/// hyper's own words name the step only; the cause is that of TLS or of the kernel.
fn in_full(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
