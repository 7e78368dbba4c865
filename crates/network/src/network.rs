//! A network as it stands: what has been decided about it, as plain data that survives a restart.
//!
//! Pure. Making it so is `bring_up`'s plan, the way of packets is `firewall`'s.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use crate::endpoint::Endpoint;
use crate::plan::Operation;

/// What a network is made of. The other drivers that Docker knows are named in [`Driver`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// A subnet behind the host: bridge, veths, address translation.
    Bridge,
    /// Known, and not built yet.
    Planned(&'static str),
}

impl Driver {
    /// By the name that people use; `None` for one that nobody knows.
    pub fn parse(name: &str) -> Option<Driver> {
        const PLANNED: [&str; 7] =
            ["macvlan", "ipvlan", "transparent", "l2bridge", "l2tunnel", "overlay", "ics"];
        match name {
            "bridge" | "nat" => Some(Driver::Bridge),
            other => PLANNED.iter().find(|known| **known == other).map(|known| Driver::Planned(known)),
        }
    }
}

/// How a family's packets get in and out of a network (`com.docker.network.bridge.gateway_mode_ipv4` and `_ipv6`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum GatewayMode {
    /// Behind the host's addresses; a published port is one of the host's.
    #[default]
    Nat,
    /// The same, and every port of the containers can be reached by their own addresses.
    NatUnprotected,
    /// By the containers' own addresses, where only published ports are open.
    Routed,
    /// The host itself has no address in the network, which is an internal one.
    Isolated,
}

impl GatewayMode {
    pub fn parse(text: &str) -> Option<GatewayMode> {
        match text {
            "" | "nat" => Some(GatewayMode::Nat),
            "nat-unprotected" => Some(GatewayMode::NatUnprotected),
            "routed" => Some(GatewayMode::Routed),
            "isolated" => Some(GatewayMode::Isolated),
            _ => None,
        }
    }

    /// Addresses are translated on the way.
    pub(crate) fn translates(self) -> bool {
        matches!(self, GatewayMode::Nat | GatewayMode::NatUnprotected)
    }
}

/// A bridge with its subnets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeNetwork {
    /// The network's, by which endpoints refer to it.
    pub id: String,
    pub name: String,
    pub bridge: String,
    /// Made by us, and removed with the network; else somebody else's that we use.
    pub own_bridge: bool,
    pub subnets: Vec<Subnet>,
    /// Of what leaves the network by the default route.
    pub mtu: u32,
    /// Of the bridge and the containers' interfaces: within the host large packets cost least.
    pub link_mtu: u32,
    /// No way out, and none in.
    pub internal: bool,
    /// Containers of the network may talk to each other.
    pub inter_container: bool,
    /// What leaves gets the host's address.
    pub masquerade: bool,
    /// Where a port is published that names no address; 0.0.0.0 stands for `[::]` too.
    pub host_ip: IpAddr,
    /// What the names of the containers' interfaces begin with.
    pub interface_prefix: String,
    #[serde(default)]
    pub ipv4_mode: GatewayMode,
    #[serde(default)]
    pub ipv6_mode: GatewayMode,
}

/// A part of a network's address space, of either family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    pub net: IpNet,
    /// Addresses are handed out from this part only.
    pub range: Option<IpNet>,
    /// The bridge's own address; a network can do without.
    pub bridge_ip: Option<IpAddr>,
    /// The containers' way out.
    pub gateway: Option<IpAddr>,
    /// Never handed out.
    pub reserved: Vec<IpAddr>,
}

impl Subnet {
    pub fn is_ipv4(&self) -> bool {
        matches!(self.net, IpNet::V4(_))
    }

    pub fn prefix_len(&self) -> u8 {
        self.net.prefix_len()
    }

    /// The bridge's address with the subnet's length.
    pub(crate) fn bridge_address(&self) -> Option<IpNet> {
        IpNet::new(self.bridge_ip?, self.prefix_len()).ok()
    }

    /// What no container may have.
    pub(crate) fn taken(&self) -> Vec<IpAddr> {
        self.reserved.iter().copied().chain(self.bridge_ip).chain(self.gateway).collect()
    }
}

impl BridgeNetwork {
    pub fn has_ipv4(&self) -> bool {
        self.subnets.iter().any(Subnet::is_ipv4)
    }

    pub fn has_ipv6(&self) -> bool {
        self.subnets.iter().any(|subnet| !subnet.is_ipv4())
    }

    pub(crate) fn mode(&self, ipv4: bool) -> GatewayMode {
        if ipv4 { self.ipv4_mode } else { self.ipv6_mode }
    }

