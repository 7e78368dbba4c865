//! BuildKit's protocol: `docker build` with buildx, `docker buildx`, `docker compose build` and `buildctl` speak it.
//!
//! A client makes two connections. On one it calls (`controller`): it asks for a build, drives it over the bridge, watches its progress.
//! On the other one roles are turned around (`session`): the engine calls the client, for files (`tree`), secrets, passwords, an SSH
//! agent, and to hand over what was made. Both are HTTP/2 without TLS of its own, on streams that others have opened.
//!
//! A build that Docker's API asks for has the second connection alone, or none (`controller::posted`).
//!
//! Knows nothing of how a build is done (`builder` is what it asks of whoever does), and nothing of HTTP/1 and of Docker's API but how Go
//! writes times.

mod asker;
mod attributes;
mod board;
mod bridge;
mod builder;
mod content;
mod controller;
mod csv;
mod failure;
mod filters;
mod grpc;
mod ignorefile;
mod image_form;
mod jobs;
mod linked;
mod output;
mod promise;
mod session;
mod step;
mod tree;
mod wire;

pub use asker::Asker;
pub use builder::{Builder, Built, Image, Job, Manifest, Past, Prune, Recording, Usage, Worker};
pub use content::{ContentConnection, RemoteContent, serve_content};
pub use controller::{Controller, Files, Posted};
pub use filters::Filters;
pub use output::{Form, Output};
pub use promise::Promise;
pub use session::{FileSender, Reservation, SessionError};
pub use tree::{KeptContext, Store};
