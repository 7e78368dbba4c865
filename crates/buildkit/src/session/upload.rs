//! What a client has on its standard input: bytes behind a URL of the session's own, which it hands out once.

use super::{Session, metadata};
use crate::wire::session::BytesMessage;
use bytes::{Buf, Bytes};
use futures_util::stream;
use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::runtime::Handle;
use tonic::{Request, Status, Streaming};

/// The host of such URLs: no host at all.
pub const HOST: &str = "buildkit-session";
const PULL: &str = "/moby.upload.v1.Upload/Pull";

/// The path in a URL of an upload; none where it is another one.
pub fn upload_path(url: &str) -> Option<&str> {
    let path = url.strip_prefix("http://")?.strip_prefix(HOST)?;
    path.starts_with('/').then_some(path)
}

impl Session {
    /// Begins to take what the client has behind a path; `received` counts the bytes that came.
    pub async fn upload(&self, path: &str, received: Arc<AtomicU64>) -> Result<Upload, Status> {
        if !self.serves(PULL) {
            return Err(Status::failed_precondition("the client offers no uploads"));
        }
        let mut call = Request::new(stream::empty::<BytesMessage>());
        metadata::append(call.metadata_mut(), "urlpath", &[path.to_owned()]);
        metadata::append(call.metadata_mut(), "urlhost", &[HOST.to_owned()]);
        let pieces = self.channel.streaming(PULL, call).await?;
        Ok(Upload { runtime: Handle::current(), pieces, current: Bytes::new(), has_ended: false, received })
    }
}

/// What comes, to be read on a blocking thread (never on one of the runtime's own).
pub struct Upload {
    runtime: Handle,
    pieces: Streaming<BytesMessage>,
    current: Bytes,
    has_ended: bool,
    received: Arc<AtomicU64>,
}

impl BufRead for Upload {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() && !self.has_ended {
            let piece = self.runtime.block_on(self.pieces.message());
            let broken_off = |status: Status| io::Error::new(io::ErrorKind::UnexpectedEof, status.message());
            match piece.map_err(broken_off)? {
                Some(BytesMessage { data }) => self.current = data,
                None => self.has_ended = true,
            }
            self.received.fetch_add(self.current.len() as u64, Ordering::Relaxed);
        }
        Ok(&self.current)
    }

    fn consume(&mut self, bytes: usize) {
        self.current.advance(bytes);
    }
}

impl Read for Upload {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let piece = self.fill_buf()?;
        let count = piece.len().min(buf.len());
        buf[..count].copy_from_slice(&piece[..count]);
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_are_known_by_their_host() {
        assert_eq!(upload_path("http://buildkit-session/abc"), Some("/abc"));
        for other in ["http://buildkit-session.example/abc", "https://buildkit-session/abc", "http://a/b"] {
            assert_eq!(upload_path(other), None, "{other}");
        }
    }
}
