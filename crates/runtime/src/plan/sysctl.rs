//! Kernel parameters: only those that a namespace keeps apart.

use super::{Action, Namespaces, Operation, c_string, invalid};
use crate::monitor::protocol::{Step, StepError};
use crate::spec::{Linux, NamespaceKind};

/// What the IPC namespace keeps, besides `fs.mqueue.*`.
const IPC: [&str; 8] = ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];

pub(super) fn plan(
    list: &mut Vec<Operation>,
    linux: &Linux,
    namespaces: &Namespaces,
) -> Result<(), StepError> {
    for (key, value) in &linux.sysctl {
        let path = path(key);
        if path.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
            return Err(invalid("linux.sysctl", format!("{key:?} is no name of a parameter")));
        }
        check(key, &path, namespaces)?;
        let action = Action::Sysctl {
            path: c_string("linux.sysctl", format!("sys/{path}"))?,
            value: c_string("linux.sysctl", value.as_str())?,
        };
        list.push(Operation::new(Step::Sysctl, key, action));
    }
    Ok(())
}

/// sysctl(8): the first separator decides; after a leading `/`-style one a dot is part of a name, and the other way round.
fn path(key: &str) -> String {
    match key.find(['.', '/']) {
        Some(position) if key.as_bytes()[position] == b'.' => key
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
        _ => key.to_owned(),
    }
}

fn check(key: &str, path: &str, namespaces: &Namespaces) -> Result<(), StepError> {
    let (kind, kind_name) = if path.starts_with("net/") {
        (NamespaceKind::Network, "network")
    } else if path.starts_with("fs/mqueue/") || path.strip_prefix("kernel/").is_some_and(|k| IPC.contains(&k))
    {
        (NamespaceKind::Ipc, "ipc")
    } else if path == "kernel/domainname" {
        (NamespaceKind::Uts, "uts")
    } else if path == "kernel/hostname" {
        return Err(invalid("linux.sysctl", format!("{key} conflicts with hostname: set that instead")));
    } else if path.starts_with("user/") && namespaces.has(NamespaceKind::User) {
        (NamespaceKind::User, "user")
    } else {
        return Err(invalid(
            "linux.sysctl",
            format!("{key} is not kept apart by any namespace: it would change the host"),
        ));
    };
    if namespaces.has(kind) {
        Ok(())
    } else {
        Err(invalid("linux.sysctl", format!("{key} needs a {kind_name} namespace: it would change the host")))
    }
}
