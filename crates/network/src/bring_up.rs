//! Decides what the default NAT network looks like on this host, and how to get there.
//!
//! [`survey`] reads the host, [`decide`] and [`plan`] are pure.

use std::net::Ipv4Addr;

use corten_sys::netlink::Socket;
use ipnet::Ipv4Net;

use crate::error::{Error, Result};
use crate::mac::MacAddr;
use crate::networks::NatNetwork;
use crate::plan::{Operation, Step};
use crate::rtnl::{self, Link, Route};
use crate::settings::Settings;

const DEFAULT_MTU: u32 = 1500;
/// The most that veth and bridge take (ETH_MAX_MTU). One stream between host and container is 1.2 to 1.6 times as fast as with 1500.
const LINK_MTU: u32 = 65_535;
/// Broader routes are a VPN's halves of the default route (0.0.0.0/1 and 128.0.0.0/1), which no subnet could avoid.
const ROUTE_PREFIX_MIN: u8 = 8;
/// A network needs a gateway and a container.
const SUBNET_PREFIX_MAX: u8 = 30;
const SUBNET_PREFIX_MIN: u8 = 8;

/// What matters of the host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Survey {
    pub bridge: Option<Link>,
    pub bridge_addresses: Vec<Ipv4Net>,
    pub routes: Vec<Route>,
    /// Of the link behind the default route.
    pub uplink_mtu: Option<u32>,
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
    let uplink =
        routes.iter().find(|route| route.destination.prefix_len() == 0).and_then(|route| route.link_index);
    let uplink_mtu = match uplink {
        Some(index) => {
            rtnl::link_by_index(socket, index).map_err(Error::netlink("look up the uplink"))?.map(|l| l.mtu)
        }
        None => None,
    };
    Ok(Survey { bridge, bridge_addresses, routes, uplink_mtu })
}

/// The network as it shall be. An existing bridge's address is kept: containers may be running behind it.
pub fn decide(settings: &Settings, survey: &Survey) -> Result<NatNetwork> {
    let bridge = settings.bridge_name()?;
    if survey.bridge.as_ref().is_some_and(|link| link.kind != "bridge") {
        return Err(Error::NotABridge(bridge));
    }
    let own_index = survey.bridge.as_ref().map(|link| link.index);
    let foreign: Vec<Ipv4Net> = survey
        .routes
        .iter()
        .filter(|route| route.link_index != own_index || own_index.is_none())
        .map(|route| route.destination)
        .filter(|destination| destination.prefix_len() >= ROUTE_PREFIX_MIN)
        .collect();
    let address = match (settings.bip, survey.bridge_addresses.first()) {
        (Some(bip), _) => checked(bip, &foreign)?,
        (None, Some(found)) => *found,
        (None, None) => free_subnet(&foreign)?,
    };
    let subnet = address.trunc();
    if let Some(cidr) = settings.fixed_cidr.filter(|cidr| !subnet.contains(cidr)) {
        return Err(Error::InvalidFixedCidr { cidr, subnet });
    }
    if let Some(gateway) = settings.gateway.filter(|gateway| !subnet.contains(gateway)) {
        return Err(Error::AddressNotInSubnet { ip: gateway, subnet });
    }
    // A bridge that is there keeps its MTU: it drops silently what is larger than a port's.
    let found_mtu = survey.bridge.as_ref().map(|link| link.mtu);
    let link_mtu = settings.mtu.or(found_mtu).unwrap_or(LINK_MTU);
    Ok(NatNetwork {
        bridge,
        address,
        subnet,
        gateway: settings.gateway.unwrap_or(address.addr()),
        mtu: settings.mtu.or(survey.uplink_mtu).unwrap_or(DEFAULT_MTU).min(link_mtu),
        link_mtu,
    })
}

/// The steps that are missing; none for a network that stands.
pub fn plan(settings: &Settings, survey: &Survey, network: &NatNetwork) -> Vec<Step> {
    let bridge = &network.bridge;
    let mut plan = Vec::new();
    if survey.bridge.is_none() {
        let mac = MacAddr::from_ip(network.address.addr());
        plan.push(Operation::CreateBridge { name: bridge.clone(), mac, mtu: network.link_mtu });
    }
    // On a bridge of our own, an address from a former setting; a configured bridge is the administrator's.
    let former = survey
        .bridge_addresses
        .iter()
        .filter(|found| settings.bridge.is_none() && **found != network.address);
    plan.extend(former.map(|found| Operation::DeleteAddress { link: bridge.clone(), address: *found }));
    if !survey.bridge_addresses.contains(&network.address) {
        plan.push(Operation::AddAddress { link: bridge.clone(), address: network.address });
    }
    if survey.bridge.as_ref().is_none_or(|link| !link.up) {
        plan.push(Operation::SetUp { link: bridge.clone() });
    }
    // The host reaches published ports by 127.0.0.1; the firewall keeps containers from using it.
    plan.push(Operation::WriteSysctl {
        key: format!("net/ipv4/conf/{bridge}/route_localnet"),
        value: "1".into(),
    });
    if settings.ip_forward {
        plan.push(Operation::WriteSysctl { key: "net/ipv4/ip_forward".into(), value: "1".into() });
    }
    plan.into_iter().map(Operation::on_host).collect()
}

fn checked(bip: Ipv4Net, foreign: &[Ipv4Net]) -> Result<Ipv4Net> {
    let host = bip.addr() != bip.network() && bip.addr() != bip.broadcast();
    if !host || !(SUBNET_PREFIX_MIN..=SUBNET_PREFIX_MAX).contains(&bip.prefix_len()) {
        return Err(Error::InvalidBip(bip));
    }
    match foreign.iter().find(|route| overlap(&bip, route)) {
        Some(route) => Err(Error::SubnetOverlaps { subnet: bip.trunc(), route: *route }),
        None => Ok(bip),
    }
}

/// The gateway's address in the first candidate that no route touches: 172.30 first, because Docker begins at 172.17.
fn free_subnet(foreign: &[Ipv4Net]) -> Result<Ipv4Net> {
    let sixteens = [30, 29, 28, 27, 26, 25, 31, 24, 23, 22, 21, 20, 19, 18]
        .map(|second| (Ipv4Addr::new(172, second, 0, 1), 16));
    let twenties = (0..16u8).rev().map(|third| (Ipv4Addr::new(192, 168, third * 16, 1), 20));
    let tens = (200..=255u8).map(|second| (Ipv4Addr::new(10, second, 0, 1), 16));
    sixteens
        .into_iter()
        .chain(twenties)
        .chain(tens)
        .map(|(gateway, prefix_len)| Ipv4Net::new_assert(gateway, prefix_len))
        .find(|candidate| !foreign.iter().any(|route| overlap(candidate, route)))
        .ok_or(Error::NoFreeSubnet)
}

fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

#[cfg(test)]
mod tests;
