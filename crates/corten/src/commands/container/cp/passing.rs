//! Archives to and from an engine on this host, with the descriptors of large files. Runs on a thread.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use corten_api::client::{Hijacked, passed};
use corten_image::files::{PackError, Receiver, Sender, Source, UnpackOptions, pack};

use super::local;
use super::stream::{Counted, Meter, in_full};
use crate::cli::Failure;

/// Unpacks what the engine sends below a directory.
pub fn receive(
    socket: OwnedFd,
    directory: &str,
    options: &UnpackOptions,
    meter: Meter,
) -> Result<(), Failure> {
    local::unpack_into(directory, Counted { inner: Receiver::new(socket)?, meter }, options)
}

/// Sends an archive, and reads what the engine makes of it.
pub fn send(socket: OwnedFd, begun: &[u8], source: Source, meter: Meter) -> Result<(), Failure> {
    let mut answers = UnixStream::from(socket.try_clone()?);
    let sent = Sender::new(socket, begun).map_err(PackError::Write).and_then(|sender| {
        let mut counted = Counted { inner: sender, meter };
        pack(source, &mut counted)?;
        counted.inner.finish().map_err(PackError::Write)
    });
    if let Err(error @ PackError::Read { .. }) = &sent {
        return Err(Failure::new(in_full(error)));
    }
    // What came along with the head of the engine's answer, but for its first byte, by which it says that it is ready.
    let mut reply = begun.strip_prefix(&[0]).unwrap_or(begun).to_vec();
    // An engine that refuses reads no further: why it does stands in its answer.
    let read = answers.read_to_end(&mut reply);
    match sent {
        _ if !reply.is_empty() => Ok(passed(&reply)?),
        Err(error) => Err(Failure::new(in_full(&error))),
        Ok(_) => {
            read?;
            Err(Failure::new("the engine ended before it had unpacked everything"))
        }
    }
}

/// The socket, for calls that wait.
pub fn blocking(hijacked: Hijacked) -> io::Result<(OwnedFd, Vec<u8>)> {
    let begun = hijacked.head.to_vec();
    let socket = hijacked.socket.into_fd()?;
    rustix::io::ioctl_fionbio(&socket, false)?;
    Ok((socket, begun))
}
