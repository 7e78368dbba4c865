//! Netlink: one socket, batches of messages, and what the kernel says to them.
//!
//! Owns the framing (message headers, attributes, acknowledgements, dumps) and nothing of what the
//! messages mean: link, route and firewall builders live in `corten-network`.
//!
//! A socket stays bound to the network namespace of the thread that opened it, whatever that thread
//! or the socket's later users do: work in a foreign namespace needs one `setns`, to open.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const NLMSG_HEADER_LEN: usize = 16;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE_MASK: u16 = 0x3fff;
const NLMSGERR_ATTR_MSG: u16 = 1;
const SOL_NETLINK: i32 = 270;
const NETLINK_ADD_MEMBERSHIP: i32 = 1;
const NETLINK_CAP_ACK: i32 = 10;
const NETLINK_EXT_ACK: i32 = 11;
const NETLINK_GET_STRICT_CHK: i32 = 12;

/// The largest datagram the kernel makes for a dump is 32 KiB; an acknowledgement is far smaller.
const RECEIVE_BYTES: usize = 64 * 1024;
const RECEIVE_BUFFER_BYTES: i32 = 1 << 20;
const SEND_BUFFER_BYTES: i32 = 16 << 20;
/// Requests run in the sender's context, so an answer is there when `send` returns. A dump continues
/// on each read. Waiting this long means that the kernel will never answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a dump is begun again after the kernel said that its table changed meanwhile.
const DUMP_ATTEMPTS: usize = 8;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("netlink: {step}")]
    Socket { step: &'static str, source: io::Error },
    /// The kernel refused message number `index` of the batch.
    #[error("{}{}", io::Error::from_raw_os_error(*code), detail.as_ref().map(|d| format!(" ({d})")).unwrap_or_default())]
    Refused { index: usize, code: i32, detail: Option<String> },
    #[error("netlink: the kernel sent a malformed message")]
    Malformed,
    #[error("netlink: the table kept changing while it was read")]
    Interrupted,
}

impl Error {
    /// The errno of a refusal.
    pub fn code(&self) -> Option<i32> {
        match self {
            Error::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Route,
    Netfilter,
}

/// Several netlink messages that go to the kernel in one `send`.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl Batch {
    pub fn new() -> Batch {
        Batch::default()
    }

    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Size on the wire.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// Begins a message; `fixed` is the family's own header (`ifinfomsg`, `nfgenmsg`, …).
    pub fn message(&mut self, kind: u16, flags: u16, fixed: &[u8]) -> Message<'_> {
        let start = self.bytes.len();
        self.starts.push(start);
        self.bytes.extend_from_slice(&[0; NLMSG_HEADER_LEN]);
        self.bytes[start + 4..start + 6].copy_from_slice(&kind.to_ne_bytes());
        self.bytes[start + 6..start + 8].copy_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(fixed);
        pad(&mut self.bytes);
        Message { batch: self, start }
    }

    fn seal(&mut self, first_sequence: u32, acknowledge: Option<usize>) {
        for (index, &start) in self.starts.iter().enumerate() {
            let sequence = first_sequence.wrapping_add(index as u32);
            self.bytes[start + 8..start + 12].copy_from_slice(&sequence.to_ne_bytes());
            if acknowledge == Some(index) {
                let flags = u16::from_ne_bytes([self.bytes[start + 6], self.bytes[start + 7]]);
                self.bytes[start + 6..start + 8].copy_from_slice(&(flags | NLM_F_ACK).to_ne_bytes());
            }
        }
    }
}

/// The message that is being written; its length is fixed up when this is dropped.
pub struct Message<'a> {
    batch: &'a mut Batch,
    start: usize,
}

impl Message<'_> {
    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let buffer = &mut self.batch.bytes;
        buffer.extend_from_slice(&((value.len() + 4) as u16).to_ne_bytes());
        buffer.extend_from_slice(&kind.to_ne_bytes());
        buffer.extend_from_slice(value);
        pad(buffer);
        self
    }

    /// A string attribute with its closing zero byte.
    pub fn string(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    pub fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.bytes(kind, &[value])
    }

    pub fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Netfilter's attributes are big-endian.
    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub fn be64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// An attribute that holds what `fill` writes.
    pub fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.batch.bytes.len();
        self.batch.bytes.extend_from_slice(&[0; 4]);
        fill(self);
        let length = (self.batch.bytes.len() - start) as u16;
        self.batch.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.batch.bytes[start + 2..start + 4].copy_from_slice(&(kind | NLA_F_NESTED).to_ne_bytes());
        self
    }

    /// A fixed structure inside a nested attribute (`VETH_INFO_PEER` starts with an `ifinfomsg`).
    pub fn raw(&mut self, value: &[u8]) -> &mut Self {
        self.batch.bytes.extend_from_slice(value);
        pad(&mut self.batch.bytes);
        self
    }
}

