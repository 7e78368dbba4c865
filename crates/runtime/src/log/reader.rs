//! Reading a log: what was asked for, over all files, as lines or as big chunks; at the end, or for ever.

use std::io;
use std::path::PathBuf;

use super::backward::{self, Start};
use super::cursor::{Cursor, Record};
use super::files::{self, LogFile};
use super::follow::{Stop, Watch};
use super::lines::{Lines, Piece};
use super::{Entry, LogError, Stream};
use crate::monitor::protocol::{LogDriver, Timestamp};

/// Which part of a log is wanted.
#[derive(Clone, Debug)]
pub struct Selection {
    pub stdout: bool,
    pub stderr: bool,
    /// Not older than this.
    pub since: Option<Timestamp>,
    /// Not younger than this.
    pub until: Option<Timestamp>,
    /// Only so many lines from the end, counted among those of the streams above up to `until`.
    pub tail: Option<u64>,
}

impl Default for Selection {
    fn default() -> Self {
        Self { stdout: true, stderr: true, since: None, until: None, tail: None }
    }
}

impl Selection {
    pub(super) fn has(&self, stream: Stream) -> bool {
        match stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        }
    }
}

/// An open log. Use either [`Reader::next_entry`] or [`Reader::next_chunk`].
pub struct Reader {
    path: PathBuf,
    format: LogDriver,
    selection: Selection,
    /// Oldest first; the first `at` of them are done with.
    files: Vec<LogFile>,
    at: usize,
    starts: [Start; 2],
    cursor: Cursor,
    current: Option<Current>,
    lines: [Lines; 2],
    watch: Option<Watch>,
    ended: bool,
}

/// The record whose bytes are being given out.
struct Current {
    record: Record,
    /// Bytes that are given out already.
    done: usize,
}

/// What [`Reader::advance`] found.
enum Advance {
    Record,
    /// Nothing more now (only without waiting).
    Idle,
    End,
}

impl Reader {
    /// Opens a log for what is in it. A log that doesn't exist (yet) is empty.
    pub fn open(path: PathBuf, format: LogDriver, selection: Selection) -> Result<Self, LogError> {
        Self::new(path, format, selection, None)
    }

    /// Opens a log for what is in it and for what will come, until `stop` says otherwise.
    pub fn follow(
        path: PathBuf,
        format: LogDriver,
        selection: Selection,
        stop: Stop,
    ) -> Result<Self, LogError> {
        let watch = Watch::new(&path, stop)?;
        Self::new(path, format, selection, Some(watch))
    }

    fn new(
        path: PathBuf,
        format: LogDriver,
        selection: Selection,
        watch: Option<Watch>,
    ) -> Result<Self, LogError> {
        let files = if format == LogDriver::None { Vec::new() } else { files::open_all(&path, format)? };
        let starts = match selection.tail {
            Some(lines) => backward::tail(&files, format, &selection, lines)
                .map_err(|source| LogError::Read { path: path.clone(), source })?,
            None => [Start::BEGIN; 2],
        };
        let first = match (selection.stdout, selection.stderr) {
            (true, false) => starts[0],
            (false, true) => starts[1],
            _ => starts[0].min(starts[1]),
        };
        let mut cursor = Cursor::new(format);
        let passed = files.get(first.file).map_or(0, |file| file.start_of(selection.since));
        cursor.seek(first.offset.max(passed));
        Ok(Self {
            path,
            format,
            selection,
            files,
            at: first.file,
            starts,
            cursor,
            current: None,
            lines: Default::default(),
            watch,
            ended: format == LogDriver::None,
        })
    }

