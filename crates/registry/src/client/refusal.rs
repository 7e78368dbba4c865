//! What an answer that is no success means: registries' error bodies, in the words that Docker's clients know. Pure but for the reading.

use hyper::StatusCode;
use hyper::header::WWW_AUTHENTICATE;
use serde::Deserialize;

use super::retry::retry_after;
use super::transport::{Answer, without_query};
use crate::challenge::Challenge;
use crate::{Action, Error};

const BODY_BYTES_MAX: usize = 256 << 10;
/// What is shown of a text that comes from outside.
const TEXT_CHARS_MAX: usize = 400;

/// What a request was for.
#[derive(Clone, Debug)]
pub(crate) struct Purpose {
    pub method: &'static str,
    pub action: Action,
    /// As people write it.
    pub repository: String,
    pub object: Object,
}

#[derive(Clone, Debug)]
pub(crate) enum Object {
    /// With the repository, as people write it.
    Manifest(String),
    Blob(String),
    Repository,
}

/// The specification's error body, and the variant of Docker's token server.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    errors: Vec<Entry>,
    details: String,
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    code: String,
    message: Option<String>,
}

/// A code of the specification (`MANIFEST_UNKNOWN`), and the text as Docker's clients print it (`manifest unknown: manifest unknown`).
pub(crate) struct Said {
    pub code: String,
    pub text: String,
}

/// Reads the error that an answer carries.
pub(crate) async fn said(answer: Answer) -> Said {
    let status = answer.status;
    let is_insufficient =
        challenges(&answer).iter().any(|c| c.parameter("error") == Some("insufficient_scope"));
    let body = answer.bytes(BODY_BYTES_MAX).await.unwrap_or_default();
    let body: Body = serde_json::from_slice(&body).unwrap_or_default();
    let first = body.errors.into_iter().next();
    let (code, message) = match first {
        // A token that does for somebody, but not for this (RFC 6750, section 3.1).
        _ if status == StatusCode::UNAUTHORIZED && is_insufficient => {
            ("DENIED".to_owned(), "requested access to the resource is denied".to_owned())
        }
        Some(entry) => (entry.code, entry.message.unwrap_or_default()),
        None => (
            String::new(),
            [body.details, body.message].into_iter().find(|t| !t.is_empty()).unwrap_or_default(),
        ),
    };
    let (code, default) = if code.is_empty() { of_status(status) } else { (code, String::new()) };
    let message = if message.is_empty() { default } else { message };
    let lower = code.to_ascii_lowercase().replace('_', " ");
    let text = match (lower.is_empty(), message.is_empty()) {
        (true, _) => message,
        (false, true) => lower,
        (false, false) => format!("{lower}: {message}"),
    };
    Said { code, text: shown(&text) }
}

impl Said {
    /// Why credentials are not good enough, as Docker tells it.
    pub fn why_unauthorized(self) -> String {
        match self.text.strip_prefix("unauthorized: ").unwrap_or(&self.text) {
            "" | "authentication required" => "incorrect username or password".to_owned(),
            why => why.to_owned(),
        }
    }
}

pub(crate) fn challenges(answer: &Answer) -> Vec<Challenge> {
    let headers = answer.headers.get_all(WWW_AUTHENTICATE);
    headers.iter().flat_map(|header| Challenge::parse(&String::from_utf8_lossy(header.as_bytes()))).collect()
}

/// What a status alone says: answers to HEAD have no body.
fn of_status(status: StatusCode) -> (String, String) {
    let (code, text) = match status {
        StatusCode::UNAUTHORIZED => ("UNAUTHORIZED", "authentication required"),
        StatusCode::FORBIDDEN => ("DENIED", "requested access to the resource is denied"),
        StatusCode::TOO_MANY_REQUESTS => ("TOOMANYREQUESTS", "too many requests"),
        _ => ("", ""),
    };
    (code.to_owned(), text.to_owned())
}

/// Bounded, on one line, without anything that a terminal would act on.
fn shown(text: &str) -> String {
    let mut shown: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT_CHARS_MAX).collect();
    if text.chars().nth(TEXT_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown.trim().to_owned()
}

impl Purpose {
    /// What became of the purpose by an answer that is no success.
    pub async fn refused(&self, answer: Answer) -> Error {
        let (status, retry_after) = (answer.status, retry_after(&answer.headers));
        let url = without_query(&answer.url.to_string()).to_owned();
        let Said { code, text: said } = said(answer).await;
        let repository = self.repository.clone();
        let or = |default: &str| if said.is_empty() { default.to_owned() } else { said.clone() };
        match (status, code.as_str()) {
            (StatusCode::TOO_MANY_REQUESTS, _) | (_, "TOOMANYREQUESTS") => {
                let said = or("");
                let is_said = said.starts_with("toomanyrequests");
                let said = if is_said { said } else { format!("toomanyrequests: {said}") };
                Error::RateLimited { said, retry_after }
            }
            (StatusCode::FORBIDDEN, _) | (StatusCode::UNAUTHORIZED, "DENIED") => {
                Error::Denied { action: self.action, repository, said }
            }
            (StatusCode::UNAUTHORIZED, _) => {
                Error::NoCredentials { said: or("unauthorized: authentication required") }
            }
            (StatusCode::NOT_FOUND, "NAME_UNKNOWN") => Error::RepositoryUnknown { repository, said },
            (StatusCode::NOT_FOUND, code) => match &self.object {
                Object::Manifest(reference) if matches!(code, "" | "MANIFEST_UNKNOWN" | "NOT_FOUND") => {
                    let said = or("manifest unknown: manifest unknown");
                    Error::ManifestUnknown { reference: reference.clone(), said }
                }
                Object::Blob(digest) if matches!(code, "" | "BLOB_UNKNOWN" | "NOT_FOUND") => {
                    let said = or("blob unknown: blob unknown to registry");
                    Error::BlobUnknown { digest: digest.clone(), repository, said }
                }
                _ => self.other(url, status, said),
            },
            (StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT, _) => {
                let said = with_status(status, &said);
                Error::Unavailable { method: method(self.method), url, said }
            }
            _ => self.other(url, status, said),
        }
    }

    fn other(&self, url: String, status: StatusCode, said: String) -> Error {
        let said = with_status(status, &said);
        Error::Refused { method: method(self.method), url, status: status.as_u16(), said }
    }
}

fn with_status(status: StatusCode, said: &str) -> String {
    let status = format!("unexpected status from the registry: {status}");
    if said.is_empty() { status } else { format!("{status}: {said}") }
}

/// As Go's clients write it: `Get`.
fn method(name: &str) -> String {
    let (first, rest) = name.split_at(name.len().min(1));
    format!("{first}{}", rest.to_ascii_lowercase())
}
