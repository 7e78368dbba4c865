//! Making processes and changing what a process is: clone3, exec, namespaces, prctl, ids, pidfds.
//!
//! Everything here is async-signal-safe: no allocation, no locks, thread-local errno at most. Ids and capabilities are
//! those of the calling *thread*.

use core::ffi::{CStr, c_char};
use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::raw::{Result, numbers, syscall};

/// What the child of [`clone3`] gets of its own, and where it is born.
#[derive(Default)]
pub struct CloneArgs<'fd> {
    /// `CLONE_NEW*`, `CLONE_PARENT`; a child always has its own memory.
    pub flags: u64,
    /// 0 together with `CLONE_PARENT`.
    pub exit_signal: i32,
    /// cgroup v2: the directory of the group to be born in.
    pub cgroup: Option<BorrowedFd<'fd>>,
}

/// A child, as its parent has it.
#[derive(Debug)]
pub struct Cloned {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

#[repr(C)]
#[derive(Default)]
struct RawCloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Ends the process when a child's code unwinds: it must never return into its parent's stack.
struct NoReturn;

impl Drop for NoReturn {
    fn drop(&mut self) {
        exit(121);
    }
}

/// Clones the calling process; the child runs `child` and exits with what that returns.
///
/// Where the caller has other threads, `child` may only do what is async-signal-safe: a lock that another thread held
/// (the allocator's) is held for ever.
pub fn clone3(args: &CloneArgs<'_>, child: impl FnOnce() -> i32) -> Result<Cloned> {
    let mut pidfd: RawFd = -1;
    let mut raw = RawCloneArgs {
        flags: args.flags & !(libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_THREAD) as u64
            | libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        exit_signal: args.exit_signal as u64,
        ..RawCloneArgs::default()
    };
    if let Some(group) = args.cgroup {
        raw.flags |= CLONE_INTO_CGROUP;
        raw.cgroup = group.as_raw_fd() as u64;
    }
    // SAFETY: the structure is the kernel's (version 2, 88 bytes), `pidfd` outlives the call; without CLONE_VM the child
    // has its own copy of memory and stack, so that returning twice is as harmless as after fork().
    let pid = unsafe {
        syscall(libc::SYS_clone3, [&raw const raw as usize, size_of::<RawCloneArgs>(), 0, 0, 0, 0])?
    };
    if pid == 0 {
        let _guard = NoReturn;
        exit(child());
    }
    // SAFETY: the kernel has put a new descriptor there, which nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned { pid: pid as i32, pidfd })
}

/// A plain fork, for a process that is single-threaded or as careful as the child of [`clone3`]: the child's id, `None` in the child.
pub fn fork() -> Result<Option<i32>> {
    let pid = numbers(libc::SYS_clone, [libc::SIGCHLD as usize, 0, 0, 0, 0, 0])?;
    Ok((pid != 0).then_some(pid as i32))
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `CLONE_NEW*` of the eight kinds of namespace.
pub mod namespace {
    pub const MOUNT: u64 = libc::CLONE_NEWNS as u64;
    pub const PID: u64 = libc::CLONE_NEWPID as u64;
    pub const NETWORK: u64 = libc::CLONE_NEWNET as u64;
    pub const UTS: u64 = libc::CLONE_NEWUTS as u64;
    pub const IPC: u64 = libc::CLONE_NEWIPC as u64;
    pub const USER: u64 = libc::CLONE_NEWUSER as u64;
    pub const CGROUP: u64 = libc::CLONE_NEWCGROUP as u64;
    pub const TIME: u64 = 0x80;
}

/// The child's parent is the caller's parent.
pub const CLONE_PARENT: u64 = libc::CLONE_PARENT as u64;

/// Leaves at once, without running anything.
pub fn exit(code: i32) -> ! {
    // SAFETY: _exit takes a number, runs no handlers and does not return.
    unsafe { libc::_exit(code) }
}

/// Puts the caller into new namespaces (for pid and time: its next children).
pub fn unshare(flags: u64) -> Result<()> {
    numbers(libc::SYS_unshare, [flags as usize, 0, 0, 0, 0, 0]).map(drop)
}

/// Joins the namespace `fd`, or those of the process behind a pidfd that `flags` name.
pub fn setns(fd: BorrowedFd<'_>, flags: u64) -> Result<()> {
    numbers(libc::SYS_setns, [fd.as_raw_fd() as usize, flags as usize, 0, 0, 0, 0]).map(drop)
}

/// A null-terminated array of strings as `execve` wants it, with room for more entries: allocated before the clone, used after it.
pub struct Strings {
    owned: Vec<CString>,
    pointers: Vec<*const c_char>,
    used: usize,
}

// SAFETY: the pointers lead into `owned`'s heap memory, which moves with it and is never written through them.
unsafe impl Send for Strings {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Strings {}

impl Strings {
    /// `slack`: how many entries [`Strings::push`] may add.
    pub fn new(owned: Vec<CString>, slack: usize) -> Self {
        let mut pointers: Vec<*const c_char> = owned.iter().map(|s| s.as_ptr()).collect();
        let used = pointers.len();
        pointers.resize(used + slack + 1, core::ptr::null());
        Self { owned, pointers, used }
    }

    /// The strings given at the beginning.
    pub fn strings(&self) -> &[CString] {
        &self.owned
    }
}

/// Replaces the program. Returns only to say why not.
pub fn execve(path: &CStr, argv: &Strings, envp: &Strings) -> rustix::io::Errno {
    // SAFETY: path and both arrays are null-terminated and outlive the call.
    let answer = unsafe {
        syscall(
            libc::SYS_execve,
            [
                path.as_ptr() as usize,
                argv.pointers.as_ptr() as usize,
                envp.pointers.as_ptr() as usize,
                0,
                0,
                0,
            ],
        )
    };
    answer.err().unwrap_or(rustix::io::Errno::INVAL)
}

/// [`execve`] with `env`, one more entry than `envp` has: the string needs to live only until the call.
pub fn execve_with(path: &CStr, argv: &Strings, envp: &mut Strings, env: &CStr) -> rustix::io::Errno {
    if envp.used + 1 >= envp.pointers.len() {
        return rustix::io::Errno::TOOBIG;
    }
    envp.pointers[envp.used] = env.as_ptr();
    let errno = execve(path, argv, envp);
    envp.pointers[envp.used] = core::ptr::null();
    errno
}

/// Replaces the program by the file behind a descriptor.
pub fn fexecve(file: BorrowedFd<'_>, argv: &Strings, envp: &Strings) -> rustix::io::Errno {
    // SAFETY: the path is empty and static, both arrays are null-terminated and outlive the call.
    let answer = unsafe {
        syscall(
            libc::SYS_execveat,
            [
                file.as_raw_fd() as usize,
                c"".as_ptr() as usize,
                argv.pointers.as_ptr() as usize,
                envp.pointers.as_ptr() as usize,
                libc::AT_EMPTY_PATH as usize,
                0,
            ],
        )
    };
    answer.err().unwrap_or(rustix::io::Errno::INVAL)
}

fn prctl(option: i32, args: [usize; 4]) -> Result<usize> {
    numbers(libc::SYS_prctl, [option as usize, args[0], args[1], args[2], args[3], 0])
}

/// No exec gives more rights than the caller has; for good.
pub fn set_no_new_privs() -> Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, [1, 0, 0, 0]).map(drop)
}

/// Keeps the permitted capabilities over a change of ids from 0 to another.
pub fn set_keep_capabilities(keep: bool) -> Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, [keep as usize, 0, 0, 0]).map(drop)
}

