//! API versions: read from the path, compared, refused when we don't speak them.

use super::ApiError;
use corten_api::{API_VERSION, API_VERSION_MIN};
use std::fmt;

/// `1.NN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    pub major: u32,
    pub minor: u32,
}

impl ApiVersion {
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    pub fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        let number =
            |part: &str| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok()).flatten();
        Some(Self { major: number(major)?, minor: number(minor)? })
    }

    pub fn newest() -> Self {
        Self::parse(API_VERSION).unwrap_or(Self::new(1, 55))
    }

    pub fn oldest() -> Self {
        Self::parse(API_VERSION_MIN).unwrap_or(Self::new(1, 24))
    }

    /// Refuses what we don't speak, in Docker's words: clients match on them to negotiate.
    pub fn check(self) -> Result<Self, ApiError> {
        if self < Self::oldest() {
            return Err(ApiError::bad_request(format!(
                "client version {self} is too old. Minimum supported API version is {API_VERSION_MIN}, \
                 please upgrade your client to a newer version"
            )));
        }
        if self > Self::newest() {
            return Err(ApiError::bad_request(format!(
                "client version {self} is too new. Maximum supported API version is {API_VERSION}"
            )));
        }
        Ok(self)
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Cuts `/v1.41` off a path; a path without it is of no version.
pub fn split_version(path: &str) -> (Option<ApiVersion>, &str) {
    let versioned = path.strip_prefix("/v").and_then(|rest| {
        let (version, _) = rest.split_once('/').unwrap_or((rest, ""));
        Some((ApiVersion::parse(version)?, &rest[version.len()..]))
    });
    match versioned {
        Some((version, "")) => (Some(version), "/"),
        Some((version, rest)) => (Some(version), rest),
        None => (None, path),
    }
}
