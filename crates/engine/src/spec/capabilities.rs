//! Which capabilities a container gets: Docker's default set, what is added and dropped, or everything.

use std::collections::BTreeSet;

use corten_sys::caps;

use crate::error::{Error, Result};

const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// The set for a container.
///
/// `available` is what this process may pass on (its bounding set); what the host withholds can't be given.
pub fn effective(
    add: &[String],
    drop: &[String],
    privileged: bool,
    available: u64,
) -> Result<BTreeSet<String>> {
    let added = normalise(add).map_err(|error| error.within("invalid CapAdd"))?;
    let dropped = normalise(drop).map_err(|error| error.within("invalid CapDrop"))?;
    let all = |names: &BTreeSet<String>| names.contains("ALL");
    let mut set: BTreeSet<String> = if privileged || all(&added) {
        caps::NAMES.iter().map(|name| format!("CAP_{name}")).collect()
    } else if all(&dropped) {
        BTreeSet::new()
    } else {
        DEFAULT.iter().map(|&name| name.to_owned()).collect()
    };
    if !privileged {
        set.retain(|name| !dropped.contains(name));
        set.extend(added.into_iter().filter(|name| name != "ALL"));
    }
    set.retain(|name| caps::number(name).is_some_and(|bit| available & (1 << bit) != 0));
    Ok(set)
}

/// `net_admin`, `CAP_NET_ADMIN` → `CAP_NET_ADMIN`; `all` → `ALL`.
fn normalise(names: &[String]) -> Result<BTreeSet<String>> {
    names
        .iter()
        .map(|name| {
            let upper = name.to_ascii_uppercase();
            if upper == "ALL" || upper == "CAP_ALL" {
                return Ok("ALL".to_owned());
            }
            let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
            if caps::number(&full).is_some() {
                Ok(full)
            } else {
                Err(Error::invalid(format!("unknown capability: \"{name}\"")))
            }
        })
        .collect()
}

/// The bounding set of this process, from `/proc/self/status`; everything when that can't be read.
pub fn available() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .and_then(|value| u64::from_str_radix(value.trim(), 16).ok())
        .unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn adds_and_drops_on_the_default_set() {
        let set = effective(&names(&["net_admin"]), &names(&["CAP_CHOWN"]), false, u64::MAX).unwrap();
        assert!(set.contains("CAP_NET_ADMIN") && !set.contains("CAP_CHOWN") && set.contains("CAP_KILL"));
        assert_eq!(effective(&[], &names(&["ALL"]), false, u64::MAX).unwrap().len(), 0);
        assert_eq!(effective(&names(&["CHOWN"]), &names(&["ALL"]), false, u64::MAX).unwrap().len(), 1);
        let most = effective(&names(&["ALL"]), &names(&["SYS_ADMIN"]), false, u64::MAX).unwrap();
        assert_eq!(most.len(), 40);
    }

    #[test]
    fn withheld_capabilities_are_not_given_and_unknown_ones_refused() {
        let without_resource = !(1 << 24);
        assert!(!effective(&[], &[], true, without_resource).unwrap().contains("CAP_SYS_RESOURCE"));
        assert!(effective(&names(&["FLY"]), &[], false, u64::MAX).unwrap_err().message.contains("FLY"));
    }
}
