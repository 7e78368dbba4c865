//! Verifying passwords without being worn out by it. bcrypt is dear on purpose, and anybody may ask: so it runs off the threads that
//! others wait for, for few at a time; who is right is remembered for a while, as clients show a password with each request; and who
//! isn't has to wait (`throttle`). Knows nothing of where hashes come from.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ring::hmac;
use ring::rand::SystemRandom;
use tokio::sync::Semaphore;

use super::htpasswd::Hash;
use super::throttle::Throttle;

/// How long a password that was right isn't verified again. A changed hash counts at once.
const REMEMBERED: Duration = Duration::from_secs(300);
const REMEMBERED_MAX: usize = 1024;
/// How many may wait for their turn.
const WAITING_MAX: usize = 256;
const WAIT_MAX: Duration = Duration::from_secs(20);

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Right,
    Wrong,
    /// Not even looked at: there were too many before.
    Later {
        retry_after_s: u64,
    },
}

pub struct Passwords {
    /// Of this process only: what is remembered says nothing to whoever reads its memory later.
    key: hmac::Key,
    /// When who was right, by what `tag` makes of it.
    remembered: Mutex<HashMap<[u8; 32], Instant>>,
    running: Arc<Semaphore>,
    waiting: Semaphore,
    throttle: Throttle,
}

impl Passwords {
    /// `running_max`: how many are verified at the same time.
    pub fn new(running_max: usize) -> Result<Self, ring::error::Unspecified> {
        Ok(Self {
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())?,
            remembered: Mutex::default(),
            running: Arc::new(Semaphore::new(running_max)),
            waiting: Semaphore::new(WAITING_MAX),
            throttle: Throttle::default(),
        })
    }

    /// Whether a password was found to have a hash lately.
    pub fn remembers(&self, user: &str, hash: &Hash, password: &str) -> bool {
        self.is_remembered(&self.tag(user, hash, password))
    }

    /// Whether a password has a hash.
    pub async fn verify(&self, from: IpAddr, user: &str, hash: Hash, password: &str) -> Verdict {
        let tag = self.tag(user, &hash, password);
        // Before the throttle: who was right is not kept out by who guesses at the same name from the same address.
        if self.is_remembered(&tag) {
            return Verdict::Right;
        }
        let attempt = match self.throttle.begin(from, user, Instant::now()) {
            Ok(attempt) => attempt,
            Err(wait) => return Verdict::Later { retry_after_s: wait.as_secs().max(1) },
        };
        let busy = Verdict::Later { retry_after_s: 1 };
        let Ok(_place) = self.waiting.try_acquire() else { return busy };
        let turn = tokio::time::timeout(WAIT_MAX, self.running.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return busy };
        if self.is_remembered(&tag) {
            attempt.succeeded(Instant::now());
            return Verdict::Right;
        }
        let password = password.to_owned();
        let verified = tokio::task::spawn_blocking(move || {
            // Kept to the end even if nobody waits any more: hanging up does not make room for more.
            let _turn = turn;
            hash.verify(&password)
        });
        match verified.await {
            Ok(true) => {
                attempt.succeeded(Instant::now());
                self.remember(tag);
                Verdict::Right
            }
            Ok(false) | Err(_) => {
                attempt.failed(Instant::now());
                Verdict::Wrong
            }
        }
    }

    /// Says that somebody who showed something else than a password was wrong: a token, a robot's secret.
    pub fn count_failure(&self, from: IpAddr, name: &str) -> Verdict {
        match self.throttle.begin(from, name, Instant::now()) {
            Ok(attempt) => {
                attempt.failed(Instant::now());
                Verdict::Wrong
            }
            Err(wait) => Verdict::Later { retry_after_s: wait.as_secs().max(1) },
        }
    }

    fn tag(&self, user: &str, hash: &Hash, password: &str) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [user.as_bytes(), hash.as_bytes(), password.as_bytes()] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }

    // What is looked up is a keyed hash: how long that takes tells nothing of a password.
    fn is_remembered(&self, tag: &[u8; 32]) -> bool {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.get(tag).is_some_and(|since| since.elapsed() < REMEMBERED)
    }

    fn remember(&self, tag: [u8; 32]) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED_MAX {
            remembered.retain(|_, since| since.elapsed() < REMEMBERED);
        }
        if remembered.len() >= REMEMBERED_MAX
            && let Some(oldest) = remembered.iter().min_by_key(|(_, since)| **since).map(|(tag, _)| *tag)
        {
            remembered.remove(&oldest);
        }
        remembered.insert(tag, Instant::now());
    }
}

#[cfg(test)]
mod tests;
