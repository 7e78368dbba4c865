//! Builds images: a Dockerfile becomes a graph of steps, the steps are executed or found in the cache, and what they
//! leave is an image.
//!
//! Knows nothing of HTTP: whoever asks for a build brings the context and takes the progress and the outputs.

mod accounts;
mod archive;
mod attest;
mod base64;
mod bases;
mod build;
mod cache;
mod clip;
mod content;
mod context;
mod copy;
pub mod dockerfile;
mod error;
pub mod ignore;
mod ignored;
mod image_form;
mod input;
mod key;
mod material;
mod pattern;
mod platform;
mod progress;
mod provenance;
mod question;
mod remote;
mod remote_context;
mod repository;
mod request;
mod run;
mod sbom;
mod secrets;
mod stage;
mod stages;
mod state;
mod tree_layer;
mod variables;
mod vertex;
mod worker;

pub use attest::{Attestations, Predicate, Subject};
pub use base64::base64;
pub use bases::FindImage;
pub use build::{Built, Outcome, build};
pub use cache::{
    CacheOptionError, CachePlace, CacheSource, CacheTarget, DoneStep, MountChoice, UsedMount, client_store,
    listed,
};
pub use clip::Clip;
pub use content::{Content, ContentPieces, ContentWriter};
pub use context::{CONTEXT, DEFINITION, definition};
pub use error::{Error, Result};
pub use image_form::{Annotations, ImageForm};
pub use input::Input;
pub use material::{Material, MaterialKind};
pub use progress::{EVENTS_MAX, Event, Log, Status, Stream, Teller, Vertex, Warning};
pub use question::{Answer, Question};
pub use remote_context::{Origin, RemoteContext, is_remote, remote_context};
pub use repository::{Repository, is_commit};
pub use request::{Asker, Debug, Definition, Limits, Login, NamedContext, Network, NoCache, Options, Tree};
pub use sbom::{SbomFormat, document as sbom, inventory};
pub use state::State;
pub use vertex::Told;
pub use worker::{
    Agent, AgentLine, CacheDirectory, CacheWish, Elsewhere, FETCHED, Fetched, MountSource, Output, Ran,
    RunStep, StepMount, Worker,
};

/// Runs what takes the disk or the processor for a while, off the threads that serve everybody.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(panic) if panic.is_panic() => std::panic::resume_unwind(panic.into_panic()),
        Err(_) => Err(Error::Canceled),
    }
}
