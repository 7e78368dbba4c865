//! When cached blobs were last used: noted in memory, and written to the catalogue now and then, as times of pulls are; and which ones
//! are being read just now.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::server::catalogue::{Catalogue, CatalogueError, now};
use crate::server::digest::Digest;

/// More are forgotten until the next time they are written.
const NOTED_MAX: usize = 100_000;

/// By repository and digest.
type Noted = HashMap<(String, Digest), i64>;

#[derive(Debug, Default)]
pub struct Uses {
    noted: Mutex<Noted>,
    reading: Arc<Mutex<HashMap<Digest, usize>>>,
}

impl Uses {
    pub fn note(&self, repository: &str, digest: Digest) {
        let mut noted = lock(&self.noted);
        let key = (repository.to_owned(), digest);
        if noted.len() < NOTED_MAX || noted.contains_key(&key) {
            noted.insert(key, now());
        }
    }

    pub async fn write(&self, catalogue: &Catalogue) -> Result<(), CatalogueError> {
        let noted = std::mem::take(&mut *lock(&self.noted));
        if noted.is_empty() {
            return Ok(());
        }
        catalogue.note_uses(noted.into_iter().collect()).await
    }

    /// Keeps a blob from being given up until this is dropped.
    pub fn read(&self, digest: Digest) -> Reading {
        *lock(&self.reading).entry(digest).or_default() += 1;
        Reading { reading: self.reading.clone(), digest }
    }

    pub fn is_read(&self, digest: Digest) -> bool {
        lock(&self.reading).contains_key(&digest)
    }
}

#[derive(Debug)]
pub struct Reading {
    reading: Arc<Mutex<HashMap<Digest, usize>>>,
    digest: Digest,
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut reading = lock(&self.reading);
        if let Some(count) = reading.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                reading.remove(&self.digest);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::digest::Algorithm;

    #[test]
    fn a_blob_is_read_as_long_as_anybody_reads_it() {
        let (uses, digest) = (Uses::default(), Digest::of(Algorithm::Sha256, b"a"));
        let (first, second) = (uses.read(digest), uses.read(digest));
        drop(first);
        assert!(uses.is_read(digest));
        drop(second);
        assert!(!uses.is_read(digest));
    }
}