impl Drop for Message<'_> {
    fn drop(&mut self) {
        let length = (self.batch.bytes.len() - self.start) as u32;
        self.batch.bytes[self.start..self.start + 4].copy_from_slice(&length.to_ne_bytes());
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// A message from the kernel.
#[derive(Debug, Clone)]
pub struct Received {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    /// For a notification: the port of the socket whose request caused it.
    pub port: u32,
    /// Everything behind the netlink header.
    pub payload: Vec<u8>,
}

/// Iterates over the attributes in `bytes` as (type, value); stops at the first malformed one.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(rest.get(0..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?) & NLA_TYPE_MASK;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of that type.
pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// A string attribute's value, without the closing zero byte.
pub fn text(value: &[u8]) -> &str {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    std::str::from_utf8(&value[..end]).unwrap_or_default()
}

/// A netlink socket in the namespace of the thread that opened it.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    port: u32,
    sequence: Cell<u32>,
}

impl Socket {
    pub fn open(protocol: Protocol) -> Result<Socket, Error> {
        let number = match protocol {
            Protocol::Route => None,
            Protocol::Netfilter => Some(net::netlink::NETFILTER),
        };
        let fd = net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, number)
            .map_err(socket_error("socket"))?;
        net::bind(&fd, &net::netlink::SocketAddrNetlink::new(0, 0)).map_err(socket_error("bind"))?;
        let address = net::getsockname(&fd).map_err(socket_error("getsockname"))?;
        let address = net::netlink::SocketAddrNetlink::try_from(address).map_err(|_| Error::Malformed)?;
        net::sockopt::set_socket_timeout(&fd, net::sockopt::Timeout::Recv, Some(ANSWER_TIMEOUT))
            .map_err(socket_error("SO_RCVTIMEO"))?;
        let socket = Socket { fd, port: address.pid(), sequence: Cell::new(1) };
        socket.set_option(SOL_NETLINK, NETLINK_EXT_ACK, 1)?;
        socket.set_option(SOL_NETLINK, NETLINK_CAP_ACK, 1)?;
        // Strict checking makes the kernel honour filters in dump requests; a kernel before 4.20 lacks it.
        let _ = socket.set_option(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1);
        // The forced variants pass net.core.[rw]mem_max; without CAP_NET_ADMIN the plain ones must do.
        if socket.set_option(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES).is_err() {
            socket.set_option(libc::SOL_SOCKET, libc::SO_RCVBUF, RECEIVE_BUFFER_BYTES)?;
        }
        if socket.set_option(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, SEND_BUFFER_BYTES).is_err() {
            socket.set_option(libc::SOL_SOCKET, libc::SO_SNDBUF, SEND_BUFFER_BYTES)?;
        }
        Ok(socket)
    }

    /// The port that the kernel names as the cause of notifications about this socket's requests.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Sends the whole batch at once and waits until the kernel has worked through it.
    ///
    /// A rtnetlink batch is not atomic: the kernel goes on behind a refused message; the first refusal is returned.
    pub fn transact(&self, batch: &mut Batch) -> Result<(), Error> {
        let Some(last) = batch.len().checked_sub(1) else { return Ok(()) };
        self.transact_until(batch, last)
    }

    /// Like [`Socket::transact`] for nf_tables: `batch` is wrapped between `NFNL_MSG_BATCH_BEGIN` and
    /// `_END` already, and what counts is the answer to the last message between them. All or nothing.
    pub fn transact_atomic(&self, batch: &mut Batch) -> Result<(), Error> {
        match batch.len() {
            0..=2 => Ok(()),
            count => self.transact_until(batch, count - 2),
        }
    }

    /// Only the message `last` asks for an acknowledgement: refusals of the others come by themselves and
    /// before it, as the kernel answers in order. An error for message 0 is final too, because that is
    /// how nfnetlink tells that it dropped or could not commit the whole batch.
    fn transact_until(&self, batch: &mut Batch, last: usize) -> Result<(), Error> {
        let first = self.next_sequences(batch.len());
        batch.seal(first, Some(last));
        self.send(&batch.bytes)?;
        let mut refused: Option<Error> = None;
        let mut buffer = vec![0; RECEIVE_BYTES];
        loop {
            for message in self.receive_into(&mut buffer, RecvFlags::empty())? {
                let index = message.sequence.wrapping_sub(first) as usize;
                if message.kind != NLMSG_ERROR || index >= batch.len() {
                    continue;
                }
                let code = error_code(&message)?;
                if code != 0 && refused.is_none() {
                    refused = Some(Error::Refused { index, code, detail: error_detail(&message) });
                }
                if index == last || (index == 0 && code != 0) {
                    self.drain(&mut buffer)?;
                    return refused.map_or(Ok(()), Err);
                }
            }
        }
    }

    /// Sends one request and returns the answers to it: one message, or all of a dump.
    pub fn request(&self, batch: &mut Batch) -> Result<Vec<Received>, Error> {
        debug_assert_eq!(batch.len(), 1);
        let flags = batch.bytes.get(6..8).map_or(0, |f| u16::from_ne_bytes([f[0], f[1]]));
        let dump = flags & NLM_F_DUMP == NLM_F_DUMP;
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(answers) = self.request_once(batch, dump)? {
                return Ok(answers);
            }
        }
        Err(Error::Interrupted)
    }

    fn request_once(&self, batch: &mut Batch, dump: bool) -> Result<Option<Vec<Received>>, Error> {
        let first = self.next_sequences(1);
        batch.seal(first, (!dump).then_some(0));
        self.send(&batch.bytes)?;
        let mut answers = Vec::new();
        let mut consistent = true;
        let mut buffer = vec![0; RECEIVE_BYTES];
        loop {
            for message in self.receive_into(&mut buffer, RecvFlags::empty())? {
                if message.sequence != first {
                    continue;
                }
                consistent &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.kind {
                    NLMSG_ERROR => {
                        let code = error_code(&message)?;
                        if code != 0 {
                            return Err(Error::Refused { index: 0, code, detail: error_detail(&message) });
                        }
                        return Ok(Some(answers));
                    }
                    NLMSG_DONE => return Ok(consistent.then_some(answers)),
                    _ => answers.push(message),
                }
            }
        }
    }

    /// Joins a multicast group, to be told what others change.
    pub fn subscribe(&self, group: u32) -> Result<(), Error> {
        self.set_option(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group as i32)
    }

    /// Takes the notifications that have come; waits for nothing. `None`: some were lost for want of room.
    pub fn notifications(&self) -> Result<Option<Vec<Received>>, Error> {
        let mut buffer = vec![0; RECEIVE_BYTES];
        let mut all = Vec::new();
        loop {
            match self.receive_into(&mut buffer, RecvFlags::DONTWAIT) {
                Ok(messages) => all.extend(messages),
                Err(Error::Socket { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Some(all));
                }
                Err(Error::Socket { source, .. }) if source.raw_os_error() == Some(libc::ENOBUFS) => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn next_sequences(&self, count: usize) -> u32 {
        let first = self.sequence.get();
        self.sequence.set(first.wrapping_add(count as u32));
        first
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Error> {
        let sent = retry(|| net::send(&self.fd, bytes, SendFlags::empty())).map_err(socket_error("send"))?;
        if sent == bytes.len() { Ok(()) } else { Err(Error::Malformed) }
    }

    fn receive_into(&self, buffer: &mut [u8], flags: RecvFlags) -> Result<Vec<Received>, Error> {
        let (_, length) = retry(|| net::recv(&self.fd, &mut *buffer, flags | RecvFlags::TRUNC))
            .map_err(socket_error("receive"))?;
        messages(buffer.get(..length).ok_or(Error::Malformed)?)
    }

    fn drain(&self, buffer: &mut [u8]) -> Result<(), Error> {
        loop {
            match self.receive_into(buffer, RecvFlags::DONTWAIT) {
                Ok(_) => {}
                Err(Error::Socket { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn set_option(&self, level: i32, name: i32, value: i32) -> Result<(), Error> {
        // SAFETY: the option's value is a live i32 of the stated length for the duration of the call.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                name,
                (&raw const value).cast(),
                size_of::<i32>() as libc::socklen_t,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(Error::Socket { step: "setsockopt", source: io::Error::last_os_error() })
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn socket_error(step: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::Socket { step, source: errno.into() }
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

fn messages(mut bytes: &[u8]) -> Result<Vec<Received>, Error> {
    let mut found = Vec::new();
    while bytes.len() >= NLMSG_HEADER_LEN {
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let length = word(0) as usize;
        let payload = bytes.get(NLMSG_HEADER_LEN..length).ok_or(Error::Malformed)?;
        found.push(Received {
            kind: u16::from_ne_bytes([bytes[4], bytes[5]]),
            flags: u16::from_ne_bytes([bytes[6], bytes[7]]),
            sequence: word(8),
            port: word(12),
            payload: payload.to_vec(),
        });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(found)
}

/// The positive errno of an `NLMSG_ERROR`, 0 for an acknowledgement.
fn error_code(message: &Received) -> Result<i32, Error> {
    let bytes = message.payload.get(..4).ok_or(Error::Malformed)?;
    Ok(i32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]).wrapping_neg())
}

/// The kernel's own words (`NLMSGERR_ATTR_MSG`); they follow the offending message, or only its header
/// where `NETLINK_CAP_ACK` cut it.
fn error_detail(message: &Received) -> Option<String> {
    if message.flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let offending = message.payload.get(4..)?;
    let length = if message.flags & NLM_F_CAPPED != 0 {
        NLMSG_HEADER_LEN
    } else {
        u32::from_ne_bytes(offending.get(..4)?.try_into().ok()?) as usize
    };
    let extended = offending.get(length.next_multiple_of(4)..)?;
    attribute(extended, NLMSGERR_ATTR_MSG).map(|value| text(value).to_owned())
}

#[cfg(test)]
mod tests;
