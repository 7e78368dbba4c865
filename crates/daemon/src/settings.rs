//! A daemon's settings: what the command line says, what the file says, and the defaults, settled into one.

use crate::config::{Config, ConfigError, Directives};
use crate::listen::{Address, ListenError};
use corten_engine::{ContainerDefaults, EngineOptions, NetworkOptions};
use std::path::{Path, PathBuf};

pub const DEFAULT_CONFIG: &str = "/etc/corten/daemon.json";
pub const DEFAULT_DATA_ROOT: &str = "/var/lib/corten";
pub const DEFAULT_EXEC_ROOT: &str = "/run/corten";
/// Below the exec root.
const SOCKET: &str = "corten.sock";
const SHIM: &str = "corten-shim";

/// What the command line may say.
#[derive(Clone, Debug, Default)]
pub struct DaemonOptions {
    /// daemon.json; named, it has to be there.
    pub config_file: Option<PathBuf>,
    /// Flags that stand for a key of daemon.json, by that key.
    pub flags: Directives,
    /// TCP without TLS, said in so many words.
    pub insecure_tcp: bool,
    /// `corten-shim`; looked for beside this program when absent.
    pub shim: Option<PathBuf>,
    /// Of the product, for the `Server` header and `version`.
    pub version: String,
}

#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("the seccomp profile {path}: {source}")]
    SeccompProfile { path: PathBuf, source: std::io::Error },
    #[error("{SHIM} was not found in any of: {looked}; install it beside corten, or name it with --shim")]
    NoShim { looked: String },
}

/// Everything settled.
#[derive(Clone, Debug)]
pub struct Settings {
    pub addresses: Vec<Address>,
    pub group: Option<String>,
    pub pidfile: Option<PathBuf>,
    pub log_level: tracing::Level,
    pub engine: EngineOptions,
    /// To be told once the log is up.
    pub warnings: Vec<String>,
}

impl Settings {
    /// Reads the configuration file and settles; looks for the shim.
    pub fn load(options: DaemonOptions) -> Result<Self, SettingsError> {
        let (path, wanted) = match &options.config_file {
            Some(path) => (path.as_path(), true),
            None => (Path::new(DEFAULT_CONFIG), false),
        };
        let config = Config::load(path, wanted, options.flags)?;
        let shim = match options.shim {
            Some(shim) => shim,
            None => find_shim(std::env::current_exe().ok().as_deref())?,
        };
        Self::settle(config, options.insecure_tcp, shim, options.version)
    }

    fn settle(
        config: Config,
        insecure_tcp: bool,
        shim: PathBuf,
        version: String,
    ) -> Result<Self, SettingsError> {
        let exec_root = config.exec_root.unwrap_or_else(|| DEFAULT_EXEC_ROOT.into());
        let mut addresses =
            config.hosts.iter().map(|host| Address::parse(host)).collect::<Result<Vec<_>, _>>()?;
        if addresses.is_empty() {
            addresses.push(Address::Unix(exec_root.join(SOCKET)));
        }
        let insecure_tcp = insecure_tcp || config.insecure_tcp;
        if let Some(tcp) = addresses.iter().find(|a| matches!(a, Address::Tcp(_)) && !insecure_tcp) {
            return Err(ListenError::InsecureTcp(tcp.to_string()).into());
        }
        let log_level = match config.log_level.as_deref() {
            _ if config.debug => tracing::Level::DEBUG,
            Some("debug") => tracing::Level::DEBUG,
            Some("warn") => tracing::Level::WARN,
            Some("error" | "fatal") => tracing::Level::ERROR,
            _ => tracing::Level::INFO,
        };
        let base = ContainerDefaults::default();
        let defaults = ContainerDefaults {
            log_driver: config.log_driver.unwrap_or(base.log_driver),
            log_options: config.log_opts.into_iter().collect(),
            ulimits: config.default_ulimits,
            shm_size: config.default_shm_size.unwrap_or(base.shm_size),
            dns: config.dns,
            dns_search: config.dns_search,
            dns_options: config.dns_opts,
            init: config.init,
            no_new_privileges: config.no_new_privileges,
            seccomp_profile: seccomp_profile(config.seccomp_profile)?,
            cgroup_parent: config.cgroup_parent,
            stop_timeout_s: base.stop_timeout_s,
        };
        let network = NetworkOptions {
            bip: config.bip,
            fixed_cidr: config.fixed_cidr,
            mtu: config.mtu,
            host_ip: config.ip,
            bridge: config.bridge,
        };
        let engine = EngineOptions {
            version,
            data_root: config.data_root.unwrap_or_else(|| DEFAULT_DATA_ROOT.into()),
            exec_root,
            shim,
            storage_driver: config.storage_driver,
            network,
            defaults,
            labels: config.labels,
        };
        let Config { group, pidfile, warnings, .. } = config;
        Ok(Self { addresses, group, pidfile, log_level, engine, warnings })
    }
}

