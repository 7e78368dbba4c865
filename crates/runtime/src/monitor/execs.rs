//! Further processes in the container (`exec`): begun, followed until they run, remembered after they have ended.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use corten_sys::process;

use super::birth::Birth;
use super::poll::{Id, Ready, Token};
use super::protocol::{Attach, Event, ExecStatus, Stdio, Step, StepError};
use super::requests::refused;
use super::run::{CONTAINER, Monitor};
use super::start::group_entry;
use super::streams::{self, Session};
use crate::exec;
use crate::foreign::Foreign;
use crate::launch;
use crate::spec::Process;

/// Exit codes kept for an engine that was away; an engine that was there has heard them.
const ENDED_MAX: usize = 64;

/// What [`super::protocol::Request::Exec`] asks for.
pub(super) struct Wish {
    pub seq: u64,
    /// Who asked.
    pub line: Id,
    pub exec: String,
    pub process: Box<Process>,
    pub user: Option<String>,
    pub groups: Vec<String>,
    pub stdio: Stdio,
    pub attach: Option<Attach>,
    /// Keep the beginning of its output.
    pub capture: bool,
}

/// How long an exec may take to its program: a container could stop it on its way. Less than engines wait for an answer.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// An exec on its way to its program.
pub(super) struct Starting {
    session: Id,
    child: Birth,
    seq: u64,
    line: Id,
    pub until: Instant,
}

/// An exec that was killed before it was one: only to be reaped, whenever it ends.
pub(super) struct Dying {
    session: Id,
    pid: i32,
    pidfd: OwnedFd,
}

fn streams(wish: &Wish) -> Result<(launch::Stdio, streams::Ends), StepError> {
    let attach = wish.attach.as_ref();
    let outputs = wish.capture || attach.is_some_and(|a| a.stdout || a.stderr);
    streams::open(&wish.stdio, attach.is_some_and(|a| a.stdin), outputs)
}

fn begin_foreign(foreign: &Foreign, wish: &Wish) -> Result<(Birth, streams::Ends), StepError> {
    let (stdio, ends) = streams(wish)?;
    let making = foreign.exec(&wish.process, wish.user.as_deref(), &wish.groups, stdio)?;
    Ok((Birth::Foreign(making), ends))
}

impl Monitor {
    /// Clones the process; the answer follows when it runs or fails. The error is the answer.
    pub(super) fn begin_exec(&mut self, mut wish: Wish, fds: Vec<OwnedFd>) -> Result<Id, Event> {
        let seq = wish.seq;
        wish.process.terminal = wish.stdio.tty;
        let Some(container) = self.session(CONTAINER).filter(|s| s.code.is_none() && self.started.is_some())
        else {
            return Err(refused(seq, Step::Monitor, "exec", "the container is not running"));
        };
        if self.find_exec(&wish.exec).is_some() {
            return Err(refused(seq, Step::Monitor, &wish.exec, "the exec has been started already"));
        }
        let (Some(pidfd), pid) = (container.process.as_ref(), container.pid) else {
            return Err(refused(seq, Step::Monitor, "exec", "the container is not running"));
        };
        let cloned = match &self.foreign {
            None => self.clone_exec(&wish, pid, pidfd),
            Some(foreign) => begin_foreign(foreign, &wish),
        };
        let Wish { exec, stdio, attach, line, capture, .. } = wish;
        let (child, ends) = cloned.map_err(|error| Event::ExecFailed { seq, exec: exec.clone(), error })?;
        let id = self.next_id();
        if let Err(e) = self.poll.add(child.channel(), Token::Starting(id), Ready::IN) {
            self.abandon(id, child);
            return Err(Event::ExecFailed { seq, exec, error: StepError::of(Step::Monitor, "epoll", e) });
        }
        let mut session = Session::new(id, Some(exec), &stdio, ends);
        session.captured = capture.then(Vec::new);
        self.sessions.push(session);
        self.starting.push(Starting {
            session: id,
            child,
            seq,
            line,
            until: Instant::now() + START_DEADLINE,
        });
        if let Some((attach, fd)) = attach.zip(fds.into_iter().next()) {
            self.attach(id, attach, fd);
        }
        Ok(id)
    }

