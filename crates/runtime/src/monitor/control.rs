//! Lines to engines: requests come in, events go out to all of them. An engine that is slow never stops the monitor.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use corten_sys::fd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType};

use super::SOCKET;
use super::connection::{make_room, receive};
use super::poll::{Id, Ready};
use super::protocol::{Event, Request};

/// Events kept for an engine that does not read; a line with more is cut.
const EVENTS_MAX: usize = 1024;

pub(super) struct ControlLine {
    pub id: Id,
    socket: OwnedFd,
    queue: VecDeque<Vec<u8>>,
}

impl ControlLine {
    pub(super) fn new(id: Id, socket: OwnedFd) -> Result<Self, Errno> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        make_room(&socket);
        Ok(Self { id, socket, queue: VecDeque::new() })
    }

    pub(super) fn interest(&self) -> Ready {
        if self.queue.is_empty() { Ready::IN } else { Ready::IN | Ready::OUT }
    }

    /// The next request; `Ok(None)` when the engine has gone, `WouldBlock` when there is none now.
    pub(super) fn receive(&self) -> io::Result<Option<(Request, Vec<OwnedFd>)>> {
        receive(&self.socket, RecvFlags::DONTWAIT)
    }

    /// Sends an encoded event; false when the line is of no use any more.
    pub(super) fn send(&mut self, event: &[u8]) -> bool {
        if self.queue.is_empty() {
            match fd::send(self.socket.as_fd(), event, &[]) {
                Ok(_) => return true,
                Err(Errno::AGAIN | Errno::NOBUFS) => {}
                Err(_) => return false,
            }
        }
        self.queue.push_back(event.to_vec());
        self.queue.len() <= EVENTS_MAX
    }

    /// Sends what was queued; false when the line is of no use any more.
    pub(super) fn flush(&mut self) -> bool {
        while let Some(event) = self.queue.front() {
            match fd::send(self.socket.as_fd(), event, &[]) {
                Ok(_) => drop(self.queue.pop_front()),
                Err(Errno::AGAIN | Errno::NOBUFS) => return true,
                Err(_) => return false,
            }
        }
        self.queue = VecDeque::new();
        true
    }
}

impl AsFd for ControlLine {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

pub(super) fn encode(event: &Event) -> Vec<u8> {
    // Plain data without maps: cannot fail.
    serde_json::to_vec(event).unwrap_or_default()
}

/// The socket at which engines find the monitor again: for root only.
pub(super) fn listen(run_dir: &Path) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    // Relative to the directory: a socket's path must not have more than 107 bytes.
    rustix::process::chdir(run_dir)?;
    let bound = bind(&socket);
    rustix::process::chdir("/")?;
    bound?;
    rustix::net::listen(&socket, 16)?;
    Ok(socket)
}

fn bind(socket: &OwnedFd) -> Result<(), Errno> {
    match rustix::fs::unlink(SOCKET) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(e) => return Err(e),
    }
    let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let bound = rustix::net::bind(socket, &SocketAddrUnix::new(SOCKET)?);
    rustix::process::umask(mask);
    bound
}

/// Takes the next engine that knocks; `None` when there is none.
pub(super) fn accept(listener: &OwnedFd) -> Option<OwnedFd> {
    rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).ok()
}
