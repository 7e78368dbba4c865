//! Decides what a network looks like on this host, and how to get there.
//!
//! [`survey`] reads the host, [`decide`], [`decide_network`] and [`plan`] are pure.

use std::net::{IpAddr, Ipv4Addr};

use corten_sys::netlink::Socket;
use ipnet::{IpNet, Ipv4Net};

use crate::error::{Error, Result};
use crate::ipam::Ipam;
use crate::mac::MacAddr;
use crate::network::{BridgeNetwork, GatewayMode, Subnet};
use crate::plan::{Operation, Step};
use crate::request::{NetworkRequest, SubnetRequest};
use crate::rtnl::{self, Link, Route};
use crate::settings::Settings;
use crate::subnets;

const DEFAULT_MTU: u32 = 1500;
/// The most that veth and bridge take (ETH_MAX_MTU). One stream between host and container is 1.2 to 1.6 times as fast as with 1500.
const LINK_MTU: u32 = 65_535;
/// A network needs a gateway and a container.
const SUBNET_PREFIX_MAX: u8 = 30;
const SUBNET_PREFIX_MIN: u8 = 8;
/// The same of IPv6.
const IPV6_PREFIX_MAX: u8 = 126;
const INTERFACE_PREFIX: &str = "eth";

/// What matters of the host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Survey {
    pub bridge: Option<Link>,
    pub bridge_addresses: Vec<IpNet>,
    pub routes: Vec<Route>,
    /// Of the link behind the default route.
    pub uplink_mtu: Option<u32>,
    /// The kernel has IPv6.
    pub ipv6: bool,
}

pub fn survey(socket: &Socket, bridge: &str) -> Result<Survey> {
    let bridge = rtnl::link(socket, bridge).map_err(Error::netlink("look up the bridge"))?;
    let bridge_addresses = match &bridge {
        Some(link) => {
            rtnl::addresses(socket, link.index).map_err(Error::netlink("read the bridge's addresses"))?
        }
        None => Vec::new(),
    };
    let routes = rtnl::routes(socket).map_err(Error::netlink("read the host's routes"))?;
    let default = |route: &&Route| route.destination.prefix_len() == 0;
    let uplink = routes.iter().find(default).and_then(|route| route.link_index);
    let uplink_mtu = match uplink {
        Some(index) => {
            rtnl::link_by_index(socket, index).map_err(Error::netlink("look up the uplink"))?.map(|l| l.mtu)
        }
        None => None,
    };
    let ipv6 = std::path::Path::new("/proc/sys/net/ipv6").exists();
    Ok(Survey { bridge, bridge_addresses, routes, uplink_mtu, ipv6 })
}

impl Survey {
    /// What the host has a route to by another link than the network's own bridge.
    fn obstacles(&self) -> Vec<IpNet> {
        let own_index = self.bridge.as_ref().map(|link| link.index);
        self.routes
            .iter()
            .filter(|route| route.link_index != own_index || own_index.is_none())
            .map(|route| route.destination)
            .filter(subnets::is_obstacle)
            .collect()
    }

    fn refuse_other_links(&self, bridge: &str) -> Result<()> {
        match &self.bridge {
            Some(link) if link.kind != "bridge" => Err(Error::NotABridge(bridge.to_owned())),
            _ => Ok(()),
        }
    }

    /// The link's MTU and the one of the way out. A bridge that is there keeps its own: it drops silently what is larger than a
    /// port's.
    fn mtus(&self, wish: Option<u32>) -> (u32, u32) {
        let found = self.bridge.as_ref().map(|link| link.mtu);
        let link_mtu = wish.or(found).unwrap_or(LINK_MTU);
        (link_mtu, wish.or(self.uplink_mtu).unwrap_or(DEFAULT_MTU).min(link_mtu))
    }
}

