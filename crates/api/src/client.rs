//! An asynchronous client of the Engine API over a unix socket, TCP, TLS or SSH: requests here, connections in
//! `connection`, endpoints by noun in the other files. Keeps one idle connection, no pool; does nothing before the
//! first request.

mod archive;
mod body;
mod builds;
mod connection;
mod containers;
mod error;
mod host;
mod images;
mod query;
mod resources;
mod response;
mod ssh;
mod system;
mod tls;

#[cfg(test)]
mod tests;

pub use archive::{Archive, passed};
pub use body::{Body, Pieces};
pub use connection::{Hijacked, Socket};
pub use error::Error;
pub use host::Host;
pub use query::Query;
pub use response::{Messages, Response};
pub use ssh::SshTarget;
pub use tls::TlsOptions;

use crate::API_VERSION;
use connection::Connections;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE, USER_AGENT};
use hyper::{Method, StatusCode};
use serde::Serialize;
use std::sync::Arc;

pub type Result<T> = std::result::Result<T, Error>;

/// A client of one engine; clones share their idle connection.
#[derive(Clone, Debug)]
pub struct Client {
    connections: Arc<Connections>,
    version: String,
    headers: Vec<(String, String)>,
}

impl Client {
    /// Opens nothing yet.
    pub fn new(host: Host) -> Self {
        Self {
            connections: Arc::new(Connections::new(host, None)),
            version: API_VERSION.to_owned(),
            headers: Vec::new(),
        }
    }

    /// The same with TLS, for a host at a TCP port. Fails when what is in `tls` can't be read.
    pub fn with_tls(host: Host, tls: &TlsOptions) -> Result<Self> {
        let config = Arc::new(tls.config()?);
        let connections = Arc::new(Connections::new(host, Some(config)));
        Ok(Self { connections, version: API_VERSION.to_owned(), headers: Vec::new() })
    }

    /// The same engine, asked over connections of its own: what goes on at the same time needs several.
    pub fn separate(&self) -> Self {
        Self { connections: Arc::new(self.connections.another()), ..self.clone() }
    }

    /// Sends further headers with every request.
    pub fn set_headers(&mut self, headers: Vec<(String, String)>) {
        self.headers = headers;
    }

    pub fn host(&self) -> &Host {
        self.connections.host()
    }

    /// The API version that requests name.
    pub fn api_version(&self) -> &str {
        &self.version
    }

    /// Names another API version from now on ("1.41").
    pub fn set_api_version(&mut self, version: impl Into<String>) {
        self.version = version.into();
    }

    /// Opens a connection on which nothing is said yet.
    pub async fn connect(&self) -> Result<Socket> {
        self.connections.connect().await
    }

    /// Starts a request to a path below the version prefix, such as `/containers/json`.
    pub fn request(&self, method: Method, path: impl Into<String>) -> Request<'_> {
        let headers = Vec::new();
        Request { client: self, method, path: path.into(), query: Query::new(), headers, body: Body::empty() }
    }

    pub fn get(&self, path: impl Into<String>) -> Request<'_> {
        self.request(Method::GET, path)
    }

    pub fn post(&self, path: impl Into<String>) -> Request<'_> {
        self.request(Method::POST, path)
    }

    pub fn delete(&self, path: impl Into<String>) -> Request<'_> {
        self.request(Method::DELETE, path)
    }
}

/// What a server makes of the wish to change the protocol.
enum Answer {
    Switched(Hijacked),
    Plain(Response),
}

/// A request in the making.
pub struct Request<'a> {
    client: &'a Client,
    method: Method,
    path: String,
    query: Query,
    headers: Vec<(&'static str, String)>,
    body: Body,
}

impl Request<'_> {
    pub fn query(mut self, query: Query) -> Self {
        self.query = query;
        self
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn json(mut self, value: &impl Serialize) -> Result<Self> {
        let bytes =
            serde_json::to_vec(value).map_err(|source| Error::Encode { path: self.path.clone(), source })?;
        self.headers.push(("content-type", "application/json".into()));
        self.body = Body::from(bytes);
        Ok(self)
    }

    pub fn body(mut self, content_type: &str, body: Body) -> Self {
        self.headers.push(("content-type", content_type.to_owned()));
        self.body = body;
        self
    }

    /// Sends it; a status of 400 and more becomes `Error::Server`.
    pub async fn send(self) -> Result<Response> {
        let (client, what) = (self.client, self.describe());
        let request = self.build(None)?;
        let response = client.connections.send(request).await?;
        Response::checked(what, response).await
    }

    /// Sends it with the wish to take over the connection; the socket comes back once the server agreed.
    pub async fn hijack(self) -> Result<Hijacked> {
        self.hijack_for("tcp").await
    }

    /// The same for another protocol.
    async fn hijack_for(self, protocol: &str) -> Result<Hijacked> {
        let what = self.describe();
        match self.upgrade(protocol).await? {
            Answer::Switched(hijacked) => Ok(hijacked),
            Answer::Plain(response) => Err(Error::NotHijacked { what, status: response.status().as_u16() }),
        }
    }

    /// Sends it with the wish to go on in another protocol, which the server need not heed.
    async fn upgrade(self, protocol: &str) -> Result<Answer> {
        let (client, what) = (self.client, self.describe());
        let request = self.build(Some(protocol))?;
        let response = client.connections.send_once(request).await?;
        Ok(match response.status() {
            StatusCode::SWITCHING_PROTOCOLS => Answer::Switched(Hijacked::take(response).await?),
            _ => Answer::Plain(Response::checked(what, response).await?),
        })
    }

    fn describe(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    fn build(self, upgrade: Option<&str>) -> Result<hyper::Request<Body>> {
        let uri = format!("/v{}{}{}", self.client.version, self.path, self.query);
        let mut request = hyper::Request::builder()
            .method(self.method)
            .uri(uri)
            .header(HOST, self.client.host().authority())
            .header(USER_AGENT, concat!("corten/", env!("CARGO_PKG_VERSION")));
        for (name, value) in &self.client.headers {
            request = request.header(name, value);
        }
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if let Some(protocol) = upgrade {
            request = request.header(CONNECTION, "Upgrade").header(UPGRADE, protocol);
            if !self.headers.iter().any(|(name, _)| *name == CONTENT_TYPE.as_str()) {
                request = request.header(CONTENT_TYPE, "text/plain");
            }
        }
        request.body(self.body).map_err(|source| Error::BadRequest { path: self.path, source })
    }
}
