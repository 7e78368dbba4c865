//! Answers that refuse: a status, one of the specification's codes, a text; and which status an inner failure means.

use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::json;

use super::body::Body;
use super::catalogue::CatalogueError;
use super::digest::DigestError;
use super::name::NameError;
use super::storage::StorageError;

/// The codes of the specification, and two that registries have beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    /// Allowed to whoever asks, but too much.
    Denied,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    Unsupported,
    TooManyRequests,
    /// Not for now.
    Unavailable,
    /// Our own fault.
    Unknown,
}

impl Code {
    fn text(self) -> &'static str {
        match self {
            Code::BlobUnknown => "BLOB_UNKNOWN",
            Code::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Code::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Code::Denied => "DENIED",
            Code::DigestInvalid => "DIGEST_INVALID",
            Code::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Code::ManifestInvalid => "MANIFEST_INVALID",
            Code::ManifestUnknown => "MANIFEST_UNKNOWN",
            Code::NameInvalid => "NAME_INVALID",
            Code::NameUnknown => "NAME_UNKNOWN",
            Code::SizeInvalid => "SIZE_INVALID",
            Code::Unsupported => "UNSUPPORTED",
            Code::TooManyRequests => "TOOMANYREQUESTS",
            Code::Unavailable => "UNAVAILABLE",
            Code::Unknown => "UNKNOWN",
        }
    }
}

/// A refusal: the client gets all of it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub status: StatusCode,
    pub code: Code,
    pub message: String,
    /// What it is about, each with an entry of its own when there are several.
    pub details: Vec<serde_json::Value>,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What only the log gets.
    pub cause: Option<String>,
}

impl Refusal {
    pub fn new(status: StatusCode, code: Code, message: impl Into<String>) -> Refusal {
        Refusal {
            status,
            code,
            message: message.into(),
            details: Vec::new(),
            headers: Vec::new(),
            cause: None,
        }
    }

    pub fn detail(mut self, detail: serde_json::Value) -> Refusal {
        self.details.push(detail);
        self
    }

    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Refusal {
        self.headers.push((name, value));
        self
    }

    /// Something of ours has failed: the client is told that, the log why.
    pub fn internal(cause: impl std::fmt::Display) -> Refusal {
        let mut refusal =
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, Code::Unknown, "the registry has failed");
        refusal.cause = Some(cause.to_string());
        refusal
    }

    /// The disk is full. Clients give up at once or try again later; either is right.
    pub fn no_space(cause: impl std::fmt::Display) -> Refusal {
        let text = "no space left on the registry's disk";
        let mut refusal = Refusal::new(StatusCode::INSUFFICIENT_STORAGE, Code::Unavailable, text);
        refusal.cause = Some(cause.to_string());
        refusal
    }

    pub fn not_allowed(allowed: &'static str) -> Refusal {
        let text = format!("the method is not allowed here; allowed: {allowed}");
        Refusal::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unsupported, text)
            .header(hyper::header::ALLOW, HeaderValue::from_static(allowed))
    }

    pub fn into_response(self) -> Response<Body> {
        let entry = |detail: Option<&serde_json::Value>| {
            let mut entry = json!({"code": self.code.text(), "message": self.message});
            if let Some(detail) = detail {
                entry["detail"] = detail.clone();
            }
            entry
        };
        let errors: Vec<_> = match self.details.as_slice() {
            [] => vec![entry(None)],
            details => details.iter().map(|detail| entry(Some(detail))).collect(),
        };
        let mut response = Response::new(Body::from(json!({"errors": errors}).to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.extend(self.headers);
        response
    }
}

impl From<NameError> for Refusal {
    fn from(error: NameError) -> Refusal {
        let code = match error {
            NameError::Repository(_) => Code::NameInvalid,
            NameError::Tag(_) => Code::ManifestInvalid,
            NameError::Digest(_) => Code::DigestInvalid,
        };
        Refusal::new(StatusCode::BAD_REQUEST, code, error.to_string())
    }
}

impl From<DigestError> for Refusal {
    fn from(error: DigestError) -> Refusal {
        NameError::from(error).into()
    }
}

impl From<CatalogueError> for Refusal {
    fn from(error: CatalogueError) -> Refusal {
        if let CatalogueError::Quota(exceeded) = error {
            return exceeded.into();
        }
        if error.is_no_space() {
            Refusal::no_space(error.explain())
        } else {
            Refusal::internal(error.explain())
        }
    }
}

/// How soon a client may try again whether an object store is back, in seconds.
const STORE_RETRY: HeaderValue = HeaderValue::from_static("5");

impl From<StorageError> for Refusal {
    fn from(error: StorageError) -> Refusal {
        let store = |status, code, text| Refusal::new(status, code, text);
        let mut refusal = match &error {
            StorageError::Away { .. } => store(
                StatusCode::SERVICE_UNAVAILABLE,
                Code::Unavailable,
                "the registry's object store does not answer now: try again",
            )
            .header(RETRY_AFTER, STORE_RETRY),
            StorageError::Full { .. } => store(
                StatusCode::INSUFFICIENT_STORAGE,
                Code::Unavailable,
                "no space left in the registry's object store",
            ),
            StorageError::Refused { .. } => store(
                StatusCode::INTERNAL_SERVER_ERROR,
                Code::Unknown,
                "the registry's object store refuses what the registry asks: its log says why",
            ),
            StorageError::Whole => {
                return Refusal::new(StatusCode::BAD_REQUEST, Code::BlobUploadInvalid, error.to_string());
            }
            error if error.is_no_space() => return Refusal::no_space(error.explain()),
            error => return Refusal::internal(error.explain()),
        };
        refusal.cause = Some(error.explain());
        refusal
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn the_body_is_the_specifications() {
        let refusal = Refusal::new(StatusCode::NOT_FOUND, Code::BlobUnknown, "blob unknown to registry");
        let response = refusal.detail(json!({"digest": "a"})).detail(json!({"digest": "b"})).into_response();
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["errors"].as_array().unwrap().len(), 2);
        assert_eq!(body["errors"][1]["code"], "BLOB_UNKNOWN");
        assert_eq!(body["errors"][1]["detail"]["digest"], "b");
    }

    #[test]
    fn what_has_failed_is_for_the_log() {
        let refusal = Refusal::internal("open /var/lib/secret");
        assert!(!refusal.to_string().contains("secret") && refusal.cause.unwrap().contains("secret"));
    }
}
