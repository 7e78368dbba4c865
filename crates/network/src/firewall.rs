//! The instance's nf_tables table as data: what it must hold for its networks and published ports.
//!
//! Pure. The chains never change; a network is a few elements of sets, a port is one element of a map. Packet paths are in
//! `docs/networking.md`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::endpoint::PublishedPort;
use crate::network::{BridgeNetwork, GatewayMode};
use crate::nft::{
    Base, Bytes, Chain, Comparison, Conntrack, Element, Expression, Family, Field, Hook, Kind, Meta,
    PayloadBase, Register, Rule, Set, Table, Verdict,
};

/// Our bridges.
const BRIDGES: &str = "bridges";
/// Each bridge with itself: what stays within a network.
const WITHIN: &str = "within";
/// Those of them whose containers are kept apart.
const APART: &str = "apart";
const INTERNAL: &str = "internal";

/// What differs between the families.
struct Names {
    family: Family,
    address: Field,
    /// Ports that are published on every address of the host.
    ports: &'static str,
    /// Ports that are published on one address.
    addressed_ports: &'static str,
    subnets: &'static str,
    /// Subnets that leave with the host's address.
    masqueraded: &'static str,
    /// Bridges whose containers can be reached by their own addresses, at all ports,
    unprotected: &'static str,
    /// or at published ones only,
    routed: &'static str,
    /// which are these, with the container's address.
    open_ports: &'static str,
    /// ICMP's protocol number.
    control: u8,
}

const IPV4: Names = Names {
    family: Family::Ipv4,
    address: Field::Ipv4Address,
    ports: "ports",
    addressed_ports: "addressed-ports",
    subnets: "subnets",
    masqueraded: "masqueraded",
    unprotected: "unprotected",
    routed: "routed",
    open_ports: "open-ports",
    control: 1,
};
const IPV6: Names = Names {
    family: Family::Ipv6,
    address: Field::Ipv6Address,
    ports: "ports6",
    addressed_ports: "addressed-ports6",
    subnets: "subnets6",
    masqueraded: "masqueraded6",
    unprotected: "unprotected6",
    routed: "routed6",
    open_ports: "open-ports6",
    control: 58,
};

const PUBLISH: &str = "publish";

/// Netfilter's own places in the order of chains (linux/netfilter_ipv4.h).
const PRIORITY_RAW: i32 = -300;
const PRIORITY_DESTINATION_NAT: i32 = -100;
const PRIORITY_FILTER: i32 = 0;
const PRIORITY_SOURCE_NAT: i32 = 100;

const RTN_LOCAL: u32 = 2;
/// Bits of `ct state`: established is 2, related 4.
const CT_ESTABLISHED_OR_RELATED: u32 = 2 | 4;
/// `IPS_DST_NAT`.
const CT_STATUS_DNAT: u32 = 1 << 5;

/// The widest key, an address of IPv6 with protocol and port, takes six registers; a pair of interfaces eight.
const R0: Register = Register(0);
const R4: Register = Register(4);

/// The table with these elements.
pub fn table(name: &str, elements: &[Element]) -> Table {
    let of = |set: &'static str, key: &'static [Field], data: &'static [Field], intervals| Set {
        name: set,
        key,
        data,
        intervals,
        elements: elements.iter().filter(|element| element.set == set).copied().collect(),
    };
    use Field::{Interface, Ipv4Address, Ipv6Address, Port, Protocol};
    let bases = [
        ("raw-prerouting", Kind::Filter, Hook::Prerouting, PRIORITY_RAW, spoofed_loopback()),
        ("prerouting", Kind::Nat, Hook::Prerouting, PRIORITY_DESTINATION_NAT, from_outside()),
        ("output", Kind::Nat, Hook::Output, PRIORITY_DESTINATION_NAT, from_host()),
        ("forward", Kind::Filter, Hook::Forward, PRIORITY_FILTER, forward()),
        ("postrouting", Kind::Nat, Hook::Postrouting, PRIORITY_SOURCE_NAT, postrouting()),
    ];
    let base_chain = |(name, kind, hook, priority, rules)| Chain {
        name,
        base: Some(Base { kind, hook, priority }),
        rules,
    };
    Table {
        family: Family::Inet,
        name: name.to_owned(),
        sets: vec![
            of(BRIDGES, &[Interface], &[], false),
            of(WITHIN, &[Interface, Interface], &[], false),
            of(APART, &[Interface, Interface], &[], false),
            of(INTERNAL, &[Interface], &[], false),
            of(IPV4.subnets, &[Ipv4Address], &[], true),
            of(IPV4.masqueraded, &[Ipv4Address], &[], true),
            of(IPV4.ports, &[Protocol, Port], &[Ipv4Address, Port], false),
            of(IPV4.addressed_ports, &[Ipv4Address, Protocol, Port], &[Ipv4Address, Port], false),
            of(IPV4.unprotected, &[Interface], &[], false),
            of(IPV4.routed, &[Interface], &[], false),
            of(IPV4.open_ports, &[Ipv4Address, Protocol, Port], &[], false),
            of(IPV6.subnets, &[Ipv6Address], &[], true),
            of(IPV6.masqueraded, &[Ipv6Address], &[], true),
            of(IPV6.ports, &[Protocol, Port], &[Ipv6Address, Port], false),
            of(IPV6.addressed_ports, &[Ipv6Address, Protocol, Port], &[Ipv6Address, Port], false),
            of(IPV6.unprotected, &[Interface], &[], false),
            of(IPV6.routed, &[Interface], &[], false),
            of(IPV6.open_ports, &[Ipv6Address, Protocol, Port], &[], false),
        ],
        chains: std::iter::once(Chain { name: PUBLISH, base: None, rules: publish() })
            .chain(bases.map(base_chain))
            .collect(),
    }
}

