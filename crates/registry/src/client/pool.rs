//! Connections that are kept for the next request, and how many there may be to one place.
//!
//! HTTP/1.1 on purpose: a pull is few requests with large bodies, and these share one congestion window, one socket buffer and one
//! task when they share an HTTP/2 connection, where several connections each have their own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::connect::Failure;
use super::origin::Origin;
use super::payload::Payload;
use crate::Cause;

const CONNECTIONS_MAX: usize = 64;
/// In use when nobody gets another one for what one would do, too.
const CONNECTIONS_FEW: usize = 12;
const KEPT_MAX: usize = 8;
/// Registries and what stands before them hang up after a minute or more.
const KEPT_FOR: Duration = Duration::from_secs(45);
/// Places beyond these are forgotten when nothing is under way there.
const PLACES_MAX: usize = 64;
const SLOT_TIMEOUT: Duration = Duration::from_secs(600);

pub(crate) struct Pool {
    limits: Limits,
    places: Mutex<HashMap<Origin, Place>>,
    is_swept: AtomicBool,
}

/// How many connections there may be to one place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// At once, busy ones and those that are kept.
    pub connections: usize,
    pub kept: usize,
    /// How long a request waits for one of ours that becomes free.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: CONNECTIONS_MAX, kept: KEPT_MAX, patience: SLOT_TIMEOUT }
    }
}

struct Place {
    kept: Vec<Kept>,
    slots: Arc<Semaphore>,
    /// Until when the other side wants to be left alone.
    closed_until: Option<Instant>,
}

struct Kept {
    sender: SendRequest<Payload>,
    since: Instant,
}

/// A connection in use, or the permission to make one.
pub(crate) struct Lease {
    pool: Weak<Pool>,
    origin: Origin,
    sender: Option<SendRequest<Payload>>,
    _slot: OwnedSemaphorePermit,
}

impl Place {
    fn new(limits: Limits) -> Self {
        Self { kept: Vec::new(), slots: Arc::new(Semaphore::new(limits.connections)), closed_until: None }
    }
}

impl Pool {
    pub fn new(limits: Limits) -> Self {
        Self { limits, places: Mutex::default(), is_swept: AtomicBool::default() }
    }

    /// Waits for a slot, and finds a connection that was used at most `fresh` ago, or none.
    pub async fn lease(self: &Arc<Self>, origin: &Origin, fresh: Option<Duration>) -> Result<Lease, Failure> {
        let slots = self.place(&mut self.places(), origin).slots.clone();
        let busy = || Failure::new(Cause::Timeout, format!("all connections to {origin} are busy"));
        let slot = timeout(self.limits.patience, slots.acquire_owned()).await;
        let slot = slot.map_err(|_| busy())?.map_err(|_| busy())?;
        let mut lease =
            Lease { pool: Arc::downgrade(self), origin: origin.clone(), sender: None, _slot: slot };
        while let Some(mut kept) = self.take(origin) {
            // It is ready as soon as its task has seen the end of the body before.
            let is_ready = matches!(timeout(Duration::from_secs(1), kept.sender.ready()).await, Ok(Ok(())));
            if is_ready && fresh.is_none_or(|age| kept.since.elapsed() <= age) {
                lease.sender = Some(kept.sender);
                break;
            }
        }
        Ok(lease)
    }

    /// Whether another connection would leave enough for those who have none yet.
    pub fn has_room(&self, origin: &Origin) -> bool {
        let places = self.places();
        let in_use = |place: &Place| self.limits.connections - place.slots.available_permits();
        places.get(origin).is_none_or(|place| in_use(place) < CONNECTIONS_FEW)
    }

    pub fn forget_all(&self) {
        self.places().values_mut().for_each(|place| place.kept.clear());
    }

    fn take(&self, origin: &Origin) -> Option<Kept> {
        let mut places = self.places();
        let kept = &mut places.get_mut(origin)?.kept;
        // The one that was used last is the likeliest to live.
        while let Some(last) = kept.pop() {
            if !last.sender.is_closed() && last.since.elapsed() < KEPT_FOR {
                return Some(last);
            }
        }
        None
    }

    fn keep(self: &Arc<Self>, origin: &Origin, sender: SendRequest<Payload>) {
        if sender.is_closed() {
            return;
        }
        {
            let mut places = self.places();
            let kept = &mut self.place(&mut places, origin).kept;
            if kept.len() < self.limits.kept {
                kept.push(Kept { sender, since: Instant::now() });
            }
        }
        if !self.is_swept.swap(true, Ordering::AcqRel) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Everybody waits until then before they ask this place again.
    pub fn close_until(&self, origin: &Origin, until: Instant) {
        let mut places = self.places();
        let place = self.place(&mut places, origin);
        place.closed_until = place.closed_until.max(Some(until));
    }

    pub fn closed_for(&self, origin: &Origin) -> Option<Duration> {
        let until = self.places().get(origin)?.closed_until?;
        until.checked_duration_since(Instant::now())
    }

    fn drop_stale(&self) -> usize {
        let mut places = self.places();
        for place in places.values_mut() {
            place.kept.retain(|kept| !kept.sender.is_closed() && kept.since.elapsed() < KEPT_FOR);
        }
        if places.len() > PLACES_MAX {
            let now = Instant::now();
            places.retain(|_, place| {
                !place.kept.is_empty()
                    || place.slots.available_permits() < self.limits.connections
                    || place.closed_until.is_some_and(|until| until > now)
            });
        }
        places.values().map(|place| place.kept.len()).sum()
    }

    fn place<'p>(&self, places: &'p mut HashMap<Origin, Place>, origin: &Origin) -> &'p mut Place {
        places.entry(origin.clone()).or_insert_with(|| Place::new(self.limits))
    }

    /// Held for some lookups, never across an await.
    fn places(&self) -> MutexGuard<'_, HashMap<Origin, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hangs up on what was kept too long; ends when nothing is kept.
async fn sweep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(KEPT_FOR / 2).await;
        let Some(pool) = pool.upgrade() else { return };
        if pool.drop_stale() == 0 {
            pool.is_swept.store(false, Ordering::Release);
            return;
        }
    }
}

impl Lease {
    /// The connection that was kept, if there was one.
    pub fn connection(&mut self) -> Option<SendRequest<Payload>> {
        self.sender.take()
    }

    /// Gives a connection back whose answer was read to its end.
    pub fn release(self, sender: SendRequest<Payload>) {
        if let Some(pool) = self.pool.upgrade() {
            pool.keep(&self.origin, sender);
        }
    }
}
