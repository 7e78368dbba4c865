//! One line between an engine and a monitor, from the engine's end, and how packets are read at both.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use corten_sys::fd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use serde::de::DeserializeOwned;

use super::SOCKET;
use super::protocol::{Event, Request};

/// Room for the largest packet: an exec's arguments and environment.
const PACKET_BYTES_MAX: usize = 4 << 20;

/// The engine's end of the line to one monitor.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
}

impl Connection {
    /// Takes an end of a socket pair.
    pub(super) fn new(socket: OwnedFd) -> Self {
        make_room(&socket);
        Self { socket }
    }

    /// Connects to the monitor of a running container again.
    pub fn open(run_dir: &Path) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        // By the descriptor of the directory: a socket's path must not have more than 107 bytes.
        let dir = rustix::fs::open(
            run_dir,
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )?;
        let path = format!("/proc/self/fd/{}/{SOCKET}", std::os::fd::AsRawFd::as_raw_fd(&dir));
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self::new(socket))
    }

    /// Sends a request with its descriptors; waits while the monitor is busy.
    pub fn send(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let data = serde_json::to_vec(request)?;
        fd::send(self.socket.as_fd(), &data, fds)?;
        Ok(())
    }

    /// Waits for the next event; `None` once the monitor has closed the line: everything of the container is gone.
    pub fn recv(&self) -> io::Result<Option<Event>> {
        receive(&self.socket, RecvFlags::empty())
    }

    /// Like [`Connection::recv`], but gives `WouldBlock` when there is no event now.
    pub fn try_recv(&self) -> io::Result<Option<Event>> {
        receive(&self.socket, RecvFlags::DONTWAIT)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Lets large packets through. Without the right to exceed the system's bound, what it allows has to do.
pub(super) fn make_room(socket: &OwnedFd) {
    let forced = sockopt::set_socket_send_buffer_size_force(socket, PACKET_BYTES_MAX);
    if forced.is_err() {
        let _ = sockopt::set_socket_send_buffer_size(socket, PACKET_BYTES_MAX);
    }
}

/// Reads one document; `None` at the end of the line.
fn receive<T: DeserializeOwned>(socket: &OwnedFd, flags: RecvFlags) -> io::Result<Option<T>> {
    let Some((data, _)) = receive_packet(socket, flags)? else { return Ok(None) };
    Ok(Some(serde_json::from_slice(&data)?))
}

/// Reads one packet of any size; `None` at the end of the line.
pub(super) fn receive_packet(
    socket: &OwnedFd,
    flags: RecvFlags,
) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut probe = [0; 1];
    let look = flags | RecvFlags::PEEK | RecvFlags::TRUNC;
    let len = loop {
        match rustix::net::recv(socket, &mut probe, look) {
            Ok((_, len)) => break len,
            Err(Errno::INTR) => {}
            // The monitor has ended with requests unread.
            Err(Errno::CONNRESET) => return Ok(None),
            Err(e) => return Err(e.into()),
        }
    };
    let mut data = vec![0; len];
    let mut fds = Vec::new();
    // An empty packet is not distinguishable from the end, and nobody sends one.
    let len = fd::receive(socket.as_fd(), &mut data, &mut fds)?;
    if len == 0 {
        return Ok(None);
    }
    data.truncate(len);
    Ok(Some((data, fds)))
}
