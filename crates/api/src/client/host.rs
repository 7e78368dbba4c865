//! Where an engine listens, as `-H` and `DOCKER_HOST` spell it.

use super::{Error, SshTarget};
use std::fmt;
use std::path::PathBuf;

/// A parsed `-H` value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    Unix(PathBuf),
    /// `host:port`.
    Tcp(String),
    Ssh(SshTarget),
}

impl Host {
    /// Reads `unix:///path`, `tcp://host[:port]`, `http://host[:port]`, `ssh://…` or a path; says what it cannot.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Self::parse_with_port(text, 2375)
    }

    /// As `parse`, with the port of a host that names none: TLS has one of its own.
    pub fn parse_with_port(text: &str, port: u16) -> Result<Self, Error> {
        let bad = |why| Err(Error::BadHost(text.to_owned(), why));
        if text.starts_with('/') {
            return Ok(Self::Unix(text.into()));
        }
        match text.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(("unix", _)) => bad("a unix socket wants an absolute path: unix:///run/corten/corten.sock"),
            Some(("tcp" | "http" | "https", address)) => {
                let address = address.trim_end_matches('/');
                if address.is_empty() || address.contains('/') {
                    return bad("want tcp://host:port");
                }
                let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
                Ok(Self::Tcp(if has_port { address.to_owned() } else { format!("{address}:{port}") }))
            }
            Some(("ssh", target)) => match SshTarget::parse(target) {
                Ok(target) => Ok(Self::Ssh(target)),
                Err(why) => bad(why),
            },
            Some(("npipe", _)) => bad("named pipes are Windows'"),
            _ => bad("want unix:///path, tcp://host:port or ssh://user@host"),
        }
    }

    /// The `Host` header.
    pub(super) fn authority(&self) -> &str {
        match self {
            Self::Unix(_) | Self::Ssh(_) => "localhost",
            Self::Tcp(address) => address,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Ssh(target) => target.fmt(f),
        }
    }
}

impl std::str::FromStr for Host {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}
