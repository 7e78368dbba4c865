//! What it means that an upstream didn't give what it was asked for: whether something older may be served instead, and what a client
//! is told where there is nothing. Pure.

use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{HeaderValue, RETRY_AFTER};

use crate::server::refusal::{Code, Refusal};
use crate::{Cause, Error};

/// Longer ones are somebody's mistake.
const REST_MAX: Duration = Duration::from_secs(600);

#[derive(Clone, Debug)]
pub enum Failure {
    /// It isn't there (any more).
    Gone,
    /// It is nobody's to have whom the upstream takes us for.
    Denied(String),
    /// The upstream is down, slow, busy, or makes no sense.
    Trouble(Trouble),
    /// It is ourselves.
    Own(Refusal),
}

#[derive(Clone, Debug)]
pub struct Trouble {
    pub status: StatusCode,
    pub why: String,
    /// How long it wants to be left alone.
    pub retry_after: Option<Duration>,
}

impl Trouble {
    pub fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self { status, why: why.into(), retry_after: None }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Own(refusal)
    }
}

impl From<crate::server::catalogue::CatalogueError> for Failure {
    fn from(error: crate::server::catalogue::CatalogueError) -> Self {
        Self::Own(error.into())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let why = error.to_string();
        match error {
            Error::ManifestUnknown { .. } | Error::RepositoryUnknown { .. } | Error::BlobUnknown { .. } => {
                Self::Gone
            }
            Error::Refused { status: 404, .. } => Self::Gone,
            Error::Denied { .. } | Error::NoCredentials { .. } | Error::Unauthorized { .. } => {
                Self::Denied(why)
            }
            Error::RateLimited { retry_after, .. } => {
                let retry_after = retry_after.map(|wish| wish.min(REST_MAX));
                Self::Trouble(Trouble { status: StatusCode::TOO_MANY_REQUESTS, why, retry_after })
            }
            Error::Unreachable { cause: Cause::Timeout, .. } => {
                Self::Trouble(Trouble::new(StatusCode::GATEWAY_TIMEOUT, why))
            }
            Error::Unavailable { .. } => Self::Trouble(Trouble::new(StatusCode::SERVICE_UNAVAILABLE, why)),
            _ => Self::Trouble(Trouble::new(StatusCode::BAD_GATEWAY, why)),
        }
    }
}

impl Failure {
    /// What the client is told. `unknown` is for what isn't there.
    pub fn refusal(self, upstream: &str, unknown: impl FnOnce() -> Refusal) -> Refusal {
        match self {
            Self::Gone => unknown(),
            // Upstreams say the same of what isn't there, and clients that get 401 or 403 from us take it for our own.
            Self::Denied(why) => {
                let mut refusal = unknown();
                refusal.message =
                    format!("{}: {upstream} doesn't give it to this registry: {why}", refusal.message);
                refusal
            }
            Self::Trouble(Trouble { status, why, retry_after }) => {
                let code = match status {
                    StatusCode::TOO_MANY_REQUESTS => Code::TooManyRequests,
                    _ => Code::Unavailable,
                };
                let text = format!("{upstream} does not give it now: {why}");
                let refusal = Refusal::new(status, code, text);
                match retry_after {
                    Some(wish) => refusal.header(RETRY_AFTER, HeaderValue::from(wish.as_secs().max(1))),
                    None => refusal,
                }
            }
            Self::Own(refusal) => refusal,
        }
    }
}
