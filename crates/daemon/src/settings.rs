//! A daemon's settings: what the command line says, what the file says, and the defaults, settled into one.

use crate::config::{Config, ConfigError};
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
    /// `unix://`, `tcp://`, `fd://`; none is the default socket below the exec root.
    pub hosts: Vec<String>,
    pub data_root: Option<PathBuf>,
    pub exec_root: Option<PathBuf>,
    /// daemon.json; named, it has to be there.
    pub config_file: Option<PathBuf>,
    /// The group that may use the unix sockets.
    pub group: Option<String>,
    pub pidfile: Option<PathBuf>,
    /// TCP without TLS, said in so many words.
    pub insecure_tcp: bool,
    pub debug: bool,
    /// debug, info, warn or error.
    pub log_level: Option<String>,
    pub storage_driver: Option<String>,
    pub bip: Option<String>,
    pub mtu: Option<u32>,
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
    #[error(
        "the following directives are specified both as a flag and in the configuration file: {0}; keep one of the two"
    )]
    Twice(String),
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
        let config = Config::read(path, wanted)?;
        let shim = match &options.shim {
            Some(shim) => shim.clone(),
            None => find_shim(std::env::current_exe().ok().as_deref())?,
        };
        Self::settle(options, config, shim)
    }

    fn settle(options: DaemonOptions, config: Config, shim: PathBuf) -> Result<Self, SettingsError> {
        refuse_twice(&options, &config)?;
        let exec_root = options.exec_root.or(config.exec_root).unwrap_or_else(|| DEFAULT_EXEC_ROOT.into());
        let hosts = if options.hosts.is_empty() { config.hosts } else { options.hosts };
        let mut addresses = hosts.iter().map(|host| Address::parse(host)).collect::<Result<Vec<_>, _>>()?;
        if addresses.is_empty() {
            addresses.push(Address::Unix(exec_root.join(SOCKET)));
        }
        let insecure_tcp = options.insecure_tcp || config.insecure_tcp;
        if let Some(tcp) = addresses.iter().find(|a| matches!(a, Address::Tcp(_)) && !insecure_tcp) {
            return Err(ListenError::InsecureTcp(tcp.to_string()).into());
        }
        let level = options.log_level.or(config.log_level);
        let log_level = match level.as_deref() {
            _ if options.debug || config.debug => tracing::Level::DEBUG,
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
            bip: options.bip.or(config.bip),
            fixed_cidr: config.fixed_cidr,
            mtu: options.mtu.or(config.mtu),
            host_ip: config.ip,
            bridge: config.bridge,
        };
        let engine = EngineOptions {
            version: options.version,
            data_root: options.data_root.or(config.data_root).unwrap_or_else(|| DEFAULT_DATA_ROOT.into()),
            exec_root,
            shim,
            storage_driver: options.storage_driver.or(config.storage_driver),
            network,
            defaults,
            labels: config.labels,
        };
        let group = options.group.or(config.group);
        let pidfile = options.pidfile.or(config.pidfile);
        Ok(Self { addresses, group, pidfile, log_level, engine, warnings: config.warnings })
    }
}

/// Docker refuses a setting that stands in both places; so do we.
fn refuse_twice(options: &DaemonOptions, config: &Config) -> Result<(), SettingsError> {
    let both = [
        ("hosts", !options.hosts.is_empty() && !config.hosts.is_empty()),
        ("data-root", options.data_root.is_some() && config.data_root.is_some()),
        ("exec-root", options.exec_root.is_some() && config.exec_root.is_some()),
        ("group", options.group.is_some() && config.group.is_some()),
        ("pidfile", options.pidfile.is_some() && config.pidfile.is_some()),
        ("log-level", options.log_level.is_some() && config.log_level.is_some()),
        ("storage-driver", options.storage_driver.is_some() && config.storage_driver.is_some()),
        ("bip", options.bip.is_some() && config.bip.is_some()),
        ("mtu", options.mtu.is_some() && config.mtu.is_some()),
    ];
    let names: Vec<&str> = both.iter().filter(|(_, twice)| *twice).map(|(name, _)| *name).collect();
    if names.is_empty() { Ok(()) } else { Err(SettingsError::Twice(names.join(", "))) }
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
    use super::*;

    fn settle(options: DaemonOptions, config: Config) -> Result<Settings, SettingsError> {
        Settings::settle(options, config, "/shim".into())
    }

    #[test]
    fn the_socket_follows_the_exec_root() {
        let options = DaemonOptions { exec_root: Some("/run/x".into()), ..Default::default() };
        let settings = settle(options, Config::default()).unwrap();
        assert_eq!(settings.addresses, [Address::Unix("/run/x/corten.sock".into())]);
        assert_eq!(settings.engine.data_root, Path::new(DEFAULT_DATA_ROOT));
    }

    #[test]
    fn plain_tcp_has_to_be_wished_for() {
        let hosts = vec!["tcp://127.0.0.1:2375".to_owned()];
        let options = DaemonOptions { hosts, ..Default::default() };
        let refused = settle(options.clone(), Config::default());
        assert!(matches!(refused, Err(SettingsError::Listen(ListenError::InsecureTcp(_)))));
        assert!(settle(DaemonOptions { insecure_tcp: true, ..options.clone() }, Config::default()).is_ok());
        assert!(settle(options, Config { insecure_tcp: true, ..Default::default() }).is_ok());
    }

    #[test]
    fn nothing_is_said_twice() {
        let options =
            DaemonOptions { data_root: Some("/a".into()), hosts: vec!["fd://".into()], ..Default::default() };
        let config =
            Config { data_root: Some("/b".into()), hosts: vec!["fd://".into()], ..Default::default() };
        let error = settle(options, config).unwrap_err().to_string();
        assert!(error.contains("hosts, data-root"), "{error}");
    }
}
