//! Prepares a start: all that can be opened, allocated and decided is, before there is a child.

use std::os::fd::{AsFd, OwnedFd};

use corten_sys::process::{self, CloneArgs, Cloned, Strings, namespace};
use corten_sys::seccomp::{Flags, Instruction};
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::child::{self, Given, Identity, LINE_BYTES_MAX, ReadyFilter};
use super::idmapped::{Idmapped, prepare_mount, prepare_overlay};
use super::parent::{Child, channel_error};
use super::record::{DETAIL_BYTES_MAX, GO, HEADER_BYTES, Kind, Record};
use super::user_namespace::write_mappings;
use super::{CgroupEntry, Filter, Hold, Listener, Request, Stdio};
use crate::monitor::protocol::{Step, StepError};
use crate::plan::{Action, Host, Plan, namespace_flag, namespace_name};
use crate::spec::{Hooks, NamespaceKind, OCI_VERSION, State, Status};

const SIGCHLD: i32 = 17;
const PROC_SUPER_MAGIC: u64 = 0x9fa0;
const PROC_ROOT_INODE: u64 = 1;

/// A start with everything ready; nothing has happened yet.
pub struct Prepared {
    equipment: Equipment,
    /// Namespaces that an intermediate process enters.
    joins: Vec<(NamespaceKind, OwnedFd)>,
    hooks: Option<Hooks>,
    state: State,
}

impl Prepared {
    /// Validates, plans, opens and allocates all that the child will need.
    pub fn new(request: Request<'_>) -> Result<Self, StepError> {
        let plan = Plan::container(&request, &Host::probe())?;
        let Request { id, bundle, spec, rootfs, namespaces, seccomp, cgroup, stdio, hold, .. } = request;
        let mut given: Vec<(NamespaceKind, OwnedFd)> = namespaces;
        let mut joins = Vec::new();
        if plan.namespaces.intermediate {
            for join in &plan.namespaces.joins {
                joins.push((join.kind, open_namespace(join.kind, join.path.as_deref(), &mut given)?));
            }
        }
        let inherited = Idmapped::new(plan.namespaces.mappings.as_ref());
        let mut prepared = Vec::with_capacity(plan.operations.len());
        for operation in &plan.operations {
            prepared.push(match &operation.action {
                Action::JoinNamespace(kind) => {
                    let path = plan.namespaces.joins.iter().find(|j| j.kind == *kind);
                    Some(open_namespace(*kind, path.and_then(|j| j.path.as_deref()), &mut given)?)
                }
                Action::Mount(action) => prepare_mount(&operation.object, &action.source, &inherited)?,
                Action::OverlayRoot(overlay) if plan.namespaces.mappings.is_some() => {
                    Some(prepare_overlay(overlay, rootfs, &inherited)?)
                }
                _ => None,
            });
        }
        let state = State {
            oci_version: OCI_VERSION.into(),
            id: id.into(),
            status: Status::Creating,
            pid: None,
            bundle: bundle.to_string_lossy().into_owned(),
            annotations: spec.annotations.clone(),
        };
        let options = Options {
            stdio,
            hold,
            cgroup,
            filter: seccomp,
            preserve_fds: request.preserve_fds,
            death_signal: request.death_signal,
        };
        let equipment = Equipment::new(plan, prepared, options)?;
        Ok(Self { equipment, joins, hooks: spec.hooks.clone(), state })
    }

    /// What was clamped or left out because this machine does not allow it.
    pub fn warnings(&self) -> &[String] {
        &self.equipment.plan.warnings
    }

    /// What will be done.
    pub fn plan(&self) -> &Plan {
        &self.equipment.plan
    }

    /// Clones. After an error nothing is left of the child.
    pub fn spawn(mut self) -> Result<Child, StepError> {
        let flags = self.equipment.plan.namespaces.clone_flags;
        let (ours, cloned) = if self.equipment.plan.namespaces.intermediate {
            self.spawn_by_intermediate(flags)?
        } else {
            let (ours, cloned) = self.equipment.clone_child(flags)?;
            if let Err(error) = self.map(cloned.pid, ours.as_fd()) {
                let _ = process::pidfd_send_signal(cloned.pidfd.as_fd(), 9);
                let _ = process::wait(cloned.pid, true);
                return Err(error);
            }
            (ours, cloned)
        };
        Ok(self.equipment.into_child(cloned, ours, self.hooks, self.state))
    }

