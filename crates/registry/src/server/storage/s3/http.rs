//! How the store is spoken to: `object_store` signs and tries again, each request goes by the same connections, certificates and
//! proxies as those to other registries. Counts what is sent.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Frame;
use object_store::ClientOptions as StoreOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService,
};

use crate::client::{Body, Channel, Limits, Payload, Request, Transport};
use crate::{Cause, ClientOptions, Error, Patience, Proxies, Trust};

/// To connect, and once more for TLS: a store is near, as a rule.
const CONNECT: Duration = Duration::from_secs(5);
/// For the head of an answer.
const ANSWER: Duration = Duration::from_secs(30);
/// To put a large object together, which some stores do by copying.
const COMPLETE: Duration = Duration::from_secs(300);
/// What a body has to be taken at, in bytes per second.
const PACE: u64 = 128 << 10;
/// As many clients may pull at once as there are connections; each is an object that is read.
const LIMITS: Limits = Limits { connections: 512, kept: 64, patience: Duration::from_secs(30) };

/// What was asked of a store: how often and for how long, in microseconds, by method and status; and the bytes of it.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    /// A status of 0 stands for no answer.
    pub requests: BTreeMap<(&'static str, u16), (u64, u64)>,
    pub sent_bytes: u64,
    pub received_bytes: u64,
}

/// Sends requests to a store. Cheap to clone.
#[derive(Clone)]
pub struct Wire {
    transport: Arc<Transport>,
    traffic: Arc<Mutex<Traffic>>,
    /// An upload in parts may have begun of which the answer was lost: nobody knows its id, and another one was begun instead.
    lost: Arc<AtomicBool>,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}

impl Wire {
    pub fn new(proxies: Proxies, trust: Trust) -> Wire {
        let patience = Patience { connect: CONNECT, answer: ANSWER, ..Patience::default() };
        let options = ClientOptions { proxies, trust, patience, ..ClientOptions::default() };
        Wire {
            transport: Arc::new(Transport::new(options, LIMITS)),
            traffic: Arc::default(),
            lost: Arc::default(),
        }
    }

    pub fn has_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    pub fn forget_lost(&self) {
        self.lost.store(false, Ordering::Release);
    }

    pub fn traffic(&self) -> Traffic {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self, method: &'static str, status: u16, begun: Instant, sent: u64) {
        let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut traffic = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, sum) = traffic.requests.entry((method, status)).or_default();
        *count += 1;
        *sum += took;
        traffic.sent_bytes += sent;
    }
}

impl HttpConnector for Wire {
    fn connect(&self, _options: &StoreOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Wire {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let begun = Instant::now();
        let (head, body) = request.into_parts();
        // One piece as a rule, which isn't copied.
        let body = body.collect().await?.to_bytes();
        let length = body.len() as u64;
        let method = name_of(&head.method);
        let begins = head
            .uri
            .query()
            .is_some_and(|query| query.split('&').any(|key| key.trim_end_matches('=') == "uploads"));
        let patience = match (method, begins) {
            ("POST", false) => COMPLETE,
            _ => ANSWER + Duration::from_secs(length / PACE),
        };
        let channel = if head.uri.scheme_str() == Some("https") { Channel::Proven } else { Channel::Plain };
        let payload = if body.is_empty() { Payload::Nothing } else { Payload::Whole(body) };
        let request =
            Request { method: head.method, url: head.uri, channel, headers: head.headers, payload, patience };
        match self.transport.send(request).await {
            Ok(answer) => {
                self.count(method, answer.status.as_u16(), begun, length);
                let mut response =
                    HttpResponse::new(HttpResponseBody::new(Answered::of(answer.body, self.clone())));
                *response.status_mut() = answer.status;
                *response.headers_mut() = answer.headers;
                Ok(response)
            }
            Err(error) => {
                self.count(method, 0, begun, 0);
                if method == "POST" && begins {
                    self.lost.store(true, Ordering::Release);
                }
                Err(failed(error))
            }
        }
    }
}

fn name_of(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

/// Which failures may be tried again, and whether by everybody or only by who asks for nothing but the same.
fn failed(error: Error) -> HttpError {
    let kind = match &error {
        Error::Unreachable { cause, .. } => match cause {
            Cause::Name | Cause::Down | Cause::Proxy => HttpErrorKind::Connect,
            Cause::Timeout => HttpErrorKind::Timeout,
            Cause::Broken => HttpErrorKind::Interrupted,
            Cause::Certificate | Cause::Plain | Cause::Redirect => HttpErrorKind::Unknown,
        },
        _ => HttpErrorKind::Unknown,
    };
    HttpError::new(kind, error)
}

type Pieces = dyn Stream<Item = Result<Bytes, HttpError>> + Send;

/// The body of an answer. In a lock that is never waited for, as `object_store` wants bodies that threads may share.
struct Answered(Mutex<std::pin::Pin<Box<Pieces>>>);

impl Answered {
    fn of(body: Body, wire: Wire) -> Answered {
        let pieces = futures_util::stream::try_unfold((body, wire), |(mut body, wire)| async move {
            let Some(piece) = body.chunk().await.map_err(failed)? else { return Ok(None) };
            wire.traffic.lock().unwrap_or_else(PoisonError::into_inner).received_bytes += piece.len() as u64;
            Ok(Some((piece, (body, wire))))
        });
        Answered(Mutex::new(Box::pin(pieces)))
    }
}

impl hyper::body::Body for Answered {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let pieces = self.get_mut().0.get_mut().unwrap_or_else(PoisonError::into_inner);
        pieces.as_mut().poll_next(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
