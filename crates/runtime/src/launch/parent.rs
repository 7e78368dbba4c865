//! The parent's side of a start: follows the child, answers it, and turns its records into errors.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use corten_sys::{fd, process};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::PidfdGetfdFlags;

use super::prepare::{errno_error, namespaces_of};
use super::record::{DETAIL_BYTES_MAX, GO, HEADER_BYTES, Kind, Reason, Record};
use super::{Listener, diagnosis, net_devices};
use crate::hooks;
use crate::monitor::protocol::{Step, StepError};
use crate::plan::{Action, NetDevicePlan, Operation};
use crate::spec::{Hooks, State, Status};

const SIGKILL: i32 = 9;
/// How long a killed child may take to end. One that is frozen or waits for a broken disk takes longer; nobody waits for that.
const REAP: Duration = Duration::from_secs(10);
/// A task that has not yet called exec(2) (include/linux/sched.h).
const PF_FORKNOEXEC: u64 = 0x40;

/// A container's first process (or an exec's), from the clone on. The caller is its parent and reaps it.
#[derive(Debug)]
pub struct Child {
    /// As the caller sees it.
    pub pid: i32,
    pub pidfd: OwnedFd,
    /// The terminal's master, there once [`Child::wait`] has returned.
    pub console: Option<OwnedFd>,
    /// What could not be done and was not insisted on.
    pub warnings: Vec<String>,
    /// For how long it may say nothing before it is given up; `None`: for ever.
    pub patience: Option<Duration>,
    pub(super) channel: OwnedFd,
    pub(super) operations: Vec<Operation>,
    pub(super) hooks: Option<Hooks>,
    pub(super) net_devices: Vec<NetDevicePlan>,
    pub(super) state: State,
    pub(super) listener: Option<Listener>,
    /// The caller lets the child go.
    pub(super) held_by_caller: bool,
    /// Another process lets the child go.
    pub(super) held_by_socket: bool,
}

/// How far a child has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Everything but the exec is done; the child waits as [`super::Hold`] says.
    Held,
    /// The program runs (or has run already).
    Running,
}

impl Child {
    /// Follows the child, running hooks as they come due, until it holds or runs. After an error it is dead and reaped.
    pub fn wait(&mut self) -> Result<Stage, StepError> {
        self.follow().inspect_err(|_| self.end())
    }

    /// Lets a child held by [`super::Hold::Channel`] run: `startContainer` hooks, then exec. After an error it is dead and reaped.
    pub fn release(&mut self) -> Result<(), StepError> {
        self.held_by_caller = false;
        self.start_hooks()
            .and_then(|()| self.go())
            .and_then(|()| self.follow().map(drop))
            .inspect_err(|_| self.end())
    }

