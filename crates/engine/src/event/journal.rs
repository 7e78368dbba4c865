//! The journal of events: segments of lines, `<data-root>/events/<sequence of its first event>`.
//!
//! A line is `<sequence> <nanoseconds since 1970> <JSON>`. One writer appends; readers open segments on their own and end where
//! the last whole line ends. Nothing is synced: a killed engine loses what it was just gathering, a power cut what the
//! kernel had not written, and no more than a torn last line, which the next start cuts off. The oldest segment goes when
//! there are too many, or when the disk is full. docs/engine-state.md

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use corten_api::system::EventMessage;
use corten_sys::private;

use super::{Numbered, Sequence};

/// A segment this large is followed by another one.
const SEGMENT_BYTES: u64 = 8 << 20;
/// So many are kept: 64 MiB, some 100,000 events.
const SEGMENTS: usize = 8;
/// How much is read at once to find the last line.
const TAIL_BYTES: u64 = 64 << 10;

pub struct Journal {
    directory: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Oldest first.
    segments: VecDeque<Segment>,
    /// The last segment, opened by the first event.
    file: Option<File>,
    /// A failure was told; told again after the next success.
    failing: bool,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    first: Sequence,
    /// Of its first event.
    time_nano: i64,
    bytes: u64,
}

/// Where a journal ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Last {
    pub sequence: Sequence,
    pub time_nano: i64,
}

/// A reader's place in the files.
#[derive(Default)]
pub struct Reader {
    open: Option<(Sequence, BufReader<File>)>,
}

impl Journal {
    /// Finds the segments and mends the last one; files that are no segments are left alone.
    pub fn open(directory: &Path) -> io::Result<(Self, Last)> {
        private::directory(directory, 0o700)?;
        let mut names: Vec<Sequence> = std::fs::read_dir(directory)?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        names.sort_unstable();
        let mut state = State::default();
        let mut last = Last::default();
        for (position, &first) in names.iter().enumerate() {
            let path = directory.join(name(first));
            if position + 1 == names.len() {
                last = mend(&path)?.unwrap_or(Last { sequence: first.saturating_sub(1), ..last });
            }
            match first_time(&path)? {
                Some(time_nano) => {
                    let bytes = std::fs::metadata(&path)?.len();
                    state.segments.push_back(Segment { first, time_nano, bytes });
                }
                // Empty, or not what we have written.
                None => std::fs::remove_file(&path)?,
            }
        }
        Ok((Self { directory: directory.to_owned(), state: Mutex::new(state) }, last))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub fn bytes(&self) -> u64 {
        self.state().segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Keeps events; on a full disk in the place of the oldest ones. A failure is told once, and costs the journal these.
    pub fn append(&self, batch: &[Numbered]) {
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else { return };
        let mut lines = Vec::with_capacity(batch.len() * 512);
        for Numbered { sequence, event } in batch {
            // Writing to a vector and serializing a struct of texts don't fail.
            let _ = write!(lines, "{sequence} {} ", event.time_nano);
            let _ = serde_json::to_writer(&mut lines, &**event);
            lines.push(b'\n');
        }
        let mut written = self.write(first, &lines);
        if written.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::StorageFull) && self.drop_oldest() {
            written = self.write(first, &lines);
        }
        let mut state = self.state();
        match written {
            Ok(()) => state.failing = false,
            Err(error) => {
                if !std::mem::replace(&mut state.failing, true) {
                    let (from, to) = (first.sequence, last.sequence);
                    tracing::warn!(%error, from, to, "events could not be kept; they are told to who listens now");
                }
                state.file = None;
            }
        }
    }

    fn write(&self, first: &Numbered, lines: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        if state.segments.back().is_none_or(|segment| segment.bytes >= SEGMENT_BYTES) {
            state.file = None;
            let path = self.directory.join(name(first.sequence));
            private::file(&path)?;
            let (sequence, time_nano) = (first.sequence, first.event.time_nano);
            state.segments.push_back(Segment { first: sequence, time_nano, bytes: 0 });
            while state.segments.len() > SEGMENTS {
                self.forget_oldest(&mut state);
            }
        }
        let State { segments, file, .. } = &mut *state;
        let Some(segment) = segments.back_mut() else { return Ok(()) };
        let file = match file {
            Some(file) => file,
            None => {
                file.insert(OpenOptions::new().write(true).open(self.directory.join(name(segment.first)))?)
            }
        };
        if let Err(error) = file.write_all_at(lines, segment.bytes) {
            // Part of it may be there.
            file.set_len(segment.bytes)?;
            return Err(error);
        }
        segment.bytes += lines.len() as u64;
        Ok(())
    }

    /// Makes room; the last segment stays.
    fn drop_oldest(&self) -> bool {
        let mut state = self.state();
        state.segments.len() > 1 && self.forget_oldest(&mut state)
    }

    fn forget_oldest(&self, state: &mut State) -> bool {
        let Some(oldest) = state.segments.pop_front() else { return false };
        let path = self.directory.join(name(oldest.first));
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::warn!(%error, path = %path.display(), "remove old events");
        }
        true
    }

