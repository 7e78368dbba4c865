//! What Go's linker notes in a program (Go's `debug/buildinfo`): its version, and the modules.

use crate::package::{Draft, Origin};
use crate::{PACKAGES_MAX, draft};

const MAGIC: &[u8] = b"\xff Go buildinf:";
/// In the flags: both texts follow the header, as they do since Go 1.18.
const IS_INLINE: u8 = 2;
const HEADER_BYTES: usize = 32;
/// Around the list of modules.
const MARK_BYTES: usize = 16;

pub fn packages(section: &[u8]) -> Result<Vec<Draft>, String> {
    if !section.starts_with(MAGIC) {
        return Err("its .go.buildinfo is not that of Go".to_owned());
    }
    if section.get(MAGIC.len() + 1).is_none_or(|flags| flags & IS_INLINE == 0) {
        return Err("it is made by a Go older than 1.18: its modules are not read".to_owned());
    }
    let broken = || "its .go.buildinfo is broken".to_owned();
    let rest = section.get(HEADER_BYTES..).ok_or_else(broken)?;
    let (version, rest) = text(rest).ok_or_else(broken)?;
    let (modules, _) = text(rest).ok_or_else(broken)?;
    let modules = modules.get(MARK_BYTES..modules.len().saturating_sub(MARK_BYTES)).unwrap_or_default();
    let version = String::from_utf8_lossy(version);
    // `go1.24.1 X:experiment`
    let version =
        version.split(' ').next().and_then(|version| version.strip_prefix("go")).unwrap_or_default();
    let mut found: Vec<Draft> = draft(Origin::Go, "stdlib", version).into_iter().collect();
    for line in String::from_utf8_lossy(modules).lines().take(PACKAGES_MAX + 1) {
        let mut fields = line.split('\t');
        let (Some(kind), Some(name)) = (fields.next(), fields.next()) else { continue };
        // What a checkout was built as has no version.
        let version = fields.next().filter(|version| *version != "(devel)").unwrap_or_default();
        match kind {
            // It takes the place of the one before.
            "=>" => drop(found.pop()),
            "mod" | "dep" => {}
            _ => continue,
        }
        found.extend(draft(Origin::Go, name, version));
    }
    Ok(found)
}

/// A text with its length before it (Go's `binary.Uvarint`), and what is behind it.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length: u64 = 0;
    for (index, byte) in bytes.iter().enumerate().take(9) {
        length |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let rest = &bytes[index + 1..];
            return rest.split_at_checked(usize::try_from(length).ok()?);
        }
    }
    None
}
