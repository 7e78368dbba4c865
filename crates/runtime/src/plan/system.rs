//! What a container gets around its process: devices, terminal, names, and paths to be protected.

use std::ffi::CString;

use super::{
    Action, DeviceAction, MountOptions, Namespaces, NetDevicePlan, Operation, below_root, c_string, invalid,
    mounts, parse_list,
};
use crate::launch::Stdio;
use crate::monitor::protocol::{Step, StepError};
use crate::spec::{Device, DeviceKind, Linux, MemoryPolicy, NamespaceKind, Process, Spec};

const S_IFCHR: u32 = 0o020_000;
const S_IFBLK: u32 = 0o060_000;
const S_IFIFO: u32 = 0o010_000;

/// The devices that the specification promises: name, major, minor.
const DEFAULT_DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: [(&str, &str); 5] = [
    ("dev/fd", "/proc/self/fd"),
    ("dev/stdin", "/proc/self/fd/0"),
    ("dev/stdout", "/proc/self/fd/1"),
    ("dev/stderr", "/proc/self/fd/2"),
    ("dev/core", "/proc/kcore"),
];

/// Whether `/dev` is the container's own to fill: not when somebody's directory is bound there.
fn owns_dev(spec: &Spec) -> bool {
    !spec.mounts.iter().any(|m| {
        m.destination.trim_end_matches('/') == "/dev"
            && (m.kind.as_deref() == Some("bind") || MountOptions::parse(&m.options).bind.is_some())
    })
}

/// Devices and links below `/dev`.
pub(super) fn devices(
    list: &mut Vec<Operation>,
    spec: &Spec,
    linux: &Linux,
    namespaces: &Namespaces,
) -> Result<(), StepError> {
    if !owns_dev(spec) {
        return Ok(());
    }
    let bind = namespaces.has(NamespaceKind::User);
    let wished = |path: &str| linux.devices.iter().any(|d| d.path.trim_start_matches('/') == path);
    for (name, major, minor) in DEFAULT_DEVICES {
        let path = format!("dev/{name}");
        if !wished(&path) {
            let action = DeviceAction {
                path: c_string("device", path.as_str())?,
                mode: S_IFCHR | 0o666,
                major,
                minor,
                uid: 0,
                gid: 0,
                bind,
            };
            list.push(Operation::new(Step::Device, format!("/{path}"), Action::Device(Box::new(action))));
        }
    }
    for device in &linux.devices {
        // The place of devpts' link.
        if device.path != "/dev/ptmx" {
            let action = Action::Device(Box::new(device_action(device, bind)?));
            list.push(Operation::new(Step::Device, &device.path, action));
        }
    }
    for (path, target) in LINKS {
        let action =
            Action::Link { path: c_string("link", path)?, target: c_string("link", target)?, replace: false };
        list.push(Operation::new(Step::Device, format!("/{path}"), action));
    }
    let action = Action::Link { path: c"dev/ptmx".into(), target: c"pts/ptmx".into(), replace: true };
    list.push(Operation::new(Step::Device, "/dev/ptmx", action));
    Ok(())
}

fn device_action(device: &Device, bind: bool) -> Result<DeviceAction, StepError> {
    let kind = match device.kind {
        DeviceKind::Character => S_IFCHR,
        DeviceKind::Block => S_IFBLK,
        DeviceKind::Fifo => S_IFIFO,
    };
    let number = |n: i64| u32::try_from(n).map_err(|_| invalid(&device.path, "has no valid device number"));
    let (major, minor) =
        if kind == S_IFIFO { (0, 0) } else { (number(device.major)?, number(device.minor)?) };
    Ok(DeviceAction {
        path: below_root("linux.devices.path", &device.path)?,
        mode: kind | device.file_mode.unwrap_or(0o666) & 0o7777,
        major,
        minor,
        uid: device.uid.unwrap_or(0),
        gid: device.gid.unwrap_or(0),
        bind: bind && kind != S_IFIFO,
    })
}

/// A terminal; `mount` it on `/dev/console`, which an exec does not.
pub(super) fn console(list: &mut Vec<Operation>, process: &Process, stdio: &Stdio, mount: bool) {
    let (mut rows, mut columns) = match stdio {
        Stdio::Terminal { rows, columns } => (*rows, *columns),
        _ => (0, 0),
    };
    if let (0, 0, Some(size)) = (rows, columns, process.console_size) {
        rows = u16::try_from(size.height).unwrap_or(0);
        columns = u16::try_from(size.width).unwrap_or(0);
    }
    list.push(Operation::new(Step::Console, "/dev/console", Action::Console { rows, columns, mount }));
}

/// Host name and domain name.
pub(super) fn names(list: &mut Vec<Operation>, spec: &Spec) -> Result<(), StepError> {
    let uts = spec.linux.as_ref().is_some_and(|l| l.namespaces.iter().any(|n| n.kind == NamespaceKind::Uts));
    let checked = |field: &str, text: &Option<String>| -> Result<Option<CString>, StepError> {
        match text.as_deref().filter(|t| !t.is_empty()) {
            None => Ok(None),
            Some(_) if !uts => Err(invalid(field, "needs a uts namespace: it would rename the host")),
            Some(text) if text.len() > 64 => Err(invalid(field, "is longer than 64 bytes")),
            Some(text) => c_string(field, text).map(Some),
        }
    };
    if let Some(name) = checked("hostname", &spec.hostname)? {
        let object = name.to_string_lossy().into_owned();
        list.push(Operation::new(Step::Hostname, object, Action::HostName { name }));
    }
    if let Some(name) = checked("domainname", &spec.domainname)? {
        let object = name.to_string_lossy().into_owned();
        list.push(Operation::new(Step::Hostname, object, Action::DomainName { name }));
    }
    Ok(())
}

