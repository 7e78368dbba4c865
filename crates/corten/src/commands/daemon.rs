//! `daemon`: the engine itself, on this process.

use std::path::PathBuf;

use corten_daemon::{DaemonError, DaemonOptions};

use crate::cli::{Context, Failure, Outcome, VERSION, Verb};

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
    /// MTU of the default bridge
    #[arg(long)]
    mtu: Option<u32>,
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
        let globals = context.globals();
        let options = DaemonOptions {
            hosts: if self.host.is_empty() { globals.host.clone() } else { self.host },
            data_root: self.data_root,
            exec_root: self.exec_root,
            config_file: self.config,
            group: self.group,
            pidfile: self.pidfile,
            insecure_tcp: self.insecure_tcp,
            debug: self.debug || globals.debug,
            log_level: self.log_level.or_else(|| globals.log_level.clone()),
            storage_driver: self.storage_driver,
            bip: self.bip,
            mtu: self.mtu,
            shim: self.shim,
            version: VERSION.to_owned(),
        };
        corten_daemon::run(options).map(|()| 0).map_err(failure)
    }
}

fn failure(error: DaemonError) -> Failure {
    // The texts name step, object and cause; what to do depends on the step.
    let hint = match &error {
        DaemonError::Listen(_) => Some("`corten version` tells whether an engine listens there already"),
        DaemonError::Settings(_) => Some("`corten daemon --help` lists the options"),
        _ => None,
    };
    let failure = Failure::new(error.to_string());
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
