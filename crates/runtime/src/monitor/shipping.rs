//! Sending a container's output to the receiver of its log: one connection, made again when it breaks.
//!
//! Nothing here blocks. What the receiver does not take waits in a backlog of bounded size; whether the container then waits or
//! output is lost is the policy's to say ([`RemotePolicy`]). How messages look is `crate::remote`'s.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrAny,
    SocketAddrUnix, SocketFlags, SocketType, sockopt,
};

use super::poll::{Poll, Ready, Token};
use super::protocol::{RemoteAddress, RemoteFormat, RemoteLog, RemotePolicy, Timestamp, Transport};
use crate::log::Stream;
use crate::remote::{Backlog, Chunk, Encoder, Messages};

/// What waits while the container waits, too: above it the container's output is no longer read,
const BACKLOG: usize = 256 * 1024;
/// below it, it is again.
const BACKLOG_LOW: usize = 64 * 1024;
/// Encoded bytes at a time.
const BATCH: usize = 16 * 1024;
/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// A connection that has lasted for so long was one: a receiver that accepts and hangs up at once is as good as none.
const SOUND: Duration = Duration::from_secs(1);
/// The longest pause between two attempts.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// A peer that acknowledges nothing for so long is gone.
const SILENCE_MS: u32 = 60_000;
/// How long the receiver may take nothing of what is left when the container has ended.
const LINGER: Duration = Duration::from_secs(5);
/// Complaints are at least so far apart: a receiver that comes and goes would fill the disk with them.
const QUIET: Duration = Duration::from_secs(60);

pub(super) struct Shipping {
    addresses: Vec<RemoteAddress>,
    host: Option<(String, u16)>,
    /// None of the addresses has answered: the name may mean others by now.
    outdated: bool,
    transport: Transport,
    /// Datagrams to an address that others may hear: an error is the answer to an earlier one, and says nothing of the next.
    is_udp: bool,
    is_journal: bool,
    policy: RemotePolicy,
    encoder: Encoder,
    backlog: Backlog,
    messages: Messages,
    /// The chunk that is being cut into messages, and how far that is.
    current: Option<(Chunk, usize)>,
    batch: Batch,
    link: Link,
    /// Failed attempts in a row.
    failures: u32,
    full: bool,
    /// The container has ended: when to stop waiting for the receiver.
    until: Option<Instant>,
    finish: bool,
    trouble: Option<String>,
    complained: Option<Instant>,
}

enum Link {
    Down { until: Instant },
    Opening { socket: OwnedFd, until: Instant },
    Up { socket: OwnedFd, watched: Option<Ready>, since: Instant },
    GivenUp,
}

/// Encoded messages on their way.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    /// Where each packet, or message of a stream, ends.
    ends: Vec<usize>,
    sent: usize,
    /// Since when nothing of it was taken.
    stuck: Option<Instant>,
}

impl Shipping {
    /// `socket`: the first connection, when somebody else has made it.
    pub(super) fn new(config: RemoteLog, socket: Option<OwnedFd>) -> Self {
        let RemoteLog { format, transport, addresses, host, policy } = config;
        let bytes_max = policy.buffer_bytes_max.map_or(BACKLOG, |bytes| bytes as usize);
        let link = match socket {
            Some(socket) => Link::Up { socket, watched: None, since: Instant::now() },
            None => Link::Down { until: Instant::now() },
        };
        Self {
            is_udp: transport == Transport::Datagram
                && addresses.iter().all(|address| matches!(address, RemoteAddress::Ip(_))),
            is_journal: matches!(format, RemoteFormat::Journald { .. }),
            addresses,
            host,
            outdated: false,
            transport,
            policy,
            encoder: Encoder::new(format, transport),
            backlog: Backlog::new(bytes_max),
            messages: Messages::default(),
            current: None,
            batch: Batch::default(),
            link,
            failures: 0,
            full: false,
            until: None,
            finish: false,
            trouble: None,
            complained: None,
        }
    }

    /// Takes output; what there is no room for is lost, or makes the container wait ([`Shipping::is_full`]).
    pub(super) fn offer(&mut self, stream: Stream, time: Timestamp, bytes: &[u8]) {
        if !matches!(self.link, Link::GivenUp) {
            self.backlog.push(stream, time, bytes, self.container_waits());
        }
    }

