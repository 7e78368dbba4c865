//! A small HTTP client for one connection after the other: what the load test asks an engine with, from many threads.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A connection that is kept from one request to the next.
pub struct Connection {
    stream: BufReader<UnixStream>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Connection {
    /// Connects; every read and write must be done within `patience`.
    pub fn open(socket: &Path, patience: Duration) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends a request and reads its whole answer; a body is JSON.
    pub fn request(&mut self, method: &str, path: &str, body: &str) -> io::Result<Answer> {
        self.send(method, path, body, "")?;
        self.answer()
    }

    /// Sends a request whose answer nobody reads; `headers` are whole lines.
    pub fn send(&mut self, method: &str, path: &str, body: &str, headers: &str) -> io::Result<()> {
        let length = body.len();
        let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: engine\r\n{kind}{headers}Content-Length: {length}\r\n\r\n{body}"
        );
        self.stream.get_mut().write_all(request.as_bytes())
    }

    /// Sends the head of a request that announces a body of `length` bytes, and the beginning of that body.
    pub fn begin_upload(
        &mut self,
        method: &str,
        path: &str,
        length: usize,
        beginning: &[u8],
    ) -> io::Result<()> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: engine\r\nContent-Type: application/x-tar\r\nContent-Length: {length}\r\n\r\n"
        );
        self.stream.get_mut().write_all(&[head.as_bytes(), beginning].concat())
    }

    /// The answer to what was sent.
    pub fn answer(&mut self) -> io::Result<Answer> {
        let (status, framing) = self.head()?;
        let body = match framing {
            Framing::Length(length) => {
                let mut body = vec![0; length];
                self.stream.read_exact(&mut body)?;
                body
            }
            Framing::Chunked => self.chunks()?,
        };
        Ok(Answer { status, body })
    }

    /// Asks for a stream of lines; what is not read waits in the engine.
    pub fn lines(mut self, path: &str) -> io::Result<Lines> {
        self.send("GET", path, "", "")?;
        match self.head()? {
            (200, Framing::Chunked) => Ok(Lines { connection: self, rest: Vec::new(), at: 0 }),
            (status, _) => Err(io::Error::other(format!("GET {path}: {status}"))),
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }

    fn head(&mut self) -> io::Result<(u16, Framing)> {
        let status = self.line()?;
        let code = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let code = code.ok_or_else(|| io::Error::other(format!("no status line: {status:?}")))?;
        let mut framing = Framing::Length(0);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                return Ok((code, framing));
            }
            if let Some(length) = line.strip_prefix("content-length: ") {
                framing = Framing::Length(length.parse().map_err(io::Error::other)?);
            } else if line == "transfer-encoding: chunked" {
                framing = Framing::Chunked;
            }
        }
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        while self.chunk(&mut body)? {}
        Ok(body)
    }

    /// Reads one more chunk; false at the end.
    fn chunk(&mut self, body: &mut Vec<u8>) -> io::Result<bool> {
        let line = self.line()?;
        let length = usize::from_str_radix(&line, 16).map_err(io::Error::other)?;
        let start = body.len();
        body.resize(start + length, 0);
        self.stream.read_exact(&mut body[start..])?;
        self.line()?;
        Ok(length > 0)
    }
}

/// A stream of lines.
pub struct Lines {
    connection: Connection,
    /// What came and was not given yet, from `at` on.
    rest: Vec<u8>,
    at: usize,
}

impl Iterator for Lines {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(length) = self.rest[self.at..].iter().position(|&byte| byte == b'\n') {
                let line = self.rest[self.at..self.at + length].to_vec();
                self.at += length + 1;
                return Some(Ok(line));
            }
            self.rest.drain(..std::mem::take(&mut self.at));
            match self.connection.chunk(&mut self.rest) {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

enum Framing {
    Length(usize),
    Chunked,
}