    /// Writes the mappings of the child's new user namespace, and tells it.
    fn map(&self, pid: i32, channel: std::os::fd::BorrowedFd<'_>) -> Result<(), StepError> {
        if let Some(mappings) = &self.equipment.plan.namespaces.mappings {
            write_mappings(pid, mappings)?;
            rustix::io::write(channel, &[GO]).map_err(channel_error)?;
        }
        Ok(())
    }

    /// An intermediate process enters what there is to enter, makes the container's process as our child, and ends.
    fn spawn_by_intermediate(&mut self, flags: u64) -> Result<(OwnedFd, Cloned), StepError> {
        let (ours, theirs) = channel()?;
        let mut parent_channel = Some(ours);
        let equipment = &mut self.equipment;
        let group = equipment.cgroup.directory.take();
        let joins = &self.joins;
        let time = equipment.plan.namespaces.new_time.then(|| equipment.plan.namespaces.time_offsets.clone());
        let procfs = rustix::io::fcntl_dupfd_cloexec(&equipment.procfs, 3).map_err(channel_error)?;
        let say = rustix::io::fcntl_dupfd_cloexec(&theirs, 3).map_err(channel_error)?;
        let args = CloneArgs { flags: 0, exit_signal: SIGCHLD, cgroup: group.as_ref().map(AsFd::as_fd) };
        let given = equipment.given(theirs, &mut parent_channel);
        let intermediate = process::clone3(&args, || {
            let error = match child::enter(&given, joins, time.as_deref(), procfs.as_fd()) {
                Ok(()) => {
                    let args =
                        CloneArgs { flags: flags | process::CLONE_PARENT, exit_signal: 0, cgroup: None };
                    match process::clone3(&args, move || child::run_after_word(given)) {
                        Ok(cloned) => {
                            child::say_number(say.as_fd(), Kind::Pid, 0, cloned.pid);
                            return 0;
                        }
                        Err(error) => (0, error),
                    }
                }
                Err(error) => error,
            };
            child::say_number(say.as_fd(), Kind::Failed, error.0 as u32, error.1.raw_os_error());
            1
        })
        .map_err(clone_error)?;
        drop(say);
        let ours = parent_channel.take().ok_or_else(|| channel_error(rustix::io::Errno::BADF))?;
        let answer = self.pid_of_child(&ours);
        let _ = process::wait(intermediate.pid, true);
        let pid = answer?;
        let cloned = (|| {
            let number = rustix::process::Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH)?;
            rustix::process::pidfd_open(number, rustix::process::PidfdFlags::empty())
        })()
        .map(|pidfd| Cloned { pid, pidfd })
        .map_err(clone_error)
        .and_then(|cloned| {
            // The word that every child of an intermediate waits for.
            rustix::io::write(&ours, &[GO]).map_err(channel_error)?;
            self.map(pid, ours.as_fd())?;
            Ok(cloned)
        });
        cloned.map(|cloned| (ours, cloned)).inspect_err(|_| {
            let _ = process::kill(pid, 9);
            let _ = process::wait(pid, true);
        })
    }

    fn pid_of_child(&self, channel: &OwnedFd) -> Result<i32, StepError> {
        let mut packet = [0; HEADER_BYTES];
        let length =
            rustix::io::retry_on_intr(|| rustix::io::read(channel, &mut packet)).map_err(channel_error)?;
        let (record, _) =
            Record::read(&packet[..length]).ok_or_else(|| channel_error(rustix::io::Errno::PROTO))?;
        if record.kind == Kind::Pid {
            return Ok(record.errno);
        }
        let join = self.equipment.plan.namespaces.joins.get(record.index as usize);
        let object = join.map_or("intermediate process".into(), |j| {
            j.path.clone().unwrap_or_else(|| namespace_name(j.kind).into())
        });
        Err(errno_error(Step::Namespace, object, rustix::io::Errno::from_raw_os_error(record.errno)))
    }
}

