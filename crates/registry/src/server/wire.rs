//! Blobs from the page cache to the socket, without passing through this process (`sendfile`), below hyper.
//!
//! hyper passes on what a body yields, and looks at none of it. So the body of such an answer yields pieces of `MARK`, which nobody
//! ever reads: where a write begins with such a piece, that many bytes of the file that is next in the connection's [`Outbox`] are
//! sent instead. Only for plain TCP; what is encrypted has to come through here.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use rustix::io::{Errno, ReadWriteFlags};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Bytes that are said to be sendable at once, having been found in the page cache.
const WINDOW: usize = 1 << 20;
/// Bytes that are asked for ahead of those.
const AHEAD: u64 = 4 << 20;

/// Never read or written, so it takes no memory.
static MARK: [u8; WINDOW] = [0; WINDOW];

fn is_mark(bytes: &[u8]) -> bool {
    let mark = MARK.as_ptr_range();
    mark.contains(&bytes.as_ptr()) && !bytes.is_empty()
}

/// A part of a file that is to be sent.
#[derive(Debug)]
struct Part {
    file: Arc<File>,
    at: u64,
    left: u64,
}

/// The files that a connection's answers are made of, in their order.
#[derive(Clone, Debug, Default)]
pub struct Outbox(Arc<Mutex<VecDeque<Part>>>);

impl Outbox {
    fn parts(&self) -> MutexGuard<'_, VecDeque<Part>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a part of a file behind all others; what comes back is what the answer's body has to yield.
    pub fn put(&self, file: Arc<File>, at: u64, length: u64) -> Marks {
        if length > 0 {
            self.parts().push_back(Part { file: file.clone(), at, left: length });
        }
        Marks { file, at, end: at + length, warming: None }
    }
}

/// Stands for a part of a file, window by window: each is found in the page cache, or read into it, before it is said to be
/// sendable, so that the sending waits for no disk.
#[derive(Debug)]
pub struct Marks {
    file: Arc<File>,
    at: u64,
    end: u64,
    warming: Option<JoinHandle<io::Result<()>>>,
}

impl Marks {
    pub fn remaining(&self) -> u64 {
        self.end - self.at
    }

    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        self.poll_up_to(cx, u64::MAX)
    }

    /// The same, for a file that still grows: no more than so many bytes.
    pub fn poll_up_to(&mut self, cx: &mut Context<'_>, bytes_max: u64) -> Poll<Option<io::Result<Bytes>>> {
        let length = self.remaining().min(WINDOW as u64).min(bytes_max);
        if length == 0 {
            return Poll::Ready(None);
        }
        if self.warming.is_none() && !is_warm(&self.file, self.at, length) {
            let (file, at) = (self.file.clone(), self.at);
            self.warming = Some(tokio::task::spawn_blocking(move || warm(&file, at, length)));
        }
        if let Some(warming) = &mut self.warming {
            let warmed = ready!(Pin::new(warming).poll(cx));
            self.warming = None;
            if let Err(error) = warmed.unwrap_or_else(|error| Err(io::Error::other(error))) {
                self.at = self.end;
                return Poll::Ready(Some(Err(error)));
            }
        }
        self.at += length;
        Poll::Ready(Some(Ok(Bytes::from_static(&MARK[..length as usize]))))
    }
}

/// Whether a part of a file is in memory, as far as its two ends tell.
fn is_warm(file: &File, at: u64, length: u64) -> bool {
    let there = |at: u64| {
        let mut byte = [0];
        let mut buffer = [io::IoSliceMut::new(&mut byte)];
        // A file system that doesn't know has to be taken at its word when it is read.
        let read = rustix::io::preadv2(file, &mut buffer, at, ReadWriteFlags::NOWAIT);
        !matches!(read, Err(Errno::AGAIN))
    };
    there(at) && there(at + length - 1)
}

/// Reads a part of a file into the page cache, and asks for what follows.
fn warm(file: &File, at: u64, length: u64) -> io::Result<()> {
    let ahead = std::num::NonZeroU64::new(length + AHEAD);
    // A hint.
    let _ = rustix::fs::fadvise(file, at, ahead, rustix::fs::Advice::WillNeed);
    let mut piece = [0; 16 << 10];
    let end = at + length;
    let mut at = at;
    while at < end {
        let wanted = piece.len().min((end - at) as usize);
        file.read_exact_at(&mut piece[..wanted], at)?;
        at += wanted as u64;
    }
    Ok(())
}