/// What the sets hold for a network.
pub fn network_elements(network: &BridgeNetwork) -> Vec<Element> {
    let member = |set, key| Element { set, key, data: None, ends_interval: false };
    let one = Bytes::new().interface(&network.bridge);
    let pair = one.interface(&network.bridge);
    let mut elements = vec![member(BRIDGES, one), member(WITHIN, pair)];
    if !network.inter_container {
        elements.push(member(APART, pair));
    }
    if network.internal {
        elements.push(member(INTERNAL, one));
    }
    for (ipv4, has) in [(true, network.has_ipv4()), (false, network.has_ipv6())] {
        match network.mode(ipv4) {
            GatewayMode::NatUnprotected if has => elements.push(member(names(ipv4).unprotected, one)),
            GatewayMode::Routed if has => elements.push(member(names(ipv4).routed, one)),
            _ => {}
        }
    }
    for subnet in &network.subnets {
        let names = names(subnet.is_ipv4());
        elements.extend(range(names.subnets, subnet.net));
        if network.masquerade && !network.internal && network.mode(subnet.is_ipv4()).translates() {
            elements.extend(range(names.masqueraded, subnet.net));
        }
    }
    elements
}

/// The element that publishes a port of the container with that address, which is of the host address's family: of a map, or of the
/// set of open ports when it takes none of the host's.
pub fn port_element(port: &PublishedPort, container: IpAddr) -> Element {
    let names = names(port.host_ip.is_ipv4());
    if port.is_direct() {
        let key = Bytes::new().address(container).protocol(port.protocol.number()).port(port.container_port);
        return Element { set: names.open_ports, key, data: None, ends_interval: false };
    }
    let everywhere = port.host_ip.is_unspecified();
    let key = if everywhere { Bytes::new() } else { Bytes::new().address(port.host_ip) };
    Element {
        set: if everywhere { names.ports } else { names.addressed_ports },
        key: key.protocol(port.protocol.number()).port(port.host_port),
        data: Some(Bytes::new().address(container).port(port.container_port)),
        ends_interval: false,
    }
}

/// What we put into somebody's chain that would otherwise drop what our bridges forward. Only expressions that
/// `iptables -i/-o BRIDGE -j ACCEPT` makes too, else iptables-nft could no longer read its table.
pub fn accept_rules(bridge: &str, tag: &str) -> Vec<Rule> {
    [Meta::IncomingName, Meta::OutgoingName]
        .map(|key| {
            let value = Bytes::new().interface(bridge).as_slice().to_vec();
            let expressions = vec![
                Expression::Meta { key, to: R0 },
                Expression::Compare { register: R0, comparison: Comparison::Equal, value },
                Expression::Counter,
                Expression::Verdict(Verdict::Accept),
            ];
            Rule { expressions, comment: Some(format!("{tag} {bridge}")) }
        })
        .into()
}

fn names(ipv4: bool) -> &'static Names {
    if ipv4 { &IPV4 } else { &IPV6 }
}

/// From a subnet's first address to its last; one that reaches the end of the address space has no end.
fn range(set: &'static str, net: IpNet) -> Vec<Element> {
    let element =
        |ip, ends_interval| Element { set, key: Bytes::new().address(ip), data: None, ends_interval };
    let behind: Option<IpAddr> = match net.broadcast() {
        IpAddr::V4(last) => u32::from(last).checked_add(1).map(|n| Ipv4Addr::from(n).into()),
        IpAddr::V6(last) => u128::from(last).checked_add(1).map(|n| Ipv6Addr::from(n).into()),
    };
    std::iter::once(element(net.network(), false)).chain(behind.map(|ip| element(ip, true))).collect()
}

