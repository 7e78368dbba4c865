//! One request and the head of its answer, over a connection that is kept or made: bounded in time and size. Follows nothing, tries
//! nothing again, shows no credentials.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderValue, PROXY_AUTHORIZATION, USER_AGENT};
use hyper::{Method, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout};

use super::ClientOptions;
use super::connect::{AnyStream, Failure, tcp, tls, tunnel};
use super::known::Known;
use super::origin::{Channel, Origin};
use super::payload::Payload;
use super::pool::{Lease, Limits, Pool};
use crate::{Cause, Error, RegistryAddress, Result};

/// What a body has to bring in that time, so that one byte now and then is no progress.
const STALL_BYTES: usize = 4096;
/// The head of an answer, and what is read at once of a body.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// What is read of a body that nobody wants, to keep its connection.
const DRAIN_BYTES_MAX: usize = 64 << 10;

pub(crate) struct Transport {
    options: RwLock<Arc<ClientOptions>>,
    pub known: Known,
    pub pool: Arc<Pool>,
}

/// A request on its way to one place.
#[derive(Debug)]
pub(crate) struct Request {
    pub method: Method,
    /// Absolute; its scheme is the channel's.
    pub url: Uri,
    pub channel: Channel,
    pub headers: HeaderMap,
    pub payload: Payload,
    /// For the head of the answer.
    pub patience: Duration,
}

pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Where it came from, after redirects.
    pub url: Uri,
    pub channel: Channel,
    pub body: Body,
}

/// The body of an answer, and the connection that it comes by.
pub(crate) struct Body {
    incoming: Incoming,
    /// What goes back to the pool at the end.
    connection: Option<(Lease, SendRequest<Payload>)>,
    url: String,
    patience: Duration,
    /// Since there was progress: how long was waited, and what came all the same.
    waited: Duration,
    bytes_since: usize,
}

impl Transport {
    pub fn new(options: ClientOptions, limits: Limits) -> Self {
        let pool = Arc::new(Pool::new(limits));
        Self { options: RwLock::new(Arc::new(options)), known: Known::default(), pool }
    }

