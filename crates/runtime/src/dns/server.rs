//! The server's sockets, and what is under way: clients over TCP, questions that were sent on.
//!
//! It waits by an epoll of its own, so that whoever runs it watches one descriptor and one deadline. Everything is
//! bounded: clients, questions on their way, bytes of each, and the work done at a time.

use std::io;
use std::mem::MaybeUninit;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags as Ready;
use rustix::event::{Timespec, epoll};

use super::forward::{Asker, Forward, Progress};
use super::framed::{Framed, Received};
use super::lookup::{self, Turns};
use super::message::{self, Answer, MESSAGE_BYTES_MAX, Malformed, Query, Rcode, UDP_BYTES_MAX};
use super::settings::Resolver;

/// The most questions on their way to other servers.
const FORWARDS_MAX: usize = 256;
/// The most clients over TCP; for a further one, the one that has been silent for longest goes.
const CLIENTS_MAX: usize = 32;
/// How long a client over TCP may be silent, or take nothing.
const IDLE: Duration = Duration::from_secs(10);
/// Longer than servers may take for the answer to a client over TCP.
const WAITING: Duration = Duration::from_secs(15);
/// Datagrams or clients that are taken before others have their turn.
const AT_ONCE: usize = 64;
const BATCH: usize = 16;

/// Edges are all that is told of a stream: it is read and written until it has no more to give or take.
const STREAM: Ready = Ready::IN.union(Ready::OUT).union(Ready::ET);

const UDP: u64 = 0;
const LISTENER: u64 = 1;

/// A container's name server.
pub struct Server {
    epoll: OwnedFd,
    udp: UdpSocket,
    listener: TcpListener,
    resolver: Resolver,
    turns: Turns,
    clients: Vec<Client>,
    forwards: Vec<(u32, Forward)>,
    /// Clients that have been answered, and may have asked for more.
    answered: Vec<u32>,
    last_number: u32,
}

/// A client over TCP, who gets one answer after the other.
struct Client {
    number: u32,
    framed: Framed,
    /// Its question is on its way.
    waiting: bool,
    until: Instant,
}

