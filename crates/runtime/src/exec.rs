//! A further process in a running container.
//!
//! One clone: the new process joins the container's control groups and, by one `setns` on its first process's pidfd, its namespaces. Only the
//! pid namespace is entered by the caller, which leaves it at once: it takes effect for children.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use corten_sys::process::{self, namespace};
use rustix::fs::{Mode, OFlags};

use crate::launch::{
    CgroupEntry, Child, Equipment, Filter, Hold, Options, Stdio, errno_error, namespaces_of,
};
use crate::monitor::protocol::{Step, StepError};
use crate::plan::{Action, Host, Plan};
use crate::spec::{MemoryPolicy, Process, State};

/// What is to be run, and where.
pub struct Request<'a> {
    /// The container's first process.
    pub pid: i32,
    pub pidfd: BorrowedFd<'a>,
    pub process: &'a Process,
    /// As for [`crate::launch::Request`].
    pub user: Option<&'a str>,
    pub groups: &'a [String],
    pub stdio: Stdio,
    /// The container's groups, or a sub-group of them.
    pub cgroup: Option<CgroupEntry>,
    pub seccomp: Option<Filter>,
    pub strict: &'a [String],
    /// The container's `linux.memoryPolicy`.
    pub memory_policy: Option<&'a MemoryPolicy>,
    pub preserve_fds: u32,
    pub death_signal: Option<i32>,
}

impl<'a> Request<'a> {
    pub fn new(pid: i32, pidfd: BorrowedFd<'a>, process: &'a Process) -> Self {
        Self {
            pid,
            pidfd,
            process,
            user: None,
            groups: &[],
            stdio: Stdio::Inherit,
            cgroup: None,
            seccomp: None,
            strict: &[],
            memory_policy: None,
            preserve_fds: 0,
            death_signal: None,
        }
    }
}

/// An exec with everything ready.
pub struct Prepared {
    equipment: Equipment,
    pidfd: OwnedFd,
    /// The container has a pid namespace of its own.
    pid_namespace: bool,
}

impl Prepared {
    /// Validates, plans, opens and allocates all that the child will need.
    pub fn new(request: Request<'_>) -> Result<Self, StepError> {
        let object = format!("of process {}", request.pid);
        let error = |errno| errno_error(Step::Namespace, object.as_str(), errno);
        let flags = namespaces_of(request.pid)?;
        let chroot = flags & namespace::MOUNT == 0;
        let plan = Plan::exec(&request, flags & !namespace::PID, chroot, &Host::probe())?;
        let mut prepared = Vec::with_capacity(plan.operations.len());
        for operation in &plan.operations {
            prepared.push(match &operation.action {
                Action::JoinProcess { .. } => {
                    Some(rustix::io::fcntl_dupfd_cloexec(request.pidfd, 3).map_err(error)?)
                }
                Action::Chroot => {
                    let path = format!("/proc/{}/root", request.pid);
                    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                    Some(rustix::fs::open(path.as_str(), flags, Mode::empty()).map_err(error)?)
                }
                _ => None,
            });
        }
        let pidfd = rustix::io::fcntl_dupfd_cloexec(request.pidfd, 3).map_err(error)?;
        // /proc/<pid> was looked at by number: it was the right process if that one is still there.
        process::pidfd_send_signal(pidfd.as_fd(), 0).map_err(error)?;
        let options = Options {
            stdio: request.stdio,
            hold: Hold::No,
            cgroup: request.cgroup,
            filter: request.seccomp,
            preserve_fds: request.preserve_fds,
            death_signal: request.death_signal,
        };
        Ok(Self {
            equipment: Equipment::new(plan, prepared, options)?,
            pidfd,
            pid_namespace: flags & namespace::PID != 0,
        })
    }

    /// What was clamped or left out because this machine does not allow it.
    pub fn warnings(&self) -> &[String] {
        &self.equipment.plan.warnings
    }

    /// What will be done.
    pub fn plan(&self) -> &Plan {
        &self.equipment.plan
    }

    /// Clones; follow the child with [`Child::wait`].
    pub fn spawn(mut self) -> Result<Child, StepError> {
        let error = |errno| errno_error(Step::Namespace, "pid", errno);
        let (channel, cloned) = if self.pid_namespace {
            let own = rustix::fs::open("/proc/self/ns/pid", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .map_err(error)?;
            process::setns(self.pidfd.as_fd(), namespace::PID).map_err(error)?;
            let cloned = self.equipment.clone_child(0);
            // Before anything else: the caller's next children belong at home.
            process::setns(own.as_fd(), namespace::PID).map_err(error)?;
            cloned?
        } else {
            self.equipment.clone_child(0)?
        };
        Ok(self.equipment.into_child(cloned, channel, None, State::default()))
    }
}
