//! Which registry a command is about: its configuration file, its directory.

use std::path::PathBuf;

use corten_registry::server::access::{
    explained, htpasswd::HtpasswdError, now_s, store::Store, store::StoreError,
};
use corten_registry::server::{Config, DEFAULT_DATA};
use jiff::Timestamp;

use super::serve::failure;
use crate::cli::Failure;

#[derive(Clone, Debug, clap::Args)]
pub struct Place {
    /// Configuration file [default: /etc/corten/registry.json, if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The registry's directory [default: as configured, or /var/lib/corten-registry]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl Place {
    /// The registry's directory.
    pub fn data(self) -> Result<PathBuf, Failure> {
        match self.data {
            Some(data) => Ok(data),
            None => Ok(config(self.config)?.data.unwrap_or_else(|| DEFAULT_DATA.into())),
        }
    }

    /// Opens what the registry knows people by; it may run meanwhile.
    pub fn store(self) -> Result<Store, Failure> {
        let data = self.data()?;
        Store::open(&data).map_err(|error| {
            let missing = !data.exists();
            let failed = Failure::from(error);
            if missing {
                failed.hint("start the registry first, or name its directory with --data")
            } else {
                failed
            }
        })
    }
}

/// The file of users.
pub fn htpasswd(file: Option<PathBuf>, config_file: Option<PathBuf>) -> Result<PathBuf, Failure> {
    if let Some(file) = file {
        return Ok(file);
    }
    config(config_file)?.access.and_then(|access| access.htpasswd).ok_or_else(|| {
        Failure::new("the configuration names no file of users")
            .hint("set access.htpasswd there, or name the file with --file")
    })
}

fn config(file: Option<PathBuf>) -> Result<Config, Failure> {
    Config::read(file.as_deref()).map_err(|error| failure(error.into()))
}

/// A time as lists show it.
pub fn shown(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map(|time| time.to_string()).unwrap_or_default()
}

pub fn ago(seconds: u64) -> String {
    let passed = i64::try_from(now_s().saturating_sub(seconds)).unwrap_or(i64::MAX);
    format!("{} ago", crate::format::duration::words(passed))
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        let failure = Failure::new(explained(&error));
        match error {
            StoreError::NoRobot(_) => failure.hint("`corten registry robot ls` lists them"),
            _ => failure,
        }
    }
}

impl From<HtpasswdError> for Failure {
    fn from(error: HtpasswdError) -> Failure {
        let failure = Failure::new(explained(&error));
        match error {
            HtpasswdError::NoUser { .. } => failure.hint("`corten registry user ls` lists them"),
            _ => failure,
        }
    }
}
