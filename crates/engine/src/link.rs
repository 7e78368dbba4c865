//! The engine's end of the line to one monitor: requests with their answers, and the events in between.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corten_runtime::monitor::Connection;
use corten_runtime::monitor::protocol::{Event, Request, StepError};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::sync::oneshot;

use crate::container::lock;
use crate::error::{Error, Result};

/// A monitor that takes longer than this to answer is stuck.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub struct MonitorLink {
    inner: Arc<Inner>,
}

struct Inner {
    connection: Connection,
    /// The same socket once more, for waiting: it keeps packets apart like a datagram socket, which is the type tokio has.
    readiness: UnixDatagram,
    next: AtomicU64,
    pending: Mutex<HashMap<u64, Asked>>,
}

/// Somebody who waits for an answer.
struct Asked {
    sender: oneshot::Sender<Event>,
    first: Box<dyn FnOnce(&Event) + Send>,
}

impl MonitorLink {
    pub fn new(connection: Connection) -> Result<Self> {
        let failed = |e: io::Error| Error::internal(format!("watch a monitor's socket: {e}"));
        let socket =
            std::os::unix::net::UnixDatagram::from(connection.as_fd().try_clone_to_owned().map_err(failed)?);
        socket.set_nonblocking(true).map_err(failed)?;
        let readiness = UnixDatagram::from_std(socket).map_err(failed)?;
        let (next, pending) = (AtomicU64::new(1), Mutex::default());
        Ok(Self { inner: Arc::new(Inner { connection, readiness, next, pending }) })
    }

    /// Sends without waiting for an answer.
    pub async fn send(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<()> {
        let Inner { connection, readiness, .. } = &*self.inner;
        readiness.async_io(Interest::WRITABLE, || connection.send(request, fds)).await.map_err(|e| gone(&e))
    }

    /// Sends what `request` makes of a sequence number, and waits for the answer that bears it.
    pub async fn ask(&self, request: impl FnOnce(u64) -> Request, fds: &[BorrowedFd<'_>]) -> Result<Event> {
        self.ask_first(request, fds, |_| ()).await
    }

    /// The same; `first` hears the answer before anybody hears what the monitor says behind it.
    pub async fn ask_first(
        &self,
        request: impl FnOnce(u64) -> Request,
        fds: &[BorrowedFd<'_>],
        first: impl FnOnce(&Event) + Send + 'static,
    ) -> Result<Event> {
        let seq = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        lock(&self.inner.pending).insert(seq, Asked { sender, first: Box::new(first) });
        if let Err(error) = self.send(&request(seq), fds).await {
            lock(&self.inner.pending).remove(&seq);
            return Err(error);
        }
        match tokio::time::timeout(ANSWER_DEADLINE, receiver).await {
            Ok(Ok(event)) => Ok(event),
            Ok(Err(_)) => Err(Error::conflict("the container has ended")),
            Err(_) => {
                lock(&self.inner.pending).remove(&seq);
                Err(Error::internal("the container's monitor does not answer"))
            }
        }
    }

    /// The next event of any kind; `None` once the monitor has closed the line.
    pub async fn receive(&self) -> Option<Event> {
        let Inner { connection, readiness, .. } = &*self.inner;
        match readiness.async_io(Interest::READABLE, || connection.try_recv()).await {
            Ok(event) => event,
            Err(error) => {
                tracing::debug!(%error, "monitor's line");
                None
            }
        }
    }

    /// The next event that answers nobody. For one reader, who by this serves everybody who asks.
    pub async fn next(&self) -> Option<Event> {
        while let Some(event) = self.receive().await {
            if let Some(event) = self.answer(event) {
                return Some(event);
            }
        }
        // Nobody will answer any more.
        lock(&self.inner.pending).clear();
        None
    }

    /// Gives an answer to who waits for it; returns what is not one.
    fn answer(&self, event: Event) -> Option<Event> {
        let seq = match &event {
            Event::ExecStarted { seq, .. }
            | Event::ExecFailed { seq, .. }
            | Event::Done { seq }
            | Event::Refused { seq, .. }
            | Event::Health { seq, .. }
            | Event::Status { seq, .. } => *seq,
            _ => return Some(event),
        };
        let asked = lock(&self.inner.pending).remove(&seq);
        if let Some(Asked { sender, first }) = asked {
            first(&event);
            // Nobody waits any more: the request was dropped.
            let _ = sender.send(event);
        }
        None
    }
}

fn gone(error: &io::Error) -> Error {
    Error::conflict(format!("the container's monitor can't be reached: {error}"))
}

/// What a request that only can be done or refused came to.
pub fn done(event: Event) -> Result<()> {
    match event {
        Event::Refused { error, .. } => Err(refused(&error)),
        _ => Ok(()),
    }
}

fn refused(error: &StepError) -> Error {
    Error::conflict(error.to_string())
}
