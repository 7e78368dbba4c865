//! Prints nf_tables data, one expression per line as `nft --debug=netlink` does: for plans, logs and tests.

use std::fmt;

use super::{
    Base, Chain, Comparison, Conntrack, Element, Expression, Family, Hook, Kind, Meta, PayloadBase, Rule,
    Set, Table, Verdict,
};

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table {} {}", self.family, self.name)?;
        self.sets.iter().try_for_each(|set| write!(f, "{set}"))?;
        self.chains.iter().try_for_each(|chain| write!(f, "{chain}"))
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Inet => "inet",
            Family::Ipv4 => "ip",
            Family::Ipv6 => "ip6",
        })
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let intervals = if self.intervals { " (ranges)" } else { "" };
        if self.data.is_empty() {
            writeln!(f, "  set {}: {:?}{intervals}", self.name, self.key)?;
        } else {
            writeln!(f, "  map {}: {:?} : {:?}", self.name, self.key, self.data)?;
        }
        self.elements.iter().try_for_each(|element| writeln!(f, "    {element}"))
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.set)?;
        hexadecimal(f, self.key.as_slice())?;
        if self.ends_interval {
            f.write_str(" end")?;
        }
        let Some(data) = &self.data else { return Ok(()) };
        f.write_str(" : ")?;
        hexadecimal(f, data.as_slice())
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  chain {}", self.name)?;
        if let Some(Base { kind, hook, priority }) = self.base {
            let kind = match kind {
                Kind::Filter => "filter",
                Kind::Nat => "nat",
            };
            let hook = match hook {
                Hook::Prerouting => "prerouting",
                Hook::Forward => "forward",
                Hook::Output => "output",
                Hook::Postrouting => "postrouting",
            };
            write!(f, " type {kind} hook {hook} priority {priority}")?;
        }
        writeln!(f)?;
        self.rules.iter().try_for_each(|rule| writeln!(f, "    {rule}"))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, expression) in self.expressions.iter().enumerate() {
            let gap = if index == 0 { "" } else { " " };
            write!(f, "{gap}[ {expression} ]")?;
        }
        self.comment.iter().try_for_each(|comment| write!(f, " comment {comment:?}"))
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expression::Meta { key, to } => {
                let key = match key {
                    Meta::IncomingName => "iifname",
                    Meta::OutgoingName => "oifname",
                    Meta::NetworkProtocol => "nfproto",
                    Meta::TransportProtocol => "l4proto",
                };
                write!(f, "meta load {key} => reg {}", to.0)
            }
            Expression::Payload { base, offset, length, to } => {
                let base = match base {
                    PayloadBase::Network => "network",
                    PayloadBase::Transport => "transport",
                };
                write!(f, "payload load {length}b @ {base} header + {offset} => reg {}", to.0)
            }
            Expression::Conntrack { key, to } => {
                let key = match key {
                    Conntrack::State => "state",
                    Conntrack::Status => "status",
                };
                write!(f, "ct load {key} => reg {}", to.0)
            }
            Expression::DestinationType { to } => write!(f, "fib daddr type => reg {}", to.0),
            Expression::Bitwise { register, mask } => {
                write!(f, "bitwise reg {0} = ( reg {0} & ", register.0)?;
                hexadecimal(f, mask)?;
                f.write_str(" )")
            }
            Expression::Compare { register, comparison, value } => {
                let comparison = match comparison {
                    Comparison::Equal => "eq",
                    Comparison::NotEqual => "neq",
                };
                write!(f, "cmp {comparison} reg {} ", register.0)?;
                hexadecimal(f, value)
            }
            Expression::Lookup { map, key, to } => write!(f, "lookup reg {} set {map} dreg {}", key.0, to.0),
            Expression::Member { set, key, inverted } => {
                let inverted = if *inverted { " inverted" } else { "" };
                write!(f, "lookup reg {} set {set}{inverted}", key.0)
            }
            Expression::DestinationNat { family, address, port } => {
                write!(f, "nat dnat {family} addr_min reg {} proto_min reg {}", address.0, port.0)
            }
            Expression::Immediate { to, value } => {
                write!(f, "immediate reg {} ", to.0)?;
                hexadecimal(f, value)
            }
            Expression::DestinationPort { port } => write!(f, "nat dnat ip proto_min reg {}", port.0),
            Expression::Masquerade => f.write_str("masq"),
            Expression::Counter => f.write_str("counter"),
            Expression::Verdict(Verdict::Drop) => f.write_str("immediate drop"),
            Expression::Verdict(Verdict::Accept) => f.write_str("immediate accept"),
            Expression::Verdict(Verdict::Return) => f.write_str("immediate return"),
            Expression::Verdict(Verdict::Jump(chain)) => write!(f, "immediate jump -> {chain}"),
        }
    }
}

fn hexadecimal(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    f.write_str("0x")?;
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}
