//! The life of a monitor: bring the container up, then wait for whatever happens, until everything has ended.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use corten_sys::memory::{self, Pages};
use corten_sys::title::Title;
use corten_sys::{process, signal};

use super::attached::Attached;
use super::control::{self, ControlLine, encode};
use super::poll::{BATCH, Id, Poll, Ready, Token};
use super::protocol::{Event, ExecStatus, Launch, LaunchFd, Step, StepError, Timestamp};
use super::start::{self, Begun};
use super::streams::Session;
use super::{execs, record};
use crate::cgroup::Cgroup;
use crate::hooks;
use crate::launch::{Child, Filter, Stage};
use crate::log::{Stream, Writer};
use crate::spec::{Hook, NamespaceKind, State, Status};

/// Bytes that are read at a time.
const BUFFER: usize = 64 * 1024;
/// Quiet for so long, the monitor gives its buffers back.
const IDLE: Duration = Duration::from_secs(1);
/// A client that takes nothing for so long no longer stops the others.
const STUCK: Duration = Duration::from_secs(10);
/// How long a container's process may take for one step of its start: whoever shares a process namespace with it could stop it.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How long a client may take nothing of what is left for it after the end.
const LINGER: Duration = Duration::from_secs(600);

/// The container's own session.
pub(super) const CONTAINER: Id = 0;

pub(super) struct Monitor {
    pub(super) id: String,
    pub(super) run_dir: PathBuf,
    pub(super) state_dir: PathBuf,
    pub(super) poll: Poll,
    buffer: Pages,
    buffer_used: bool,
    /// For input; empty while there is none.
    input: Vec<u8>,
    pub(super) log: Option<Writer>,
    pub(super) sessions: Vec<Session>,
    pub(super) clients: Vec<Attached>,
    pub(super) lines: Vec<ControlLine>,
    pub(super) listener: Option<OwnedFd>,
    /// Execs that have begun and not yet reached their program.
    pub(super) starting: Vec<execs::Starting>,
    pub(super) dying: Vec<execs::Dying>,
    /// Execs that have ended, for an engine that comes back.
    pub(super) ended_execs: Vec<ExecStatus>,
    next_id: Id,
    pub(super) cgroup: Cgroup,
    pub(super) filter: Option<Filter>,
    pub(super) pid_namespace: bool,
    pub(super) started: Option<Timestamp>,
    /// The held child and what is needed once it runs.
    pending: Option<Box<Pending>>,
    pub(super) poststop: Option<Box<Poststop>>,
    pub(super) ending: super::ending::Ending,
}

struct Pending {
    child: Child,
    launch: Launch,
}

/// Hooks for the end, and what they are told.
pub(super) struct Poststop {
    pub hooks: Vec<Hook>,
    pub state: State,
}

/// Runs one container from beginning to end; returns the monitor's exit code. To be called in a process of its own.
pub(super) fn monitor(document: OwnedFd, line: OwnedFd, fds: Vec<OwnedFd>, title: Option<&Title>) -> i32 {
    detach_from_terminal();
    let Ok(mut line) = ControlLine::new(1, line) else { return 1 };
    let outcome = start::read_launch(document).and_then(|launch| {
        if let Some(title) = title {
            title.set(&format!("corten-shim {}", &launch.id[..launch.id.len().min(12)]));
        }
        let run_dir = launch.run_dir.clone();
        bring_up(launch, fds, &mut line).inspect_err(|_| {
            // The error that is reported says what went wrong; what is left here is swept by the engine.
            let _ = record::clear(&run_dir);
        })
    });
    let mut monitor = match outcome {
        Ok(monitor) => monitor,
        Err(error) => {
            line.send(&encode(&Event::Failed { error }));
            return 1;
        }
    };
    monitor.adopt_line(line);
    if let Some(pending) = monitor.pending.take() {
        monitor.begun(pending);
    }
    // What the launch left on the stack; failing to give it back costs memory only.
    let _ = memory::release_stack();
    monitor.run();
    0
}