/// What [`Equipment::new`] takes over as it is.
pub(crate) struct Options {
    pub stdio: Stdio,
    pub hold: Hold,
    pub cgroup: Option<CgroupEntry>,
    pub filter: Option<Filter>,
    pub preserve_fds: u32,
    pub death_signal: Option<i32>,
}

/// Everything that a child is given, allocated; the same for containers and execs.
pub(crate) struct Equipment {
    pub plan: Plan,
    prepared: Vec<Option<OwnedFd>>,
    procfs: OwnedFd,
    arguments: Strings,
    environment: Strings,
    identity: Box<Identity>,
    lines: Vec<u8>,
    detail: Vec<u8>,
    cgroup: CgroupEntry,
    filter: Option<ReadyFilter>,
    listener: Option<Listener>,
    options: Options,
    user_namespace: bool,
}

impl Equipment {
    pub fn new(
        mut plan: Plan,
        prepared: Vec<Option<OwnedFd>>,
        mut options: Options,
    ) -> Result<Self, StepError> {
        let procfs = open_procfs()?;
        let filter = options.filter.take();
        let arguments = Strings::new(std::mem::take(&mut plan.program.arguments), 0);
        let environment = Strings::new(std::mem::take(&mut plan.program.environment), 1);
        let user_namespace = plan.namespaces.has(NamespaceKind::User)
            || plan
                .operations
                .iter()
                .any(|o| matches!(o.action, Action::JoinProcess { flags } if flags & namespace::USER != 0));
        Ok(Self {
            plan,
            prepared,
            procfs,
            arguments,
            environment,
            identity: Box::new(Identity::new()),
            lines: vec![0; LINE_BYTES_MAX],
            detail: vec![0; HEADER_BYTES + DETAIL_BYTES_MAX],
            cgroup: options.cgroup.take().unwrap_or_default(),
            listener: filter.as_ref().and_then(|f| f.listener.clone()),
            filter: filter.map(ready),
            options,
            user_namespace,
        })
    }

    fn given<'a>(&'a mut self, channel: OwnedFd, parent_channel: &'a mut Option<OwnedFd>) -> Given<'a> {
        Given {
            operations: &self.plan.operations,
            prepared: &mut self.prepared,
            tasks: &self.cgroup.tasks,
            procfs: self.procfs.as_fd(),
            channel,
            parent_channel,
            stdio: &self.options.stdio,
            hold: &self.options.hold,
            candidates: &self.plan.program.candidates,
            searched: self.plan.program.searched,
            wants_home: self.plan.program.wants_home,
            arguments: &self.arguments,
            environment: &mut self.environment,
            filter: self.filter.as_ref(),
            preserve_fds: self.options.preserve_fds,
            death_signal: self.options.death_signal.unwrap_or(0),
            user_namespace: self.user_namespace,
            pid_shared: self.plan.namespaces.joins.iter().any(|join| join.kind == NamespaceKind::Pid),
            identity: &mut self.identity,
            lines: &mut self.lines,
            detail: &mut self.detail,
        }
    }

    /// One clone; the child runs the plan.
    pub fn clone_child(&mut self, flags: u64) -> Result<(OwnedFd, Cloned), StepError> {
        let (ours, theirs) = channel()?;
        let mut parent_channel = Some(ours);
        let group = self.cgroup.directory.take();
        let args = CloneArgs { flags, exit_signal: SIGCHLD, cgroup: group.as_ref().map(AsFd::as_fd) };
        let given = self.given(theirs, &mut parent_channel);
        let cloned = process::clone3(&args, move || child::run(given)).map_err(clone_error)?;
        let ours = parent_channel.ok_or_else(|| channel_error(rustix::io::Errno::BADF))?;
        Ok((ours, cloned))
    }