/// The default network as it shall be. An existing bridge's address is kept: containers may be running behind it.
pub fn decide(settings: &Settings, survey: &Survey) -> Result<BridgeNetwork> {
    let bridge = settings.bridge_name()?;
    survey.refuse_other_links(&bridge)?;
    let obstacles = survey.obstacles();
    let found = survey.bridge_addresses.iter().find_map(|net| match net {
        IpNet::V4(net) => Some(*net),
        IpNet::V6(_) => None,
    });
    let address = match (settings.bip, found) {
        (Some(bip), _) => checked(bip, &obstacles)?,
        (None, Some(found)) => found,
        (None, None) => first_address(settings, &obstacles)?,
    };
    let subnet = address.trunc();
    if let Some(cidr) = settings.fixed_cidr.filter(|cidr| !subnet.contains(cidr)) {
        return Err(Error::InvalidFixedCidr { cidr: cidr.into(), subnet: subnet.into() });
    }
    if let Some(gateway) = settings.gateway.filter(|gateway| !subnet.contains(gateway)) {
        return Err(Error::AddressNotInSubnet { ip: gateway.into(), subnet: subnet.into() });
    }
    let mut subnets = vec![Subnet {
        net: subnet.into(),
        range: settings.fixed_cidr.map(IpNet::from),
        bridge_ip: Some(address.addr().into()),
        gateway: Some(settings.gateway.unwrap_or(address.addr()).into()),
        reserved: Vec::new(),
    }];
    if settings.ipv6 {
        subnets.push(default_ipv6_subnet(settings, survey, &obstacles)?);
    }
    let (link_mtu, mtu) = survey.mtus(settings.mtu);
    Ok(BridgeNetwork {
        id: settings.network_id.clone(),
        name: "bridge".to_owned(),
        bridge,
        // One that the administrator named is the administrator's.
        own_bridge: settings.bridge.is_none(),
        subnets,
        mtu,
        link_mtu,
        internal: false,
        inter_container: settings.icc,
        masquerade: settings.ip_masq,
        host_ip: settings.default_host_ip,
        interface_prefix: INTERFACE_PREFIX.to_owned(),
        ipv4_mode: GatewayMode::Nat,
        ipv6_mode: GatewayMode::Nat,
    })
}

/// Of the default network: what is named, else what its bridge has, else one from the pools.
fn default_ipv6_subnet(settings: &Settings, survey: &Survey, obstacles: &[IpNet]) -> Result<Subnet> {
    let found = survey.bridge_addresses.iter().find(|net| matches!(net, IpNet::V6(_))).copied();
    let named = settings.fixed_cidr_v6.map(|cidr| IpNet::from(cidr.trunc()));
    let (net, bridge_ip, range) = match (settings.bip6, named) {
        (Some(bip), range) => {
            let bip = IpNet::from(bip);
            if bip.addr() == bip.network() || bip.prefix_len() > IPV6_PREFIX_MAX {
                return Err(Error::InvalidBip(bip));
            }
            if let Some(cidr) = range.filter(|cidr| !bip.contains(cidr)) {
                return Err(Error::InvalidFixedCidr { cidr, subnet: bip.trunc() });
            }
            (bip.trunc(), bip.addr(), range)
        }
        (None, Some(net)) => match found.filter(|found| found.trunc() == net) {
            Some(found) => (net, found.addr(), None),
            None => (net, Ipam::new(net, None, &[])?.allocate()?, None),
        },
        (None, None) => match found {
            Some(found) => (found.trunc(), found.addr(), None),
            None => {
                let pools = subnets::pools(&settings.address_pools, &settings.instance);
                let net = subnets::free(&pools, false, obstacles).map_err(|_| Error::NoFreeSubnet)?;
                (net, Ipam::new(net, None, &[])?.allocate()?, None)
            }
        },
    };
    if let Some(route) = obstacles.iter().find(|route| subnets::overlap(&net, route)) {
        return Err(Error::SubnetOverlaps { subnet: net, route: *route });
    }
    let gateway = settings.gateway_v6.map_or(bridge_ip, IpAddr::from);
    if !net.contains(&gateway) {
        return Err(Error::AddressNotInSubnet { ip: gateway, subnet: net });
    }
    Ok(Subnet { net, range, bridge_ip: Some(bridge_ip), gateway: Some(gateway), reserved: Vec::new() })
}

