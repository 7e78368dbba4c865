//! The thread that writes. Changes that wait for it go into one transaction, each in a savepoint of its own: a change that fails
//! takes back nothing but itself, and the others share one sync.
//!
//! When such a transaction can't be committed (a full disk), each change is tried again by itself, removals with the room that
//! is kept for them.

use std::sync::{Arc, PoisonError, RwLock};
use std::thread;

use corten_image::Reserve;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{CatalogueError, Result, Step};
use crate::server::quota::Ledger;

/// Changes that may wait; who comes then waits to get into the queue.
const QUEUE: usize = 256;
/// Changes in one transaction.
const TOGETHER: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// On the disk when it is answered.
    Kept,
    /// As `Kept`, and makes room.
    Removal,
    /// A power failure may take it back.
    Note,
}

/// One change: done, perhaps more than once, and then told whether that is on the disk.
trait Job: Send {
    fn kind(&self) -> Kind;
    fn run(&mut self, connection: &Connection) -> Result<()>;
    fn answer(self: Box<Self>, committed: Result<()>);
}

struct Change<T, F> {
    kind: Kind,
    change: F,
    outcome: Result<T>,
    waiting: oneshot::Sender<Result<T>>,
}

impl<T: Send, F: FnMut(&Connection) -> Result<T> + Send> Job for Change<T, F> {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn run(&mut self, connection: &Connection) -> Result<()> {
        self.outcome = (self.change)(connection);
        self.outcome.as_ref().map(drop).map_err(Clone::clone)
    }

    fn answer(self: Box<Self>, committed: Result<()>) {
        let Change { outcome, waiting, .. } = *self;
        // Nobody may be waiting any more; the change stands nevertheless.
        let _ = waiting.send(committed.and(outcome));
    }
}

#[derive(Debug)]
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Box<dyn Job>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(
        connection: Connection,
        reserve: Reserve,
        ledger: Arc<RwLock<Arc<Ledger>>>,
    ) -> Result<Writer> {
        let (queue, waiting) = mpsc::channel(QUEUE);
        reserve.refill();
        let thread = thread::Builder::new().name("catalogue".to_owned());
        let thread = thread
            .spawn(move || Transactions { connection, reserve, ledger }.serve(waiting))
            .map_err(|error| CatalogueError::Open { path: "registry.db".into(), why: error.to_string() })?;
        Ok(Writer { queue: Some(queue), thread: Some(thread) })
    }

    pub(super) async fn change<T: Send + 'static>(
        &self,
        kind: Kind,
        change: impl FnMut(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (waiting, answer) = oneshot::channel();
        let job = Box::new(Change { kind, change, outcome: Err(CatalogueError::Closed), waiting });
        let queue = self.queue.as_ref().ok_or(CatalogueError::Closed)?;
        queue.send(job).await.map_err(|_| CatalogueError::Closed)?;
        answer.await.unwrap_or(Err(CatalogueError::Closed))
    }
}

impl Drop for Writer {
    /// Waits until what was asked for is done and the catalogue is closed.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A writer that has panicked has nothing more to do.
            let _ = thread.join();
        }
    }
}

struct Transactions {
    connection: Connection,
    reserve: Reserve,
    ledger: Arc<RwLock<Arc<Ledger>>>,
}

impl Transactions {
    fn serve(mut self, mut waiting: mpsc::Receiver<Box<dyn Job>>) {
        while let Some(first) = waiting.blocking_recv() {
            let mut jobs = vec![first];
            while jobs.len() < TOGETHER
                && let Ok(next) = waiting.try_recv()
            {
                jobs.push(next);
            }
            self.work(jobs);
        }
    }

    fn work(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        let Transactions { connection, reserve, ledger } = self;
        if commit(connection, &mut jobs).is_ok() {
            publish(connection, ledger);
            jobs.into_iter().for_each(|job| job.answer(Ok(())));
            return;
        }
        for job in jobs {
            let removal = job.kind() == Kind::Removal;
            let mut alone = [job];
            let outcome = if removal {
                reserve.spend(|| commit(connection, &mut alone))
            } else {
                commit(connection, &mut alone)
            };
            let [job] = alone;
            publish(connection, ledger);
            job.answer(outcome);
        }
    }
}

/// Tells what is taken of quotas before anybody hears that a change is made.
fn publish(connection: &Connection, ledger: &RwLock<Arc<Ledger>>) {
    let ledger = ledger.read().unwrap_or_else(PoisonError::into_inner).clone();
    if let Err(error) = super::usage::publish(connection, &ledger) {
        tracing::error!(error = error.explain(), "tell what is taken of quotas");
    }
}

/// One transaction. A change that refuses is taken back and doesn't disturb the others. One that has met a full disk does: all
/// are tried again, each alone.
fn commit(connection: &mut Connection, jobs: &mut [Box<dyn Job>]) -> Result<()> {
    let step = "commit a change";
    let notes_only = jobs.iter().all(|job| job.kind() == Kind::Note);
    let synchronous = if notes_only { "NORMAL" } else { "FULL" };
    connection.pragma_update(None, "synchronous", synchronous).step(step)?;
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).step(step)?;
    for job in jobs {
        transaction.execute_batch("SAVEPOINT change").step(step)?;
        if let Err(error) = job.run(&transaction) {
            if error.is_no_space() {
                return Err(error);
            }
            transaction.execute_batch("ROLLBACK TO change").step(step)?;
        }
        transaction.execute_batch("RELEASE change").step(step)?;
    }
    transaction.commit().step(step)
}
