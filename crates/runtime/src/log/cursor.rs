//! Reading one file forwards, record by record, through a buffer.

use std::io;
use std::ops::Range;

use super::record::{self, HEADER_LEN, Header, MAGIC, TRAILER_LEN};
use super::source::ReadAt;
use super::{Stream, json};
use crate::monitor::protocol::{LogDriver, Timestamp};

/// Bytes read at a time.
const BLOCK: usize = 128 * 1024;

/// Where in the file a cursor is, and what it has read ahead.
pub(super) struct Cursor {
    format: LogDriver,
    /// Of the next record.
    offset: u64,
    buffer: Vec<u8>,
    /// What of `buffer` is read and not yet consumed.
    unread: Range<usize>,
    /// The text of the last record of a `json-file`.
    text: Vec<u8>,
    payload: Range<usize>,
}

/// A record's attributes; the bytes are in [`Cursor::payload`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub offset: u64,
    pub stream: Stream,
    pub time: Timestamp,
    pub continues: bool,
}

enum Parsed {
    /// More bytes are needed, at least so many in all.
    Short(usize),
    /// Damaged from here on.
    Damaged,
    Record(Record, usize),
    /// So many bytes hold nothing of use.
    Skip(usize),
}

impl Cursor {
    pub(super) fn new(format: LogDriver) -> Self {
        Self { format, offset: 0, buffer: Vec::new(), unread: 0..0, text: Vec::new(), payload: 0..0 }
    }

    /// Goes to a record that begins at `offset`.
    pub(super) fn seek(&mut self, offset: u64) {
        self.offset = offset;
        self.unread = 0..0;
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next complete record; `None` at the end, where nothing read ahead is kept: a torn record may be replaced.
    pub(super) fn next(&mut self, file: &dyn ReadAt) -> io::Result<Option<Record>> {
        if self.offset == 0 && self.format == LogDriver::Local && !self.skip_magic(file)? {
            return Ok(None);
        }
        let mut needed = 1;
        loop {
            if self.unread.len() < needed && !self.fill(file, needed)? {
                self.unread = 0..0;
                return Ok(None);
            }
            match self.parse() {
                Parsed::Short(bytes) => needed = bytes,
                Parsed::Damaged => {
                    self.unread = 0..0;
                    return Ok(None);
                }
                Parsed::Skip(len) => {
                    self.consume(len);
                    needed = 1;
                }
                Parsed::Record(record, len) => {
                    self.consume(len);
                    return Ok(Some(record));
                }
            }
        }
    }

    /// The bytes of the record that [`Cursor::next`] gave out last.
    pub(super) fn payload(&self) -> &[u8] {
        match self.format {
            LogDriver::JsonFile => &self.text,
            _ => &self.buffer[self.payload.clone()],
        }
    }

    /// Gives the buffers back.
    pub(super) fn trim(&mut self) {
        self.unread = 0..0;
        self.payload = 0..0;
        self.buffer = Vec::new();
        self.text = Vec::new();
    }

    fn parse(&mut self) -> Parsed {
        let bytes = &self.buffer[self.unread.clone()];
        if self.format == LogDriver::JsonFile {
            let Some(end) = memchr::memchr(b'\n', bytes) else { return Parsed::Short(bytes.len() + 1) };
            self.text.clear();
            return match json::decode(&bytes[..end], &mut self.text) {
                Some((time, stream)) => {
                    Parsed::Record(Record { offset: self.offset, stream, time, continues: true }, end + 1)
                }
                None => Parsed::Skip(end + 1),
            };
        }
        if bytes.len() < HEADER_LEN {
            return Parsed::Short(HEADER_LEN);
        }
        let Some(header) = Header::decode(bytes) else { return Parsed::Damaged };
        let len = header.record_len();
        if bytes.len() < len {
            return Parsed::Short(len);
        }
        if bytes[len - TRAILER_LEN..len] != record::trailer(header.len) {
            return Parsed::Damaged;
        }
        let start = self.unread.start + HEADER_LEN;
        self.payload = start..start + header.len;
        let Header { stream, time, continues, .. } = header;
        Parsed::Record(Record { offset: self.offset, stream, time, continues }, len)
    }

    fn consume(&mut self, len: usize) {
        self.unread.start += len;
        self.offset += len as u64;
    }

    /// Reads on until `needed` bytes are there; false at the end of the file.
    fn fill(&mut self, file: &dyn ReadAt, needed: usize) -> io::Result<bool> {
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        let capacity = needed.next_multiple_of(BLOCK);
        if self.buffer.len() < capacity {
            self.buffer.resize(capacity, 0);
        }
        while self.unread.len() < needed {
            let at = self.offset + self.unread.len() as u64;
            match file.read_from(&mut self.buffer[self.unread.end..], at) {
                Ok(0) => return Ok(false),
                Ok(n) => self.unread.end += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    fn skip_magic(&mut self, file: &dyn ReadAt) -> io::Result<bool> {
        let mut magic = [0; MAGIC.len()];
        match file.read_whole(&mut magic, 0) {
            Ok(()) if magic == *MAGIC => {
                self.seek(MAGIC.len() as u64);
                Ok(true)
            }
            Ok(()) => Err(io::Error::new(io::ErrorKind::InvalidData, "not a log file of the local format")),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// Where the last complete record of a `local` file ends; 0 when not even the magic is there.
pub(super) fn end_of_records(file: &dyn ReadAt, len: u64) -> io::Result<u64> {
    if len < MAGIC.len() as u64 {
        return Ok(0);
    }
    let mut cursor = Cursor::new(LogDriver::Local);
    cursor.skip_magic(file)?;
    if len == MAGIC.len() as u64 || ends_whole(file, len)? {
        return Ok(len);
    }
    while cursor.next(file)?.is_some() {}
    Ok(cursor.offset)
}

/// Whether the last bytes before `end` are a record's trailer with its header where it should be.
fn ends_whole(file: &dyn ReadAt, end: u64) -> io::Result<bool> {
    Ok(header_before(file, end)?.is_some())
}

/// The header of the record that ends at `end`.
pub(super) fn header_before(file: &dyn ReadAt, end: u64) -> io::Result<Option<Header>> {
    if end < (MAGIC.len() + HEADER_LEN + TRAILER_LEN) as u64 {
        return Ok(None);
    }
    let mut trailer = [0; TRAILER_LEN];
    file.read_whole(&mut trailer, end - TRAILER_LEN as u64)?;
    let len = u32::from_le_bytes(trailer) as usize;
    let record_len = (HEADER_LEN + len + TRAILER_LEN) as u64;
    if len > record::PAYLOAD_MAX || end < MAGIC.len() as u64 + record_len {
        return Ok(None);
    }
    let mut header = [0; HEADER_LEN];
    file.read_whole(&mut header, end - record_len)?;
    Ok(Header::decode(&header).filter(|h| h.len == len))
}
