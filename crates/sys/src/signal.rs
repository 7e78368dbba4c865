//! Signals: dispositions and masks.

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

use crate::raw::{Result, syscall};

/// Kernel's set of 64 signals; bit n is signal n + 1.
pub type SignalSet = u64;

const SIGNALS: usize = 64;

/// Puts every signal's disposition back to the default and unblocks all: what a program expects at its start.
/// (Rust's runtime ignores SIGPIPE, and ignored signals stay ignored over exec.)
pub fn reset_all() -> Result<()> {
    // struct sigaction of the kernel: handler, flags, restorer, mask.
    let default = [0usize; 4];
    for signal in 1..=SIGNALS {
        if signal == libc::SIGKILL as usize || signal == libc::SIGSTOP as usize {
            continue;
        }
        // SAFETY: the structure has the kernel's size; SIG_DFL runs no code of ours.
        unsafe { syscall(libc::SYS_rt_sigaction, [signal, default.as_ptr() as usize, 0, 8, 0, 0])? };
    }
    set_mask(0).map(drop)
}

/// Ignores `signal`, or puts it back to its default.
pub fn set_ignored(signal: i32, ignored: bool) -> Result<()> {
    let handler = if ignored { libc::SIG_IGN } else { libc::SIG_DFL };
    let action = [handler, 0, 0, 0];
    // SAFETY: the structure has the kernel's size; neither handler runs code of ours.
    unsafe {
        syscall(libc::SYS_rt_sigaction, [signal as usize, action.as_ptr() as usize, 0, 8, 0, 0]).map(drop)
    }
}

/// Sets the calling thread's mask of blocked signals; returns the one before.
pub fn set_mask(blocked: SignalSet) -> Result<SignalSet> {
    let mut before: SignalSet = 0;
    // SAFETY: both sets are 8 bytes, as said.
    unsafe {
        syscall(
            libc::SYS_rt_sigprocmask,
            [libc::SIG_SETMASK as usize, &raw const blocked as usize, &raw mut before as usize, 8, 0, 0],
        )?;
    }
    Ok(before)
}

/// Waits for one of the signals in `set` (which have to be blocked) and takes it.
pub fn wait(set: SignalSet) -> Result<i32> {
    // SAFETY: the set is 8 bytes; no siginfo and no timeout are asked for.
    let signal = unsafe { syscall(libc::SYS_rt_sigtimedwait, [&raw const set as usize, 0, 0, 8, 0, 0])? };
    Ok(signal as i32)
}

/// A descriptor from which the signals in `set` (which have to be blocked) can be taken; never blocks.
pub fn queue(set: SignalSet) -> Result<OwnedFd> {
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: the set is 8 bytes; the result is a new descriptor.
    let fd = unsafe {
        syscall(libc::SYS_signalfd4, [usize::MAX, &raw const set as usize, 8, flags as usize, 0, 0])?
    };
    // SAFETY: the kernel has just made it, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// The next signal from a [`queue`]; `None` when none is there.
pub fn take(queue: BorrowedFd<'_>) -> Result<Option<i32>> {
    // struct signalfd_siginfo, which begins with the number.
    let mut info = [0u8; 128];
    match rustix::io::read(queue, &mut info) {
        Ok(_) => Ok(info.first_chunk().map(|number| i32::from_ne_bytes(*number))),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
        Err(e) => Err(e),
    }
}
