//! What the user is told when something fails: what, why, and what to do next.

use std::fmt;
use std::io::ErrorKind;

use corten_api::client;

use super::hints;
use crate::format::template::TemplateError;
use crate::options::OptionError;
use crate::output;

/// A failed command. Empty texts mean that everything was said already.
#[derive(Clone, Debug)]
pub struct Failure {
    pub message: String,
    pub hint: Option<String>,
    pub exit: u8,
    /// Nobody listens where the engine should: it may be started and the command tried once more.
    pub no_engine: bool,
    /// The engine is older than the request: its newest API version, with which the command may be tried once more.
    pub older_engine: Option<String>,
}

/// The exit status when the command line is wrong or the engine refuses, as in Docker.
pub const EXIT_ENGINE: u8 = 125;

impl Failure {
    pub fn new(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), hint: None, exit: 1, no_engine: false, older_engine: None }
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

    /// Whether the command gets another chance, and so shall neither report this nor go on.
    pub fn is_for_another_try(&self) -> bool {
        self.no_engine || self.older_engine.is_some()
    }

    /// Writes it to standard error.
    pub fn report(&self) {
        let mut text = String::new();
        if !self.message.is_empty() {
            text.push_str(&format!("corten: {}\n", self.message));
        }
        if let Some(hint) = self.hint.as_deref().or_else(|| hints::next_step(&self.message)) {
            text.push_str(&format!("  hint: {hint}\n"));
        }
        output::talk(&text);
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Failure {
        let mut failure = Failure::new(error.to_string());
        failure.no_engine = error.is_no_server();
        failure.older_engine = error.newest_version().map(str::to_owned);
        failure.hint = next_step(&error).map(str::to_owned);
        failure
    }
}

/// What helps with an engine that can't be reached.
fn next_step(error: &client::Error) -> Option<&'static str> {
    if error.is_no_server() {
        return Some("start one as root with `corten daemon`, or name another with -H");
    }
    if matches!(error, client::Error::Connect { source, .. } if source.kind() == ErrorKind::PermissionDenied)
    {
        return Some("run this as root, or as a member of the socket's group");
    }
    None
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

impl From<corten_registry::Error> for Failure {
    fn from(error: corten_registry::Error) -> Failure {
        Failure::new(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::new(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(error: client::Error) -> Option<String> {
        Failure::from(error).hint
    }

    #[test]
    fn failures_say_what_to_do_next() {
        let connect =
            |kind: ErrorKind| client::Error::Connect { host: "unix:///x".into(), source: kind.into() };
        assert!(Failure::from(connect(ErrorKind::NotFound)).no_engine);
        assert!(hint(connect(ErrorKind::ConnectionRefused)).unwrap().contains("corten daemon"));
        assert!(hint(connect(ErrorKind::PermissionDenied)).unwrap().contains("root"));
        // The engine's refusals are in the table of hints.
        assert_eq!(hint(client::Error::Server { status: 404, message: "No such container: x".into() }), None);
    }
}
