//! A daemon's settings: what the command line says, what the file says, and the defaults, settled into one.

use crate::config::{Config, ConfigError, Directives};
use crate::listen::{Address, ListenError};
use crate::log::LogFormat;
use crate::tls::{TcpAccess, TlsFiles};
use corten_engine::{ContainerDefaults, EngineOptions, Proxies, RegistryOptions, RuntimeProgram, Runtimes};
use std::collections::BTreeMap;
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
    #[error("failed to set log opts: {0}")]
    Log(String),
    #[error("the seccomp profile {path}: {source}")]
    SeccompProfile { path: PathBuf, source: std::io::Error },
    #[error(
        "default-runtime: {0}; name its program under \"runtimes\" in daemon.json, or with --add-runtime"
    )]
    DefaultRuntime(String),
    #[error("{SHIM} was not found in any of: {looked}; install it beside corten, or name it with --shim")]
    NoShim { looked: String },
}

/// Everything settled.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub addresses: Vec<Address>,
    pub group: Option<String>,
    pub tcp: TcpAccess,
    pub pidfile: Option<PathBuf>,
    pub log_level: tracing::Level,
    pub log_format: LogFormat,
    /// Where metrics are served, without authentication.
    pub metrics: Option<Address>,
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
        let exec_root = absolute(config.exec_root.clone().unwrap_or_else(|| DEFAULT_EXEC_ROOT.into()));
        let tls = config.tls || config.tls_verify;
        let port = if tls { 2376 } else { 2375 };
        let parsed = config.hosts.iter().map(|host| Address::parse_with_port(host, port));
        let mut addresses = parsed.collect::<Result<Vec<_>, _>>()?;
        if addresses.is_empty() {
            addresses.push(Address::Unix(exec_root.join(SOCKET)));
        }
        let insecure_tcp = insecure_tcp || (config.insecure_tcp && !config.tls_verify);
        // Encrypted, but for anybody: that has to be said, too.
        if let Some(tcp) = addresses.iter().find(|a| matches!(a, Address::Tcp(_)))
            && !(config.tls_verify || insecure_tcp)
        {
            return Err(ListenError::InsecureTcp(tcp.to_string()).into());
        }
        let tcp = match tls {
            true if config.tls_verify || insecure_tcp => TcpAccess::Tls(tls_files(&config)),
            false if insecure_tcp => TcpAccess::Plain,
            _ => TcpAccess::Refused,
        };
        let log_level = match config.log_level.as_deref() {
            _ if config.debug => tracing::Level::DEBUG,
            Some("debug") => tracing::Level::DEBUG,
            Some("warn") => tracing::Level::WARN,
            Some("error" | "fatal") => tracing::Level::ERROR,
            _ => tracing::Level::INFO,
        };
        let metrics = config.metrics_addr.as_deref().filter(|address| !address.is_empty());
        let metrics = metrics.map(|address| Address::parse(&format!("tcp://{address}"))).transpose()?;
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
        defaults.check_log().map_err(|error| SettingsError::Log(error.message))?;
        let mut warnings = config.warnings;
        let proxies = proxies([&config.http_proxy, &config.https_proxy, &config.no_proxy], &mut warnings);
        let engine = EngineOptions {
            version,
            data_root: absolute(config.data_root.unwrap_or_else(|| DEFAULT_DATA_ROOT.into())),
            exec_root,
            shim,
            storage_driver: config.storage_driver,
            network: config.network,
            defaults,
            labels: config.labels,
            runtimes: runtimes(config.runtimes, config.default_runtime)?,
            registries: RegistryOptions {
                insecure: config.insecure_registries,
                mirrors: config.mirrors,
                signatures: config.signatures,
                proxies,
            },
            build_cache: config.build_cache,
        };
        let Config { group, pidfile, log_format, .. } = config;
        Ok(Self { addresses, group, tcp, pidfile, log_level, log_format, metrics, engine, warnings })
    }
}

