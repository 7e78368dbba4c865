//! i386's `socketcall` and `ipc`: one system call each, whose first argument says which function is meant.
//!
//! A rule for `socket` must hold for both ways to reach it, or it would be no rule.

use super::arch::{Arch, Syscall};
use crate::spec::{SeccompOperator, SyscallArg};

/// Name, entry, number of the function (`linux/net.h`, `linux/ipc.h`).
macro_rules! functions {
    ($($entry:ident, $mask:literal: $($name:ident = $number:literal),+;)+) => {
        &[$($(Function {
            name: stringify!($name),
            entry: stringify!($entry),
            condition: SyscallArg {
                index: 0,
                value: $mask,
                value_two: Some($number),
                op: SeccompOperator::MaskedEqual,
            },
        }),+),+]
    };
}

struct Function {
    name: &'static str,
    entry: &'static str,
    condition: SyscallArg,
}

// The upper half of ipc's first argument is a version.
static FUNCTIONS: &[Function] = functions! {
    socketcall, 0xffff_ffff:
        socket = 1, bind = 2, connect = 3, listen = 4, accept = 5, getsockname = 6, getpeername = 7, socketpair = 8,
        send = 9, recv = 10, sendto = 11, recvfrom = 12, shutdown = 13, setsockopt = 14, getsockopt = 15,
        sendmsg = 16, recvmsg = 17, accept4 = 18, recvmmsg = 19, sendmmsg = 20;
    ipc, 0xffff:
        semop = 1, semget = 2, semctl = 3, semtimedop = 4, msgsnd = 11, msgrcv = 12, msgget = 13, msgctl = 14,
        shmat = 21, shmdt = 22, shmget = 23, shmctl = 24;
};

/// A function that hides behind a multiplexer.
pub(super) struct Hidden {
    pub(super) function: Syscall,
    /// i386's number of the multiplexer.
    pub(super) entry: u32,
    pub(super) condition: &'static SyscallArg,
}

pub(super) fn hidden() -> impl Iterator<Item = Hidden> {
    FUNCTIONS.iter().filter_map(|function| {
        Some(Hidden {
            function: Syscall::named(function.name)?,
            entry: Syscall::named(function.entry)?.number(Arch::X86)?,
            condition: &function.condition,
        })
    })
}
