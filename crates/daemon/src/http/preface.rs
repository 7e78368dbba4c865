//! Which HTTP a connection begins with. HTTP/2 has a preface that no request of HTTP/1 begins with (RFC 9113, section 3.4).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A usual request's head comes with one read.
const FIRST_READ: usize = 2048;

/// What came first, with the bytes that were read to see it.
#[derive(Debug, PartialEq, Eq)]
pub enum Opening {
    Http1(Vec<u8>),
    Http2(Vec<u8>),
}

/// Reads until it is clear what the client speaks.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Opening> {
    let mut begun = Vec::with_capacity(FIRST_READ);
    loop {
        let count = stream.read_buf(&mut begun).await?;
        let known = begun.len().min(PREFACE.len());
        if begun[..known] != PREFACE[..known] || count == 0 {
            return Ok(Opening::Http1(begun));
        }
        if known == PREFACE.len() {
            return Ok(Opening::Http2(begun));
        }
    }
}

/// A connection of which something was read already.
pub struct Begun<S> {
    stream: S,
    begun: Vec<u8>,
}

impl<S> Begun<S> {
    pub fn new(stream: S, begun: Vec<u8>) -> Self {
        Self { stream, begun }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Begun<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.begun.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let room = buffer.remaining().min(self.begun.len());
        buffer.put_slice(&self.begun[..room]);
        self.begun.drain(..room);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Begun<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    async fn opening(pieces: &[&[u8]]) -> Opening {
        let (mut ours, mut theirs) = tokio::io::duplex(4096);
        let writing = async move {
            for piece in pieces {
                theirs.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(read(&mut ours), writing).0.unwrap()
    }

    #[tokio::test]
    async fn the_preface_is_known_in_pieces_and_nothing_is_lost() {
        let with_more = [PREFACE.as_slice(), b"more"].concat();
        assert_eq!(opening(&[&with_more]).await, Opening::Http2(with_more.clone()));
        assert_eq!(
            opening(&[b"PRI * HT", b"TP/2.0\r\n\r\nSM\r\n\r\n"]).await,
            Opening::Http2(PREFACE.to_vec())
        );
        assert_eq!(opening(&[b"P", b"OST /"]).await, Opening::Http1(b"POST /".to_vec()));
        assert_eq!(
            opening(&[b"PRI * HTTP/2.0\r\n", b"x"]).await,
            Opening::Http1(b"PRI * HTTP/2.0\r\nx".to_vec())
        );
        assert_eq!(opening(&[b"PRI"]).await, Opening::Http1(b"PRI".to_vec()));
        assert_eq!(opening(&[]).await, Opening::Http1(Vec::new()));
    }
}
