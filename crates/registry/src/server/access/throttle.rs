//! Slowing down who guesses: by address and user, and by address alone. Time is given, so deciding is pure; nothing is written down.
//! Nobody is kept out by what others do from elsewhere: a user can't be locked out by a stranger.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures that cost nothing.
const FREE_BY_USER: u32 = 5;
const FREE_BY_ADDRESS: u32 = 50;
/// What every further one doubles, from a second on.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// When a failure is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(900);
/// Attempts under way from one address.
const AT_ONCE_MAX: u32 = 32;
const ENTRIES_MAX: usize = 8192;

#[derive(Default)]
pub struct Throttle(Mutex<Tables>);

#[derive(Default)]
struct Tables {
    by_user: Failures<(IpAddr, String)>,
    by_address: Failures<IpAddr>,
    under_way: HashMap<IpAddr, u32>,
}

struct Failures<K>(HashMap<K, Failure>);

impl<K> Default for Failures<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

struct Failure {
    count: u32,
    last: Instant,
    blocked_until: Instant,
}

impl<K: Eq + Hash + Clone> Failures<K> {
    fn wait(&self, key: &K, now: Instant) -> Option<Duration> {
        let failure = self.0.get(key)?;
        Some(failure.blocked_until.saturating_duration_since(now)).filter(|wait| !wait.is_zero())
    }

    fn count(&mut self, key: K, free: u32, now: Instant) {
        if self.0.len() >= ENTRIES_MAX && !self.0.contains_key(&key) {
            self.0.retain(|_, failure| now.saturating_duration_since(failure.last) < FORGOTTEN);
            let oldest = self.0.iter().min_by_key(|(_, failure)| failure.last).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest.filter(|_| self.0.len() >= ENTRIES_MAX) {
                self.0.remove(&oldest);
            }
        }
        let failure = self.0.entry(key).or_insert(Failure { count: 0, last: now, blocked_until: now });
        if now.saturating_duration_since(failure.last) >= FORGOTTEN {
            failure.count = 0;
        }
        failure.count = failure.count.saturating_add(1);
        failure.last = now;
        if failure.count > free {
            let doubled = Duration::from_secs(1 << (failure.count - free - 1).min(6));
            failure.blocked_until = now + doubled.min(WAIT_MAX);
        }
    }
}

/// An attempt under way. Dropped without an outcome (who asked has hung up) it counts as a failure: else hanging up in time would
/// cost nothing.
pub struct Attempt<'a> {
    throttle: &'a Throttle,
    from: IpAddr,
    user: String,
    begun: Instant,
    settled: bool,
}

impl Throttle {
    /// Begins an attempt, or says how long to wait before the next one.
    pub fn begin(&self, from: IpAddr, user: &str, now: Instant) -> Result<Attempt<'_>, Duration> {
        let from = network(from);
        let key = (from, user.to_owned());
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = [tables.by_user.wait(&key, now), tables.by_address.wait(&from, now)];
        if let Some(wait) = waits.into_iter().flatten().max() {
            return Err(wait);
        }
        let under_way = tables.under_way.entry(from).or_insert(0);
        if *under_way >= AT_ONCE_MAX {
            return Err(Duration::from_secs(1));
        }
        *under_way += 1;
        Ok(Attempt { throttle: self, from, user: key.1, begun: now, settled: false })
    }
}

impl Attempt<'_> {
    pub fn succeeded(mut self, now: Instant) {
        self.settle(true, now);
    }

    pub fn failed(mut self, now: Instant) {
        self.settle(false, now);
    }

    fn settle(&mut self, right: bool, now: Instant) {
        self.settled = true;
        let mut tables = self.throttle.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (self.from, std::mem::take(&mut self.user));
        if let Some(under_way) = tables.under_way.get_mut(&self.from) {
            *under_way -= 1;
            if *under_way == 0 {
                tables.under_way.remove(&self.from);
            }
        }
        if right {
            // The address's own count stays: who has one password could else guess at others' forever.
            tables.by_user.0.remove(&key);
        } else {
            tables.by_user.count(key, FREE_BY_USER, now);
            tables.by_address.count(self.from, FREE_BY_ADDRESS, now);
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.settle(false, self.begun);
        }
    }
}

/// What one party has many of counts as one: a customer of a provider gets 2^64 addresses of version 6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests;