/// Signals from the terminal or the service manager of the engine are not for a monitor: its container goes on.
fn detach_from_terminal() {
    // Fails only for a process group leader, which a forked process is not.
    let _ = rustix::process::setsid();
    let _ = process::set_name(c"corten-shim");
    for number in [1, 2, 3, 13, 15] {
        let _ = signal::set_ignored(number, true);
    }
    if let Ok(null) = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty()) {
        let _ = rustix::stdio::dup2_stderr(&null);
    }
    // The zygote ignores SIGCHLD, which would make the kernel reap our children.
    let _ = signal::set_ignored(17, false);
}

fn bring_up(launch: Launch, fds: Vec<OwnedFd>, line: &mut ControlLine) -> Result<Monitor, StepError> {
    let failed = |object: &str, e| StepError::of(Step::Monitor, object, e);
    let poll = Poll::new().map_err(|e| failed("epoll", e))?;
    let listener = control::listen(&launch.run_dir)
        .map_err(|e| failed(&launch.run_dir.join(super::SOCKET).to_string_lossy(), e))?;
    poll.add(&listener, Token::Listener, Ready::IN).map_err(|e| failed("epoll", e))?;
    poll.add(&*line, Token::Control(line.id), Ready::IN).map_err(|e| failed("epoll", e))?;
    for directory in [&launch.state_dir, &launch.run_dir] {
        record::forget_exit(directory)
            .map_err(|e| StepError::of(Step::Monitor, directory.display().to_string(), e))?;
    }
    let log = Writer::open(&launch.log).map_err(|e| log_error(&launch, &e))?;
    let buffer = Pages::new(BUFFER).map_err(|e| StepError::of(Step::Monitor, "buffer", e))?;
    let mut netns = None;
    let mut clients = Vec::new();
    for (kind, fd) in launch.fds.iter().zip(fds) {
        match kind {
            LaunchFd::NetworkNamespace => netns = Some(fd),
            LaunchFd::Attach(attach) => clients.push((attach.clone(), fd)),
        }
    }
    let Begun { child, ends, cgroup, filter } = start::begin(&launch, netns)?;
    let mut monitor =
        Monitor {
            id: launch.id.clone(),
            run_dir: launch.run_dir.clone(),
            state_dir: launch.state_dir.clone(),
            poll,
            buffer,
            buffer_used: false,
            input: Vec::new(),
            log,
            sessions: vec![Session::new(CONTAINER, None, &launch.stdio, ends)],
            clients: Vec::new(),
            lines: Vec::new(),
            listener: Some(listener),
            starting: Vec::new(),
            dying: Vec::new(),
            ended_execs: Vec::new(),
            next_id: 2,
            cgroup,
            filter,
            pid_namespace: launch.spec.linux.as_ref().is_some_and(|l| {
                l.namespaces.iter().any(|n| n.kind == NamespaceKind::Pid && n.path.is_none())
            }),
            started: None,
            pending: Some(Box::new(Pending { child, launch })),
            poststop: None,
            ending: super::ending::Ending::default(),
        };
    for (attach, fd) in clients {
        monitor.attach(CONTAINER, attach, fd);
    }
    match monitor.follow_child() {
        Ok(()) => Ok(monitor),
        Err(error) => {
            for client in &monitor.clients {
                client.hang_up();
            }
            // The first error is the one to report.
            let _ = start::remove_group(&monitor.cgroup);
            Err(error)
        }
    }
}

fn log_error(launch: &Launch, error: &crate::log::LogError) -> StepError {
    let source = std::error::Error::source(error).and_then(|s| s.downcast_ref::<std::io::Error>());
    StepError {
        step: Step::Log,
        object: launch.log.path.display().to_string(),
        errno: source.and_then(std::io::Error::raw_os_error).unwrap_or(0),
        message: source.map_or_else(|| error.to_string(), super::describe),
    }
}

impl Monitor {
    pub(super) fn next_id(&mut self) -> Id {
        self.next_id += 1;
        self.next_id
    }

