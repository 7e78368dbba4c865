//! Connections that a build asks its client for: it tells the client a number, and whoever comes back with it is connected.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::Engine;
use crate::error::{Error, Result};

type Waiting<T> = Arc<Mutex<HashMap<String, oneshot::Sender<T>>>>;

/// What a client brings: a connection, out of HTTP.
pub type Brought = Box<dyn corten_build::AgentLine>;

/// Those that are waited for, by their secret number.
#[derive(Default)]
pub struct Callbacks {
    waiting: Waiting<Brought>,
}

/// One that is waited for; dropped, it is not any more.
pub struct Callback {
    /// Random: only who was told can know it.
    pub number: String,
    brought: oneshot::Receiver<Brought>,
    waiting: Waiting<Brought>,
}

impl Engine {
    /// Begins to wait for a connection.
    pub fn build_callback(&self) -> Callback {
        let (number, waiting) = (crate::id::random(), self.builds.callbacks.waiting.clone());
        let (sender, brought) = oneshot::channel();
        waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(number.clone(), sender);
        Callback { number, brought, waiting }
    }

    /// Who waits for the connection with that number; gives the function that hands it over.
    pub fn build_call_back(&self, number: &str) -> Result<impl FnOnce(Brought) + Send + use<>> {
        let waiting = &self.builds.callbacks.waiting;
        let found = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(number);
        let sender = found.ok_or_else(|| {
            Error::not_found("no build waits for this connection: it has ended, or has it already")
        })?;
        // Whoever has waited may be gone by now: the connection is closed then.
        Ok(move |brought| drop(sender.send(brought)))
    }
}

impl Callback {
    /// The connection; none when it can't come any more.
    pub async fn brought(mut self) -> Option<Brought> {
        (&mut self.brought).await.ok()
    }
}

impl Drop for Callback {
    fn drop(&mut self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}
