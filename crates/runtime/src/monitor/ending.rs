//! The end of a process, of the container, and of the monitor itself.
//!
//! In this order: the process is reaped; what is left in its pipes is logged and handed on; the exit record is written;
//! engines hear of it; the record is made durable; hooks run; the control group, the socket and the files in the run
//! directory go; the lines to the engines are closed, which tells them that nothing is left. Then the monitor stays only
//! for clients that have not yet taken all their output.

use std::time::{Duration, Instant};

use corten_sys::process::{self, Ended};

use super::poll::{Id, Ready, Token};
use super::protocol::{Cause, Event, Exit, Timestamp};
use super::run::{CONTAINER, Monitor};
use super::start::remove_group;
use super::{record, streams::Session};
use crate::hooks;
use crate::log::Stream;
use crate::spec::{Hook, State};

/// How long output is waited for after the process has ended, when others hold its pipes.
const DRAIN: Duration = Duration::from_secs(2);
/// How long execs may take to be reaped after the container's first process.
const EXECS: Duration = Duration::from_secs(2);

/// How the container ended; empty while it lives.
#[derive(Default)]
pub(super) struct Ending {
    /// Exit code and signal.
    pub code: Option<(i32, Option<i32>)>,
    finished: Timestamp,
    oom_killed: bool,
    core_dumped: bool,
    /// Why the monitor ended it.
    pub cause: Option<Cause>,
    /// It never ran: there is no exit to be told.
    pub failed: bool,
    /// Everything is told and cleared away.
    over: bool,
    pub execs_until: Option<Instant>,
}

/// Hooks for the end, and what they are told.
pub(super) struct Poststop {
    pub hooks: Vec<Hook>,
    pub state: State,
}

impl Ending {
    /// Whether everything is told and cleared away.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.execs_until
    }
}

impl Monitor {
    pub(super) fn is_finished(&self) -> bool {
        let reaped = self.sessions.is_empty() || self.ending.execs_until.is_none();
        let shipped = self.shipping.as_ref().is_none_or(|s| s.is_done());
        self.ending.over && self.clients.is_empty() && reaped && shipped
    }

    /// A process has ended.
    pub(super) fn reap(&mut self, id: Id) {
        let Some(session) = self.session_mut(id).filter(|s| s.process.is_some()) else {
            return self.bury(id);
        };
        let ended = match process::wait(session.pid, false) {
            Ok(Some((_, ended))) => ended,
            Ok(None) => return,
            // Somebody else has reaped it; its code is lost.
            Err(_) => Ended::Exited(255),
        };
        let (code, signal, core_dumped) = match ended {
            Ended::Exited(code) => (code, None, false),
            Ended::Signaled(signal, core_dumped) => (128 + signal, Some(signal), core_dumped),
        };
        session.code = Some(code);
        session.input.end();
        session.drain_until = Some(Instant::now() + DRAIN);
        if let Some(pidfd) = session.process.take() {
            self.poll.remove(&pidfd);
        }
        if id == CONTAINER {
            self.ending.core_dumped = core_dumped;
            self.container_ended(Some((code, signal)));
        }
        self.drain(id);
    }

    /// Notes how the first process ended. Without a PID namespace of its own the container's other processes outlive it, so
    /// they are ended here.
    pub(super) fn container_ended(&mut self, code: Option<(i32, Option<i32>)>) {
        // A probe that still runs is an exec like others now.
        self.checkup = None;
        self.ending.code = Some(code.unwrap_or((255, None)));
        self.end_names();
        self.ending.finished = Timestamp::now();
        // The end of the group would be a notice, too.
        self.forget_memory();
        self.ending.oom_killed = self.cgroup.oom_kills().is_ok_and(|kills| kills > 0);
        if !self.pid_namespace
            && let Err(error) = self.cgroup.kill_all()
        {
            self.complain("end the container's processes", &error);
        }
        if code.is_none() {
            self.sessions.retain(|s| s.id != CONTAINER);
            self.close_clients(CONTAINER);
            self.clear_away();
        }
    }

