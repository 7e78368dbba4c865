//! Where an engine listens, as `-H` and `DOCKER_HOST` spell it.

use super::Error;
use std::fmt;
use std::path::PathBuf;

/// A parsed `-H` value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    Unix(PathBuf),
    /// `host:port`.
    Tcp(String),
}

impl Host {
    /// Reads `unix:///path`, `tcp://host[:port]`, `http://host[:port]` or a path; says what it cannot.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bad = |why| Err(Error::BadHost(text.to_owned(), why));
        if text.starts_with('/') {
            return Ok(Self::Unix(text.into()));
        }
        match text.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(("unix", _)) => bad("a unix socket wants an absolute path: unix:///run/corten/corten.sock"),
            Some(("tcp" | "http", address)) => {
                let address = address.trim_end_matches('/');
                if address.is_empty() || address.contains('/') {
                    return bad("want tcp://host:port");
                }
                let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
                Ok(Self::Tcp(if has_port { address.to_owned() } else { format!("{address}:2375") }))
            }
            Some(("https", _)) => Err(Error::TlsUnsupported(text.to_owned())),
            Some(("ssh", _)) => {
                bad("ssh is not spoken; forward the socket with ssh -L and use tcp:// or unix://")
            }
            Some(("npipe", _)) => bad("named pipes are Windows'"),
            _ => bad("want unix:///path or tcp://host:port"),
        }
    }

    /// As `parse`, but refuses a host when the environment (`DOCKER_TLS_VERIFY`, `DOCKER_TLS`) asks for TLS on it.
    pub fn parse_with_env(text: &str, env: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let host = Self::parse(text)?;
        let wants_tls =
            ["DOCKER_TLS_VERIFY", "DOCKER_TLS"].iter().any(|name| env(name).is_some_and(|v| !v.is_empty()));
        match host {
            Self::Tcp(_) if wants_tls => Err(Error::TlsUnsupported(text.to_owned())),
            host => Ok(host),
        }
    }

    /// The `Host` header.
    pub(super) fn authority(&self) -> &str {
        match self {
            Self::Unix(_) => "localhost",
            Self::Tcp(address) => address,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

impl std::str::FromStr for Host {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}
