//! Network namespaces, held by descriptor only: never pinned to a path, so that one is gone with its last
//! process, socket and descriptor, however those end.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::raw::{Result, numbers, syscall};

/// The calling thread's network namespace.
pub fn current() -> io::Result<OwnedFd> {
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}

/// Moves the calling thread into a new, empty network namespace.
pub fn unshare() -> io::Result<()> {
    // SAFETY: only CLONE_FILES makes `unshare` unsound (other threads' descriptors); a network namespace
    // changes nothing but which network the calling thread sees.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.map_err(io::Error::from)
}

/// Moves the calling thread into `namespace`.
pub fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network)).map_err(io::Error::from)
}

/// The network namespace that a socket belongs to (netdevice(7), `SIOCGSKNS`).
pub fn of_socket(socket: BorrowedFd<'_>) -> Result<OwnedFd> {
    const SIOCGSKNS: usize = 0x894c;
    let fd = numbers(libc::SYS_ioctl, [socket.as_raw_fd() as usize, SIOCGSKNS, 0, 0, 0, 0])?;
    // SAFETY: the call has just opened this descriptor (close-on-exec) for its caller.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Switches on the loopback interface of the calling thread's network namespace. Allocates nothing.
pub fn loopback_up() -> Result<()> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: all bytes zero are a valid `ifreq`, a structure of numbers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    let arguments =
        [socket.as_raw_fd() as usize, libc::SIOCSIFFLAGS as usize, &raw const request as usize, 0, 0, 0];
    // SAFETY: the socket is open, and the request is what this ioctl reads.
    unsafe { syscall(libc::SYS_ioctl, arguments).map(drop) }
}
