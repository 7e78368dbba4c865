//! Which process has a port of the host: for the error message only, so whatever cannot be read is left out.

use std::fs;
use std::path::Path;

use crate::endpoint::Protocol;

const TCP_LISTEN: &str = "0A";

/// The process that has the port, as `nginx, pid 812`.
pub fn find(protocol: Protocol, port: u16) -> Option<String> {
    let tables: &[&str] = match protocol {
        Protocol::Tcp => &["tcp", "tcp6"],
        Protocol::Udp => &["udp", "udp6"],
        Protocol::Sctp => return None,
    };
    let inodes: Vec<u64> = tables
        .iter()
        .filter_map(|table| fs::read_to_string(Path::new("/proc/thread-self/net").join(table)).ok())
        .flat_map(|text| inodes(&text, protocol, port))
        .collect();
    process_with_socket(&inodes)
}

/// Inodes of the sockets in a table of /proc/net that are bound to the port; for TCP the listening ones.
fn inodes(table: &str, protocol: Protocol, port: u16) -> Vec<u64> {
    let ending = format!(":{port:04X}");
    let lines = table.lines().skip(1).map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    lines
        .filter(|fields| fields.get(1).is_some_and(|local| local.ends_with(&ending)))
        .filter(|fields| protocol != Protocol::Tcp || fields.get(3) == Some(&TCP_LISTEN))
        .filter_map(|fields| fields.get(9)?.parse().ok())
        .filter(|inode| *inode != 0)
        .collect()
}

fn process_with_socket(inodes: &[u64]) -> Option<String> {
    if inodes.is_empty() {
        return None;
    }
    let wanted: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        let has = descriptors
            .flatten()
            .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
            .any(|target| wanted.iter().any(|w| target.as_os_str() == w.as_str()));
        if has {
            let command = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{}, pid {pid}", command.trim_end()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listener_is_told_from_a_connection() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n\
            1: 0100007F:1F90 0100007F:A000 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0\n";
        assert_eq!(inodes(table, Protocol::Tcp, 8080), [4711]);
        assert_eq!(inodes(table, Protocol::Tcp, 80), [0u64; 0]);
    }

    #[test]
    fn our_own_listener_is_found_in_the_table() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let owner = find(Protocol::Tcp, port).unwrap();
        assert!(owner.contains(&format!("pid {}", std::process::id())), "{owner}");
    }
}
