//! Container logs: what a container wrote to stdout and stderr, kept in files of bounded size.
//!
//! Owns the two on-disk formats (`local`, described in docs/log-format.md, and Docker's `json-file`), their rotation and
//! compression, and reading them: the last N lines, a span of time, following a file that grows and rotates.
//! Knows nothing of containers, attached clients or Docker's stream framing.
//!
//! The [`Writer`] lives in the monitor, the [`Reader`] in the engine; nothing but the files connects them.

mod backward;
mod cursor;
mod files;
mod follow;
mod index;
mod json;
mod lines;
mod packed;
mod reader;
mod record;
mod rfc3339;
mod source;
mod writer;

#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

pub use follow::Stop;
pub(crate) use lines::{Lines, Piece};
pub use reader::{Reader, Selection};
pub(crate) use rfc3339::{append_rfc3339, civil};
pub use rfc3339::{format_rfc3339, parse_rfc3339};
pub use writer::{PackJob, Writer};

use crate::monitor::protocol::Timestamp;

/// Longest line that is given out in one piece, as in Docker; longer ones come as several [`Entry`]s.
pub const LINE_BYTES_MAX: usize = 16 * 1024;

/// Which of the two output streams a byte belongs to; the numbers are those of Docker's framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    Stdout = 1,
    Stderr = 2,
}

impl Stream {
    pub(crate) fn index(self) -> usize {
        self as usize - 1
    }

    /// `stdout` or `stderr`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// One line of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub time: Timestamp,
    pub stream: Stream,
    /// With its newline, if it has one.
    pub line: &'a [u8],
    /// There is no newline: the line goes on in the stream's next entry, or the stream ended in the middle of it.
    pub partial: bool,
}

/// What went wrong with a log file.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("cannot open the log file {}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("cannot read the log file {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write to the log file {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot rotate the log file {}", path.display())]
    Rotate { path: PathBuf, source: io::Error },
    #[error("{} is not a log file of the local format", path.display())]
    NotALog { path: PathBuf },
    #[error("the log cannot be watched for new output")]
    Watch { source: io::Error },
}