    /// Whether the container's output is not to be read now.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// The container has ended: what is left is sent, if the receiver takes it.
    pub(super) fn finish(&mut self) {
        self.until = Some(Instant::now() + LINGER);
        self.finish = true;
    }

    /// Whether nothing more will come of it.
    pub(super) fn is_done(&self) -> bool {
        let empty = self.backlog.len() == 0 && self.current.is_none() && self.batch.ends.is_empty();
        matches!(self.link, Link::GivenUp)
            || self.until.is_some_and(|until| until <= Instant::now())
            || (empty && !self.finish)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.until.is_some() && self.is_done() {
            // The monitor may stay for clients, long after.
            return None;
        }
        let link = match &self.link {
            Link::Down { until } | Link::Opening { until, .. } => Some(*until),
            Link::Up { .. } => self.batch.stuck.and_then(|since| Some(since + self.write_timeout()?)),
            Link::GivenUp => None,
        };
        link.into_iter().chain(self.until).min()
    }

    /// Gives memory back while nothing happens.
    pub(super) fn trim(&mut self) {
        self.backlog.trim();
        self.encoder.trim();
        if self.batch.ends.is_empty() {
            self.batch = Batch::default();
        }
    }

    /// The name that is to be looked up again, once for each time that all addresses have failed.
    pub(super) fn take_lookup(&mut self) -> Option<(String, u16)> {
        if std::mem::take(&mut self.outdated) { self.host.clone() } else { None }
    }

    /// What the name means now.
    pub(super) fn set_addresses(&mut self, addresses: Vec<RemoteAddress>) {
        self.addresses = addresses;
    }

    /// Something to be told to the operator, now and then.
    pub(super) fn take_trouble(&mut self) -> Option<String> {
        if self.complained.is_some_and(|at| at.elapsed() < QUIET) && self.until.is_none() {
            return None;
        }
        let trouble = self.trouble.take();
        let lost = self.backlog.take_lost();
        if trouble.is_none() && lost == 0 {
            return None;
        }
        self.complained = Some(Instant::now());
        let lost = (lost > 0).then(|| format!("{lost} bytes of output were not sent"));
        Some([trouble, lost].into_iter().flatten().collect::<Vec<_>>().join("; "))
    }

    /// The socket has something to tell.
    pub(super) fn ready(&mut self, poll: &Poll, ready: Ready) {
        match &self.link {
            Link::Opening { socket, .. } => match sockopt::socket_error(socket) {
                Ok(Ok(())) => self.connected(poll),
                Ok(Err(error)) | Err(error) => self.failed(poll, &error),
            },
            Link::Up { socket, .. }
                if ready.intersects(Ready::IN | Ready::HUP | Ready::RDHUP | Ready::ERR) =>
            {
                // Receivers of logs say nothing: what comes is the end.
                let mut discarded = [0; 512];
                match rustix::net::recv(socket, &mut discarded[..], RecvFlags::DONTWAIT) {
                    Ok((_, 0)) if self.transport == Transport::Stream => {
                        self.failed(poll, &Errno::CONNRESET);
                    }
                    Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
                    Err(_) if self.is_udp => {}
                    Err(error) => self.failed(poll, &error),
                }
            }
            _ => {}
        }
        self.work(poll);
    }

    /// Does what can be done now.
    pub(super) fn work(&mut self, poll: &Poll) {
        let now = Instant::now();
        match &self.link {
            Link::Down { until } if *until <= now => self.open(poll),
            Link::Opening { until, .. } if *until <= now => self.failed(poll, &Errno::TIMEDOUT),
            Link::Up { .. } => {
                let limit = self.write_timeout();
                if self.batch.stuck.zip(limit).is_some_and(|(since, limit)| since + limit <= now) {
                    self.failed(poll, &Errno::TIMEDOUT);
                }
            }
            _ => {}
        }
        self.send(poll);
        self.arm(poll);
        let above = if self.full { BACKLOG_LOW } else { BACKLOG };
        self.full = self.container_waits() && self.backlog.len() > above;
    }

    fn write_timeout(&self) -> Option<Duration> {
        let ms = self.policy.write_timeout_ms;
        (ms > 0).then(|| Duration::from_millis(ms.into()))
    }

