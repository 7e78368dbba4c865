//! A daemon's life: settings, log, sockets, engine, requests, signals, end.

use crate::buildkit;
use crate::listen::{self, ListenError};
use crate::log;
use crate::reload::Reload;
use crate::routes::{METRICS, ROUTES};
use crate::server::{Server, Service};
use crate::settings::{DaemonOptions, Settings, SettingsError};
use crate::tls::TlsError;
use corten_engine::Engine;
use std::io;
use std::path::{Path, PathBuf};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("start the engine: {0}")]
    Engine(#[from] corten_engine::Error),
    #[error("watch for signals: {0}")]
    Signals(io::Error),
    #[error("start the runtime: {0}")]
    Runtime(io::Error),
    #[error("write the pid file {path}: {source}")]
    Pidfile { path: PathBuf, source: io::Error },
}

/// Runs a daemon until SIGTERM or SIGINT on a runtime of its own; containers go on running after it.
pub fn run(options: DaemonOptions) -> Result<(), DaemonError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("corten")
        .enable_all()
        .build()
        .map_err(DaemonError::Runtime)?;
    let served = runtime.block_on(serve(options));
    // A blocking thread that reads from a client may take its time; nothing durable hangs on it.
    runtime.shutdown_background();
    served
}

/// The same within a runtime.
pub async fn serve(options: DaemonOptions) -> Result<(), DaemonError> {
    let settings = Settings::load(options.clone())?;
    let log_level = log::start(settings.log_level, settings.log_format);
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    // Watched before anything is open, so that a signal during the start still ends in order.
    let mut terminate = signal(SignalKind::terminate()).map_err(DaemonError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::Signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(DaemonError::Signals)?;
    let mut reload = Reload::new(options, settings.clone(), log_level);
    // The socket comes before the engine: two engines on one socket are found out before the second touches any state,
    // and a client that is early waits in the queue instead of being refused.
    let tcp = settings.tcp.load()?;
    let mut listeners = Vec::new();
    for address in &settings.addresses {
        listeners.extend(listen::open(address, settings.group.as_deref(), &tcp).await?);
    }
    let metrics_listeners = match &settings.metrics {
        Some(address) => listen::open(address, None, &listen::TcpPolicy::Plain).await?,
        None => Vec::new(),
    };
    let pidfile = settings.pidfile.map(Pidfile::write).transpose()?;
    let version = settings.engine.version.clone();
    let engine = match Engine::open(settings.engine).await {
        Ok(engine) => engine,
        Err(error) => {
            listeners.iter().for_each(listen::Listener::clean_up);
            return Err(error.into());
        }
    };
    let buildkit = buildkit::controller(&engine);
    let mut server = Server::new(Service::new(engine.clone(), buildkit.clone(), &ROUTES, &version));
    for listener in listeners {
        tracing::info!("API listen on {listener}");
        server.listen(listener);
    }
    let mut metrics = Server::new(Service::new(engine.clone(), buildkit, &METRICS, &version));
    for listener in metrics_listeners {
        tracing::info!("metrics API listen on {listener}");
        metrics.listen(listener);
    }
    loop {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping; containers go on"),
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping; containers go on"),
            _ = hangup.recv() => {
                reload.apply(&engine);
                continue;
            }
        }
        break;
    }
    tokio::join!(server.stop(), metrics.stop());
    engine.shutdown().await;
    drop(pidfile);
    Ok(())
}

/// Removed when it is dropped.
struct Pidfile(PathBuf);

impl Pidfile {
    fn write(path: PathBuf) -> Result<Self, DaemonError> {
        let failed = |path: &Path, source| DaemonError::Pidfile { path: path.into(), source };
        std::fs::write(&path, format!("{}\n", std::process::id())).map_err(|e| failed(&path, e))?;
        Ok(Self(path))
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "remove the pid file");
        }
    }
}