/// A connection that sends what its outbox has.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    outbox: Outbox,
}

impl Wire {
    pub fn new(stream: TcpStream, outbox: Outbox) -> Wire {
        Wire { stream, outbox }
    }

    fn poll_send(&self, cx: &mut Context<'_>, length: usize) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            let mut parts = self.outbox.parts();
            let Some(part) = parts.front_mut() else {
                return Poll::Ready(Err(io::Error::other("an answer has no file")));
            };
            let count = length.min(usize::try_from(part.left).unwrap_or(usize::MAX));
            let mut at = part.at;
            let sent = self.stream.try_io(Interest::WRITABLE, || {
                Ok(rustix::fs::sendfile(&self.stream, &part.file, Some(&mut at), count)?)
            });
            match sent {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(sent) => {
                    part.at = at;
                    part.left -= sent as u64;
                    if part.left == 0 {
                        parts.pop_front();
                    }
                    return Poll::Ready(Ok(sent));
                }
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if is_mark(bytes) {
            return self.poll_send(cx, bytes.len());
        }
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let buffers = &buffers[buffers.iter().take_while(|buffer| buffer.is_empty()).count()..];
        match buffers.first() {
            Some(first) if is_mark(first) => self.poll_send(cx, first.len()),
            _ => {
                let plain = buffers.iter().take_while(|buffer| !is_mark(buffer)).count();
                Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, &buffers[..plain])
            }
        }
    }

    /// hyper keeps the pieces of a body apart only then.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn file(bytes: &[u8]) -> Arc<File> {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        Arc::new(file)
    }

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (one, other) = tokio::join!(TcpStream::connect(address), listener.accept());
        (one.unwrap(), other.unwrap().0)
    }

    async fn marks_of(mut marks: Marks) -> Vec<Bytes> {
        let mut all = Vec::new();
        while let Some(mark) = std::future::poll_fn(|cx| marks.poll_next(cx)).await {
            all.push(mark.unwrap());
        }
        all
    }

    #[tokio::test]
    async fn files_go_where_their_marks_stand() {
        let (mut client, server) = pair().await;
        let long: Vec<u8> = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
        let outbox = Outbox::default();
        let mut wire = Wire::new(server, outbox.clone());
        let first = marks_of(outbox.put(file(&long), 1, long.len() as u64 - 1)).await;
        let second = marks_of(outbox.put(file(b"second"), 2, 3)).await;
        assert_eq!((first.len(), second.len()), (3, 1));
        assert_eq!(marks_of(outbox.put(file(b""), 0, 0)).await.len(), 0);
        let sent = async move {
            wire.write_all(b"head").await.unwrap();
            for mark in first {
                wire.write_all(&mark).await.unwrap();
            }
            // A head, a file and more at once, as hyper writes them.
            let mut left: VecDeque<&[u8]> = [&b"middle"[..], &second[0], b"end"].into();
            while let Some(next) = left.front() {
                let slices: Vec<_> = left.iter().map(|slice| IoSlice::new(slice)).collect();
                let count = wire.write_vectored(&slices).await.unwrap();
                assert!(count <= next.len());
                match next[count..] {
                    [] => drop(left.pop_front()),
                    ref rest => *left.front_mut().unwrap() = rest,
                }
            }
            assert!(wire.outbox.parts().is_empty());
            // What is to be a file and has none is an error, and so is a file that has become shorter.
            assert!(wire.write(&MARK[..5]).await.is_err());
            let _ = wire.outbox.put(file(b"short"), 0, 6);
            assert_eq!(wire.write(&MARK[..6]).await.unwrap(), 5);
            assert!(wire.write(&MARK[..1]).await.is_err());
        };
        let mut got = Vec::new();
        let (_, read) = tokio::join!(sent, client.read_to_end(&mut got));
        read.unwrap();
        let wanted = [b"head", &long[1..], b"middle", b"con", b"end", b"short"].concat();
        assert!(got == wanted, "{} bytes for {}", got.len(), wanted.len());
    }

    #[tokio::test]
    async fn a_file_that_ends_early_is_found_out_before_it_is_sent() {
        let mut marks = Outbox::default().put(file(b"short"), 0, 5_000_000);
        let read = || warm(&marks.file, 0, 10).unwrap_err().kind();
        assert_eq!(read(), io::ErrorKind::UnexpectedEof);
        marks.end = marks.at;
        assert_eq!(marks.remaining(), 0);
    }
}
