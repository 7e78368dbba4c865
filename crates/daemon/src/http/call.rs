//! One request on its way to a handler.

use super::route::Captures;
use super::{ApiError, ApiVersion, Parameters};
use corten_api::json;
use corten_buildkit::Controller;
use corten_engine::Engine;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, UPGRADE};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request};
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// The largest JSON document that we read; what Docker's clients send stays below 100 KiB.
const DOCUMENT_MAX: usize = 16 << 20;

/// A request, its route's placeholders filled in.
pub struct Call {
    pub engine: Engine,
    pub buildkit: Arc<Controller>,
    pub version: ApiVersion,
    pub query: Parameters,
    pub headers: HeaderMap,
    pub method: Method,
    pub body: Incoming,
    captures: Captures,
    upgrade: Option<OnUpgrade>,
}

impl Call {
    pub fn new(
        engine: Engine,
        buildkit: Arc<Controller>,
        version: ApiVersion,
        captures: Captures,
        mut request: Request<Incoming>,
    ) -> Self {
        let wants_upgrade = request.headers().contains_key(UPGRADE);
        let upgrade = wants_upgrade.then(|| hyper::upgrade::on(&mut request));
        let query = Parameters::parse(request.uri().query().unwrap_or_default());
        let (parts, body) = request.into_parts();
        let (headers, method) = (parts.headers, parts.method);
        Self { engine, buildkit, version, query, headers, method, body, captures, upgrade }
    }

    /// What a placeholder of the route stands for.
    pub fn capture(&self, name: &str) -> &str {
        self.captures.iter().find(|(n, _)| *n == name).map_or("", |(_, value)| value)
    }

    pub fn at_least(&self, major: u32, minor: u32) -> bool {
        self.version >= ApiVersion::new(major, minor)
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The connection's future after a 101, when the client asked for an upgrade.
    pub fn take_upgrade(&mut self) -> Option<OnUpgrade> {
        self.upgrade.take()
    }

    /// Reads a JSON body; the refusals are those of Docker's `httputils.ReadJSON`.
    pub async fn json<T: DeserializeOwned>(&mut self) -> Result<T, ApiError> {
        let bytes = self.document().await?;
        if bytes.is_empty() {
            return Err(ApiError::bad_request("invalid JSON: got EOF while reading request body"));
        }
        json::from_slice(&bytes).map_err(|e| ApiError::bad_request(format!("invalid JSON: {e}")))
    }

    /// As `json`, but no body at all is the default.
    pub async fn json_or_default<T: DeserializeOwned + Default>(&mut self) -> Result<T, ApiError> {
        if self.body.is_end_stream() {
            return Ok(T::default());
        }
        let bytes = self.document().await?;
        if bytes.is_empty() {
            return Ok(T::default());
        }
        json::from_slice(&bytes).map_err(|e| ApiError::bad_request(format!("invalid JSON: {e}")))
    }

    async fn document(&mut self) -> Result<bytes::Bytes, ApiError> {
        let kind = self.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let media_type = kind.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/json") && !self.body.is_end_stream() {
            let message =
                format!("unsupported Content-Type header ({media_type}): must be 'application/json'");
            return Err(ApiError::bad_request(message));
        }
        match Limited::new(&mut self.body, DOCUMENT_MAX).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(ApiError::bad_request(format!(
                "invalid JSON: the body is larger than {DOCUMENT_MAX} bytes"
            ))),
            Err(error) => Err(ApiError::bad_request(format!("invalid JSON: the body broke off: {error}"))),
        }
    }
}
