//! HTTP: takes connections, passes each request through the gate to its handler, sees that every answer bears the registry's
//! headers. One task per connection; `Server::stop` ends them: idle ones at once, busy ones when the grace is over.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::access::tls::{Tls, common_name};
use super::body::Body;
use super::gate::{Arrival, Caller, Peer};
use super::handlers::{self, Call};
use super::linger::{Lingering, Unread};
use super::live::Live;
use super::metrics;
use super::refusal::Refusal;
use super::registry::Registry;
use super::route::Endpoint;
use super::web;
use super::wire::{Outbox, Wire};

/// How long requests that are under way may last when the server stops.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// How long a client may take to send a request's head, and how long a connection may stay idle.
const HEAD: Duration = Duration::from_secs(60);
/// How long a client may leave unread what it has asked for.
const UNREAD: Duration = Duration::from_secs(300);
/// How long to wait when the process has no descriptor left for a connection.
const ACCEPT_RETRY: Duration = Duration::from_millis(20);
/// Bytes of a request's head. Names have 255 at most, tokens some thousand.
const HEAD_MAX: usize = 64 << 10;
/// Bytes read from a socket at once, at most.
const BUFFER_MAX: usize = 256 << 10;
/// Connections at once. Who comes then waits to be taken.
const CONNECTIONS_MAX: usize = 4096;
/// Of a refused request's body, what is read nevertheless, so that its connection can go on.
const DRAIN_MAX: u64 = 256 << 10;
const DRAIN: Duration = Duration::from_secs(5);

/// How long a client may take to agree on TLS.
const HANDSHAKE: Duration = Duration::from_secs(15);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// What is particular to a listener.
#[derive(Clone)]
pub struct Door {
    /// Spoken, if it is given.
    pub tls: Option<Arc<Tls>>,
    /// The upstream whose repositories all names are that are asked for here.
    pub mirror_of: Option<Arc<str>>,
}

/// All listeners of a registry and the tasks that serve them.
pub struct Server {
    registry: Registry,
    room: Arc<Semaphore>,
    stopping: watch::Sender<bool>,
    accepting: JoinSet<()>,
}

impl Server {
    pub fn new(registry: Registry) -> Server {
        Server {
            registry,
            room: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            stopping: watch::channel(false).0,
            accepting: JoinSet::new(),
        }
    }

    /// Serves connections.
    pub fn listen(&mut self, listener: TcpListener, door: Door) {
        let (registry, room, stopping) =
            (self.registry.clone(), self.room.clone(), self.stopping.subscribe());
        self.accepting.spawn(accept(listener, door, registry, room, stopping));
    }

    /// Takes no more connections, lets those in flight end.
    pub async fn stop(mut self) {
        self.stopping.send_replace(true);
        while self.accepting.join_next().await.is_some() {}
    }
}

async fn accept(
    listener: TcpListener,
    door: Door,
    registry: Registry,
    room: Arc<Semaphore>,
    stopping: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let mut stop = stopping.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => continue,
            accepted = async {
                let place = room.clone().acquire_owned().await;
                (listener.accept().await, place)
            } => accepted,
        };
        match accepted {
            (Ok((stream, peer)), Ok(place)) => {
                // It fails only where the connection is gone already.
                let _ = stream.set_nodelay(true);
                let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, UNREAD.as_millis() as u32);
                let (registry, stopping, door) = (registry.clone(), stopping.clone(), door.clone());
                connections.spawn(async move {
                    welcome(stream, peer, door, registry, stopping).await;
                    drop(place);
                });
            }
            (Err(error), _) => {
                // Out of descriptors or memory: what is open has to close first. Other errors are the client's.
                tracing::warn!(%error, "accept");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
            (Ok(_), Err(_)) => break,
        }
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_GRACE, ended).await.is_err() {
        connections.shutdown().await;
    }
}

/// Agrees on TLS where it is spoken, and serves.
async fn welcome(
    stream: TcpStream,
    address: SocketAddr,
    door: Door,
    registry: Registry,
    mut stopping: watch::Receiver<bool>,
) {
    let Door { tls, mirror_of } = door;
    let Some(tls) = tls else {
        let peer = Peer { address, tls: false, certificate: None, mirror_of };
        let outbox = Outbox::default();
        return serve(Wire::new(stream, outbox.clone()), Some(outbox), peer, registry, stopping).await;
    };
    let acceptor = TlsAcceptor::from(tls.current().await);
    let agreed = tokio::select! {
        agreed = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)) => agreed,
        _ = stopping.wait_for(|stop| *stop) => return,
    };
    match agreed {
        Ok(Ok(stream)) => {
            let shown = stream.get_ref().1.peer_certificates().and_then(|certificates| certificates.first());
            let certificate = shown.and_then(|certificate| common_name(certificate));
            serve(stream, None, Peer { address, tls: true, certificate, mirror_of }, registry, stopping)
                .await;
        }
        Ok(Err(error)) => tracing::debug!(%address, %error, "TLS handshake"),
        Err(_) => tracing::debug!(%address, "TLS handshake: it did not come to an end in time"),
    }
}

