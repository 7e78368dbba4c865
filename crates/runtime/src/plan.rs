//! Decides what has to be done to start a container: pure, printable, testable without root.
//!
//! A [`Plan`] is a flat list of [`Operation`]s in the order in which the child applies them; strings are C strings already, because
//! the child may not allocate. What the machine can do comes in as [`Host`]. Doing is `launch`'s.

mod mounts;
mod namespaces;
mod options;
mod privileges;
mod process;
mod program;
mod sysctl;
mod system;

#[cfg(test)]
mod tests;

use std::ffi::CString;
use std::fmt;

pub use mounts::{MountAction, MountSource, Parameter};
pub use namespaces::{Join, Namespaces};
pub(crate) use namespaces::{flag as namespace_flag, name as namespace_name};
pub use options::MountOptions;
pub use privileges::{CapabilityPlan, Host};
pub use process::{GROUPS_MAX, GroupName, UserAction, UserName};
pub use program::Program;

use corten_sys::sched::SchedAttr;

use crate::launch::Request;
use crate::monitor::protocol::{Rootfs, Step, StepError};
use crate::spec::{IdMapping, NamespaceKind, Process};

/// Everything that a start consists of.
#[derive(Debug)]
pub struct Plan {
    pub namespaces: Namespaces,
    pub operations: Vec<Operation>,
    pub program: Program,
    /// Moved by the parent.
    pub net_devices: Vec<NetDevicePlan>,
    /// What was clamped or left out.
    pub warnings: Vec<String>,
}

/// An interface that goes into the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetDevicePlan {
    /// Its name in the caller's network namespace.
    pub outside: String,
    pub inside: String,
}

/// One thing for the child to do.
#[derive(Debug)]
pub struct Operation {
    pub step: Step,
    /// What an error would be about.
    pub object: String,
    /// A failure becomes a warning.
    pub lenient: bool,
    pub action: Action,
}

impl Operation {
    fn new(step: Step, object: impl Into<String>, action: Action) -> Self {
        Self { step, object: object.into(), lenient: false, action }
    }
}

/// The system calls that an operation stands for.
#[derive(Debug)]
pub enum Action {
    /// Writes `0` to the prepared `tasks` files (cgroup v1).
    EnterCgroups,
    /// Waits until the parent has written the user mappings, then becomes the namespace's root.
    AwaitMappings,
    /// Enters the namespace behind the descriptor prepared for this operation.
    JoinNamespace(NamespaceKind),
    /// Enters those namespaces of the process behind the prepared pidfd.
    JoinProcess {
        flags: u64,
    },
    /// Changes the root directory to the prepared one.
    Chroot,
    UnshareCgroup,
    /// Switches on `lo` of the new network namespace.
    Loopback,
    NewSession,
    SessionKeyring {
        name: CString,
    },
    /// Changes the propagation of all mounts of the new namespace.
    Propagation {
        flags: u64,
    },
    /// Makes the mount that holds `path` private: `pivot_root` insists.
    ParentPrivate {
        path: CString,
    },
    /// A bind mount of the directory onto itself becomes the root. Without a mount namespace it holds all mounts of the container, so that
    /// unmounting it takes them along; the directory as it is when there are none.
    BindRoot {
        path: CString,
        bind: bool,
        private: bool,
    },
    OverlayRoot(Box<OverlayRoot>),
    Mount(Box<MountAction>),
    /// Makes a device node; a bind mount of the host's when that is forbidden.
    Device(Box<DeviceAction>),
    /// Makes a symbolic link, in the place of whatever is there when `replace`.
    Link {
        path: CString,
        target: CString,
        replace: bool,
    },
    /// Opens a terminal of the container's devpts, sends its master to the parent, mounts it on `/dev/console`.
    Console {
        rows: u16,
        columns: u16,
        mount: bool,
    },
    /// The parent moves network devices, then runs `prestart`, `createRuntime` and `createContainer` hooks.
    AwaitParent,
    Pivot,
    /// Without a mount namespace of its own there is nothing to pivot.
    ChangeRoot,
    RootPropagation {
        flags: u64,
    },
    /// Applies what was put off until everything below is mounted.
    ReadOnlyMount {
        path: CString,
    },
    ReadOnlyRoot,
    MaskPath {
        path: CString,
    },
    ReadOnlyPath {
        path: CString,
    },
    HostName {
        name: CString,
    },
    DomainName {
        name: CString,
    },
    /// `path` is relative to procfs.
    Sysctl {
        path: CString,
        value: CString,
    },
    ResourceLimit {
        number: u32,
        soft: u64,
        hard: u64,
    },
    OomScore {
        value: CString,
    },
    Scheduler(SchedAttr),
    IoPriority {
        class: u32,
        level: u32,
    },
    Affinity {
        mask: Vec<u64>,
    },
    MemoryPolicy {
        mode: u32,
        nodes: Vec<u64>,
    },
    Personality {
        persona: u64,
    },
    User(Box<UserAction>),
    WorkingDirectory {
        path: CString,
        create: bool,
    },
    /// Writes to the thread's `attr/…`: what the program will be confined by.
    ExecLabel {
        file: CString,
        label: CString,
    },
    Streams {
        terminal: bool,
    },
    /// Takes on the resolved user, and the bounding set.
    Identity {
        bounding: u64,
        umask: Option<u32>,
        keep: u64,
    },
    /// Checks that the program is there, so that a create fails and not the start.
    FindProgram,
    /// Says to the parent that all is done, and waits as [`crate::launch::Hold`] says.
    Hold,
    /// Capabilities, no_new_privs and the filter, in the order that each needs.
    Privileges(CapabilityPlan),
    /// Remains as the first process and lets a child do the rest.
    Init,
    Exec,
}

