//! Programs that a configuration wants run around a container's life.
//!
//! Owns running one hook: in the caller's namespaces or in the container's, with the state on stdin and a deadline.

use std::ffi::CString;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use corten_sys::process::{self, CloneArgs, Ended, Strings, namespace};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;

use crate::monitor::protocol::{Step, StepError};
use crate::spec::{Hook, State};

const SIGKILL: i32 = 9;
const SIGCHLD: i32 = 17;
/// How much of a failed hook's output goes into the error.
const OUTPUT_BYTES_MAX: u64 = 2048;
/// What the intermediate processes exit with when a hook could not be started.
const CANNOT_ENTER: i32 = 125;
const CANNOT_EXEC: i32 = 126;

/// Runs `hooks` one after the other in the caller's namespaces, each with `state` on stdin and its own timeout; stops at the
/// first that fails. `name` is the list's name in the configuration (`poststart`, …).
pub fn run(name: &str, hooks: &[Hook], state: &State) -> Result<(), StepError> {
    hooks.iter().try_for_each(|hook| execute(name, hook, state, None))
}

/// Like [`run`], in the namespaces of the process behind `pidfd` that `flags` name.
pub(crate) fn run_inside(
    name: &str,
    hooks: &[Hook],
    state: &State,
    pidfd: BorrowedFd<'_>,
    flags: u64,
) -> Result<(), StepError> {
    hooks.iter().try_for_each(|hook| execute(name, hook, state, Some((pidfd, flags))))
}

fn execute(
    name: &str,
    hook: &Hook,
    state: &State,
    inside: Option<(BorrowedFd<'_>, u64)>,
) -> Result<(), StepError> {
    let object = format!("{name} {}", hook.path);
    let error =
        |errno: i32, message: String| StepError { step: Step::Hook, object: object.clone(), errno, message };
    let failed = |e: std::io::Error| error(e.raw_os_error().unwrap_or(0), e.to_string());
    if !hook.path.starts_with('/') {
        return Err(error(0, "the path is not absolute".into()));
    }
    let text = |s: &str| CString::new(s).map_err(|_| error(0, "contains a NUL byte".into()));
    let path = text(&hook.path)?;
    let arguments = match &hook.args[..] {
        [] => vec![path.clone()],
        arguments => arguments.iter().map(|a| text(a)).collect::<Result<_, _>>()?,
    };
    let environment = hook.env.iter().map(|e| text(e)).collect::<Result<_, _>>()?;
    let (arguments, environment) = (Strings::new(arguments, 0), Strings::new(environment, 0));
    let input = file(&serde_json::to_vec(state).map_err(|e| failed(e.into()))?).map_err(failed)?;
    let output = file(b"").map_err(failed)?;

    let args = CloneArgs { exit_signal: SIGCHLD, ..CloneArgs::default() };
    let child = process::clone3(&args, || {
        if let Some((pidfd, flags)) = inside {
            if process::setns(pidfd, flags).is_err() {
                return CANNOT_ENTER;
            }
            // A process joins a pid namespace by its next child.
            if flags & namespace::PID != 0
                && let Some(code) = become_child()
            {
                return code;
            }
            // A hook that takes too long dies with the process that is killed for it.
            let _ = process::set_parent_death_signal(SIGKILL);
        }
        let _ = rustix::stdio::dup2_stdin(&input);
        let _ = rustix::stdio::dup2_stdout(&output);
        let _ = rustix::stdio::dup2_stderr(&output);
        let _ = corten_sys::fd::close_on_exec_from(3);
        let _ = corten_sys::signal::reset_all();
        process::execve(&path, &arguments, &environment);
        // The parent reads it where the program would have put its words.
        let _ = rustix::io::write(&output, b"cannot be executed");
        CANNOT_EXEC
    })
    .map_err(|e| failed(e.into()))?;

    let limit = hook.timeout.map(Duration::from_secs);
    let in_time = wait_for(child.pidfd.as_fd(), limit);
    if !in_time {
        let _ = process::pidfd_send_signal(child.pidfd.as_fd(), SIGKILL);
    }
    let ended = process::wait(child.pid, true).map_err(|e| failed(e.into()))?;
    if !in_time {
        return Err(error(0, format!("did not end within {} s", hook.timeout.unwrap_or(0))));
    }
    match ended {
        Some((_, Ended::Exited(0))) => Ok(()),
        Some((_, Ended::Exited(code))) => Err(error(0, format!("exited with {code}{}", words(output)))),
        Some((_, Ended::Signaled(signal, _))) => {
            Err(error(0, format!("was ended by signal {signal}{}", words(output))))
        }
        None => Err(error(0, "vanished".into())),
    }
}

/// Forks; in the parent waits and returns what the child exited with, in the child returns nothing.
fn become_child() -> Option<i32> {
    match process::fork() {
        Ok(None) => None,
        Ok(Some(pid)) => Some(match process::wait(pid, true) {
            Ok(Some((_, Ended::Exited(code)))) => code,
            Ok(Some((_, Ended::Signaled(signal, _)))) => 128 + signal,
            _ => CANNOT_ENTER,
        }),
        Err(_) => Some(CANNOT_ENTER),
    }
}

/// An anonymous file at its beginning.
fn file(content: &[u8]) -> std::io::Result<OwnedFd> {
    let mut file = std::fs::File::from(rustix::fs::memfd_create("hook", MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file.into())
}

/// Whether the process has ended in time.
fn wait_for(pidfd: BorrowedFd<'_>, limit: Option<Duration>) -> bool {
    let timeout =
        limit.map(|l| Timespec { tv_sec: l.as_secs() as i64, tv_nsec: i64::from(l.subsec_nanos()) });
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    !matches!(rustix::io::retry_on_intr(|| poll(&mut fds, timeout.as_ref())), Ok(0))
}

fn words(output: OwnedFd) -> String {
    let mut file = std::fs::File::from(output);
    let mut bytes = Vec::new();
    let _ = file.rewind().and_then(|()| file.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes);
    if text.trim().is_empty() { String::new() } else { format!(": {}", text.trim()) }
}
