//! Descriptors: sending them to other processes, marking ranges of them.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use crate::raw::{Result, numbers, syscall};

/// The most descriptors that one packet carries here.
pub const FDS_MAX: usize = 16;

/// Sends one packet with descriptors. Allocates nothing.
pub fn send(socket: BorrowedFd<'_>, data: &[u8], fds: &[BorrowedFd<'_>]) -> Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(rustix::io::Errno::INVAL);
    }
    rustix::io::retry_on_intr(|| sendmsg(socket, &[IoSlice::new(data)], &mut control, SendFlags::NOSIGNAL))
}

/// Whether the peer has yet to read something that was written to a unix socket (unix(7), `SIOCOUTQ`).
pub fn is_unread(socket: BorrowedFd<'_>) -> Result<bool> {
    let mut unread: libc::c_int = 0;
    let arguments =
        [socket.as_raw_fd() as usize, libc::TIOCOUTQ as usize, (&raw mut unread) as usize, 0, 0, 0];
    // SAFETY: the socket is open, and the kernel writes one int to the address, which outlives the call.
    unsafe { syscall(libc::SYS_ioctl, arguments)? };
    Ok(unread > 0)
}

/// Receives one packet and the descriptors that came with it (close-on-exec); 0 bytes at the end of the stream.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = rustix::io::retry_on_intr(|| {
        recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    for ancillary in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = ancillary {
            fds.extend(received);
        }
    }
    Ok(message.bytes)
}

/// Marks all descriptors from `first` on close-on-exec.
pub fn close_on_exec_from(first: RawFd) -> Result<()> {
    const CLOSE_RANGE_CLOEXEC: usize = 4;
    numbers(libc::SYS_close_range, [first as usize, u32::MAX as usize, CLOSE_RANGE_CLOEXEC, 0, 0, 0])
        .map(drop)
}

/// Closes all descriptors from `first` on, whoever owns them: for a process that stays without using any of its values again.
pub fn close_from(first: RawFd) -> Result<()> {
    numbers(libc::SYS_close_range, [first as usize, u32::MAX as usize, 0, 0, 0, 0]).map(drop)
}
