//! How the layers of an image come on, told to the client that waits for it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use corten_api::stream::{JsonMessage, JsonProgress};
use corten_image::Digest;
use corten_image::manifest::Descriptor;
use tokio::sync::mpsc::Sender;

use super::signed;

/// How often the bytes of a layer are told.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// For threads: it blocks while the client does not read.
pub(crate) struct Report {
    messages: Sender<JsonMessage>,
    /// When the bytes of a layer were told last.
    told: Mutex<HashMap<Digest, Instant>>,
}

impl Report {
    pub(crate) fn new(messages: Sender<JsonMessage>) -> Self {
        Self { messages, told: Mutex::default() }
    }

    /// What a layer has come to.
    pub(crate) fn state(&self, layer: &Descriptor, status: &str) {
        let (id, progress_detail) = (layer.digest.short(), Some(JsonProgress::default()));
        let _ =
            self.messages.blocking_send(JsonMessage { id, progress_detail, ..JsonMessage::status(status) });
    }

    /// So many of a layer's bytes have gone by. They are for whoever has time to read them; only what has happened may wait.
    pub(crate) fn bytes(&self, layer: &Descriptor, status: &str, bytes: i64) {
        if self.is_time(&layer.digest) {
            let message = JsonMessage::progress(layer.digest.short(), status, bytes, signed(layer.size));
            let _ = self.messages.try_send(message);
        }
    }

    fn is_time(&self, layer: &Digest) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match told.get_mut(layer) {
            Some(last) if now.duration_since(*last) < TELL_EVERY => false,
            Some(last) => {
                *last = now;
                true
            }
            None => {
                told.insert(*layer, now);
                true
            }
        }
    }
}
