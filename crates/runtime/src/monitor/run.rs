//! The monitor, and the loop in which it waits for whatever happens until everything has ended.
//!
//! Each event goes to whom it concerns; what a process writes is handed on here. `beginning` makes a monitor, `ending` ends it.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use corten_sys::memory::Pages;

use super::attached::Attached;
use super::beginning::Pending;
use super::control::ControlLine;
use super::ending::Poststop;
use super::poll::{BATCH, Id, Poll, Ready, Token};
use super::protocol::{Event, ExecStatus, Timestamp};
use super::shipping::Shipping;
use super::streams::Session;
use super::{execs, record};
use crate::cgroup::{Cgroup, OutOfMemory};
use crate::dns;
use crate::foreign::Foreign;
use crate::launch::Filter;
use crate::log::{Stream, Writer};

/// The container's own session.
pub(super) const CONTAINER: Id = 0;

pub(super) struct Monitor {
    pub(super) id: String,
    pub(super) run_dir: PathBuf,
    pub(super) state_dir: PathBuf,
    pub(super) poll: Poll,
    pub(super) buffer: Pages,
    pub(super) buffer_used: bool,
    /// For input; empty while there is none.
    pub(super) input: Vec<u8>,
    pub(super) log: Option<Writer>,
    pub(super) packing: Option<Box<super::packing::Packing>>,
    /// The log's receiver elsewhere, if it has one.
    pub(super) shipping: Option<Box<Shipping>>,
    pub(super) lookup: Option<Box<super::lookup::Lookup>>,
    pub(super) sessions: Vec<Session>,
    pub(super) clients: Vec<Attached>,
    pub(super) lines: Vec<ControlLine>,
    pub(super) listener: Option<OwnedFd>,
    /// Execs that have begun and not yet reached their program.
    pub(super) starting: Vec<execs::Starting>,
    pub(super) dying: Vec<execs::Dying>,
    /// Execs that have ended, for an engine that comes back.
    pub(super) ended_execs: Vec<ExecStatus>,
    pub(super) next_id: Id,
    pub(super) cgroup: Cgroup,
    /// Where memory is limited.
    pub(super) memory: Option<OutOfMemory>,
    pub(super) filter: Option<Filter>,
    /// The container is another runtime's.
    pub(super) foreign: Option<Box<Foreign>>,
    pub(super) pid_namespace: bool,
    pub(super) started: Option<Timestamp>,
    /// The held child and what is needed once it runs.
    pub(super) pending: Option<Box<Pending>>,
    pub(super) poststop: Option<Box<Poststop>>,
    /// The container's name server, if it is in a network that has names.
    pub(super) resolver: Option<Box<dns::Server>>,
    pub(super) ending: super::ending::Ending,
    pub(super) checkup: Option<Box<super::health::Checkup>>,
}

impl Monitor {
    pub(super) fn next_id(&mut self) -> Id {
        self.next_id += 1;
        self.next_id
    }

    pub(super) fn run(&mut self) {
        let mut found = [None; BATCH];
        while !self.is_finished() {
            let timeout = self.timeout();
            if let Err(error) = self.poll.wait(timeout, &mut found) {
                self.complain("epoll", &std::io::Error::from(error));
                return;
            }
            for (token, ready) in found.iter().flatten() {
                self.dispatch(*token, *ready);
            }
            if found[0].is_none() {
                self.give_back();
            }
            self.expire();
            if self.shipping.is_some() {
                self.ship(None);
            }
        }
        for client in &self.clients {
            client.hang_up();
        }
    }

    fn dispatch(&mut self, token: Token, ready: Ready) {
        match token {
            Token::Listener => self.accept(),
            Token::Control(id) => self.line_ready(id, ready),
            Token::Process(id) => self.reap(id),
            Token::Starting(id) => self.exec_progress(id),
            Token::Output(id, stream) => drop(self.pump(id, stream)),
            Token::Input(id) => self.input_ready(id),
            Token::Client(id) => self.client_ready(id, ready),
            Token::Resolver => self.answer_names(),
            Token::Log => self.ship(Some(ready)),
            Token::Packing => self.packed(),
            Token::Lookup => self.looked_up(),
            Token::Memory => self.memory_noticed(),
        }
    }

    fn answer_names(&mut self) {
        if let Some(resolver) = &mut self.resolver {
            self.buffer_used = true;
            resolver.ready(&mut self.buffer);
        }
    }

    /// Begins to tell when the container is out of memory; it lives as well without.
    pub(super) fn watch_memory(&mut self) {
        if self.memory.is_some() || self.ending.code.is_some() {
            return;
        }
        match self.cgroup.watch_memory() {
            Ok(Some(memory)) => {
                let ready = if memory.is_readable() { Ready::IN } else { Ready::PRI };
                match self.poll.add(&memory, Token::Memory, ready) {
                    Ok(()) => self.memory = Some(memory),
                    Err(error) => self.complain("watch its memory", &error),
                }
            }
            Ok(None) => {}
            Err(error) => self.complain("watch its memory", &error),
        }
    }