    fn adopt_line(&mut self, line: ControlLine) {
        self.lines.push(line);
    }

    /// Waits until the cloned child holds or runs, and takes what it brings.
    fn follow_child(&mut self) -> Result<(), StepError> {
        let Some(pending) = &mut self.pending else { return Ok(()) };
        pending.child.patience = Some(START_PATIENCE);
        let stage = pending.child.wait()?;
        let session = &mut self.sessions[0];
        session.pid = pending.child.pid;
        if let Some(console) = pending.child.console.take() {
            session.set_console(console).map_err(|e| StepError::of(Step::Console, "terminal", e))?;
        }
        if stage == Stage::Running {
            self.started = Some(Timestamp::now());
        }
        Ok(())
    }

    /// The child holds or runs: tells everybody, then writes down what is not urgent.
    fn begun(&mut self, mut pending: Box<Pending>) {
        let pid = pending.child.pid;
        match self.started {
            Some(at) => self.broadcast(&Event::Started { pid, at }),
            None => self.broadcast(&Event::Created { pid }),
        }
        if self.lines.is_empty() {
            // The engine was gone before it could hear of this start: nobody knows of it, and nobody will ask.
            let _ = process::pidfd_send_signal(pending.child.pidfd.as_fd(), 9);
        }
        if self.sessions[0].process.is_none() {
            match pending.child.pidfd.try_clone() {
                Ok(pidfd) => self.watch_process(CONTAINER, pidfd),
                Err(error) => self.complain("watch the container's process", &error),
            }
            self.resume(CONTAINER);
        }
        self.write_state(pid);
        if self.started.is_some() {
            self.running(*pending);
        } else {
            if let Err(error) = record::write_config(&self.run_dir, &pending.launch.spec) {
                self.complain("write config.json", &error);
            }
            pending.launch.fds.clear();
            self.pending = Some(pending);
        }
    }

    fn running(&mut self, pending: Pending) {
        let Pending { launch, child } = pending;
        for warning in &child.warnings {
            self.complain("start", warning);
        }
        if let Err(error) = record::write_config(&self.run_dir, &launch.spec) {
            self.complain("write config.json", &error);
        }
        let Some(hooks) = launch.spec.hooks else { return };
        let mut state = State {
            oci_version: launch.spec.oci_version,
            id: launch.id,
            status: Status::Running,
            pid: Some(child.pid),
            bundle: launch.state_dir.display().to_string(),
            annotations: launch.spec.annotations,
        };
        if let Err(error) = hooks::run("poststart", &hooks.poststart, &state) {
            self.complain("poststart hook", &error);
        }
        if !hooks.poststop.is_empty() {
            (state.status, state.pid) = (Status::Stopped, None);
            self.poststop = Some(Box::new(Poststop { hooks: hooks.poststop, state }));
        }
    }

    fn write_state(&self, pid: i32) {
        let state = record::RunState {
            id: self.id.clone(),
            pid,
            // A process that has ended already has no start any more, and nobody will look for it.
            pid_start_ticks: record::start_ticks(pid).unwrap_or(0),
            monitor_pid: rustix::process::getpid().as_raw_pid(),
            started: self.started,
        };
        if let Err(error) = record::write_state(&self.run_dir, &state) {
            self.complain("write state.json", &error);
        }
    }

    /// Lets a held container run.
    pub(super) fn release(&mut self) {
        let Some(mut pending) = self.pending.take() else { return };
        match pending.child.release() {
            Ok(()) => {
                self.started = Some(Timestamp::now());
                self.begun(pending);
            }
            Err(error) => {
                self.broadcast(&Event::Failed { error });
                self.ending.failed = true;
                self.container_ended(None);
            }
        }
    }

