//! The instance's nf_tables table as data: what it must hold for a network and its published ports.
//!
//! Pure. The chains never change with containers or ports; a port is one element of one map. Packet paths are in
//! `docs/networking.md`.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::endpoint::PublishedPort;
use crate::nft::{
    Base, Bytes, Chain, Comparison, Conntrack, Element, Expression, Field, Hook, Kind, Map, Meta,
    PayloadBase, Register, Rule, Table, Verdict,
};

/// Ports that are published on every address of the host.
const PORTS: &str = "ports";
/// Ports that are published on one address.
const ADDRESSED_PORTS: &str = "addressed-ports";
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
const SOURCE_OFFSET: u32 = 12;
const DESTINATION_OFFSET: u32 = 16;

const R0: Register = Register(0);
const R1: Register = Register(1);
const R2: Register = Register(2);

/// What the rules depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    pub table: String,
    pub bridge: String,
    pub subnet: Ipv4Net,
    pub masquerade: bool,
    pub inter_container: bool,
}

/// The table with these ports published.
pub fn table(intent: &Intent, elements: &[Element]) -> Table {
    let of = |map: &'static str| elements.iter().filter(|element| element.map == map).copied().collect();
    Table {
        name: intent.table.clone(),
        maps: vec![
            Map {
                name: PORTS,
                key: &[Field::Protocol, Field::Port],
                data: &[Field::Ipv4Address, Field::Port],
                elements: of(PORTS),
            },
            Map {
                name: ADDRESSED_PORTS,
                key: &[Field::Ipv4Address, Field::Protocol, Field::Port],
                data: &[Field::Ipv4Address, Field::Port],
                elements: of(ADDRESSED_PORTS),
            },
        ],
        chains: vec![
            Chain { name: PUBLISH, base: None, rules: publish() },
            base_chain(
                "raw-prerouting",
                Kind::Filter,
                Hook::Prerouting,
                PRIORITY_RAW,
                spoofed_loopback(intent),
            ),
            base_chain("prerouting", Kind::Nat, Hook::Prerouting, PRIORITY_DESTINATION_NAT, from_outside()),
            base_chain("output", Kind::Nat, Hook::Output, PRIORITY_DESTINATION_NAT, from_host()),
            base_chain("forward", Kind::Filter, Hook::Forward, PRIORITY_FILTER, forward(intent)),
            base_chain("postrouting", Kind::Nat, Hook::Postrouting, PRIORITY_SOURCE_NAT, postrouting(intent)),
        ],
    }
}

/// The map element that publishes a port of the container with that address.
pub fn element(port: &PublishedPort, container: Ipv4Addr) -> Element {
    let everywhere = port.host_ip.is_unspecified();
    let key = if everywhere { Bytes::new() } else { Bytes::new().address(port.host_ip) };
    Element {
        map: if everywhere { PORTS } else { ADDRESSED_PORTS },
        key: key.protocol(port.protocol.number()).port(port.host_port),
        data: Bytes::new().address(container).port(port.container_port),
    }
}

/// What we put into somebody's chain that would otherwise drop what our bridge forwards. Only expressions that
/// `iptables -i/-o BRIDGE -j ACCEPT` makes too, else iptables-nft could no longer read its table.
pub fn accept_rules(bridge: &str, tag: &str) -> Vec<Rule> {
    [Meta::IncomingName, Meta::OutgoingName]
        .map(|key| {
            let mut expressions = interface(key, Comparison::Equal, bridge);
            expressions.extend([Expression::Counter, Expression::Verdict(Verdict::Accept)]);
            Rule { expressions, comment: Some(tag.to_owned()) }
        })
        .into()
}

fn base_chain(name: &'static str, kind: Kind, hook: Hook, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain { name, base: Some(Base { kind, hook, priority }), rules }
}

/// Translates the destination when the port is published; else falls through.
fn publish() -> Vec<Rule> {
    let translate = [Expression::DestinationNat { address: R0, port: R1 }];
    let addressed = [
        payload(PayloadBase::Network, DESTINATION_OFFSET, 4, R0),
        Expression::Meta { key: Meta::TransportProtocol, to: R1 },
        payload(PayloadBase::Transport, 2, 2, R2),
        Expression::Lookup { map: ADDRESSED_PORTS, key: R0, to: R0 },
    ];
    let everywhere = [
        Expression::Meta { key: Meta::TransportProtocol, to: R0 },
        payload(PayloadBase::Transport, 2, 2, R1),
        Expression::Lookup { map: PORTS, key: R0, to: R0 },
    ];
    vec![rule([&addressed[..], &translate]), rule([&everywhere[..], &translate])]
}