/// Read-only root and mounts, hidden and read-only paths.
pub(super) fn protect(list: &mut Vec<Operation>, spec: &Spec, linux: &Linux) -> Result<(), StepError> {
    if let Some(propagation) = linux.rootfs_propagation.as_deref() {
        use corten_sys::mount::propagation as types;
        let flags = match propagation.strip_prefix('r').unwrap_or(propagation) {
            "shared" => types::SHARED,
            "slave" => types::SLAVE,
            "private" => types::PRIVATE,
            "unbindable" => types::UNBINDABLE,
            _ => 0,
        };
        if flags != 0 {
            list.push(Operation::new(Step::Rootfs, "/", Action::RootPropagation { flags }));
        }
    }
    for mount in &spec.mounts {
        let options = MountOptions::parse(&mount.options);
        let group = matches!(mount.kind.as_deref(), Some("cgroup" | "cgroup2")) && options.read_only();
        if mounts::late_read_only(mount) || group {
            let path = below_root("mounts.destination", &mount.destination)?;
            list.push(Operation::new(Step::Mount, &mount.destination, Action::ReadOnlyMount { path }));
        }
    }
    if spec.root.as_ref().is_some_and(|r| r.readonly) {
        list.push(Operation::new(Step::Rootfs, "/", Action::ReadOnlyRoot));
    }
    for path in &linux.readonly_paths {
        let action = Action::ReadOnlyPath { path: below_root("linux.readonlyPaths", path)? };
        list.push(Operation::new(Step::MaskedPath, path, action));
    }
    for path in &linux.masked_paths {
        let action = Action::MaskPath { path: below_root("linux.maskedPaths", path)? };
        list.push(Operation::new(Step::MaskedPath, path, action));
    }
    Ok(())
}

/// Which interfaces are moved. Names as the kernel takes them (`dev_valid_name`).
pub(super) fn net_devices(linux: &Linux, namespaces: &Namespaces) -> Result<Vec<NetDevicePlan>, StepError> {
    const NAME_BYTES_MAX: usize = 15;
    let field = "linux.netDevices";
    if !linux.net_devices.is_empty() && !namespaces.has(NamespaceKind::Network) {
        return Err(invalid(field, "needs a network namespace: there is nowhere to move them to"));
    }
    let separates = |c: char| matches!(c, '/' | ':' | '\0') || c.is_ascii_whitespace();
    let valid = |name: &str| {
        (1..=NAME_BYTES_MAX).contains(&name.len()) && !matches!(name, "." | "..") && !name.contains(separates)
    };
    let mut plans: Vec<NetDevicePlan> = Vec::new();
    for (outside, wish) in &linux.net_devices {
        let inside = wish.name.as_deref().filter(|n| !n.is_empty()).unwrap_or(outside);
        if let Some(name) = [outside.as_str(), inside].into_iter().find(|name| !valid(name)) {
            return Err(invalid(field, format!("{name:?} is no name of a network device")));
        }
        if plans.iter().any(|plan| plan.inside == inside) {
            return Err(invalid(field, format!("two devices are to be named {inside}")));
        }
        plans.push(NetDevicePlan { outside: outside.clone(), inside: inside.to_owned() });
    }
    Ok(plans)
}

/// NUMA policy (include/uapi/linux/mempolicy.h).
pub(super) fn memory_policy(
    list: &mut Vec<Operation>,
    policy: Option<&MemoryPolicy>,
) -> Result<(), StepError> {
    let Some(policy) = policy else { return Ok(()) };
    let mut mode = match policy.mode.as_str() {
        "MPOL_DEFAULT" => 0,
        "MPOL_PREFERRED" => 1,
        "MPOL_BIND" => 2,
        "MPOL_INTERLEAVE" => 3,
        "MPOL_LOCAL" => 4,
        "MPOL_PREFERRED_MANY" => 5,
        "MPOL_WEIGHTED_INTERLEAVE" => 6,
        other => return Err(invalid("linux.memoryPolicy.mode", format!("{other:?} is unknown"))),
    };
    for flag in &policy.flags {
        mode |= match flag.as_str() {
            "MPOL_F_STATIC_NODES" => 1 << 15,
            "MPOL_F_RELATIVE_NODES" => 1 << 14,
            "MPOL_F_NUMA_BALANCING" => 1 << 13,
            other => return Err(invalid("linux.memoryPolicy.flags", format!("{other:?} is unknown"))),
        };
    }
    let nodes = match policy.nodes.as_str() {
        "" => Vec::new(),
        list => parse_list("linux.memoryPolicy.nodes", list)?,
    };
    list.push(Operation::new(Step::Scheduler, &policy.mode, Action::MemoryPolicy { mode, nodes }));
    Ok(())
}

/// Execution domain.
pub(super) fn personality(list: &mut Vec<Operation>, linux: &Linux) -> Result<(), StepError> {
    let Some(personality) = &linux.personality else { return Ok(()) };
    if !personality.flags.is_empty() {
        return Err(invalid("linux.personality.flags", "no flag is defined by the specification"));
    }
    let persona = match personality.domain.as_str() {
        "LINUX" => 0,
        "LINUX32" => 8,
        other => return Err(invalid("linux.personality.domain", format!("{other:?} is unknown"))),
    };
    list.push(Operation::new(Step::Scheduler, &personality.domain, Action::Personality { persona }));
    Ok(())
}