/// Whether others of the same user may look into the process (its `/proc` files, ptrace).
pub fn set_dumpable(dumpable: bool) -> Result<()> {
    prctl(libc::PR_SET_DUMPABLE, [dumpable as usize, 0, 0, 0]).map(drop)
}

/// The signal that the caller gets when its parent dies; 0 for none.
pub fn set_parent_death_signal(signal: i32) -> Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, [signal as usize, 0, 0, 0]).map(drop)
}

/// Whether orphans among the caller's descendants become its children.
pub fn set_child_subreaper(reap: bool) -> Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, [reap as usize, 0, 0, 0]).map(drop)
}

/// The thread's name; 15 bytes count.
pub fn set_name(name: &CStr) -> Result<()> {
    // SAFETY: the string is null-terminated; the kernel copies at most 16 bytes.
    unsafe {
        syscall(libc::SYS_prctl, [libc::PR_SET_NAME as usize, name.as_ptr() as usize, 0, 0, 0, 0]).map(drop)
    }
}

/// Sets the `SECBIT_*` flags.
pub fn set_securebits(bits: u32) -> Result<()> {
    prctl(libc::PR_SET_SECUREBITS, [bits as usize, 0, 0, 0]).map(drop)
}

/// Sets real, effective and saved user of the calling thread.
pub fn set_uid(uid: u32) -> Result<()> {
    numbers(libc::SYS_setresuid, [uid as usize, uid as usize, uid as usize, 0, 0, 0]).map(drop)
}

