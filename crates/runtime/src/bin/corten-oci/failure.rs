//! How a command says that it failed: on stderr, and in the log that the caller named, in a form that containerd and Podman read.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use corten_runtime::cgroup;
use corten_runtime::log::format_rfc3339;
use corten_runtime::monitor::protocol::{Step, StepError, Timestamp};
use serde_json::json;

use crate::arguments::Parsed;

/// Why a command could not do what it was asked for.
#[derive(Debug)]
pub struct Failure {
    message: String,
}

pub type Outcome<T> = Result<T, Failure>;

impl Failure {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }

    /// For `map_err`: what could not be done, and the system's answer.
    pub fn during<E: fmt::Display>(what: impl fmt::Display) -> impl FnOnce(E) -> Self {
        move |error| {
            let text = error.to_string();
            // Without "(os error 2)", which says the same again.
            Self::new(format!("{what}: {}", text.split(" (os error").next().unwrap_or_default()))
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Callers look for runc's words, to tell a missing program (127) from one that can't be executed (126).
impl From<StepError> for Failure {
    fn from(error: StepError) -> Self {
        Self::new(match error.step {
            Step::Exec => {
                format!("unable to start container process: exec: {:?}: {}", error.object, error.message)
            }
            _ => format!("unable to start container process: {error}"),
        })
    }
}

impl From<cgroup::Error> for Failure {
    fn from(error: cgroup::Error) -> Self {
        Self::new(error.to_string())
    }
}

/// Where complaints go besides stderr.
#[derive(Clone, Default)]
pub struct Journal {
    file: Option<Arc<File>>,
    json: bool,
    debug: bool,
}

impl Journal {
    pub fn open(global: &Parsed) -> Outcome<Self> {
        let json = match global.value("log-format").and_then(OsStr::to_str).unwrap_or("text") {
            "text" | "" => false,
            "json" => true,
            other => return Err(Failure::new(format!("--log-format: {other:?} is neither text nor json"))),
        };
        let file = match global.value("log").filter(|path| !path.is_empty()) {
            Some(path) => {
                let file = File::options().append(true).create(true).open(path);
                Some(Arc::new(file.map_err(Failure::during(path.display()))?))
            }
            None => None,
        };
        Ok(Self { file, json, debug: global.has("debug") })
    }

    /// Says why the command failed.
    pub fn error(&self, failure: &Failure) {
        self.write("error", &failure.message);
        if self.file.is_some() || self.json {
            eprintln!("{failure}");
        }
    }

    /// Says what was left out.
    pub fn warn(&self, message: &str) {
        self.write("warning", message);
    }

    pub fn debug(&self, message: &str) {
        if self.debug {
            self.write("debug", message);
        }
    }

    fn write(&self, level: &str, message: &str) {
        let time = format_rfc3339(Timestamp::now());
        let line = if self.json {
            format!("{}\n", json!({"level": level, "msg": message, "time": time}))
        } else if self.file.is_some() {
            format!("time={time:?} level={level} msg={message:?}\n")
        } else {
            format!("corten-oci: {level}: {message}\n")
        };
        // A log that can't be written must not keep the command from doing its work.
        let _ = match &self.file {
            Some(file) => (&**file).write_all(line.as_bytes()),
            None => std::io::stderr().write_all(line.as_bytes()),
        };
    }
}
