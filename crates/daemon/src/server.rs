//! The HTTP server: takes connections, finds each request's route, sees that every answer bears the API's headers. One
//! task per connection; `Server::stop` ends them: idle ones at once, busy ones when their answer is out or the grace is over.

use crate::http::preface::{self, Begun, Opening};
use crate::http::route::{self, Route};
use crate::http::target::Escaped;
use crate::http::version::split_version;
use crate::http::{ApiError, ApiVersion, Body, Call, body};
use crate::listen::{Accepted, Listener};
use crate::measure;
use corten_api::API_VERSION;
use corten_buildkit::Controller;
use corten_engine::Engine;
use hyper::body::Incoming;
use hyper::header::{HeaderValue, SERVER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tracing::Instrument;

/// How long streams that are open (logs, events) may last when the server stops.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// How long a client may take to agree upon TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long to wait when the process has no descriptor left for a connection.
const ACCEPT_RETRY: Duration = Duration::from_millis(20);
/// Bytes read from a socket at once, at most: an upload of an image is read in such pieces.
const READ_BUFFER_MAX: usize = 1 << 20;

/// What requests need: the engine, and the routes.
#[derive(Clone)]
pub struct Service {
    engine: Engine,
    buildkit: Arc<Controller>,
    routes: &'static [Route],
    /// The `Server` header.
    name: HeaderValue,
    /// How many requests have come, which is also the last one's number in the log.
    requests: Arc<AtomicU64>,
}

impl Service {
    pub fn new(engine: Engine, buildkit: Arc<Controller>, routes: &'static [Route], version: &str) -> Self {
        let name = HeaderValue::from_str(&format!("Corten/{version} (linux)"));
        let name = name.unwrap_or(HeaderValue::from_static("Corten (linux)"));
        Self { engine, buildkit, routes, name, requests: Arc::default() }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let id = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        // Whatever is logged on behalf of the request bears its number.
        self.reply(request).instrument(tracing::debug_span!("request", id)).await
    }

    async fn reply(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let begun = Instant::now();
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let mut response = match self.dispatch(request).await {
            Ok(response) => response,
            Err(error) => {
                let status = error.status.as_u16();
                // A client's mistake is the client's affair; what is not built, or declined, is no failure.
                let failed = error.status.is_server_error() && error.status != StatusCode::NOT_IMPLEMENTED;
                if failed && !error.declined {
                    tracing::error!(%method, path, status, %error, "request failed");
                } else {
                    tracing::debug!(%method, path, status, %error, "request refused");
                }
                error.into_response()
            }
        };
        let headers = response.headers_mut();
        headers.insert(SERVER, self.name.clone());
        headers.insert("api-version", HeaderValue::from_static(API_VERSION));
        headers.insert("docker-experimental", HeaderValue::from_static("false"));
        headers.insert("ostype", HeaderValue::from_static("linux"));
        let status = response.status().as_u16();
        self.engine.metrics().request(method.as_str(), status);
        tracing::debug!(%method, path, status, took = ?begun.elapsed(), "request answered");
        Ok(response)
    }

    async fn dispatch(&self, request: Request<Incoming>) -> Result<Response<Body>, ApiError> {
        if request.method() == Method::OPTIONS {
            return Ok(body::empty(StatusCode::OK));
        }
        let (route, captures, version) = resolve(self.routes, request.method(), request.uri().path())?;
        let begun = Instant::now();
        let answer = (route.handler)(Call::new(
            self.engine.clone(),
            self.buildkit.clone(),
            version,
            captures,
            request,
        ));
        let reply = if route.outlives_client() {
            let outcome = tokio::spawn(answer.in_current_span()).await;
            outcome
                .unwrap_or_else(|error| Err(ApiError::internal(format!("the request was given up: {error}"))))
        } else {
            answer.await
        };
        if let (Ok(_), Some((noun, action))) = (&reply, measure::action(&route.method, route.pattern)) {
            self.engine.metrics().action(noun, action, begun.elapsed());
        }
        reply
    }
}

/// The route of a method and path, and the version it is asked in.
pub fn resolve<'t>(
    routes: &'t [Route],
    method: &Method,
    path: &str,
) -> Result<(&'t Route, route::Captures, ApiVersion), ApiError> {
    let (version, path) = split_version(path);
    let version = version.map_or(Ok(ApiVersion::newest()), ApiVersion::check)?;
    let (route, captures) = route::find(routes, method, path).ok_or_else(ApiError::page_not_found)?;
    if version < route.since {
        let message = format!(
            "\"{method} {}\" requires API version {}, but the client asks for version {version}",
            route.pattern, route.since
        );
        return Err(ApiError::bad_request(message));
    }
    Ok((route, captures, version))
}

