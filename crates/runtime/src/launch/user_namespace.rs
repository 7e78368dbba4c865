//! User namespaces: writing their mappings, and making one only for the sake of its mapping.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Command;

use corten_sys::process::{self, CloneArgs, namespace};

use crate::monitor::protocol::{Step, StepError};
use crate::plan::Mappings;
use crate::spec::IdMapping;

const SIGCHLD: i32 = 17;

/// Writes the mappings of the user namespace that process `pid` is in; a caller that is not root needs newuidmap(1) and newgidmap(1).
pub(super) fn write_mappings(pid: i32, mappings: &Mappings) -> Result<(), StepError> {
    if rustix::process::geteuid().is_root() {
        write(pid, "gid_map", &mappings.gid)?;
        return write(pid, "uid_map", &mappings.uid);
    }
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let own = |list: &[IdMapping], id: u32| matches!(list, [only] if only.size == 1 && only.host_id == id);
    if own(&mappings.uid, uid) && own(&mappings.gid, gid) {
        let path = format!("/proc/{pid}/setgroups");
        std::fs::write(&path, "deny").map_err(|error| failed(&path, &error))?;
        write(pid, "gid_map", &mappings.gid)?;
        return write(pid, "uid_map", &mappings.uid);
    }
    map_by_tool("newgidmap", pid, &mappings.gid)?;
    map_by_tool("newuidmap", pid, &mappings.uid)
}

fn write(pid: i32, file: &str, list: &[IdMapping]) -> Result<(), StepError> {
    let text: String =
        list.iter().map(|m| format!("{} {} {}\n", m.container_id, m.host_id, m.size)).collect();
    let path = format!("/proc/{pid}/{file}");
    std::fs::write(&path, text).map_err(|error| failed(&path, &error))
}

fn map_by_tool(tool: &str, pid: i32, list: &[IdMapping]) -> Result<(), StepError> {
    let mut command = Command::new(tool);
    command.arg(pid.to_string());
    for map in list {
        command.args([map.container_id.to_string(), map.host_id.to_string(), map.size.to_string()]);
    }
    let output = command.output().map_err(|error| failed(tool, &error))?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(StepError { step: Step::IdMapping, object: tool.into(), errno: 0, message })
}

/// A user namespace that exists for its mapping: what an id-mapped mount refers to. It lives as long as the descriptor.
pub(super) fn with_mappings(mappings: &Mappings) -> Result<OwnedFd, StepError> {
    let error = |error: rustix::io::Errno| failed("user namespace", &error.into());
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(error)?;
    let mut writer = Some(writer);
    let args = CloneArgs { flags: namespace::USER, exit_signal: SIGCHLD, cgroup: None };
    let holder = process::clone3(&args, || {
        writer = None;
        let _ = rustix::io::read(reader.as_fd(), &mut [0u8; 1]);
        0
    })
    .map_err(error)?;
    let opened = write_mappings(holder.pid, mappings).and_then(|()| {
        let path = format!("/proc/{}/ns/user", holder.pid);
        std::fs::File::open(&path).map_err(|error| failed(&path, &error))
    });
    drop(writer);
    let _ = process::wait(holder.pid, true);
    Ok(opened?.into())
}

fn failed(object: impl AsRef<Path>, error: &std::io::Error) -> StepError {
    StepError {
        step: Step::IdMapping,
        object: object.as_ref().display().to_string(),
        errno: error.raw_os_error().unwrap_or(0),
        message: error.to_string(),
    }
}
