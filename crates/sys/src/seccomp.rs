//! seccomp(2): installing a finished filter, and the sizes of the notifications that a filter may send.
//!
//! Owns the kernel's structures and flags. Which calls a filter allows is decided in `corten-runtime`.

use std::os::fd::{FromRawFd, OwnedFd};

use rustix::io::{Errno, Result};

/// One instruction of a classic BPF program (`struct sock_filter`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    /// How many instructions to skip when a comparison holds, and when it does not.
    pub jump_true: u8,
    pub jump_false: u8,
    pub k: u32,
}

/// More instructions than this the kernel does not take (`BPF_MAXINSNS`).
pub const INSTRUCTIONS_MAX: usize = 4096;

/// Flags of `SECCOMP_SET_MODE_FILTER`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u32);

impl Flags {
    /// All threads of the process get the filter.
    pub const TSYNC: Self = Self(1);
    /// Everything but allowed calls is logged.
    pub const LOG: Self = Self(1 << 1);
    /// Leaves speculative store bypass on.
    pub const SPEC_ALLOW: Self = Self(1 << 2);
    const NEW_LISTENER: Self = Self(1 << 3);
    /// A thread that cannot be synchronised gives `ESRCH` and not its id.
    const TSYNC_ESRCH: Self = Self(1 << 4);
    /// A caller that waits for its supervisor can only be killed, not interrupted (Linux 5.19).
    pub const WAIT_KILLABLE_RECV: Self = Self(1 << 5);

    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// Puts the calling thread under the filter, for ever. Needs `no_new_privs` or CAP_SYS_ADMIN in the user namespace.
///
/// Async-signal-safe: one system call, nothing allocated.
pub fn install(program: &[Instruction], flags: Flags) -> Result<()> {
    // Without a listener the kernel refuses this flag, which then has no meaning.
    set_filter(program, flags.without(Flags::WAIT_KILLABLE_RECV)).map(drop)
}

/// Like [`install`], for a filter with NOTIFY actions: the descriptor (close-on-exec) receives the notifications.
///
/// Async-signal-safe.
pub fn install_with_listener(program: &[Instruction], flags: Flags) -> Result<OwnedFd> {
    let mut flags = flags.with(Flags::NEW_LISTENER);
    if flags.contains(Flags::TSYNC) {
        // Both results share the return value, so that the kernel wants errors as errors (Linux 5.7).
        flags = flags.with(Flags::TSYNC_ESRCH);
    }
    let fd = set_filter(program, flags)?;
    // SAFETY: with NEW_LISTENER the call returns a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set_filter(program: &[Instruction], flags: Flags) -> Result<i32> {
    if program.is_empty() || program.len() > INSTRUCTIONS_MAX {
        return Err(Errno::INVAL);
    }
    let program = libc::sock_fprog {
        len: program.len() as u16,
        // `Instruction` has the layout of `sock_filter`; the kernel only reads.
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: `program` points to `len` instructions that live through the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER as libc::c_ulong,
            flags.0 as libc::c_ulong,
            &raw const program,
        )
    };
    match result {
        // With TSYNC and without TSYNC_ESRCH: the id of a thread that could not follow.
        1.. if !flags.contains(Flags::NEW_LISTENER) => Err(Errno::SRCH),
        0.. => Ok(result as i32),
        _ => Err(last_error()),
    }
}

/// Sizes in bytes of the kernel's notification structures, which may grow (`struct seccomp_notif_sizes`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NotifySizes {
    pub notification: u16,
    pub response: u16,
    pub data: u16,
}

/// Asks the kernel for its [`NotifySizes`]; fails where it knows no notifications (before Linux 5.0).
pub fn notify_sizes() -> Result<NotifySizes> {
    let mut sizes = NotifySizes::default();
    // SAFETY: the kernel writes exactly one `seccomp_notif_sizes`.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_NOTIF_SIZES as libc::c_ulong,
            0 as libc::c_ulong,
            &raw mut sizes,
        )
    };
    if result < 0 { Err(last_error()) } else { Ok(sizes) }
}

/// Does the kernel know this action (`SECCOMP_RET_…`)?
pub fn action_available(action: u32) -> bool {
    // SAFETY: the kernel reads one 32-bit number.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_ACTION_AVAIL as libc::c_ulong,
            0 as libc::c_ulong,
            &raw const action,
        )
    };
    result == 0
}

fn last_error() -> Errno {
    // SAFETY: the address of the thread's own errno is always valid.
    Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}
