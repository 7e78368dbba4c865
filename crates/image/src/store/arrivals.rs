//! Blobs that somebody is bringing: nobody else brings them meanwhile.
//!
//! Several images that are fetched at once often have layers in common. Whoever comes first brings such a layer, the others wait and
//! take what came.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Store;
use crate::archive::TakenLayer;
use crate::digest::Digest;
use crate::error::Error;

#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    /// None while it is on its way.
    brought: Mutex<HashMap<Digest, Option<TakenLayer>>>,
    changed: Condvar,
}

/// The right to bring a blob. What was brought is there for others as long as this lives.
pub(crate) struct Claim<'a> {
    arrivals: &'a Arrivals,
    digest: Digest,
}

impl Arrivals {
    fn table(&self) -> MutexGuard<'_, HashMap<Digest, Option<TakenLayer>>> {
        self.brought.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to bring a blob or, after a while, the layer that somebody else made of it.
    pub(crate) fn claim(&self, digest: Digest) -> Result<Claim<'_>, TakenLayer> {
        let mut table = self.table();
        loop {
            match table.get(&digest) {
                None => {
                    table.insert(digest, None);
                    return Ok(Claim { arrivals: self, digest });
                }
                Some(Some(layer)) => return Err(layer.clone()),
                Some(None) => table = self.changed.wait(table).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

impl Store {
    /// Removes what came of blobs that nobody is bringing now. Returns the bytes that came back.
    pub fn discard_partial(&self) -> Result<u64, Error> {
        // Nobody begins meanwhile.
        let table = self.arrivals.table();
        Ok(self.blobs.discard_partial(Duration::ZERO, &|digest| table.contains_key(digest))?)
    }
}

impl Claim<'_> {
    /// Tells the others.
    pub(crate) fn brought(&mut self, layer: TakenLayer) {
        self.arrivals.table().insert(self.digest, Some(layer));
        self.arrivals.changed.notify_all();
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.arrivals.table().remove(&self.digest);
        self.arrivals.changed.notify_all();
    }
}
