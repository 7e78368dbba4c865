//! Finding a receiver of logs and opening the first connection to it: here, where a name can be looked up and a container that
//! can't log be refused before it runs. Later connections are the monitor's.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use corten_runtime::monitor::protocol::{RemoteAddress, RemoteLog, Transport};
use tokio::net::{TcpStream, UnixDatagram, UnixStream};
use tokio::time::timeout;

use super::remote::{Plan, Target, plain};

/// How long looking a name up, or opening a connection, may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the monitor is told, and a connection where there is one to be had. The error is why not.
pub async fn reach(plan: Plan) -> Result<(RemoteLog, Option<OwnedFd>), String> {
    let Plan { driver, target, mut transport, format, policy, lazy } = plan;
    let mut named = None;
    let (addresses, socket) = match &target {
        Target::Local(sockets) if lazy => {
            (sockets.iter().map(|(path, _)| RemoteAddress::Unix(path.clone())).collect(), None)
        }
        Target::Local(sockets) => {
            let mut found = None;
            let mut refusals = Vec::new();
            for (path, kind) in sockets {
                let connected = match kind {
                    Transport::Stream => {
                        UnixStream::connect(path).await.and_then(|s| s.into_std()).map(OwnedFd::from)
                    }
                    Transport::Datagram => UnixDatagram::unbound()
                        .and_then(|socket| socket.connect(path).map(|()| socket))
                        .and_then(|socket| socket.into_std())
                        .map(OwnedFd::from),
                };
                match connected {
                    Ok(socket) => {
                        found = Some((path.clone(), *kind, socket));
                        break;
                    }
                    Err(e) => refusals.push(format!("dial unix {}: connect: {}", path.display(), plain(&e))),
                }
            }
            let Some((path, kind, socket)) = found else {
                return Err(match (driver, refusals.as_slice()) {
                    ("journald", _) => "journald is not enabled on this host".to_owned(),
                    (_, [only]) => only.clone(),
                    _ => "Unix syslog delivery error".to_owned(),
                });
            };
            transport = kind;
            (vec![RemoteAddress::Unix(path)], Some(socket))
        }
        Target::Network { host, port } => {
            let protocol = if transport == Transport::Stream { "tcp" } else { "udp" };
            let addresses = look_up(protocol, host, *port).await?;
            let socket = match transport {
                Transport::Stream if !lazy => Some(connect(driver, host, *port, &addresses).await?),
                _ => None,
            };
            named = Some((host.clone(), *port)).filter(|(host, _)| host.parse::<IpAddr>().is_err());
            (addresses.into_iter().map(RemoteAddress::Ip).collect(), socket)
        }
    };
    Ok((RemoteLog { format, transport, addresses, host: named, policy }, socket))
}

async fn look_up(protocol: &str, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let failed = |why: &str| format!("dial {protocol}: lookup {host}: {why}");
    match timeout(PATIENCE, tokio::net::lookup_host((host, port))).await {
        Ok(Ok(found)) => {
            let found: Vec<SocketAddr> = found.collect();
            if found.is_empty() { Err(failed("no such host")) } else { Ok(found) }
        }
        Ok(Err(_)) => Err(failed("no such host")),
        Err(_) => Err(failed("i/o timeout")),
    }
}

async fn connect(driver: &str, host: &str, port: u16, addresses: &[SocketAddr]) -> Result<OwnedFd, String> {
    let mut refusal = String::new();
    for address in addresses {
        let why = match timeout(PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => match stream.into_std() {
                Ok(stream) => return Ok(stream.into()),
                Err(e) => plain(&e),
            },
            Ok(Err(e)) => format!("connect: {}", plain(&e)),
            Err(_) => "i/o timeout".to_owned(),
        };
        refusal = format!("dial tcp {address}: {why}");
    }
    if driver == "gelf" {
        return Err(format!("gelf: cannot connect to GELF endpoint: {host}:{port} {refusal}"));
    }
    Err(refusal)
}