    /// Readable when [`Child::advance`] has something to do: for callers that have other descriptors to watch.
    pub fn channel(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// Kills the child, which is still to be reaped.
    pub fn kill(&self) {
        // It may have ended by itself.
        let _ = process::pidfd_send_signal(self.pidfd.as_fd(), SIGKILL);
    }

    fn end(&self) {
        self.kill();
        if let Ok(true) = readable(self.pidfd.as_fd(), Some(REAP)) {
            let _ = process::wait(self.pid, false);
        }
    }

    fn follow(&mut self) -> Result<Stage, StepError> {
        loop {
            match readable(self.channel(), self.patience) {
                Ok(true) => {}
                Ok(false) => return Err(self.is_late()),
                Err(errno) => return Err(channel_error(errno)),
            }
            if let Some(stage) = self.advance()? {
                return Ok(stage);
            }
        }
    }

    /// Handles one record, for which the channel must be readable; `None` when more have to come. After an error the child is to be
    /// killed and reaped.
    pub fn advance(&mut self) -> Result<Option<Stage>, StepError> {
        let mut packet = [0; HEADER_BYTES + DETAIL_BYTES_MAX];
        let mut fds = Vec::new();
        let length = match fd::receive(self.channel.as_fd(), &mut packet, &mut fds) {
            // It has not even read our last word.
            Err(rustix::io::Errno::CONNRESET) => 0,
            length => length.map_err(channel_error)?,
        };
        if length == 0 {
            return if self.never_ran() { Err(self.was_ended()) } else { Ok(Some(Stage::Running)) };
        }
        let (record, details) =
            Record::read(&packet[..length]).ok_or_else(|| channel_error(rustix::io::Errno::PROTO))?;
        let operation = self.operations.get(record.index as usize);
        match record.kind {
            Kind::Failed => {
                return Err(operation.map_or_else(
                    || channel_error(rustix::io::Errno::PROTO),
                    |operation| failure(operation, &record, details),
                ));
            }
            Kind::Warning => {
                self.warnings.extend(operation.map(|o| failure(o, &record, details).to_string()));
            }
            Kind::Console => self.console = fds.pop(),
            Kind::CreateHooks => {
                self.net_devices()?;
                self.create_hooks()?;
                self.go()?;
            }
            Kind::Held if self.held_by_caller || self.held_by_socket => return Ok(Some(Stage::Held)),
            Kind::Held => {
                self.start_hooks()?;
                self.go()?;
            }
            Kind::Listener => {
                self.send_listener(record.errno)?;
                self.go()?;
            }
            Kind::Pid => {}
        }
        Ok(None)
    }

    /// Whether the channel was closed by the child's death and not by its exec. exec(2) clears the flag before it closes
    /// descriptors, and nobody but the caller reaps the child, so the answer is certain. A small init never calls exec.
    fn never_ran(&self) -> bool {
        if self.operations.iter().any(|operation| matches!(operation.action, Action::Init)) {
            return false;
        }
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)) else { return false };
        // Field 9; the name, in parentheses, may contain anything.
        let flags = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split_ascii_whitespace().nth(6));
        flags.and_then(|flags| flags.parse::<u64>().ok()).is_some_and(|flags| flags & PF_FORKNOEXEC != 0)
    }

    fn was_ended(&self) -> StepError {
        self.untold("it was ended before it could become the program; does the memory limit leave room?")
    }

    /// What is told of a child that has said nothing for too long.
    pub fn is_late(&self) -> StepError {
        self.untold("it was given up, as it has come no further for too long; was it stopped?")
    }

    fn untold(&self, message: &str) -> StepError {
        let object = format!("process {}", self.pid);
        StepError { step: Step::Exec, object, errno: 0, message: message.into() }
    }

    fn go(&self) -> Result<(), StepError> {
        match rustix::io::write(&self.channel, &[GO]) {
            Ok(_) => Ok(()),
            Err(rustix::io::Errno::PIPE) => Err(self.was_ended()),
            Err(errno) => Err(channel_error(errno)),
        }
    }

    fn state(&self, status: Status) -> State {
        State { status, pid: Some(self.pid), ..self.state.clone() }
    }

    fn net_devices(&self) -> Result<(), StepError> {
        if self.net_devices.is_empty() {
            return Ok(());
        }
        let path = format!("/proc/{}/ns/net", self.pid);
        let namespace = rustix::fs::open(path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| errno_error(Step::Namespace, path.as_str(), errno))?;
        net_devices::move_all(&self.net_devices, namespace.as_fd())
    }

    fn create_hooks(&self) -> Result<(), StepError> {
        let Some(lists) = &self.hooks else { return Ok(()) };
        let state = self.state(Status::Creating);
        // By the specification they come after the start was asked for, when a container is created already; in fact every runtime runs
        // them here, as there is no other place for what they are used for: a network before the program is looked for.
        hooks::run("prestart", &lists.prestart, &self.state(Status::Created))?;
        hooks::run("createRuntime", &lists.create_runtime, &state)?;
        self.inside("createContainer", &lists.create_container, &state)
    }

    fn start_hooks(&self) -> Result<(), StepError> {
        let Some(lists) = &self.hooks else { return Ok(()) };
        self.inside("startContainer", &lists.start_container, &self.state(Status::Created))
    }

    fn inside(&self, name: &str, list: &[crate::spec::Hook], state: &State) -> Result<(), StepError> {
        if list.is_empty() {
            return Ok(());
        }
        hooks::run_inside(name, list, state, self.pidfd.as_fd(), namespaces_of(self.pid)?)
    }

    /// Hands the filter's descriptor, which the child has under `number`, to whoever supervises (config-linux.md, "listenerPath").
    fn send_listener(&self, number: i32) -> Result<(), StepError> {
        let Some(listener) = &self.listener else {
            return Err(listener_error("", rustix::io::Errno::DESTADDRREQ));
        };
        let path = listener.path.display().to_string();
        let error = |error| listener_error(&path, error);
        let fd =
            rustix::process::pidfd_getfd(&self.pidfd, number, PidfdGetfdFlags::empty()).map_err(error)?;
        let state = self.state(Status::Creating);
        let message = serde_json::json!({
            "ociVersion": state.oci_version,
            "fds": ["seccompFd"],
            "pid": self.pid,
            "metadata": listener.metadata.clone().unwrap_or_default(),
            "state": state,
        });
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .map_err(error)?;
        let address = SocketAddrUnix::new(listener.path.as_path()).map_err(error)?;
        rustix::net::connect(&socket, &address).map_err(error)?;
        fd::send(socket.as_fd(), message.to_string().as_bytes(), &[fd.as_fd()]).map_err(error)?;
        Ok(())
    }
}

