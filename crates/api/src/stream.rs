//! The multiplexed stream of attach, exec and logs: frames of an 8-byte header (stream, 0, 0, 0, length as big-endian u32) and a payload.

use std::fmt;

pub use crate::system::{JsonError, JsonMessage, JsonProgress};

/// Content type of a stream without frames (a terminal).
pub const RAW_STREAM: &str = "application/vnd.docker.raw-stream";
/// Content type of a stream with frames.
pub const MULTIPLEXED_STREAM: &str = "application/vnd.docker.multiplexed-stream";

pub const HEADER_LEN: usize = 8;

/// What detaches a client when nobody says otherwise.
const DETACH_KEYS: &str = "ctrl-p,ctrl-q";

/// The bytes that a terminal sends for a sequence such as `ctrl-p,ctrl-q` or `a,b,DEL`; empty is the default. The error is the key
/// that is none.
pub fn detach_keys(text: &str) -> Result<Vec<u8>, String> {
    let text = if text.is_empty() { DETACH_KEYS } else { text };
    text.split(',').map(|name| key(name).ok_or_else(|| name.to_owned())).collect()
}

fn key(name: &str) -> Option<u8> {
    if name == "DEL" {
        return Some(127);
    }
    if let [single] = name.as_bytes() {
        return Some(*single);
    }
    match name.strip_prefix("ctrl-")?.as_bytes() {
        [letter @ (b'a'..=b'z' | b'A'..=b'Z')] => Some(letter & 0x1f),
        [sign @ (b'@' | b'[' | b'\\' | b']' | b'^' | b'_')] => Some(sign - b'@'),
        _ => None,
    }
}

/// Which stream a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum StreamKind {
    Stdin = 0,
    Stdout = 1,
    Stderr = 2,
    /// An error of the server, after which nothing follows.
    SystemErr = 3,
}

/// The header is none of this format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unrecognized stream {0}")]
pub struct UnknownStream(pub u8);

/// The header of a frame whose payload is `len` bytes long.
pub fn header(kind: StreamKind, len: u32) -> [u8; HEADER_LEN] {
    let [a, b, c, d] = len.to_be_bytes();
    [kind as u8, 0, 0, 0, a, b, c, d]
}

pub fn parse_header(header: [u8; HEADER_LEN]) -> Result<(StreamKind, u32), UnknownStream> {
    let kind = match header[0] {
        0 => StreamKind::Stdin,
        1 => StreamKind::Stdout,
        2 => StreamKind::Stderr,
        3 => StreamKind::SystemErr,
        other => return Err(UnknownStream(other)),
    };
    let [_, _, _, _, a, b, c, d] = header;
    Ok((kind, u32::from_be_bytes([a, b, c, d])))
}

/// Takes a byte stream apart as it comes in, in pieces of any size, without holding payloads back.
#[derive(Default)]
pub struct Demultiplexer {
    header: [u8; HEADER_LEN],
    header_len: usize,
    kind: Option<StreamKind>,
    left: usize,
}

impl Demultiplexer {
    pub fn new() -> Self {
        Self::default()
    }

    /// Hands every piece of payload in `input` to `sink`; a frame may be handed over in several pieces.
    pub fn feed<'a, E: From<UnknownStream>>(
        &mut self,
        mut input: &'a [u8],
        mut sink: impl FnMut(StreamKind, &'a [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while !input.is_empty() {
            if let (Some(kind), 1..) = (self.kind, self.left) {
                let (piece, rest) = input.split_at(self.left.min(input.len()));
                self.left -= piece.len();
                input = rest;
                sink(kind, piece)?;
                continue;
            }
            let (piece, rest) = input.split_at((HEADER_LEN - self.header_len).min(input.len()));
            self.header[self.header_len..self.header_len + piece.len()].copy_from_slice(piece);
            self.header_len += piece.len();
            input = rest;
            if self.header_len == HEADER_LEN {
                let (kind, len) = parse_header(self.header)?;
                (self.kind, self.left, self.header_len) = (Some(kind), len as usize, 0);
            }
        }
        Ok(())
    }

    /// Whether the stream may end here.
    pub fn is_between_frames(&self) -> bool {
        self.left == 0 && self.header_len == 0
    }
}

impl fmt::Debug for Demultiplexer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Demultiplexer").field("kind", &self.kind).field("left", &self.left).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_cut_yields_the_same(frames in prop::collection::vec((1u8..=2, prop::collection::vec(any::<u8>(), 0..40)), 0..8), cut in 1usize..17) {
            let mut wire = Vec::new();
            let mut expected = [Vec::new(), Vec::new()];
            for (kind, payload) in &frames {
                let kind = if *kind == 1 { StreamKind::Stdout } else { StreamKind::Stderr };
                wire.extend_from_slice(&header(kind, payload.len() as u32));
                wire.extend_from_slice(payload);
                expected[kind as usize - 1].extend_from_slice(payload);
            }
            let (mut demultiplexer, mut got) = (Demultiplexer::new(), [Vec::new(), Vec::new()]);
            for piece in wire.chunks(cut) {
                demultiplexer.feed::<UnknownStream>(piece, |kind, bytes| {
                    got[kind as usize - 1].extend_from_slice(bytes);
                    Ok(())
                }).unwrap();
            }
            prop_assert!(demultiplexer.is_between_frames());
            prop_assert_eq!(got, expected);
        }
    }

    #[test]
    fn a_foreign_byte_is_an_error() {
        let fed = Demultiplexer::new().feed::<UnknownStream>(b"HTTP/1.1 200", |_, _| Ok(()));
        assert_eq!(fed, Err(UnknownStream(b'H')));
    }
}
