//! Ports of the host: which are published, and sockets that hold them against the host's programs.
//!
//! A published port needs no program that listens: the firewall translates before a socket is looked up. It is held by
//! a bound socket, so that a program that wants it gets EADDRINUSE, and we do when a program has it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, Shutdown, SocketFlags, SocketType, sockopt};

use crate::endpoint::{HostPort, PortRequest, Protocol, PublishedPort};
use crate::error::{Error, Result};
use crate::port_owner;

/// IANA's dynamic ports, for a host that does not tell its own range.
const EPHEMERAL_PORTS: (u16, u16) = (49153, 65535);

/// The published ports of one engine.
pub struct Ports {
    taken: HashMap<(Protocol, u16), Vec<Binding>>,
    ephemeral: (u16, u16),
    next: u16,
}

struct Binding {
    ip: Ipv4Addr,
    container: String,
    /// `None`: this kernel has no such protocol for sockets (SCTP), so no program can want it either.
    _socket: Option<OwnedFd>,
}

impl Ports {
    /// Random ports come from the range that the host uses for outgoing connections, as Docker's do.
    pub fn new() -> Ports {
        let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
        Ports::with_range(parse_range(&text).unwrap_or(EPHEMERAL_PORTS))
    }

    fn with_range(ephemeral: (u16, u16)) -> Ports {
        Ports { taken: HashMap::new(), ephemeral, next: ephemeral.0 }
    }

    /// Takes and holds all of them or none.
    pub fn claim(
        &mut self,
        container: &str,
        requests: &[PortRequest],
        default_ip: Ipv4Addr,
    ) -> Result<Vec<PublishedPort>> {
        let mut published = Vec::new();
        for request in requests {
            match self.claim_one(container, request, default_ip) {
                Ok(port) => published.push(port),
                Err(error) => {
                    self.release(&published);
                    return Err(error);
                }
            }
        }
        Ok(published)
    }

    /// Takes up ports again that were published before. One that a program of the host has taken meanwhile is
    /// published nevertheless: the container had it first, and its clients find it by the firewall.
    pub fn restore(&mut self, container: &str, ports: &[PublishedPort]) {
        for port in ports {
            let socket = hold(port.protocol, port.host_ip, port.host_port).unwrap_or_else(|error| {
                tracing::warn!(%error, port = port.host_port, container, "cannot hold a published port again");
                None
            });
            self.insert(container, port, socket);
        }
    }

    pub fn release(&mut self, ports: &[PublishedPort]) {
        for port in ports {
            let key = (port.protocol, port.host_port);
            let Some(bindings) = self.taken.get_mut(&key) else { continue };
            bindings.retain(|binding| binding.ip != port.host_ip);
            if bindings.is_empty() {
                self.taken.remove(&key);
            }
        }
    }

    fn claim_one(
        &mut self,
        container: &str,
        request: &PortRequest,
        default_ip: Ipv4Addr,
    ) -> Result<PublishedPort> {
        if request.container_port == 0 {
            return Err(Error::InvalidContainerPort);
        }
        let host_ip = match request.host_ip {
            None => default_ip,
            Some(IpAddr::V4(ip)) => ip,
            Some(ip) => return Err(Error::Ipv6HostAddress(ip)),
        };
        let protocol = request.protocol;
        let port = |host_port| PublishedPort {
            container_port: request.container_port,
            protocol,
            host_ip,
            host_port,
        };
        let (first, last) = match request.host_port {
            HostPort::Fixed(0) | HostPort::Any => self.ephemeral,
            HostPort::Fixed(number) => {
                let port = port(number);
                self.try_claim(container, &port)?;
                return Ok(port);
            }
            HostPort::Range(first, last) if first == 0 || first > last => {
                return Err(Error::InvalidPortRange(first, last));
            }
            HostPort::Range(first, last) => (first, last),
        };
        let random = !matches!(request.host_port, HostPort::Range(..));
        let start = if random { self.next } else { first };
        for number in (start..=last).chain(first..start) {
            match self.try_claim(container, &port(number)) {
                Ok(()) => {
                    if random {
                        self.next = if number == last { first } else { number + 1 };
                    }
                    return Ok(port(number));
                }
                Err(Error::PortAllocated { .. } | Error::PortInUse { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::PortsExhausted { first, last, protocol })
    }

    fn try_claim(&mut self, container: &str, port: &PublishedPort) -> Result<()> {
        let PublishedPort { protocol, host_ip: ip, host_port, .. } = *port;
        let clashes =
            |binding: &&Binding| binding.ip == ip || binding.ip.is_unspecified() || ip.is_unspecified();
        if let Some(binding) = self.taken.get(&(protocol, host_port)).and_then(|all| all.iter().find(clashes))
        {
            return Err(Error::PortAllocated {
                ip,
                port: host_port,
                protocol,
                container: binding.container.clone(),
            });
        }
        match hold(protocol, ip, host_port) {
            Ok(socket) => {
                self.insert(container, port, socket);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                Err(Error::PortInUse { ip, port: host_port, protocol, owner: None })
            }
            Err(source) => Err(Error::HoldPort { ip, port: host_port, protocol, source }),
        }
    }

    fn insert(&mut self, container: &str, port: &PublishedPort, socket: Option<OwnedFd>) {
        let binding = Binding { ip: port.host_ip, container: container.to_owned(), _socket: socket };
        self.taken.entry((port.protocol, port.host_port)).or_default().push(binding);
    }
}

/// Adds to [`Error::PortInUse`] whose it is; apart, because it reads all of /proc and nobody may wait for that.
pub fn name_owner(error: Error) -> Error {
    match error {
        Error::PortInUse { ip, port, protocol, owner: None } => {
            Error::PortInUse { ip, port, protocol, owner: port_owner::find(protocol, port) }
        }
        other => other,
    }
}

/// Binds a socket that holds the port.
fn hold(protocol: Protocol, ip: Ipv4Addr, port: u16) -> io::Result<Option<OwnedFd>> {
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, net::ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, net::ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, net::ipproto::SCTP),
    };
    let socket = match net::socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, Some(number)) {
        Ok(socket) => socket,
        Err(Errno::PROTONOSUPPORT) if protocol == Protocol::Sctp => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let address = SocketAddrV4::new(ip, port);
    if protocol == Protocol::Tcp {
        hold_tcp(&socket, &address)?;
    } else {
        net::bind(&socket, &address)?;
    }
    Ok(Some(socket))
}

/// SO_REUSEADDR passes over connections in TIME_WAIT that a program has left behind, but alone it would let the next
/// program with SO_REUSEADDR bind beside us. Listening for a moment makes the kernel check as for a listener and forget that
/// the port may be shared; `shutdown` then ends the listening and keeps the port, and without the option nobody may join.
fn hold_tcp(socket: &OwnedFd, address: &SocketAddrV4) -> io::Result<()> {
    sockopt::set_socket_reuseaddr(socket, true)?;
    net::bind(socket, address)?;
    net::listen(socket, 0)?;
    net::shutdown(socket, Shutdown::Read)?;
    sockopt::set_socket_reuseaddr(socket, false)?;
    Ok(())
}

fn parse_range(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_ascii_whitespace().map(|word| word.parse().ok());
    let (first, last) = (numbers.next()??, numbers.next()??);
    (first > 0 && first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests;
