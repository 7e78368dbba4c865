//! The configuration file: Docker's daemon.json. Every key is either applied, without effect here (said as a warning), or
//! refused; none is ignored silently. What each means is in `config/keys.rs`.

mod builder;
mod keys;
#[cfg(test)]
mod tests;

use crate::log::LogFormat;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Keys of the file with their values.
pub type Directives = BTreeMap<String, Value>;

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
    #[error("flag --{flag}: {why}")]
    Flag { flag: String, why: String },
    #[error(
        "the following directives are specified both as a flag and in the configuration file: {0}; keep one of the two"
    )]
    Twice(String),
}

/// The settings of a file and of the flags; what neither names is none or empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    pub data_root: Option<PathBuf>,
    pub exec_root: Option<PathBuf>,
    pub hosts: Vec<String>,
    pub group: Option<String>,
    pub pidfile: Option<PathBuf>,
    pub debug: bool,
    pub log_level: Option<String>,
    pub log_format: LogFormat,
    /// `address:port`.
    pub metrics_addr: Option<String>,
    /// `"tls": false` in so many words: TCP without TLS is wished for.
    pub insecure_tcp: bool,
    pub tls: bool,
    pub tls_verify: bool,
    pub tls_ca_cert: Option<PathBuf>,
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    pub network: corten_engine::NetworkOptions,
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
    /// Name, program, arguments.
    pub runtimes: BTreeMap<String, (PathBuf, Vec<String>)>,
    pub default_runtime: Option<String>,
    pub insecure_registries: corten_engine::InsecureRegistries,
    pub mirrors: corten_engine::Mirrors,
    pub signatures: corten_engine::SignaturePolicy,
    /// None: what suits the disk.
    pub build_cache: Option<Vec<corten_engine::CacheRule>>,
    /// As they are written; what the environment says counts where these are absent.
    pub http_proxy: Option<String>,
    pub https_proxy: Option<String>,
    pub no_proxy: Option<String>,
    /// What is set but has no effect, in sentences.
    pub warnings: Vec<String>,
}

impl Config {
    /// Settles a file, one that isn't there being empty unless it is `wanted`, and the flags.
    pub fn load(path: &Path, wanted: bool, flags: Directives) -> Result<Self, ConfigError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !wanted => String::new(),
            Err(source) => return Err(ConfigError::Read { path: path.into(), source }),
        };
        Self::settle(path, &text, flags)
    }

    /// Settles a file's text and the flags; `path` is for messages.
    pub fn settle(path: &Path, text: &str, flags: Directives) -> Result<Self, ConfigError> {
        let given: Directives = match text.trim() {
            "" => Directives::new(),
            text => serde_json::from_str(text)
                .map_err(|source| ConfigError::Syntax { path: path.into(), source })?,
        };
        let unknown: Vec<&str> =
            given.keys().map(String::as_str).filter(|key| keys::effect(key).is_none()).collect();
        if !unknown.is_empty() {
            return Err(ConfigError::Unknown { path: path.into(), keys: unknown.join(", ") });
        }
        // Docker refuses a setting that stands in both places; so do we.
        let twice: Vec<&str> =
            flags.keys().map(String::as_str).filter(|key| given.contains_key(*key)).collect();
        if !twice.is_empty() {
            return Err(ConfigError::Twice(twice.join(", ")));
        }
        let mut config = Self::default();
        for (key, value) in given {
            config.apply(&key, value).map_err(|why| ConfigError::Value { path: path.into(), key, why })?;
        }
        for (flag, value) in flags {
            config.apply(&flag, value).map_err(|why| ConfigError::Flag { flag, why })?;
        }
        Ok(config)
    }

    fn apply(&mut self, key: &str, value: Value) -> Result<(), String> {
        let effect = keys::effect(key).ok_or_else(|| "there is no such setting".to_owned())?;
        effect(self, key, value)
    }
}
