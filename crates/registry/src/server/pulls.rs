//! When manifests were last pulled: noted in memory, and written to the catalogue now and then. A crash loses the last minute,
//! which nobody misses.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::catalogue::{Catalogue, CatalogueError, now};

/// More are forgotten until the next time they are written.
const NOTED_MAX: usize = 100_000;

#[derive(Debug, Default)]
pub struct Pulls(Mutex<HashMap<i64, i64>>);

impl Pulls {
    pub fn note(&self, manifest: i64) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.len() < NOTED_MAX || noted.contains_key(&manifest) {
            noted.insert(manifest, now());
        }
    }

    pub async fn write(&self, catalogue: &Catalogue) -> Result<(), CatalogueError> {
        let noted = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if noted.is_empty() {
            return Ok(());
        }
        catalogue.note_pulls(noted.into_iter().collect()).await
    }
}
