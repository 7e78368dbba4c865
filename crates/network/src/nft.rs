//! nf_tables as data: tables, chains, maps, rules made of expressions.
//!
//! Owns the vocabulary; `encode` turns it into netlink messages, `text` prints it in the form of
//! `nft --debug=netlink`. Knows nothing of what our table is for (see `firewall`).

use std::net::Ipv4Addr;

mod encode;
mod read;
mod text;

pub use encode::Transaction;
pub use read::{chain_exists, chain_policy_is_drop, rules, subject, table_exists};

/// A whole table of family `ip`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    pub maps: Vec<Map>,
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

/// A map from concatenated fields to concatenated fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    pub name: &'static str,
    pub key: &'static [Field],
    pub data: &'static [Field],
    pub elements: Vec<Element>,
}

/// Bytes as they stand in the registers: each field padded to four.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Element {
    pub map: &'static str,
    pub key: Bytes,
    pub data: Bytes,
}

/// Up to four register words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bytes {
    length: u8,
    bytes: [u8; 16],
}

impl Bytes {
    /// The empty concatenation; fields are appended.
    pub fn new() -> Bytes {
        Bytes { length: 0, bytes: [0; 16] }
    }

    pub fn address(self, ip: Ipv4Addr) -> Bytes {
        self.word(ip.octets())
    }

    pub fn protocol(self, number: u8) -> Bytes {
        self.word([number, 0, 0, 0])
    }

    pub fn port(self, port: u16) -> Bytes {
        let [high, low] = port.to_be_bytes();
        self.word([high, low, 0, 0])
    }

    fn word(mut self, word: [u8; 4]) -> Bytes {
        let at = usize::from(self.length);
        self.bytes[at..at + 4].copy_from_slice(&word);
        self.length += 4;
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
    Protocol = 12,
    Port = 13,
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
    DestinationNat {
        address: Register,
        port: Register,
    },
    Masquerade,
    Counter,
    Verdict(Verdict),
}
