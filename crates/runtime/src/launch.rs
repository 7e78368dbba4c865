//! Starts a container: one `clone3`, whose child applies the plan and execs.
//!
//! [`Prepared::new`] decides and prepares everything: strings, descriptors, detached mounts, the filter program.
//! [`Prepared::spawn`] clones; [`Child::wait`] follows the child until it holds or runs. The child's own code is in
//! `child.rs` and allocates nothing. Knows nothing of logs, of the engine, of control groups' files.

mod child;
mod diagnosis;
mod foreign;
mod hold;
mod idmapped;
mod net_devices;
mod parent;
mod prepare;
mod record;
mod user_namespace;

#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

pub(crate) use foreign::{mount_overlay, resolve_user};
pub use hold::{hold_socket, start_held};
pub use parent::{Child, Stage};
pub use prepare::Prepared;
pub(crate) use prepare::{Equipment, Options, errno_error, namespaces_of};

use crate::monitor::protocol::Rootfs;
use crate::spec::{NamespaceKind, Spec};

/// What is to be started.
pub struct Request<'a> {
    pub id: &'a str,
    /// Against which a relative `root.path` is resolved; told to hooks.
    pub bundle: &'a Path,
    pub spec: &'a Spec,
    pub rootfs: &'a Rootfs,
    /// As the user wrote it (`name`, `uid`, `name:group`, …); `None`: `process.user` stands as it is.
    pub user: Option<&'a str>,
    /// Supplementary groups by name or number.
    pub groups: &'a [String],
    /// Make the working directory when it is missing.
    pub create_cwd: bool,
    /// Stay as the container's first process, forward signals and reap orphans; the program becomes its child.
    pub init: bool,
    pub stdio: Stdio,
    /// `None`: the child stays in the caller's groups.
    pub cgroup: Option<CgroupEntry>,
    /// Namespaces to be entered by descriptor; each overrides what the configuration says of its kind.
    pub namespaces: Vec<(NamespaceKind, OwnedFd)>,
    /// The compiled `linux.seccomp`.
    pub seccomp: Option<Filter>,
    pub hold: Hold,
    /// `RLIMIT_…` and `oomScoreAdj` whose exact value the user asked for: failing is better than less. Everything else that
    /// the machine withholds is clamped, with a warning.
    pub strict: &'a [String],
    /// How many descriptors after 2 the program inherits from the caller.
    pub preserve_fds: u32,
    /// Sent to the container's first process when the caller dies.
    pub death_signal: Option<i32>,
    /// A session keyring of its own.
    pub keyring: bool,
}

impl<'a> Request<'a> {
    /// The plain case; change fields from here.
    pub fn new(id: &'a str, bundle: &'a Path, spec: &'a Spec, rootfs: &'a Rootfs) -> Self {
        Self {
            id,
            bundle,
            spec,
            rootfs,
            user: None,
            groups: &[],
            create_cwd: false,
            init: false,
            stdio: Stdio::Inherit,
            cgroup: None,
            namespaces: Vec::new(),
            seccomp: None,
            hold: Hold::No,
            strict: &[],
            preserve_fds: 0,
            death_signal: None,
            keyring: true,
        }
    }
}

/// The program's standard streams.
#[derive(Debug, Default)]
pub enum Stdio {
    /// The caller's own 0, 1, 2.
    #[default]
    Inherit,
    Files {
        stdin: OwnedFd,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
    /// A new terminal of the container's own devpts; its master comes back as [`Child::console`].
    Terminal {
        rows: u16,
        columns: u16,
    },
}

/// How the child gets into its control groups, and what it mounts at `cgroup` mounts.
#[derive(Debug, Default)]
pub struct CgroupEntry {
    /// cgroup v2: the group's directory; the child is born there.
    pub directory: Option<OwnedFd>,
    /// cgroup v1: the `tasks` files of all groups, open for writing; the child enters by writing `0`.
    pub tasks: Vec<OwnedFd>,
    /// What a mount of type `cgroup` shows.
    pub view: Vec<CgroupView>,
}

/// One directory below the container's `/sys/fs/cgroup`.
#[derive(Clone, Debug)]
pub struct CgroupView {
    /// `memory`, `cpu,cpuacct`, `systemd`, …; empty for v2's only hierarchy.
    pub name: String,
    /// The container's group in the host's tree: absolute.
    pub group: PathBuf,
}

/// A filter program for seccomp, ready for the kernel.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// `struct sock_filter`: code, jt, jf, k.
    pub instructions: Vec<(u16, u8, u8, u32)>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
    /// There when some rule asks a supervisor.
    pub listener: Option<Listener>,
}

/// Where the descriptor of `SCMP_ACT_NOTIFY` is sent, together with the state, as the specification says.
#[derive(Clone, Debug)]
pub struct Listener {
    pub path: PathBuf,
    pub metadata: Option<String>,
}

/// Whether the child waits once everything but the exec is done.
#[derive(Debug, Default)]
pub enum Hold {
    #[default]
    No,
    /// Until [`Child::release`].
    Channel,
    /// Until somebody, not necessarily the caller, calls [`start_held`] with the path to which this listening unix socket is bound
    /// (`SOCK_SEQPACKET`; see [`hold_socket`]).
    Socket(OwnedFd),
}