    fn run(&mut self) {
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
        let Self { sessions, clients, log, buffer, .. } = self;
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
        let watched = clients.iter().any(|c| c.session == id);
        if let Some(log) = log.as_mut().filter(|_| id == CONTAINER) {
            // A full disk must not stop the container; the log has a gap then.
            let _ = log.write(stream, Timestamp::now(), bytes);
        }
        let mut changed = false;
        let mut gone: Vec<Id> = Vec::new();
        for client in clients.iter_mut().filter(|c| c.session == id && c.wants(stream)) {
            if client.write(stream, bytes).is_err() {
                gone.push(client.id);
            }
            changed |= client.waiting_since.is_some();
        }
        session.join_small_reads(read, watched);
        for client in gone {
            self.drop_client(client);
        }
        if changed {
            self.rearm(id);
        }
        Some(read)
    }

    /// How long to wait for events at most.
    fn timeout(&self) -> Option<Duration> {
        let now = Instant::now();
        let drains = self.sessions.iter().filter_map(|s| s.drain_until);
        let waits = self.clients.iter().filter_map(|client| self.gives_up_at(client));
        let starts = self.starting.iter().map(|s| s.until);
        let next = drains.chain(waits).chain(starts).chain(self.ending.deadline()).min();
        let next = next.map(|at| at.saturating_duration_since(now).max(Duration::from_millis(1)));
        if self.buffer_used { Some(next.map_or(IDLE, |n| n.min(IDLE))) } else { next }
    }

    /// Nothing happens: memory goes back to the kernel.
    fn give_back(&mut self) {
        if std::mem::take(&mut self.buffer_used) {
            self.buffer.give_back();
            self.input = Vec::new();
            if let Some(log) = &mut self.log {
                log.trim();
            }
            let _ = memory::release_stack();
        }
    }

    /// Ends the patience with clients that are stuck, and with output that has no end.
    fn expire(&mut self) {
        if self.clients.is_empty() && self.ending.code.is_none() && self.sessions.len() == 1 {
            return;
        }
        let now = Instant::now();
        let stuck: Vec<Id> = self.clients.iter().filter(|c| self.is_stuck(c, now)).map(|c| c.id).collect();
        for id in stuck {
            self.drop_client(id);
        }
        self.expire_starting(now);
        self.ending.execs_until = self.ending.execs_until.filter(|until| *until > now);
        let late = self.sessions.iter().filter(|s| s.drain_until.is_some_and(|at| at <= now)).map(|s| s.id);
        for id in late.collect::<Vec<_>>() {
            self.close_outputs(id);
        }
    }

    /// A client that nobody else has to wait for may take its time, as long as its container lives.
    fn is_stuck(&self, client: &Attached, now: Instant) -> bool {
        self.gives_up_at(client).is_some_and(|at| at <= now)
    }

    /// When a client that does not read is let go. Never while it holds nobody up but the container that it watches.
    fn gives_up_at(&self, client: &Attached) -> Option<Instant> {
        let since = client.waiting_since?;
        if self.session(client.session).is_none() {
            return Some(since + LINGER);
        }
        let others =
            self.clients.iter().any(|c| c.session == client.session && c.id != client.id && !c.is_full());
        (client.is_full() && others).then(|| since + STUCK)
    }

    /// Lends the buffer for input; to be returned by [`Monitor::return_input`].
    pub(super) fn lend_input(&mut self, len: usize) -> Vec<u8> {
        self.buffer_used = true;
        let mut input = std::mem::take(&mut self.input);
        input.resize(len, 0);
        input
    }

    pub(super) fn return_input(&mut self, input: Vec<u8>) {
        self.input = input;
    }

    /// A trouble that the container does not notice: for the operator, in `monitor.log` in the state directory. Not on stderr,
    /// which would keep the engine's terminal or pipe open for as long as the container lives.
    pub(super) fn complain(&self, what: &str, why: &dyn std::fmt::Display) {
        let path = self.state_dir.join("monitor.log");
        if let Ok(mut file) = std::fs::File::options().append(true).create(true).open(path) {
            let now = crate::log::format_rfc3339(Timestamp::now());
            // There is nobody left to tell.
            let _ = writeln!(file, "{now} {what}: {why}");
        }
    }
}
