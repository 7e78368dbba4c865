//! Events: what happened, told to everybody who listens, and kept for those who ask later.
//!
//! Whoever does something publishes into a short ring in memory, which costs some microseconds and never waits. A thread
//! takes events from there to the journal ([`journal`]). A listener ([`stream`]) has a place in the sequence of all
//! events: it reads from the ring while it keeps up, and from the journal when it has fallen behind or asks for the past; so a
//! slow one holds up nobody, needs no memory and loses nothing that the journal still has.

mod emit;
mod filter;
mod journal;
mod stream;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use corten_api::system::EventMessage;
use tokio::sync::watch;

use journal::Journal;

/// How many events stay in memory once they are in the journal.
const REMEMBERED: usize = 256;
/// How many may wait for the journal; when the disk stands still for longer than that, the oldest are lost to the journal.
const WAITING: usize = 16 << 10;
/// How long events are gathered before they are written together.
const GATHERING: Duration = Duration::from_millis(5);

/// A place in the sequence of all events of this data root; the first one is 1.
pub type Sequence = u64;

/// One event in its place.
#[derive(Clone, Debug)]
pub struct Numbered {
    pub sequence: Sequence,
    pub event: Arc<EventMessage>,
}

/// The events of one engine. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    shared: Arc<Shared>,
}

struct Shared {
    ring: Mutex<Ring>,
    /// Wakes the writer.
    more: Condvar,
    /// The newest event's place.
    newest: watch::Sender<Sequence>,
    journal: Journal,
    listeners: AtomicUsize,
    writer: Mutex<Option<JoinHandle<()>>>,
}

struct Ring {
    events: VecDeque<Numbered>,
    /// Of the next event.
    next: Sequence,
    /// Everything before is in the journal, or lost to it.
    unwritten: Sequence,
    /// The last event's time: the next one's is later, unless the clock was set back.
    last_time: i64,
    writer_sleeps: bool,
    closing: bool,
}

/// What the ring has for a listener.
enum Ahead {
    Events(Vec<Numbered>),
    /// What it wants is older than the ring; this is the ring's first.
    Behind(Sequence),
    Nothing,
}

impl Events {
    /// Opens the journal below `directory` and starts its writer.
    pub fn open(directory: &Path) -> std::io::Result<Self> {
        let (journal, last) = Journal::open(directory)?;
        let ring = Ring {
            events: VecDeque::new(),
            next: last.sequence + 1,
            unwritten: last.sequence + 1,
            last_time: last.time_nano,
            writer_sleeps: false,
            closing: false,
        };
        let shared = Arc::new(Shared {
            ring: Mutex::new(ring),
            more: Condvar::new(),
            newest: watch::Sender::new(last.sequence),
            journal,
            listeners: AtomicUsize::new(0),
            writer: Mutex::default(),
        });
        let writer = shared.clone();
        let thread = std::thread::Builder::new()
            .name("events".to_owned())
            .stack_size(256 << 10)
            .spawn(move || write(&writer))?;
        *shared.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(Self { shared })
    }

    /// Gives an event its place and its time, and tells it.
    pub fn publish(&self, mut event: EventMessage) {
        let mut ring = self.shared.ring();
        let late = ring.last_time - event.time_nano;
        if (0..1_000_000_000).contains(&late) {
            event.time_nano = ring.last_time + 1;
            event.time = event.time_nano / 1_000_000_000;
        }
        ring.last_time = event.time_nano;
        let sequence = ring.next;
        ring.next += 1;
        ring.events.push_back(Numbered { sequence, event: Arc::new(event) });
        ring.trim();
        // Under the lock, so that nobody sees a later place before an earlier one.
        self.shared.newest.send_replace(sequence);
        if ring.writer_sleeps {
            self.shared.more.notify_one();
        }
    }

    pub fn listeners(&self) -> usize {
        self.shared.listeners.load(Ordering::Relaxed)
    }

    /// Writes what is still to be written and ends the writer. Events that come later are told, but not kept.
    pub fn close(&self) {
        self.shared.ring().closing = true;
        self.shared.more.notify_one();
        let writer = self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the writer of events panicked");
        }
    }
}

impl Shared {
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What follows `next` in memory, at most `count` events.
    fn ahead(&self, next: Sequence, count: usize) -> Ahead {
        let ring = self.ring();
        let Some(first) = ring.events.front().map(|event| event.sequence) else {
            return if next < ring.next { Ahead::Behind(ring.next) } else { Ahead::Nothing };
        };
        if next < first {
            return Ahead::Behind(first);
        }
        // The ring has no gaps.
        let skip = usize::try_from(next - first).unwrap_or(usize::MAX);
        let events: Vec<_> = ring.events.iter().skip(skip).take(count).cloned().collect();
        if events.is_empty() { Ahead::Nothing } else { Ahead::Events(events) }
    }
}

impl Ring {
    /// Lets go of what is in the journal, or too much.
    fn trim(&mut self) {
        while let Some(first) = self.events.front() {
            let written = first.sequence < self.unwritten;
            let many = if written { REMEMBERED } else { WAITING };
            if self.events.len() <= many {
                break;
            }
            self.events.pop_front();
        }
    }

    fn waiting(&self) -> Vec<Numbered> {
        let from = self.events.partition_point(|event| event.sequence < self.unwritten);
        self.events.range(from..).cloned().collect()
    }
}

/// The writer: sleeps until there is something, gathers for a moment, writes it at once.
fn write(shared: &Shared) {
    let mut ring = shared.ring();
    loop {
        while !ring.closing && ring.unwritten == ring.next {
            ring.writer_sleeps = true;
            ring = shared.more.wait(ring).unwrap_or_else(PoisonError::into_inner);
            ring.writer_sleeps = false;
        }
        if !ring.closing {
            let gathered = shared.more.wait_timeout_while(ring, GATHERING, |ring| !ring.closing);
            ring = gathered.unwrap_or_else(PoisonError::into_inner).0;
        }
        let (batch, end) = (ring.waiting(), ring.closing);
        drop(ring);
        shared.journal.append(&batch);
        ring = shared.ring();
        if let Some(last) = batch.last() {
            ring.unwritten = last.sequence + 1;
        }
        ring.trim();
        if end && ring.unwritten == ring.next {
            return;
        }
    }
}
