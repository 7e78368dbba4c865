//! What a caller asks for and gets: endpoints and published ports, as plain data.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::mac::MacAddr;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// The number in the IP header.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Protocol, String> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Protocol::Tcp),
            "udp" => Ok(Protocol::Udp),
            "sctp" => Ok(Protocol::Sctp),
            _ => Err(format!("invalid proto: {text}")),
        }
    }
}

/// Which port of the host a published port takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum HostPort {
    /// A free one of the ephemeral range.
    #[default]
    Any,
    Fixed(u16),
    /// The first free one of the range, both ends included.
    Range(u16, u16),
}

/// One `--publish`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PortRequest {
    pub container_port: u16,
    pub protocol: Protocol,
    /// `None`: where the network publishes.
    pub host_ip: Option<IpAddr>,
    pub host_port: HostPort,
}

/// A port as it is published; `host_ip` 0.0.0.0 or `::` stands for every address of the host of that family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PublishedPort {
    pub container_port: u16,
    pub protocol: Protocol,
    pub host_ip: IpAddr,
    /// 0: none, the container's own port is open to whoever has a route to it.
    pub host_port: u16,
}

impl PublishedPort {
    /// By the container's own address.
    pub fn is_direct(&self) -> bool {
        self.host_port == 0
    }
}

/// What a container wants of one network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EndpointRequest {
    /// The network's id.
    pub network: String,
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    pub mac: Option<MacAddr>,
    /// The interface's name in the container; `None`: the next one with the network's prefix.
    pub interface: Option<String>,
    /// Below /proc/sys/net, with slashes, `IFNAME` standing for the interface.
    pub sysctls: Vec<(String, String)>,
    /// Further addresses of the interface, of the host's or nobody's giving (169.254.0.0/16, fe80::/64).
    pub link_local: Vec<IpAddr>,
    /// The endpoint with the highest one is the container's way out.
    pub gateway_priority: i64,
}

/// What a container wants of its networks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SandboxRequest {
    /// The container's id.
    pub container: String,
    /// At most one per network; the first is eth0.
    pub endpoints: Vec<EndpointRequest>,
    pub ports: Vec<PortRequest>,
}

/// An address with what belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned<A> {
    pub ip: A,
    pub prefix_len: u8,
    /// The network's way out; none of an internal one.
    pub gateway: Option<A>,
}

/// A container's place in one network: the interface is up and has its addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The network's id.
    pub network: String,
    /// In the container.
    pub interface: String,
    /// The host's end of the veth pair.
    pub host_interface: String,
    pub mac: MacAddr,
    pub ipv4: Option<Assigned<Ipv4Addr>>,
    pub ipv6: Option<Assigned<Ipv6Addr>>,
    #[serde(default)]
    pub gateway_priority: i64,
}

impl Endpoint {
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.ipv4.map(|a| a.ip.into()).into_iter().chain(self.ipv6.map(|a| a.ip.into()))
    }
}

/// A container's network namespace, ready for use.
#[derive(Debug)]
pub struct Sandbox {
    /// lo is up, the default routes are set, the sysctls of [`crate::Settings::endpoint_sysctls`] are written. The namespace
    /// lives as long as this or a process in it.
    pub netns: OwnedFd,
    /// In the order of the request.
    pub endpoints: Vec<Endpoint>,
    pub ports: Vec<PublishedPort>,
}

/// The endpoints of a container that was running before the engine started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoredSandbox {
    pub container: String,
    pub endpoints: Vec<Endpoint>,
    pub ports: Vec<PublishedPort>,
}
