//! The configuration file: Docker's daemon.json. Every key is either applied, without effect here (said as a warning), or
//! refused; none is ignored silently. What each means is in `config/keys.rs`.

mod keys;
#[cfg(test)]
mod tests;

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("read the configuration file {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("configuration file {path}: {source}")]
    Syntax { path: PathBuf, source: serde_json::Error },
    #[error(
        "unable to configure the daemon with file {path}: the following directives don't match any configuration \
         option: {keys}"
    )]
    Unknown { path: PathBuf, keys: String },
    #[error("configuration file {path}: {key}: {why}")]
    Value { path: PathBuf, key: String, why: String },
}

/// The settings of a file; what it doesn't name is none or empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    pub data_root: Option<PathBuf>,
    pub exec_root: Option<PathBuf>,
    pub hosts: Vec<String>,
    pub group: Option<String>,
    pub pidfile: Option<PathBuf>,
    pub debug: bool,
    pub log_level: Option<String>,
    /// `"tls": false` in so many words: TCP without TLS is wished for.
    pub insecure_tcp: bool,
    pub bip: Option<String>,
    pub bridge: Option<String>,
    pub fixed_cidr: Option<String>,
    pub mtu: Option<u32>,
    /// Where published ports listen when nobody says.
    pub ip: Option<std::net::IpAddr>,
    pub storage_driver: Option<String>,
    pub log_driver: Option<String>,
    pub log_opts: BTreeMap<String, String>,
    /// Name, soft, hard.
    pub default_ulimits: Vec<(String, i64, i64)>,
    pub default_shm_size: Option<i64>,
    pub dns: Vec<String>,
    pub dns_search: Vec<String>,
    pub dns_opts: Vec<String>,
    pub labels: Vec<String>,
    pub init: bool,
    pub no_new_privileges: bool,
    /// A path, `builtin` or `unconfined`.
    pub seccomp_profile: Option<String>,
    pub cgroup_parent: Option<String>,
    /// What is set but has no effect, in sentences.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads a file; one that isn't there is an empty configuration unless it is `wanted`.
    pub fn read(path: &Path, wanted: bool) -> Result<Self, ConfigError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !wanted => {
                return Ok(Self::default());
            }
            Err(source) => return Err(ConfigError::Read { path: path.into(), source }),
        };
        Self::parse(path, &text)
    }

    /// Reads a file's text; `path` is for messages.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let given: BTreeMap<String, Value> =
            serde_json::from_str(text).map_err(|source| ConfigError::Syntax { path: path.into(), source })?;
        let mut config = Self::default();
        let mut unknown = Vec::new();
        for (key, value) in given {
            let outcome = match keys::KEYS.iter().find(|(name, _)| *name == key) {
                Some((_, effect)) => effect(&mut config, &key, value),
                None => {
                    unknown.push(key);
                    continue;
                }
            };
            outcome.map_err(|why| ConfigError::Value { path: path.into(), key, why })?;
        }
        if !unknown.is_empty() {
            return Err(ConfigError::Unknown { path: path.into(), keys: unknown.join(", ") });
        }
        Ok(config)
    }
}
