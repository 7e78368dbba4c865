//! The three files that tell a container who and where it is: `/etc/hostname`, `/etc/hosts`, `/etc/resolv.conf`.
//!
//! They lie in the container's directory and are bound into it, so that the image stays clean and the files can be
//! changed while it runs.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::links::{HostsLine, own_names};
use super::resolver_file::{self, Dns};
use crate::error::{Error, Result};

/// What goes into the files.
pub struct Identity<'a> {
    pub hostname: &'a str,
    pub domainname: &'a str,
    /// The container's own addresses; none with the host's network or none at all.
    pub addresses: Vec<IpAddr>,
    /// `name:address` pairs of `--add-host`; `host-gateway` is already replaced.
    pub extra_hosts: Vec<(String, String)>,
    pub links: Vec<HostsLine>,
    pub dns: Dns,
}

/// Writes the three files into `directory`; returns the mark of the resolver file. `share_host_files` keeps the host's names
/// (host network).
pub fn write(directory: &Path, identity: &Identity<'_>, share_host_files: bool) -> Result<u64> {
    put(&directory.join("hostname"), &format!("{}\n", identity.hostname))?;
    let host_hosts = share_host_files.then(|| std::fs::read_to_string("/etc/hosts").ok()).flatten();
    put(&directory.join("hosts"), &hosts(identity, host_hosts.as_deref()))?;
    resolver_file::write(directory, &identity.dns)
}

fn put(path: &Path, text: &str) -> Result<()> {
    rewrite(path, text.as_bytes()).map_err(|e| Error::io("write", path, e))
}

/// Writes one of these files anew: in place, as containers have this very file mounted. On a disk that has no room for it the file
/// stays as it was.
pub fn rewrite(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    let mut before = Vec::new();
    file.read_to_end(&mut before)?;
    if before == text {
        return Ok(());
    }
    let put = |text: &[u8]| file.write_all_at(text, 0).and_then(|()| file.set_len(text.len() as u64));
    put(text).inspect_err(|_| {
        // What was there has its blocks still.
        let _ = put(&before);
    })
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
    identity.links.iter().for_each(|line| text.push_str(&line.text()));
    let names = own_names(identity.hostname, identity.domainname);
    for address in &identity.addresses {
        text.push_str(&HostsLine { address: *address, names: names.clone() }.text());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_in_place_longer_and_shorter() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts");
        for text in ["one\n", "one\ntwo\n", "2\n", ""] {
            rewrite(&path, text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn hosts_names_the_container_last() {
        let identity = Identity {
            hostname: "web",
            domainname: "example.org",
            addresses: vec!["172.30.0.2".parse().unwrap()],
            extra_hosts: vec![("db".into(), "10.1.1.1".into())],
            links: Vec::new(),
            dns: Dns::default(),
        };
        let text = hosts(&identity, None);
        assert!(text.starts_with("127.0.0.1\tlocalhost\n"));
        assert!(text.ends_with("10.1.1.1\tdb\n172.30.0.2\tweb.example.org web\n"));
    }
}
