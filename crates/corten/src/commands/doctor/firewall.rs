//! The firewall: nftables for our own rules, forwarding, and others' rules in front of containers. All of it is read from the
//! kernel over netlink; only the old tables of iptables-legacy need their program.

use std::process::Command;

use corten_sys::netlink::{Batch, Error, Protocol, Received, Socket, attribute, text};

use super::{Finding, Verdict, number};

const AREA: &str = "network";
const SUBSYSTEM: u16 = 10;
const GET_CHAIN: u16 = 4;
const DUMP: u16 = 0x300;
/// RTM_NEWLINK; its attributes 3 and 18 are name and kind.
const NEW_LINK: u16 = 16;
/// NLM_F_CREATE | NLM_F_EXCL.
const CREATE: u16 = 0x600;
/// <linux/sched.h>
const CLONE_NEWNET: u64 = 0x4000_0000;
/// NF_INET_FORWARD.
const FORWARD: u32 = 2;
const DROP: u32 = 0;

pub fn findings() -> Vec<Finding> {
    let mut findings = vec![forwarding()];
    findings.extend(interface_kinds());
    match chains() {
        Ok(chains) => {
            findings.push(Finding::ok(AREA, "nftables", "there"));
            findings.extend(chains.iter().filter(|chain| chain.stops_containers()).map(Chain::finding));
        }
        Err(error) => findings.push(Finding::bad(
            Verdict::Fatal,
            AREA,
            "nftables",
            error.to_string(),
            "modprobe nf_tables, or a kernel with it: published ports and ways out of containers need it",
        )),
    }
    findings.extend(legacy());
    findings
}

fn forwarding() -> Finding {
    match number("/proc/sys/net/ipv4/ip_forward") {
        Some(1) => Finding::ok(AREA, "IPv4 forwarding", "on"),
        _ => Finding::bad(
            Verdict::Warning,
            AREA,
            "IPv4 forwarding",
            "off",
            "sysctl -w net.ipv4.ip_forward=1; the engine does so for its networks unless something turns it off again",
        ),
    }
}

/// Makes one of each, in a network namespace of a thread of its own, and with it they go.
fn interface_kinds() -> Vec<Finding> {
    let made = std::thread::spawn(make_interfaces).join().unwrap_or_default();
    let finding = |(kind, made): (&'static str, Result<(), String>)| match made {
        Ok(()) => Finding::ok(AREA, format!("{kind} interfaces"), "could be made"),
        Err(error) => Finding::bad(
            Verdict::Fatal,
            AREA,
            format!("{kind} interfaces"),
            error,
            format!(
                "modprobe {kind}; after an update of the kernel its modules are there again with a reboot"
            ),
        ),
    };
    made.into_iter().map(finding).collect()
}

fn make_interfaces() -> Vec<(&'static str, Result<(), String>)> {
    let socket = corten_sys::process::unshare(CLONE_NEWNET)
        .map_err(|error| error.to_string())
        .and_then(|()| Socket::open(Protocol::Route).map_err(|error| error.to_string()));
    let make = |kind: &str| -> Result<(), String> {
        let socket = socket.as_ref().map_err(Clone::clone)?;
        let mut batch = Batch::new();
        batch.message(NEW_LINK, CREATE, &[0; 16]).string(3, &format!("try-{kind}")).nested(18, |info| {
            info.string(1, kind);
        });
        socket.transact(&mut batch).map_err(|error| error.to_string())
    };
    ["bridge", "veth"].map(|kind| (kind, make(kind))).into()
}

/// A base chain of somebody.
#[derive(Debug, PartialEq, Eq)]
struct Chain {
    family: u8,
    table: String,
    name: String,
    hook: u32,
    policy: u32,
}

impl Chain {
    fn parse(message: &Received) -> Option<Self> {
        let family = *message.payload.first()?;
        let attributes = message.payload.get(4..)?;
        let be32 = |value: &[u8]| value.try_into().ok().map(u32::from_be_bytes);
        Some(Self {
            family,
            table: text(attribute(attributes, 1)?).to_owned(),
            name: text(attribute(attributes, 3)?).to_owned(),
            hook: be32(attribute(attribute(attributes, 4)?, 1)?)?,
            policy: attribute(attributes, 5).and_then(be32)?,
        })
    }

    /// It drops what goes through this host, and isn't ours.
    fn stops_containers(&self) -> bool {
        // unspec, inet, ip and ip6 of NFPROTO_*.
        matches!(self.family, 1 | 2 | 10)
            && self.hook == FORWARD
            && self.policy == DROP
            && !self.table.starts_with("corten")
    }

    fn finding(&self) -> Finding {
        let family = match self.family {
            1 => "inet",
            2 => "ip",
            _ => "ip6",
        };
        let what = format!("rules of others: {family} {} {}", self.table, self.name);
        let (verdict, mend) = match self.table.as_str() {
            "filter" => (
                Verdict::Warning,
                "with Docker's chain DOCKER-USER the engine lets its own traffic through there; else: iptables -P FORWARD ACCEPT"
                    .to_owned(),
            ),
            "firewalld" => (
                Verdict::Warning,
                "firewall-cmd --permanent --zone=trusted --add-source=<subnet of the network>; firewall-cmd --reload".to_owned(),
            ),
            table => (
                Verdict::Warning,
                format!("let traffic of the engine's bridges pass: nft insert rule {family} {table} {} iifname \"corten*\" accept", self.name),
            ),
        };
        Finding::bad(verdict, AREA, what, "drops what goes through this host", mend)
    }
}

fn chains() -> Result<Vec<Chain>, Error> {
    let socket = Socket::open(Protocol::Netfilter)?;
    let mut batch = Batch::new();
    batch.message(SUBSYSTEM << 8 | GET_CHAIN, DUMP, &[0, 0, 0, 0]);
    Ok(socket.request(&mut batch)?.iter().filter_map(Chain::parse).collect())
}

/// The older kernel interface has tables of its own, which nftables does not show.
fn legacy() -> Vec<Finding> {
    let mut findings = Vec::new();
    for (program, list) in
        [("iptables-legacy", "/proc/net/ip_tables_names"), ("ip6tables-legacy", "/proc/net/ip6_tables_names")]
    {
        let tables = std::fs::read_to_string(list).unwrap_or_default();
        if !tables.split_whitespace().any(|table| table == "filter") {
            continue;
        }
        // Asked for its policy only; what it can't tell is no finding.
        let Ok(output) = Command::new(program).args(["-w", "1", "-S", "FORWARD"]).output() else { continue };
        if String::from_utf8_lossy(&output.stdout).lines().any(|line| line == "-P FORWARD DROP") {
            findings.push(Finding::bad(
                Verdict::Warning,
                AREA,
                format!("rules of others: {program}"),
                "the chain FORWARD drops what goes through this host",
                format!("{program} -P FORWARD ACCEPT, or accept traffic of the engine's bridges there"),
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dropping_chains_of_others_stop_containers() {
        let chain = |table: &str, hook, policy| Chain {
            family: 2,
            table: table.to_owned(),
            name: "FORWARD".to_owned(),
            hook,
            policy,
        };
        assert!(chain("filter", FORWARD, DROP).stops_containers());
        assert!(!chain("filter", FORWARD, 1).stops_containers());
        assert!(!chain("filter", 1, DROP).stops_containers());
        assert!(!chain("corten-0a1b2c3d", FORWARD, DROP).stops_containers());
        assert!(chain("filter", FORWARD, DROP).finding().mend.contains("DOCKER-USER"));
    }
}