    /// The first IPv4 subnet.
    pub fn ipv4_subnet(&self) -> Option<Ipv4Net> {
        self.subnets.iter().find_map(|subnet| match subnet.net {
            IpNet::V4(net) => Some(net),
            IpNet::V6(_) => None,
        })
    }

    /// The containers' IPv4 default route.
    pub fn ipv4_gateway(&self) -> Option<Ipv4Addr> {
        self.subnets.iter().find_map(|subnet| match subnet.gateway {
            Some(IpAddr::V4(ip)) => Some(ip),
            _ => None,
        })
    }

    /// The containers' IPv6 default route.
    pub fn ipv6_gateway(&self) -> Option<Ipv6Addr> {
        self.subnets.iter().find_map(|subnet| match subnet.gateway {
            Some(IpAddr::V6(ip)) => Some(ip),
            _ => None,
        })
    }

    pub(crate) fn subnet_of(&self, ip: IpAddr) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.net.contains(&ip))
    }

    /// The way out by that gateway.
    pub(crate) fn default_route(&self, link: &str, gateway: IpAddr) -> Operation {
        let mtu = Some(self.mtu).filter(|&mtu| mtu < self.link_mtu);
        Operation::SetDefaultRoute { link: link.to_owned(), gateway, mtu }
    }
}

/// A container's ways out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WaysOut<'a> {
    pub ipv4: Option<&'a Endpoint>,
    pub ipv6: Option<&'a Endpoint>,
}

/// Docker's rule: the endpoint with the highest priority, else one that has a way out for both families, else the first by the
/// network's name. Internal networks have no way out.
pub fn ways_out<'a>(endpoints: &'a [Endpoint], name_of: impl Fn(&str) -> String) -> WaysOut<'a> {
    let gateways = |endpoint: &Endpoint| {
        let ipv4 = endpoint.ipv4.is_some_and(|address| address.gateway.is_some());
        let ipv6 = endpoint.ipv6.is_some_and(|address| address.gateway.is_some());
        (ipv4, ipv6)
    };
    let mut order: Vec<&Endpoint> = endpoints.iter().collect();
    order.sort_by_cached_key(|endpoint| {
        let (ipv4, ipv6) = gateways(endpoint);
        let fewer = 2 - u8::from(ipv4) - u8::from(ipv6);
        (std::cmp::Reverse(endpoint.gateway_priority), fewer, name_of(&endpoint.network))
    });
    WaysOut {
        ipv4: order.iter().copied().find(|endpoint| gateways(endpoint).0),
        ipv6: order.iter().copied().find(|endpoint| gateways(endpoint).1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Assigned;

    fn endpoint(network: &str, priority: i64, ipv4: bool, ipv6: bool) -> Endpoint {
        let v4 = Assigned { ip: Ipv4Addr::new(10, 0, 0, 2), prefix_len: 24, gateway: None };
        let v6 = Assigned { ip: "fd00::2".parse().unwrap(), prefix_len: 64, gateway: None };
        Endpoint {
            network: network.into(),
            interface: "eth0".into(),
            host_interface: "v".into(),
            mac: crate::MacAddr([2, 0, 0, 0, 0, 1]),
            ipv4: Some(Assigned { gateway: ipv4.then_some(Ipv4Addr::new(10, 0, 0, 1)), ..v4 }),
            ipv6: Some(Assigned { gateway: ipv6.then(|| "fd00::1".parse().unwrap()), ..v6 }),
            gateway_priority: priority,
        }
    }

    #[test]
    fn the_way_out_is_chosen_by_priority_then_families_then_name() {
        let chosen = |list: &[Endpoint]| {
            let ways = ways_out(list, str::to_owned);
            (ways.ipv4.map(|e| e.network.clone()), ways.ipv6.map(|e| e.network.clone()))
        };
        let some = |name: &str| Some(name.to_owned());
        let (a, b) = (endpoint("a", 0, true, false), endpoint("b", 0, true, false));
        assert_eq!(chosen(&[b.clone(), a.clone()]), (some("a"), None));
        let dual = endpoint("z", 0, true, true);
        assert_eq!(chosen(&[a.clone(), dual.clone()]), (some("z"), some("z")));
        let first = endpoint("y", 1, true, false);
        assert_eq!(chosen(&[a.clone(), dual, first]), (some("y"), some("z")));
        let internal = endpoint("0", 5, false, false);
        assert_eq!(chosen(&[internal, a]), (some("a"), None));
    }

    #[test]
    fn drivers_are_known_planned_or_unheard_of() {
        assert_eq!(Driver::parse("nat"), Some(Driver::Bridge));
        assert_eq!(Driver::parse("macvlan"), Some(Driver::Planned("macvlan")));
        assert_eq!(Driver::parse("weave"), None);
    }
}
