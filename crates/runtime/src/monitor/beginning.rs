//! The beginning of a monitor and of its container: everything is made ready, the process is cloned and followed until it holds or
//! runs, and engines hear of it. How the process is made is in `start`, what comes later in `run`.

use std::os::fd::OwnedFd;
use std::time::Duration;

use corten_sys::memory::{self, Pages};
use corten_sys::title::Title;
use corten_sys::{process, signal};

use super::birth::Birth;
use super::control::{self, ControlLine, encode};
use super::ending::{Ending, Poststop};
use super::poll::{Poll, Ready, Token};
use super::protocol::{Attach, Event, Launch, LaunchFd, Step, StepError, Timestamp};
use super::record;
use super::requests::serve_names;
use super::run::{CONTAINER, Monitor};
use super::shipping::Shipping;
use super::start::{self, Begun};
use super::streams::Session;
use crate::hooks;
use crate::launch::Stage;
use crate::log::Writer;
use crate::spec::{NamespaceKind, State, Status};

/// Bytes that are read at a time.
const BUFFER: usize = 64 * 1024;
/// How long a container's process may take for one step of its start: whoever shares a process namespace with it could stop it.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// The held child and what is needed once it runs.
pub(super) struct Pending {
    child: Birth,
    launch: Launch,
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
    monitor.lines.push(line);
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

fn bring_up(mut launch: Launch, fds: Vec<OwnedFd>, line: &mut ControlLine) -> Result<Monitor, StepError> {
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
    let Given { netns, sockets, clients, log_socket } = Given::sorted(&launch.fds, fds);
    let resolver = launch.resolver.take().map(|resolver| serve_names(&poll, resolver, sockets)).transpose();
    let resolver = resolver.map_err(|e| StepError::of(Step::Monitor, "name server", e))?;
    let shipping = launch.log.remote.take().map(|remote| Box::new(Shipping::new(*remote, log_socket)));
    let Begun { child, ends, cgroup, filter, foreign } = start::begin(&launch, netns)?;
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
            packing: None,
            shipping,
            lookup: None,
            sessions: vec![Session::new(CONTAINER, None, &launch.stdio, ends)],
            clients: Vec::new(),
            lines: Vec::new(),
            listener: Some(listener),
            starting: Vec::new(),
            dying: Vec::new(),
            ended_execs: Vec::new(),
            next_id: 2,
            cgroup,
            memory: None,
            filter,
            foreign,
            pid_namespace: launch.spec.linux.as_ref().is_some_and(|l| {
                l.namespaces.iter().any(|n| n.kind == NamespaceKind::Pid && n.path.is_none())
            }),
            started: None,
            pending: Some(Box::new(Pending { child, launch })),
            poststop: None,
            resolver,
            ending: Ending::default(),
            checkup: None,
        };
    for (attach, fd) in clients {
        monitor.attach(CONTAINER, attach, fd);
    }
    monitor.follow_child().inspect_err(|_| monitor.give_up())?;
    Ok(monitor)
}

/// What came with the launch, by what it is.
#[derive(Default)]
struct Given {
    netns: Option<OwnedFd>,
    sockets: Vec<OwnedFd>,
    clients: Vec<(Attach, OwnedFd)>,
    log_socket: Option<OwnedFd>,
}

impl Given {
    fn sorted(kinds: &[LaunchFd], fds: Vec<OwnedFd>) -> Self {
        let (mut given, mut fds) = (Self::default(), fds.into_iter());
        for kind in kinds {
            match kind {
                LaunchFd::NetworkNamespace => given.netns = fds.next(),
                LaunchFd::Attach(attach) => given.clients.extend(fds.next().map(|fd| (attach.clone(), fd))),
                LaunchFd::Resolver => given.sockets.extend(fds.by_ref().take(2)),
                LaunchFd::Log => given.log_socket = fds.next(),
            }
        }
        given
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
    /// Waits until the cloned child holds or runs, and takes what it brings.
    fn follow_child(&mut self) -> Result<(), StepError> {
        let Some(pending) = &mut self.pending else { return Ok(()) };
        let stage = pending.child.wait(START_PATIENCE)?;
        let session = &mut self.sessions[0];
        session.pid = pending.child.pid();
        if let Some(console) = pending.child.take_console() {
            session.set_console(console).map_err(|e| StepError::of(Step::Console, "terminal", e))?;
        }
        if stage == Stage::Running {
            self.started = Some(Timestamp::now());
        }
        Ok(())
    }

    /// The container did not come about: nothing of it is left.
    fn give_up(&self) {
        for client in &self.clients {
            client.hang_up();
        }
        // The first error is the one to report.
        if let Some(foreign) = &self.foreign {
            let _ = foreign.delete();
        }
        let _ = start::remove_group(&self.cgroup);
    }

    /// The child holds or runs: tells everybody, then writes down what is not urgent. Whoever hears of it may look for the process
    /// at once, to join its namespaces; so its identity is there first.
    fn begun(&mut self, mut pending: Box<Pending>) {
        let pid = pending.child.pid();
        self.write_state(pid);
        match self.started {
            Some(at) => self.broadcast(&Event::Started { pid, at }),
            None => self.broadcast(&Event::Created { pid }),
        }
        if self.lines.is_empty() {
            // The engine was gone before it could hear of this start: nobody knows of it, and nobody will ask.
            pending.child.kill();
        }
        if self.sessions[0].process.is_none() {
            match pending.child.pidfd().try_clone_to_owned() {
                Ok(pidfd) => self.watch_process(CONTAINER, pidfd),
                Err(error) => self.complain("watch the container's process", &error),
            }
            self.resume(CONTAINER);
        }
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
        let Pending { launch, mut child } = pending;
        for warning in &child.take_warnings() {
            self.complain("start", warning);
        }
        if let Err(error) = record::write_config(&self.run_dir, &launch.spec) {
            self.complain("write config.json", &error);
        }
        let resources = launch.spec.linux.as_ref().and_then(|linux| linux.resources.as_ref());
        let limit = resources.and_then(|resources| resources.memory.as_ref()?.limit);
        if limit.is_some_and(|limit| limit > 0) {
            self.watch_memory();
        }
        if let Some(check) = launch.health {
            self.check_health(*check);
        }
        // Another runtime runs them itself.
        let Some(hooks) = launch.spec.hooks.filter(|_| self.foreign.is_none()) else { return };
        let mut state = State {
            oci_version: launch.spec.oci_version,
            id: launch.id,
            status: Status::Running,
            pid: Some(child.pid()),
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
}
