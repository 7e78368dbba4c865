//! Signals: dispositions and masks.

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
