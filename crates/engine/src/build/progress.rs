//! What a pull tells, as a build tells it.

use std::collections::HashMap;
use std::time::SystemTime;

use corten_api::stream::JsonMessage;
use corten_build::{Event, Status, Teller};
use corten_image::Digest;
use tokio::sync::mpsc::{Sender, channel};

/// Messages of a pull that wait to be told on.
const MESSAGES_MAX: usize = 64;

/// An end for a pull's messages; each becomes a status of the step.
pub fn statuses(teller: Teller, vertex: Digest) -> Sender<JsonMessage> {
    let (sender, mut messages) = channel::<JsonMessage>(MESSAGES_MAX);
    tokio::spawn(async move {
        let mut begun: HashMap<String, SystemTime> = HashMap::new();
        while let Some(message) = messages.recv().await {
            let Some(detail) = &message.progress_detail else { continue };
            let bytes = |number: i64| u64::try_from(number).unwrap_or(0);
            let id = format!("{} {}", message.status.to_lowercase(), message.id);
            let started = *begun.entry(id.clone()).or_insert_with(SystemTime::now);
            let (current_bytes, total_bytes) = (bytes(detail.current), bytes(detail.total));
            let is_over = total_bytes > 0 && current_bytes >= total_bytes;
            let completed = is_over.then(SystemTime::now);
            let status = Status { vertex, id, current_bytes, total_bytes, started, completed };
            if teller.send(Event::Status(status)).await.is_err() {
                return;
            }
        }
    });
    sender
}