    fn clone_exec(
        &self,
        wish: &Wish,
        pid: i32,
        pidfd: &OwnedFd,
    ) -> Result<(Birth, streams::Ends), StepError> {
        let (stdio, ends) = streams(wish)?;
        let mut request = exec::Request::new(pid, pidfd.as_fd(), &wish.process);
        request.user = wish.user.as_deref();
        request.groups = &wish.groups;
        request.stdio = stdio;
        request.cgroup = Some(group_entry(&self.cgroup)?);
        request.seccomp = self.filter.clone();
        request.death_signal = Some(9);
        Ok((Birth::Own(exec::Prepared::new(request)?.spawn()?), ends))
    }

    /// The child has something to say: how far it is, that it runs, or why not.
    pub(super) fn exec_progress(&mut self, id: Id) {
        let Some(at) = self.starting.iter().position(|s| s.session == id) else { return };
        match self.starting[at].child.advance() {
            Ok(None) => {}
            Ok(Some(_)) => self.exec_started(at),
            Err(error) => self.exec_failed(at, error),
        }
    }

    /// Gives up execs that come no further.
    pub(super) fn expire_starting(&mut self, now: Instant) {
        while let Some(at) = self.starting.iter().position(|s| s.until <= now) {
            let error = self.starting[at].child.is_late();
            self.exec_failed(at, error);
        }
    }

    fn exec_started(&mut self, at: usize) {
        let starting = &mut self.starting[at];
        let (id, console) = (starting.session, starting.child.take_console());
        let Some(session) = self.sessions.iter_mut().find(|s| s.id == id) else {
            let starting = self.starting.swap_remove(at);
            return self.abandon(id, starting.child);
        };
        if let Some(Err(e)) = console.map(|console| session.set_console(console)) {
            return self.exec_failed(at, StepError::of(Step::Console, "terminal", e));
        }
        let Starting { mut child, seq, line, .. } = self.starting.swap_remove(at);
        self.poll.remove(child.channel());
        session.pid = child.pid();
        let exec = session.exec.clone().unwrap_or_default();
        self.tell(line, &Event::ExecStarted { seq, exec, pid: child.pid() });
        for warning in &child.take_warnings() {
            self.complain("exec", warning);
        }
        self.probe_runs(id);
        self.watch_process(id, child.into_pidfd());
        self.resume(id);
        // Input that came with the request may wait for the terminal.
        self.rearm(id);
    }

    fn exec_failed(&mut self, at: usize, error: StepError) {
        let Starting { session: id, child, seq, line, .. } = self.starting.swap_remove(at);
        self.poll.remove(child.channel());
        let exec = self.session(id).and_then(|session| session.exec.clone()).unwrap_or_default();
        self.abandon(id, child);
        self.sessions.retain(|s| s.id != id);
        self.forget_clients(id);
        self.probe_failed(id, &error);
        self.tell(line, &Event::ExecFailed { seq, exec, error });
    }

    /// Kills a child without waiting for its end: it may be frozen.
    fn abandon(&mut self, session: Id, child: Birth) {
        child.kill();
        let (pid, pidfd) = (child.pid(), child.into_pidfd());
        if self.poll.add(&pidfd, Token::Process(session), Ready::IN).is_ok() {
            self.dying.push(Dying { session, pid, pidfd });
        }
    }

    /// Reaps a child that was abandoned.
    pub(super) fn bury(&mut self, id: Id) {
        let Some(at) = self.dying.iter().position(|dying| dying.session == id) else { return };
        let Dying { pid, pidfd, .. } = self.dying.swap_remove(at);
        self.poll.remove(&pidfd);
        // Ready to be reaped, or reaped by somebody else.
        let _ = process::wait(pid, false);
    }

    /// An exec has ended and its output is read.
    pub(super) fn exec_ended(&mut self, mut session: Session) {
        if self.probe_ended(&mut session) {
            return;
        }
        let Session { id, exec, pid, code, .. } = session;
        let (Some(exec), Some(code)) = (exec, code) else { return };
        // In this order: a client that sees the end of its stream asks for the code.
        self.broadcast(&Event::ExecExited { exec: exec.clone(), code });
        self.close_clients(id);
        if self.ended_execs.len() == ENDED_MAX {
            self.ended_execs.remove(0);
        }
        if self.lines.is_empty() || self.ended_execs.len() < ENDED_MAX / 4 {
            self.ended_execs.push(ExecStatus { exec, pid, code: Some(code) });
        }
    }
}