/// An overlay to be the root.
#[derive(Debug)]
pub struct OverlayRoot {
    /// Topmost first.
    pub lower: Vec<CString>,
    pub upper: CString,
    pub work: CString,
    pub volatile: bool,
    pub mount_point: CString,
    /// The same for mount(2), which kernels before 6.8 need.
    pub legacy_options: CString,
}

/// A device node.
#[derive(Debug)]
pub struct DeviceAction {
    /// Relative to the root.
    pub path: CString,
    /// Type and permissions.
    pub mode: u32,
    pub major: u32,
    pub minor: u32,
    pub uid: u32,
    pub gid: u32,
    /// Bind the host's node of the same path: in a user namespace none can be made.
    pub bind: bool,
}

impl Plan {
    /// What has to be done to start the container of `request` on `host`.
    pub fn container(request: &Request<'_>, host: &Host) -> Result<Self, StepError> {
        let spec = request.spec;
        let process = spec.process.as_ref().ok_or_else(|| invalid("process", "is missing"))?;
        let linux = spec.linux.clone().unwrap_or_default();
        let mut warnings = Vec::new();
        if linux.intel_rdt.is_some() {
            return Err(invalid(
                "linux.intelRdt",
                "is not supported: this runtime does not manage Intel RDT",
            ));
        }
        let namespaces = Namespaces::plan(request, &linux)?;
        let program = Program::plan(process)?;
        let mut list = Vec::new();

        namespaces.enter(&mut list, request);
        mounts::root(&mut list, request, &linux, &namespaces)?;
        mounts::mounts(&mut list, request, &linux, &namespaces, host, &mut warnings)?;
        system::devices(&mut list, spec, &linux, &namespaces)?;
        if process.terminal {
            system::console(&mut list, process, &request.stdio, true);
        }
        system::names(&mut list, spec)?;
        let hooks = spec.hooks.as_ref().is_some_and(|h| {
            !(h.prestart.is_empty() && h.create_runtime.is_empty() && h.create_container.is_empty())
        });
        let net_devices = system::net_devices(&linux, &namespaces)?;
        if hooks || !net_devices.is_empty() {
            list.push(Operation::new(Step::Hook, "createRuntime", Action::AwaitParent));
        }
        let pivot = if namespaces.has(NamespaceKind::Mount) { Action::Pivot } else { Action::ChangeRoot };
        list.push(Operation::new(Step::Rootfs, root_name(request), pivot));
        system::protect(&mut list, spec, &linux)?;
        sysctl::plan(&mut list, &linux, &namespaces)?;
        system::memory_policy(&mut list, linux.memory_policy.as_ref())?;
        system::personality(&mut list, &linux)?;
        process::plan(
            &mut list,
            &process::Wish {
                process,
                user: request.user,
                groups: request.groups,
                create_cwd: request.create_cwd,
                strict: request.strict,
                user_namespace: namespaces.has(NamespaceKind::User),
                hold: !matches!(request.hold, crate::launch::Hold::No),
                hooks: spec.hooks.as_ref().is_some_and(|h| !h.start_container.is_empty()),
                init: request.init,
                exec: false,
            },
            host,
            &mut warnings,
        )?;
        Ok(Self { namespaces, operations: list, program, net_devices, warnings })
    }

