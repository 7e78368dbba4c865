//! What a container's name server is told by the engine.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How a container's names are resolved.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Resolver {
    /// In the order in which they are asked.
    #[serde(default)]
    pub networks: Vec<NetworkNames>,
    /// Servers for all other names, asked from the container's own network. None: those that the host's
    /// `/etc/resolv.conf` names when a query comes, asked from the host's network.
    #[serde(default)]
    pub servers: Vec<IpAddr>,
    /// All its networks are internal: nothing is asked from the host's network for its sake.
    #[serde(default)]
    pub internal: bool,
    /// A name without a dot that is in no network is nobody's: the container's resolver goes on with its search domains
    /// (somebody has set `ndots`).
    #[serde(default)]
    pub single_labels_stay: bool,
}

/// One of a container's networks, as its name server sees it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct NetworkNames {
    /// The file of names; see [`super::names`]. One that is missing holds none.
    pub file: PathBuf,
    /// Names that only this container has for others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
}

/// `alias` means what `name` means in the network.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Link {
    pub alias: String,
    pub name: String,
}

/// The most servers that are asked, as many as the C libraries ask.
const SERVERS_MAX: usize = 3;

/// The servers of the host.
pub(super) fn host_servers() -> Vec<IpAddr> {
    // Looked up for every query that leaves: a laptop changes networks.
    std::fs::read_to_string("/etc/resolv.conf").map(|text| servers_of(&text)).unwrap_or_default()
}

/// The servers that a resolver file names.
fn servers_of(text: &str) -> Vec<IpAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            return None;
        }
        // A zone (`fe80::1%eth0`) would need an interface of this name here.
        words.next()?.parse().ok()
    };
    text.lines().filter_map(server).take(SERVERS_MAX).collect()
}

/// Whom to ask what no network knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Upstreams {
    pub servers: Vec<IpAddr>,
    /// From the host's network, where its loopback may have one; else from the container's.
    pub from_host: bool,
}

impl Resolver {
    pub(super) fn upstreams(&self) -> Upstreams {
        if self.servers.is_empty() {
            let servers = if self.internal { Vec::new() } else { host_servers() };
            return Upstreams { servers, from_host: true };
        }
        // Asking itself would go round until the sockets are used up.
        let others = self.servers.iter().filter(|server| **server != IpAddr::V4(super::ADDRESS));
        Upstreams { servers: others.take(SERVERS_MAX).copied().collect(), from_host: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_a_resolver_file() {
        let text = "# nameserver 1.1.1.1\nnameserver 127.0.0.53\nsearch x\nnameserver\t::1 # comment\nnameserver fe80::1%eth0\n\
                    nameserver bad\nnameserver 10.0.0.1\nnameserver 10.0.0.2\n";
        let expected: Vec<IpAddr> = ["127.0.0.53", "::1", "10.0.0.1"].map(|a| a.parse().unwrap()).into();
        assert_eq!(servers_of(text), expected);
    }

    #[test]
    fn what_is_given_replaces_the_host_s_servers() {
        let [own, other] = ["127.0.0.11", "10.0.0.9"].map(|address| address.parse().unwrap());
        let resolver = Resolver { servers: vec![own, other], internal: true, ..Resolver::default() };
        assert_eq!(
            resolver.upstreams(),
            Upstreams { servers: vec![other], from_host: false },
            "never itself"
        );
        let resolver = Resolver { internal: true, ..Resolver::default() };
        assert_eq!(resolver.upstreams().servers, [] as [IpAddr; 0], "an internal network has no way out");
    }
}
