//! Finding where the last N lines begin, by walking records backwards from the end.
//!
//! Lines are ordered by where they end. The N+1st line end from the back is the cut: its stream's part of the tail begins right
//! behind it. The other stream's part begins behind its own last line end before the cut, which lies further back when a
//! line of that stream was open at the cut.

use std::io;

use super::cursor::{self, Cursor};
use super::files::LogFile;
use super::record::{HEADER_LEN, Header, MAGIC, TRAILER_LEN};
use super::source::ReadAt;
use super::{Selection, Stream, json};
use crate::monitor::protocol::{LogDriver, Timestamp};

/// Bytes read at a time.
const BLOCK: u64 = 64 * 1024;

/// Where one stream's part of the selection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Start {
    /// Index of the file, 0 is the oldest.
    pub file: usize,
    /// Of the record in the file.
    pub offset: u64,
    /// Payload bytes of that record that don't belong to it.
    pub skip: usize,
}

impl Start {
    pub(super) const BEGIN: Self = Self { file: 0, offset: 0, skip: 0 };
}

/// One record seen from behind.
struct Seen {
    offset: u64,
    stream: Stream,
    time: Timestamp,
    continues: bool,
}

/// The beginning of the last `lines` selected lines, for each stream.
pub(super) fn tail(
    files: &[LogFile],
    format: LogDriver,
    selection: &Selection,
    lines: u64,
) -> io::Result<[Start; 2]> {
    let mut cut = Cut { lines, starts: [None; 2], later: [None; 2] };
    for (index, file) in files.iter().enumerate().rev() {
        let mut walk =
            Walk { file: file.bytes(), format, end: file.len, window: Window::default(), whole: None };
        walk.begin(file.len)?;
        let mut payload = Vec::new();
        while let Some(seen) = walk.previous(&mut payload)? {
            let selected =
                selection.has(seen.stream) && selection.until.is_none_or(|until| seen.time <= until);
            if selected && cut.add(index, &seen, &payload, format) {
                return Ok(cut.starts.map(|s| s.unwrap_or(Start::BEGIN)));
            }
        }
    }
    Ok(cut.starts.map(|s| s.unwrap_or(Start::BEGIN)))
}

struct Cut {
    /// Still to be found before the cut.
    lines: u64,
    starts: [Option<Start>; 2],
    /// Where each stream's earliest record behind this point is, and whether it goes on with an open line.
    later: [Option<(Start, bool)>; 2],
}

impl Cut {
    /// Takes one more record into account; true once both streams' beginnings are known.
    fn add(&mut self, file: usize, seen: &Seen, payload: &[u8], format: LogDriver) -> bool {
        let own = seen.stream.index();
        let at = |skip| Start { file, offset: seen.offset, skip };
        let later = self.later[own].replace((at(0), seen.continues));
        // An entry of a json-file counts as one, as in Docker; pieces of a long line can't be told from lines there.
        let ends_here = format == LogDriver::JsonFile || later.is_none_or(|(_, continues)| !continues);
        let mut end = payload.len();
        let mut is_end = ends_here || payload.last() == Some(&b'\n');
        loop {
            if is_end && self.starts[own].is_none() {
                if self.lines > 0 {
                    self.lines -= 1;
                } else {
                    self.cut(own, at(end), format);
                }
            }
            match memchr::memrchr(b'\n', &payload[..end.saturating_sub(1)]) {
                Some(newline) if self.starts[own].is_none() => (end, is_end) = (newline + 1, true),
                _ => break,
            }
        }
        self.starts.iter().all(Option::is_some)
    }

    /// `start` is the first line end of stream `own` that is not wanted.
    fn cut(&mut self, own: usize, start: Start, format: LogDriver) {
        self.starts[own] = Some(start);
        let other = 1 - own;
        if self.starts[other].is_none() {
            self.starts[other] = match self.later[other] {
                None => Some(start),
                Some((first, continues)) if !continues || format == LogDriver::JsonFile => Some(first),
                Some(_) => None,
            };
        }
    }
}

