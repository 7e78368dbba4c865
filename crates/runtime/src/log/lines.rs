//! Cutting a stream's chunks into lines, joining what one chunk begins and a later one ends.

use super::LINE_BYTES_MAX;
use crate::monitor::protocol::Timestamp;

/// The open line of one stream.
#[derive(Default)]
pub(crate) struct Lines {
    open: Vec<u8>,
    began: Timestamp,
    /// `open` was given out and is to be cleared.
    given: bool,
}

/// What [`Lines::next`] found at the beginning of a chunk.
pub(crate) enum Piece {
    /// A line, or a piece of [`LINE_BYTES_MAX`], that lies in the chunk alone: its first so many bytes.
    Whole { len: usize },
    /// One that began in an earlier chunk: [`Lines::joined`]; so many bytes of the chunk are consumed.
    Joined { len: usize },
    /// The rest of the chunk is kept until its line goes on.
    Kept,
}

impl Lines {
    /// Takes the next line off the front of `chunk`, which is not empty.
    pub(crate) fn next(&mut self, chunk: &[u8], time: Timestamp) -> Piece {
        self.clear_given();
        let room = LINE_BYTES_MAX - self.open.len();
        let window = &chunk[..chunk.len().min(room)];
        let len = match memchr::memchr(b'\n', window) {
            Some(at) => at + 1,
            None if window.len() == room => room,
            None => {
                if self.open.is_empty() {
                    self.began = time;
                }
                self.open.extend_from_slice(window);
                return Piece::Kept;
            }
        };
        if self.open.is_empty() {
            return Piece::Whole { len };
        }
        self.open.extend_from_slice(&chunk[..len]);
        self.given = true;
        Piece::Joined { len }
    }

    /// Ends the open line without a newline; false when there is none.
    pub(crate) fn end(&mut self) -> bool {
        self.clear_given();
        self.given = !self.open.is_empty();
        self.given
    }

    /// The line that was just completed, and the time of its first chunk.
    pub(crate) fn joined(&self) -> (&[u8], Timestamp) {
        (&self.open, self.began)
    }

    fn clear_given(&mut self) {
        if std::mem::take(&mut self.given) {
            self.open.clear();
        }
    }
}
