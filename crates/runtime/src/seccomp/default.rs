//! The policy of containers for which nobody chose one: the facts of Docker's default, in our own words.
//!
//! Everything that is not named gets EPERM. What a container may do besides the common set follows from its
//! capabilities. Versions of Docker's policy agree on names, so that programs behave here as they do there.

use std::collections::BTreeSet;

use super::arch::Arch;
use crate::spec::{Seccomp, SeccompAction, SeccompOperator, SyscallArg, SyscallRule};

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// Flags of clone(2) that make namespaces: all of CLONE_NEW* that fit into its flags argument.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// Address families whose sockets reach out of the container: 38 is AF_ALG, 40 is AF_VSOCK (39, AF_NFC, is harmless).
const AF_ALG: u64 = 38;
const AF_NFC: u64 = 39;
const AF_VSOCK: u64 = 40;

/// Personalities without side effects: PER_LINUX, PER_LINUX32, both with UNAME26, and the question for the current one.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Allowed to everybody, by topic.
const COMMON: [&str; 12] = [
    // files and directories
    "access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 \
     fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 \
     fdatasync flock fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd getdents \
     getdents64 ioctl lchown lchown32 link linkat _llseek lseek lstat lstat64 mkdir mkdirat mknod mknodat \
     name_to_handle_at newfstatat open openat openat2 readahead readlink readlinkat rename renameat renameat2 rmdir \
     stat stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range syncfs truncate truncate64 umask unlink \
     unlinkat utime utimensat utimensat_time64 utimes",
    // extended attributes
    "fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr listxattrat llistxattr \
     lremovexattr lsetxattr removexattr removexattrat setxattr setxattrat",
    // reading, writing, waiting for input
    "_newselect epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old \
     eventfd eventfd2 fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy \
     io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit pipe pipe2 poll ppoll ppoll_time64 pread64 \
     preadv preadv2 pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readv select sendfile sendfile64 splice \
     tee vmsplice write writev",
    // memory
    "brk cachestat madvise map_shadow_stack memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2 \
     mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect process_mrelease \
     remap_file_pages",
    // processes and threads
    "execve execveat exit exit_group fork futex futex_requeue futex_time64 futex_wait \
     futex_waitv futex_wake get_robust_list get_thread_area getpgid getpgrp getpid getppid getsid gettid membarrier \
     pidfd_open pidfd_send_signal prctl restart_syscall rseq seccomp set_robust_list set_thread_area set_tid_address \
     setpgid setsid uretprobe vfork wait4 waitid waitpid",
    // identity
    "capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid getresgid32 \
     getresuid getresuid32 getuid getuid32 setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups \
     setgroups32 setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setuid setuid32",
    // signals
    "kill pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait \
     rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack signalfd signalfd4 sigprocmask sigreturn tgkill tkill",
    // time
    "adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 \
     clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time timer_create timer_delete \
     timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime \
     timerfd_gettime64 timerfd_settime timerfd_settime64 times",
    // sockets; socket(2) itself is below
    "accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64 \
     recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair",
    // System V and POSIX inter-process communication
    "ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 \
     mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget",
    // scheduling, limits, accounts
    "getcpu getpriority getrlimit getrusage ioprio_get ioprio_set prlimit64 sched_get_priority_max \
     sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval \
     sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield \
     setpriority setrlimit sysinfo ugetrlimit",
    // the system, and what restricts oneself
    "getrandom landlock_add_rule landlock_create_ruleset landlock_restrict_self listmount process_vm_readv \
     process_vm_writev ptrace riscv_hwprobe statmount uname",
];

/// What a capability allows besides. Where several capabilities allow a call, each of them does.
const BY_CAPABILITY: [(&str, &str); 14] = [
    ("CAP_BPF", "bpf"),
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    ("CAP_PERFMON", "perf_event_open"),
    (
        "CAP_SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr \
         lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl \
         quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module finit_module init_module"),
    ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
    ("CAP_SYS_RAWIO", "ioperm iopl"),
    ("CAP_SYS_TIME", "clock_settime clock_settime64 settimeofday stime"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ("CAP_SYSLOG", "syslog"),
];

/// The default policy for a process with these capabilities (`CAP_…`), on this machine.
pub fn default_profile(effective_caps: &BTreeSet<String>) -> Seccomp {
    profile_for(effective_caps, Arch::NATIVE)
}

pub(super) fn profile_for(caps: &BTreeSet<String>, native: Arch) -> Seccomp {
    let mut syscalls = vec![allow(COMMON.iter().flat_map(|topic| topic.split_ascii_whitespace()))];
    syscalls.extend([
        allow_when("socket", SeccompOperator::Less, AF_ALG, None),
        allow_when("socket", SeccompOperator::Equal, AF_NFC, None),
        allow_when("socket", SeccompOperator::Greater, AF_VSOCK, None),
    ]);
    syscalls.extend(
        PERSONALITIES.map(|persona| allow_when("personality", SeccompOperator::Equal, persona, None)),
    );
    let own = of_architecture(native);
    if !own.is_empty() {
        syscalls.push(allow(own.split_ascii_whitespace()));
    }
    for (capability, names) in BY_CAPABILITY {
        if caps.contains(capability) {
            syscalls.push(allow(names.split_ascii_whitespace()));
        }
    }
    if !caps.contains("CAP_SYS_ADMIN") {
        // New processes yes, new namespaces no. clone3's flags are in memory: C libraries fall back on ENOSYS.
        syscalls.push(allow_when("clone", SeccompOperator::MaskedEqual, CLONE_NAMESPACES, Some(0)));
        syscalls.push(SyscallRule {
            names: vec!["clone3".into()],
            action: SeccompAction::Errno,
            errno_ret: Some(ENOSYS),
            args: Vec::new(),
        });
    }
    Seccomp {
        default_action: SeccompAction::Errno,
        default_errno_ret: Some(EPERM),
        architectures: std::iter::once(&native)
            .chain(native.companions())
            .map(|arch| arch.oci_name().into())
            .collect(),
        syscalls,
        ..Seccomp::default()
    }
}

const fn of_architecture(native: Arch) -> &'static str {
    match native {
        Arch::X86_64 | Arch::X32 => "arch_prctl modify_ldt",
        Arch::X86 => "modify_ldt",
        Arch::Arm | Arch::Aarch64 => {
            "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2"
        }
        Arch::Riscv64 => "riscv_flush_icache",
    }
}

fn allow<'a>(names: impl Iterator<Item = &'a str>) -> SyscallRule {
    SyscallRule {
        names: names.map(str::to_owned).collect(),
        action: SeccompAction::Allow,
        ..SyscallRule::default()
    }
}

fn allow_when(name: &str, op: SeccompOperator, value: u64, value_two: Option<u64>) -> SyscallRule {
    SyscallRule { args: vec![SyscallArg { index: 0, value, value_two, op }], ..allow(std::iter::once(name)) }
}
