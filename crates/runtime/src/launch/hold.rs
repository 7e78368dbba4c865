//! Two-phase starts across processes: a socket that survives the process which has created the container.
//!
//! The held child listens. Who connects and says the word lets it go, and learns on the same connection how the exec went: a
//! record when it failed, the end of the stream when it succeeded.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use corten_sys::process;
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags};

use super::parent::failure;
use super::prepare::namespaces_of;
use super::record::{DETAIL_BYTES_MAX, GO, HEADER_BYTES, Kind, Record};
use crate::hooks;
use crate::monitor::protocol::{Step, StepError};
use crate::plan::{Action, Operation};
use crate::spec::{Spec, State};

const SIGKILL: i32 = 9;

/// Makes the socket for [`super::Hold::Socket`] at `path`.
pub fn hold_socket(path: &Path) -> Result<OwnedFd, StepError> {
    (|| {
        let socket = new_socket()?;
        let (_dir, address) = address(path)?;
        rustix::net::bind(&socket, &address)?;
        rustix::net::listen(&socket, 4)?;
        Ok(socket)
    })()
    .map_err(|error| broken(path, error))
}

/// Lets a child held by [`super::Hold::Socket`] run, from any process: runs the `startContainer` hooks in the container's namespaces, then
/// waits until the exec has succeeded or failed. Does not reap.
pub fn start_held(path: &Path, spec: &Spec, state: &State) -> Result<(), StepError> {
    let connection = connect(path).map_err(|error| match error {
        rustix::io::Errno::CONNREFUSED | rustix::io::Errno::NOENT => StepError {
            step: Step::Exec,
            object: state.id.clone(),
            errno: error.raw_os_error(),
            message: "the container does not wait for a start: it runs already, or it has ended".into(),
        },
        error => broken(path, error),
    })?;
    if let (Some(list), Some(pid)) = (spec.hooks.as_ref().map(|h| &h.start_container), state.pid)
        && !list.is_empty()
    {
        let pid = Pid::from_raw(pid).ok_or_else(|| broken(path, rustix::io::Errno::SRCH))?;
        let pidfd =
            rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(|error| broken(path, error))?;
        let inside = namespaces_of(pid.as_raw_nonzero().get())
            .and_then(|flags| hooks::run_inside("startContainer", list, state, pidfd.as_fd(), flags));
        if let Err(error) = inside {
            // As the specification wants it: the container is stopped.
            let _ = process::pidfd_send_signal(pidfd.as_fd(), SIGKILL);
            return Err(error);
        }
    }
    rustix::io::write(&connection, &[GO]).map_err(|error| broken(path, error))?;
    let mut packet = vec![0; HEADER_BYTES + DETAIL_BYTES_MAX];
    loop {
        let length = rustix::io::retry_on_intr(|| rustix::io::read(&connection, &mut packet[..]))
            .map_err(|error| broken(path, error))?;
        if length == 0 {
            return Ok(());
        }
        match Record::read(&packet[..length]) {
            Some((record, details)) if record.kind == Kind::Failed => {
                let object = spec.process.as_ref().and_then(|p| p.args.first()).cloned().unwrap_or_default();
                let operation = Operation { step: Step::Exec, object, lenient: false, action: Action::Exec };
                return Err(failure(&operation, &record, details));
            }
            _ => {}
        }
    }
}

fn new_socket() -> rustix::io::Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

fn connect(path: &Path) -> rustix::io::Result<OwnedFd> {
    let socket = new_socket()?;
    let (_dir, address) = address(path)?;
    rustix::io::retry_on_intr(|| rustix::net::connect(&socket, &address))?;
    Ok(socket)
}

/// An address for any path: those that are longer than the 107 bytes of a `sockaddr_un` go by a descriptor of the directory.
fn address(path: &Path) -> rustix::io::Result<(Option<OwnedFd>, SocketAddrUnix)> {
    use std::os::fd::AsRawFd;
    if path.as_os_str().len() < 100 {
        return Ok((None, SocketAddrUnix::new(path)?));
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(rustix::io::Errno::INVAL);
    };
    let dir = rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut short = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    short.extend_from_slice(name.as_bytes());
    let address = SocketAddrUnix::new(short)?;
    Ok((Some(dir), address))
}

fn broken(path: &Path, error: rustix::io::Errno) -> StepError {
    StepError {
        step: Step::Monitor,
        object: path.display().to_string(),
        errno: error.raw_os_error(),
        message: std::io::Error::from(error).to_string(),
    }
}
