//! The end of a connection whose client still sends what nobody wants any more. Closed at once, with bytes unread, the kernel would
//! reset it, and many clients then tell of a broken pipe and not of the answer (RFC 9112, section 9.6).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// How long a client may go on sending after its answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes read and thrown away at once.
const PIECE: usize = 16 << 10;

/// Tells a connection that it ends with a request that was not read whole.
#[derive(Clone, Debug, Default)]
pub struct Unread(Arc<AtomicBool>);

impl Unread {
    pub fn tell(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A connection that takes what comes until its client has seen the answer.
pub struct Lingering<S> {
    stream: S,
    unread: Unread,
    patience: Duration,
    /// From when on nothing is sent any more: how long the client may go on.
    ending: Option<Pin<Box<Sleep>>>,
}

impl<S> Lingering<S> {
    pub fn new(stream: S, unread: Unread) -> Self {
        Self { stream, unread, patience: PATIENCE, ending: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let ending = match &mut this.ending {
            Some(ending) => ending,
            None => {
                ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
                if !this.unread.0.load(Ordering::Relaxed) {
                    return Poll::Ready(Ok(()));
                }
                this.ending.insert(Box::pin(tokio::time::sleep(this.patience)))
            }
        };
        while ending.as_mut().poll(cx).is_pending() {
            let mut piece = [0; PIECE];
            let mut buffer = ReadBuf::new(&mut piece);
            // That the connection breaks now is no news.
            if ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buffer)).is_err()
                || buffer.filled().is_empty()
            {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const ROOM: usize = 1000;

    #[tokio::test]
    async fn who_still_sends_is_listened_to() {
        let (mut client, server) = tokio::io::duplex(ROOM);
        let unread = Unread::default();
        unread.tell();
        let mut server = Lingering::new(server, unread);
        let ended = tokio::spawn(async move { server.shutdown().await });
        client.write_all(&[0; 50 * ROOM]).await.expect("the server listens");
        assert_eq!(client.read(&mut [0]).await.expect("read"), 0, "it sends no more");
        drop(client);
        ended.await.expect("no panic").expect("shutdown");
    }

    #[tokio::test]
    async fn nobody_is_listened_to_for_ever() {
        let (_client, server) = tokio::io::duplex(ROOM);
        let unread = Unread::default();
        unread.tell();
        let patience = Duration::from_millis(50);
        let mut server = Lingering { patience, ..Lingering::new(server, unread) };
        let began = std::time::Instant::now();
        server.shutdown().await.expect("shutdown");
        assert!(began.elapsed() >= patience, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_connection_that_was_read_ends_at_once() {
        let (mut client, server) = tokio::io::duplex(ROOM);
        Lingering::new(server, Unread::default()).shutdown().await.expect("shutdown");
        assert!(client.write_all(&[0; 2 * ROOM]).await.is_err(), "nobody reads");
    }
}