    pub fn options(&self) -> Arc<ClientOptions> {
        self.options.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From the next request on. Connections that are there may go by other ways, and are not kept.
    pub fn set_options(&self, options: ClientOptions) {
        *self.options.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(options);
        self.known.forget_all();
        self.pool.forget_all();
    }

    /// How a registry is spoken to: by TLS with proof; one that is insecure by whatever it speaks, which is found out once.
    pub async fn channel(&self, registry: &RegistryAddress) -> Result<Channel> {
        if let Some(channel) = self.known.channel(registry) {
            return Ok(channel);
        }
        let found = if self.is_insecure(registry).await {
            self.find_channel(registry).await?
        } else {
            Channel::Proven
        };
        self.known.remember(registry, found);
        Ok(found)
    }

    /// Whether this registry may be spoken to without proof of who it is.
    pub async fn is_insecure(&self, registry: &RegistryAddress) -> bool {
        let options = self.options();
        // Names that only a proxy can resolve aren't waited for. What can't be resolved is told of by the connection.
        let addresses = match options.proxies.of(&Origin::of_registry(registry, Channel::Proven)) {
            Some(_) => Vec::new(),
            None => super::connect::resolve(registry.bare_host()).await.unwrap_or_default(),
        };
        options.insecure.covers(registry, &addresses)
    }

    async fn find_channel(&self, registry: &RegistryAddress) -> Result<Channel> {
        let mut last = None;
        for channel in [Channel::Encrypted, Channel::Plain] {
            let origin = Origin::of_registry(registry, channel);
            let made = async {
                let lease = self.pool.lease(&origin, None).await?;
                let sender = self.connect(&origin).await?;
                lease.release(sender);
                Ok::<_, Failed>(())
            };
            match made.await {
                Ok(()) => return Ok(channel),
                Err(Failed::Told(error)) => return Err(error),
                Err(Failed::Connection(failure)) => last = Some(failure.at(&format!("{origin}/v2/"))),
            }
        }
        Err(last.unwrap_or_else(|| Error::Address(registry.to_string(), "there is no way to it")))
    }

    pub async fn send(&self, request: Request) -> Result<Answer> {
        let url = request.url.to_string();
        match self.try_send(request).await {
            Ok(answer) => Ok(answer),
            Err(Failed::Told(error)) => Err(error),
            Err(Failed::Connection(failure)) => Err(failure.at(&url)),
        }
    }

    async fn try_send(&self, request: Request) -> std::result::Result<Answer, Failed> {
        let Request { method, url, channel, headers, payload, patience } = request;
        let origin = Origin::of_url(&url, channel)
            .ok_or_else(|| Error::Protocol { url: url.to_string(), why: "it has no host".to_owned() })?;
        // What can't be said twice goes by a connection that surely lives.
        let fresh = payload.again().is_none().then_some(Duration::from_secs(1));
        let mut message = self.message(&method, &url, &origin, headers, payload)?;
        loop {
            let mut lease = self.pool.lease(&origin, fresh).await?;
            let (mut sender, is_kept) = match lease.connection() {
                Some(sender) => (sender, true),
                None => (self.connect(&origin).await?, false),
            };
            let again = message.body().again().map(|payload| copy_of(&message, payload));
            let failed = match timeout(patience, sender.try_send_request(message)).await {
                Ok(Ok(response)) => {
                    let (head, incoming) = response.into_parts();
                    let body = Body::new(incoming, lease, sender, &url, self.options().patience.stall);
                    return Ok(Answer { status: head.status, headers: head.headers, url, channel, body });
                }
                Ok(Err(failed)) => failed,
                Err(_) => {
                    let why = format!("no answer within {} s", patience.as_secs());
                    return Err(Failure::new(Cause::Timeout, why).into());
                }
            };
            let why = broken(failed.error(), &url);
            // The other side hangs up on what is idle: that says nothing about this request. The worst that comes of one that had
            // arrived all the same is an upload that nobody goes on with.
            let mut failed = failed;
            message = match (failed.take_message(), again) {
                (Some(unsent), _) if is_kept => unsent,
                (None, Some(again)) if is_kept => again,
                _ => return Err(why),
            };
        }
    }

    fn message(
        &self,
        method: &Method,
        url: &Uri,
        origin: &Origin,
        mut headers: HeaderMap,
        payload: Payload,
    ) -> Result<hyper::Request<Payload>> {
        let odd = |_| Error::Protocol { url: url.to_string(), why: "its host is no text".to_owned() };
        headers.insert(HOST, HeaderValue::from_str(&origin.authority()).map_err(odd)?);
        let agent = HeaderValue::from_str(&self.options().user_agent);
        headers.insert(USER_AGENT, agent.unwrap_or_else(|_| HeaderValue::from_static("corten")));
        if matches!(payload, Payload::Nothing) && !method.is_safe() {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        // As servers take requests: the host in a header, the path alone as the target. Proxies take the whole.
        let options = self.options();
        let proxy = options.proxies.of(origin).filter(|_| origin.channel == Channel::Plain);
        let mut target = url.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        if let Some(proxy) = proxy {
            target = format!("{origin}{target}");
            if let Some(value) = &proxy.authorization {
                headers.insert(PROXY_AUTHORIZATION, super::tokens::secret(value, &proxy.to_string())?);
            }
        }
        let mut message = hyper::Request::new(payload);
        *message.method_mut() = method.clone();
        *message.uri_mut() = target
            .parse()
            .map_err(|_| Error::Protocol { url: url.to_string(), why: "its path is no path".to_owned() })?;
        *message.headers_mut() = headers;
        Ok(message)
    }

    async fn connect(&self, origin: &Origin) -> std::result::Result<SendRequest<Payload>, Failed> {
        let options = self.options();
        let patience = options.patience.connect;
        let proxy = options.proxies.of(origin);
        let (host, port) = match proxy {
            Some(proxy) => (proxy.host.as_str(), proxy.port),
            None => (origin.host.as_str(), origin.port),
        };
        let mut stream: AnyStream = Box::new(tcp(host, port, patience).await?);
        if let Some(proxy) = proxy {
            if proxy.is_encrypted {
                let registry = RegistryAddress::parse(&format!("{host}:{port}"))?;
                let config = self.known.tls(&options.trust, &registry, true).await?;
                stream = tls(stream, host, &registry.to_string(), config, patience).await?;
            }
            if origin.channel != Channel::Plain {
                let authority = origin.authority_with_port();
                stream = tunnel(stream, proxy, &authority, patience).await?;
            }
        }
        if origin.channel != Channel::Plain {
            let registry = origin.registry()?;
            let config = self.known.tls(&options.trust, &registry, origin.channel == Channel::Proven).await?;
            stream = tls(stream, &origin.host, &registry.to_string(), config, patience).await?;
        }
        let made = Builder::new().max_buf_size(BUFFER_BYTES_MAX).handshake(TokioIo::new(stream)).await;
        let (sender, connection) = made.map_err(|error| Failure::new(Cause::Broken, told(&error)))?;
        // Ends with its sender and the body that it reads.
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// What a request has failed with that got no answer.
fn broken(error: &hyper::Error, url: &Uri) -> Failed {
    if error.is_parse() {
        let url = without_query(&url.to_string()).to_owned();
        return Failed::Told(Error::Protocol { url, why: format!("its answer is no HTTP: {}", told(error)) });
    }
    // A server that wants to see a certificate may say so only after the handshake (TLS 1.3).
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        let io = inner.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref());
        let tls = io.and_then(|error| error.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::AlertReceived(alert)) = tls {
            let why = format!("tls: it refuses: {alert:?}");
            return Failure::new(Cause::Certificate, why).into();
        }
        source = inner.source();
    }
    Failure::new(Cause::Broken, told(error)).into()
}

fn copy_of(message: &hyper::Request<Payload>, payload: Payload) -> hyper::Request<Payload> {
    let mut copy = hyper::Request::new(payload);
    *copy.method_mut() = message.method().clone();
    *copy.uri_mut() = message.uri().clone();
    *copy.headers_mut() = message.headers().clone();
    copy
}

/// Between a failure of the connection, which gets the request's URL, and an error that is told already.
enum Failed {
    Connection(Failure),
    Told(Error),
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self::Connection(failure)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Told(error)
    }
}

impl Failure {
    pub fn at(self, url: &str) -> Error {
        Error::Unreachable { url: without_query(url).to_owned(), cause: self.cause, why: self.why }
    }
}

/// Object storage is sent to with signatures in the query, which are nobody's business.
pub(crate) fn without_query(url: &str) -> &str {
    url.split('?').next().unwrap_or_default()
}

impl Answer {
    /// The whole body, where it isn't larger than that.
    pub async fn bytes(mut self, bytes_max: usize) -> Result<Bytes> {
        let too_large = |url: &Uri| Error::Protocol {
            url: without_query(&url.to_string()).to_owned(),
            why: format!("its answer is larger than {bytes_max} bytes"),
        };
        if self.body.bytes_left().is_some_and(|bytes| bytes > bytes_max as u64) {
            return Err(too_large(&self.url));
        }
        let mut whole = BytesMut::new();
        while let Some(bytes) = self.body.chunk().await? {
            if whole.len() + bytes.len() > bytes_max {
                return Err(too_large(&self.url));
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(whole.freeze())
    }

    /// Keeps the connection where that is cheap.
    pub async fn dismiss(self) {
        if self.body.bytes_left().is_some_and(|bytes| bytes <= DRAIN_BYTES_MAX as u64) {
            let _ = timeout(Duration::from_secs(1), self.bytes(DRAIN_BYTES_MAX)).await;
        }
    }

    pub fn header(&self, name: impl hyper::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Body {
    fn new(
        incoming: Incoming,
        lease: Lease,
        sender: SendRequest<Payload>,
        url: &Uri,
        patience: Duration,
    ) -> Self {
        let mut body = Self {
            connection: Some((lease, sender)),
            url: url.to_string(),
            patience,
            waited: Duration::ZERO,
            bytes_since: 0,
            incoming,
        };
        if body.incoming.is_end_stream() {
            body.release();
        }
        body
    }

    /// What is still to come, where the other side has said so.
    pub fn bytes_left(&self) -> Option<u64> {
        self.incoming.size_hint().exact()
    }

    /// The next bytes, none at the end. Only the time counts in which somebody waits for them.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        loop {
            let asked = Instant::now();
            let left = self.patience.saturating_sub(self.waited);
            let Ok(frame) = timeout(left, self.incoming.frame()).await else {
                self.connection = None;
                let why = format!("next to nothing has come for {} s", self.patience.as_secs());
                return Err(Failure::new(Cause::Timeout, why).at(&self.url));
            };
            match frame {
                None => {
                    self.release();
                    return Ok(None);
                }
                Some(Err(error)) => {
                    self.connection = None;
                    return Err(Failure::new(Cause::Broken, told(&error)).at(&self.url));
                }
                Some(Ok(frame)) => {
                    let Ok(bytes) = frame.into_data() else { continue };
                    self.waited += asked.elapsed();
                    self.bytes_since += bytes.len();
                    if self.bytes_since >= STALL_BYTES {
                        (self.waited, self.bytes_since) = (Duration::ZERO, 0);
                    }
                    if self.incoming.is_end_stream() {
                        self.release();
                    }
                    return Ok(Some(bytes));
                }
            }
        }
    }

    fn release(&mut self) {
        if let Some((lease, sender)) = self.connection.take() {
            lease.release(sender);
        }
    }
}

/// An error with its causes, each once.
pub(crate) fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
