//! Questions that other servers answer: sent on, waited for, and asked of the next server when one fails.
//!
//! Each has a socket of its own, connected to the server, with a port of the kernel's choice, and a random id; what comes
//! back has to have the id and the question. So nobody can slip in an answer without guessing 32 bits in time.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use corten_sys::netns;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::framed::{Framed, Received};
use super::lookup::random;
use super::message::{self, Answer, MESSAGE_BYTES_MAX, Query, Rcode, UDP_BYTES_MAX};
use super::settings::Upstreams;

const PORT: u16 = 53;
/// How long one server may take; resolvers give up after 5 seconds, and by then the second should have been asked.
const UDP_PATIENCE: Duration = Duration::from_secs(2);
const TCP_PATIENCE: Duration = Duration::from_secs(4);
/// How often each server is asked over UDP, where a datagram may be lost.
const UDP_ROUNDS: usize = 2;
/// So many datagrams that answer something else, read in a row, are somebody's guesses: another socket is taken.
const STRAY_MAX: usize = 16;

/// Who has asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    Udp(SocketAddr),
    /// A client's connection, by its number.
    Tcp(u32),
}

/// A question on its way.
pub(super) struct Forward {
    pub asker: Asker,
    /// As it is sent: with an id of ours.
    query: Vec<u8>,
    asker_id: u16,
    servers: Vec<IpAddr>,
    /// Asked from the host's network, not from the container's.
    from_host: bool,
    attempts: usize,
    wire: Option<Wire>,
    pub until: Instant,
    /// What a server said that failed, should no other do better.
    failure: Option<Vec<u8>>,
}

enum Wire {
    Udp(UdpSocket),
    Tcp(Framed),
}

/// What to wait for next.
pub(super) enum Progress {
    /// On the same socket.
    Wait,
    /// On a new one.
    Anew,
    /// There is an answer.
    Answer(Vec<u8>),
    /// No server has one.
    Failed,
}

impl Forward {
    /// Takes a question; [`Forward::send`] asks the first server.
    pub(super) fn new(query: &Query<'_>, asker: Asker, upstreams: Upstreams, now: Instant) -> Self {
        let mut bytes = query.bytes.to_vec();
        message::set_id(&mut bytes, random());
        Self {
            asker,
            query: bytes,
            asker_id: query.id(),
            servers: upstreams.servers,
            from_host: upstreams.from_host,
            attempts: 0,
            wire: None,
            until: now,
            failure: None,
        }
    }

    /// Asks the next server that can be reached at all; `inside` is a socket of the container's network.
    pub(super) fn send(&mut self, inside: BorrowedFd<'_>, now: Instant) -> Progress {
        let from = (!self.from_host).then_some(inside);
        let udp = matches!(self.asker, Asker::Udp(_));
        let (rounds, patience) = if udp { (UDP_ROUNDS, UDP_PATIENCE) } else { (1, TCP_PATIENCE) };
        self.wire = None;
        while self.attempts < rounds * self.servers.len() {
            let server = self.servers[self.attempts % self.servers.len()];
            self.attempts += 1;
            let sent = within(from, || connect(SocketAddr::new(server, PORT), udp)).and_then(|socket| {
                if udp {
                    let socket = UdpSocket::from(socket);
                    socket.send(&self.query)?;
                    return Ok(Wire::Udp(socket));
                }
                let mut framed = Framed::new(TcpStream::from(socket));
                framed.queue(&self.query);
                Ok(Wire::Tcp(framed))
            });
            if let Ok(wire) = sent {
                self.wire = Some(wire);
                self.until = now + patience;
                return Progress::Anew;
            }
        }
        match self.failure.take() {
            Some(failure) => Progress::Answer(failure),
            None => Progress::Failed,
        }
    }

    /// The socket has something to tell, or can take what is to be sent.
    pub(super) fn ready(&mut self, inside: BorrowedFd<'_>, buffer: &mut [u8], now: Instant) -> Progress {
        match self.receive(buffer) {
            Ok(None) => Progress::Wait,
            Ok(Some(response)) => {
                if !message::is_failure(&response) {
                    return Progress::Answer(response);
                }
                self.failure = Some(response);
                self.send(inside, now)
            }
            // Nobody there, or nobody who speaks DNS.
            Err(_) => self.send(inside, now),
        }
    }

    /// A response to this question, or `None` as long as there is none.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<Vec<u8>>> {
        let Ok(query) = Query::parse(&self.query) else { return Err(io::ErrorKind::InvalidData.into()) };
        match &mut self.wire {
            None => Ok(None),
            Some(Wire::Udp(socket)) => {
                for _ in 0..STRAY_MAX {
                    match socket.recv(buffer) {
                        Ok(read) if query.is_answered_by(&buffer[..read]) => {
                            return Ok(Some(buffer[..read].to_vec()));
                        }
                        Ok(_) => {}
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(error),
                    }
                }
                Err(io::ErrorKind::InvalidData.into())
            }
            Some(Wire::Tcp(framed)) => {
                match framed.flush() {
                    Ok(true) => {}
                    Ok(false) => return Ok(None),
                    Err(error) => return Err(error),
                }
                match framed.receive(MESSAGE_BYTES_MAX) {
                    Received::Nothing => Ok(None),
                    Received::Message(response) if query.is_answered_by(&response) => Ok(Some(response)),
                    Received::Message(_) | Received::End => Err(io::ErrorKind::InvalidData.into()),
                }
            }
        }
    }

    pub(super) fn socket(&self) -> Option<BorrowedFd<'_>> {
        match self.wire.as_ref()? {
            Wire::Udp(socket) => Some(socket.as_fd()),
            Wire::Tcp(framed) => Some(framed.as_fd()),
        }
    }

    /// What the asker is told: the answer if there is one and it fits, with the asker's own id.
    pub(super) fn settle(mut self, answer: Option<Vec<u8>>) -> Vec<u8> {
        message::set_id(&mut self.query, self.asker_id);
        let Ok(query) = Query::parse(&self.query) else {
            return message::refusal(&self.query, Rcode::ServerFailure);
        };
        match answer {
            None => Answer::new(&query, Rcode::ServerFailure, UDP_BYTES_MAX).finish(),
            Some(long) if matches!(self.asker, Asker::Udp(_)) && long.len() > query.udp_bytes_max() => {
                message::truncated(&query, &long)
            }
            Some(mut answer) => {
                message::set_id(&mut answer, self.asker_id);
                answer
            }
        }
    }
}

/// A socket on its way to `server`.
fn connect(server: SocketAddr, udp: bool) -> io::Result<OwnedFd> {
    let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = if udp { SocketType::DGRAM } else { SocketType::STREAM };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, None)?;
    match rustix::net::connect(&socket, &server) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

/// Makes a socket in the network namespace that another one belongs to. A socket stays in the namespace in which it was made.
fn within<T>(from: Option<BorrowedFd<'_>>, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let Some(other) = from else { return make() };
    let (own, theirs) = (netns::current()?, netns::of_socket(other)?);
    netns::enter(theirs.as_fd())?;
    let made = make();
    netns::enter(own.as_fd())?;
    made
}
