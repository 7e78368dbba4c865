//! What a client sends, as a step of its build that people see.

use corten_build::{Error, Event, Result, Status, Teller, Vertex};
use corten_image::Digest;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// How often one hears how far a transfer is.
const REPORT: Duration = Duration::from_millis(150);

/// A transfer that people see as a step of the build.
pub struct Step<'s> {
    teller: &'s Teller,
    vertex: Vertex,
}

impl<'s> Step<'s> {
    /// `reference` tells this build's steps from another's.
    pub fn new(teller: &'s Teller, reference: &str, name: &str) -> Self {
        let vertex = Vertex {
            id: Digest::of(format!("{reference} {name}").as_bytes()),
            inputs: Vec::new(),
            name: name.to_owned(),
            started: Some(SystemTime::now()),
            completed: None,
            is_cached: false,
            error: None,
        };
        Self { teller, vertex }
    }

    /// Transfers; whoever does it counts the bytes.
    pub async fn run<T, F: Future<Output = Result<T>>>(
        mut self,
        label: &str,
        transfer: impl FnOnce(Arc<AtomicU64>) -> F,
    ) -> Result<T> {
        let begun = self.vertex.started.unwrap_or_else(SystemTime::now);
        self.tell(Event::Vertex(self.vertex.clone())).await?;
        let received = Arc::new(AtomicU64::new(0));
        let status = |completed| {
            Event::Status(Status {
                vertex: self.vertex.id,
                id: label.to_owned(),
                current_bytes: received.load(Ordering::Relaxed),
                total_bytes: 0,
                started: begun,
                completed,
            })
        };
        let transfer = transfer(received.clone());
        tokio::pin!(transfer);
        let mut ticks = tokio::time::interval(REPORT);
        let done = loop {
            tokio::select! {
                done = &mut transfer => break done,
                // One that finds no room is not missed: the next one says more.
                _ = ticks.tick() => drop(self.teller.try_send(status(None))),
            }
        };
        let completed = SystemTime::now();
        self.tell(status(Some(completed))).await?;
        self.vertex.completed = Some(completed);
        self.vertex.error = done.as_ref().err().map(ToString::to_string);
        self.tell(Event::Vertex(self.vertex.clone())).await?;
        done
    }

    async fn tell(&self, event: Event) -> Result<()> {
        self.teller.send(event).await.map_err(|_| Error::Canceled)
    }
}
