//! Rust's crates: what a lock file names, and what cargo-auditable puts into programs
//! (github.com/rust-secure-code/cargo-auditable, "PARSING.md").

use std::io::Read;

use serde::Deserialize;

use crate::package::{Draft, Origin};
use crate::{bounded, draft};

const AUDIT_BYTES_MAX: u64 = 16 << 20;

pub fn locked(text: &str) -> Vec<Draft> {
    bounded(text.split("[[package]]").skip(1).filter_map(package))
}

fn package(table: &str) -> Option<Draft> {
    let value = |key: &str| {
        let of_key = |line: &&str| line.split_once('=').is_some_and(|(name, _)| name.trim() == key);
        let (_, value) =
            table.lines().take_while(|line| !line.starts_with('[')).find(of_key)?.split_once('=')?;
        Some(value.trim().trim_matches('"').to_owned())
    };
    draft(Origin::Cargo, &value("name")?, &value("version")?)
}

#[derive(Deserialize)]
struct Audit {
    packages: Vec<Audited>,
}

#[derive(Deserialize)]
struct Audited {
    name: String,
    version: String,
    /// `build`: it made the program, and is no part of it.
    #[serde(default)]
    kind: String,
}

/// Reads the section of a program.
pub fn audited(section: &[u8]) -> Result<Vec<Draft>, String> {
    let mut text = Vec::new();
    let unpacked = flate2::read::ZlibDecoder::new(section).take(AUDIT_BYTES_MAX).read_to_end(&mut text);
    unpacked.map_err(|error| error.to_string())?;
    let audit: Audit = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    let of_program = audit.packages.iter().filter(|package| package.kind != "build");
    Ok(bounded(of_program.filter_map(|package| draft(Origin::Cargo, &package.name, &package.version))))
}
