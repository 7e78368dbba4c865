//! One listener: replays the past it asks for, then follows, at its own pace.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use corten_api::Timestamp;
use corten_api::event::{EventMessage, EventsOptions};
use tokio::sync::mpsc::{self, Sender};

use super::journal::Reader;
use super::{Ahead, Events, Numbered, Sequence, Shared, filter};
use crate::Engine;
use crate::error::{Error, Result};

/// How many events are read at once.
const BATCH: usize = 128;
/// How many wait for the client.
const QUEUE: usize = 64;

impl Engine {
    /// What happened since, and what happens, until the receiver is dropped or the time is up.
    pub fn events(&self, options: EventsOptions) -> Result<mpsc::Receiver<EventMessage>> {
        options.filters.validate(&filter::NAMES).map_err(|e| Error::invalid(e.to_string()))?;
        Ok(self.events.listen(options))
    }
}

impl Events {
    pub fn listen(&self, options: EventsOptions) -> mpsc::Receiver<EventMessage> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let newest = self.shared.newest.subscribe();
        let now = Timestamp::now();
        let last = *newest.borrow();
        let listener = Listener {
            next: self.shared.begin(&options, last),
            // A time that is past ends the stream with what there is.
            end: options.until.filter(|until| *until <= now).map(|_| last),
            since: options.since.map_or(i64::MIN, |since| since.unix_nanos()),
            until: options.until.map_or(i64::MAX, |until| until.unix_nanos()),
            options,
            shared: self.shared.clone(),
            reader: Reader::default(),
        };
        tokio::spawn(listener.run(newest, sender, now));
        receiver
    }
}

impl Shared {
    /// The place of the first event that may be wanted. An end without a beginning asks for what is in memory.
    fn begin(&self, options: &EventsOptions, newest: Sequence) -> Sequence {
        let ring = self.ring();
        let first = ring.events.front();
        match (options.since, options.until) {
            (None, None) => newest + 1,
            (None, Some(_)) => first.map_or(newest + 1, |event| event.sequence),
            (Some(since), _) => match first {
                Some(event) if event.event.time_nano < since.unix_nanos() => event.sequence,
                first => {
                    let first = first.map_or(newest + 1, |event| event.sequence);
                    drop(ring);
                    self.journal.place_of(since.unix_nanos()).map_or(first, |place| place.min(first))
                }
            },
        }
    }
}

struct Listener {
    shared: Arc<Shared>,
    options: EventsOptions,
    /// The next event's place.
    next: Sequence,
    /// Nothing after it.
    end: Option<Sequence>,
    since: i64,
    until: i64,
    reader: Reader,
}

impl Listener {
    async fn run(
        mut self,
        mut newest: tokio::sync::watch::Receiver<Sequence>,
        sender: Sender<EventMessage>,
        now: Timestamp,
    ) {
        let _counted = Counted::new(self.shared.clone());
        let left = self.options.until.map(|until| until.since(now));
        let deadline = async {
            match left {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(deadline);
        loop {
            if self.end.is_some_and(|end| self.next > end) {
                return;
            }
            newest.borrow_and_update();
            let events = match self.shared.ahead(self.next, BATCH) {
                Ahead::Events(events) => events,
                Ahead::Behind(first) => match self.read_journal(first).await {
                    Some(events) => events,
                    None => return,
                },
                Ahead::Nothing if self.end.is_some() => return,
                Ahead::Nothing => {
                    // An open segment would keep its bytes when it is removed.
                    self.reader = Reader::default();
                    tokio::select! {
                        biased;
                        changed = newest.changed() => match changed {
                            Ok(()) => continue,
                            Err(_) => return,
                        },
                        () = sender.closed() => return,
                        () = &mut deadline => return,
                    }
                }
            };
            if !self.send(events, &sender).await {
                return;
            }
        }
    }

    /// Tells the wanted ones; false when there is no sense in going on.
    async fn send(&mut self, events: Vec<Numbered>, sender: &Sender<EventMessage>) -> bool {
        for Numbered { sequence, event } in events {
            self.next = sequence + 1;
            if self.end.is_none() && event.time_nano > self.until {
                return false;
            }
            let wanted = (self.since..=self.until).contains(&event.time_nano)
                && self.end.is_none_or(|end| sequence <= end)
                && filter::matches(&event, &self.options.filters);
            if wanted && sender.send((*event).clone()).await.is_err() {
                return false;
            }
        }
        !sender.is_closed()
    }

    /// From the files, off the async threads. What is neither there nor in memory is gone: on with the first in memory.
    async fn read_journal(&mut self, first_in_memory: Sequence) -> Option<Vec<Numbered>> {
        let (shared, mut reader, next) = (self.shared.clone(), std::mem::take(&mut self.reader), self.next);
        let read = tokio::task::spawn_blocking(move || {
            let read = shared.journal.read(&mut reader, next, BATCH);
            (reader, read)
        });
        let (reader, read) = read.await.ok()?;
        self.reader = reader;
        let events = read.unwrap_or_else(|error| {
            tracing::warn!(%error, "events of the past could not be read");
            Vec::new()
        });
        if events.is_empty() {
            self.next = first_in_memory;
        }
        Some(events)
    }
}

/// Counts a listener while it is there.
struct Counted(Arc<Shared>);

impl Counted {
    fn new(shared: Arc<Shared>) -> Self {
        shared.listeners.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.listeners.fetch_sub(1, Ordering::Relaxed);
    }
}
