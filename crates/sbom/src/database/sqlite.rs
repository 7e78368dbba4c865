//! Reads one table of an SQLite database (sqlite.org/fileformat2.html), page by page. A database is a stranger's here, so it is read by
//! what can only fail, and not by SQLite itself.

use std::io::SeekFrom;

use crate::Source;

const MAGIC: &[u8] = b"SQLite format 3\0";
const DEPTH_MAX: usize = 20;
const PAGES_MAX: u32 = 4 << 20;
const PAYLOAD_BYTES_MAX: usize = 32 << 20;
const BROKEN: &str = "the database is broken";

pub struct Database<'s> {
    source: &'s mut dyn Source,
    page_bytes: usize,
    usable_bytes: usize,
    pages: u32,
    /// Pages that may still be read: each has its place in one tree, so more are a circle.
    left: u32,
}

/// A column of a row, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    Integer(i64),
    Bytes(Vec<u8>),
    Other,
}

impl<'s> Database<'s> {
    pub fn open(source: &'s mut dyn Source) -> Result<Self, String> {
        let mut header = [0; 100];
        let failed = |error: std::io::Error| error.to_string();
        let bytes = source.seek(SeekFrom::End(0)).map_err(failed)?;
        source.seek(SeekFrom::Start(0)).map_err(failed)?;
        source.read_exact(&mut header).map_err(failed)?;
        let page_bytes = match u16::from_be_bytes([header[16], header[17]]) {
            1 => 65536,
            bytes => usize::from(bytes),
        };
        if !header.starts_with(MAGIC) || page_bytes < 512 || !page_bytes.is_power_of_two() {
            return Err("it is no SQLite database".to_owned());
        }
        let usable_bytes = page_bytes - usize::from(header[20]);
        if usable_bytes < 480 {
            return Err(BROKEN.to_owned());
        }
        let pages = u32::try_from(bytes / page_bytes as u64).unwrap_or(PAGES_MAX).min(PAGES_MAX);
        Ok(Database { source, page_bytes, usable_bytes, pages, left: pages.saturating_mul(2) })
    }

    /// Visits the rows of a table.
    pub fn rows(
        &mut self,
        table: &str,
        visit: &mut dyn FnMut(Vec<Cell>) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut root = None;
        self.walk(1, 0, &mut |row| {
            let text = |at: usize| match row.get(at) {
                Some(Cell::Bytes(bytes)) => bytes.as_slice(),
                _ => b"",
            };
            if text(0) == b"table"
                && text(1) == table.as_bytes()
                && let Some(Cell::Integer(page)) = row.get(3)
            {
                root = u32::try_from(*page).ok();
            }
            Ok(())
        })?;
        let root = root.ok_or_else(|| format!("it has no table {table}"))?;
        self.walk(root, 0, visit)
    }

    fn walk(
        &mut self,
        number: u32,
        depth: usize,
        visit: &mut dyn FnMut(Vec<Cell>) -> Result<(), String>,
    ) -> Result<(), String> {
        let page = self.page(number)?;
        let start = if number == 1 { 100 } else { 0 };
        let kind = *page.get(start).ok_or(BROKEN)?;
        let cells = usize::from(u16_at(&page, start + 3)?);
        let header_bytes = match kind {
            0x05 if depth < DEPTH_MAX => 12,
            0x0d => 8,
            _ => return Err(BROKEN.to_owned()),
        };
        let mut held = 0;
        for cell in 0..cells {
            let at = usize::from(u16_at(&page, start + header_bytes + 2 * cell)?);
            if kind == 0x05 {
                self.walk(u32_at(&page, at)?, depth + 1, visit)?;
            } else {
                let (payload, local) = self.payload(&page, at)?;
                // Cells lie beside each other: a page that holds more than its size has one many times.
                held += local;
                if held > self.page_bytes {
                    return Err(BROKEN.to_owned());
                }
                visit(record(&payload)?)?;
            }
        }
        match kind {
            0x05 => self.walk(u32_at(&page, start + 8)?, depth + 1, visit),
            _ => Ok(()),
        }
    }