    /// Whether output may not be lost now.
    fn container_waits(&self) -> bool {
        let up = matches!(self.link, Link::Up { .. });
        self.policy.buffer_bytes_max.is_none() && (up || self.policy.wait_for_connection)
    }

    fn open(&mut self, poll: &Poll) {
        let Some(address) = self.addresses.get(self.failures as usize % self.addresses.len().max(1)) else {
            self.link = Link::GivenUp;
            return;
        };
        match connect(address, self.transport) {
            Ok((socket, true)) => {
                self.link = Link::Opening { socket, until: Instant::now() };
                self.connected(poll);
            }
            Ok((socket, false)) => match poll.set(&socket, Token::Log, Ready::OUT) {
                Ok(()) => self.link = Link::Opening { socket, until: Instant::now() + CONNECT },
                Err(error) => self.failed(poll, &error),
            },
            Err(error) => self.failed(poll, &error),
        }
    }

    fn connected(&mut self, poll: &Poll) {
        let link = std::mem::replace(&mut self.link, Link::GivenUp);
        if let Link::Opening { socket, .. } = link {
            self.link = Link::Up { socket, watched: None, since: Instant::now() };
        }
        self.send(poll);
    }

    /// The connection broke, or did not come about.
    fn failed(&mut self, poll: &Poll, error: &Errno) {
        if let Link::Up { socket, .. } | Link::Opening { socket, .. } = &self.link {
            // Others may hold copies, for a moment.
            poll.remove(socket);
        }
        self.batch.rewind();
        let was_sound = matches!(&self.link, Link::Up { since, .. } if since.elapsed() >= SOUND);
        self.failures = if was_sound { 1 } else { self.failures + 1 };
        self.outdated |= (self.failures as usize).is_multiple_of(self.addresses.len().max(1));
        let what = match &self.link {
            Link::Up { .. } => "the connection broke",
            _ => "no connection",
        };
        let reason = std::io::Error::from(*error);
        self.trouble = Some(format!("{what}: {reason}"));
        if self.policy.retries_max.is_some_and(|most| self.failures > most) {
            // What waits is given up, the receiver is not.
            (self.current, self.batch) = (None, Batch::default());
            self.backlog.clear();
        }
        // A connection that was there is made again at once, the first time.
        let pause = if was_sound { Duration::ZERO } else { retry_pause(self.policy.retry_ms, self.failures) };
        self.link = Link::Down { until: Instant::now() + pause };
    }

    fn send(&mut self, poll: &Poll) {
        loop {
            if self.batch.ends.is_empty() {
                self.fill();
            }
            if self.batch.ends.is_empty() {
                return;
            }
            let Link::Up { socket, .. } = &self.link else { return };
            let sent = match self.transport {
                Transport::Stream => self.batch.send_stream(socket),
                Transport::Datagram => self.batch.send_packet(socket, self.is_udp, self.is_journal),
            };
            match sent {
                Ok(()) => {
                    self.batch.stuck = None;
                    if let Some(until) = &mut self.until {
                        *until = Instant::now() + LINGER;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::NOBUFS) => {
                    self.batch.stuck.get_or_insert_with(Instant::now);
                    return;
                }
                Err(error) => return self.failed(poll, &error),
            }
        }
    }

    /// Encodes what comes next.
    fn fill(&mut self) {
        let Self { batch, encoder, messages, current, backlog, .. } = self;
        batch.reset();
        while batch.bytes.len() < BATCH {
            let Some((chunk, at)) = current else {
                *current = backlog.pop(Vec::new()).map(|chunk| (chunk, 0));
                if current.is_some() {
                    continue;
                }
                if std::mem::take(&mut self.finish) {
                    messages.finish(|message| encoder.encode(message, &mut batch.bytes, &mut batch.ends));
                }
                return;
            };
            let more = messages
                .next(chunk, at, |message| encoder.encode(message, &mut batch.bytes, &mut batch.ends));
            if !more {
                *current = None;
            }
        }
    }

    /// Has epoll watch what is waited for.
    fn arm(&mut self, poll: &Poll) {
        let waits = !self.batch.ends.is_empty();
        let Link::Up { socket, watched, .. } = &mut self.link else { return };
        let mut interest = Ready::empty();
        interest.set(Ready::IN | Ready::RDHUP, self.transport == Transport::Stream);
        interest.set(Ready::OUT, waits);
        if *watched != Some(interest) {
            match poll.set(&*socket, Token::Log, interest) {
                Ok(()) => *watched = Some(interest),
                Err(error) => self.failed(poll, &error),
            }
        }
    }
}

/// Longer with each failure, by half.
fn retry_pause(first_ms: u32, failures: u32) -> Duration {
    let grown = f64::from(first_ms) * 1.5_f64.powi(failures.saturating_sub(1).min(64) as i32);
    Duration::from_secs_f64((grown / 1000.0).min(RETRY_MAX.as_secs_f64()))
}

impl Batch {
    fn reset(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        (self.sent, self.stuck) = (0, None);
    }