/// Sets real, effective and saved group of the calling thread.
pub fn set_gid(gid: u32) -> Result<()> {
    numbers(libc::SYS_setresgid, [gid as usize, gid as usize, gid as usize, 0, 0, 0]).map(drop)
}

/// Sets the ids that the calling thread has towards file systems, and that only. Effective capabilities over files go with uid 0.
pub fn set_file_system_ids(uid: u32, gid: u32) -> Result<()> {
    // Both return the id before and never an error.
    numbers(libc::SYS_setfsgid, [gid as usize, 0, 0, 0, 0, 0])?;
    numbers(libc::SYS_setfsuid, [uid as usize, 0, 0, 0, 0, 0]).map(drop)
}

/// Sets the supplementary groups of the calling thread.
pub fn set_groups(groups: &[u32]) -> Result<()> {
    // SAFETY: pointer and length describe the slice.
    unsafe { syscall(libc::SYS_setgroups, [groups.len(), groups.as_ptr() as usize, 0, 0, 0, 0]).map(drop) }
}

/// Sets the execution domain, `PER_LINUX` and so on.
pub fn set_personality(persona: u64) -> Result<()> {
    numbers(libc::SYS_personality, [persona as usize, 0, 0, 0, 0, 0]).map(drop)
}

/// Makes a new session keyring, so that the caller's one is not inherited.
pub fn join_session_keyring(name: &CStr) -> Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: usize = 1;
    // SAFETY: the name is null-terminated.
    unsafe {
        syscall(libc::SYS_keyctl, [KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr() as usize, 0, 0, 0, 0]).map(drop)
    }
}

/// Sets the host name of the caller's UTS namespace.
pub fn set_host_name(name: &[u8]) -> Result<()> {
    // SAFETY: pointer and length describe the slice.
    unsafe { syscall(libc::SYS_sethostname, [name.as_ptr() as usize, name.len(), 0, 0, 0, 0]).map(drop) }
}

/// Sets the NIS domain name of the caller's UTS namespace.
pub fn set_domain_name(name: &[u8]) -> Result<()> {
    // SAFETY: pointer and length describe the slice.
    unsafe { syscall(libc::SYS_setdomainname, [name.as_ptr() as usize, name.len(), 0, 0, 0, 0]).map(drop) }
}

/// Soft and hard value of resource `number` of the caller.
pub fn resource_limit(number: u32) -> Result<(u64, u64)> {
    let mut old = [0u64; 2];
    // SAFETY: `old` has the shape of struct rlimit64.
    unsafe {
        syscall(libc::SYS_prlimit64, [0, number as usize, 0, old.as_mut_ptr() as usize, 0, 0])?;
    }
    Ok((old[0], old[1]))
}

/// Sets soft and hard value of resource `number`.
pub fn set_resource_limit(number: u32, soft: u64, hard: u64) -> Result<()> {
    let new = [soft, hard];
    // SAFETY: `new` has the shape of struct rlimit64.
    unsafe { syscall(libc::SYS_prlimit64, [0, number as usize, new.as_ptr() as usize, 0, 0, 0]).map(drop) }
}

/// Sends `signal` to the process behind a pidfd.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    numbers(libc::SYS_pidfd_send_signal, [pidfd.as_raw_fd() as usize, signal as usize, 0, 0, 0, 0]).map(drop)
}

/// Sends `signal` to process `pid` (or group, as kill(2) says).
pub fn kill(pid: i32, signal: i32) -> Result<()> {
    numbers(libc::SYS_kill, [pid as usize, signal as usize, 0, 0, 0, 0]).map(drop)
}

/// How a child ended, as `wait4` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Exited(i32),
    /// By which signal, and whether it left a core dump.
    Signaled(i32, bool),
}

/// Reaps child `pid` (-1: any); `None` when `block` is false and nobody has ended.
pub fn wait(pid: i32, block: bool) -> Result<Option<(i32, Ended)>> {
    let mut status = 0i32;
    let options = if block { 0 } else { libc::WNOHANG };
    // SAFETY: `status` outlives the call.
    let pid = unsafe {
        syscall(libc::SYS_wait4, [pid as usize, &raw mut status as usize, options as usize, 0, 0, 0])?
    };
    if pid == 0 {
        return Ok(None);
    }
    let ended = if libc::WIFSIGNALED(status) {
        Ended::Signaled(libc::WTERMSIG(status), libc::WCOREDUMP(status))
    } else {
        Ended::Exited(libc::WEXITSTATUS(status))
    };
    Ok(Some((pid as i32, ended)))
}
