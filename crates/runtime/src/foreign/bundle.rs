//! The bundle: the container's root, mounted where the other runtime finds it, and the configuration without what only we understand.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use corten_sys::{mount, process};

use super::{error, overlay_of};
use crate::launch::{self, Request, mount_overlay, resolve_user};
use crate::monitor::protocol::{Launch, Step, StepError};
use crate::plan::{Action, Host, Operation, Plan};
use crate::spec::{Process, Spec};

/// MS_REC | MS_SLAVE (mount(2)).
const SLAVE: u64 = 0x4000 | 0x80000;

pub(super) struct Bundle {
    directory: PathBuf,
    /// The container's root as this process has it mounted.
    root: OwnedFd,
}

impl Bundle {
    /// Mounts the root in a mount namespace of this process's own, where it is gone with the process, and writes the configuration.
    pub fn make(launch: &Launch, mut spec: Spec) -> Result<(Self, Vec<String>), StepError> {
        let mut request = Request::new(&launch.id, &launch.state_dir, &launch.spec, &launch.rootfs);
        request.user = launch.user.as_deref();
        request.groups = &launch.groups;
        request.strict = &launch.strict;
        request.stdio = launch::Stdio::Inherit;
        let Plan { operations, warnings, .. } = Plan::container(&request, &Host::probe())?;
        let Some(mount_point) = overlay_of(&launch.rootfs) else {
            return Err(error(Step::Rootfs, "root", "another runtime needs a root that is mounted for it"));
        };
        let root = mount_root(&operations)?;
        let directory = launch.run_dir.join("oci");
        let failed = |e| StepError::of(Step::Monitor, directory.display().to_string(), e);
        remove(&directory).map_err(failed)?;
        fs::create_dir(&directory).map_err(failed)?;
        // Nothing newer is asked of it, and some (crun 1.8) refuse to read what says that it is newer.
        spec.oci_version = "1.0.2".to_owned();
        let process = spec.process.get_or_insert_default();
        process.terminal = launch.stdio.tty;
        settle(process, &operations, &root)?;
        if let Some(root) = &mut spec.root {
            root.path = mount_point.display().to_string();
        }
        let bundle = Self { directory, root };
        bundle.write("config.json", &spec)?;
        Ok((bundle, warnings))
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes an exec's process; returns the file.
    pub fn write_process(
        &self,
        name: &str,
        process: &Process,
        user: Option<&str>,
        groups: &[String],
    ) -> Result<PathBuf, StepError> {
        let nobody =
            rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty())
                .map_err(|e| StepError::of(Step::Monitor, "pidfd", e))?;
        let mut request = crate::exec::Request::new(0, nobody.as_fd(), process);
        request.user = user;
        request.groups = groups;
        let Plan { operations, .. } = Plan::exec(&request, 0, false, &Host::probe())?;
        let mut process = process.clone();
        settle(&mut process, &operations, &self.root)?;
        self.write(&format!("{name}.json"), &process)
    }

    fn write(&self, name: &str, value: &impl serde::Serialize) -> Result<PathBuf, StepError> {
        let path = self.directory.join(name);
        let failed = |e| StepError::of(Step::Monitor, path.display().to_string(), e);
        let text = serde_json::to_vec(value).map_err(|e| failed(e.into()))?;
        fs::write(&path, text).map_err(failed)?;
        Ok(path)
    }

    pub fn remove(&self) -> Result<(), StepError> {
        remove(&self.directory)
            .map_err(|e| StepError::of(Step::Monitor, self.directory.display().to_string(), e))
    }
}

fn remove(directory: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn mount_root(operations: &[Operation]) -> Result<OwnedFd, StepError> {
    let overlay = operations.iter().find_map(|operation| match &operation.action {
        Action::OverlayRoot(overlay) => Some(overlay),
        _ => None,
    });
    let overlay = overlay.ok_or_else(|| error(Step::Rootfs, "root", "is no overlay"))?;
    let failed = |e: rustix::io::Errno| StepError::of(Step::Rootfs, overlay.mount_point.to_string_lossy(), e);
    process::unshare(process::namespace::MOUNT).map_err(failed)?;
    mount::mount(None, c"/", None, SLAVE as _, None).map_err(failed)?;
    mount_overlay(overlay).map_err(failed)
}

/// Puts into the process what only we read from elsewhere: the user by name, limits that this host allows.
fn settle(process: &mut Process, operations: &[Operation], root: &OwnedFd) -> Result<(), StepError> {
    for operation in operations {
        match &operation.action {
            Action::User(wish) => resolve_user(process, wish, root.as_fd(), &operation.object)?,
            Action::ResourceLimit { soft, hard, .. } => {
                let limits = process.rlimits.iter_mut().filter(|limit| limit.kind == operation.object);
                limits.for_each(|limit| (limit.soft, limit.hard) = (*soft, *hard));
            }
            _ => {}
        }
    }
    Ok(())
}
