//! Tells of a step while it is done: once when it starts, once when it is over.

use std::time::SystemTime;

use corten_image::Digest;

use crate::error::{Error, Result};
use crate::progress::{Event, Log, Status, Stream, Teller, Vertex};

/// A step that was told of.
#[derive(Clone)]
pub struct Told {
    teller: Teller,
    vertex: Vertex,
}

impl Told {
    /// A step without which `inputs` others can't be; nothing is told yet.
    pub fn new(teller: &Teller, id: Digest, name: String, inputs: Vec<Digest>) -> Told {
        let vertex =
            Vertex { id, inputs, name, started: None, completed: None, is_cached: false, error: None };
        Told { teller: teller.clone(), vertex }
    }

    pub fn id(&self) -> Digest {
        self.vertex.id
    }

    pub async fn start(&mut self) -> Result<()> {
        self.vertex.started = Some(SystemTime::now());
        tell(&self.teller, Event::Vertex(self.vertex.clone())).await
    }

    /// It was found in the cache.
    pub async fn cached(&mut self) -> Result<()> {
        let now = SystemTime::now();
        self.vertex.started.get_or_insert(now);
        (self.vertex.completed, self.vertex.is_cached) = (Some(now), true);
        tell(&self.teller, Event::Vertex(self.vertex.clone())).await
    }

    pub async fn end<T>(&mut self, outcome: Result<T>) -> Result<T> {
        if let Err(error) = &outcome
            && matches!(error.cause(), Error::Lost)
        {
            // It is not over: it will be told of again.
            return outcome;
        }
        self.vertex.completed = Some(SystemTime::now());
        self.vertex.error = outcome.as_ref().err().map(ToString::to_string);
        tell(&self.teller, Event::Vertex(self.vertex.clone())).await?;
        outcome
    }

    pub async fn log(&self, stream: Stream, bytes: Vec<u8>) {
        let log = Log { vertex: self.vertex.id, stream, bytes, at: SystemTime::now() };
        // Nobody listens any more: the build is about to end.
        let _ = tell(&self.teller, Event::Log(log)).await;
    }

    /// A part of the step that was over when it was told of.
    pub async fn done(&self, id: String, bytes: u64, started: SystemTime) -> Result<()> {
        let completed = Some(SystemTime::now());
        let (vertex, total_bytes) = (self.vertex.id, bytes);
        let status = Status { vertex, id, current_bytes: bytes, total_bytes, started, completed };
        tell(&self.teller, Event::Status(status)).await
    }
}

pub async fn tell(teller: &Teller, event: Event) -> Result<()> {
    teller.send(event).await.map_err(|_| Error::Canceled)
}
