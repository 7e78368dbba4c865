//! Where the daemon listens: unix sockets, TCP, and sockets handed over by systemd. Deciding what an address means is
//! pure (`Address::parse`), opening it is `open`.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// Groups that may use the socket when none is named; the first that exists.
const DEFAULT_GROUPS: [&str; 2] = ["docker", "corten"];

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("{0:?} is no address to listen on: want unix:///path, tcp://address:port or fd://")]
    BadAddress(String),
    #[error(
        "{0}: whoever reaches a TCP port is root here, unless clients have to show a certificate; use --tlsverify with \
         --tlscacert, --tlscert and --tlskey, or say --insecure-tcp (or \"tls\": false in the configuration file)"
    )]
    InsecureTcp(String),
    #[error("{path}: an engine listens there already; stop it, or choose another socket with -H")]
    InUse { path: PathBuf },
    #[error("{path} is in the way: it is no socket")]
    NotASocket { path: PathBuf },
    #[error("listen on {address}: {source}")]
    Bind { address: String, source: io::Error },
    #[error("give {path} to the group {group}: {source}")]
    Group { path: PathBuf, group: String, source: io::Error },
    #[error("group {0} does not exist: create it with `groupadd {0}`, or name another with --group")]
    NoGroup(String),
    #[error(
        "fd://: no socket was handed over (LISTEN_FDS is not set for this process); start it by its socket unit"
    )]
    NoActivation,
}

/// An address, understood but not opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Unix(PathBuf),
    Tcp(String),
    /// All sockets that systemd handed over.
    Activated,
}

impl Address {
    pub fn parse(text: &str) -> Result<Self, ListenError> {
        Self::parse_with_port(text, 2375)
    }

    /// As `parse`, with the port of an address that names none: TLS has one of its own.
    pub fn parse_with_port(text: &str, default_port: u16) -> Result<Self, ListenError> {
        let bad = || ListenError::BadAddress(text.to_owned());
        match text.split_once("://").ok_or_else(bad)? {
            ("unix", path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            ("tcp", address) => {
                let (host, port) = match address.rsplit_once(':') {
                    Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| bad())?),
                    _ => (address, default_port),
                };
                let host = if host.is_empty() { "127.0.0.1" } else { host };
                Ok(Self::Tcp(format!("{host}:{port}")))
            }
            ("fd", _) => Ok(Self::Activated),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Activated => f.write_str("fd://"),
        }
    }
}

/// An open socket that takes connections.
#[derive(Debug)]
pub enum Listener {
    /// With the path to remove at the end; none when somebody else made it.
    Unix(UnixListener, Option<PathBuf>),
    Tcp(TcpListener, Option<Arc<ServerConfig>>),
}

/// A connection of a client.
#[derive(Debug)]
pub enum Accepted {
    Unix(UnixStream),
    Tcp(TcpStream),
    /// TLS is yet to be agreed upon.
    Tls(TcpStream, Arc<ServerConfig>),
}

impl Listener {
    /// The next connection. Nothing is lost when this future is dropped.
    pub async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Unix(listener, _) => Ok(Accepted::Unix(listener.accept().await?.0)),
            Self::Tcp(listener, tls) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(match tls {
                    Some(tls) => Accepted::Tls(stream, tls.clone()),
                    None => Accepted::Tcp(stream),
                })
            }
        }
    }

    /// Removes what it left in the file system.
    pub fn clean_up(&self) {
        if let Self::Unix(_, Some(path)) = self
            && let Err(error) = std::fs::remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %path.display(), "remove the socket");
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(listener, _) => match listener.local_addr() {
                Ok(address) => {
                    write!(f, "unix://{}", address.as_pathname().unwrap_or(Path::new("")).display())
                }
                Err(_) => f.write_str("unix://"),
            },
            Self::Tcp(listener, _) => match listener.local_addr() {
                Ok(address) => write!(f, "tcp://{address}"),
                Err(_) => f.write_str("tcp://"),
            },
        }
    }
}

/// What a TCP port asks of its clients (`tls::TcpAccess`), ready for use.
#[derive(Clone, Debug)]
pub enum TcpPolicy {
    Refused,
    Tls(Arc<ServerConfig>),
    Plain,
}

impl TcpPolicy {
    fn tls(&self, address: &str) -> Result<Option<Arc<ServerConfig>>, ListenError> {
        match self {
            Self::Refused => Err(ListenError::InsecureTcp(address.to_owned())),
            Self::Tls(config) => Ok(Some(config.clone())),
            Self::Plain => Ok(None),
        }
    }
}

/// Opens an address; `group` is who may use a unix socket besides root.
pub async fn open(
    address: &Address,
    group: Option<&str>,
    tcp: &TcpPolicy,
) -> Result<Vec<Listener>, ListenError> {
    let failed = |source| ListenError::Bind { address: address.to_string(), source };
    match address {
        Address::Unix(path) => Ok(vec![bind_unix(path, group)?]),
        Address::Tcp(to) => {
            let tls = tcp.tls(&address.to_string())?;
            Ok(vec![Listener::Tcp(TcpListener::bind(to).await.map_err(failed)?, tls)])
        }
        Address::Activated => {
            let fds = corten_sys::activation::take_listen_fds();
            if fds.is_empty() {
                return Err(ListenError::NoActivation);
            }
            fds.into_iter().map(|fd| adopt(fd, group, tcp, failed)).collect()
        }
    }
}

