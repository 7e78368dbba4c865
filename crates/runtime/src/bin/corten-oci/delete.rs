//! `delete`: removes the group, the state, and with force the processes.

use std::time::{Duration, Instant};

use corten_runtime::hooks;
use corten_runtime::monitor::remove_group;
use corten_runtime::spec;
use corten_sys::process;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::Global;
use crate::arguments::Arguments;
use crate::failure::{Failure, Outcome};
use crate::host_mounts;
use crate::store::{Container, Status};

const SIGKILL: i32 = 9;
/// How long a killed process may take to be gone.
const DEADLINE: Duration = Duration::from_secs(10);

pub fn delete(global: &Global, arguments: &Arguments) -> Outcome<u8> {
    let force = arguments.has("force");
    let container = match Container::open(global, arguments.id()) {
        Ok(container) => container,
        Err(_) if force => {
            // What a create that was killed has left.
            let directory = global.root.join(arguments.id());
            if directory.is_dir() && !arguments.id().contains('/') && !arguments.id().starts_with('.') {
                std::fs::remove_dir_all(&directory).map_err(Failure::during(directory.display()))?;
            }
            return Ok(0);
        }
        Err(failure) => return Err(failure),
    };
    match container.status() {
        Status::Stopped | Status::Created => {}
        _ if force => {}
        status => {
            return Err(Failure::new(format!(
                "cannot delete container {} that is not stopped: {}",
                container.record.id,
                status.name()
            )));
        }
    }
    remove(&container, true)?;
    Ok(0)
}

/// Ends what runs, removes the group, runs the `poststop` hooks, forgets the container.
pub fn remove(container: &Container, kill: bool) -> Outcome<()> {
    if let Some(pidfd) = container.process().filter(|_| kill) {
        // It may have ended meanwhile.
        let _ = process::pidfd_send_signal(std::os::fd::AsFd::as_fd(&pidfd), SIGKILL);
        if let Ok(cgroup) = container.cgroup() {
            cgroup.thaw()?;
        }
        await_end(&pidfd)?;
    }
    if let Ok(cgroup) = container.cgroup() {
        remove_group(&cgroup)?;
    }
    host_mounts::remove(&container.rootfs(), container.record.root_mounts)?;
    let hooks = container.record.config.hooks.as_ref();
    // The container is gone whatever its hooks say; the failure is told all the same.
    let stopped =
        hooks.map(|h| hooks::run("poststop", &h.poststop, &container.hook_state(spec::Status::Stopped)));
    std::fs::remove_dir_all(&container.directory).map_err(Failure::during(container.directory.display()))?;
    if let Some(stopped) = stopped {
        stopped?;
    }
    Ok(())
}

fn await_end(pidfd: &std::os::fd::OwnedFd) -> Outcome<()> {
    let until = Instant::now() + DEADLINE;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout =
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) as _ };
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => {
                return Err(Failure::new("the container's process does not end, although it was killed"));
            }
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Failure::during("poll")(e)),
        }
    }
}
