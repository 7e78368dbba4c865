//! `POST /auth`: who somebody is to a registry.

use serde::{Deserialize, Serialize};
use std::fmt;

use crate::base64;

/// The body of `POST /auth`. Its secrets are not shown by `Debug`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", default)]
pub struct AuthConfig {
    pub username: String,
    pub password: String,
    /// A registry's URL or host; Docker's hub when empty.
    pub serveraddress: String,
    /// A refresh token of a registry, in the place of name and password.
    pub identitytoken: String,
    /// What a registry's token server would give for them, got elsewhere: it is shown to the registry as it is.
    pub registrytoken: String,
}

impl AuthConfig {
    /// The `X-Registry-Auth` header: JSON in base64 for URLs (RFC 4648, section 5).
    pub fn to_header(&self) -> String {
        let json = serde_json::to_vec(self).unwrap_or_default();
        base64::encode(&json).replace('+', "-").replace('/', "_")
    }

    /// Reads the header. What can't be read is as good as none: so Docker has it, and older clients send odd things.
    pub fn from_header(text: &str) -> Self {
        let bytes = base64::decode(&text.replace('-', "+").replace('_', "/"));
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }
}

impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthConfig")
            .field("username", &self.username)
            .field("serveraddress", &self.serveraddress)
            .finish_non_exhaustive()
    }
}

/// The answer to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AuthReply {
    /// For people.
    pub status: String,
    /// To be kept instead of the password; empty where the registry gives none.
    pub identity_token: String,
}