/// Waits until a descriptor is readable or at its end; false when the time is over.
fn readable(fd: BorrowedFd<'_>, limit: Option<Duration>) -> Result<bool, rustix::io::Errno> {
    let limit =
        limit.map(|limit| Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() });
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, limit.as_ref())).map(|ready| ready > 0)
}

fn listener_error(path: &str, errno: rustix::io::Errno) -> StepError {
    StepError {
        step: Step::Seccomp,
        object: format!("listenerPath {path}"),
        errno: errno.raw_os_error(),
        message: std::io::Error::from(errno).to_string(),
    }
}

pub(super) fn channel_error(errno: rustix::io::Errno) -> StepError {
    StepError {
        step: Step::Monitor,
        object: "channel to the child".into(),
        errno: errno.raw_os_error(),
        message: std::io::Error::from(errno).to_string(),
    }
}

/// What a record says about an operation, in words.
pub(super) fn failure(operation: &Operation, record: &Record, details: &[u8]) -> StepError {
    let errno = rustix::io::Errno::from_raw_os_error(record.errno);
    let mut object = operation.object.clone();
    let plain = || {
        let text = std::io::Error::from(errno).to_string();
        // Without "(os error 2)": the number is told apart.
        text.split(" (os error").next().unwrap_or_default().to_lowercase()
    };
    let missing = errno == rustix::io::Errno::NOENT;
    let message = match record.reason {
        Reason::Errno => match &operation.action {
            Action::Mount(mount) => mount_message(mount, errno, &plain()),
            _ => plain(),
        },
        Reason::Explained => {
            let words = String::from_utf8_lossy(details);
            format!("{}: {}", plain(), words.trim())
        }
        Reason::UnknownUser => "no matching entries in passwd file".into(),
        Reason::UnknownGroup => "no matching entries in group file".into(),
        Reason::NotInPath => "executable file not found in $PATH".into(),
        Reason::IsDirectory => "permission denied: it is a directory".into(),
        Reason::NotExecutable => "permission denied: no permission to execute it".into(),
        Reason::Program if missing || errno == rustix::io::Errno::NOEXEC => {
            diagnosis::message(&diagnosis::examine(details), missing)
        }
        Reason::Program => plain(),
    };
    if object.is_empty() {
        object = operation.step.to_string();
    }
    StepError { step: operation.step, object, errno: record.errno, message }
}

/// Which of its two paths a mount has failed on.
fn mount_message(mount: &crate::plan::MountAction, errno: rustix::io::Errno, plain: &str) -> String {
    use crate::plan::MountSource;
    match &mount.source {
        MountSource::Bind { path, .. } if errno == rustix::io::Errno::NOENT => {
            format!("source {}: {plain}", path.to_string_lossy())
        }
        // move_mount(2) says EINVAL where mount(2) said ENOTDIR.
        MountSource::Bind { path, .. }
            if matches!(errno, rustix::io::Errno::NOTDIR | rustix::io::Errno::INVAL) =>
        {
            format!(
                "{plain}: is {} a directory and the destination a file, or the other way round?",
                path.to_string_lossy()
            )
        }
        MountSource::FileSystem { kind, .. } if errno == rustix::io::Errno::NODEV => {
            format!("file system type {} is unknown to the kernel", kind.to_string_lossy())
        }
        MountSource::FileSystem { .. } if errno == rustix::io::Errno::LOOP => {
            format!("{plain}: the place of such a mount must not be a symbolic link")
        }
        _ => plain.to_owned(),
    }
}
