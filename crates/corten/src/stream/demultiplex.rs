//! Writes a container's output to ours: raw, or taken apart into standard output and error.

use std::io::{self, Write};

use corten_api::stream::{Demultiplexer, StreamKind, UnknownStream};

/// The two ends that a container's output goes to.
///
/// Neighbouring frames of one stream are written in one go: a log has a frame per line.
pub struct Split<O, E> {
    demultiplexer: Option<Demultiplexer>,
    stdout: O,
    stderr: E,
    pending: Vec<u8>,
    pending_kind: StreamKind,
}

/// Why a piece of output could not be passed on.
#[derive(Debug)]
enum Broken {
    Unknown(UnknownStream),
    Write(io::Error),
}

impl From<UnknownStream> for Broken {
    fn from(unknown: UnknownStream) -> Broken {
        Broken::Unknown(unknown)
    }
}

impl Split<io::Stdout, io::Stderr> {
    /// Towards this process's own output.
    pub fn to_stdio(multiplexed: bool) -> Self {
        Split::new(multiplexed, io::stdout(), io::stderr())
    }
}

impl<O: Write, E: Write> Split<O, E> {
    pub fn new(multiplexed: bool, stdout: O, stderr: E) -> Self {
        let demultiplexer = multiplexed.then(Demultiplexer::new);
        Split { demultiplexer, stdout, stderr, pending: Vec::new(), pending_kind: StreamKind::Stdout }
    }

    /// Writes one piece as it came from the engine.
    pub fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        let Some(mut demultiplexer) = self.demultiplexer.take() else {
            return deliver(&mut self.stdout, piece, "output");
        };
        let fed = demultiplexer.feed::<Broken>(piece, |kind, bytes| {
            if kind != self.pending_kind {
                self.flush().map_err(Broken::Write)?;
                self.pending_kind = kind;
            }
            self.pending.extend_from_slice(bytes);
            Ok(())
        });
        self.demultiplexer = Some(demultiplexer);
        match fed {
            Ok(()) => self.flush(),
            Err(Broken::Write(error)) => Err(error),
            Err(Broken::Unknown(unknown)) => {
                Err(io::Error::new(io::ErrorKind::InvalidData, unknown.to_string()))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        match self.pending_kind {
            StreamKind::Stderr | StreamKind::SystemErr => deliver(&mut self.stderr, &self.pending, "error")?,
            StreamKind::Stdin | StreamKind::Stdout => deliver(&mut self.stdout, &self.pending, "output")?,
        }
        self.pending.clear();
        Ok(())
    }
}

fn deliver(to: &mut impl Write, bytes: &[u8], name: &str) -> io::Result<()> {
    to.write_all(bytes)
        .and_then(|()| to.flush())
        .map_err(|error| io::Error::new(error.kind(), format!("writing to standard {name}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_api::stream::header;

    #[test]
    fn frames_go_their_ways() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut wire = Vec::new();
        for (kind, text) in [
            (StreamKind::Stdout, "a\n"),
            (StreamKind::Stdout, "b\n"),
            (StreamKind::Stderr, "oops\n"),
            (StreamKind::Stdout, "c\n"),
        ] {
            wire.extend_from_slice(&header(kind, text.len() as u32));
            wire.extend_from_slice(text.as_bytes());
        }
        let mut split = Split::new(true, &mut out, &mut err);
        for piece in wire.chunks(5) {
            split.write(piece).unwrap();
        }
        assert_eq!(out, b"a\nb\nc\n");
        assert_eq!(err, b"oops\n");
    }

    #[test]
    fn a_raw_stream_stays_as_it_is() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        Split::new(false, &mut out, &mut err).write(b"\x01\0\0\0").unwrap();
        assert_eq!(out, b"\x01\0\0\0");
    }

    #[test]
    fn foreign_bytes_are_an_error() {
        let mut split = Split::new(true, Vec::new(), Vec::new());
        assert_eq!(split.write(b"HTTP/1.1 2").unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
