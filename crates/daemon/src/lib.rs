//! The daemon: the Docker Engine API over HTTP on one engine. `http` is the protocol, `routes` the table of endpoints,
//! `handlers` what they do, `hijack` and `bridge` the ways out of request and answer, `listen` and `server` the sockets,
//! `config` and `settings` how it is set up. Knows no system calls, and decides nothing about containers.

mod bridge;
mod buildkit;
mod config;
mod daemon;
mod handlers;
mod hijack;
mod http;
mod listen;
mod log;
mod measure;
mod reload;
mod routes;
mod server;
mod settings;
mod shape;
mod tls;

pub use config::{ConfigError, Directives};
pub use daemon::{DaemonError, run, serve};
pub use listen::ListenError;
pub use log::start_named as start_log;
pub use settings::{
    DEFAULT_CONFIG, DEFAULT_DATA_ROOT, DEFAULT_EXEC_ROOT, DaemonOptions, Settings, SettingsError,
};
