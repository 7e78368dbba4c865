//! Terminals and process descriptors for others: sent over a unix socket, as runc's callers expect them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use corten_sys::fd;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::arguments::Arguments;
use crate::failure::{Failure, Outcome};

/// A terminal needs somebody who has its other end: the caller's socket, or this process as long as it stays.
pub fn check(terminal: bool, detached: bool, arguments: &Arguments) -> Outcome<()> {
    let socket = arguments.value("console-socket").is_some_and(|path| !path.is_empty());
    match (terminal && detached, socket) {
        (true, false) => {
            Err(Failure::new("cannot allocate a terminal for a detached process without --console-socket"))
        }
        (false, true) => Err(Failure::new(
            "--console-socket is only for a process that is detached and has a terminal (process.terminal, or --tty)",
        )),
        _ => Ok(()),
    }
}

/// Sends the terminal's master.
pub fn send(path: &str, master: BorrowedFd<'_>) -> Outcome<()> {
    send_fd(path, b"/dev/ptmx", master)
}

/// Sends the process's descriptor, if that was asked for.
pub fn send_pidfd(arguments: &Arguments, pidfd: &OwnedFd) -> Outcome<()> {
    match arguments.value("pidfd-socket").filter(|path| !path.is_empty()) {
        Some(path) => send_fd(path, b"pidfd", pidfd.as_fd()),
        None => Ok(()),
    }
}

fn send_fd(path: &str, name: &[u8], fd: BorrowedFd<'_>) -> Outcome<()> {
    let connect = || {
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        fd::send(socket.as_fd(), name, &[fd])
    };
    connect().map(drop).map_err(Failure::during(path))
}