/// What the file and the flags say, which was looked at when they were read, and beside that the environment.
fn proxies(given: [&Option<String>; 3], warnings: &mut Vec<String>) -> Proxies {
    let of_environment = |name: &str| {
        let value = std::env::var(name.to_lowercase()).ok().filter(|value| !value.is_empty());
        value.or_else(|| std::env::var(name).ok()).filter(|value| !value.is_empty())
    };
    let mut settled = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"].map(|name| (name, of_environment(name)));
    for ((name, value), given) in settled.iter_mut().zip(given) {
        if given.is_some() {
            value.clone_from(given);
        } else if *name != "NO_PROXY"
            && let Err(error) = Proxies::new(value.as_deref(), None, None)
        {
            // Meant for other programs, maybe.
            warnings.push(format!("{name} has no effect: {error}"));
            *value = None;
        }
    }
    let [http, https, none_for] = settled.map(|(_, value)| value);
    Proxies::new(http.as_deref(), https.as_deref(), none_for.as_deref()).unwrap_or_default()
}

fn runtimes(
    named: BTreeMap<String, (PathBuf, Vec<String>)>,
    default: Option<String>,
) -> Result<Runtimes, SettingsError> {
    let program = |(name, (path, args))| (name, RuntimeProgram { path, args });
    let runtimes =
        Runtimes { others: named.into_iter().map(program).collect(), default: default.unwrap_or_default() };
    match runtimes.find(runtimes.default_name()) {
        Ok(_) => Ok(runtimes),
        Err(error) => Err(SettingsError::DefaultRuntime(error.message)),
    }
}

/// The files that are named, or those that Docker's clients look for, too.
fn tls_files(config: &Config) -> TlsFiles {
    let directory = std::env::var_os("DOCKER_CERT_PATH").map(PathBuf::from).unwrap_or_else(|| {
        std::env::var_os("HOME").map_or_else(|| "/root".into(), PathBuf::from).join(".docker")
    });
    let named = |file: &Option<PathBuf>, name: &str| file.clone().unwrap_or_else(|| directory.join(name));
    TlsFiles {
        ca: config.tls_verify.then(|| named(&config.tls_ca_cert, "ca.pem")),
        cert: named(&config.tls_cert, "cert.pem"),
        key: named(&config.tls_key, "key.pem"),
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

/// A path as it is from everywhere: containers' processes have other working directories.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
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
    fn roots_are_where_the_engine_was_started() {
        let settings = settle("", json!({"data-root": "own/data", "exec-root": "own/run"})).unwrap();
        let here = std::env::current_dir().unwrap();
        assert_eq!(settings.engine.data_root, here.join("own/data"));
        assert_eq!(settings.addresses, [Address::Unix(here.join("own/run/corten.sock"))]);
    }

    #[test]
    fn plain_tcp_has_to_be_wished_for() {
        let hosts = json!({"hosts": ["tcp://127.0.0.1:2375"]});
        let refused = settle("", hosts.clone());
        assert!(matches!(refused, Err(SettingsError::Listen(ListenError::InsecureTcp(_)))));
        assert!(settle(r#"{"tls": false}"#, hosts.clone()).is_ok());
        // Encryption alone keeps nobody out.
        let refused = settle(r#"{"tls": true}"#, hosts.clone());
        assert!(matches!(refused, Err(SettingsError::Listen(ListenError::InsecureTcp(_)))));
        let verified = settle(r#"{"tlsverify": true, "tlscacert": "/nonexistent/ca.pem"}"#, hosts).unwrap();
        assert!(matches!(&verified.tcp, TcpAccess::Tls(files) if files.ca.is_some()));
        assert!(verified.tcp.load().unwrap_err().to_string().contains("/nonexistent/ca.pem"));
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
        let refusal = |flags| settle("", flags).unwrap_err().to_string();
        assert_eq!(
            refusal(json!({"log-driver": "paper"})),
            "failed to set log opts: logger: no log driver named 'paper' is registered"
        );
        assert_eq!(
            refusal(json!({"log-opts": {"colour": "red"}})),
            "failed to set log opts: unknown log opt 'colour' for json-file log driver"
        );
    }
}
