//! What a caller asks for and gets: endpoints and published ports, as plain data.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
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
    /// `None`: [`crate::Settings::default_host_ip`].
    pub host_ip: Option<IpAddr>,
    pub host_port: HostPort,
}

/// A port as it is published; `host_ip` 0.0.0.0 stands for every address of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PublishedPort {
    pub container_port: u16,
    pub protocol: Protocol,
    pub host_ip: Ipv4Addr,
    pub host_port: u16,
}

/// What a container wants of its network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AttachRequest {
    /// The container's id; at most one endpoint each.
    pub container: String,
    pub ip: Option<Ipv4Addr>,
    pub mac: Option<MacAddr>,
    pub ports: Vec<PortRequest>,
}

/// A container's place in a network, ready for use.
#[derive(Debug)]
pub struct Endpoint {
    /// lo is up; eth0 has its address and is up; the default route is set; the sysctls of
    /// [`crate::Settings::endpoint_sysctls`] are written. The namespace lives as long as this or a process in it.
    pub netns: OwnedFd,
    pub ip: Ipv4Addr,
    pub prefix_len: u8,
    pub gateway: Ipv4Addr,
    pub mac: MacAddr,
    pub mtu: u32,
    /// The host's end of the veth pair.
    pub host_interface: String,
    pub ports: Vec<PublishedPort>,
}

impl Endpoint {
    /// What must be kept to hand the endpoint to [`crate::Networks::restore`] after a restart.
    pub fn restored(&self, container: &str) -> RestoredEndpoint {
        RestoredEndpoint {
            container: container.to_owned(),
            ip: self.ip,
            mac: self.mac,
            host_interface: self.host_interface.clone(),
            ports: self.ports.clone(),
        }
    }
}

/// An endpoint of a container that was running before the engine started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoredEndpoint {
    pub container: String,
    pub ip: Ipv4Addr,
    pub mac: MacAddr,
    pub host_interface: String,
    pub ports: Vec<PublishedPort>,
}
