//! What can go wrong, with the object it went wrong on.

use std::io;
use std::net::{IpAddr, SocketAddr};

use corten_sys::netlink;
use ipnet::IpNet;

use crate::endpoint::Protocol;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("invalid instance id {0:?}: eight hexadecimal digits are needed")]
    InvalidInstance(String),
    #[error("invalid bridge name {0:?}: at most 15 printable characters without '/', ':' and '%'")]
    InvalidBridgeName(String),
    #[error("{0} is not an address that the gateway of a network can have")]
    InvalidBip(IpNet),
    #[error("fixed-cidr {cidr} is not within the subnet {subnet}")]
    InvalidFixedCidr { cidr: IpNet, subnet: IpNet },
    #[error("range {range} is not within the subnet {subnet}")]
    InvalidRange { range: IpNet, subnet: IpNet },
    #[error("subnet {subnet} overlaps with the host's route to {route}")]
    SubnetOverlaps { subnet: IpNet, route: IpNet },
    /// Docker's words.
    #[error("invalid pool request: Pool overlaps with other one on this address space")]
    PoolOverlaps,
    #[error(
        "could not find an available subnet for the default network: all candidates overlap with the host's routes (set \"bip\")"
    )]
    NoFreeSubnet,
    #[error(
        "all predefined address pools have been fully subnetted: each overlaps with a network or a route of the host (name a subnet, or set \"default-address-pools\")"
    )]
    PoolsExhausted,
    #[error("no available IP addresses on this network's address pools: {0}")]
    AddressesExhausted(IpNet),
    #[error("Address already in use: {0}")]
    AddressInUse(IpAddr),
    #[error("address {ip} is not available in subnet {subnet}")]
    AddressNotInSubnet { ip: IpAddr, subnet: IpNet },
    #[error("no configured subnet or ip-range contains the IP address {0}")]
    AddressInNoSubnet(IpAddr),
    /// Docker's words.
    #[error("gateway mode 'isolated' can only be used for an internal network")]
    IsolatedNotInternal,
    #[error("network {0} not found")]
    NoNetwork(String),
    #[error("network {0} has active endpoints")]
    NetworkInUse(String),
    #[error("network {id} already uses the bridge {bridge}")]
    BridgeInUse { bridge: String, id: String },
    #[error("IPv6 is not available on this host: the kernel has no /proc/sys/net/ipv6")]
    NoIpv6,
    #[error("container {0} has no network namespace of this engine")]
    NotAttached(String),
    #[error("container {0} is already attached to the network")]
    AlreadyAttached(String),
    #[error("port 0 of a container cannot be published")]
    InvalidContainerPort,
    #[error("invalid range of host ports {0}-{1}")]
    InvalidPortRange(u16, u16),
    #[error(
        "cannot publish port {port} on {ip}: the container has no address of that family on a network with a way out"
    )]
    NoAddressFor { ip: IpAddr, port: u16 },
    #[error(
        "cannot publish port {port} on [::1]: Linux does not route IPv6's loopback address to containers; publish on 127.0.0.1, or on another address of the host"
    )]
    Ipv6Loopback { port: u16 },
    /// Published by another container of this engine.
    #[error("Bind for {} failed: port is already allocated", SocketAddr::new(*.ip, *.port))]
    PortAllocated { ip: IpAddr, port: u16, protocol: Protocol, container: String },
    /// Held by a program of the host.
    #[error("failed to bind host port {}/{protocol}: address already in use{}", SocketAddr::new(*.ip, *.port), owner.as_ref().map(|o| format!(" (by {o})")).unwrap_or_default())]
    PortInUse { ip: IpAddr, port: u16, protocol: Protocol, owner: Option<String> },
    #[error("all ports of {first}-{last}/{protocol} are allocated")]
    PortsExhausted { first: u16, last: u16, protocol: Protocol },
    #[error("failed to bind host port {}/{protocol}: {source}", SocketAddr::new(*.ip, *.port))]
    HoldPort { ip: IpAddr, port: u16, protocol: Protocol, source: io::Error },
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
                | Error::BridgeInUse { .. }
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
                | Error::NoAddressFor { .. }
                | Error::Ipv6Loopback { .. }
                | Error::AddressInNoSubnet(_)
                | Error::InvalidRange { .. }
                | Error::NotABridge(_)
                | Error::NoIpv6
        )
    }
}
