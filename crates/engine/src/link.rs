//! The engine's end of the line to one monitor: requests with their answers, and the events in between.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corten_runtime::monitor::Connection;
use corten_runtime::monitor::protocol::{Event, Request, StepError};
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, Ready};
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
    connection: AsyncFd<Line>,
    next: AtomicU64,
    pending: Mutex<HashMap<u64, oneshot::Sender<Event>>>,
}

struct Line(Connection);

impl AsRawFd for Line {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl MonitorLink {
    pub fn new(connection: Connection) -> Result<Self> {
        let connection = AsyncFd::with_interest(Line(connection), Interest::READABLE)
            .map_err(|e| Error::internal(format!("watch a monitor's socket: {e}")))?;
        Ok(Self { inner: Arc::new(Inner { connection, next: AtomicU64::new(1), pending: Mutex::default() }) })
    }

    /// Sends without waiting for an answer.
    pub fn send(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<()> {
        self.inner.connection.get_ref().0.send(request, fds).map_err(|e| gone(&e))
    }

    /// Sends what `request` makes of a sequence number, and waits for the answer that bears it.
    pub async fn ask(&self, request: impl FnOnce(u64) -> Request, fds: &[BorrowedFd<'_>]) -> Result<Event> {
        let seq = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        lock(&self.inner.pending).insert(seq, sender);
        if let Err(error) = self.send(&request(seq), fds) {
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

    /// The next event of any kind, before anybody else listens.
    pub async fn first_answer(&self) -> Option<Event> {
        loop {
            let mut guard = self.inner.connection.readable().await.ok()?;
            match self.inner.connection.get_ref().0.try_recv() {
                Ok(event) => return event,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    guard.clear_ready_matching(Ready::READABLE);
                }
                Err(_) => return None,
            }
        }
    }

    /// The next event that answers nobody; `None` once the monitor has closed the line. For one reader.
    pub async fn next(&self) -> Option<Event> {
        loop {
            let mut guard = self.inner.connection.readable().await.ok()?;
            let event = match self.inner.connection.get_ref().0.try_recv() {
                Ok(Some(event)) => event,
                Ok(None) => {
                    self.close();
                    return None;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    guard.clear_ready_matching(Ready::READABLE);
                    continue;
                }
                Err(error) => {
                    tracing::debug!(%error, "monitor's line");
                    self.close();
                    return None;
                }
            };
            match self.answer(event) {
                None => {}
                Some(event) => return Some(event),
            }
        }
    }

    /// Gives an answer to who waits for it; returns what is not one.
    fn answer(&self, event: Event) -> Option<Event> {
        let seq = match &event {
            Event::ExecStarted { seq, .. }
            | Event::ExecFailed { seq, .. }
            | Event::Done { seq }
            | Event::Refused { seq, .. }
            | Event::Status { seq, .. } => *seq,
            _ => return Some(event),
        };
        if let Some(sender) = lock(&self.inner.pending).remove(&seq) {
            // Nobody waits any more: the request was dropped.
            let _ = sender.send(event);
        }
        None
    }

    /// Nobody will answer any more.
    fn close(&self) {
        lock(&self.inner.pending).clear();
    }
}

fn gone(error: &std::io::Error) -> Error {
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