/// All listeners of a daemon and the tasks that serve them.
pub struct Server {
    service: Arc<Service>,
    stopping: watch::Sender<bool>,
    accepting: JoinSet<()>,
}

impl Server {
    pub fn new(service: Service) -> Self {
        Self { service: Arc::new(service), stopping: watch::channel(false).0, accepting: JoinSet::new() }
    }

    pub fn listen(&mut self, listener: Listener) {
        let (service, stopping) = (self.service.clone(), self.stopping.subscribe());
        self.accepting.spawn(accept(listener, service, stopping));
    }

    /// Takes no more connections, lets those in flight end.
    pub async fn stop(mut self) {
        self.stopping.send_replace(true);
        while self.accepting.join_next().await.is_some() {}
    }
}

async fn accept(listener: Listener, service: Arc<Service>, stopping: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let mut stop = stopping.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok(Accepted::Unix(stream)) => {
                drop(connections.spawn(serve(stream, service.clone(), stopping.clone())))
            }
            Ok(Accepted::Tcp(stream)) => {
                drop(connections.spawn(serve(stream, service.clone(), stopping.clone())))
            }
            Ok(Accepted::Tls(stream, tls)) => {
                drop(connections.spawn(serve_tls(stream, tls, service.clone(), stopping.clone())))
            }
            Err(error) => {
                // Out of descriptors or memory: what is open has to close first. Other errors are the client's.
                tracing::warn!(%error, "accept");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
    listener.clean_up();
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_GRACE, ended).await.is_err() {
        connections.shutdown().await;
    }
}

/// Agrees upon TLS first: in the connection's own task, as a client may take its time.
async fn serve_tls(
    stream: TcpStream,
    tls: Arc<ServerConfig>,
    service: Arc<Service>,
    stopping: watch::Receiver<bool>,
) {
    let peer = stream.peer_addr().map(|peer| peer.to_string()).unwrap_or_default();
    match tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(tls).accept(stream)).await {
        Ok(Ok(stream)) => serve(stream, service, stopping).await,
        Ok(Err(error)) => tracing::warn!(peer, %error, "TLS handshake"),
        Err(_) => tracing::warn!(peer, "TLS handshake: the client takes too long"),
    }
}

/// Serves one connection. A client that closes its end gives up what it asked to see: that handler is dropped, so that no
/// wait outlives its waiter. What it asked to be done is done nevertheless (`Route::outlives_client`).
async fn serve<S>(mut stream: S, service: Arc<Service>, mut stopping: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let opened = tokio::select! {
        opened = preface::read(&mut stream) => opened,
        _ = stopping.wait_for(|stop| *stop) => return,
    };
    let begun = match opened {
        Ok(Opening::Http1(begun)) => begun,
        // Nothing but gRPC is spoken in HTTP/2.
        Ok(Opening::Http2(begun)) => {
            let stream = TokioIo::new(Begun::new(stream, begun));
            tokio::select! {
                () = service.buildkit.clone().serve(stream) => {}
                _ = stopping.wait_for(|stop| *stop) => {}
            }
            return;
        }
        Err(error) => return tracing::debug!(%error, "connection"),
    };
    let answer = service_fn(move |request| service.clone().answer(request));
    let connection = http1::Builder::new()
        .max_buf_size(READ_BUFFER_MAX)
        // As Go writes them; nobody should mind, some scripts do.
        .title_case_headers(true)
        .serve_connection(TokioIo::new(Escaped::begun(stream, begun)), answer)
        .with_upgrades();
    tokio::pin!(connection);
    let mut told = false;
    loop {
        tokio::select! {
            served = connection.as_mut() => {
                if let Err(error) = served {
                    tracing::debug!(%error, "connection");
                }
                return;
            }
            _ = stopping.wait_for(|stop| *stop), if !told => {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}
