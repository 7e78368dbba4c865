//! One attached client: a socket that gets the streams of a container or an exec, and may feed its stdin.
//!
//! Writes never block. What the socket does not take is queued; a queue over [`QUEUE_MAX`] makes the monitor stop
//! reading from the container, so that a slow client slows the container down, as a terminal does. For how long is the monitor's
//! to say.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};

use super::detach::DetachKeys;
use super::poll::{Id, Ready};
use super::protocol::Attach;
use crate::log::Stream;

/// Queued bytes from which on a client counts as full.
pub(super) const QUEUE_MAX: usize = 256 * 1024;
/// Queued bytes below which it does no longer.
const QUEUE_LOW: usize = 64 * 1024;

pub(super) struct Attached {
    pub id: Id,
    /// Whose streams it sees.
    pub session: Id,
    socket: OwnedFd,
    pub attach: Attach,
    pub keys: DetachKeys,
    /// Stdin is read from it: it wants that, and has not half-closed.
    pub reading: bool,
    /// Nothing more will be written: it goes once the queue is empty.
    pub closing: bool,
    queue: VecDeque<u8>,
    /// Since when it has not taken a byte although there were some.
    pub waiting_since: Option<Instant>,
    /// Since when it has been full without a break.
    pub full_since: Option<Instant>,
    /// What epoll watches it for; `None`: not in epoll.
    pub watched: Option<Ready>,
    /// It has hung up and left input that the process does not take yet: not in epoll, which would report nothing else.
    pub parked: bool,
}

/// The client is gone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone;

impl Attached {
    pub(super) fn new(id: Id, session: Id, socket: OwnedFd, mut attach: Attach) -> Self {
        let keys = DetachKeys::new(std::mem::take(&mut attach.detach_keys));
        Self {
            id,
            session,
            socket,
            reading: attach.stdin,
            attach,
            keys,
            closing: false,
            queue: VecDeque::new(),
            waiting_since: None,
            full_since: None,
            watched: None,
            parked: false,
        }
    }

    pub(super) fn wants(&self, stream: Stream) -> bool {
        match stream {
            Stream::Stdout => self.attach.stdout,
            Stream::Stderr => self.attach.stderr,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.full_since.is_some()
    }

    pub(super) fn is_done(&self) -> bool {
        self.closing && self.queue.is_empty()
    }

    /// What this client is to be watched for. Errors and hang-ups are always reported.
    pub(super) fn interest(&self, input_blocked: bool) -> Ready {
        let mut ready = Ready::empty();
        ready.set(Ready::IN, self.reading && !input_blocked && !self.closing);
        ready.set(Ready::OUT, !self.queue.is_empty());
        ready
    }

    /// Hands on what the process wrote, with Docker's header (stream, three zeros, length) unless raw.
    pub(super) fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), Gone> {
        if self.closing {
            return Ok(());
        }
        let [a, b, c, d] = (bytes.len() as u32).to_be_bytes();
        let header = [stream as u8, 0, 0, 0, a, b, c, d];
        let header = if self.attach.raw { &header[..0] } else { &header[..] };
        let mut sent = 0;
        if self.queue.is_empty() {
            sent = self.send(&[IoSlice::new(header), IoSlice::new(bytes)])?;
        }
        if sent < header.len() + bytes.len() {
            self.queue.extend(&header[sent.min(header.len())..]);
            self.queue.extend(&bytes[sent.saturating_sub(header.len())..]);
            self.waiting_since.get_or_insert_with(Instant::now);
            if self.queue.len() > QUEUE_MAX {
                self.full_since.get_or_insert_with(Instant::now);
            }
        }
        Ok(())
    }

    /// Writes from the queue what the socket takes.
    pub(super) fn flush(&mut self) -> Result<(), Gone> {
        while !self.queue.is_empty() {
            let (first, second) = self.queue.as_slices();
            let sent = self.send(&[IoSlice::new(first), IoSlice::new(second)])?;
            if sent == 0 {
                return Ok(());
            }
            self.queue.drain(..sent);
            self.waiting_since = Some(Instant::now());
            self.full_since = self.full_since.filter(|_| self.queue.len() > QUEUE_LOW);
        }
        self.queue = VecDeque::new();
        self.waiting_since = None;
        Ok(())
    }

    /// Reads what the client typed; 0 when it has half-closed, `None` when there is nothing now.
    pub(super) fn read(&self, buffer: &mut [u8]) -> Result<Option<usize>, Gone> {
        match rustix::net::recv(&self.socket, buffer, RecvFlags::DONTWAIT) {
            Ok((_, n)) => Ok(Some(n)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(_) => Err(Gone),
        }
    }

    /// Says goodbye: others may hold copies of the descriptor, so that closing it would not be noticed.
    pub(super) fn hang_up(&self) {
        // It may have gone first.
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Both);
        // Closing a socket with unread input makes the peer's next read fail instead of ending. More than is there now does not come.
        let mut discarded = [0; 4096];
        while let Ok((_, 1..)) = rustix::net::recv(&self.socket, &mut discarded, RecvFlags::DONTWAIT) {}
    }

    fn send(&self, parts: &[IoSlice<'_>]) -> Result<usize, Gone> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match rustix::net::sendmsg(&self.socket, parts, &mut SendAncillaryBuffer::default(), flags) {
            Ok(n) => Ok(n),
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(_) => Err(Gone),
        }
    }
}

impl AsFd for Attached {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
