//! Events: what happened, told to everybody who listens, with a bounded memory for those who ask later.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use corten_api::system::EventMessage;
use tokio::sync::broadcast;

/// How many past events `--since` can reach.
const REMEMBERED: usize = 4096;
/// How far a slow listener may fall behind before it loses events.
const BACKLOG: usize = 1024;

pub struct Events {
    past: Mutex<VecDeque<Arc<EventMessage>>>,
    sender: broadcast::Sender<Arc<EventMessage>>,
}

impl Default for Events {
    fn default() -> Self {
        Self { past: Mutex::default(), sender: broadcast::channel(BACKLOG).0 }
    }
}

impl Events {
    pub fn publish(&self, event: EventMessage) {
        let event = Arc::new(event);
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        if past.len() == REMEMBERED {
            past.pop_front();
        }
        past.push_back(event.clone());
        // Sent under the lock, so that nobody sees an event twice or misses one between the past and the present.
        let _ = self.sender.send(event);
    }

    /// The remembered events, oldest first, and the ones to come.
    pub fn subscribe(&self) -> (Vec<Arc<EventMessage>>, broadcast::Receiver<Arc<EventMessage>>) {
        let past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        (past.iter().cloned().collect(), self.sender.subscribe())
    }

    pub fn listeners(&self) -> usize {
        self.sender.receiver_count()
    }
}
