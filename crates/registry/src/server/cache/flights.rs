//! One of a kind at a time: who asks for something that is being found out already waits for that.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

type Waiting<T> = HashMap<String, watch::Receiver<Option<T>>>;

#[derive(Debug)]
pub struct Flights<T>(Arc<Mutex<Waiting<T>>>);

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    /// What comes of `begin`, or of the one that was begun for the same key. It goes on when nobody waits any more; `None` when it
    /// has ended without an outcome.
    pub async fn join<F>(&self, key: String, begin: impl FnOnce() -> F) -> Option<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut outcome = {
            let mut waiting = lock(&self.0);
            match waiting.get(&key) {
                Some(outcome) => outcome.clone(),
                None => {
                    let (told, outcome) = watch::channel(None);
                    waiting.insert(key.clone(), outcome.clone());
                    let landing = Landing { waiting: self.0.clone(), key };
                    let flight = begin();
                    tokio::spawn(async move {
                        let value = flight.await;
                        // First out of the list, so that who comes now begins anew.
                        drop(landing);
                        told.send_replace(Some(value));
                    });
                    outcome
                }
            }
        };
        outcome.wait_for(Option::is_some).await.ok().and_then(|value| value.clone())
    }
}

/// Takes a flight off the list, however it ends.
struct Landing<T> {
    waiting: Arc<Mutex<Waiting<T>>>,
    key: String,
}

impl<T> Drop for Landing<T> {
    fn drop(&mut self) {
        lock(&self.waiting).remove(&self.key);
    }
}

fn lock<T>(waiting: &Mutex<Waiting<T>>) -> MutexGuard<'_, Waiting<T>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn many_wait_for_one() {
        let (flights, begun) = (Flights::default(), AtomicUsize::new(0));
        let (go, gone) = watch::channel(false);
        let ask = || {
            flights.join("a".to_owned(), || {
                let number = begun.fetch_add(1, Ordering::Relaxed);
                let mut gone = gone.clone();
                async move {
                    let _ = gone.wait_for(|gone| *gone).await;
                    number
                }
            })
        };
        let (first, second, _) = tokio::join!(ask(), ask(), async { go.send_replace(true) });
        assert_eq!((first, second), (Some(0), Some(0)));
        assert_eq!(ask().await, Some(1), "another one, as the first is over");
    }

    #[tokio::test]
    async fn one_that_panics_leaves_nobody_waiting() {
        let flights: Flights<u8> = Flights::default();
        assert_eq!(flights.join("a".to_owned(), || async { panic!("as it is meant to") }).await, None);
        assert_eq!(flights.join("a".to_owned(), || async { 1 }).await, Some(1));
    }
}