    /// Reads what a process that has ended left in its pipes, however full its clients are. What comes after that is from others who
    /// hold the pipes and may write for ever: it is read like any output, for a while.
    fn drain(&mut self, id: Id) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut left = self.session(id).map_or(0, |session| session.unread(stream));
            while let Some(read @ 1..) = self.pump(id, stream)
                && read <= left
            {
                left -= read;
            }
        }
        // Reading the last output's end has settled it; without outputs there was nothing to read.
        self.settle(id);
        self.rearm(id);
    }

    /// One of a process's outputs has no more to give.
    pub(super) fn output_ended(&mut self, id: Id, stream: Stream) {
        let Self { sessions, poll, .. } = self;
        let Some(session) = sessions.iter_mut().find(|s| s.id == id) else { return };
        let terminal = session.tty && session.code.is_none();
        let Some(fd) = &session.outputs[stream.index()] else { return };
        // A terminal that nobody has open may be opened again while the process lives: an init writes to its console now and then.
        // Until then it hangs up without end, so only what is new is waited for.
        if terminal {
            let deserted = std::mem::replace(&mut session.deserted, true);
            if !deserted && let Err(error) = poll.set(fd, Token::Output(id, stream), Ready::IN | Ready::ET) {
                self.complain("watch the terminal", &error);
            }
            return;
        }
        poll.remove(fd);
        session.outputs[stream.index()] = None;
        self.settle(id);
    }

    /// Others hold the pipes still: they are not waited for any longer.
    pub(super) fn close_outputs(&mut self, id: Id) {
        let Some(session) = self.session_mut(id) else { return };
        session.drain_until = None;
        let outputs = std::mem::take(&mut session.outputs);
        for fd in outputs.iter().flatten() {
            self.poll.remove(fd);
        }
        self.settle(id);
    }

    /// When a process and its output have ended, tells everybody.
    fn settle(&mut self, id: Id) {
        let Some(at) = self.sessions.iter().position(|s| s.id == id && s.is_over()) else { return };
        let session = self.sessions.swap_remove(at);
        if id == CONTAINER { self.container_over(&session) } else { self.exec_ended(session) }
    }

    fn container_over(&mut self, session: &Session) {
        if let Some(log) = &mut self.log {
            // As for every record: a full disk costs log lines only.
            let _ = log.finish(self.ending.finished);
        }
        if let Some(shipping) = &mut self.shipping {
            shipping.finish();
        }
        let (code, signal) = self.ending.code.unwrap_or((session.code.unwrap_or(255), None));
        let exit = Exit {
            code,
            signal,
            oom_killed: self.ending.oom_killed,
            core_dumped: self.ending.core_dumped,
            cause: self.ending.cause,
            started: self.started.unwrap_or_default(),
            finished: self.ending.finished,
        };
        let mut written = record::write_exit(&self.state_dir, &exit);
        if written.is_err() {
            self.keep_exit(&exit);
        }
        self.broadcast(&Event::Exited { exit: exit.clone() });
        self.close_clients(CONTAINER);
        if let Ok(record) = &written
            && let Err(error) = record.sync()
        {
            self.keep_exit(&exit);
            written = Err(error);
        }
        match written {
            Ok(_) => {}
            // The engine removes the directory of a container that is not to be kept.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => self.complain("write exit.json", &error),
        }
        self.clear_away();
    }

    /// A disk that is full must not cost the exit code: the run directory is on tmpfs, and engines look there, too.
    fn keep_exit(&self, exit: &Exit) {
        if let Err(error) = record::write_exit(&self.run_dir, exit) {
            self.complain("write exit.json in the run directory", &error);
        }
    }

    /// Removes everything that the container had outside of its directories.
    fn clear_away(&mut self) {
        if let Some(poststop) = self.poststop.take()
            && let Err(error) = hooks::run("poststop", &poststop.hooks, &poststop.state)
        {
            self.complain("poststop hook", &error);
        }
        if let Some(Err(error)) = self.foreign.as_ref().map(|foreign| foreign.delete()) {
            self.complain("delete the container in its runtime", &error);
        }
        if let Err(error) = remove_group(&self.cgroup) {
            self.complain("remove the control group", &error);
        }
        if let Err(error) = record::clear(&self.run_dir) {
            self.complain("clear the run directory", &error);
        }
        if let Some(listener) = self.listener.take() {
            self.poll.remove(&listener);
        }
        while let Some(line) = self.lines.first().map(|line| line.id) {
            self.drop_line(line);
        }
        self.ending.over = true;
        self.ending.execs_until = Some(Instant::now() + EXECS);
    }

    /// Lets a session's clients go once they have got everything.
    pub(super) fn close_clients(&mut self, session: Id) {
        for client in self.clients.iter_mut().filter(|c| c.session == session) {
            (client.reading, client.closing) = (false, true);
        }
        self.rearm(session);
    }
}
