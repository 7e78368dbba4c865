//! Request targets as clients write them: `curl -g 'http://d/containers/json?filters={"status":["exited"]}'` sends quotes as they
//! are, and Go's server takes them. hyper refuses what RFC 3986 wants escaped, so they are escaped on the way to it. This follows
//! requests on a connection just so far that it knows where each one's first line is.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The longest header line that is looked at: `Content-Length`, `Transfer-Encoding` and `Upgrade` are shorter.
const FIELD_MAX: usize = 64;

/// A connection whose request targets reach the reader escaped.
pub struct Escaped<S> {
    stream: S,
    position: Position,
    /// What was read before this was asked to.
    begun: Vec<u8>,
    /// What escaping has made longer than the reader had room for.
    waiting: Vec<u8>,
}

/// Where in a request the next byte is.
enum Position {
    FirstLine {
        empty: bool,
    },
    Fields(Fields),
    Body(u64),
    /// A body whose end can't be told from here, or another protocol: nothing is changed any more.
    Unknown,
}

#[derive(Default)]
struct Fields {
    line: Vec<u8>,
    length: u64,
    unknown: bool,
}

impl<S> Escaped<S> {
    /// A connection of which something was read already.
    pub fn begun(stream: S, begun: Vec<u8>) -> Self {
        Self { stream, position: Position::FirstLine { empty: true }, begun, waiting: Vec::new() }
    }

    /// The connection, and what came from it and was not read.
    pub fn into_parts(self) -> (S, Vec<u8>) {
        (self.stream, [self.waiting, self.begun].concat())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Escaped<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.waiting.is_empty() {
            let room = buffer.remaining().min(self.waiting.len());
            buffer.put_slice(&self.waiting[..room]);
            self.waiting.drain(..room);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        if self.begun.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        } else {
            let room = buffer.remaining().min(self.begun.len());
            buffer.put_slice(&self.begun[..room]);
            self.begun.drain(..room);
        }
        if let Some(mut escaped) = self.position.pass(&buffer.filled()[before..]) {
            buffer.set_filled(before);
            self.waiting = escaped.split_off(escaped.len().min(buffer.remaining()));
            buffer.put_slice(&escaped);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Escaped<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Position {
    /// Follows `bytes`; what they become when something in them has to be escaped.
    fn pass(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut escaped: Option<Vec<u8>> = None;
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let (taken, next) = match self {
                Position::Unknown => (rest.len(), None),
                Position::Body(left) => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= taken as u64;
                    (taken, (*left == 0).then_some(Position::FirstLine { empty: true }))
                }
                Position::FirstLine { empty } => {
                    let (line, ended) = line(rest);
                    *empty &= line.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
                    if escaped.is_none() && line.iter().any(|&byte| is_unwise(byte)) {
                        escaped = Some(bytes[..at].to_vec());
                    }
                    if let Some(escaped) = &mut escaped {
                        line.iter().for_each(|&byte| push(escaped, byte));
                    }
                    at += line.len();
                    // Lines before a request may be empty (RFC 9112, section 2.2).
                    if ended && !*empty {
                        *self = Position::Fields(Fields::default());
                    }
                    continue;
                }
                Position::Fields(fields) => {
                    let (line, ended) = line(rest);
                    fields.take(line);
                    (line.len(), ended.then(|| fields.end_of_line()).flatten())
                }
            };
            if let Some(escaped) = &mut escaped {
                escaped.extend_from_slice(&rest[..taken]);
            }
            at += taken;
            if let Some(next) = next {
                *self = next;
            }
        }
        escaped
    }
}

impl Fields {
    fn take(&mut self, part: &[u8]) {
        let room = FIELD_MAX.saturating_sub(self.line.len()).min(part.len());
        self.line.extend_from_slice(&part[..room]);
    }

    /// What follows the head, when this line was its last.
    fn end_of_line(&mut self) -> Option<Position> {
        let line = std::mem::take(&mut self.line);
        let line = line.trim_ascii();
        if line.is_empty() {
            return Some(match self.length {
                _ if self.unknown => Position::Unknown,
                0 => Position::FirstLine { empty: true },
                length => Position::Body(length),
            });
        }
        let colon = line.iter().position(|&byte| byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        if name.eq_ignore_ascii_case(b"content-length") {
            let value = std::str::from_utf8(&value[1..]).ok().and_then(|value| value.trim().parse().ok());
            // hyper refuses the request.
            self.unknown |= value.is_none();
            self.length = value.unwrap_or(0);
        }
        self.unknown |=
            name.eq_ignore_ascii_case(b"transfer-encoding") || name.eq_ignore_ascii_case(b"upgrade");
        None
    }
}

/// The bytes up to the end of the line, with it, and whether it is there.
fn line(bytes: &[u8]) -> (&[u8], bool) {
    match bytes.iter().position(|&byte| byte == b'\n') {
        Some(end) => (&bytes[..=end], true),
        None => (bytes, false),
    }
}

fn is_unwise(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>')
}

fn push(escaped: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' => escaped.extend_from_slice(b"%22"),
        b'<' => escaped.extend_from_slice(b"%3C"),
        b'>' => escaped.extend_from_slice(b"%3E"),
        _ => escaped.push(byte),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    /// What a reader gets that reads `piece` bytes at a time from a client that sends as many.
    fn read(sent: &[u8], piece: usize) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut mock = pieces(sent, piece);
            let mut read = Vec::new();
            let mut buffer = vec![0; piece];
            loop {
                match mock.read(&mut buffer).await.unwrap() {
                    0 => return String::from_utf8(read).unwrap(),
                    count => read.extend_from_slice(&buffer[..count]),
                }
            }
        })
    }

    fn pieces(sent: &[u8], piece: usize) -> Escaped<tokio::io::DuplexStream> {
        let (ours, mut theirs) = tokio::io::duplex(piece);
        let sent = sent.to_vec();
        tokio::spawn(async move {
            use tokio::io::AsyncWriteExt;
            theirs.write_all(&sent).await.unwrap();
        });
        Escaped::begun(ours, Vec::new())
    }

    const RAW: &str = "GET /a?filters={\"b\":[\"<c>\"]} HTTP/1.1\r\nHost: \"d\"\r\n\r\n";
    const ESCAPED: &str = "GET /a?filters={%22b%22:[%22%3Cc%3E%22]} HTTP/1.1\r\nHost: \"d\"\r\n\r\n";

    #[test]
    fn quotes_in_targets_are_escaped_in_every_request_and_nowhere_else() {
        let upload = "POST /b?\"c\" HTTP/1.1\r\nContent-Length: 12\r\n\r\n{\"d\":\"e\"}\r\n\n";
        let sent = format!("{RAW}\r\n{upload}{RAW}");
        let wanted = format!("{ESCAPED}\r\n{}{ESCAPED}", upload.replacen("\"c\"", "%22c%22", 1));
        for piece in [1, 2, 3, 7, 64, 4096] {
            assert_eq!(read(sent.as_bytes(), piece), wanted, "in pieces of {piece}");
        }
    }

    #[test]
    fn what_has_no_known_end_is_left_alone() {
        for field in ["Transfer-Encoding: chunked", "upgrade: tcp", "Content-Length: many"] {
            let sent = format!("POST /a HTTP/1.1\r\n{field}\r\n\r\n{RAW}");
            assert_eq!(read(sent.as_bytes(), 5), sent);
        }
    }

    #[test]
    fn long_fields_are_not_kept() {
        let sent = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n{RAW}", "\"".repeat(100_000));
        assert_eq!(read(sent.as_bytes(), 1000), sent.replace(RAW, ESCAPED));
    }
}