/// A further network as it shall be; `others` are the subnets that this engine has given to networks already.
pub fn decide_network(
    settings: &Settings,
    request: &NetworkRequest,
    bridge: String,
    survey: &Survey,
    others: &[IpNet],
) -> Result<BridgeNetwork> {
    survey.refuse_other_links(&bridge)?;
    let isolated = [request.ipv4_mode, request.ipv6_mode].contains(&GatewayMode::Isolated);
    if isolated && !request.internal {
        return Err(Error::IsolatedNotInternal);
    }
    let pools = subnets::pools(&settings.address_pools, &settings.instance);
    let mut taken = survey.obstacles();
    taken.extend_from_slice(others);
    let mut subnets: Vec<Subnet> = Vec::new();
    for (enabled, ipv4) in [(request.ipv4, true), (request.ipv6, false)] {
        let wishes = request.subnets.iter().filter(|wish| wish.is_ipv4() == ipv4 && enabled);
        let first = subnets.len();
        for wish in wishes {
            // Routes of the host don't count against a subnet that somebody has named.
            let given = subnets.iter().map(|subnet| subnet.net);
            if others.iter().copied().chain(given).any(|other| subnets::overlap(&wish.net, &other)) {
                return Err(Error::PoolOverlaps);
            }
            subnets.push(subnet(wish, request)?);
        }
        if enabled && subnets.len() == first {
            let found = survey.bridge_addresses.iter().find(|net| matches!(net, IpNet::V4(_)) == ipv4);
            let wish = match found {
                Some(found) => {
                    SubnetRequest { gateway: Some(found.addr()), ..SubnetRequest::new(found.trunc()) }
                }
                None => SubnetRequest::new(subnets::free(&pools, ipv4, &taken)?),
            };
            taken.push(wish.net);
            subnets.push(subnet(&wish, request)?);
        }
    }
    let alias = settings.instance.alias(&request.id);
    let (link_mtu, mtu) = survey.mtus(request.mtu);
    Ok(BridgeNetwork {
        id: request.id.clone(),
        name: request.name.clone(),
        bridge,
        own_bridge: survey.bridge.as_ref().is_none_or(|link| link.alias == alias),
        subnets,
        mtu,
        link_mtu,
        internal: request.internal,
        inter_container: request.inter_container,
        masquerade: request.masquerade,
        host_ip: request.host_ip.unwrap_or(settings.default_host_ip),
        interface_prefix: request.interface_prefix.clone().unwrap_or_else(|| INTERFACE_PREFIX.to_owned()),
        ipv4_mode: request.ipv4_mode,
        ipv6_mode: request.ipv6_mode,
    })
}

/// The bridge has the gateway's address unless another one is the containers' way out; without a wish it is the first that the
/// subnet's range has free. In an isolated network nobody has one.
fn subnet(wish: &SubnetRequest, request: &NetworkRequest) -> Result<Subnet> {
    let ipv4 = wish.is_ipv4();
    let isolated = (if ipv4 { request.ipv4_mode } else { request.ipv6_mode }) == GatewayMode::Isolated;
    let bridge_ip = match wish.gateway {
        Some(ip) if wish.net.contains(&ip) => Some(ip),
        Some(ip) => return Err(Error::AddressNotInSubnet { ip, subnet: wish.net }),
        None if isolated => None,
        None => Some(Ipam::new(wish.net, wish.range, &wish.reserved)?.allocate()?),
    };
    for ip in wish.reserved.iter().chain(&wish.default_gateway) {
        if !wish.net.contains(ip) {
            return Err(Error::AddressNotInSubnet { ip: *ip, subnet: wish.net });
        }
    }
    Ok(Subnet {
        net: wish.net,
        range: wish.range,
        bridge_ip: bridge_ip.filter(|_| !isolated && (request.bridge_address || !ipv4)),
        gateway: wish.default_gateway.or(bridge_ip).filter(|_| !request.internal),
        reserved: wish.reserved.iter().copied().chain(bridge_ip).collect(),
    })
}

