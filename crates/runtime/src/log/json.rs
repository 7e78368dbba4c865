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
    /// A JSON object that every entry bears, or nothing.
    attributes: String,
}

impl Encoder {
    pub(super) fn new(attributes: String) -> Self {
        Self { attributes, ..Self::default() }
    }

    /// Appends one entry.
    pub(super) fn encode(&mut self, out: &mut Vec<u8>, stream: Stream, time: Timestamp, line: &[u8]) {
        if self.of != Some((stream, time)) {
            self.of = Some((stream, time));
            self.end.clear();
            self.end.extend_from_slice(b"\",\"stream\":\"");
            self.end.extend_from_slice(stream.name().as_bytes());
            self.end.push(b'"');
            if !self.attributes.is_empty() {
                self.end.extend_from_slice(b",\"attrs\":");
                self.end.extend_from_slice(self.attributes.as_bytes());
            }
            self.end.extend_from_slice(b",\"time\":\"");
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
    let start = text.len();
    if let Some(entry) = decode_plain(line, text) {
        return Some(entry);
    }
    text.truncate(start);
    let line: Line = serde_json::from_slice(line).ok()?;
    let time = parse_rfc3339(line.time.as_bytes())?;
    let stream = if line.stream == "stderr" { Stream::Stderr } else { Stream::Stdout };
    text.extend_from_slice(line.log.as_bytes());
    Some((time, stream))
}

/// An entry that looks as ours and Docker's do, without attributes: nearly all are such, and a log of a million lines is read
/// twice as fast. `None` says nothing of the line but that it has to be looked at more closely.
fn decode_plain(line: &[u8], text: &mut Vec<u8>) -> Option<(Timestamp, Stream)> {
    let start = text.len();
    let behind = unescape(line.strip_prefix(b"{\"log\":\"")?, text)?;
    let behind = behind.strip_prefix(b",\"stream\":\"std")?;
    let (stream, behind) = match behind.split_at_checked(3)? {
        (b"out", behind) => (Stream::Stdout, behind),
        (b"err", behind) => (Stream::Stderr, behind),
        _ => return None,
    };
    let time = behind.strip_prefix(b"\",\"time\":\"")?.strip_suffix(b"\"}")?;
    std::str::from_utf8(&text[start..]).ok()?;
    Some((parse_rfc3339(time)?, stream))
}

/// Appends a string's text, up to its closing quote; gives what stands behind that. `None` where an escape is none that entries
/// usually have.
fn unescape<'a>(mut bytes: &'a [u8], text: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let at = memchr::memchr2(b'"', b'\\', bytes)?;
        text.extend_from_slice(&bytes[..at]);
        if bytes[at] == b'"' {
            return Some(&bytes[at + 1..]);
        }
        let (escape, rest) = bytes[at + 1..].split_first()?;
        bytes = rest;
        match escape {
            b'n' => text.push(b'\n'),
            b'r' => text.push(b'\r'),
            b't' => text.push(b'\t'),
            b'"' | b'\\' | b'/' => text.push(*escape),
            b'u' => {
                let digits = bytes.get(..4).filter(|four| four.iter().all(u8::is_ascii_hexdigit))?;
                let digits = std::str::from_utf8(digits).ok()?;
                // Halves of a pair are no characters.
                let char = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
                text.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
                bytes = &bytes[4..];
            }
            _ => return None,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quick_way_and_the_careful_one_read_the_same() {
        let time = Timestamp(1_700_000_000_123_456_789);
        for line in [
            &b"plain\n"[..],
            b"",
            b"quotes \" and \\ and </b>&\t\r\n",
            "\u{1}\u{7f} h\u{e9}llo \u{2028} \u{1f600}\n".as_bytes(),
            b"no \xff utf-8 \xc3\n",
        ] {
            let mut entry = Vec::new();
            Encoder::default().encode(&mut entry, Stream::Stderr, time, line);
            let entry = entry.strip_suffix(b"\n").unwrap();
            let (mut quick, mut careful) = (Vec::new(), Vec::new());
            assert_eq!(decode_plain(entry, &mut quick), Some((time, Stream::Stderr)));
            let parsed: Line = serde_json::from_slice(entry).unwrap();
            careful.extend_from_slice(parsed.log.as_bytes());
            assert_eq!(quick, careful);
        }
    }

    #[test]
    fn other_shapes_are_left_to_the_careful_way() {
        let shapes = [
            r#"{"time":"2023-11-14T22:13:20Z","log":"x","stream":"stdout"}"#,
            r#"{"log":"\ud83d\ude00","stream":"stdout","time":"2023-11-14T22:13:20Z"}"#,
            r#"{"log":"x","stream":"stdout","attrs":{"a":"b"},"time":"2023-11-14T22:13:20Z"}"#,
        ];
        for shape in shapes {
            let mut text = b"before ".to_vec();
            assert!(decode(shape.as_bytes(), &mut text).is_some(), "{shape}");
            assert!(
                text.starts_with(b"before ") && decode_plain(shape.as_bytes(), &mut Vec::new()).is_none()
            );
        }
        for damaged in [r#"{"log":"x\u12"#, r#"{"log":"x","stream":"stdout","time":"2023"}"#, r#"{"log":"x\"#]
        {
            let mut text = b"before ".to_vec();
            assert!(decode(damaged.as_bytes(), &mut text).is_none(), "{damaged}");
            assert_eq!(text, b"before ");
        }
    }
}
