//! Ports of the host: which are published, and sockets that hold them against the host's programs.
//!
//! A published port needs no program that listens: the firewall translates before a socket is looked up. It is held by
//! a bound socket, so that a program that wants it gets EADDRINUSE, and we do when a program has it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, Shutdown, SocketFlags, SocketType, sockopt};

use crate::endpoint::{HostPort, PortRequest, Protocol, PublishedPort};
use crate::error::{Error, Result};
use crate::port_owner;

/// IANA's dynamic ports, for a host that does not tell its own range.
const EPHEMERAL_PORTS: (u16, u16) = (49153, 65535);

/// For which families a container can be reached, and where ports go that name no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    pub ipv4: bool,
    pub ipv6: bool,
    /// 0.0.0.0 stands for `[::]` too.
    pub host_ip: IpAddr,
    /// Families whose containers are reached by their own addresses: no port of the host is taken.
    pub routed_ipv4: bool,
    pub routed_ipv6: bool,
}

impl Reach {
    /// Whether there is an address on which a request can be published.
    pub fn serves(&self, request: &PortRequest) -> bool {
        self.host_ips(request).is_ok()
    }

    /// Whether a port that is published leads to the container still, and in the same way.
    pub fn leads(&self, port: &PublishedPort) -> bool {
        let there = if port.host_ip.is_ipv4() { self.ipv4 } else { self.ipv6 };
        there && self.is_routed(&port.host_ip) == port.is_direct()
    }

    fn is_routed(&self, ip: &IpAddr) -> bool {
        if ip.is_ipv4() { self.routed_ipv4 } else { self.routed_ipv6 }
    }

    /// The addresses of the host on which a request is to be published, all with the same port.
    fn host_ips(&self, request: &PortRequest) -> Result<Vec<IpAddr>> {
        let both = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let reachable = |ip: &IpAddr| if ip.is_ipv4() { self.ipv4 } else { self.ipv6 };
        if request.host_ip == Some(Ipv6Addr::LOCALHOST.into()) {
            return Err(Error::Ipv6Loopback { port: request.container_port });
        }
        let wanted = match request.host_ip {
            Some(ip) => vec![ip],
            None if self.host_ip == both[0] => both.into(),
            None => vec![self.host_ip],
        };
        let found: Vec<IpAddr> = wanted.iter().copied().filter(reachable).collect();
        if found.is_empty() {
            return Err(Error::NoAddressFor { ip: wanted[0], port: request.container_port });
        }
        Ok(found)
    }
}

/// The published ports of one engine.
pub struct Ports {
    taken: HashMap<(Protocol, u16), Vec<Binding>>,
    ephemeral: (u16, u16),
    next: u16,
}

struct Binding {
    ip: IpAddr,
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
        reach: Reach,
    ) -> Result<Vec<PublishedPort>> {
        let mut published = Vec::new();
        for request in requests {
            match self.claim_one(container, request, reach) {
                Ok(ports) => published.extend(ports),
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
        for port in ports.iter().filter(|port| !port.is_direct()) {
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
        reach: Reach,
    ) -> Result<Vec<PublishedPort>> {
        if request.container_port == 0 {
            return Err(Error::InvalidContainerPort);
        }
        let (routed, translated): (Vec<IpAddr>, Vec<IpAddr>) =
            reach.host_ips(request)?.into_iter().partition(|ip| reach.is_routed(ip));
        let direct = routed.into_iter().map(|ip| PublishedPort {
            container_port: request.container_port,
            protocol: request.protocol,
            host_ip: if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() },
            host_port: 0,
        });
        let mut ports = match translated.is_empty() {
            true => Vec::new(),
            false => self.claim_host_port(container, request, &translated)?,
        };
        ports.extend(direct);
        Ok(ports)
    }

    /// One port of the host, the same on all of these addresses.
    fn claim_host_port(
        &mut self,
        container: &str,
        request: &PortRequest,
        host_ips: &[IpAddr],
    ) -> Result<Vec<PublishedPort>> {
        let protocol = request.protocol;
        let ports = |host_port| -> Vec<PublishedPort> {
            let port = |ip| PublishedPort {
                container_port: request.container_port,
                protocol,
                host_ip: ip,
                host_port,
            };
            host_ips.iter().copied().map(port).collect()
        };
        let (first, last) = match request.host_port {
            HostPort::Fixed(0) | HostPort::Any => self.ephemeral,
            HostPort::Fixed(number) => {
                let ports = ports(number);
                self.claim_all(container, &ports)?;
                return Ok(ports);
            }
            HostPort::Range(first, last) if first == 0 || first > last => {
                return Err(Error::InvalidPortRange(first, last));
            }
            HostPort::Range(first, last) => (first, last),
        };
        let random = !matches!(request.host_port, HostPort::Range(..));
        let start = if random { self.next } else { first };
        for number in (start..=last).chain(first..start) {
            let ports = ports(number);
            match self.claim_all(container, &ports) {
                Ok(()) => {
                    if random {
                        self.next = if number == last { first } else { number + 1 };
                    }
                    return Ok(ports);
                }
                Err(Error::PortAllocated { .. } | Error::PortInUse { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::PortsExhausted { first, last, protocol })
    }

    fn claim_all(&mut self, container: &str, ports: &[PublishedPort]) -> Result<()> {
        for (done, port) in ports.iter().enumerate() {
            if let Err(error) = self.try_claim(container, port) {
                self.release(&ports[..done]);
                return Err(error);
            }
        }
        Ok(())
    }

    fn try_claim(&mut self, container: &str, port: &PublishedPort) -> Result<()> {
        let PublishedPort { protocol, host_ip: ip, host_port, .. } = *port;
        let clashes = |binding: &&Binding| {
            binding.ip.is_ipv4() == ip.is_ipv4()
                && (binding.ip == ip || binding.ip.is_unspecified() || ip.is_unspecified())
        };
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
fn hold(protocol: Protocol, ip: IpAddr, port: u16) -> io::Result<Option<OwnedFd>> {
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, net::ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, net::ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, net::ipproto::SCTP),
    };
    let family = if ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = match net::socket_with(family, kind, SocketFlags::CLOEXEC, Some(number)) {
        Ok(socket) => socket,
        Err(Errno::PROTONOSUPPORT) if protocol == Protocol::Sctp => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if ip.is_ipv6() {
        // The same port of IPv4 is held by a socket of its own.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    let address = SocketAddr::new(ip, port);
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
fn hold_tcp(socket: &OwnedFd, address: &SocketAddr) -> io::Result<()> {
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
