//! The three files that tell a container who and where it is: `/etc/hostname`, `/etc/hosts`, `/etc/resolv.conf`.
//!
//! They lie in the container's directory and are bound into it, so that the image stays clean and the files can be
//! changed while it runs.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use crate::error::{Error, Result};

/// What goes into the files.
pub struct Identity<'a> {
    pub hostname: &'a str,
    pub domainname: &'a str,
    /// The container's own addresses; none with the host's network or none at all.
    pub addresses: Vec<IpAddr>,
    /// `name:address` pairs of `--add-host`; `host-gateway` is already replaced.
    pub extra_hosts: Vec<(String, String)>,
    pub dns: Dns<'a>,
}

/// The resolver's settings; empty lists fall back to the host's.
#[derive(Default)]
pub struct Dns<'a> {
    pub servers: &'a [String],
    pub search: &'a [String],
    pub options: &'a [String],
}

/// Writes the three files into `directory`.
///
/// `host_resolv_conf` is the text of the host's own; `share_host_files` keeps the host's hosts and resolver (host network).
pub fn write(directory: &Path, identity: &Identity<'_>, share_host_files: bool) -> Result<()> {
    put(&directory.join("hostname"), &format!("{}\n", identity.hostname))?;
    let host_hosts = share_host_files.then(|| std::fs::read_to_string("/etc/hosts").ok()).flatten();
    put(&directory.join("hosts"), &hosts(identity, host_hosts.as_deref()))?;
    let host_resolv = host_resolv_conf();
    put(&directory.join("resolv.conf"), &resolv_conf(&identity.dns, &host_resolv, share_host_files))
}

/// The host's resolver file; behind systemd-resolved the one with the real servers.
fn host_resolv_conf() -> String {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    if text.contains("nameserver 127.0.0.53") {
        return std::fs::read_to_string("/run/systemd/resolve/resolv.conf").unwrap_or(text);
    }
    text
}

fn put(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|e| Error::io("write", path, e))
}

fn hosts(identity: &Identity<'_>, base: Option<&str>) -> String {
    let mut text = base.map_or_else(
        || {
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
             ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
                .to_owned()
        },
        str::to_owned,
    );
    if !text.ends_with('\n') && !text.is_empty() {
        text.push('\n');
    }
    for (name, address) in &identity.extra_hosts {
        let _ = writeln!(text, "{address}\t{name}");
    }
    for address in &identity.addresses {
        let _ = match identity.domainname {
            "" => writeln!(text, "{address}\t{}", identity.hostname),
            domain => writeln!(text, "{address}\t{0}.{domain} {0}", identity.hostname),
        };
    }
    text
}

/// The container's resolver file: the host's, with what was asked for in place of its parts.
///
/// Loopback servers of the host can't be reached from a namespace of its own and are left out; when none remains,
/// there is no server line, and the resolver's default (127.0.0.1) fails at once rather than after a time-out.
fn resolv_conf(dns: &Dns<'_>, host: &str, share_host_network: bool) -> String {
    let lines = |keyword: &'static str| {
        host.lines().filter_map(move |line| {
            let mut words = line.split_whitespace();
            (words.next() == Some(keyword)).then(|| words.map(str::to_owned).collect::<Vec<_>>())
        })
    };
    let servers: Vec<String> = if dns.servers.is_empty() {
        lines("nameserver").flatten().filter(|server| share_host_network || !is_loopback(server)).collect()
    } else {
        dns.servers.to_vec()
    };
    let search: Vec<String> = if dns.search.is_empty() {
        lines("search").next_back().or_else(|| lines("domain").next_back()).unwrap_or_default()
    } else {
        dns.search.iter().filter(|domain| *domain != ".").cloned().collect()
    };
    let options: Vec<String> = if dns.options.is_empty() {
        lines("options").next_back().unwrap_or_default()
    } else {
        dns.options.to_vec()
    };
    let mut text = String::new();
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !search.is_empty() {
        let _ = writeln!(text, "search {}", search.join(" "));
    }
    if !options.is_empty() {
        let _ = writeln!(text, "options {}", options.join(" "));
    }
    text
}

fn is_loopback(server: &str) -> bool {
    server
        .split('%')
        .next()
        .and_then(|s| s.parse::<IpAddr>().ok())
        .is_some_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolver_leaves_out_loopback_servers_and_takes_what_was_asked() {
        let host =
            "# comment\nnameserver 127.0.0.53\nnameserver 10.0.0.2\nsearch corp.example\noptions edns0\n";
        let text = resolv_conf(&Dns::default(), host, false);
        assert_eq!(text, "nameserver 10.0.0.2\nsearch corp.example\noptions edns0\n");
        let (servers, search) = (["1.1.1.1".to_owned()], [".".to_owned()]);
        let dns = Dns { servers: &servers, search: &search, options: &[] };
        assert_eq!(resolv_conf(&dns, host, false), "nameserver 1.1.1.1\noptions edns0\n");
        assert!(resolv_conf(&Dns::default(), host, true).contains("127.0.0.53"));
    }

    #[test]
    fn hosts_names_the_container_last() {
        let identity = Identity {
            hostname: "web",
            domainname: "example.org",
            addresses: vec!["172.30.0.2".parse().unwrap()],
            extra_hosts: vec![("db".into(), "10.1.1.1".into())],
            dns: Dns::default(),
        };
        let text = hosts(&identity, None);
        assert!(text.starts_with("127.0.0.1\tlocalhost\n"));
        assert!(text.ends_with("10.1.1.1\tdb\n172.30.0.2\tweb.example.org web\n"));
    }
}