fn bind_unix(path: &Path, group: Option<&str>) -> Result<Listener, ListenError> {
    let failed = |source| ListenError::Bind { address: format!("unix://{}", path.display()), source };
    clear_stale(path)?;
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o660)).map_err(failed)?;
    give_to_group(path, group)?;
    Ok(Listener::Unix(listener, Some(path.into())))
}

/// Lets a group use the socket: the one that is named, or a default one that the host has.
fn give_to_group(path: &Path, group: Option<&str>) -> Result<(), ListenError> {
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let chosen = match group {
        Some(group) => {
            Some((group, group_id(&groups, group).ok_or_else(|| ListenError::NoGroup(group.into()))?))
        }
        None => DEFAULT_GROUPS.iter().find_map(|name| Some((*name, group_id(&groups, name)?))),
    };
    if let Some((name, id)) = chosen {
        std::os::unix::fs::chown(path, None, Some(id)).map_err(|source| ListenError::Group {
            path: path.into(),
            group: name.into(),
            source,
        })?;
    }
    Ok(())
}

/// Removes a socket that nobody listens on any more; refuses one that somebody does.
fn clear_stale(path: &Path) -> Result<(), ListenError> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(ListenError::NotASocket { path: path.into() });
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)
            .map_err(|source| ListenError::Bind { address: format!("unix://{}", path.display()), source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => Err(ListenError::InUse { path: path.into() }),
    }
}

/// A group's number, from the text of /etc/group; a number stands for itself.
fn group_id(groups: &str, name: &str) -> Option<u32> {
    name.parse().ok().or_else(|| {
        let mut fields = groups
            .lines()
            .map(|line| line.split(':'))
            .find_map(|mut fields| (fields.next() == Some(name)).then_some(fields))?;
        fields.nth(1)?.parse().ok()
    })
}

/// Takes a socket of unknown family over.
fn adopt(
    fd: OwnedFd,
    group: Option<&str>,
    tcp: &TcpPolicy,
    failed: impl Fn(io::Error) -> ListenError,
) -> Result<Listener, ListenError> {
    let name = rustix::net::getsockname(&fd).map_err(|e| failed(e.into()))?;
    rustix::io::ioctl_fionbio(&fd, true).map_err(|e| failed(e.into()))?;
    if name.address_family() == rustix::net::AddressFamily::UNIX {
        let listener = UnixListener::from_std(fd.into()).map_err(&failed)?;
        let address = listener.local_addr().map_err(failed)?;
        // A unit can't say "the group docker, if there is one": where it says none, that is done here.
        if let Some(path) = address.as_pathname()
            && std::fs::metadata(path).is_ok_and(|socket| socket.gid() == 0)
        {
            give_to_group(path, group)?;
        }
        Ok(Listener::Unix(listener, None))
    } else {
        let listener = TcpListener::from_std(fd.into()).map_err(&failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let tls = tcp.tls(&format!("fd:// (tcp://{address})"))?;
        Ok(Listener::Tcp(listener, tls))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_or_refused() {
        assert_eq!(Address::parse("unix:///run/a.sock").unwrap(), Address::Unix("/run/a.sock".into()));
        assert_eq!(Address::parse("tcp://:2375").unwrap(), Address::Tcp("127.0.0.1:2375".into()));
        assert_eq!(Address::parse("tcp://[::]:1").unwrap(), Address::Tcp("[::]:1".into()));
        assert_eq!(Address::parse("tcp://[::1]").unwrap(), Address::Tcp("[::1]:2375".into()));
        assert_eq!(Address::parse_with_port("tcp://a", 2376).unwrap(), Address::Tcp("a:2376".into()));
        assert_eq!(Address::parse("fd://").unwrap(), Address::Activated);
        for bad in ["", "/run/a.sock", "unix://a.sock", "tcp://host:port", "npipe://x"] {
            assert!(matches!(Address::parse(bad), Err(ListenError::BadAddress(_))), "{bad}");
        }
    }

    #[test]
    fn groups_are_found_by_name_and_number() {
        let groups = "root:x:0:\ndockers:x:7:\ndocker:x:999:alice,bob\n";
        assert_eq!(group_id(groups, "docker"), Some(999));
        assert_eq!(group_id(groups, "1234"), Some(1234));
        assert_eq!(group_id(groups, "wheel"), None);
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/engine.sock");
        let address = Address::Unix(path.clone());
        let first = open(&address, Some("0"), &TcpPolicy::Refused).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert!(matches!(open(&address, None, &TcpPolicy::Refused).await, Err(ListenError::InUse { .. })));
        drop(first);
        open(&address, Some("0"), &TcpPolicy::Refused).await.unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "precious").unwrap();
        assert!(matches!(
            open(&Address::Unix(file.clone()), None, &TcpPolicy::Refused).await,
            Err(ListenError::NotASocket { .. })
        ));
        assert_eq!(std::fs::read_to_string(file).unwrap(), "precious");
    }
}
