//! A further process in a running container.

use std::os::fd::BorrowedFd;

use crate::launch::{CgroupEntry, Child, Filter, Stdio};
use crate::monitor::protocol::{Step, StepError};
use crate::spec::Process;

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
            preserve_fds: 0,
            death_signal: None,
        }
    }
}

/// An exec with everything ready.
pub struct Prepared {
    warnings: Vec<String>,
}

impl Prepared {
    pub fn new(request: Request<'_>) -> Result<Self, StepError> {
        let _ = request;
        Err(StepError { step: Step::Spec, object: String::new(), errno: 38, message: "not ready".into() })
    }

    /// What was clamped or left out because this machine does not allow it.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Clones; follow the child with [`Child::wait`].
    pub fn spawn(self) -> Result<Child, StepError> {
        Err(StepError { step: Step::Spec, object: String::new(), errno: 38, message: "not ready".into() })
    }
}