impl Server {
    /// Serves at a UDP socket and a listening TCP socket that are bound already, in whatever network namespace.
    pub fn new(udp: OwnedFd, listener: OwnedFd, resolver: Resolver) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let (udp, listener) = (UdpSocket::from(udp), TcpListener::from(listener));
        udp.set_nonblocking(true)?;
        listener.set_nonblocking(true)?;
        epoll::add(&epoll, &udp, epoll::EventData::new_u64(UDP), Ready::IN)?;
        epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), Ready::IN)?;
        Ok(Self {
            epoll,
            udp,
            listener,
            resolver,
            turns: Turns::new(),
            clients: Vec::new(),
            forwards: Vec::new(),
            answered: Vec::new(),
            last_number: 0,
        })
    }

    /// From now on answers by these settings.
    pub fn set(&mut self, resolver: Resolver) {
        self.resolver = resolver;
    }

    /// When [`Server::expire`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let clients = self.clients.iter().map(|client| client.until);
        clients.chain(self.forwards.iter().map(|(_, forward)| forward.until)).min()
    }

    /// Does what there is to do now. The buffer is for datagrams: of 64 KiB, or longer ones are cut off.
    pub fn ready(&mut self, buffer: &mut [u8]) {
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); BATCH];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Interrupted or not: what is ready still is when the descriptor is looked at again.
        let Ok((events, _)) = epoll::wait(&self.epoll, &mut events, Some(&at_once)) else { return };
        let now = Instant::now();
        for event in events {
            match { event.data }.u64() {
                UDP => self.datagrams(buffer, now),
                LISTENER => self.accept(now),
                // Numbers have 32 bits.
                number => self.numbered(number as u32, event.flags, buffer, now),
            }
        }
        self.serve_answered(now);
    }

    /// Ends the patience with servers and clients that say nothing.
    pub fn expire(&mut self) {
        if self.forwards.is_empty() && self.clients.is_empty() {
            return;
        }
        let now = Instant::now();
        let late = self.forwards.iter().filter(|(_, forward)| forward.until <= now);
        for number in late.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.advance(number, |forward, from| forward.send(from, now));
        }
        self.serve_answered(now);
        self.clients.retain(|client| client.until > now);
    }

    fn datagrams(&mut self, buffer: &mut [u8], now: Instant) {
        let room = buffer.len().min(UDP_BYTES_MAX);
        for _ in 0..AT_ONCE {
            match self.udp.recv_from(&mut buffer[..room]) {
                Ok((read, client)) => {
                    if let Some(answer) = self.ask(&buffer[..read], Asker::Udp(client), now) {
                        self.answer(&answer, Asker::Udp(client));
                    }
                }
                Err(_) => return,
            }
        }
    }

    /// The answer to a message; `None` when there is none, or none yet.
    fn ask(&mut self, bytes: &[u8], asker: Asker, now: Instant) -> Option<Vec<u8>> {
        let query = match Query::parse(bytes) {
            Ok(query) => query,
            Err(Malformed::Ignore) => return None,
            Err(Malformed::Refuse(code)) => return Some(message::refusal(bytes, code)),
        };
        let bytes_max = match asker {
            Asker::Udp(_) => query.udp_bytes_max(),
            Asker::Tcp(_) => MESSAGE_BYTES_MAX,
        };
        if let Some(answer) = lookup::answer(&self.resolver, &query, bytes_max, &mut self.turns) {
            return Some(answer);
        }
        if self.forwards.len() >= FORWARDS_MAX {
            return Some(Answer::new(&query, Rcode::Refused, bytes_max).finish());
        }
        let number = self.next_number();
        self.forwards.push((number, Forward::new(&query, asker, self.resolver.upstreams(), now)));
        self.advance(number, |forward, from| forward.send(from, now));
        None
    }

    /// Lets a question on its way take a step; the socket that may be needed for it stands for the container's network.
    fn advance(&mut self, number: u32, step: impl FnOnce(&mut Forward, BorrowedFd<'_>) -> Progress) {
        let Some(at) = self.forwards.iter().position(|(other, _)| *other == number) else { return };
        let forward = &mut self.forwards[at].1;
        let answer = match step(forward, self.udp.as_fd()) {
            Progress::Wait => return,
            Progress::Anew => {
                let data = epoll::EventData::new_u64(number.into());
                match forward.socket().map(|socket| epoll::add(&self.epoll, socket, data, STREAM)) {
                    Some(Ok(())) => return,
                    _ => None,
                }
            }
            Progress::Answer(answer) => Some(answer),
            Progress::Failed => None,
        };
        let (_, forward) = self.forwards.swap_remove(at);
        let asker = forward.asker;
        self.answer(&forward.settle(answer), asker);
    }

    fn answer(&mut self, answer: &[u8], asker: Asker) {
        match asker {
            // As with every datagram: what is lost is asked for again.
            Asker::Udp(client) => drop(self.udp.send_to(answer, client)),
            Asker::Tcp(number) => {
                if let Some(client) = self.clients.iter_mut().find(|client| client.number == number) {
                    client.framed.queue(answer);
                    client.waiting = false;
                    self.answered.push(number);
                }
            }
        }
    }

    fn accept(&mut self, now: Instant) {
        for _ in 0..AT_ONCE {
            let Ok((stream, _)) = self.listener.accept() else { return };
            let number = self.next_number();
            let data = epoll::EventData::new_u64(number.into());
            let watched = stream
                .set_nonblocking(true)
                .and_then(|()| Ok(epoll::add(&self.epoll, &stream, data, STREAM)?));
            if watched.is_err() {
                continue;
            }
            if self.clients.len() >= CLIENTS_MAX {
                let oldest = self.clients.iter().enumerate().min_by_key(|(_, client)| client.until);
                if let Some((at, _)) = oldest {
                    self.clients.swap_remove(at);
                }
            }
            self.clients.push(Client {
                number,
                framed: Framed::new(stream),
                waiting: false,
                until: now + IDLE,
            });
        }
    }

    fn numbered(&mut self, number: u32, ready: Ready, buffer: &mut [u8], now: Instant) {
        if !self.clients.iter().any(|client| client.number == number) {
            self.advance(number, |forward, from| forward.ready(from, buffer, now));
        } else if ready.intersects(Ready::ERR | Ready::HUP) {
            self.clients.retain(|client| client.number != number);
        } else {
            self.serve(number, now);
        }
    }

    fn serve_answered(&mut self, now: Instant) {
        for number in std::mem::take(&mut self.answered) {
            self.serve(number, now);
        }
        // Whom this has answered has been served.
        self.answered.clear();
    }

    /// Goes on with a client: answers out, questions in, until it has to be waited for or has had its turn.
    fn serve(&mut self, number: u32, now: Instant) {
        for _ in 0..AT_ONCE {
            let Some(client) = self.clients.iter_mut().find(|client| client.number == number) else { return };
            match client.framed.flush() {
                Ok(true) if !client.waiting => {}
                Ok(_) => return,
                Err(_) => return self.clients.retain(|client| client.number != number),
            }
            let message = match client.framed.receive(UDP_BYTES_MAX) {
                Received::Message(message) => message,
                Received::Nothing => return,
                Received::End => return self.clients.retain(|client| client.number != number),
            };
            (client.waiting, client.until) = (true, now + WAITING);
            if let Some(answer) = self.ask(&message, Asker::Tcp(number), now) {
                self.answer(&answer, Asker::Tcp(number));
            }
            let client = self.clients.iter_mut().find(|client| client.number == number);
            if let Some(client) = client.filter(|client| !client.waiting) {
                client.until = now + IDLE;
            }
        }
        // There may be more, of which no edge would tell: set anew, the kernel looks again.
        if let Some(client) = self.clients.iter().find(|client| client.number == number) {
            let data = epoll::EventData::new_u64(number.into());
            if epoll::modify(&self.epoll, &client.framed, data, STREAM).is_err() {
                self.clients.retain(|client| client.number != number);
            }
        }
    }

    /// A number that nobody has: neither a client nor a question on its way, nor one of the two sockets.
    fn next_number(&mut self) -> u32 {
        loop {
            self.last_number = self.last_number.wrapping_add(1);
            let number = self.last_number;
            let taken = self.clients.iter().any(|client| client.number == number)
                || self.forwards.iter().any(|(other, _)| *other == number);
            if u64::from(number) > LISTENER && !taken {
                return number;
            }
        }
    }
}

impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