/// Translates the destination when the port is published; else falls through.
fn publish() -> Vec<Rule> {
    let rules = |names: &'static Names| {
        let words = names.address.bytes() / 4;
        let (destination, _) = offsets(names.family);
        let translate =
            [Expression::DestinationNat { family: names.family, address: R0, port: Register(words) }];
        let protocol_and_port = |at: u32| {
            [
                Expression::Meta { key: Meta::TransportProtocol, to: Register(at) },
                payload(PayloadBase::Transport, 2, 2, Register(at + 1)),
            ]
        };
        let address = [payload(PayloadBase::Network, destination, names.address.bytes(), R0)];
        let lookup = |map| [Expression::Lookup { map, key: R0, to: R0 }];
        [
            rule([
                &only(names.family)[..],
                &address,
                &protocol_and_port(words),
                &lookup(names.addressed_ports),
                &translate,
            ]),
            rule([&only(names.family)[..], &protocol_and_port(0), &lookup(names.ports), &translate]),
        ]
    };
    [rules(&IPV4), rules(&IPV6)].concat()
}

/// `route_localnet` on a bridge lets 127.0.0.0/8 through the routing; containers must not make use of it.
fn spoofed_loopback() -> Vec<Rule> {
    let (destination, source) = offsets(Family::Ipv4);
    [source, destination]
        .map(|offset| {
            let from_bridge = from(BRIDGES, false);
            rule([&from_bridge[..], &loopback(offset), &[Expression::Verdict(Verdict::Drop)]])
        })
        .into()
}

/// Not for 127.0.0.0/8: translated here, before routing could refuse it as a martian, it would open ports that are
/// published on the host's loopback only to the neighbours on the wire.
fn from_outside() -> Vec<Rule> {
    let (destination, _) = offsets(Family::Ipv4);
    vec![
        rule([&loopback(destination)[..], &[Expression::Verdict(Verdict::Return)]]),
        rule([&to_host()[..], &[Expression::Verdict(Verdict::Jump(PUBLISH))]]),
    ]
}

/// Not for ::1: there is no `route_localnet` for IPv6, answers to it are dropped when they don't come by lo. Left alone, a client that
/// tries ::1 before 127.0.0.1 is refused at once, by the socket that holds the port.
fn from_host() -> Vec<Rule> {
    let (destination, _) = offsets(Family::Ipv6);
    vec![
        rule([&loopback6(destination)[..], &[Expression::Verdict(Verdict::Return)]]),
        rule([&to_host()[..], &[Expression::Verdict(Verdict::Jump(PUBLISH))]]),
    ]
}

/// Accepting ends our chain only: what other tables forbid stays forbidden.
fn forward() -> Vec<Rule> {
    let verdict = |verdict| [Expression::Verdict(verdict)];
    let (accept, drop) = (verdict(Verdict::Accept), verdict(Verdict::Drop));
    let to_bridge = to(BRIDGES, false);
    let direct = |names: &'static Names| {
        let (destination, _) = offsets(names.family);
        let words = names.address.bytes() / 4;
        let control = [
            Expression::Meta { key: Meta::TransportProtocol, to: R0 },
            Expression::Compare { register: R0, comparison: Comparison::Equal, value: vec![names.control] },
        ];
        let open = [
            payload(PayloadBase::Network, destination, names.address.bytes(), R0),
            Expression::Meta { key: Meta::TransportProtocol, to: Register(words) },
            payload(PayloadBase::Transport, 2, 2, Register(words + 1)),
            Expression::Member { set: names.open_ports, key: R0, inverted: false },
        ];
        [
            rule([&only(names.family)[..], &to(names.unprotected, false), &accept]),
            rule([&only(names.family)[..], &to(names.routed, false), &control, &accept]),
            rule([&to_bridge[..], &only(names.family), &open, &accept]),
        ]
    };
    let first = [
        rule([&to_bridge[..], &conntrack(Conntrack::State, CT_ESTABLISHED_OR_RELATED), &accept]),
        rule([&from(INTERNAL, false)[..], &pair(WITHIN, true), &drop]),
        rule([&to(INTERNAL, false)[..], &pair(WITHIN, true), &drop]),
        rule([&to_bridge[..], &conntrack(Conntrack::Status, CT_STATUS_DNAT), &accept]),
        rule([&pair(APART, false)[..], &drop]),
        rule([&pair(WITHIN, false)[..], &accept]),
    ];
    let last = [
        // From another network of ours as from outside.
        rule([&to_bridge[..], &drop]),
        rule([&from(BRIDGES, false)[..], &accept]),
    ];
    [&first[..], &direct(&IPV4), &direct(&IPV6), &last].concat()
}

