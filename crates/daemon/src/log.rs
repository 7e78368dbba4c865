//! The engine's own log on stderr: text or JSON, with a level that can change.

mod json;

use std::io::{self, IsTerminal};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// The level of the log while it runs.
pub struct LogLevel(reload::Handle<LevelFilter, Registry>);

impl LogLevel {
    pub fn set(&self, level: tracing::Level) {
        // It fails only where the log isn't ours: an embedding program may have set up its own.
        let _ = self.0.modify(|filter| *filter = level.into());
    }
}

/// Starts the log of another command than the daemon: a level and a format as daemon.json has them.
pub fn start_named(level: Option<&str>, format: Option<&str>) -> Result<LogLevel, String> {
    let level = match level {
        Some("debug") => tracing::Level::DEBUG,
        None | Some("info") => tracing::Level::INFO,
        Some("warn") => tracing::Level::WARN,
        Some("error" | "fatal") => tracing::Level::ERROR,
        Some(other) => return Err(format!("invalid logging level: {other}")),
    };
    let format = match format {
        None | Some("" | "text") => LogFormat::Text,
        Some("json") => LogFormat::Json,
        Some(other) => return Err(format!("invalid log format: {other}")),
    };
    Ok(start(level, format))
}

/// To stderr. An embedding program may have set up its own.
pub fn start(level: tracing::Level, format: LogFormat) -> LogLevel {
    let (filter, handle) = reload::Layer::new(LevelFilter::from_level(level));
    let lines = match format {
        LogFormat::Json => json::JsonLog.boxed(),
        LogFormat::Text => fmt::layer()
            .with_writer(io::stderr)
            .with_ansi(io::stderr().is_terminal())
            .with_target(false)
            .boxed(),
    };
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    LogLevel(handle)
}
