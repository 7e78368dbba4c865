//! A registry of one's own: what answers other clients (OCI distribution specification 1.1). Knows nothing of the engine, nor of
//! how registries are asked.
//!
//! A request comes in at [`serve`], passes the [`gate`], and is handled by one of [`handlers`], which work with a [`registry`]:
//! [`storage`] has the bytes of blobs, [`catalogue`] knows what there is. `docs/registry-server.md` describes what lies on the
//! disk and what a crash leaves of it.

pub mod access;
mod body;
mod cache;
mod catalogue;
mod collect;
mod control;
mod digest;
mod gate;
mod handlers;
mod linger;
mod live;
mod manifest;
mod metrics;
mod name;
mod pulls;
mod quota;
mod refusal;
mod registry;
mod reload;
mod retention;
mod route;
mod run;
mod serve;
mod settings;
mod sharing;
mod storage;
mod uploads;
mod web;
mod webhooks;
mod wire;

pub use collect::{Collected, What};
pub use control::{AskError, Request as CollectRequest};
pub use quota::Usage;
pub use reload::Source;
pub use retention::Retired;
pub use run::{ServeError, collect, reload, restore, retired, run, usage};
pub use settings::{CollectionConfig, Config, DEFAULT_CONFIG, DEFAULT_DATA, SettingsError, Sparse, duration};

#[cfg(test)]
mod tests;