/// Serves one connection; with an outbox where blobs needn't pass through this process.
async fn serve<S>(
    stream: S,
    outbox: Option<Outbox>,
    peer: Peer,
    registry: Registry,
    mut stopping: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let peer = &Arc::new(peer);
    let unread = &Unread::default();
    let answer = service_fn(|request| {
        let (registry, peer, outbox) = (registry.clone(), peer.clone(), outbox.clone());
        async move {
            let response = reply(&registry, &peer, request, unread).await;
            Ok::<_, Infallible>(match &outbox {
                Some(outbox) => response.map(|body| body.by(outbox)),
                None => response,
            })
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(BUFFER_MAX)
        .max_header_size(HEAD_MAX)
        // As Go writes them; some scripts mind.
        .title_case_headers(true)
        .serve_connection(TokioIo::new(Lingering::new(stream, unread.clone())), answer);
    tokio::pin!(connection);
    let mut told = false;
    loop {
        tokio::select! {
            served = connection.as_mut() => {
                if let Err(error) = served {
                    tracing::debug!(peer = %peer.address, %error, "connection");
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

async fn reply(
    registry: &Registry,
    peer: &Peer,
    request: Request<Incoming>,
    unread: &Unread,
) -> Response<Body> {
    let begun = Instant::now();
    let id = request_id();
    let (parts, mut body) = request.into_parts();
    let (method, path) = (parts.method.clone(), parts.uri.path().to_owned());
    let arrival = Arrival { peer, parts: &parts, request_id: &id };
    let mut response = match dispatch(registry, arrival, &mut body).await {
        Ok(response) => response,
        Err(refusal) => {
            let (status, cause) = (refusal.status.as_u16(), refusal.cause.as_deref().unwrap_or_default());
            if refusal.status.is_server_error() {
                tracing::error!(id, %method, path, status, %refusal, cause, "request failed");
            } else {
                tracing::debug!(id, %method, path, status, %refusal, "request refused");
            }
            refusal.into_response()
        }
    };
    if !body.is_end_stream() && !response.status().is_success() && !passes_by(body).await {
        unread.tell();
    }
    response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let bytes = response.size_hint().exact().unwrap_or_default();
    registry.metrics.answered(&method, response.status(), bytes, begun);
    let status = response.status().as_u16();
    tracing::debug!(id, peer = %peer.address, %method, path, status, took = ?begun.elapsed(), "request answered");
    response
}

/// Reads the rest of a body that nobody wants, where it is short: whether it came to its end.
async fn passes_by(body: Incoming) -> bool {
    match body.size_hint().exact() {
        Some(left) if left <= DRAIN_MAX => {
            matches!(tokio::time::timeout(DRAIN, body.collect()).await, Ok(Ok(_)))
        }
        _ => false,
    }
}

async fn dispatch(
    registry: &Registry,
    arrival: Arrival<'_>,
    body: &mut Incoming,
) -> Result<Response<Body>, Refusal> {
    let parts = arrival.parts;
    let Live { gate, settings } = registry.live();
    if parts.uri.path() == "/token"
        && let Some(answer) = gate.token(arrival, body).await
    {
        return answer;
    }
    if parts.uri.path() == "/healthz" && parts.method == Method::GET {
        return metrics::health(registry).await;
    }
    let mirror_of = arrival.peer.mirror_of.as_deref();
    if settings.web
        && mirror_of.is_none()
        && let Some(answer) = web::answer(registry, &gate, arrival, body).await
    {
        return answer;
    }
    let endpoint = Endpoint::parse(&registry.cache.place(parts.uri.path(), parts.uri.query(), mirror_of))?;
    let intent = endpoint.action(&parts.method)?;
    // Docker's engine shows a mirror nothing, and doesn't ask it for more where it should.
    if mirror_of.is_some() && endpoint == Endpoint::Version {
        let call = Call {
            registry,
            peer: arrival.peer,
            request_id: arrival.request_id,
            caller: Caller::Anybody,
            parts,
            body,
        };
        return handlers::handle(call, endpoint).await;
    }
    let caller = match gate.admit(arrival, &endpoint, intent).await {
        Ok(caller) => caller,
        Err(refused) => return Ok(refused),
    };
    let call = Call {
        registry,
        peer: arrival.peer,
        request_id: arrival.request_id,
        caller: caller.clone(),
        parts,
        body,
    };
    let answer = handlers::handle(call, endpoint.clone()).await;
    let status = answer.as_ref().map_or_else(|refusal| refusal.status, |response| response.status());
    gate.note(arrival, &endpoint, &caller, status);
    answer
}

/// What a request is called in the logs: unlike any other of this process, and most likely of those before it.
fn request_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    static BEGUN: LazyLock<u64> =
        LazyLock::new(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64);
    format!("{:x}-{:x}", *BEGUN, NEXT.fetch_add(1, Ordering::Relaxed))
}