    /// What has to be done to run `request`'s process in a container whose namespaces `flags` name.
    pub fn exec(
        request: &crate::exec::Request<'_>,
        flags: u64,
        chroot: bool,
        host: &Host,
    ) -> Result<Self, StepError> {
        let mut warnings = Vec::new();
        let program = Program::plan(request.process)?;
        let mut list = Vec::new();
        process::before_entering(&mut list, request.process, request.strict, host, &mut warnings)?;
        list.push(Operation::new(Step::Cgroup, "cgroup", Action::EnterCgroups));
        process::final_affinity(&mut list, request.process)?;
        system::memory_policy(&mut list, request.memory_policy)?;
        list.push(Operation::new(Step::Namespace, "session", Action::NewSession));
        let object = format!("of process {}", request.pid);
        list.push(Operation::new(Step::Namespace, object, Action::JoinProcess { flags }));
        if chroot {
            list.push(Operation::new(Step::Rootfs, "root of the container", Action::Chroot));
        }
        if request.process.terminal {
            system::console(&mut list, request.process, &request.stdio, false);
        }
        process::plan(
            &mut list,
            &process::Wish {
                process: request.process,
                user: request.user,
                groups: request.groups,
                create_cwd: false,
                strict: request.strict,
                user_namespace: flags & corten_sys::process::namespace::USER != 0,
                hold: false,
                hooks: false,
                init: false,
                exec: true,
            },
            host,
            &mut warnings,
        )?;
        let (namespaces, net_devices) = (Namespaces::default(), Vec::new());
        Ok(Self { namespaces, operations: list, program, net_devices, warnings })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.namespaces)?;
        for operation in &self.operations {
            writeln!(f, "{operation}")?;
        }
        write!(f, "run {}", self.program)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {:?}", self.step, self.object, self.action)
    }
}

/// The mappings of a new user namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mappings {
    pub uid: Vec<IdMapping>,
    pub gid: Vec<IdMapping>,
}

pub(crate) fn root_name(request: &Request<'_>) -> String {
    match request.rootfs {
        Rootfs::Directory => request.spec.root.as_ref().map_or(String::new(), |r| r.path.clone()),
        Rootfs::Overlay { upper, .. } => upper.display().to_string(),
    }
}

/// An error of the configuration itself.
pub(crate) fn invalid(object: impl Into<String>, message: impl Into<String>) -> StepError {
    StepError { step: Step::Spec, object: object.into(), errno: 0, message: message.into() }
}

/// A C string, or an error that names the field.
pub(crate) fn c_string(field: &str, text: impl Into<Vec<u8>>) -> Result<CString, StepError> {
    CString::new(text).map_err(|_| invalid(field, "contains a NUL byte"))
}

/// `path` below the root without leading slash, `.` and `..` taken as text; never empty.
pub(crate) fn below_root(field: &str, path: &str) -> Result<CString, StepError> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() { c_string(field, ".") } else { c_string(field, parts.join("/")) }
}

/// A list like `0-3,7` as bits.
pub(crate) fn parse_list(field: &str, list: &str) -> Result<Vec<u64>, StepError> {
    let wrong = || invalid(field, format!("{list:?} is not a list like 0-3,7"));
    let mut mask = Vec::new();
    for range in list.split(',').map(str::trim).filter(|r| !r.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let first: usize = first.trim().parse().map_err(|_| wrong())?;
        let last: usize = last.trim().parse().map_err(|_| wrong())?;
        if first > last || last > 8191 {
            return Err(wrong());
        }
        if mask.len() <= last / 64 {
            mask.resize(last / 64 + 1, 0);
        }
        for bit in first..=last {
            mask[bit / 64] |= 1u64 << (bit % 64);
        }
    }
    if mask.is_empty() { Err(wrong()) } else { Ok(mask) }
}

/// Whether the process's environment sets `name`.
pub(crate) fn environment<'a>(process: &'a Process, name: &str) -> Option<&'a str> {
    process.env.iter().rev().find_map(|e| e.strip_prefix(name)?.strip_prefix('='))
}