    pub fn into_child(self, cloned: Cloned, channel: OwnedFd, hooks: Option<Hooks>, state: State) -> Child {
        Child {
            pid: cloned.pid,
            pidfd: cloned.pidfd,
            console: None,
            patience: None,
            warnings: self.plan.warnings,
            net_devices: self.plan.net_devices,
            channel,
            operations: self.plan.operations,
            hooks,
            state,
            listener: self.listener,
            held_by_caller: matches!(self.options.hold, Hold::Channel),
            held_by_socket: matches!(self.options.hold, Hold::Socket(_)),
        }
    }
}

/// The program as seccomp(2) takes it.
fn ready(filter: Filter) -> ReadyFilter {
    let instruction = |(code, jump_true, jump_false, k)| Instruction { code, jump_true, jump_false, k };
    ReadyFilter {
        instructions: filter.instructions.into_iter().map(instruction).collect(),
        flags: Flags(filter.flags),
        listener: filter.listener.is_some(),
    }
}

/// The parent's end, the child's end.
fn channel() -> Result<(OwnedFd, OwnedFd), StepError> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(channel_error)
}

/// `/proc`, if it is what it should be and nobody's imitation.
fn open_procfs() -> Result<OwnedFd, StepError> {
    let error = |errno| errno_error(Step::Mount, "/proc", errno);
    let procfs = rustix::fs::open("/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(error)?;
    let kind = rustix::fs::fstatfs(&procfs).map_err(error)?.f_type as u64;
    let inode = rustix::fs::fstat(&procfs).map_err(error)?.st_ino;
    if kind != PROC_SUPER_MAGIC || inode != PROC_ROOT_INODE {
        return Err(error(rustix::io::Errno::NOTSUP));
    }
    Ok(procfs)
}

fn open_namespace(
    kind: NamespaceKind,
    path: Option<&str>,
    given: &mut Vec<(NamespaceKind, OwnedFd)>,
) -> Result<OwnedFd, StepError> {
    if let Some(position) = given.iter().position(|(k, _)| *k == kind) {
        return Ok(given.swap_remove(position).1);
    }
    let path = path.unwrap_or_default();
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| errno_error(Step::Namespace, path, errno))
}

/// `CLONE_NEW*` of those namespaces of process `pid` that are not the caller's own.
pub(crate) fn namespaces_of(pid: i32) -> Result<u64, StepError> {
    const KINDS: [(NamespaceKind, &str); 8] = [
        (NamespaceKind::Mount, "mnt"),
        (NamespaceKind::Pid, "pid"),
        (NamespaceKind::Network, "net"),
        (NamespaceKind::Uts, "uts"),
        (NamespaceKind::Ipc, "ipc"),
        (NamespaceKind::User, "user"),
        (NamespaceKind::Cgroup, "cgroup"),
        (NamespaceKind::Time, "time"),
    ];
    let error = |path: &str, errno| errno_error(Step::Namespace, path, errno);
    let open = |path: String| {
        rustix::fs::open(path.as_str(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| error(&path, errno))
    };
    let (own, other) = (open("/proc/self/ns".into())?, open(format!("/proc/{pid}/ns"))?);
    let mut flags = 0;
    for (kind, name) in KINDS {
        let inode =
            |dir: &OwnedFd| rustix::fs::statat(dir, name, rustix::fs::AtFlags::empty()).map(|s| s.st_ino);
        match (inode(&own), inode(&other)) {
            (Ok(own), Ok(other)) if own != other => flags |= namespace_flag(kind),
            (Ok(_), Ok(_)) | (Err(rustix::io::Errno::NOENT), _) => {}
            (_, Err(errno)) | (Err(errno), _) => return Err(error(&format!("/proc/{pid}/ns/{name}"), errno)),
        }
    }
    Ok(flags)
}

fn clone_error(errno: rustix::io::Errno) -> StepError {
    errno_error(Step::Namespace, "clone3", errno)
}

pub(crate) fn errno_error(step: Step, object: impl Into<String>, errno: rustix::io::Errno) -> StepError {
    let text = std::io::Error::from(errno).to_string();
    let message = text.split(" (os error").next().unwrap_or_default().to_lowercase();
    StepError { step, object: object.into(), errno: errno.raw_os_error(), message }
}
