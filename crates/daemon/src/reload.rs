//! SIGHUP: reads daemon.json again and applies what can change while the engine runs: `debug`, `log-level`, `labels` and what is set
//! for registries. What
//! is wrong changes nothing; what needs a restart is said.

use crate::log::LogLevel;
use crate::settings::{DaemonOptions, Settings};
use corten_engine::Engine;

pub struct Reload {
    options: DaemonOptions,
    /// As the daemon runs.
    settings: Settings,
    log_level: LogLevel,
}

impl Reload {
    pub fn new(options: DaemonOptions, settings: Settings, log_level: LogLevel) -> Self {
        Self { options, settings, log_level }
    }

    pub fn apply(&mut self, engine: &Engine) {
        let settings = match Settings::load(self.options.clone()) {
            Ok(settings) => settings,
            Err(error) => {
                tracing::error!(%error, "SIGHUP: the settings stay as they are");
                return;
            }
        };
        tracing::info!("SIGHUP: the settings were read again");
        for warning in &settings.warnings {
            tracing::warn!("{warning}");
        }
        if needs_restart(&self.settings, &settings) {
            tracing::warn!(
                "settings have changed that count from the next start on; now only debug, log-level, labels and those for registries do"
            );
        }
        self.log_level.set(settings.log_level);
        self.settings.log_level = settings.log_level;
        self.settings.engine.labels.clone_from(&settings.engine.labels);
        self.settings.engine.registries.clone_from(&settings.engine.registries);
        engine.reload_registries(settings.engine.registries);
        engine.reload(settings.engine.labels, settings.log_level == tracing::Level::DEBUG);
    }
}

/// Whether something else differs than what can change at once.
fn needs_restart(running: &Settings, wanted: &Settings) -> bool {
    let mut same = wanted.clone();
    same.log_level = running.log_level;
    same.warnings.clone_from(&running.warnings);
    same.engine.labels.clone_from(&running.engine.labels);
    same.engine.registries.clone_from(&running.engine.registries);
    same != *running
}
