//! Containers by another OCI runtime: runc, crun, runsc, or whatever speaks runc's command line.
//!
//! The monitor stays what it is: it mounts the root file system, makes the bundle, is the parent of the container's processes (as
//! subreaper) and owns their streams. The other program makes, starts and deletes the container and its execs. Knows nothing of clients
//! and logs.

mod bundle;
mod program;

use std::cell::Cell;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio as Inheritance;
use std::time::Duration;

use corten_sys::process;
use rustix::process::{Pid, PidfdFlags};

use crate::launch::Stdio;
use crate::monitor::protocol::{Launch, Rootfs, Step, StepError};
use crate::spec::{self, NamespaceKind};
use bundle::Bundle;
pub(crate) use program::Making;
use program::{Console, Files, Program};

/// How long another runtime may take for a container: one that starts a virtual machine needs seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take to delete what has ended.
const DELETE_PATIENCE: Duration = Duration::from_secs(20);

/// One container of another runtime.
pub(crate) struct Foreign {
    program: Program,
    bundle: Bundle,
    /// Execs so far: their files are numbered.
    execs: Cell<u64>,
    /// The configuration refers to it by this process's descriptor.
    _netns: Option<OwnedFd>,
}

/// A process that the other runtime has made.
pub(crate) struct Made {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub console: Option<OwnedFd>,
    pub warnings: Vec<String>,
}

impl Foreign {
    /// Makes the container and lets it run. After an error nothing is left of it.
    pub fn run(
        launch: &Launch,
        runtime: &crate::monitor::protocol::Program,
        netns: Option<OwnedFd>,
        stdio: Stdio,
    ) -> Result<(Self, Made), StepError> {
        for (wanted, what) in [(launch.hold, "a held start"), (launch.init, "an init process (--init)")] {
            if wanted {
                let message = format!("{what} is not there with another runtime");
                return Err(error(Step::Spec, runtime.path.display().to_string(), message));
            }
        }
        process::set_child_subreaper(true).map_err(|e| StepError::of(Step::Monitor, "subreaper", e))?;
        let mut spec = launch.spec.clone();
        if let Some(netns) = &netns {
            let path = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(netns));
            name_namespace(&mut spec, NamespaceKind::Network, &path);
        }
        let (bundle, warnings) = Bundle::make(launch, spec)?;
        let program = Program::new(runtime, &launch.id, bundle.directory());
        let foreign = Self { program, bundle, execs: Cell::new(0), _netns: netns };
        match foreign.make(stdio) {
            Ok(made) => Ok((foreign, Made { warnings, ..made })),
            Err(error) => {
                // The first error is the one to report.
                let _ = foreign.delete();
                Err(error)
            }
        }
    }

    fn make(&self, stdio: Stdio) -> Result<Made, StepError> {
        let directory = self.bundle.directory().to_owned();
        let console = Console::wanted(&stdio, &directory, "console")?;
        let files = Files { pid: directory.join("pid"), document: None };
        let mut command = self.program.command("create");
        command.arg("--bundle").arg(&directory).arg("--pid-file").arg(&files.pid);
        let mut making = self.program.begin(command, stdio, console, files)?;
        let made = making.wait(PATIENCE)?;
        self.program.run("start", &[], PATIENCE).inspect_err(|_| {
            let _ = process::pidfd_send_signal(made.pidfd.as_fd(), 9);
        })?;
        Ok(made)
    }

    /// Begins a further process; what comes of it is told by [`Making`].
    pub fn exec(
        &self,
        process: &spec::Process,
        user: Option<&str>,
        groups: &[String],
        stdio: Stdio,
    ) -> Result<Making, StepError> {
        self.execs.set(self.execs.get() + 1);
        let name = format!("exec-{}", self.execs.get());
        let directory = self.bundle.directory().to_owned();
        let console = Console::wanted(&stdio, &directory, &name)?;
        let document = self.bundle.write_process(&name, process, user, groups)?;
        let mut command = self.program.command("exec");
        command.arg("--detach").arg("--process").arg(&document);
        let files = Files { pid: directory.join(format!("{name}.pid")), document: Some(document) };
        command.arg("--pid-file").arg(&files.pid);
        self.program.begin(command, stdio, console, files)
    }

    /// Removes what the other runtime remembers of the container, which must have ended, and the bundle.
    pub fn delete(&self) -> Result<(), StepError> {
        let deleted = self.program.run("delete", &["--force"], DELETE_PATIENCE);
        self.bundle.remove().and(deleted)
    }
}

/// Makes the configuration enter the namespace at `path`.
fn name_namespace(spec: &mut spec::Spec, kind: NamespaceKind, path: &str) {
    let Some(linux) = &mut spec.linux else { return };
    linux.namespaces.retain(|namespace| namespace.kind != kind);
    linux.namespaces.push(spec::Namespace { kind, path: Some(path.to_owned()) });
}

/// The process that a pid file names.
fn read_pid(file: &Path) -> Result<(i32, OwnedFd), StepError> {
    let object = || file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|e| StepError::of(Step::Monitor, object(), e))?;
    let pid = text.trim().parse().ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| error(Step::Monitor, object(), format!("{text:?} is no process id")))?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())
        .map_err(|e| StepError::of(Step::Monitor, format!("process {}", pid.as_raw_pid()), e))?;
    Ok((pid.as_raw_pid(), pidfd))
}

fn error(step: Step, object: impl Into<String>, message: impl Into<String>) -> StepError {
    StepError { step, object: object.into(), errno: 0, message: message.into() }
}

/// Descriptors for the other program's own standard streams, which the container inherits.
fn inheritance(stdio: Stdio) -> [Inheritance; 3] {
    match stdio {
        Stdio::Files { stdin, stdout, stderr } => [stdin.into(), stdout.into(), stderr.into()],
        Stdio::Inherit | Stdio::Terminal { .. } => {
            [Inheritance::null(), Inheritance::null(), Inheritance::null()]
        }
    }
}

fn overlay_of(rootfs: &Rootfs) -> Option<&PathBuf> {
    match rootfs {
        Rootfs::Overlay { mount_point, .. } => Some(mount_point),
        _ => None,
    }
}
