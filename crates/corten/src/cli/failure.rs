//! What the user is told when something fails: what, why, and what to do next.

use std::fmt;
use std::io::ErrorKind;

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
        let mut failure = Failure::new(error.to_string());
        failure.no_engine = error.is_no_server();
        failure.hint = next_step(&error).map(str::to_owned);
        failure
    }
}

/// What helps with an engine that can't be reached, and with its commonest refusals.
fn next_step(error: &client::Error) -> Option<&'static str> {
    if error.is_no_server() {
        return Some("start one as root with `corten daemon`, or name another with -H");
    }
    if matches!(error, client::Error::Connect { source, .. } if source.kind() == ErrorKind::PermissionDenied)
    {
        return Some("run this as root, or as a member of the socket's group");
    }
    error.status()?;
    let message = error.to_string().to_ascii_lowercase();
    let known = [
        ("no such container", "`corten ps -a` lists the containers"),
        ("no such image", "`corten images` lists the images"),
        ("no such volume", "`corten volume ls` lists the volumes"),
        ("no such network", "`corten network ls` lists the networks"),
        (
            "is already in use by container",
            "remove that container with `corten rm`, or choose another --name",
        ),
        ("you cannot remove a running container", "stop it first, or force it with `corten rm -f`"),
        ("is not running", "`corten start` starts it"),
        ("port is already allocated", "`corten ps` shows which container has it; choose another one with -p"),
    ];
    known.iter().find(|(words, _)| message.contains(words)).map(|(_, hint)| *hint)
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
        let refused = |message: &str| client::Error::Server { status: 404, message: message.into() };
        assert_eq!(
            hint(refused("No such container: x")).as_deref(),
            Some("`corten ps -a` lists the containers")
        );
        assert_eq!(hint(refused("something else")), None);
    }
}
