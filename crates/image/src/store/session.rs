//! Who may delete files when: nothing is deleted while somebody is bringing content in.
//!
//! A load finds a layer on the disk, relies on it, and names it in the database only at its end. Would an image's
//! removal delete the layer meanwhile, the load would commit an image without it. So bringing content in is a
//! session, and content without an owner goes when no session is open: at once in the common case.

use std::sync::PoisonError;

use super::Store;
use crate::digest::{DiffId, Digest};
use crate::metadata::Garbage;

#[derive(Debug, Default)]
pub(super) struct Sessions {
    active: usize,
    /// What may have no owner. Whether it has one is asked of the database when the last session ends.
    candidates: Garbage,
}

/// As long as this lives, no layer and no blob is deleted.
pub(crate) struct Session<'a> {
    store: &'a Store,
}

impl Session<'_> {
    /// A layer was written: it goes when the session ends, unless an image owns it then.
    pub(crate) fn brought_layer(&self, id: DiffId) {
        self.store.sessions.lock().unwrap_or_else(PoisonError::into_inner).candidates.layers.push(id);
    }

    /// A blob was put in its place: it goes when the session ends, unless an image owns it then.
    pub(crate) fn brought_blob(&self, digest: Digest) {
        self.store.sessions.lock().unwrap_or_else(PoisonError::into_inner).candidates.blobs.push(digest);
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.store.end_session();
    }
}

impl Store {
    pub(crate) fn session(&self) -> Session<'_> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).active += 1;
        Session { store: self }
    }

    fn end_session(&self) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.active -= 1;
        self.collect(&mut sessions);
    }

    /// Deletes files whose rows are gone, now or when the last session ends.
    pub(crate) fn discard(&self, garbage: Garbage) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.candidates.blobs.extend(garbage.blobs);
        sessions.candidates.layers.extend(garbage.layers);
        self.collect(&mut sessions);
    }

    /// Runs with the sessions locked, so that no session starts between the question and the deletion.
    fn collect(&self, sessions: &mut Sessions) {
        if sessions.active > 0 {
            return;
        }
        let candidates = std::mem::take(&mut sessions.candidates);
        for digest in candidates.blobs {
            let owned = self.writer().blob(&digest).map(|row| row.is_some_and(|row| row.stored));
            if matches!(owned, Ok(false))
                && let Err(error) = self.blobs.remove(&digest)
            {
                tracing::warn!(%digest, %error, "a blob without owner stays until the next start");
            }
        }
        for id in candidates.layers {
            if matches!(self.writer().layer(&id), Ok(None)) {
                self.delete_layer(id);
            }
        }
    }

    fn delete_layer(&self, id: DiffId) {
        let mounts = self.mounts.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(mounts) = mounts.and_then(|mounts| mounts.upgrade())
            && let Err(error) = mounts.unmount(&id)
        {
            tracing::warn!(%id, %error, "a layer without owner stays mounted until the engine ends");
        }
        if let Err(error) = self.layers.remove(&id) {
            tracing::warn!(%id, %error, "a layer without owner stays until the next start");
        }
    }
}
