//! rpm's database: a table of headers (rpm.org/docs, "Package format V4"), each an index of tags and the data that it points into.

use super::sqlite::{Cell, Database};
use crate::package::{Draft, Origin};
use crate::{Source, draft};

const ENTRIES_MAX: usize = 4096;
const PACKAGES_MAX: usize = 100_000;

const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const VENDOR: u32 = 1011;
const LICENCE: u32 = 1014;
const ARCHITECTURE: u32 = 1022;

const TYPE_INT32: u32 = 4;
const TYPES_TEXT: [u32; 3] = [6, 8, 9];

pub fn packages(source: &mut dyn Source) -> Result<Vec<Draft>, String> {
    let mut found = Vec::new();
    let mut database = Database::open(source)?;
    database.rows("Packages", &mut |row| {
        if found.len() >= PACKAGES_MAX {
            return Err(format!("it has more than {PACKAGES_MAX} packages"));
        }
        if let Some(Cell::Bytes(header)) = row.get(1) {
            found.extend(package(header));
        }
        Ok(())
    })?;
    Ok(found)
}

fn package(header: &[u8]) -> Option<Draft> {
    let name = text(header, NAME)?;
    // What rpm itself keeps of whom it trusts.
    if name == "gpg-pubkey" {
        return None;
    }
    let version = [text(header, VERSION)?, text(header, RELEASE).unwrap_or_default()];
    let known = |tag| crate::package::clean(&text(header, tag).unwrap_or_default());
    let epoch = find(header, EPOCH).filter(|(kind, _)| *kind == TYPE_INT32);
    let epoch = epoch.and_then(|(_, data)| data.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes)));
    Some(Draft {
        architecture: known(ARCHITECTURE),
        epoch: epoch.map(|epoch| epoch.to_string()).unwrap_or_default(),
        supplier: known(VENDOR),
        licence: known(LICENCE),
        ..draft(Origin::Rpm, &name, version.join("-").trim_end_matches('-'))?
    })
}

fn text(header: &[u8], tag: u32) -> Option<String> {
    let (kind, data) = find(header, tag)?;
    let end = data.iter().position(|byte| *byte == 0)?;
    TYPES_TEXT.contains(&kind).then(|| String::from_utf8_lossy(&data[..end]).into_owned())
}

/// The type of a tag, and its data with all that follows.
fn find(header: &[u8], tag: u32) -> Option<(u32, &[u8])> {
    let number = |at: usize| Some(u32::from_be_bytes(*header.get(at..)?.first_chunk::<4>()?));
    let entries = usize::try_from(number(0)?).ok().filter(|count| *count <= ENTRIES_MAX)?;
    let data = header.get(8 + 16 * entries..)?;
    let entry = (0..entries).map(|index| 8 + 16 * index).find(|at| number(*at) == Some(tag))?;
    Some((number(entry + 4)?, data.get(usize::try_from(number(entry + 8)?).ok()?..)?))
}
