//! Sparse maps: old GNU (in the header and blocks behind it), PAX 0.0 and 0.1 (in records) and PAX 1.0 (in
//! front of the data). <https://www.gnu.org/software/tar/manual/html_section/Sparse-Formats.html>

use super::header::{GNU_EXTENDED, GNU_SPARSE, Header, number};
use super::pax::{SparseRecords, decimal};
use super::{BLOCK, Extent};

/// A map with more runs than this is refused: nobody's file system makes such files.
const EXTENTS_MAX: usize = 1 << 20;

/// The runs of an old GNU header and whether a block with more follows.
pub(super) fn gnu_header(header: &Header<'_>, extents: &mut Vec<Extent>) -> Result<bool, &'static str> {
    pairs(header.bytes(GNU_SPARSE), extents)?;
    Ok(header.bytes(GNU_EXTENDED..GNU_EXTENDED + 1)[0] != 0)
}

/// The runs of a block behind an old GNU header: 21 pairs and the mark that says whether one more follows.
pub(super) fn gnu_block(block: &[u8], extents: &mut Vec<Extent>) -> Result<bool, &'static str> {
    pairs(&block[..504], extents)?;
    Ok(block[504] != 0)
}

fn pairs(bytes: &[u8], extents: &mut Vec<Extent>) -> Result<(), &'static str> {
    for pair in bytes.chunks_exact(24) {
        if pair[0] == 0 {
            break;
        }
        let value = |field| number(field).and_then(|v| u64::try_from(v).ok()).ok_or("number");
        push(extents, value(&pair[..12])?, value(&pair[12..])?)?;
    }
    Ok(())
}

fn push(extents: &mut Vec<Extent>, offset: u64, bytes: u64) -> Result<(), &'static str> {
    if extents.len() >= EXTENTS_MAX {
        return Err("too many runs");
    }
    extents.push(Extent { offset, bytes });
    Ok(())
}

/// The map of PAX 0.0 and 0.1.
pub(super) fn pax_records(records: &SparseRecords) -> Result<Vec<Extent>, &'static str> {
    let mut numbers = records.numbers.clone();
    if let Some(map) = &records.map {
        if !numbers.is_empty() {
            return Err("two maps");
        }
        for number in map.split(|&byte| byte == b',') {
            numbers.push(decimal(number).ok_or("number")?);
        }
    }
    if !numbers.len().is_multiple_of(2)
        || records.count.is_some_and(|count| count != numbers.len() as u64 / 2)
    {
        return Err("number of runs");
    }
    let mut extents = Vec::new();
    for pair in numbers.chunks_exact(2) {
        push(&mut extents, pair[0], pair[1])?;
    }
    Ok(extents)
}

/// Reads the map of PAX 1.0: decimal numbers, one a line, first their count; padded to whole blocks.
#[derive(Debug, Default)]
pub(super) struct Map {
    digits: Vec<u8>,
    count: Option<u64>,
    numbers: Vec<u64>,
    /// Bytes of the data that the map took.
    pub bytes: u64,
}

impl Map {
    /// Takes the next block; true when the map is complete.
    pub(super) fn block(&mut self, block: &[u8]) -> Result<bool, &'static str> {
        self.bytes += BLOCK as u64;
        for &byte in block {
            if byte != b'\n' {
                if self.digits.len() >= 20 {
                    return Err("number");
                }
                self.digits.push(byte);
                continue;
            }
            let number = decimal(&self.digits).ok_or("number")?;
            self.digits.clear();
            match self.count {
                None if number > EXTENTS_MAX as u64 => return Err("too many runs"),
                None => self.count = Some(number),
                Some(_) => self.numbers.push(number),
            }
            if self.count.is_some_and(|count| self.numbers.len() as u64 == count * 2) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn extents(&self) -> Vec<Extent> {
        self.numbers.chunks_exact(2).map(|pair| Extent { offset: pair[0], bytes: pair[1] }).collect()
    }
}

/// Checks that runs ascend, stay apart, lie within the file and add up to the bytes stored; drops empty ones.
pub(super) fn check(mut extents: Vec<Extent>, size: u64, stored: u64) -> Result<Vec<Extent>, &'static str> {
    let (mut end, mut sum) = (0u64, 0u64);
    for extent in &extents {
        if extent.offset < end {
            return Err("runs overlap");
        }
        end = extent.offset.checked_add(extent.bytes).ok_or("number")?;
        sum = sum.checked_add(extent.bytes).ok_or("number")?;
    }
    if end > size {
        return Err("a run lies behind the end of the file");
    }
    if sum != stored {
        return Err("the runs do not add up to the stored size");
    }
    extents.retain(|extent| extent.bytes > 0);
    Ok(extents)
}
