//! `registry serve`: the registry itself, on this process.

use std::path::PathBuf;

use corten_registry::server::{self, AskError, Config, ServeError, SettingsError, Source, Sparse};

use crate::cli::{Context, Failure, Outcome, Verb};

#[derive(Clone, Debug, clap::Args)]
pub struct Serve {
    /// Configuration file [default: /etc/corten/registry.json, if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where everything is kept, for this registry alone [default: /var/lib/corten-registry]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Listen here (may be given more than once) [default: 127.0.0.1:5000]
    #[arg(short, long, value_name = "ADDRESS:PORT")]
    listen: Vec<String>,
    /// Listen on other addresses than loopback, though anybody who can reach them may read, push and delete
    #[arg(long)]
    insecure_anonymous: bool,
    /// Listen on other addresses than loopback without TLS, though passwords are shown; for where a proxy encrypts
    #[arg(long)]
    insecure_plain: bool,
    /// Take manifests though something is missing that they refer to: manifests of an index (indexes), or blobs, too (all)
    #[arg(long, value_name = "WHAT", value_parser = ["refuse", "indexes", "all"])]
    sparse: Option<String>,
    /// Give an upload up when nothing has come of it for so long (90s, 15m, 24h, 7d) [default: 24h]
    #[arg(long, value_name = "TIME")]
    upload_expiry: Option<String>,
    /// Serve metrics for Prometheus here (/metrics), to everybody who can reach it
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<String>,
    /// Set the logging level (debug, info, warn, error) [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Set the format of log entries (text, json) [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

impl Verb for Serve {
    const ABOUT: &'static str = "Run a registry that clients pull from and push to";
    const USAGE: &'static str = "[OPTIONS]";

    fn run(self, context: &Context) -> Outcome {
        let globals = context.globals();
        let (debug, level) = (globals.debug, globals.log_level.clone());
        let read = move || {
            let mut config = Config::read(self.config.as_deref())?;
            self.clone().override_in(&mut config);
            config.log_level =
                if debug { Some("debug".to_owned()) } else { config.log_level.or(level.clone()) };
            Ok(config)
        };
        let config = read().map_err(|error: SettingsError| failure(error.into()))?;
        let log = corten_daemon::start_log(config.log_level.as_deref(), config.log_format.as_deref());
        let log = log.map_err(Failure::new)?;
        let set_log_level = move |level| log.set(level);
        let source = Source { read: Box::new(read), set_log_level: Box::new(set_log_level) };
        server::run(&config, source).map(|()| 0).map_err(failure)
    }
}

impl Serve {
    /// What flags say counts more than what the file says.
    fn override_in(self, config: &mut Config) {
        config.data = self.data.or(config.data.take());
        if !self.listen.is_empty() {
            config.listen = self.listen;
        }
        config.insecure_anonymous |= self.insecure_anonymous;
        config.insecure_plain |= self.insecure_plain;
        match self.sparse.as_deref() {
            Some("refuse") => config.sparse = Sparse::Refuse,
            Some("indexes") => config.sparse = Sparse::Indexes,
            Some(_) => config.sparse = Sparse::All,
            None => {}
        }
        config.upload_expiry = self.upload_expiry.or(config.upload_expiry.take());
        config.metrics = self.metrics.or(config.metrics.take());
        config.log_level = self.log_level.or(config.log_level.take());
        config.log_format = self.log_format.or(config.log_format.take());
    }
}

/// What went wrong, with what to do.
pub fn failure(error: ServeError) -> Failure {
    let hint = match &error {
        ServeError::Settings(SettingsError::Syntax { .. }) => {
            Some("docs/registry-server.md lists the keys of the file")
        }
        ServeError::Settings(_) => Some("`corten registry serve --help` lists the options"),
        ServeError::Access(_) | ServeError::Tls(_) => {
            Some("docs/registry-access.md tells what may be said there")
        }
        ServeError::Ask(AskError::Unreachable { .. }) => {
            Some("start it first, or name its directory with --data")
        }
        ServeError::InUse(_) => Some("stop that one, or name another directory with --data"),
        _ => None,
    };
    let failure = Failure::new(error.to_string());
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
