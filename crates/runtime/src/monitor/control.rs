//! Lines to engines: requests come in, events go out to all of them. An engine that is slow never stops the monitor.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use corten_sys::fd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType};

use super::SOCKET;
use super::connection::{make_room, receive_packet};
use super::poll::{Id, Ready};
use super::protocol::Event;

/// Events kept for an engine that does not read; of more, the oldest go, but never the last word on the container.
const EVENTS_MAX: usize = 1024;

pub(super) struct ControlLine {
    pub id: Id,
    socket: OwnedFd,
    queue: VecDeque<Encoded>,
}

/// An event as it is sent.
#[derive(Clone)]
pub(super) struct Encoded {
    bytes: Vec<u8>,
    /// How the container ended, which an engine can't learn by asking.
    last: bool,
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

    /// The next request, still encoded; `Ok(None)` when the engine has gone, `WouldBlock` when there is none now.
    pub(super) fn receive(&self) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
        receive_packet(&self.socket, RecvFlags::DONTWAIT)
    }

    /// Sends an encoded event; false when the line is of no use any more.
    pub(super) fn send(&mut self, event: &Encoded) -> bool {
        if self.queue.is_empty() {
            match fd::send(self.socket.as_fd(), &event.bytes, &[]) {
                Ok(_) => return true,
                Err(Errno::AGAIN | Errno::NOBUFS) => {}
                Err(_) => return false,
            }
        }
        self.queue.push_back(event.clone());
        if self.queue.len() > EVENTS_MAX
            && let Some(oldest) = self.queue.iter().position(|event| !event.last)
        {
            self.queue.remove(oldest);
        }
        true
    }

    /// Sends what was queued; false when the line is of no use any more.
    pub(super) fn flush(&mut self) -> bool {
        while let Some(event) = self.queue.front() {
            match fd::send(self.socket.as_fd(), &event.bytes, &[]) {
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

pub(super) fn encode(event: &Event) -> Encoded {
    Encoded {
        // Plain data without maps: cannot fail.
        bytes: serde_json::to_vec(event).unwrap_or_default(),
        last: matches!(event, Event::Exited { .. } | Event::Failed { .. }),
    }
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

#[cfg(test)]
mod tests {
    use rustix::net::socketpair;

    use super::super::protocol::{Exit, Timestamp};
    use super::*;

    #[test]
    fn an_engine_that_does_not_read_loses_old_events_and_never_the_exit() {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let mut line = ControlLine::new(1, ours).unwrap();
        let exec = |code| encode(&Event::ExecExited { exec: "e".into(), code });
        let exit = Exit { code: 7, started: Timestamp(1), finished: Timestamp(2), ..Exit::default() };
        while line.queue.is_empty() {
            assert!(line.send(&exec(1)));
        }
        assert!(line.send(&encode(&Event::Exited { exit: exit.clone() })));
        for _ in 0..2 * EVENTS_MAX {
            assert!(line.send(&exec(2)));
        }
        assert_eq!(line.queue.len(), EVENTS_MAX);

        let (mut told, mut codes) = (Vec::new(), Vec::new());
        loop {
            assert!(line.flush());
            match receive_packet(&theirs, RecvFlags::DONTWAIT) {
                Ok(Some((event, _))) => match serde_json::from_slice(&event).unwrap() {
                    Event::Exited { exit } => told.push(exit),
                    Event::ExecExited { code, .. } => codes.push(code),
                    event => panic!("{event:?}"),
                },
                end => {
                    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        assert_eq!(told, [exit]);
        assert_eq!(codes.last(), Some(&2));
    }
}
