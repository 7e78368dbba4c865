//! What may be replaced while the registry runs: its settings, and who is let in. Replaced as a whole, so that nobody ever sees one
//! half of a configuration; a request goes on with what it began with.

use std::sync::Arc;

use tokio::sync::watch;

use super::gate::Gate;
use super::settings::Settings;

/// What counts now.
#[derive(Clone, Debug)]
pub struct Live {
    pub settings: Arc<Settings>,
    pub gate: Gate,
}

/// The place where that is. Whoever waits for long subscribes, and hears of another one.
#[derive(Debug)]
pub struct Current(watch::Sender<Live>);

impl Current {
    pub fn new(live: Live) -> Current {
        Current(watch::channel(live).0)
    }

    pub fn live(&self) -> Live {
        self.0.borrow().clone()
    }

    pub fn replace(&self, live: Live) {
        // Out of the lock: what goes may have a file to close.
        drop(self.0.send_replace(live));
    }

    pub fn subscribe(&self) -> watch::Receiver<Live> {
        self.0.subscribe()
    }
}
