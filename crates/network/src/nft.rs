//! nf_tables as data: tables, chains, maps, rules made of expressions.
//!
//! Owns the vocabulary; `encode` turns it into netlink messages, `text` prints it in the form of
//! `nft --debug=netlink`. Knows nothing of what our table is for (see `firewall`).

use std::net::IpAddr;

mod encode;
mod read;
mod text;

pub use encode::Transaction;
pub use read::{chain_exists, chain_policy_is_drop, rules, subject, table_exists};

/// Which packets a table sees; the values are the kernel's `NFPROTO_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Both of the others.
    Inet = 1,
    Ipv4 = 2,
    Ipv6 = 10,
}

/// A whole table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub family: Family,
    pub name: String,
    pub sets: Vec<Set>,
    pub chains: Vec<Chain>,
}

/// A chain; a base chain when it has a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    pub name: &'static str,
    pub base: Option<Base>,
    pub rules: Vec<Rule>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    pub kind: Kind,
    pub hook: Hook,
    pub priority: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Filter,
    Nat,
}

/// The values are the kernel's `NF_INET_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    Prerouting = 0,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub expressions: Vec<Expression>,
    /// Shown by `nft list` and used to find our rules in a chain that is not ours.
    pub comment: Option<String>,
}

/// A set of concatenated fields or, with data, a map from them to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    pub name: &'static str,
    pub key: &'static [Field],
    pub data: &'static [Field],
    /// Holds ranges: each begins with an element and ends before one that is marked as an end.
    pub intervals: bool,
    pub elements: Vec<Element>,
}

/// Bytes as they stand in the registers: each field padded to a multiple of four.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Element {
    pub set: &'static str,
    pub key: Bytes,
    /// Of a map.
    pub data: Option<Bytes>,
    /// The first key behind a range.
    pub ends_interval: bool,
}

/// Up to eight register words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bytes {
    length: u8,
    bytes: [u8; 32],
}

impl Bytes {
    /// The empty concatenation; fields are appended.
    pub fn new() -> Bytes {
        Bytes { length: 0, bytes: [0; 32] }
    }

    pub fn address(self, ip: IpAddr) -> Bytes {
        match ip {
            IpAddr::V4(ip) => self.append(&ip.octets()),
            IpAddr::V6(ip) => self.append(&ip.octets()),
        }
    }

    pub fn protocol(self, number: u8) -> Bytes {
        self.append(&[number, 0, 0, 0])
    }

    pub fn port(self, port: u16) -> Bytes {
        let [high, low] = port.to_be_bytes();
        self.append(&[high, low, 0, 0])
    }

    /// At most 15 bytes, as the kernel's names are; the rest is zero.
    pub fn interface(self, name: &str) -> Bytes {
        let mut bytes = [0; 16];
        let length = name.len().min(15);
        bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
        self.append(&bytes)
    }

    fn append(mut self, words: &[u8]) -> Bytes {
        let at = usize::from(self.length);
        self.bytes[at..at + words.len()].copy_from_slice(words);
        self.length += words.len() as u8;
        self
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// A field's type, with nft's own number for it so that `nft list` prints elements readably.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    Ipv4Address = 7,
    Ipv6Address = 8,
    Protocol = 12,
    Port = 13,
    Interface = 41,
}

impl Field {
    /// Of the registers that it takes.
    pub fn bytes(self) -> u32 {
        match self {
            Field::Ipv4Address | Field::Protocol | Field::Port => 4,
            Field::Ipv6Address | Field::Interface => 16,
        }
    }
}

/// A 32-bit register, 0 to 15.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register(pub u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadBase {
    Network = 1,
    Transport = 2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meta {
    IncomingName = 6,
    OutgoingName = 7,
    /// IPv4 or IPv6, in a table for both.
    NetworkProtocol = 15,
    TransportProtocol = 16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conntrack {
    State = 0,
    Status = 2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Equal = 0,
    NotEqual = 1,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Drop,
    Accept,
    Return,
    Jump(&'static str),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    Meta {
        key: Meta,
        to: Register,
    },
    Payload {
        base: PayloadBase,
        offset: u32,
        length: u32,
        to: Register,
    },
    Conntrack {
        key: Conntrack,
        to: Register,
    },
    /// The type of the packet's destination address (`fib daddr type`).
    DestinationType {
        to: Register,
    },
    Bitwise {
        register: Register,
        mask: Vec<u8>,
    },
    Compare {
        register: Register,
        comparison: Comparison,
        value: Vec<u8>,
    },
    /// Ends the rule when the key has no element; otherwise the element's data goes to `to`.
    Lookup {
        map: &'static str,
        key: Register,
        to: Register,
    },
    /// Ends the rule unless the key is in the set or, `inverted`, is not.
    Member {
        set: &'static str,
        key: Register,
        inverted: bool,
    },
    /// Puts bytes that are known beforehand into a register.
    Immediate {
        to: Register,
        value: Vec<u8>,
    },
    DestinationNat {
        family: Family,
        address: Register,
        port: Register,
    },
    /// Another port at the same address.
    DestinationPort {
        port: Register,
    },
    Masquerade,
    Counter,
    Verdict(Verdict),
}
