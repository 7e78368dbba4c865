use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::from([a, b, c, d])
}

fn last(ip: IpAddr) -> u128 {
    number(ip) & 0xff
}

fn small() -> Ipam {
    Ipam::new(net("10.0.0.0/29"), None, &[v4(10, 0, 0, 1)]).unwrap()
}

#[test]
fn reserved_addresses_are_never_handed_out() {
    let mut ipam = small();
    let got: Vec<_> = std::iter::from_fn(|| ipam.allocate().ok()).map(last).collect();
    assert_eq!(got, [2, 3, 4, 5, 6]);
    assert!(matches!(ipam.allocate(), Err(Error::AddressesExhausted(_))));
}

#[test]
fn a_freed_address_comes_back_last() {
    let mut ipam = small();
    let first = ipam.allocate().unwrap();
    ipam.release(first);
    let rest: Vec<_> = (0..4).map(|_| ipam.allocate().unwrap()).collect();
    assert!(!rest.contains(&first));
    assert_eq!(ipam.allocate().unwrap(), first);
}

#[test]
fn the_fixed_range_narrows_allocation_but_not_claims() {
    let mut ipam = Ipam::new(net("10.0.0.0/24"), Some(net("10.0.0.128/31")), &[]).unwrap();
    assert_eq!(last(ipam.allocate().unwrap()), 128);
    assert_eq!(last(ipam.allocate().unwrap()), 129);
    assert!(ipam.allocate().is_err());
    ipam.claim(v4(10, 0, 0, 7)).unwrap();
    assert!(matches!(ipam.claim(v4(10, 0, 0, 7)), Err(Error::AddressInUse(_))));
    assert!(matches!(ipam.claim(v4(10, 0, 1, 7)), Err(Error::AddressNotInSubnet { .. })));
    assert!(Ipam::new(net("10.0.0.0/24"), Some(net("10.0.1.0/30")), &[]).is_err());
}

#[test]
fn the_ends_of_the_address_space_work() {
    let mut ipam = Ipam::new(net("255.255.255.252/30"), None, &[]).unwrap();
    assert_eq!(ipam.allocate().unwrap(), v4(255, 255, 255, 253));
    let mut single = Ipam::new(net("10.0.0.1/32"), None, &[]).unwrap();
    assert_eq!(single.allocate().unwrap(), v4(10, 0, 0, 1));
}

#[test]
fn ipv6_begins_behind_the_gateway_and_has_room() {
    let mut ipam = Ipam::new(net("fd00:1::/64"), None, &["fd00:1::1".parse().unwrap()]).unwrap();
    assert_eq!(ipam.allocate().unwrap().to_string(), "fd00:1::2");
    ipam.claim("fd00:1::3".parse().unwrap()).unwrap();
    assert_eq!(ipam.allocate().unwrap().to_string(), "fd00:1::4");
    assert_eq!((ipam.in_use(), ipam.available()), (5, u64::MAX - 4));
    let mut top = Ipam::new(net("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127"), None, &[]).unwrap();
    assert_eq!(top.allocate().unwrap().to_string(), "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe");
}

#[derive(Debug, Clone)]
enum Action {
    Allocate,
    Claim(u8),
    Release(u8),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        Just(Action::Allocate),
        any::<u8>().prop_map(Action::Claim),
        any::<u8>().prop_map(Action::Release)
    ]
}

proptest! {
    /// Against a plain set: no address twice, none outside, none reserved, and exhausted only when all are taken.
    #[test]
    fn behaves_as_a_set(prefix in 24u8..=30, actions in proptest::collection::vec(action(), 0..600)) {
        let subnet = IpNet::new(v4(10, 9, 8, 0), prefix).unwrap();
        let gateway = v4(10, 9, 8, 1);
        let usable: BTreeSet<_> = subnet.hosts().filter(|ip| *ip != gateway).collect();
        let mut ipam = Ipam::new(subnet, None, &[gateway]).unwrap();
        let mut model = BTreeSet::new();
        for action in actions {
            match action {
                Action::Allocate => match ipam.allocate() {
                    Ok(ip) => prop_assert!(usable.contains(&ip) && model.insert(ip)),
                    Err(_) => prop_assert_eq!(&model, &usable),
                },
                Action::Claim(last) => {
                    let ip = v4(10, 9, 8, last);
                    let free = usable.contains(&ip) && !model.contains(&ip);
                    prop_assert_eq!(ipam.claim(ip).is_ok(), free);
                    if free { model.insert(ip); }
                }
                Action::Release(last) => {
                    let ip = v4(10, 9, 8, last);
                    if model.remove(&ip) { ipam.release(ip); }
                }
            }
        }
        for ip in usable { prop_assert_eq!(ipam.claim(ip).is_err(), model.contains(&ip)); }
    }
}