/// `route_localnet` on the bridge lets 127.0.0.0/8 through the routing; containers must not make use of it.
fn spoofed_loopback(intent: &Intent) -> Vec<Rule> {
    [SOURCE_OFFSET, DESTINATION_OFFSET]
        .map(|offset| {
            let from_bridge = interface(Meta::IncomingName, Comparison::Equal, &intent.bridge);
            rule([&from_bridge[..], &loopback(offset), &[Expression::Verdict(Verdict::Drop)]])
        })
        .into()
}

/// Not for 127.0.0.0/8: translated here, before routing could refuse it as a martian, it would open ports that are
/// published on the host's loopback only to the neighbours on the wire.
fn from_outside() -> Vec<Rule> {
    vec![
        rule([&loopback(DESTINATION_OFFSET)[..], &[Expression::Verdict(Verdict::Return)]]),
        rule([&to_host()[..], &[Expression::Verdict(Verdict::Jump(PUBLISH))]]),
    ]
}

fn from_host() -> Vec<Rule> {
    vec![rule([&to_host()[..], &[Expression::Verdict(Verdict::Jump(PUBLISH))]])]
}

/// Accepting ends our chain only: what other tables forbid stays forbidden.
fn forward(intent: &Intent) -> Vec<Rule> {
    let from_bridge = interface(Meta::IncomingName, Comparison::Equal, &intent.bridge);
    let to_bridge = interface(Meta::OutgoingName, Comparison::Equal, &intent.bridge);
    let accept = [Expression::Verdict(Verdict::Accept)];
    let between = if intent.inter_container { Verdict::Accept } else { Verdict::Drop };
    vec![
        rule([&to_bridge[..], &conntrack(Conntrack::State, CT_ESTABLISHED_OR_RELATED), &accept]),
        rule([&to_bridge[..], &conntrack(Conntrack::Status, CT_STATUS_DNAT), &accept]),
        rule([&from_bridge[..], &to_bridge, &[Expression::Verdict(between)]]),
        rule([&from_bridge[..], &accept]),
        rule([&to_bridge[..], &[Expression::Verdict(Verdict::Drop)]]),
    ]
}

fn postrouting(intent: &Intent) -> Vec<Rule> {
    let to_bridge = interface(Meta::OutgoingName, Comparison::Equal, &intent.bridge);
    let elsewhere = interface(Meta::OutgoingName, Comparison::NotEqual, &intent.bridge);
    let from_subnet = in_network(SOURCE_OFFSET, intent.subnet);
    let masquerade = [Expression::Masquerade];
    let mut rules = vec![
        // The host by 127.0.0.1: the container must see an address that it can answer.
        rule([&to_bridge[..], &loopback(SOURCE_OFFSET), &masquerade]),
        // Hairpin: without this the answer would go straight to the asking container, which expects the host's.
        rule([&to_bridge[..], &from_subnet, &conntrack(Conntrack::Status, CT_STATUS_DNAT), &masquerade]),
    ];
    if intent.masquerade {
        rules.push(rule([&elsewhere[..], &from_subnet, &masquerade]));
    }
    rules
}

fn rule<const N: usize>(parts: [&[Expression]; N]) -> Rule {
    Rule { expressions: parts.concat(), comment: None }
}

fn payload(base: PayloadBase, offset: u32, length: u32, to: Register) -> Expression {
    Expression::Payload { base, offset, length, to }
}

/// The whole of `IFNAMSIZ` is compared, so a name that only begins alike does not match.
fn interface(key: Meta, comparison: Comparison, name: &str) -> Vec<Expression> {
    let mut value = name.as_bytes().to_vec();
    value.resize(16, 0);
    vec![Expression::Meta { key, to: R0 }, Expression::Compare { register: R0, comparison, value }]
}

fn in_network(offset: u32, network: Ipv4Net) -> Vec<Expression> {
    vec![
        payload(PayloadBase::Network, offset, 4, R0),
        Expression::Bitwise { register: R0, mask: network.netmask().octets().to_vec() },
        Expression::Compare {
            register: R0,
            comparison: Comparison::Equal,
            value: network.network().octets().to_vec(),
        },
    ]
}

fn loopback(offset: u32) -> Vec<Expression> {
    in_network(offset, Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8))
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
