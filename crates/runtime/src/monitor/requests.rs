//! What engines ask of a monitor, and what they are told.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use corten_sys::process;
use serde::Deserialize;

use super::control::{self, ControlLine, Encoded, encode};
use super::execs;
use super::poll::{Id, Poll, Ready, Token};
use super::protocol::{Event, ExecStatus, Request, Step, StepError};
use super::run::{CONTAINER, Monitor};
use crate::dns::{self, Resolver};

impl Monitor {
    pub(super) fn accept(&mut self) {
        let Some(socket) = self.listener.as_ref().and_then(control::accept) else { return };
        let id = self.next_id();
        if let Ok(line) = ControlLine::new(id, socket)
            && self.poll.add(&line, Token::Control(id), Ready::IN).is_ok()
        {
            self.lines.push(line);
        }
    }

    pub(super) fn line_ready(&mut self, id: Id, ready: Ready) {
        let Some(line) = self.lines.iter_mut().find(|l| l.id == id) else { return };
        if ready.contains(Ready::OUT) {
            let useful = line.flush();
            let interest = line.interest();
            if !useful || self.poll.set(&*line, Token::Control(id), interest).is_err() {
                return self.drop_line(id);
            }
        }
        if !ready.intersects(Ready::IN | Ready::HUP | Ready::ERR) {
            return;
        }
        match line.receive() {
            Ok(Some((packet, fds))) => match serde_json::from_slice(&packet) {
                Ok(request) => self.handle(id, request, fds),
                // An engine of another version: what else it wants may be known.
                Err(error) => self.tell(id, &unknown(&packet, &error)),
            },
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Ok(None) | Err(_) => self.drop_line(id),
        }
    }

    pub(super) fn drop_line(&mut self, id: Id) {
        if let Some(at) = self.lines.iter().position(|l| l.id == id) {
            let line = self.lines.swap_remove(at);
            self.poll.remove(&line);
        }
    }

    fn handle(&mut self, line: Id, request: Request, fds: Vec<OwnedFd>) {
        let answer = match request {
            Request::Start => return self.release(),
            Request::Signal { seq, signal } => self.send_signal(seq, CONTAINER, signal),
            Request::SignalExec { seq, exec, signal } => match self.find_exec(&exec) {
                Some(id) => self.send_signal(seq, id, signal),
                None => no_such_exec(seq, &exec),
            },
            Request::Attach { seq, exec, attach } => match self.find(exec.as_deref()) {
                Some(session) => match fds.into_iter().next() {
                    Some(fd) => {
                        self.attach(session, attach, fd);
                        Event::Done { seq }
                    }
                    None => refused(seq, Step::Monitor, "attach", "no connection came with the request"),
                },
                None => no_such_exec(seq, &exec.unwrap_or_default()),
            },
            Request::Resize { seq, exec, rows, columns } => {
                let session = self.find(exec.as_deref()).and_then(|id| self.session(id));
                match session.map(|s| s.resize(rows, columns)) {
                    Some(Ok(())) => Event::Done { seq },
                    Some(Err(e)) => {
                        Event::Refused { seq, error: StepError::of(Step::Console, "terminal", e) }
                    }
                    None => no_such_exec(seq, &exec.unwrap_or_default()),
                }
            }
            Request::Exec { seq, exec, process, user, groups, stdio, attach } => {
                let wish =
                    execs::Wish { seq, line, exec, process, user, groups, stdio, attach, capture: false };
                match self.begin_exec(wish, fds) {
                    Ok(_) => return,
                    Err(event) => event,
                }
            }
            Request::Resolve { seq, resolver } => match self.resolve(resolver, fds) {
                Ok(()) => Event::Done { seq },
                Err(e) => Event::Refused { seq, error: StepError::of(Step::Monitor, "name server", e) },
            },
            Request::WatchMemory { seq } => {
                self.watch_memory();
                Event::Done { seq }
            }
            Request::Status { seq } => self.status(seq),
            Request::Health { seq } => {
                Event::Health { seq, health: self.checkup.as_ref().map(|checkup| checkup.health.clone()) }
            }
        };
        self.tell(line, &answer);
    }