/// The steps that are missing; none for a network that stands.
pub fn plan(settings: &Settings, survey: &Survey, network: &BridgeNetwork) -> Vec<Step> {
    let bridge = &network.bridge;
    let wanted: Vec<IpNet> = network.subnets.iter().filter_map(Subnet::bridge_address).collect();
    let mut plan = Vec::new();
    if survey.bridge.is_none() {
        let mac = wanted.first().map_or(MacAddr::from_id(&network.id), |net| MacAddr::from_ip(net.addr()));
        let alias = settings.instance.alias(&network.id);
        plan.push(Operation::CreateBridge { name: bridge.clone(), mac, mtu: network.link_mtu, alias });
    }
    let mut ipv6 = |name: &str, value: &str| {
        let key = format!("net/ipv6/conf/{bridge}/{name}");
        plan.push(Operation::WriteSysctl { key, value: value.into() });
    };
    let isolated = network.mode(!network.has_ipv6()) == GatewayMode::Isolated;
    if isolated && (network.has_ipv6() || (survey.ipv6 && network.own_bridge)) {
        // The host must not be in reach by a link-local address either.
        ipv6("disable_ipv6", "1");
    } else if network.has_ipv6() {
        ipv6("disable_ipv6", "0");
        // The host asks for neighbours from the bridge's link-local address: not a second later, when it is known to be unique.
        ipv6("accept_dad", "0");
    }
    // On a bridge of our own, an address from a former setting; another one is the administrator's.
    let former = survey.bridge_addresses.iter().filter(|found| network.own_bridge && !wanted.contains(found));
    plan.extend(former.map(|found| Operation::DeleteAddress { link: bridge.clone(), address: *found }));
    let missing = || wanted.iter().filter(|address| !survey.bridge_addresses.contains(address));
    plan.extend(missing().map(|address| Operation::AddAddress { link: bridge.clone(), address: *address }));
    if survey.bridge.as_ref().is_none_or(|link| !link.up) {
        plan.push(Operation::SetUp { link: bridge.clone() });
    }
    let six = missing().map(|address| address.addr()).filter(IpAddr::is_ipv6);
    plan.extend(six.map(|address| Operation::AwaitAddress { address }));
    let on = |key: String| Operation::WriteSysctl { key, value: "1".into() };
    if network.has_ipv4() {
        // The host reaches published ports by 127.0.0.1; the firewall keeps containers from using it.
        plan.push(on(format!("net/ipv4/conf/{bridge}/route_localnet")));
        if settings.ip_forward {
            plan.push(on("net/ipv4/ip_forward".into()));
        }
    }
    if network.has_ipv6() && !network.internal && settings.ip_forward {
        plan.push(on("net/ipv6/conf/all/forwarding".into()));
    }
    plan.into_iter().map(Operation::on_host).collect()
}

fn checked(bip: Ipv4Net, obstacles: &[IpNet]) -> Result<Ipv4Net> {
    let host = bip.addr() != bip.network() && bip.addr() != bip.broadcast();
    if !host || !(SUBNET_PREFIX_MIN..=SUBNET_PREFIX_MAX).contains(&bip.prefix_len()) {
        return Err(Error::InvalidBip(bip.into()));
    }
    match obstacles.iter().find(|route| subnets::overlap(&bip.into(), route)) {
        Some(route) => Err(Error::SubnetOverlaps { subnet: bip.trunc().into(), route: *route }),
        None => Ok(bip),
    }
}

/// The gateway's address in the first subnet that is free.
fn first_address(settings: &Settings, obstacles: &[IpNet]) -> Result<Ipv4Net> {
    let pools = subnets::pools(&settings.address_pools, &settings.instance);
    let net = subnets::free(&pools, true, obstacles).map_err(|_| Error::NoFreeSubnet)?;
    match Ipam::new(net, None, &[])?.allocate()? {
        IpAddr::V4(ip) => Ok(Ipv4Net::new_assert(ip, net.prefix_len())),
        IpAddr::V6(_) => Ok(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
    }
}

#[cfg(test)]
mod tests;
