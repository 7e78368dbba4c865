//! Cutting chunks of output into messages: a line each, a long line in pieces that know of each other.

use std::fmt::Write;

use super::backlog::{Chunk, Gap};
use super::{Message, Partial};
use crate::log::{Lines, Piece, Stream};
use crate::monitor::protocol::Timestamp;

/// The state of both streams.
#[derive(Default)]
pub(crate) struct Messages {
    streams: [Open; 2],
}

/// A line of which pieces have been seen.
#[derive(Default)]
struct Open {
    lines: Lines,
    /// Of the long line; empty when the last one has ended.
    id: String,
    ordinal: u32,
    time: Timestamp,
    /// The rest of a line whose beginning was lost is left out.
    skipping: bool,
}

impl Messages {
    /// Gives the next message of `chunk` to `take`, from byte `at` on; false when there is none left.
    pub(crate) fn next(&mut self, chunk: &Chunk, at: &mut usize, mut take: impl FnMut(&Message<'_>)) -> bool {
        let open = &mut self.streams[chunk.stream.index()];
        if *at == 0 && chunk.gap != Gap::None {
            open.end(chunk.stream, &mut take);
            if chunk.gap == Gap::Middle {
                *at = memchr::memchr(b'\n', &chunk.bytes).map_or(chunk.bytes.len(), |newline| newline + 1);
                open.skipping = chunk.bytes.get(*at - 1) != Some(&b'\n');
            }
        } else if std::mem::take(&mut open.skipping) {
            let newline = memchr::memchr(b'\n', &chunk.bytes[*at..]);
            open.skipping = newline.is_none();
            *at = newline.map_or(chunk.bytes.len(), |newline| *at + newline + 1);
        }
        let bytes = &chunk.bytes[*at..];
        if bytes.is_empty() {
            return false;
        }
        let (line, time, len) = match open.lines.next(bytes, chunk.time) {
            Piece::Kept => return false,
            Piece::Whole { len } => (&bytes[..len], chunk.time, len),
            Piece::Joined { len } => {
                let (line, time) = open.lines.joined();
                (line, time, len)
            }
        };
        let (line, ended) = match line {
            [line @ .., b'\n'] => (line, true),
            line => (line, false),
        };
        let mark = Mark { id: &mut open.id, ordinal: &mut open.ordinal, time: &mut open.time };
        mark.give(chunk.stream, time, line, ended, &mut take);
        *at += len;
        true
    }

    /// Gives the lines that nobody will end any more to `take`.
    pub(crate) fn finish(&mut self, mut take: impl FnMut(&Message<'_>)) {
        for (open, stream) in self.streams.iter_mut().zip([Stream::Stdout, Stream::Stderr]) {
            open.end(stream, &mut take);
        }
    }
}

impl Open {
    fn end(&mut self, stream: Stream, take: &mut impl FnMut(&Message<'_>)) {
        if self.lines.end() {
            let (line, time) = self.lines.joined();
            let mark = Mark { id: &mut self.id, ordinal: &mut self.ordinal, time: &mut self.time };
            mark.give(stream, time, line, false, take);
        }
        self.id.clear();
    }
}

/// What tells the pieces of one line.
struct Mark<'a> {
    id: &'a mut String,
    ordinal: &'a mut u32,
    time: &'a mut Timestamp,
}

impl Mark<'_> {
    fn give(
        self,
        stream: Stream,
        time: Timestamp,
        line: &[u8],
        ended: bool,
        take: &mut impl FnMut(&Message<'_>),
    ) {
        if ended && self.id.is_empty() {
            return take(&Message { time, stream, line, partial: None });
        }
        if self.id.is_empty() {
            (*self.id, *self.ordinal, *self.time) = (random_id(), 0, time);
        }
        *self.ordinal += 1;
        let partial = Partial { id: self.id, ordinal: *self.ordinal, last: ended };
        take(&Message { time: *self.time, stream, line, partial: Some(partial) });
        if ended {
            self.id.clear();
        }
    }
}

fn random_id() -> String {
    let mut bytes = [0_u8; 32];
    // What is not random enough is still no other line's number within this container.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    bytes.iter().fold(String::with_capacity(64), |mut id, byte| {
        // Into a string: cannot fail.
        let _ = write!(id, "{byte:02x}");
        id
    })
}