    /// What went out whole is not sent again; a message that was cut is.
    fn rewind(&mut self) {
        let whole = self.ends.iter().take_while(|end| **end <= self.sent).count();
        self.sent = self.ends[..whole].last().copied().unwrap_or(0);
        self.stuck = None;
    }

    fn send_stream(&mut self, socket: &OwnedFd) -> Result<(), Errno> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        self.sent += rustix::net::send(socket, &self.bytes[self.sent..], flags)?;
        if self.sent == self.bytes.len() {
            self.reset();
        }
        Ok(())
    }

    fn send_packet(&mut self, socket: &OwnedFd, is_udp: bool, is_journal: bool) -> Result<(), Errno> {
        let end = self.ends.iter().copied().find(|end| *end > self.sent).unwrap_or(self.bytes.len());
        let packet = &self.bytes[self.sent..end];
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let send = || rustix::net::send(socket, packet, flags);
        let sent = match send() {
            // The answer to an earlier packet.
            Err(Errno::CONNREFUSED) if is_udp => send(),
            Err(Errno::MSGSIZE) if is_journal => send_in_file(socket, packet),
            sent => sent,
        };
        match sent {
            // Nobody listens, or the message is too large for the protocol: as lost as any datagram.
            Ok(_) | Err(Errno::MSGSIZE) => {}
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::INTR) => return sent.map(drop),
            Err(_) if is_udp => {}
            Err(error) => return Err(error),
        }
        self.sent = end;
        if self.sent == self.bytes.len() {
            self.reset();
        }
        Ok(())
    }
}

/// A message too large for a datagram goes to the journal as a file in memory.
fn send_in_file(socket: &OwnedFd, packet: &[u8]) -> Result<usize, Errno> {
    let file = rustix::fs::memfd_create("message", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut rest = packet;
    while !rest.is_empty() {
        rest = &rest[rustix::io::write(&file, rest)?..];
    }
    use rustix::fs::SealFlags;
    // The journal takes only what can't change any more.
    rustix::fs::fcntl_add_seals(
        &file,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [file.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    rustix::net::sendmsg(socket, &[IoSlice::new(&[])], &mut control, flags)
}

/// A socket, and whether it is connected already.
fn connect(address: &RemoteAddress, transport: Transport) -> Result<(OwnedFd, bool), Errno> {
    let (family, to): (_, SocketAddrAny) = match address {
        RemoteAddress::Unix(path) => (AddressFamily::UNIX, SocketAddrUnix::new(path.as_path())?.into()),
        RemoteAddress::Ip(to) if to.is_ipv4() => (AddressFamily::INET, (*to).into()),
        RemoteAddress::Ip(to) => (AddressFamily::INET6, (*to).into()),
    };
    let kind = match transport {
        Transport::Stream => SocketType::STREAM,
        Transport::Datagram => SocketType::DGRAM,
    };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    if matches!(address, RemoteAddress::Ip(_)) && transport == Transport::Stream {
        // Without them a dead peer is found out later, and a last line waits a little.
        let _ = sockopt::set_tcp_user_timeout(&socket, SILENCE_MS);
        let _ = sockopt::set_socket_keepalive(&socket, true);
        let _ = sockopt::set_tcp_nodelay(&socket, true);
    }
    match rustix::net::connect(&socket, &to) {
        Ok(()) => Ok((socket, true)),
        Err(Errno::INPROGRESS) => Ok((socket, false)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
