//! What can go wrong, with the object it went wrong on.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use corten_sys::netlink;
use ipnet::Ipv4Net;

use crate::endpoint::Protocol;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("invalid instance id {0:?}: eight hexadecimal digits are needed")]
    InvalidInstance(String),
    #[error("invalid bridge name {0:?}: at most 15 printable characters without '/', ':' and '%'")]
    InvalidBridgeName(String),
    #[error("{0} is not an address that the gateway of a network can have")]
    InvalidBip(Ipv4Net),
    #[error("fixed-cidr {cidr} is not within the subnet {subnet}")]
    InvalidFixedCidr { cidr: Ipv4Net, subnet: Ipv4Net },
    #[error("subnet {subnet} overlaps with the host's route to {route}")]
    SubnetOverlaps { subnet: Ipv4Net, route: Ipv4Net },
    #[error(
        "could not find an available subnet for the default network: all candidates overlap with the host's routes (set \"bip\")"
    )]
    NoFreeSubnet,
    #[error("no available IPv4 addresses in {0}")]
    AddressesExhausted(Ipv4Net),
    #[error("address {0} is already in use")]
    AddressInUse(Ipv4Addr),
    #[error("address {ip} is not available in subnet {subnet}")]
    AddressNotInSubnet { ip: Ipv4Addr, subnet: Ipv4Net },
    #[error("container {0} is already attached to the network")]
    AlreadyAttached(String),
    #[error("port 0 of a container cannot be published")]
    InvalidContainerPort,
    #[error("invalid range of host ports {0}-{1}")]
    InvalidPortRange(u16, u16),
    #[error("publishing on the IPv6 address {0} is not supported yet")]
    Ipv6HostAddress(IpAddr),
    /// Published by another container of this engine.
    #[error("Bind for {ip}:{port} failed: port is already allocated")]
    PortAllocated { ip: Ipv4Addr, port: u16, protocol: Protocol, container: String },
    /// Held by a program of the host.
    #[error("failed to bind host port {ip}:{port}/{protocol}: address already in use{}", owner.as_ref().map(|o| format!(" (by {o})")).unwrap_or_default())]
    PortInUse { ip: Ipv4Addr, port: u16, protocol: Protocol, owner: Option<String> },
    #[error("all ports of {first}-{last}/{protocol} are allocated")]
    PortsExhausted { first: u16, last: u16, protocol: Protocol },
    #[error("failed to bind host port {ip}:{port}/{protocol}: {source}")]
    HoldPort { ip: Ipv4Addr, port: u16, protocol: Protocol, source: io::Error },
    #[error("cannot {step}: {source}")]
    Netlink { step: String, source: netlink::Error },
    #[error("cannot {step}: {source}")]
    Namespace { step: &'static str, source: io::Error },
    #[error("cannot write {value:?} to the sysctl {key}: {source}")]
    Sysctl { key: String, value: String, source: io::Error },
    #[error("cannot read {path}: {source}")]
    Read { path: &'static str, source: io::Error },
    #[error("interface {0} not found")]
    NoInterface(String),
    #[error("interface {0} exists and is not a bridge")]
    NotABridge(String),
    #[error("several steps of closing failed: {0}")]
    Close(String),
}

impl Error {
    pub(crate) fn netlink(step: impl Into<String>) -> impl FnOnce(netlink::Error) -> Error {
        let step = step.into();
        move |source| Error::Netlink { step, source }
    }

    /// The caller asked for something that another one has: Docker answers 409 or 500 with this text, never "internal".
    pub fn is_conflict(&self) -> bool {
        matches!(
            self,
            Error::AddressInUse(_)
                | Error::AlreadyAttached(_)
                | Error::PortAllocated { .. }
                | Error::PortInUse { .. }
                | Error::PortsExhausted { .. }
        )
    }

    /// The request itself makes no sense.
    pub fn is_invalid(&self) -> bool {
        matches!(
            self,
            Error::InvalidInstance(_)
                | Error::InvalidBridgeName(_)
                | Error::InvalidBip(_)
                | Error::InvalidFixedCidr { .. }
                | Error::SubnetOverlaps { .. }
                | Error::AddressNotInSubnet { .. }
                | Error::InvalidContainerPort
                | Error::InvalidPortRange(..)
                | Error::Ipv6HostAddress(_)
        )
    }
}