    /// Where the first event from a time on is, or lies before.
    pub fn place_of(&self, time_nano: i64) -> Option<Sequence> {
        let state = self.state();
        let later = state.segments.iter().position(|segment| segment.time_nano > time_nano);
        let at = later.unwrap_or(state.segments.len()).saturating_sub(1);
        state.segments.get(at).map(|segment| segment.first)
    }

    /// The next events from `next` on, at most `count`; none at the end of what is written. Events that are gone are left out.
    pub fn read(&self, reader: &mut Reader, next: Sequence, count: usize) -> io::Result<Vec<Numbered>> {
        let mut events = Vec::new();
        let mut line = Vec::new();
        loop {
            let current = reader.open.as_ref().map(|(first, _)| *first);
            if current.is_none() && !self.advance(reader, next, None)? {
                return Ok(events);
            }
            let Some((first, file)) = &mut reader.open else { return Ok(events) };
            let first = *first;
            while events.len() < count {
                line.clear();
                let bytes = file.read_until(b'\n', &mut line)?;
                if line.last() != Some(&b'\n') {
                    // Half a line is not yet a line.
                    file.seek_relative(-i64::try_from(bytes).unwrap_or_default())?;
                    break;
                }
                events.extend(parse(&line, next));
            }
            if events.len() == count || !self.advance(reader, next, Some(first))? {
                return Ok(events);
            }
        }
    }

    /// Opens the segment with `next`, or the one after `current`; says whether there is one.
    fn advance(&self, reader: &mut Reader, next: Sequence, current: Option<Sequence>) -> io::Result<bool> {
        loop {
            let wanted = {
                let state = self.state();
                let after = |segment: &&Segment| current.is_some_and(|current| segment.first > current);
                match current {
                    Some(_) => state.segments.iter().find(after).map(|segment| segment.first),
                    None => {
                        let before = state.segments.iter().rev().find(|segment| segment.first <= next);
                        before.or(state.segments.front()).map(|segment| segment.first)
                    }
                }
            };
            let Some(first) = wanted else { return Ok(false) };
            match File::open(self.directory.join(name(first))) {
                Ok(file) => {
                    reader.open = Some((first, BufReader::with_capacity(64 << 10, file)));
                    return Ok(true);
                }
                // Just now removed for being the oldest: the next one is the oldest now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if self.state().segments.iter().any(|segment| segment.first == first) {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn name(first: Sequence) -> String {
    format!("{first:020}")
}

/// An event from `next` on.
fn parse(line: &[u8], next: Sequence) -> Option<Numbered> {
    let (head, event) = head(line).filter(|(head, _)| head.sequence >= next)?;
    let event: EventMessage = serde_json::from_slice(event).ok()?;
    Some(Numbered { sequence: head.sequence, event: event.into() })
}

/// A line's numbers, and its JSON.
fn head(line: &[u8]) -> Option<(Last, &[u8])> {
    let mut parts = line.splitn(3, |&byte| byte == b' ');
    let mut number = || std::str::from_utf8(parts.next()?).ok();
    let (sequence, time_nano) = (number()?.parse().ok()?, number()?.parse().ok()?);
    Some((Last { sequence, time_nano }, parts.next()?))
}

fn first_time(path: &Path) -> io::Result<Option<i64>> {
    let mut start = Vec::new();
    File::open(path)?.take(64).read_to_end(&mut start)?;
    Ok(head(&start).map(|(head, _)| head.time_nano))
}

/// Cuts off what follows the last whole line, and tells that line's numbers.
fn mend(path: &Path) -> io::Result<Option<Last>> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    let mut tail = Vec::new();
    let mut size = TAIL_BYTES;
    loop {
        let from = length.saturating_sub(size);
        file.seek(SeekFrom::Start(from))?;
        tail.clear();
        (&file).take(length - from).read_to_end(&mut tail)?;
        let end = tail.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let begin = tail[..end.saturating_sub(1)].iter().rposition(|&byte| byte == b'\n').map(|at| at + 1);
        if begin.is_none() && from > 0 {
            size *= 8;
            continue;
        }
        let whole = from + end as u64;
        if whole < length {
            file.set_len(whole)?;
        }
        return Ok(head(&tail[begin.unwrap_or(0)..end]).map(|(last, _)| last));
    }
}
