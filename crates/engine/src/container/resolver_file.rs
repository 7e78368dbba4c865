//! A container's `/etc/resolv.conf`: which server it names, and its change while the container runs.
//!
//! A file that somebody in the container has edited is theirs: it is known by its mark, a sum of what was written last.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use corten_runtime::dns;

use super::identity_files::rewrite;
use crate::error::{Error, Result};

/// Whom the file names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Servers {
    /// Those of the host that can be reached from a network of its own.
    #[default]
    Reachable,
    /// The host's, whose network the container has.
    Host,
    /// The container's own, which asks the others.
    Own,
}

/// The resolver's settings; empty lists fall back to the host's.
#[derive(Clone, Debug, Default)]
pub struct Dns {
    pub names: Servers,
    pub servers: Vec<String>,
    pub search: Vec<String>,
    pub options: Vec<String>,
}

/// The option with the number of dots from which on a name is tried as it stands first.
const NDOTS: &str = "ndots";

impl Dns {
    /// Servers that the container's own is to ask, where some were given.
    pub fn upstreams(&self) -> Vec<IpAddr> {
        self.servers.iter().filter_map(|server| server.parse().ok()).collect()
    }

    /// Whether names without a dot are to be tried with the search domains first, because the user or the host says so.
    pub fn ndots_are_set(&self) -> bool {
        self.options_with(&host_file()).iter().any(|option| ndots(option).is_some_and(|dots| dots > 0))
    }

    fn options_with(&self, host: &str) -> Vec<String> {
        if self.options.is_empty() { words(host, "options").concat() } else { self.options.clone() }
    }

    /// The file's text.
    fn text(&self, host: &str) -> String {
        let reachable = |server: &String| self.names == Servers::Host || !is_loopback(server);
        let servers = match self.names {
            Servers::Own => vec![dns::ADDRESS.to_string()],
            _ if !self.servers.is_empty() => self.servers.clone(),
            // Without any, the resolver's default (127.0.0.1) fails at once rather than after a time-out.
            _ => words(host, "nameserver").concat().into_iter().filter(reachable).collect(),
        };
        let search: Vec<String> = if self.search.is_empty() {
            let host_s = |keyword| words(host, keyword).pop();
            host_s("search").or_else(|| host_s("domain")).unwrap_or_default()
        } else {
            self.search.iter().filter(|domain| *domain != ".").cloned().collect()
        };
        let mut options = self.options_with(host);
        if self.names == Servers::Own {
            options.retain(|option| !is_ndots(option) || ndots(option).is_some());
            if !options.iter().any(|option| is_ndots(option)) {
                // A container's name has no dot, and is to be found before any search domain is tried.
                options.push(format!("{NDOTS}:0"));
            }
        }
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
}

/// Writes the file, whatever is there; returns its mark.
pub fn write(directory: &Path, dns: &Dns) -> Result<u64> {
    let (path, text) = (path(directory), dns.text(&host_file()));
    rewrite(&path, text.as_bytes()).map_err(|e| Error::io("write", &path, e))?;
    Ok(mark(text.as_bytes()))
}

/// Brings the file of a running container up to date, unless it was edited since it got `known` as its mark; returns the new
/// mark. Written in place, as the container has it mounted.
pub fn update(directory: &Path, dns: &Dns, known: u64) -> Result<Option<u64>> {
    let path = path(directory);
    let current = std::fs::read(&path).map_err(|e| Error::io("read", &path, e))?;
    let host = host_file();
    // An engine that was killed may have written the file and not its mark.
    let written = |names| Dns { names, ..dns.clone() }.text(&host).as_bytes() == current;
    let ours = mark(&current) == known || written(Servers::Own) || written(Servers::Reachable);
    if ours { write(directory, dns).map(Some) } else { Ok(None) }
}

fn path(directory: &Path) -> PathBuf {
    directory.join("resolv.conf")
}

/// FNV-1a: no protection, only a way to see that a file is not what it was.
fn mark(text: &[u8]) -> u64 {
    text.iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The host's resolver file; behind systemd-resolved the one with the real servers.
fn host_file() -> String {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    if text.contains("nameserver 127.0.0.53") {
        return std::fs::read_to_string("/run/systemd/resolve/resolv.conf").unwrap_or(text);
    }
    text
}

/// What follows `keyword` in the lines of a resolver file.
fn words(text: &str, keyword: &str) -> Vec<Vec<String>> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some(keyword)).then(|| words.map(str::to_owned).collect())
    };
    text.lines().filter_map(line).collect()
}

fn is_ndots(option: &str) -> bool {
    option.split(':').next() == Some(NDOTS)
}

fn ndots(option: &str) -> Option<u32> {
    option.strip_prefix(NDOTS)?.strip_prefix(':')?.parse().ok()
}

fn is_loopback(server: &str) -> bool {
    server
        .split('%')
        .next()
        .and_then(|server| server.parse::<IpAddr>().ok())
        .is_some_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str =
        "# comment\nnameserver 127.0.0.53\nnameserver 10.0.0.2\nsearch corp.example\noptions edns0\n";

    #[test]
    fn loopback_servers_are_left_out_and_what_was_asked_for_is_taken() {
        let text = Dns::default().text(HOST);
        assert_eq!(text, "nameserver 10.0.0.2\nsearch corp.example\noptions edns0\n");
        let dns = Dns { servers: vec!["1.1.1.1".into()], search: vec![".".into()], ..Dns::default() };
        assert_eq!(dns.text(HOST), "nameserver 1.1.1.1\noptions edns0\n");
        let host = Dns { names: Servers::Host, ..Dns::default() };
        assert!(host.text(HOST).contains("127.0.0.53"));
    }

    #[test]
    fn the_own_server_stands_alone_and_wants_names_without_dots() {
        let own = Dns { names: Servers::Own, servers: vec!["1.1.1.1".into()], ..Dns::default() };
        assert_eq!(own.text(HOST), "nameserver 127.0.0.11\nsearch corp.example\noptions edns0 ndots:0\n");
        assert_eq!(own.upstreams(), ["1.1.1.1".parse::<IpAddr>().unwrap()]);
        for (option, expected) in [("ndots:5", "ndots:5"), ("ndots:x", "ndots:0"), ("ndots", "ndots:0")] {
            let dns = Dns { options: vec![option.into()], ..own.clone() };
            assert!(dns.text(HOST).ends_with(&format!("options {expected}\n")), "{option}");
        }
        assert!(Dns { options: vec!["ndots:1".into()], ..own.clone() }.ndots_are_set());
        assert!(!Dns { options: vec!["ndots:0".into()], ..own }.ndots_are_set());
    }

    #[test]
    fn a_file_that_was_edited_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let before = Dns { servers: vec!["1.1.1.1".into()], ..Dns::default() };
        let after = Dns { names: Servers::Own, ..before.clone() };
        let text = || std::fs::read_to_string(directory.path().join("resolv.conf")).unwrap();
        let mark = write(directory.path(), &before).unwrap();
        let mark = update(directory.path(), &after, mark).unwrap().unwrap();
        assert_eq!(update(directory.path(), &after, 0).unwrap(), Some(mark), "the mark was lost");
        assert!(text().starts_with("nameserver 127.0.0.11\n"));
        std::fs::write(directory.path().join("resolv.conf"), "nameserver 9.9.9.9\n").unwrap();
        assert_eq!(update(directory.path(), &before, mark).unwrap(), None);
        assert_eq!(text(), "nameserver 9.9.9.9\n");
    }
}
