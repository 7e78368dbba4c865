//! Programs: any bytes as a whole file, as what Go notes in one, and as what cargo-auditable does.
#![no_main]

use std::io::{Cursor, Write};

use corten_sbom::Scan;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut scan = Scan::default();
    let mut take = |file: &[u8]| scan.file("bin/x", file.len() as u64, &mut Cursor::new(file));
    take(data);
    take(&[b"\x7fELF\x02\x01", data].concat());
    take(&program(".go.buildinfo", data));
    take(&program(".go.buildinfo", &[b"\xff Go buildinf:\x08\x02", &[0; 16][..], data].concat()));
    take(&program(".dep-v0", data));
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::fast());
    if packed.write_all(data).is_ok()
        && let Ok(packed) = packed.finish()
    {
        take(&program(".dep-v0", &packed));
    }
    scan.finish();
});

/// A program of 64 bits with one section.
fn program(section: &str, content: &[u8]) -> Vec<u8> {
    let names = format!("\0{section}\0");
    let mut file = vec![0; 64];
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    let table = 64 + content.len() + names.len();
    file[40..48].copy_from_slice(&(table as u64).to_le_bytes());
    for (at, number) in [(58, 64_u16), (60, 2), (62, 1)] {
        file[at..at + 2].copy_from_slice(&number.to_le_bytes());
    }
    file.extend(content);
    file.extend(names.as_bytes());
    for (name, at, bytes) in [(1_u32, 64, content.len()), (0, 64 + content.len(), names.len())] {
        let mut entry = [0; 64];
        entry[..4].copy_from_slice(&name.to_le_bytes());
        entry[24..32].copy_from_slice(&(at as u64).to_le_bytes());
        entry[32..40].copy_from_slice(&(bytes as u64).to_le_bytes());
        file.extend(entry);
    }
    file
}
