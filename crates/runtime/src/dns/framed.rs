//! DNS over TCP: messages with their length in front (RFC 1035, 4.2.2), on a stream that never blocks.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};

pub(super) struct Framed {
    stream: TcpStream,
    /// What has come of the next messages.
    input: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
}

/// What became of waiting for a message.
pub(super) enum Received {
    Message(Vec<u8>),
    /// There is none yet.
    Nothing,
    /// There will be none.
    End,
}

impl Framed {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, input: Vec::new(), output: Vec::new(), sent: 0 }
    }

    /// Takes the next message; one of more than `bytes_max` bytes ends the conversation.
    pub(super) fn receive(&mut self, bytes_max: usize) -> Received {
        loop {
            let wanted = match self.input.first_chunk::<2>() {
                Some(length) => 2 + usize::from(u16::from_be_bytes(*length)),
                None => 2,
            };
            if wanted > 2 + bytes_max || (wanted == 2 && self.input.len() >= 2) {
                return Received::End;
            }
            if wanted > 2 && self.input.len() >= wanted {
                let rest = self.input.split_off(wanted);
                let mut message = std::mem::replace(&mut self.input, rest);
                message.drain(..2);
                return Received::Message(message);
            }
            let mut chunk = [0; 2048];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Received::End,
                Ok(read) => self.input.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Received::Nothing,
                Err(_) => return Received::End,
            }
        }
    }

    /// Puts a message on its way; [`Framed::flush`] sends it.
    pub(super) fn queue(&mut self, message: &[u8]) {
        // Longer ones are not made here and don't come in.
        let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
        self.output.extend(length.to_be_bytes());
        self.output.extend_from_slice(&message[..usize::from(length)]);
    }

    /// Sends what is queued; true when nothing is left.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        while self.sent < self.output.len() {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        (self.output, self.sent) = (Vec::new(), 0);
        Ok(true)
    }
}

impl AsFd for Framed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
