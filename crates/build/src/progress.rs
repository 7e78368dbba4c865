//! What is told of a build while it goes on: its steps, what they print, what is being moved, and warnings.
//!
//! The shapes are those that people know from BuildKit's progress: a step is a *vertex* that starts, may be found in the cache,
//! and completes, perhaps with an error.

use std::time::SystemTime;

use corten_image::Digest;
use tokio::sync::mpsc;

/// How many events may wait for a client that reads slowly; then the steps wait for it.
pub const EVENTS_MAX: usize = 1024;

/// The end into which a build tells what goes on. Whoever has the other end has a build that ends with it.
pub type Teller = mpsc::Sender<Event>;

#[derive(Clone, Debug)]
pub enum Event {
    /// A step, or its newer state.
    Vertex(Vertex),
    Log(Log),
    Status(Status),
    Warning(Warning),
    /// The container of a program that has failed awaits a shell, where the asker has wished for that ([`crate::Debug`]).
    Failed(String),
}

/// A step of the build.
#[derive(Clone, Debug)]
pub struct Vertex {
    /// The same for all events of the step; of the step's place in this build, not of its cache key.
    pub id: Digest,
    pub inputs: Vec<Digest>,
    /// `[stage 2/5] RUN make`
    pub name: String,
    pub started: Option<SystemTime>,
    pub completed: Option<SystemTime>,
    pub is_cached: bool,
    /// Why the step failed; its last state.
    pub error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// What a step's program printed.
#[derive(Clone, Debug)]
pub struct Log {
    pub vertex: Digest,
    pub stream: Stream,
    pub bytes: Vec<u8>,
    pub at: SystemTime,
}

/// How far a part of a step is: a blob on its way, the context.
#[derive(Clone, Debug)]
pub struct Status {
    pub vertex: Digest,
    /// Of the part, within the step.
    pub id: String,
    pub current_bytes: u64,
    /// 0: not known.
    pub total_bytes: u64,
    pub started: SystemTime,
    pub completed: Option<SystemTime>,
}

/// What a build check found.
#[derive(Clone, Debug)]
pub struct Warning {
    pub vertex: Option<Digest>,
    /// The check: `StageNameCasing`.
    pub rule: String,
    pub short: String,
    pub detail: Vec<String>,
    pub url: String,
    /// First and last line in the Dockerfile, from 1.
    pub lines: Option<(usize, usize)>,
}
