//! `daemon`: the engine itself, on this process.

use std::path::PathBuf;

use corten_daemon::{DaemonError, DaemonOptions, Directives};
use serde_json::json;

use crate::cli::{Context, Failure, Outcome, VERSION, Verb};
use crate::options::{key_values, ulimit};

#[derive(Clone, Debug, clap::Args)]
pub struct Daemon {
    /// Listen here: unix:///path, tcp://host:port or fd:// (may be given more than once)
    #[arg(short = 'H', long, value_name = "HOST")]
    host: Vec<String>,
    /// Where images, containers and volumes are kept [default: /var/lib/corten]
    #[arg(long, value_name = "DIR")]
    data_root: Option<PathBuf>,
    /// Where the state of running containers is kept, and the default socket [default: /run/corten]
    #[arg(long, value_name = "DIR")]
    exec_root: Option<PathBuf>,
    /// Configuration file, with the keys of Docker's daemon.json [default: /etc/corten/daemon.json]
    #[arg(long, visible_alias = "config-file", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Group that may use the unix socket
    #[arg(short = 'G', long)]
    group: Option<String>,
    /// Write the process ID to this file
    #[arg(short, long, value_name = "FILE")]
    pidfile: Option<PathBuf>,
    /// Enable debug mode
    #[arg(short = 'D', long)]
    debug: bool,
    /// Set the logging level (debug, info, warn, error, fatal)
    #[arg(short, long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Storage driver to use (erofs or dir)
    #[arg(short, long, value_name = "DRIVER")]
    storage_driver: Option<String>,
    /// Address of the default bridge, with its prefix (10.9.0.1/16)
    #[arg(long, value_name = "CIDR")]
    bip: Option<String>,
    /// Use this bridge, which exists already, for the default network
    #[arg(short, long, value_name = "NAME")]
    bridge: Option<String>,
    /// Take containers' addresses from this part of the default network
    #[arg(long, value_name = "CIDR")]
    fixed_cidr: Option<String>,
    /// Publish ports on this address unless a container says another one
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
    /// MTU of the default bridge
    #[arg(long)]
    mtu: Option<u32>,
    /// Containers' DNS server (may be given more than once, as the next two)
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<String>,
    /// Containers' DNS search domain
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// Containers' DNS option
    #[arg(long, value_name = "OPTION")]
    dns_opt: Vec<String>,
    /// Containers' log driver (local, json-file or none)
    #[arg(long, value_name = "DRIVER")]
    log_driver: Option<String>,
    /// Containers' log options (may be given more than once)
    #[arg(long, value_name = "KEY=VALUE")]
    log_opt: Vec<String>,
    /// Containers' limits (may be given more than once)
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    default_ulimit: Vec<String>,
    /// Containers' size of /dev/shm
    #[arg(long, value_name = "BYTES")]
    default_shm_size: Option<String>,
    /// Run a small init in every container
    #[arg(long)]
    init: bool,
    /// Let no container gain privileges by exec
    #[arg(long)]
    no_new_privileges: bool,
    /// Containers' seccomp profile: a file, builtin or unconfined
    #[arg(long, value_name = "FILE")]
    seccomp_profile: Option<String>,
    /// Parent of containers' control groups
    #[arg(long, value_name = "GROUP")]
    cgroup_parent: Option<String>,
    /// Label of the engine (may be given more than once)
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Allow TCP without TLS: whoever reaches the port is root on this host
    #[arg(long)]
    insecure_tcp: bool,
    /// The corten-shim program; looked for beside this one if left out
    #[arg(long, value_name = "FILE", hide = true)]
    shim: Option<PathBuf>,
    /// Leave the session of whoever starts it
    #[arg(long, hide = true)]
    background: bool,
}

impl Verb for Daemon {
    const ABOUT: &'static str = "Run the engine";
    const USAGE: &'static str = "[OPTIONS]";

    fn run(self, context: &Context) -> Outcome {
        if self.background {
            // Fails only for the leader of a group, who is out of reach of the terminal's signals already.
            let _ = rustix::process::setsid();
        }
        if !rustix::process::geteuid().is_root() {
            let failure =
                Failure::new("the engine needs root: it makes namespaces, mounts and control groups");
            return Err(failure.hint("use sudo, or the service: `systemctl start corten`"));
        }
        let options = DaemonOptions {
            flags: self.directives(context)?,
            config_file: self.config,
            insecure_tcp: self.insecure_tcp,
            shim: self.shim,
            version: VERSION.to_owned(),
        };
        corten_daemon::run(options).map(|()| 0).map_err(failure)
    }
}

impl Daemon {
    /// The flags that were given, by the keys that daemon.json has for them.
    fn directives(&self, context: &Context) -> Result<Directives, Failure> {
        let globals = context.globals();
        let hosts = if self.host.is_empty() { &globals.host } else { &self.host };
        let log_level = self.log_level.as_ref().or(globals.log_level.as_ref());
        let invalid =
            |message: String| Failure::new(message).hint("`corten daemon --help` lists the options");
        let mut limits = serde_json::Map::new();
        for text in &self.default_ulimit {
            let limit = ulimit(text).map_err(|why| invalid(format!("--default-ulimit {text}: {why}")))?;
            limits.insert(limit.name.clone(), json!(limit));
        }
        let log_opts = key_values("--log-opt", &self.log_opt).map_err(|e| invalid(e.to_string()))?;
        let flags = [
            ("hosts", json!(hosts)),
            ("data-root", json!(self.data_root)),
            ("exec-root", json!(self.exec_root)),
            ("group", json!(self.group)),
            ("pidfile", json!(self.pidfile)),
            ("debug", json!((self.debug || globals.debug).then_some(true))),
            ("log-level", json!(log_level)),
            ("storage-driver", json!(self.storage_driver)),
            ("bip", json!(self.bip)),
            ("bridge", json!(self.bridge)),
            ("fixed-cidr", json!(self.fixed_cidr)),
            ("ip", json!(self.ip)),
            ("mtu", json!(self.mtu)),
            ("dns", json!(self.dns)),
            ("dns-search", json!(self.dns_search)),
            ("dns-opts", json!(self.dns_opt)),
            ("log-driver", json!(self.log_driver)),
            ("log-opts", json!(log_opts)),
            ("default-ulimits", json!(limits)),
            ("default-shm-size", json!(self.default_shm_size)),
            ("init", json!(self.init.then_some(true))),
            ("no-new-privileges", json!(self.no_new_privileges.then_some(true))),
            ("seccomp-profile", json!(self.seccomp_profile)),
            ("cgroup-parent", json!(self.cgroup_parent)),
            ("labels", json!(self.label)),
        ];
        let given = flags.into_iter().filter(|(_, value)| {
            !value.is_null()
                && value.as_array().is_none_or(|list| !list.is_empty())
                && value.as_object().is_none_or(|map| !map.is_empty())
        });
        Ok(given.map(|(key, value)| (key.to_owned(), value)).collect())
    }
}

fn failure(error: DaemonError) -> Failure {
    // The texts name step, object and cause; what to do depends on the step.
    let hint = match &error {
        DaemonError::Settings(_) => Some("`corten daemon --help` lists the options"),
        _ => None,
    };
    let failure = Failure::new(error.to_string());
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
