//! Sessions: connections on which roles are turned around. The client opens one and serves; the build asks it for files, secrets,
//! passwords, and sends it what it made. A session ends with its connection, and a client that no longer answers loses it.

mod metadata;
mod send;
mod services;
mod sync;
mod upload;

pub use send::FileSender;
pub use sync::SyncOptions;
pub use upload::upload_path;

use crate::grpc::Channel;
use crate::wire::session::{HealthCheckRequest, HealthCheckResponse};
use hyper::HeaderMap;
use hyper::rt::{Read, Write};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tonic::{Code, Request};

const ID: &str = "x-docker-expose-session-uuid";
const SHARED_KEY: &str = "x-docker-expose-session-sharedkey";
const METHOD: &str = "x-docker-expose-session-grpc-method";

/// Sessions that are open at the same time.
const SESSIONS_MAX: usize = 1024;
const METHODS_MAX: usize = 256;
const NAME_BYTES_MAX: usize = 1024;

/// How often a client is asked whether it is there, how long it may take, and how many times in a row it may fail to. A client
/// that is busy sending gigabytes may well be late once.
const HEALTH_INTERVAL: Duration = Duration::from_secs(5);
const HEALTH_TIMEOUT: Duration = Duration::from_secs(15);
const HEALTH_FAILURES_MAX: u32 = 2;
/// How long a build waits for its client to open the session that it names: clients do both at once.
const OPENING: Duration = Duration::from_secs(15);

#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error("the session has no id")]
    NoId,
    #[error("the session's {0} is too long")]
    TooLong(&'static str),
    #[error("session {0} already exists")]
    Exists(String),
    #[error("there are {SESSIONS_MAX} sessions already")]
    TooMany,
    #[error("open the session: {0}")]
    Handshake(hyper::Error),
    #[error("no active session for {0}")]
    Unknown(String),
}

/// What a client says of the session that it opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    id: String,
    shared_key: String,
    /// Paths of the methods that it serves, in lower case.
    methods: HashSet<String>,
}

impl Hello {
    /// Of a client that serves nothing.
    pub fn of(id: &str) -> Self {
        Self { id: id.to_owned(), shared_key: String::new(), methods: HashSet::new() }
    }

    /// From the headers of a request, or of a call.
    pub fn read(headers: &HeaderMap) -> Result<Self, SessionError> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (id, shared_key) = (text(ID).to_owned(), text(SHARED_KEY).to_owned());
        if id.is_empty() {
            return Err(SessionError::NoId);
        }
        for (what, value) in [("id", &id), ("shared key", &shared_key)] {
            if value.len() > NAME_BYTES_MAX {
                return Err(SessionError::TooLong(what));
            }
        }
        let methods: HashSet<String> = headers
            .get_all(METHOD)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .map(str::to_ascii_lowercase)
            .take(METHODS_MAX + 1)
            .collect();
        if methods.len() > METHODS_MAX || methods.iter().any(|method| method.len() > NAME_BYTES_MAX) {
            return Err(SessionError::TooLong("list of methods"));
        }
        Ok(Self { id, shared_key, methods })
    }
}

/// All sessions that are open.
#[derive(Default)]
pub struct Sessions {
    open: Mutex<HashMap<String, Slot>>,
    /// Counts openings, for those who wait for one.
    opened: watch::Sender<u64>,
}

enum Slot {
    /// Its handshake is under way.
    Opening,
    Open(Arc<Session>),
}

impl Sessions {
    /// Keeps an id, before the connection is the session's: whoever comes second is refused while it can still be told.
    pub fn reserve(self: &Arc<Self>, hello: Hello) -> Result<Reservation, SessionError> {
        let mut open = self.open();
        if open.contains_key(&hello.id) {
            return Err(SessionError::Exists(hello.id));
        }
        if open.len() >= SESSIONS_MAX {
            return Err(SessionError::TooMany);
        }
        open.insert(hello.id.clone(), Slot::Opening);
        Ok(Reservation { sessions: self.clone(), hello })
    }

    /// The session of that id, waiting for it a while if need be.
    pub async fn find(&self, id: &str) -> Result<Arc<Session>, SessionError> {
        // Clients may put a prefix before it, to tell their contexts apart.
        let id = id.split_once(':').map_or(id, |(_, id)| id);
        let mut opened = self.opened.subscribe();
        let found = async {
            loop {
                opened.mark_unchanged();
                if let Some(Slot::Open(session)) = self.open().get(id) {
                    return session.clone();
                }
                // The sender lives as long as this does.
                let _ = opened.changed().await;
            }
        };
        tokio::time::timeout(OPENING, found).await.map_err(|_| SessionError::Unknown(id.to_owned()))
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An id that is kept for a session; given free when it is dropped.
pub struct Reservation {
    sessions: Arc<Sessions>,
    hello: Hello,
}

impl Reservation {
    /// Opens the session on a connection, and stays until it ends.
    pub async fn run<S>(self, stream: S) -> Result<(), SessionError>
    where
        S: Read + Write + Unpin + Send + 'static,
    {
        let channel = Channel::open(stream).await.map_err(SessionError::Handshake)?;
        let session = Arc::new(Session { hello: self.hello.clone(), channel: channel.clone() });
        self.sessions.open().insert(self.hello.id.clone(), Slot::Open(session));
        self.sessions.opened.send_modify(|count| *count = count.wrapping_add(1));
        tokio::select! {
            () = channel.closed() => {}
            () = watch_health(&channel) => {
                tracing::info!(session = self.hello.id, "a build's client no longer answers");
            }
        }
        channel.close();
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.sessions.open().remove(&self.hello.id);
    }
}

/// Returns when the client has not answered for too long.
async fn watch_health(channel: &Channel) {
    let mut failures = 0;
    while failures < HEALTH_FAILURES_MAX {
        tokio::time::sleep(HEALTH_INTERVAL).await;
        let request = Request::new(HealthCheckRequest::default());
        let check = channel.unary::<_, HealthCheckResponse>("/grpc.health.v1.Health/Check", request);
        failures = match tokio::time::timeout(HEALTH_TIMEOUT, check).await {
            Ok(Ok(_)) => 0,
            // A client without that service is there all the same.
            Ok(Err(status)) if status.code() == Code::Unimplemented => 0,
            _ => failures + 1,
        };
    }
}

/// One client that serves.
pub struct Session {
    hello: Hello,
    channel: Channel,
}

impl Session {
    pub fn id(&self) -> &str {
        &self.hello.id
    }

    /// What stays the same when the same client builds the same directory again.
    pub fn shared_key(&self) -> &str {
        &self.hello.shared_key
    }

    /// Whether the client serves a method, by its path.
    pub fn serves(&self, method: &str) -> bool {
        self.hello.methods.contains(&method.to_ascii_lowercase())
    }

    /// Resolves when the session is over.
    pub async fn closed(&self) {
        self.channel.closed().await;
    }
}

#[cfg(test)]
mod tests;
