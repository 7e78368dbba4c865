//! What is to be done to the kernel, as data: printable, comparable without root, undone in reverse.
//!
//! Pure; `apply` does it.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::mac::MacAddr;

/// In which network namespace a step takes place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Host,
    Container,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub place: Place,
    pub operation: Operation,
}

/// How a bridge treats one of its ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BridgePort {
    /// Reaches the bridge, not the other isolated ports.
    pub isolated: bool,
    /// Frames may leave by the port they came in by.
    pub hairpin: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    CreateBridge {
        name: String,
        mac: MacAddr,
        mtu: u32,
        /// A note on the link (`ip -d link`) by which its maker finds it again, whatever it is called.
        alias: String,
    },
    /// The far end is made in the container's namespace.
    CreateVeth {
        host: String,
        container: String,
        mac: MacAddr,
        mtu: u32,
    },
    DeleteLink {
        name: String,
    },
    /// Makes the link a port of the bridge, and up.
    Enslave {
        link: String,
        bridge: String,
        port: BridgePort,
    },
    SetUp {
        link: String,
    },
    /// Waits until the link passes frames: the kernel switches that on some time after both ends are up, and what is
    /// sent before is lost.
    AwaitCarrier {
        link: String,
    },
    /// Waits until the kernel takes packets for the address: for one of IPv6 that begins some time after it was added
    /// (`addrconf_dad_work` of net/ipv6/addrconf.c), and what comes before is lost.
    AwaitAddress {
        address: IpAddr,
    },
    /// Tells the neighbours when the link's addresses change: one of them may remember a former holder.
    AnnounceChanges {
        link: String,
    },
    SetMac {
        link: String,
        mac: MacAddr,
    },
    AddAddress {
        link: String,
        address: IpNet,
    },
    DeleteAddress {
        link: String,
        address: IpNet,
    },
    SetDefaultRoute {
        link: String,
        gateway: IpAddr,
        /// `None`: the link's.
        mtu: Option<u32>,
    },
    DeleteDefaultRoute {
        link: String,
        gateway: IpAddr,
    },
    /// Below /proc/sys, with slashes: an interface's name may contain dots. Written by the calling thread.
    WriteSysctl {
        key: String,
        value: String,
    },
}

impl Operation {
    pub fn on_host(self) -> Step {
        Step { place: Place::Host, operation: self }
    }

    pub fn in_container(self) -> Step {
        Step { place: Place::Container, operation: self }
    }

    /// What takes it back. A sysctl stays: others may rely on it by now, and an interface's own go with it.
    pub fn undo(&self) -> Option<Operation> {
        match self {
            Operation::CreateBridge { name, .. } | Operation::CreateVeth { host: name, .. } => {
                Some(Operation::DeleteLink { name: name.clone() })
            }
            Operation::AddAddress { link, address } => {
                Some(Operation::DeleteAddress { link: link.clone(), address: *address })
            }
            _ => None,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operation::CreateBridge { name, mac, mtu, alias: _ } => {
                write!(f, "create bridge {name} (MAC {mac}, MTU {mtu})")
            }
            Operation::CreateVeth { host, container, mac, mtu } => {
                write!(f, "create veth {host} with {container} in the container (MAC {mac}, MTU {mtu})")
            }
            Operation::DeleteLink { name } => write!(f, "delete link {name}"),
            Operation::Enslave { link, bridge, port } => {
                let isolated = if port.isolated { ", isolated" } else { "" };
                let hairpin = if port.hairpin { ", hairpin" } else { "" };
                write!(f, "attach {link} to bridge {bridge}{isolated}{hairpin}")
            }
            Operation::AwaitCarrier { link } => write!(f, "wait for the carrier of {link}"),
            Operation::AwaitAddress { address } => write!(f, "wait until {address} takes packets"),
            Operation::AnnounceChanges { link } => write!(f, "announce address changes of {link}"),
            Operation::SetUp { link } => write!(f, "set {link} up"),
            Operation::SetMac { link, mac } => write!(f, "set the MAC of {link} to {mac}"),
            Operation::AddAddress { link, address } => write!(f, "add address {address} to {link}"),
            Operation::DeleteAddress { link, address } => write!(f, "delete address {address} of {link}"),
            Operation::SetDefaultRoute { link, gateway, mtu } => {
                write!(f, "set the default route to {gateway} by {link}")?;
                mtu.map_or(Ok(()), |mtu| write!(f, " (MTU {mtu})"))
            }
            Operation::DeleteDefaultRoute { link, gateway } => {
                write!(f, "delete the default route to {gateway} by {link}")
            }
            Operation::WriteSysctl { key, value } => write!(f, "write {value:?} to /proc/sys/{key}"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.place {
            Place::Host => "host",
            Place::Container => "container",
        };
        write!(f, "{place}: {}", self.operation)
    }
}
