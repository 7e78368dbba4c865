//! The Docker Engine API as types: what goes over the wire, by noun, and a client for it.
//!
//! Answers are written as Docker's own server writes them: `null`, `[]`, `{}`, `""` and absence are facts of the
//! format (see `json::List` and `json::Map`). Requests are read leniently with `json::from_slice`.
//! Knows nothing of the engine.

pub mod archive;
pub mod auth;
pub mod base64;
pub mod build;
#[cfg(feature = "client")]
pub mod client;
pub mod container;
pub mod dependencies;
pub mod disk;
pub mod error;
pub mod event;
pub mod exec;
pub mod filters;
mod host_config;
pub mod image;
pub mod json;
pub mod mount;
pub mod network;
pub mod stats;
pub mod stream;
pub mod system;
pub mod time;
pub mod volume;

pub use filters::Filters;
pub use json::{Empty, List, Map};
pub use time::Timestamp;

/// The newest version of the API that we speak.
pub const API_VERSION: &str = "1.55";
/// The oldest version of the API that we speak.
pub const API_VERSION_MIN: &str = "1.24";
