//! What goes wrong between us and a registry, as the engine tells clients of it.

use std::time::Duration;

/// Each text names the registry or the object, the cause, and what to do where there is something. Texts that clients match on are
/// Docker's.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error("invalid registry address {0:?}: {1}")]
    Address(String, &'static str),
    /// Certificates in `certs.d` that can't be used.
    #[error("{0}")]
    Trust(String),
    /// Not reached, not believed, or gone in the middle.
    #[error("Get {url:?}: {why}")]
    Unreachable { url: String, cause: Cause, why: String },
    /// It does not know us by these credentials.
    #[error("Get {url:?}: unauthorized: {why}")]
    Unauthorized { url: String, why: String },
    /// It wants to know who we are, and we have nothing to show.
    #[error("{said}")]
    NoCredentials { said: String },
    /// It knows who we are, or needs not to, and won't.
    #[error("{}{said}", denied(.action, .repository))]
    Denied { action: Action, repository: String, said: String },
    #[error("manifest for {reference} not found: {said}")]
    ManifestUnknown { reference: String, said: String },
    #[error("repository {repository} not found: {said}")]
    RepositoryUnknown { repository: String, said: String },
    #[error("blob {digest} of {repository} not found: {said}")]
    BlobUnknown { digest: String, repository: String, said: String },
    /// Too many requests; with the time that the registry wants to be left alone for.
    #[error("{said}{}", try_again(.retry_after))]
    RateLimited { said: String, retry_after: Option<Duration> },
    /// It is there and can't, or so says what stands before it.
    #[error("{method} {url:?}: the registry is not available now: {said}")]
    Unavailable { method: String, url: String, said: String },
    /// An answer that the request does not account for.
    #[error("{method} {url:?}: {said}")]
    Refused { method: String, url: String, status: u16, said: String },
    /// It says something that the specification doesn't provide for.
    #[error("Get {url:?}: {why}")]
    Protocol { url: String, why: String },
    /// Bytes that are not those of their name.
    #[error("{what}: has digest {found}, not {wanted}: it was damaged on the way or at the registry")]
    Digest { what: String, wanted: String, found: String },
}

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its name could not be resolved.
    Name,
    /// Nobody answers at its address.
    Down,
    /// Nothing came in time.
    Timeout,
    /// Its certificate is not believed, or it does not believe ours.
    Certificate,
    /// It speaks without TLS where TLS is demanded.
    Plain,
    /// It ended before its time.
    Broken,
    /// The way there is not to be gone: a redirect to an unencrypted place, or one without end.
    Redirect,
    /// The proxy won't.
    Proxy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Pull,
    Push,
    Delete,
    List,
}

impl Error {
    /// Whether the same may go well a little later, without anybody having done anything.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { cause, .. } => matches!(cause, Cause::Broken | Cause::Timeout),
            Self::Unavailable { .. } => true,
            _ => false,
        }
    }
}

fn denied(action: &Action, repository: &str) -> String {
    match action {
        Action::Pull => {
            format!(
                "pull access denied for {repository}, repository does not exist or may require 'docker login': "
            )
        }
        // Its own words, as Docker has them: it may be the quota that denies it.
        Action::Push => String::new(),
        Action::Delete => format!("delete access denied for {repository}: "),
        Action::List => String::new(),
    }
}

fn try_again(after: &Option<Duration>) -> String {
    after.map(|after| format!("; try again in {} s", after.as_secs().max(1))).unwrap_or_default()
}

pub type Result<T> = std::result::Result<T, Error>;
