//! What the user is told when something fails: what, why, and what to do next.

use std::fmt;

use corten_api::client;

use crate::format::template::TemplateError;
use crate::options::OptionError;

/// A failed command. Empty texts mean that everything was said already.
#[derive(Debug)]
pub struct Failure {
    pub message: String,
    pub hint: Option<String>,
    pub exit: u8,
    /// Nobody listens where the engine should: it may be started and the command tried once more.
    pub no_engine: bool,
}

/// The exit status when the command line is wrong or the engine refuses, as in Docker.
pub const EXIT_ENGINE: u8 = 125;

impl Failure {
    pub fn new(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), hint: None, exit: 1, no_engine: false }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    pub fn exit(mut self, exit: u8) -> Failure {
        self.exit = exit;
        self
    }

    /// What clap has against the command line.
    pub fn usage(error: clap::Error) -> Failure {
        let text = error.render().to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
        Failure::new(text).exit(EXIT_ENGINE)
    }

    /// Prefixes the message with what was being done.
    pub fn while_doing(mut self, what: impl fmt::Display) -> Failure {
        if !self.message.is_empty() {
            self.message = format!("{what}: {}", self.message);
        }
        self
    }

    /// Writes it to standard error.
    pub fn report(&self) {
        if !self.message.is_empty() {
            eprintln!("corten: {}", self.message);
        }
        if let Some(hint) = &self.hint {
            eprintln!("  hint: {hint}");
        }
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Failure {
        let no_engine = error.is_no_server();
        let denied = matches!(&error, client::Error::Connect { source, .. }
            if source.kind() == std::io::ErrorKind::PermissionDenied);
        let mut failure = Failure::new(error.to_string());
        failure.no_engine = no_engine;
        if no_engine {
            failure.hint = Some("start one with `corten daemon`, or name another with -H".to_owned());
        } else if denied {
            failure.hint = Some("run this as root, or as a member of the socket's group".to_owned());
        }
        failure
    }
}

impl From<TemplateError> for Failure {
    fn from(error: TemplateError) -> Failure {
        Failure::new(error.to_string())
    }
}

impl From<OptionError> for Failure {
    fn from(error: OptionError) -> Failure {
        Failure::new(error.to_string()).exit(EXIT_ENGINE)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::new(error.to_string())
    }
}
