//! Whom the registry knows: users of the htpasswd file, and what it has made itself (`store`). Both are read again when they have changed; a
//! change counts within a second, and nobody waits for more than that look.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::clock::now_s;
use super::htpasswd::{self, HtpasswdError, Stamp, Users};
use super::policy::Identity;
use super::robot::Robot;
use super::secret::Fingerprint;
use super::signature::Keys;
use super::store::{Store, StoreError};
use super::{AccessError, explained};

/// How long somebody waits for their turn with the store.
const TURN_MAX: Duration = Duration::from_secs(20);

/// What is known at one time.
#[derive(Clone)]
pub struct Known {
    pub users: Arc<Users>,
    pub robots: Arc<HashMap<String, Arc<Robot>>>,
    pub keys: Keys,
    stamp: Option<Stamp>,
    version: i64,
}

impl Known {
    /// What somebody's password is now, or a robot's secret: tells whether what was given for it still holds. `None`: there is nobody
    /// of that name, or they need none.
    pub fn account(&self, identity: &Identity) -> Option<Fingerprint> {
        match identity {
            Identity::User(name) => self.users.get(name).map(|hash| Fingerprint::of(hash.as_bytes())),
            Identity::Robot(name) => self.robots.get(name).map(|robot| robot.secret),
            Identity::Anonymous | Identity::Certificate(_) => None,
        }
    }
}

pub struct Accounts {
    htpasswd: Option<PathBuf>,
    store: Mutex<Store>,
    /// One at a time works with the store: those who wait for their turn take no thread that blobs are read and written by.
    turn: Arc<Semaphore>,
    known: RwLock<Arc<Known>>,
    /// How old what is known may be.
    look_every: Duration,
    /// When it was looked last. Held while looking: others go on with what is known.
    looked: tokio::sync::Mutex<Instant>,
}

impl Accounts {
    /// Reads everything; a file of users that is not there is an error here, and nobody's password later on.
    pub fn open(htpasswd: Option<PathBuf>, data: &Path, look_every: Duration) -> Result<Self, AccessError> {
        let mut store = Store::open(data)?;
        let mut known = Known {
            users: Arc::default(),
            robots: Arc::default(),
            // Making the first key is a change of our own, which the version doesn't tell.
            keys: store.keys(now_s())?,
            stamp: None,
            version: store.version()?,
        };
        known.robots = robots(&store)?;
        if let Some(path) = &htpasswd {
            // Stamp first: what is written in between is read once more.
            let stamp = Stamp::of(path);
            known.stamp = Some(stamp.map_err(|source| HtpasswdError::Io {
                step: "read",
                path: path.clone(),
                source,
            })?);
            known.users = Arc::new(users(path)?);
        }
        Ok(Self {
            htpasswd,
            store: Mutex::new(store),
            turn: Arc::new(Semaphore::new(1)),
            known: RwLock::new(Arc::new(known)),
            look_every,
            looked: tokio::sync::Mutex::new(Instant::now()),
        })
    }

    pub fn htpasswd(&self) -> Option<&Path> {
        self.htpasswd.as_deref()
    }

    /// Sessions that were ended while another process was the registry.
    pub fn ended_sessions(&self) -> Result<Vec<(Fingerprint, u64)>, StoreError> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner).ended_sessions(now_s())
    }

    /// What is known now.
    pub async fn known(self: &Arc<Self>) -> Arc<Known> {
        if let Ok(looked) = self.looked.try_lock()
            && looked.elapsed() >= self.look_every
        {
            self.look_holding(looked).await;
        }
        self.so_far()
    }

    /// What is known after another look, if that is something else: for who would be refused, and may have become known just before.
    pub async fn newer(self: &Arc<Self>, known: &Arc<Known>) -> Option<Arc<Known>> {
        self.look_holding(self.looked.lock().await).await;
        Some(self.so_far()).filter(|now| !Arc::ptr_eq(now, known))
    }

    async fn look_holding(self: &Arc<Self>, mut looked: tokio::sync::MutexGuard<'_, Instant>) {
        let accounts = self.clone();
        // It doesn't fail but by panicking, and then what is known stays.
        let _ = tokio::task::spawn_blocking(move || accounts.look()).await;
        *looked = Instant::now();
    }

    fn so_far(&self) -> Arc<Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Does something with the store, off the threads that others wait for.
    pub async fn with_store<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let turn = tokio::time::timeout(TURN_MAX, self.turn.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(StoreError::Busy) };
        let accounts = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work(&mut accounts.store.lock().unwrap_or_else(PoisonError::into_inner))
        });
        // The work only ends early when it panics.
        done.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }

    fn look(&self) {
        let before = self.so_far();
        let mut after = Known::clone(&before);
        if let Some(path) = &self.htpasswd {
            after.stamp = Stamp::of(path).ok();
            if after.stamp != before.stamp {
                // A file that can't be read lets nobody in: it may have been changed to keep somebody out.
                after.users = Arc::new(users(path).unwrap_or_else(|error| {
                    tracing::error!("{}; nobody can log in by a password", explained(&error));
                    Users::default()
                }));
            }
        }
        {
            let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = refresh(&mut after, &mut store) {
                // What was known stays: others should not be kept out by a moment's trouble.
                tracing::error!("{}; robots and keys stay as they were", explained(&error));
            }
        }
        if after.stamp != before.stamp || after.version != before.version {
            *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(after);
        }
    }
}

fn refresh(known: &mut Known, store: &mut Store) -> Result<(), StoreError> {
    // Version first, as with the stamp.
    let version = store.version()?;
    if version != known.version {
        (known.keys, known.robots) = (store.keys(now_s())?, robots(store)?);
        known.version = version;
    }
    Ok(())
}

fn robots(store: &Store) -> Result<Arc<HashMap<String, Arc<Robot>>>, StoreError> {
    let robots = store.robots()?.into_iter().map(|robot| (robot.name.clone(), Arc::new(robot)));
    Ok(Arc::new(robots.collect()))
}

fn users(path: &Path) -> Result<Users, HtpasswdError> {
    let (users, unusable) = htpasswd::read(path)?;
    for line in unusable {
        tracing::warn!("{}: {line}", path.display());
    }
    Ok(users)
}

#[cfg(test)]
mod tests;
