//! Sections of a program by their names (ELF, "Section Header Table"; little and big endian, 32 and 64 bits).

use std::io::{self, Read, SeekFrom};

use crate::Source;

/// A program has each once.
const SECTIONS_WANTED_MAX: usize = 4;
const SECTIONS_MAX: u64 = 4096;
const NAMES_BYTES_MAX: u64 = 1 << 20;
const SECTION_BYTES_MAX: u64 = 32 << 20;

/// What sections with these names hold; none where it is no program.
pub fn sections<'n>(source: &mut dyn Source, wanted: &[&'n str]) -> io::Result<Vec<(&'n str, Vec<u8>)>> {
    let mut header = [0; 64];
    source.seek(SeekFrom::Start(0))?;
    match source.read_exact(&mut header) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Vec::new()),
        read => read?,
    }
    if &header[..4] != b"\x7fELF" || !matches!(header[4], 1 | 2) || !matches!(header[5], 1 | 2) {
        return Ok(Vec::new());
    }
    let form = Form { is_64: header[4] == 2, is_big: header[5] == 2 };
    let (table, entry_bytes, count, names) = match form.is_64 {
        true => (form.number(&header, 40, 8), 58, 60, 62),
        false => (form.number(&header, 32, 4), 46, 48, 50),
    };
    let entry_bytes = form.number(&header, entry_bytes, 2);
    let (count, names) = (form.number(&header, count, 2), form.number(&header, names, 2));
    let least = if form.is_64 { 64 } else { 40 };
    if table == 0 || entry_bytes < least || entry_bytes > 256 || count > SECTIONS_MAX || names >= count {
        return Ok(Vec::new());
    }
    let headers = piece(source, table, count * entry_bytes)?;
    let entries: Vec<(u64, u64, u64)> = headers
        .chunks_exact(entry_bytes as usize)
        .map(|entry| match form.is_64 {
            true => (form.number(entry, 0, 4), form.number(entry, 24, 8), form.number(entry, 32, 8)),
            false => (form.number(entry, 0, 4), form.number(entry, 16, 4), form.number(entry, 20, 4)),
        })
        .collect();
    let Some(&(_, at, bytes)) = entries.get(names as usize) else { return Ok(Vec::new()) };
    let names = piece(source, at, bytes.min(NAMES_BYTES_MAX))?;
    let mut found = Vec::new();
    for (name, at, bytes) in entries {
        let name = usize::try_from(name).ok().and_then(|name| names.get(name..)).unwrap_or_default();
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        if let Some(wanted) = wanted.iter().find(|wanted| wanted.as_bytes() == name)
            && found.len() < SECTIONS_WANTED_MAX
        {
            found.push((*wanted, piece(source, at, bytes.min(SECTION_BYTES_MAX))?));
        }
    }
    Ok(found)
}

/// As much as there is.
fn piece(source: &mut dyn Source, at: u64, bytes: u64) -> io::Result<Vec<u8>> {
    let mut piece = Vec::new();
    source.seek(SeekFrom::Start(at))?;
    source.take(bytes).read_to_end(&mut piece)?;
    Ok(piece)
}

struct Form {
    is_64: bool,
    is_big: bool,
}

impl Form {
    fn number(&self, bytes: &[u8], at: usize, length: usize) -> u64 {
        let bytes = bytes.get(at..at + length).unwrap_or_default();
        let add = |number: u64, byte: &u8| (number << 8) | u64::from(*byte);
        if self.is_big { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) }
    }
}
