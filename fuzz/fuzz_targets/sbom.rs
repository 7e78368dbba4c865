//! Databases, manifests and lock files of package managers, and archives of Java: the first byte says which, the rest is the file.
#![no_main]

use std::io::Cursor;

use corten_sbom::{About, Scan, cyclonedx, spdx};
use libfuzzer_sys::fuzz_target;

const PATHS: [&str; 12] = [
    "etc/os-release",
    "var/lib/dpkg/status",
    "lib/apk/db/installed",
    "var/lib/rpm/rpmdb.sqlite",
    "a.dist-info/METADATA",
    "a.egg-info",
    "node_modules/a/package.json",
    "package-lock.json",
    "Cargo.lock",
    "Gemfile.lock",
    "specifications/a.gemspec",
    "a.jar",
];

fuzz_target!(|data: &[u8]| {
    let Some((which, file)) = data.split_first() else { return };
    let mut scan = Scan::default();
    scan.file("etc/os-release", 7, &mut Cursor::new(b"ID=\"x\""));
    scan.file(PATHS[usize::from(*which) % PATHS.len()], file.len() as u64, &mut Cursor::new(file));
    let inventory = scan.finish();
    let about = About { name: "n".into(), digest: "00".into(), created: 0, tool: "t".into() };
    for package in &inventory.packages {
        assert!(package.purl.starts_with("pkg:") && package.purl.bytes().all(|byte| byte.is_ascii_graphic()));
        for text in [&package.name, &package.version, &package.supplier, &package.licence] {
            assert!(!text.chars().any(char::is_control), "{text:?}");
        }
    }
    assert_eq!(spdx(&inventory, &about)["packages"].as_array().map(Vec::len), Some(inventory.packages.len() + 1));
    assert_eq!(
        cyclonedx(&inventory, &about)["components"].as_array().map(Vec::len),
        Some(inventory.packages.len())
    );
});
