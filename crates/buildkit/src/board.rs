//! What is known of a build's progress, for all who want to watch it: everything so far, then what comes. Bounded: of what a step
//! prints the beginning is kept, and a note that there was more.

use crate::failure::Source;
use crate::wire::control::{StatusResponse, Vertex, VertexLog, VertexStatus, VertexWarning};
use crate::wire::ops::{Position, Range, SourceInfo};
use corten_build::{Clip, Event, Stream as Output};
use corten_image::Digest;
use futures_util::Stream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Events besides the output: states of steps and transfers.
const EVENTS_MAX: usize = 1 << 20;

/// One build's progress.
#[derive(Default)]
pub struct Board {
    /// Tells its steps from those of other builds, which clients may watch at the same time.
    reference: String,
    known: Mutex<Known>,
    /// How many responses there are; and whether these are all.
    length: watch::Sender<(usize, bool)>,
}

#[derive(Default)]
struct Known {
    responses: Vec<Arc<StatusResponse>>,
    clip: Clip,
}

impl Board {
    pub fn of(reference: &str) -> Self {
        Self { reference: reference.to_owned(), ..Self::default() }
    }

    /// Adds an event. `source` is the Dockerfile that warnings point into.
    pub fn add(&self, event: Event, source: Option<&Source>) {
        let response = match event {
            Event::Vertex(vertex) => {
                StatusResponse { vertexes: vec![self.step(vertex)], ..Default::default() }
            }
            Event::Status(status) => {
                StatusResponse { statuses: vec![self.transfer(status)], ..Default::default() }
            }
            Event::Warning(found) => {
                StatusResponse { warnings: vec![self.warning(found, source)], ..Default::default() }
            }
            // Nobody asks for it this way.
            Event::Failed(_) => return,
            Event::Log(log) => {
                let Some(bytes) = self.known().clip.keep(log.vertex, log.bytes) else { return };
                let line = VertexLog {
                    vertex: self.id(log.vertex),
                    timestamp: Some(log.at.into()),
                    stream: match log.stream {
                        Output::Stdout => 1,
                        Output::Stderr => 2,
                    },
                    msg: bytes,
                };
                StatusResponse { logs: vec![line], ..Default::default() }
            }
        };
        let mut known = self.known();
        if known.responses.len() < EVENTS_MAX {
            known.responses.push(Arc::new(response));
            let length = known.responses.len();
            drop(known);
            self.length.send_modify(|known| known.0 = length);
        }
    }

    /// Nothing more comes.
    pub fn close(&self) {
        self.length.send_modify(|known| known.1 = true);
    }

    /// Everything from the beginning, until the build has ended.
    pub fn watch(self: Arc<Self>) -> impl Stream<Item = StatusResponse> + Send {
        let length = self.length.subscribe();
        futures_util::stream::unfold((self, length, 0), |(board, mut length, at)| async move {
            // An error can't be: the board holds the other end.
            let (known, _) = *length.wait_for(|&(known, ended)| known > at || ended).await.ok()?;
            if known <= at {
                return None;
            }
            let response = board.known().responses.get(at).cloned()?;
            Some((StatusResponse::clone(&response), (board, length, at + 1)))
        })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn id(&self, vertex: Digest) -> String {
        Digest::of(format!("{} {vertex}", self.reference).as_bytes()).to_string()
    }

    fn step(&self, vertex: corten_build::Vertex) -> Vertex {
        Vertex {
            digest: self.id(vertex.id),
            inputs: vertex.inputs.into_iter().map(|input| self.id(input)).collect(),
            name: vertex.name,
            cached: vertex.is_cached,
            started: vertex.started.map(Into::into),
            completed: vertex.completed.map(Into::into),
            error: vertex.error.unwrap_or_default(),
            progress_group: None,
        }
    }

    fn transfer(&self, status: corten_build::Status) -> VertexStatus {
        let bytes = |count| i64::try_from(count).unwrap_or(i64::MAX);
        VertexStatus {
            id: status.id,
            vertex: self.id(status.vertex),
            name: String::new(),
            current: bytes(status.current_bytes),
            total: bytes(status.total_bytes),
            timestamp: Some(std::time::SystemTime::now().into()),
            started: Some(status.started.into()),
            completed: status.completed.map(Into::into),
        }
    }

    fn warning(&self, found: corten_build::Warning, source: Option<&Source>) -> VertexWarning {
        let line = |line| Some(Position { line: i32::try_from(line).unwrap_or(i32::MAX), character: 0 });
        let range = |(first, last)| Range { start: line(first), end: line(last) };
        VertexWarning {
            vertex: found.vertex.map(|vertex| self.id(vertex)).unwrap_or_default(),
            level: 1,
            short: found.short.into_bytes(),
            detail: found.detail.into_iter().map(String::into_bytes).collect(),
            url: found.url,
            info: source.map(|source| SourceInfo {
                filename: source.filename.clone(),
                data: source.text.clone(),
                language: "Dockerfile".into(),
            }),
            ranges: found.lines.map(range).into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;

    #[tokio::test]
    async fn the_same_step_of_two_builds_is_two() {
        let told = async |reference: &str| {
            let board = Arc::new(Board::of(reference));
            for (step, inputs) in [("one", vec![]), ("two", vec![Digest::of(b"one")])] {
                board.add(
                    Event::Vertex(corten_build::Vertex {
                        id: Digest::of(step.as_bytes()),
                        inputs,
                        name: step.to_owned(),
                        started: None,
                        completed: None,
                        is_cached: false,
                        error: None,
                    }),
                    None,
                );
            }
            board.close();
            let all: Vec<StatusResponse> = board.watch().collect().await;
            all.into_iter().flat_map(|response| response.vertexes).collect::<Vec<_>>()
        };
        let (first, second) = (told("a").await, told("b").await);
        assert_eq!(first[1].inputs, [first[0].digest.clone()]);
        assert_ne!(first[0].digest, second[0].digest);
        assert_eq!(told("a").await, first);
    }
}