    /// Begins, changes or ends the container's name server; `sockets` are two, or none for those that it has.
    pub(super) fn resolve(&mut self, resolver: Option<Resolver>, sockets: Vec<OwnedFd>) -> io::Result<()> {
        let Some(resolver) = resolver else {
            self.end_names();
            return Ok(());
        };
        match &mut self.resolver {
            Some(server) if sockets.is_empty() => server.set(resolver),
            _ => {
                let server = serve_names(&self.poll, resolver, sockets)?;
                self.end_names();
                self.resolver = Some(server);
            }
        }
        Ok(())
    }

    /// Lets go of the sockets in the container's network, which would keep it.
    pub(super) fn end_names(&mut self) {
        if let Some(server) = self.resolver.take() {
            self.poll.remove(&*server);
        }
    }

    fn send_signal(&self, seq: u64, session: Id, signal: i32) -> Event {
        let process = self.session(session).map(|s| (s.process.as_ref(), s.code.is_some()));
        let pidfd = match process {
            Some((Some(pidfd), _)) => pidfd,
            // It has ended and its output is still read: nothing of it is left that a signal could concern.
            Some((None, true)) => return Event::Done { seq },
            _ => return refused(seq, Step::Monitor, "signal", "the process does not run yet"),
        };
        match process::pidfd_send_signal(pidfd.as_fd(), signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Event::Done { seq },
            Err(e) => {
                Event::Refused { seq, error: StepError::of(Step::Monitor, format!("signal {signal}"), e) }
            }
        }
    }

    fn status(&self, seq: u64) -> Event {
        // Probes are the monitor's own.
        let running = self.sessions.iter().filter(|s| s.captured.is_none()).filter_map(|s| {
            Some(ExecStatus { exec: s.exec.clone()?, pid: s.pid, code: s.code.filter(|_| s.is_over()) })
        });
        Event::Status {
            seq,
            pid: self.sessions.iter().find(|s| s.id == CONTAINER).map_or(0, |s| s.pid),
            started: self.started.unwrap_or_default(),
            execs: running.chain(self.ended_execs.iter().cloned()).collect(),
        }
    }

    /// Tells all engines.
    pub(super) fn broadcast(&mut self, event: &Event) {
        let event = encode(event);
        let ids: Vec<Id> = self.lines.iter().map(|l| l.id).collect();
        for id in ids {
            self.send_line(id, &event);
        }
    }

    pub(super) fn tell(&mut self, line: Id, event: &Event) {
        self.send_line(line, &encode(event));
    }

    fn send_line(&mut self, id: Id, event: &Encoded) {
        let Some(line) = self.lines.iter_mut().find(|l| l.id == id) else { return };
        let useful = line.send(event);
        if !useful || self.poll.set(&*line, Token::Control(id), line.interest()).is_err() {
            self.drop_line(id);
        }
    }
}

/// A name server at two sockets of a container's network, watched.
pub(super) fn serve_names(
    poll: &Poll,
    resolver: Resolver,
    sockets: Vec<OwnedFd>,
) -> io::Result<Box<dns::Server>> {
    let Ok([udp, tcp]) = <[OwnedFd; 2]>::try_from(sockets) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it needs two sockets to serve at"));
    };
    let server = Box::new(dns::Server::new(udp, tcp, resolver)?);
    poll.add(&*server, Token::Resolver, Ready::IN)?;
    Ok(server)
}

pub(super) fn refused(seq: u64, step: Step, object: &str, message: &str) -> Event {
    Event::Refused {
        seq,
        error: StepError { step, object: object.to_owned(), errno: 0, message: message.to_owned() },
    }
}

/// The answer to what can't be understood; seq 0 when not even the number can be.
fn unknown(packet: &[u8], error: &serde_json::Error) -> Event {
    #[derive(Deserialize)]
    struct Numbered {
        seq: u64,
    }
    let seq = serde_json::from_slice::<Numbered>(packet).map_or(0, |numbered| numbered.seq);
    refused(seq, Step::Monitor, "request", &error.to_string())
}

fn no_such_exec(seq: u64, exec: &str) -> Event {
    refused(seq, Step::Monitor, exec, "no such exec is running")
}
