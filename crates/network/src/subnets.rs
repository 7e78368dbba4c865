//! Which subnet a network gets that names none: the first of the pools that nothing on this host touches.
//!
//! Pure.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::error::{Error, Result};
use crate::settings::{AddressPool, Instance};

/// Broader routes are a VPN's halves of the default route (0.0.0.0/1 and 128.0.0.0/1), which no subnet could avoid.
const ROUTE_PREFIX_MIN: u8 = 8;
/// How many subnets of one pool are looked at before it counts as full.
const CANDIDATES: u128 = 65_536;
const IPV6_SUBNET_PREFIX: u8 = 64;

/// A subnet of that family that neither overlaps with `taken` nor with what the host has a route to.
pub fn free(pools: &[AddressPool], ipv4: bool, taken: &[IpNet]) -> Result<IpNet> {
    pools
        .iter()
        .filter(|pool| matches!(pool.base, IpNet::V4(_)) == ipv4)
        .find_map(|pool| free_in(pool, taken))
        .ok_or(Error::PoolsExhausted)
}

/// The pools as configured; ours stand in for a family that is not.
pub fn pools(configured: &[AddressPool], instance: &Instance) -> Vec<AddressPool> {
    let has = |ipv4: bool| configured.iter().any(|pool| matches!(pool.base, IpNet::V4(_)) == ipv4);
    let mut pools = configured.to_vec();
    if !has(true) {
        pools.extend(ipv4_pools());
    }
    if !has(false) {
        pools.push(AddressPool { base: local_ipv6(instance).into(), size: IPV6_SUBNET_PREFIX });
    }
    pools
}

/// What a route of the host keeps from being chosen.
pub fn is_obstacle(route: &IpNet) -> bool {
    route.prefix_len() >= ROUTE_PREFIX_MIN
}

pub fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// 172.30 first, because Docker begins at 172.17.
fn ipv4_pools() -> Vec<AddressPool> {
    let pool = |a, b, c, size| AddressPool {
        base: Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), size).into(),
        size,
    };
    let sixteens = [30, 29, 28, 27, 26, 25, 31, 24, 23, 22, 21, 20, 19, 18].map(|b| pool(172, b, 0, 16));
    let twenties = (0..16u8).rev().map(|c| pool(192, 168, c * 16, 20));
    let tens = (200..=255u8).map(|b| pool(10, b, 0, 16));
    sixteens.into_iter().chain(twenties).chain(tens).collect()
}

/// A unique local prefix (RFC 4193): fd, forty bits that stand for the instance, and sixteen for the network.
fn local_ipv6(instance: &Instance) -> Ipv6Net {
    // FNV-1a: spreads the eight digits over forty bits; nothing rests on it but that engines differ.
    let hash = instance.as_str().bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let prefix = 0xfdu128 << 120 | u128::from(hash >> 24) << 80;
    Ipv6Net::new_assert(Ipv6Addr::from(prefix), 48)
}

fn free_in(pool: &AddressPool, taken: &[IpNet]) -> Option<IpNet> {
    let (base, bits) = match pool.base {
        IpNet::V4(net) => (u128::from(u32::from(net.network())), 32),
        IpNet::V6(net) => (u128::from(net.network()), 128),
    };
    let count = 1u128.checked_shl(u32::from(pool.size.checked_sub(pool.base.prefix_len())?))?;
    let step = 1u128.checked_shl(u32::from(bits - pool.size)).unwrap_or(0);
    (0..count.min(CANDIDATES)).find_map(|number| {
        let network = base + number * step;
        let candidate = match pool.base {
            IpNet::V4(_) => IpNet::new(Ipv4Addr::from(network as u32).into(), pool.size).ok()?,
            IpNet::V6(_) => IpNet::new(Ipv6Addr::from(network).into(), pool.size).ok()?,
        };
        (!taken.iter().any(|other| overlap(&candidate, other))).then_some(candidate)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance() -> Instance {
        "1a2b3c4d".parse().unwrap()
    }

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_first_subnet_that_nothing_touches_is_taken() {
        let pools = pools(&[], &instance());
        assert_eq!(free(&pools, true, &nets(&["172.30.0.0/16"])).unwrap().to_string(), "172.29.0.0/16");
        let small = free(&pools, true, &nets(&["172.16.0.0/12", "192.168.240.7/32"])).unwrap();
        assert_eq!(small.to_string(), "192.168.224.0/20");
        let six = free(&pools, false, &[]).unwrap();
        assert!(six.to_string().starts_with("fd") && six.prefix_len() == 64, "{six}");
        let next = free(&pools, false, &[six]).unwrap();
        assert_ne!(six, next);
    }

    #[test]
    fn configured_pools_are_cut_up_and_run_out() {
        let pool = AddressPool { base: "10.5.0.0/16".parse().unwrap(), size: 17 };
        let pools = pools(&[pool], &instance());
        assert_eq!(free(&pools, true, &[]).unwrap().to_string(), "10.5.0.0/17");
        assert_eq!(free(&pools, true, &nets(&["10.5.0.0/17"])).unwrap().to_string(), "10.5.128.0/17");
        let full = free(&pools, true, &nets(&["10.5.0.0/16"]));
        assert!(matches!(full, Err(Error::PoolsExhausted)));
        let single = AddressPool { base: "10.6.0.0/24".parse().unwrap(), size: 24 };
        assert_eq!(free(&[single], true, &[]).unwrap().to_string(), "10.6.0.0/24");
        assert!(free(&pools, false, &[]).is_ok(), "IPv6 keeps its own pool");
    }
}
