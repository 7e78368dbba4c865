//! Docker's `json-file` line: `{"log":"…\n","stream":"stdout","time":"…"}`, escaped as Docker's own encoder does.

use std::borrow::Cow;

use serde::Deserialize;

use super::{LINE_BYTES_MAX, Stream, parse_rfc3339, rfc3339};
use crate::monitor::protocol::Timestamp;

/// Makes entries; what stands behind the text is kept, as all lines of one read have it in common.
#[derive(Default)]
pub(super) struct Encoder {
    of: Option<(Stream, Timestamp)>,
    end: Vec<u8>,
}

impl Encoder {
    /// Appends one entry.
    pub(super) fn encode(&mut self, out: &mut Vec<u8>, stream: Stream, time: Timestamp, line: &[u8]) {
        if self.of != Some((stream, time)) {
            self.of = Some((stream, time));
            self.end.clear();
            self.end.extend_from_slice(b"\",\"stream\":\"");
            self.end.extend_from_slice(stream.name().as_bytes());
            self.end.extend_from_slice(b"\",\"time\":\"");
            rfc3339::append_rfc3339(time, &mut self.end);
            self.end.extend_from_slice(b"\"}\n");
        }
        out.extend_from_slice(b"{\"log\":\"");
        escape(out, line);
        out.extend_from_slice(&self.end);
    }
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, default)]
    log: Cow<'a, str>,
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

/// Reads one entry (without its newline); the text is appended to `text`. `None` for a line that is damaged.
pub(super) fn decode(line: &[u8], text: &mut Vec<u8>) -> Option<(Timestamp, Stream)> {
    let line: Line = serde_json::from_slice(line).ok()?;
    let time = parse_rfc3339(line.time.as_bytes())?;
    let stream = if line.stream == "stderr" { Stream::Stderr } else { Stream::Stdout };
    text.extend_from_slice(line.log.as_bytes());
    Some((time, stream))
}

/// Longest line that [`Encoder::encode`] makes: every byte as `\u00xx` or `\ufffd`.
pub(super) const LINE_LEN_MAX: usize = LINE_BYTES_MAX * 6 + 128;

fn escape(out: &mut Vec<u8>, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let plain = plain_len(bytes);
        out.extend_from_slice(&bytes[..plain]);
        bytes = &bytes[plain..];
        let Some(&byte) = bytes.first() else { return };
        if byte < 0x80 {
            escape_ascii(out, byte);
            bytes = &bytes[1..];
        } else {
            bytes = &bytes[escape_char(out, bytes)..];
        }
    }
}

/// How many bytes need no escaping. A busy log spends most of its time here, hence without branches, so that the compiler looks at
/// sixteen bytes at once.
fn plain_len(bytes: &[u8]) -> usize {
    let (blocks, _) = bytes.as_chunks::<16>();
    let whole =
        blocks.iter().take_while(|block| block.iter().fold(true, |plain, &b| plain & is_plain(b))).count();
    let rest = &bytes[whole * 16..];
    whole * 16 + rest.iter().position(|&b| !is_plain(b)).unwrap_or(rest.len())
}

/// Go escapes `<`, `>` and `&`, so that JSON may stand inside HTML.
fn is_plain(byte: u8) -> bool {
    (b' '..0x80).contains(&byte)
        & (byte != b'"')
        & (byte != b'\\')
        & (byte != b'<')
        & (byte != b'>')
        & (byte != b'&')
}

fn escape_ascii(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        _ => out.extend_from_slice(&[
            b'\\',
            b'u',
            b'0',
            b'0',
            HEX[usize::from(byte >> 4)],
            HEX[usize::from(byte & 15)],
        ]),
    }
}

/// Writes the character at the beginning of `bytes`, or `\ufffd` for one byte that begins none; returns the bytes taken.
fn escape_char(out: &mut Vec<u8>, bytes: &[u8]) -> usize {
    let head = &bytes[..bytes.len().min(4)];
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default(),
    };
    match valid.chars().next() {
        None => {
            out.extend_from_slice(b"\\ufffd");
            1
        }
        Some('\u{2028}') => {
            out.extend_from_slice(b"\\u2028");
            3
        }
        Some('\u{2029}') => {
            out.extend_from_slice(b"\\u2029");
            3
        }
        Some(char) => {
            out.extend_from_slice(&bytes[..char.len_utf8()]);
            char.len_utf8()
        }
    }
}