fn postrouting() -> Vec<Rule> {
    let masquerade = [Expression::Masquerade];
    let rules = |names: &'static Names| {
        let (_, source) = offsets(names.family);
        let source_in = |set| {
            [
                only(names.family),
                vec![
                    payload(PayloadBase::Network, source, names.address.bytes(), R0),
                    Expression::Member { set, key: R0, inverted: false },
                ],
            ]
            .concat()
        };
        [
            // Hairpin: without this the answer would go straight to the asking container, which expects the host's.
            rule([
                &to(BRIDGES, false)[..],
                &conntrack(Conntrack::Status, CT_STATUS_DNAT),
                &source_in(names.subnets),
                &masquerade,
            ]),
            rule([&to(BRIDGES, true)[..], &source_in(names.masqueraded), &masquerade]),
        ]
    };
    let (_, source) = offsets(Family::Ipv4);
    // The host by its loopback address: the container must see an address that it can answer.
    let from_loopback = [rule([&to(BRIDGES, false)[..], &loopback(source), &masquerade])];
    [&from_loopback[..], &rules(&IPV4), &rules(&IPV6)].concat()
}

fn rule<const N: usize>(parts: [&[Expression]; N]) -> Rule {
    Rule { expressions: parts.concat(), comment: None }
}

/// Where the destination's and the source's address stand in the header.
fn offsets(family: Family) -> (u32, u32) {
    if family == Family::Ipv6 { (24, 8) } else { (16, 12) }
}

fn payload(base: PayloadBase, offset: u32, length: u32, to: Register) -> Expression {
    Expression::Payload { base, offset, length, to }
}

fn only(family: Family) -> Vec<Expression> {
    vec![
        Expression::Meta { key: Meta::NetworkProtocol, to: R0 },
        Expression::Compare { register: R0, comparison: Comparison::Equal, value: vec![family as u8] },
    ]
}

fn from(set: &'static str, inverted: bool) -> Vec<Expression> {
    interface(Meta::IncomingName, set, inverted)
}

fn to(set: &'static str, inverted: bool) -> Vec<Expression> {
    interface(Meta::OutgoingName, set, inverted)
}

/// The whole of `IFNAMSIZ` is the key, so a name that only begins alike does not match.
fn interface(key: Meta, set: &'static str, inverted: bool) -> Vec<Expression> {
    vec![Expression::Meta { key, to: R0 }, Expression::Member { set, key: R0, inverted }]
}

/// Where it comes from and where it goes to.
fn pair(set: &'static str, inverted: bool) -> Vec<Expression> {
    vec![
        Expression::Meta { key: Meta::IncomingName, to: R0 },
        Expression::Meta { key: Meta::OutgoingName, to: R4 },
        Expression::Member { set, key: R0, inverted },
    ]
}

fn loopback(offset: u32) -> Vec<Expression> {
    let mut expressions = only(Family::Ipv4);
    expressions.extend([
        payload(PayloadBase::Network, offset, 4, R0),
        Expression::Bitwise { register: R0, mask: vec![255, 0, 0, 0] },
        Expression::Compare { register: R0, comparison: Comparison::Equal, value: vec![127, 0, 0, 0] },
    ]);
    expressions
}

fn loopback6(offset: u32) -> Vec<Expression> {
    let value = Ipv6Addr::LOCALHOST.octets().to_vec();
    let mut expressions = only(Family::Ipv6);
    expressions.extend([
        payload(PayloadBase::Network, offset, 16, R0),
        Expression::Compare { register: R0, comparison: Comparison::Equal, value },
    ]);
    expressions
}

fn to_host() -> Vec<Expression> {
    let value = RTN_LOCAL.to_ne_bytes().to_vec();
    vec![
        Expression::DestinationType { to: R0 },
        Expression::Compare { register: R0, comparison: Comparison::Equal, value },
    ]
}

/// Any of these bits of the connection's state or status, which stand in the register in the machine's byte order.
fn conntrack(key: Conntrack, bits: u32) -> Vec<Expression> {
    vec![
        Expression::Conntrack { key, to: R0 },
        Expression::Bitwise { register: R0, mask: bits.to_ne_bytes().to_vec() },
        Expression::Compare { register: R0, comparison: Comparison::NotEqual, value: vec![0; 4] },
    ]
}

#[cfg(test)]
mod tests;