    fn page(&mut self, number: u32) -> Result<Vec<u8>, String> {
        if number == 0 || number > self.pages || self.left == 0 {
            return Err(BROKEN.to_owned());
        }
        self.left -= 1;
        let mut page = vec![0; self.page_bytes];
        let at = u64::from(number - 1) * self.page_bytes as u64;
        let read = self.source.seek(SeekFrom::Start(at)).and_then(|_| self.source.read_exact(&mut page));
        read.map_err(|error| error.to_string())?;
        Ok(page)
    }

    /// What a cell of a leaf holds, with what of it lies on pages of its own; and how many bytes of the leaf it takes.
    fn payload(&mut self, page: &[u8], at: usize) -> Result<(Vec<u8>, usize), String> {
        let start = at;
        let (bytes, at) = varint(page, at)?;
        let (_, at) = varint(page, at)?;
        let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes <= PAYLOAD_BYTES_MAX).ok_or(BROKEN)?;
        let usable = self.usable_bytes;
        let local_max = usable - 35;
        let local = if bytes <= local_max {
            bytes
        } else {
            let least = (usable - 12) * 32 / 255 - 23;
            let some = least + (bytes - least) % (usable - 4);
            if some <= local_max { some } else { least }
        };
        let mut payload = page.get(at..at + local).ok_or(BROKEN)?.to_vec();
        let mut next = if local < bytes { u32_at(page, at + local)? } else { 0 };
        while payload.len() < bytes {
            let page = self.page(next)?;
            next = u32_at(&page, 0)?;
            let wanted = (bytes - payload.len()).min(usable - 4);
            payload.extend_from_slice(page.get(4..4 + wanted).ok_or(BROKEN)?);
        }
        Ok((payload, at + local - start))
    }
}

fn record(payload: &[u8]) -> Result<Vec<Cell>, String> {
    let (header_bytes, mut at) = varint(payload, 0)?;
    let header_bytes =
        usize::try_from(header_bytes).ok().filter(|end| *end <= payload.len()).ok_or(BROKEN)?;
    let mut data = header_bytes;
    let mut cells = Vec::new();
    while at < header_bytes && cells.len() < 64 {
        let (kind, next) = varint(payload, at)?;
        at = next;
        let (bytes, is_integer) = match kind {
            0 | 8 | 9 => (0, true),
            1..=4 => (kind, true),
            5 => (6, true),
            6 => (8, true),
            7 => (8, false),
            10 | 11 => return Err(BROKEN.to_owned()),
            kind => ((kind - 12) / 2, false),
        };
        let bytes = usize::try_from(bytes).map_err(|_| BROKEN)?;
        let value = data.checked_add(bytes).and_then(|end| payload.get(data..end)).ok_or(BROKEN)?;
        data += bytes;
        cells.push(match kind {
            0 | 7 => Cell::Other,
            9 => Cell::Integer(1),
            _ if is_integer => Cell::Integer(integer(value)),
            _ => Cell::Bytes(value.to_vec()),
        });
    }
    Ok(cells)
}

/// A number of up to eight bytes, the sign in its first bit.
fn integer(bytes: &[u8]) -> i64 {
    let first = bytes.first().map_or(0, |byte| if byte & 0x80 != 0 { -1 } else { 0 });
    bytes.iter().fold(first, |number, byte| (number << 8) | i64::from(*byte))
}

/// A number of one to nine bytes, and where it ends.
fn varint(bytes: &[u8], at: usize) -> Result<(u64, usize), String> {
    let mut number: u64 = 0;
    for index in 0..9 {
        let byte = *bytes.get(at + index).ok_or(BROKEN)?;
        if index == 8 {
            return Ok(((number << 8) | u64::from(byte), at + 9));
        }
        number = (number << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Ok((number, at + index + 1));
        }
    }
    Err(BROKEN.to_owned())
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, String> {
    let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk::<2>()).ok_or(BROKEN)?;
    Ok(u16::from_be_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, String> {
    let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()).ok_or(BROKEN)?;
    Ok(u32::from_be_bytes(*bytes))
}