/// The profile's text; `builtin` is none.
fn seccomp_profile(named: Option<String>) -> Result<Option<String>, SettingsError> {
    match named.as_deref() {
        None | Some("" | "builtin") => Ok(None),
        Some("unconfined") => Ok(named),
        Some(path) => match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some(text)),
            Err(source) => Err(SettingsError::SeccompProfile { path: path.into(), source }),
        },
    }
}

/// The shim: where CORTEN_SHIM says, beside the program, or where packages put it.
fn find_shim(program: Option<&Path>) -> Result<PathBuf, SettingsError> {
    let said = std::env::var_os("CORTEN_SHIM").map(PathBuf::from);
    let directory = program.and_then(Path::parent);
    let beside = directory.map(|d| d.join(SHIM));
    let libexec = directory.map(|d| d.join("../libexec/corten").join(SHIM));
    let packaged = ["/usr/libexec/corten", "/usr/lib/corten", "/usr/local/libexec/corten"];
    let candidates: Vec<PathBuf> = match said {
        Some(said) => vec![said],
        None => beside.into_iter().chain(libexec).chain(packaged.map(|d| Path::new(d).join(SHIM))).collect(),
    };
    candidates.iter().find(|path| path.is_file()).cloned().ok_or_else(|| SettingsError::NoShim {
        looked: candidates.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settle(file: &str, flags: serde_json::Value) -> Result<Settings, SettingsError> {
        let flags = serde_json::from_value(flags).unwrap();
        let config = Config::settle(Path::new("daemon.json"), file, flags)?;
        Settings::settle(config, false, "/shim".into(), String::new())
    }

    #[test]
    fn the_socket_follows_the_exec_root() {
        let settings = settle("", json!({"exec-root": "/run/x"})).unwrap();
        assert_eq!(settings.addresses, [Address::Unix("/run/x/corten.sock".into())]);
        assert_eq!(settings.engine.data_root, Path::new(DEFAULT_DATA_ROOT));
    }

    #[test]
    fn plain_tcp_has_to_be_wished_for() {
        let hosts = json!({"hosts": ["tcp://127.0.0.1:2375"]});
        let refused = settle("", hosts.clone());
        assert!(matches!(refused, Err(SettingsError::Listen(ListenError::InsecureTcp(_)))));
        assert!(settle(r#"{"tls": false}"#, hosts).is_ok());
    }

    #[test]
    fn nothing_is_said_twice() {
        let file = r#"{"data-root": "/b", "hosts": ["fd://"], "mtu": 1400}"#;
        let error = settle(file, json!({"data-root": "/a", "hosts": ["fd://"]})).unwrap_err().to_string();
        assert!(error.contains("data-root, hosts;"), "{error}");
    }

    #[test]
    fn flags_are_checked_as_the_file_is() {
        let flags = json!({"log-driver": "json-file", "log-opts": {"max-size": "1m"}, "dns": ["10.0.0.1"],
            "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 5, "Hard": 6}}, "default-shm-size": "1m"});
        let defaults = settle("", flags).unwrap().engine.defaults;
        assert_eq!((defaults.log_driver.as_str(), defaults.shm_size), ("json-file", 1 << 20));
        assert_eq!(defaults.ulimits, [("nofile".to_owned(), 5, 6)]);
        let error = settle("", json!({"log-driver": "paper"})).unwrap_err().to_string();
        assert!(error.starts_with("flag --log-driver: \"paper\""), "{error}");
    }
}
