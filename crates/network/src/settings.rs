//! How the default NAT network is to be made, and the names that follow from the instance.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::error::{Error, Result};

/// The longest interface name the kernel takes (`IFNAMSIZ` without the closing zero).
const INTERFACE_NAME_MAX: usize = 15;

/// The engine instance's id: eight hexadecimal digits. Every name in the kernel carries it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Instance(String);

impl Instance {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The bridge's name unless [`Settings::bridge`] says otherwise.
    pub fn bridge(&self) -> String {
        format!("corten-{}", self.0)
    }

    /// The nf_tables table's name (family `inet`).
    pub fn table(&self) -> String {
        format!("corten-{}", self.0)
    }

    /// What the names of further networks' bridges begin with.
    pub fn bridge_prefix(&self) -> String {
        format!("b{}-", self.0)
    }

    /// The note on a bridge of ours, by which its network is found whatever the bridge is called.
    pub fn alias(&self, network: &str) -> String {
        format!("{} {network}", self.tag())
    }

    /// What the names of the host's ends of our veth pairs begin with.
    pub fn interface_prefix(&self) -> String {
        format!("v{}-", self.0)
    }

    /// The comment on rules that stand in somebody else's chain.
    pub fn tag(&self) -> String {
        format!("corten {}", self.0)
    }
}

impl FromStr for Instance {
    type Err = Error;

    fn from_str(text: &str) -> Result<Instance> {
        let fits = text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if fits { Ok(Instance(text.to_owned())) } else { Err(Error::InvalidInstance(text.to_owned())) }
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Addresses from which networks get their subnets when nobody names one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressPool {
    pub base: IpNet,
    /// The prefix length of each subnet.
    pub size: u8,
}

/// The settings of an engine's networks, the default one above all; [`Settings::new`] gives Docker's defaults.
#[derive(Debug, Clone)]
pub struct Settings {
    pub instance: Instance,
    /// The default network's id.
    pub network_id: String,
    /// `default-address-pools`; one family's absence stands for our own pools of that family.
    pub address_pools: Vec<AddressPool>,
    /// `bridge` of daemon.json. `None`: [`Instance::bridge`]. A bridge that exists is adopted with its address.
    pub bridge: Option<String>,
    /// `bip` of daemon.json: the gateway's address with the subnet's length, as 172.30.0.1/16.
    /// `None`: the bridge's address when it exists, else a free subnet.
    pub bip: Option<Ipv4Net>,
    /// `fixed-cidr`: addresses are taken from this part of the subnet only.
    pub fixed_cidr: Option<Ipv4Net>,
    /// `default-gateway`: what containers get as their default route instead of the bridge.
    pub gateway: Option<Ipv4Addr>,
    /// `ipv6`: the default network has IPv6, too.
    pub ipv6: bool,
    /// `bip6`: the IPv6 gateway's address with the subnet's length.
    pub bip6: Option<Ipv6Net>,
    /// `fixed-cidr-v6`: the IPv6 subnet or, with `bip6`, the part of it that addresses are taken from.
    pub fixed_cidr_v6: Option<Ipv6Net>,
    /// `default-gateway-v6`.
    pub gateway_v6: Option<Ipv6Addr>,
    /// `None`: that of the link behind the host's default route.
    pub mtu: Option<u32>,
    /// Switch `net.ipv4.ip_forward` on.
    pub ip_forward: bool,
    pub ip_masq: bool,
    /// Containers of the network may talk to each other's unpublished ports.
    pub icc: bool,
    /// `ip` of daemon.json: where a port is published that names no address.
    pub default_host_ip: IpAddr,
    /// Ready endpoints that are kept in advance.
    pub warm_endpoints: usize,
    /// Ready namespaces without a network (`--network none`) that are kept in advance.
    pub warm_isolated: usize,
    /// Written in every namespace when it is prepared, as (`net.ipv4.…`, value).
    pub endpoint_sysctls: Vec<(String, String)>,
}

impl Settings {
    pub fn new(instance: Instance) -> Settings {
        Settings {
            instance,
            network_id: "default".into(),
            address_pools: Vec::new(),
            bridge: None,
            bip: None,
            fixed_cidr: None,
            gateway: None,
            ipv6: false,
            bip6: None,
            fixed_cidr_v6: None,
            gateway_v6: None,
            mtu: None,
            ip_forward: true,
            ip_masq: true,
            icc: true,
            default_host_ip: Ipv4Addr::UNSPECIFIED.into(),
            warm_endpoints: 4,
            warm_isolated: 2,
            // As in Docker: the ports below 1024 and ping need no capability inside a container.
            endpoint_sysctls: vec![
                ("net.ipv4.ip_unprivileged_port_start".into(), "0".into()),
                ("net.ipv4.ping_group_range".into(), "0 2147483647".into()),
            ],
        }
    }

    pub(crate) fn bridge_name(&self) -> Result<String> {
        let name = self.bridge.clone().unwrap_or_else(|| self.instance.bridge());
        if is_interface_name(&name) { Ok(name) } else { Err(Error::InvalidBridgeName(name)) }
    }
}

/// Whether the kernel takes it.
pub fn is_interface_name(name: &str) -> bool {
    (1..=INTERFACE_NAME_MAX).contains(&name.len())
        && name != "."
        && name != ".."
        && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b':' && b != b'%')
}
