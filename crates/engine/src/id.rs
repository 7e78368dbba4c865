//! Identities: container ids, and names for those who give none.

use crate::error::{Error, Result};

/// 64 random hexadecimal digits. Never all decimal in its short form, which would be taken for a number as a host name.
pub fn random() -> String {
    loop {
        let id = hex(&random_bytes::<32>());
        if id[..12].bytes().any(|b| b.is_ascii_alphabetic()) {
            return id;
        }
    }
}

fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        // getrandom(2) without flags only fails with EINTR once the kernel's pool is initialised.
        filled +=
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()).unwrap_or(0);
    }
    bytes
}

pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The first twelve digits, as people see ids.
pub fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// Checks a container or volume name: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub fn check_name(kind: &str, name: &str) -> Result<()> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    if first && name.len() > 1 && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)) {
        return Ok(());
    }
    Err(Error::invalid(format!("Invalid {kind} name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")))
}

/// A name of two words, such as `calm_ferry`; `attempt` above 0 adds a number.
pub fn random_name(attempt: u32) -> String {
    let [a, b, n] = random_bytes::<3>();
    let quality = QUALITIES[usize::from(a) % QUALITIES.len()];
    let thing = THINGS[usize::from(b) % THINGS.len()];
    if attempt == 0 { format!("{quality}_{thing}") } else { format!("{quality}_{thing}{n}") }
}

const QUALITIES: &[&str] = &[
    "amber", "ample", "azure", "blithe", "bold", "brave", "brisk", "bright", "calm", "candid", "clever",
    "cobalt", "copper", "crisp", "daring", "deft", "dusky", "eager", "early", "easy", "fair", "fleet",
    "fond", "frank", "fresh", "gentle", "glad", "golden", "grand", "hale", "hardy", "hearty", "honest",
    "humble", "ivory", "jolly", "jovial", "keen", "kind", "lively", "loyal", "lucid", "mellow", "merry",
    "mild", "modest", "neat", "nimble", "noble", "olive", "patient", "plucky", "polite", "proud", "quick",
    "quiet", "rapid", "ready", "rosy", "royal", "rustic", "scarlet", "serene", "sharp", "silent", "silver",
    "sincere", "smooth", "sober", "spry", "stable", "steady", "stout", "sturdy", "subtle", "sunny", "swift",
    "tidy", "true", "upbeat", "vivid", "warm", "wise", "zesty",
];

const THINGS: &[&str] = &[
    "anchor", "anvil", "arch", "barge", "basin", "beacon", "beam", "bell", "berth", "bolt", "bow", "bridge",
    "buoy", "cable", "canal", "capstan", "cargo", "cask", "chart", "cleat", "clipper", "coast", "compass",
    "cove", "crane", "crate", "current", "deck", "delta", "derrick", "dock", "drift", "estuary", "fathom",
    "ferry", "fjord", "fleet", "forge", "freight", "funnel", "galley", "gantry", "girder", "gull", "harbor",
    "hatch", "haven", "hawser", "helm", "hoist", "hull", "inlet", "island", "jetty", "keel", "ketch", "knot",
    "lagoon", "lantern", "ledge", "levee", "lighter", "lock", "mast", "mooring", "nautilus", "oar", "pallet",
    "pier", "pilot", "plate", "port", "pulley", "quay", "raft", "reef", "rigging", "rivet", "rope", "rudder",
    "sail", "schooner", "sextant", "shoal", "sloop", "sluice", "spar", "stern", "strait", "strand", "tide",
    "tiller", "trawler", "truss", "tug", "wharf", "winch", "yawl",
];
