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
    /// Use TLS on TCP; without --tlsverify anybody may connect, so that --insecure-tcp has to be said as well
    #[arg(long)]
    tls: bool,
    /// Use TLS on TCP and let only clients in whose certificate the authority has signed
    #[arg(long)]
    tlsverify: bool,
    /// The authority of clients' certificates [default: ca.pem in DOCKER_CERT_PATH or ~/.docker]
    #[arg(long, value_name = "FILE")]
    tlscacert: Option<PathBuf>,
    /// The engine's certificate [default: cert.pem there]
    #[arg(long, value_name = "FILE")]
    tlscert: Option<PathBuf>,
    /// The engine's key [default: key.pem there]
    #[arg(long, value_name = "FILE")]
    tlskey: Option<PathBuf>,
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
    /// Set the format of log entries (text, json)
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Serve metrics for Prometheus here, to everybody who can reach it
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics_addr: Option<String>,
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
    /// Containers' way out of the default network, instead of the bridge
    #[arg(long, value_name = "ADDRESS")]
    default_gateway: Option<String>,
    /// Give the default network IPv6, too
    #[arg(long)]
    ipv6: bool,
    /// IPv6 address of the default bridge, with its prefix (fd00:9::1/64)
    #[arg(long, value_name = "CIDR")]
    bip6: Option<String>,
    /// IPv6 subnet of the default network or, with --bip6, the part of it that containers' addresses are taken from
    #[arg(long, value_name = "CIDR")]
    fixed_cidr_v6: Option<String>,
    /// Containers' IPv6 way out of the default network
    #[arg(long, value_name = "ADDRESS")]
    default_gateway_v6: Option<String>,
    /// Let containers of the default network talk to each other (=false: keep them apart)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    icc: Option<bool>,
    /// Let what leaves the default network have the host's address
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ip_masq: Option<bool>,
    /// Switch the host's forwarding on
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ip_forward: Option<bool>,
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
    /// Containers' log driver (json-file, local, none, fluentd, gelf, journald, syslog)
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
    /// Another OCI runtime that containers may use by --runtime NAME (may be given more than once)
    #[arg(long, value_name = "NAME=PROGRAM")]
    add_runtime: Vec<String>,
    /// Containers' runtime unless they say another one
    #[arg(long, value_name = "NAME")]
    default_runtime: Option<String>,
    /// Speak to this registry (host[:port], or a network) without TLS or proof of who it is (may be given more than once)
    #[arg(long, value_name = "REGISTRY")]
    insecure_registry: Vec<String>,
    /// Ask this mirror of Docker's hub first (may be given more than once)
    #[arg(long, value_name = "URL")]
    registry_mirror: Vec<String>,
    /// Proxy for registries without TLS; $HTTP_PROXY if left out
    #[arg(long, value_name = "URL")]
    http_proxy: Option<String>,
    /// Proxy for registries; $HTTPS_PROXY if left out
    #[arg(long, value_name = "URL")]
    https_proxy: Option<String>,
    /// Hosts, domains and networks that are spoken to without a proxy; $NO_PROXY if left out
    #[arg(long, value_name = "LIST")]
    no_proxy: Option<String>,
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
        let mut runtimes = serde_json::Map::new();
        for text in &self.add_runtime {
            let (name, path) = text
                .split_once('=')
                .ok_or_else(|| invalid(format!("--add-runtime {text}: expected NAME=PROGRAM")))?;
            runtimes.insert(name.to_owned(), json!({"path": path}));
        }
        let log_opts = key_values("--log-opt", &self.log_opt).map_err(|e| invalid(e.to_string()))?;
        let flags = [
            ("hosts", json!(hosts)),
            ("data-root", json!(self.data_root)),
            ("exec-root", json!(self.exec_root)),
            ("group", json!(self.group)),
            ("pidfile", json!(self.pidfile)),
            ("tls", json!((self.tls || globals.tls).then_some(true))),
            ("tlsverify", json!((self.tlsverify || globals.tlsverify).then_some(true))),
            ("tlscacert", json!(self.tlscacert.as_ref().or(globals.tlscacert.as_ref()))),
            ("tlscert", json!(self.tlscert.as_ref().or(globals.tlscert.as_ref()))),
            ("tlskey", json!(self.tlskey.as_ref().or(globals.tlskey.as_ref()))),
            ("debug", json!((self.debug || globals.debug).then_some(true))),
            ("log-level", json!(log_level)),
            ("log-format", json!(self.log_format)),
            ("metrics-addr", json!(self.metrics_addr)),
            ("storage-driver", json!(self.storage_driver)),
            ("bip", json!(self.bip)),
            ("bridge", json!(self.bridge)),
            ("fixed-cidr", json!(self.fixed_cidr)),
            ("default-gateway", json!(self.default_gateway)),
            ("ipv6", json!(self.ipv6.then_some(true))),
            ("bip6", json!(self.bip6)),
            ("fixed-cidr-v6", json!(self.fixed_cidr_v6)),
            ("default-gateway-v6", json!(self.default_gateway_v6)),
            ("icc", json!(self.icc)),
            ("ip-masq", json!(self.ip_masq)),
            ("ip-forward", json!(self.ip_forward)),
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
            ("runtimes", json!(runtimes)),
            ("default-runtime", json!(self.default_runtime)),
            ("insecure-registries", json!(self.insecure_registry)),
            ("registry-mirrors", json!(self.registry_mirror)),
            ("http-proxy", json!(self.http_proxy)),
            ("https-proxy", json!(self.https_proxy)),
            ("no-proxy", json!(self.no_proxy)),
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
