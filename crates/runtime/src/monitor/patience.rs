//! How long a monitor waits for whom: until when nothing need be looked at, who has had his time, when memory is given back.

use std::time::{Duration, Instant};

use corten_sys::memory;

use super::attached::Attached;
use super::poll::Id;
use super::run::{CONTAINER, Monitor};

/// Quiet for so long, the monitor gives its buffers back.
const IDLE: Duration = Duration::from_secs(1);
/// A client that takes nothing for so long no longer stops the others.
const STUCK: Duration = Duration::from_secs(10);
/// One that only looks in, and has been full for so long, no longer stops the container.
const VISIT: Duration = Duration::from_secs(1);
/// How long a client may take nothing of what is left for it after the end.
const LINGER: Duration = Duration::from_secs(600);

impl Monitor {
    /// How long to wait for events at most.
    pub(super) fn timeout(&self) -> Option<Duration> {
        let now = Instant::now();
        let drains = self.sessions.iter().filter_map(|s| s.drain_until);
        let waits = self.clients.iter().filter_map(|client| self.gives_up_at(client));
        let starts = self.starting.iter().map(|s| s.until);
        let names = self.resolver.as_ref().and_then(|resolver| resolver.deadline());
        let shipping = self.shipping.as_ref().and_then(|shipping| shipping.deadline());
        let health = self.checkup.as_ref().and_then(|checkup| checkup.deadline());
        let others = [names, shipping, health, self.ending.deadline()].into_iter().flatten();
        let next = drains.chain(waits).chain(starts).chain(others).min();
        let next = next.map(|at| at.saturating_duration_since(now).max(Duration::from_millis(1)));
        if self.buffer_used { Some(next.map_or(IDLE, |n| n.min(IDLE))) } else { next }
    }

    /// Nothing happens: memory goes back to the kernel.
    pub(super) fn give_back(&mut self) {
        if std::mem::take(&mut self.buffer_used) {
            self.buffer.give_back();
            self.input = Vec::new();
            if let Some(log) = &mut self.log {
                log.trim();
            }
            if let Some(shipping) = &mut self.shipping {
                shipping.trim();
            }
            let _ = memory::release_stack();
        }
    }

    /// Ends the patience with clients that are stuck, and with output that has no end.
    pub(super) fn expire(&mut self) {
        if let Some(resolver) = &mut self.resolver {
            resolver.expire();
        }
        if self.checkup.is_some() {
            self.mind_health(Instant::now());
        }
        if self.clients.is_empty() && self.ending.code.is_none() && self.sessions.len() == 1 {
            return;
        }
        let now = Instant::now();
        let stuck: Vec<Id> = self.clients.iter().filter(|c| self.is_stuck(c, now)).map(|c| c.id).collect();
        for id in stuck {
            self.drop_client(id);
        }
        self.expire_starting(now);
        self.ending.execs_until = self.ending.execs_until.filter(|until| *until > now);
        let late = self.sessions.iter().filter(|s| s.drain_until.is_some_and(|at| at <= now)).map(|s| s.id);
        for id in late.collect::<Vec<_>>() {
            self.close_outputs(id);
        }
    }

    /// Whether a client has had its time.
    fn is_stuck(&self, client: &Attached, now: Instant) -> bool {
        self.gives_up_at(client).is_some_and(|at| at <= now)
    }

    /// When a client that does not read is let go. Never while it holds nobody up but the exec that it started, or the container
    /// that it came with. Who looks in later must not stop a container by looking away, nor slow it down by reading byte by byte.
    fn gives_up_at(&self, client: &Attached) -> Option<Instant> {
        let since = client.waiting_since?;
        if self.session(client.session).is_none() {
            return Some(since + LINGER);
        }
        let full_since = client.full_since?;
        if client.session == CONTAINER && !client.attach.holds {
            return Some(full_since + VISIT);
        }
        let holds_others_up =
            self.clients.iter().any(|c| c.session == client.session && c.id != client.id && !c.is_full());
        holds_others_up.then_some(since + STUCK)
    }
}