/// Records of one file from the last to the first.
struct Walk<'a> {
    file: &'a dyn ReadAt,
    format: LogDriver,
    /// Where the next record to give out ends.
    end: u64,
    window: Window,
    /// Offsets and ends of all records, for a file that is damaged at its end.
    whole: Option<Vec<u64>>,
}

impl Walk<'_> {
    fn begin(&mut self, len: u64) -> io::Result<()> {
        if self.format == LogDriver::Local {
            if len > MAGIC.len() as u64 && cursor::header_before(self.file, len)?.is_none() {
                let mut ends = Vec::new();
                let mut cursor = Cursor::new(LogDriver::Local);
                while cursor.next(self.file)?.is_some() {
                    ends.push(cursor.offset());
                }
                self.whole = Some(ends);
            }
        } else if len > 0 {
            // A torn last line has no newline.
            while self.end > 0 && self.window.get(self.file, self.end - 1, self.end)? != b"\n" {
                self.end -= 1;
            }
        }
        Ok(())
    }

    fn previous(&mut self, payload: &mut Vec<u8>) -> io::Result<Option<Seen>> {
        payload.clear();
        if self.format == LogDriver::JsonFile {
            self.previous_line(payload)
        } else {
            self.previous_record(payload)
        }
    }

    fn previous_record(&mut self, payload: &mut Vec<u8>) -> io::Result<Option<Seen>> {
        if let Some(ends) = &mut self.whole {
            let Some(end) = ends.pop() else { return Ok(None) };
            self.end = end;
        }
        let least = (HEADER_LEN + TRAILER_LEN) as u64;
        if self.end < MAGIC.len() as u64 + least {
            return Ok(None);
        }
        let trailer = self.window.get(self.file, self.end - TRAILER_LEN as u64, self.end)?;
        let len = u64::from(trailer.first_chunk().map_or(0, |b| u32::from_le_bytes(*b)));
        let Some(offset) = self.end.checked_sub(least + len) else { return Ok(None) };
        let record = self.window.get(self.file, offset, self.end)?;
        let Some(header) = Header::decode(record).filter(|h| h.len as u64 == len) else { return Ok(None) };
        payload.extend_from_slice(&record[HEADER_LEN..HEADER_LEN + header.len]);
        self.end = offset;
        Ok(Some(Seen { offset, stream: header.stream, time: header.time, continues: header.continues }))
    }

    fn previous_line(&mut self, payload: &mut Vec<u8>) -> io::Result<Option<Seen>> {
        while self.end > 0 {
            let mut start = self.end - 1;
            let line = loop {
                let from = start.saturating_sub(BLOCK / 8);
                let bytes = self.window.get(self.file, from, self.end)?;
                match memchr::memrchr(b'\n', &bytes[..(start - from) as usize]) {
                    Some(at) => break &bytes[at + 1..bytes.len() - 1],
                    None if from == 0 => break &bytes[..bytes.len() - 1],
                    None => start = from,
                }
            };
            self.end -= line.len() as u64 + 1;
            if let Some((time, stream)) = json::decode(line, payload) {
                return Ok(Some(Seen { offset: self.end, stream, time, continues: false }));
            }
            payload.clear();
        }
        Ok(None)
    }
}

/// A part of the file in memory, which ends where it was asked for and reaches back for what will be asked next.
#[derive(Default)]
struct Window {
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    fn get(&mut self, file: &dyn ReadAt, from: u64, to: u64) -> io::Result<&[u8]> {
        if from < self.start || to > self.start + self.bytes.len() as u64 {
            let start = from.min(to.saturating_sub(BLOCK));
            self.bytes.resize((to - start) as usize, 0);
            file.read_whole(&mut self.bytes, start)?;
            self.start = start;
        }
        Ok(&self.bytes[(from - self.start) as usize..(to - self.start) as usize])
    }
}
