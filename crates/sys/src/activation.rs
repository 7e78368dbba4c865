//! Sockets that the parent handed over by systemd's protocol (sd_listen_fds(3)): from descriptor 3 on, counted in LISTEN_FDS.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

const FIRST: RawFd = 3;

/// Takes the handed-over sockets, close-on-exec; they can be taken once. Empty when they are meant for another process.
pub fn take_listen_fds() -> Vec<OwnedFd> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let variable = |name| std::env::var(name).ok();
    if variable("LISTEN_PID").and_then(|pid| pid.parse().ok()) != Some(std::process::id()) {
        return Vec::new();
    }
    let count = variable("LISTEN_FDS").and_then(|count| count.parse::<RawFd>().ok()).unwrap_or(0);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Vec::new();
    }
    let handed_over = (FIRST..FIRST + count).filter(|fd| {
        let fd_set = [*fd as usize, libc::F_SETFD as usize, libc::FD_CLOEXEC as usize, 0, 0, 0];
        crate::raw::numbers(libc::SYS_fcntl, fd_set).is_ok()
    });
    // SAFETY: LISTEN_PID names this process, so these descriptors are ours by sd_listen_fds(3) and nobody else's; fcntl
    // has just found each of them open, and TAKEN lets them be owned once only.
    handed_over.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect()
}