    fn memory_noticed(&mut self) {
        match self.memory.as_mut().map(OutOfMemory::take) {
            Some(Ok(true)) => self.broadcast(&Event::OutOfMemory),
            // The group is gone: it would be ready for ever.
            Some(Err(_)) => self.forget_memory(),
            Some(Ok(false)) | None => {}
        }
    }

    pub(super) fn forget_memory(&mut self) {
        if let Some(memory) = self.memory.take() {
            self.poll.remove(&memory);
        }
    }

    pub(super) fn session(&self, id: Id) -> Option<&Session> {
        self.sessions.iter().find(|s| s.id == id)
    }

    pub(super) fn session_mut(&mut self, id: Id) -> Option<&mut Session> {
        self.sessions.iter_mut().find(|s| s.id == id)
    }

    pub(super) fn find_exec(&self, exec: &str) -> Option<Id> {
        self.sessions.iter().find(|s| s.exec.as_deref() == Some(exec)).map(|s| s.id)
    }

    pub(super) fn find(&self, exec: Option<&str>) -> Option<Id> {
        exec.map_or(Some(CONTAINER), |exec| self.find_exec(exec))
    }

    pub(super) fn watch_process(&mut self, id: Id, pidfd: OwnedFd) {
        if let Err(error) = self.poll.add(&pidfd, Token::Process(id), Ready::IN) {
            self.complain("watch a process", &std::io::Error::from(error));
        }
        if let Some(session) = self.session_mut(id) {
            session.process = Some(pidfd);
        }
    }

    /// Reads once from a process's output, and hands it to the log and to the clients; the bytes read, `None` for none now.
    pub(super) fn pump(&mut self, id: Id, stream: Stream) -> Option<usize> {
        let Self { sessions, clients, log, shipping, poll, buffer, .. } = self;
        let session = sessions.iter_mut().find(|s| s.id == id)?;
        self.buffer_used = true;
        let read = match session.read(stream, buffer) {
            Ok(0) | Err(rustix::io::Errno::BADF) => {
                self.output_ended(id, stream);
                return Some(0);
            }
            Ok(read) => read,
            Err(_) => return None,
        };
        let bytes = &buffer[..read];
        if let Some(captured) = &mut session.captured {
            // One more than is kept tells that there was more.
            let room = (super::health::OUTPUT_MAX + 1).saturating_sub(captured.len());
            captured.extend(&bytes[..read.min(room)]);
        }
        let watched = clients.iter().any(|c| c.session == id);
        if let Some(log) = log.as_mut().filter(|_| id == CONTAINER) {
            // A full disk must not stop the container; the log has a gap then.
            let _ = log.write(stream, Timestamp::now(), bytes);
        }
        let mut changed = false;
        if let Some(shipping) = shipping.as_mut().filter(|_| id == CONTAINER) {
            shipping.offer(stream, Timestamp::now(), bytes);
            shipping.work(poll);
            changed = shipping.is_full();
        }
        let mut gone: Vec<Id> = Vec::new();
        for client in clients.iter_mut().filter(|c| c.session == id && c.wants(stream)) {
            if client.write(stream, bytes).is_err() {
                gone.push(client.id);
            }
            changed |= client.waiting_since.is_some();
        }
        let reopened = session.deserted && !session.paused;
        session.join_small_reads(read, watched);
        let rotated = log.as_ref().is_some_and(|log| log.has_unpacked());
        for client in gone {
            self.drop_client(client);
        }
        if reopened {
            self.resume(id);
        }
        if changed {
            self.rearm(id);
        }
        if rotated && self.packing.is_none() && id == CONTAINER {
            self.pack();
        }
        Some(read)
    }

    /// Has the log's receiver get what it takes, and the container go on when it does.
    fn ship(&mut self, ready: Option<Ready>) {
        let Some(shipping) = &mut self.shipping else { return };
        let was_full = shipping.is_full();
        match ready {
            Some(ready) => shipping.ready(&self.poll, ready),
            None => shipping.work(&self.poll),
        }
        let full = shipping.is_full();
        // Once everything is cleared away, the engine may be removing the directory.
        if let Some(trouble) = shipping.take_trouble().filter(|_| !self.ending.is_over()) {
            self.complain("send the log", &trouble);
        }
        if full != was_full {
            self.rearm(CONTAINER);
        }
        self.look_up_receiver();
    }

    /// A trouble that the container does not notice: for the operator, in `monitor.log` in the state directory. Not on stderr,
    /// which would keep the engine's terminal or pipe open for as long as the container lives.
    pub(super) fn complain(&self, what: &str, why: &dyn std::fmt::Display) {
        // There is nobody left to tell.
        let _ = record::complain(&self.state_dir, what, why);
    }
}
