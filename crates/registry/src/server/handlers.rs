//! What the endpoints do. A request that gets here was let in by the gate; its path is parsed.

mod blobs;
mod listing;
mod manifests;
mod uploads;

use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};

use super::body::Body;
use super::digest::Digest;
use super::gate::{Caller, Peer};
use super::refusal::{Code, Refusal};
use super::registry::Registry;
use super::route::{Endpoint, Query};

pub type Reply = Result<Response<Body>, Refusal>;

/// A request on its way through a handler.
pub struct Call<'r> {
    pub registry: &'r Registry,
    pub peer: &'r Peer,
    pub request_id: &'r str,
    pub caller: Caller,
    pub parts: &'r Parts,
    pub body: &'r mut Incoming,
}

impl Call<'_> {
    fn query(&self) -> Result<Query, Refusal> {
        Query::parse(self.parts.uri.query())
    }

    /// A header's text; what is no text counts as none.
    fn header(&self, name: &HeaderName) -> Option<&str> {
        self.parts.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn is_head(&self) -> bool {
        self.parts.method == Method::HEAD
    }
}

/// Of an answer that is what an upstream said some time ago (RFC 7234, 5.5.1).
const STALE: &str = "110 - \"Response is Stale\"";

/// The table of handlers. Which methods there are was looked up before (`Endpoint::action`).
pub async fn handle(call: Call<'_>, endpoint: Endpoint) -> Reply {
    let method = &call.parts.method;
    let pushes = matches!(endpoint, Endpoint::Uploads(_) | Endpoint::Upload(..))
        || (matches!(endpoint, Endpoint::Manifest(..)) && *method == Method::PUT);
    if let Some(repository) =
        endpoint.repository().filter(|name| pushes && call.registry.cache.is_upstreams(name))
    {
        let text =
            format!("{repository} is a copy of another registry's: push there, or under another name here");
        let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unsupported, text);
        return Err(refusal.header(hyper::header::ALLOW, HeaderValue::from_static("GET, HEAD, DELETE")));
    }
    match endpoint {
        Endpoint::Version => Ok(json("{}".to_owned())),
        Endpoint::Catalogue => listing::repositories(call).await,
        Endpoint::Tags(repository) => listing::tags(call, repository).await,
        Endpoint::Referrers(repository, subject) => listing::referrers(call, repository, subject).await,
        Endpoint::Manifest(repository, reference) => match *method {
            Method::PUT => manifests::put(call, repository, reference).await,
            Method::DELETE => manifests::delete(call, repository, reference).await,
            _ => manifests::get(call, repository, reference).await,
        },
        Endpoint::Blob(repository, digest) => match *method {
            Method::DELETE => blobs::delete(call, repository, digest).await,
            _ => blobs::get(call, repository, digest).await,
        },
        Endpoint::Uploads(repository) => uploads::begin(call, repository).await,
        Endpoint::Upload(repository, id) => match *method {
            Method::PATCH => uploads::append(call, repository, id).await,
            Method::PUT => uploads::finish(call, repository, id).await,
            Method::DELETE => uploads::cancel(call, repository, id).await,
            _ => uploads::status(call, repository, id).await,
        },
    }
}

const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

fn json(text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// A header's value of text that was checked when it was parsed.
fn value(text: impl ToString) -> Result<HeaderValue, Refusal> {
    HeaderValue::try_from(text.to_string()).map_err(Refusal::internal)
}

/// Something new, and where it is.
fn created(location: String, digest: &Digest) -> Reply {
    let mut response = empty(StatusCode::CREATED);
    response.headers_mut().insert(LOCATION, value(location)?);
    response.headers_mut().insert(DOCKER_CONTENT_DIGEST, value(digest)?);
    Ok(response)
}

/// Whether the client has this already (`If-None-Match`). Entity tags are digests in quotes.
fn is_known(call: &Call<'_>, digest: &Digest) -> bool {
    let known = call.header(&hyper::header::IF_NONE_MATCH);
    let tag = digest.to_string();
    known.is_some_and(|known| {
        known
            .split(',')
            .map(str::trim)
            .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known).trim_matches('"') == tag)
    })
}

/// Digest and entity tag of what is answered.
fn identify(response: &mut Response<Body>, digest: &Digest) -> Result<(), Refusal> {
    let headers = response.headers_mut();
    headers.insert(DOCKER_CONTENT_DIGEST, value(digest)?);
    headers.insert(hyper::header::ETAG, value(format!("\"{digest}\""))?);
    Ok(())
}