    /// The next line; `None` at the end. When following, waits for it.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>, LogError> {
        loop {
            if self.current.is_none() {
                match self.advance(true)? {
                    Advance::Record => {}
                    Advance::Idle | Advance::End => return Ok(self.open_line()),
                }
            }
            let Some(current) = &mut self.current else { continue };
            let Record { stream, time, continues, .. } = current.record;
            if current.done == 0 && !continues && self.lines[stream.index()].end() {
                return Ok(Some(joined(&self.lines[stream.index()], stream)));
            }
            let start = current.done;
            let chunk = &self.cursor.payload()[start..];
            if chunk.is_empty() {
                self.current = None;
                continue;
            }
            match self.lines[stream.index()].next(chunk, time) {
                Piece::Kept => self.current = None,
                Piece::Whole { len } => {
                    current.done += len;
                    // A line that ends here must not end the next round's open one.
                    current.record.continues = true;
                    let line = &self.cursor.payload()[start..start + len];
                    return Ok(Some(Entry { time, stream, line, partial: line.last() != Some(&b'\n') }));
                }
                Piece::Joined { len } => {
                    current.done += len;
                    return Ok(Some(joined(&self.lines[stream.index()], stream)));
                }
            }
        }
    }

    /// Appends bytes of one stream, as they came, to `out` until it holds `bytes_max` or the stream changes; `None` at
    /// the end. When following, waits only for the first byte.
    pub fn next_chunk(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> Result<Option<Stream>, LogError> {
        let mut found = None;
        while out.len() < bytes_max {
            if self.current.is_none() && !matches!(self.advance(found.is_none())?, Advance::Record) {
                break;
            }
            let Some(current) = &mut self.current else { break };
            let stream = current.record.stream;
            if found.is_some_and(|f| f != stream) {
                break;
            }
            let payload = &self.cursor.payload()[current.done..];
            let taken = payload.len().min(bytes_max - out.len());
            out.extend_from_slice(&payload[..taken]);
            current.done += taken;
            if taken == payload.len() {
                self.current = None;
            }
            if taken > 0 {
                found = Some(stream);
            }
        }
        Ok(found)
    }

    /// A line that was never ended, once nothing more will come.
    fn open_line(&mut self) -> Option<Entry<'_>> {
        let stream = [Stream::Stdout, Stream::Stderr].into_iter().find(|s| self.lines[s.index()].end())?;
        Some(joined(&self.lines[stream.index()], stream))
    }

    /// Goes to the next selected record.
    fn advance(&mut self, wait: bool) -> Result<Advance, LogError> {
        loop {
            if self.ended || self.watch.as_ref().is_some_and(|w| w.stop().is_cancelled()) {
                self.ended = true;
                return Ok(Advance::End);
            }
            if let Some(record) = self.next_in_file()? {
                if self.select(record) {
                    return Ok(Advance::Record);
                }
                continue;
            }
            if self.at + 1 < self.files.len() {
                self.next_file();
                continue;
            }
            let Some(watch) = &self.watch else {
                self.ended = true;
                continue;
            };
            // In this order: what happens after these lines wakes the wait below.
            let finished = watch.stop().is_finished();
            watch.drain();
            if self.look_again()? {
                continue;
            }
            if finished {
                self.ended = true;
                continue;
            }
            if !wait {
                return Ok(Advance::Idle);
            }
            self.cursor.trim();
            if let Some(watch) = &self.watch {
                watch.wait()?;
            }
        }
    }

    /// Whether there is more to read after the end was seen, in this file or in one that replaced it.
    fn look_again(&mut self) -> Result<bool, LogError> {
        let Some(last) = self.files.last() else {
            self.files = files::open_all(&self.path, self.format)?;
            return Ok(!self.files.is_empty());
        };
        let rotated = last.is_rotated(&self.path);
        // A file that was renamed gets nothing more, so what is read now is its end.
        if let Some(record) = self.next_in_file()? {
            if !self.select(record) {
                return Ok(true);
            }
            self.cursor.seek(record.offset);
            self.current = None;
            return Ok(true);
        }
        if let Some(last) = self.files.last().filter(|_| rotated) {
            let newer = files::open_newer(&self.path, last, self.format)?;
            let some = !newer.is_empty();
            self.files.extend(newer);
            return Ok(some);
        }
        Ok(false)
    }

    fn next_in_file(&mut self) -> Result<Option<Record>, LogError> {
        let Some(file) = self.files.get(self.at) else { return Ok(None) };
        let record = self.cursor.next(file.bytes()).map_err(|source| {
            let path = self.path.clone();
            if source.kind() == io::ErrorKind::InvalidData {
                LogError::NotALog { path }
            } else {
                LogError::Read { path, source }
            }
        })?;
        // Without following, what has come since it was opened was not asked for: a container that writes on and on would hardly ever
        // let the reader end.
        Ok(record.filter(|record| self.watch.is_some() || record.offset < file.len))
    }

    fn next_file(&mut self) {
        self.at += 1;
        let since = self.selection.since;
        self.cursor.seek(self.files.get(self.at).map_or(0, |file| file.start_of(since)));
        // Descriptors of files that are done with are not kept, but for the last, by which a rotation is noticed.
        if self.at > 64 {
            self.files.drain(..self.at);
            for start in &mut self.starts {
                *start = match start.file.checked_sub(self.at) {
                    Some(file) => Start { file, ..*start },
                    None => Start::BEGIN,
                };
            }
            self.at = 0;
        }
    }

    /// Makes a record the current one, if it is wanted.
    fn select(&mut self, mut record: Record) -> bool {
        let Selection { since, until, .. } = self.selection;
        let start = self.starts[record.stream.index()];
        let here = Start { file: self.at, offset: record.offset, skip: 0 };
        let skip = if here.offset == start.offset && here.file == start.file { start.skip } else { 0 };
        if until.is_some_and(|until| record.time > until) {
            // Time may have been set back meanwhile, but a reader that follows has to end somewhere.
            self.ended = self.watch.is_some();
            return false;
        }
        if !self.selection.has(record.stream)
            || since.is_some_and(|since| record.time < since)
            || (here.file, here.offset) < (start.file, start.offset)
            || skip >= self.cursor.payload().len()
        {
            return false;
        }
        if skip > 0 {
            record.continues = false;
        }
        self.current = Some(Current { record, done: skip });
        true
    }
}

fn joined(lines: &Lines, stream: Stream) -> Entry<'_> {
    let (line, time) = lines.joined();
    Entry { time, stream, line, partial: line.last() != Some(&b'\n') }
}

impl Reader {
    /// The format of the log, as it was opened.
    pub fn format(&self) -> LogDriver {
        self.format
    }
}
