//! Further processes in the container (`exec`): begun, followed until they run, remembered after they have ended.

use std::os::fd::{AsFd, OwnedFd};

use super::poll::{Id, Ready, Token};
use super::protocol::{Attach, Event, ExecStatus, Stdio, Step, StepError};
use super::requests::refused;
use super::run::{CONTAINER, Monitor};
use super::start::group_entry;
use super::streams::{self, Session};
use crate::exec;
use crate::launch::Child;
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
}

/// An exec on its way to its program.
pub(super) struct Starting {
    session: Id,
    child: Child,
    seq: u64,
    line: Id,
}

impl Monitor {
    /// Clones the process; the answer follows when it runs or fails. The error is the answer.
    pub(super) fn begin_exec(&mut self, mut wish: Wish, fds: Vec<OwnedFd>) -> Result<(), Event> {
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
        let cloned = self.clone_exec(&wish, pid, pidfd);
        let Wish { exec, stdio, attach, line, .. } = wish;
        let (child, ends) = cloned.map_err(|error| Event::ExecFailed { seq, exec: exec.clone(), error })?;
        let id = self.next_id();
        if let Err(e) = self.poll.add(child.channel(), Token::Starting(id), Ready::IN) {
            // Dropping its channel ends the child.
            return Err(Event::ExecFailed { seq, exec, error: StepError::of(Step::Monitor, "epoll", e) });
        }
        self.sessions.push(Session::new(id, Some(exec), &stdio, ends));
        self.starting.push(Starting { session: id, child, seq, line });
        if let Some((attach, fd)) = attach.zip(fds.into_iter().next()) {
            self.attach(id, attach, fd);
        }
        Ok(())
    }

    fn clone_exec(
        &self,
        wish: &Wish,
        pid: i32,
        pidfd: &OwnedFd,
    ) -> Result<(Child, streams::Ends), StepError> {
        let attach = wish.attach.as_ref();
        let stdin = attach.is_some_and(|a| a.stdin);
        let outputs = attach.is_some_and(|a| a.stdout || a.stderr);
        let (stdio, ends) = streams::open(&wish.stdio, stdin, outputs)?;
        let mut request = exec::Request::new(pid, pidfd.as_fd(), &wish.process);
        request.user = wish.user.as_deref();
        request.groups = &wish.groups;
        request.stdio = stdio;
        request.cgroup = Some(group_entry(&self.cgroup)?);
        request.seccomp = self.filter.clone();
        request.death_signal = Some(9);
        Ok((exec::Prepared::new(request)?.spawn()?, ends))
    }

    /// The child has something to say: that it runs, or why not.
    pub(super) fn exec_progress(&mut self, id: Id) {
        let Some(at) = self.starting.iter().position(|s| s.session == id) else { return };
        let Starting { mut child, seq, line, .. } = self.starting.swap_remove(at);
        self.poll.remove(child.channel());
        let outcome = child.wait();
        let console = child.console.take();
        let Some(session) = self.session_mut(id) else { return };
        let exec = session.exec.clone().unwrap_or_default();
        let outcome = outcome.and_then(|_| match console.map(|c| session.set_console(c)) {
            Some(Err(e)) => Err(StepError::of(Step::Console, "terminal", e)),
            _ => Ok(()),
        });
        match outcome {
            Ok(()) => {
                session.pid = child.pid;
                self.tell(line, &Event::ExecStarted { seq, exec, pid: child.pid });
                for warning in &child.warnings {
                    self.complain("exec", warning);
                }
                self.watch_process(id, child.pidfd);
                self.resume(id);
                // Input that came with the request may wait for the terminal.
                self.rearm(id);
            }
            Err(error) => {
                self.sessions.retain(|s| s.id != id);
                self.forget_clients(id);
                self.tell(line, &Event::ExecFailed { seq, exec, error });
            }
        }
    }

    /// An exec has ended and its output is read.
    pub(super) fn exec_ended(&mut self, session: Session) {
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
