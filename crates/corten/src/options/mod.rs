//! The options of `run` and `create`: flags on one side, the engine's create request on the other.
//!
//! Each group of flags is a file with its clap structure and the pure function that applies it to the request. What
//! a group reads from outside (variables, files, the working directory) comes through `Outside`, so that all of it is
//! tested without an engine. Nothing here talks to one.

pub mod csv;
mod devices;
mod environment;
mod health;
mod lifecycle;
mod logging;
mod mount;
mod network;
mod ports;
mod process;
mod resources;
mod security;
mod storage;
pub mod values;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use corten_api::container::ContainerCreateRequest;

pub use environment::{EnvironmentFlags, key_values, variables};
pub use lifecycle::{PullPolicy, restart_policy};
pub use network::address as network_address;
pub use resources::ulimit;

/// Every option of `create`; `run` has a few more for its stay attached.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ContainerFlags {
    #[command(flatten)]
    pub lifecycle: lifecycle::LifecycleFlags,
    #[command(flatten)]
    pub process: process::ProcessFlags,
    #[command(flatten)]
    pub environment: EnvironmentFlags,
    #[command(flatten)]
    pub storage: storage::StorageFlags,
    #[command(flatten)]
    pub network: network::NetworkFlags,
    #[command(flatten)]
    pub resources: resources::ResourceFlags,
    #[command(flatten)]
    pub devices: devices::DeviceFlags,
    #[command(flatten)]
    pub security: security::SecurityFlags,
    #[command(flatten)]
    pub logging: logging::LoggingFlags,
    #[command(flatten)]
    pub health: health::HealthFlags,
}

/// Why an option was refused before the engine was asked.
#[derive(Debug, thiserror::Error)]
pub enum OptionError {
    #[error("invalid value {value:?} for {flag}: {why}")]
    Invalid { flag: &'static str, value: String, why: String },
    #[error("conflicting options: {0}")]
    Conflict(String),
    #[error("{flag} is not supported: {why}")]
    Unsupported { flag: &'static str, why: &'static str },
    #[error("{flag}: can't read {}: {source}", path.display())]
    File { flag: &'static str, path: PathBuf, source: std::io::Error },
}

impl OptionError {
    /// A value that can't be understood.
    pub fn invalid(flag: &'static str, value: impl Into<String>, why: impl Into<String>) -> OptionError {
        OptionError::Invalid { flag, value: value.into(), why: why.into() }
    }
}

/// What options may look at besides the command line.
pub struct Outside {
    pub variable: fn(&str) -> Option<String>,
    pub read: fn(&Path) -> std::io::Result<String>,
    pub current_dir: PathBuf,
    /// The variables of proxies that new containers get.
    pub proxies: Vec<(String, String)>,
}

impl Outside {
    /// The process's own surroundings.
    pub fn of_process() -> Outside {
        Outside {
            proxies: Vec::new(),
            variable: |name| std::env::var(name).ok(),
            read: |path| std::fs::read_to_string(path),
            current_dir: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
        }
    }

    fn read(&self, flag: &'static str, path: &str) -> Result<String, OptionError> {
        let path = PathBuf::from(path);
        (self.read)(&path).map_err(|source| OptionError::File { flag, path, source })
    }
}

impl ContainerFlags {
    /// The create request for `image` and the command behind it.
    pub fn request(
        &self,
        image: &str,
        command: &[String],
        outside: &Outside,
    ) -> Result<ContainerCreateRequest, OptionError> {
        let mut request = ContainerCreateRequest::default();
        request.config.image = image.to_owned();
        if !command.is_empty() {
            request.config.cmd = command.to_vec().into();
        }
        self.lifecycle.apply(&mut request)?;
        self.process.apply(&mut request)?;
        self.environment.apply(&mut request, outside)?;
        self.storage.apply(&mut request, outside)?;
        self.network.apply(&mut request)?;
        self.resources.apply(&mut request)?;
        self.devices.apply(&mut request)?;
        self.security.apply(&mut request, outside)?;
        self.logging.apply(&mut request)?;
        self.health.apply(&mut request)?;
        Ok(request)
    }
}
