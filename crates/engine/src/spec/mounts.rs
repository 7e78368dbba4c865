//! The mounts of the OCI configuration: what every container has, its identity files, and its own.

use corten_runtime::spec::Mount;

use super::{Context, Mode, Modes, mount};
use crate::container::Record;
use crate::error::Result;
use crate::mounts::{MountKind, RecursiveReadOnly, ResolvedMount};

pub fn mounts(record: &Record, context: &Context<'_>, modes: &Modes) -> Result<Vec<Mount>> {
    let mut list = system(record, context, modes)?;
    list.extend(identity(context));
    // A mount of the user's takes the place of ours.
    list.retain(|ours| !record.mounts.iter().any(|own| own.destination == ours.destination));
    // Nor may ours be put into a /dev of the host's.
    if record.mounts.iter().any(|own| own.destination == "/dev") {
        list.retain(|ours| !ours.destination.starts_with("/dev/"));
    }
    list.extend(record.mounts.iter().map(own));
    list.sort_by_key(|mount| mount.destination.split('/').filter(|part| !part.is_empty()).count());
    Ok(list)
}

fn system(record: &Record, context: &Context<'_>, modes: &Modes) -> Result<Vec<Mount>> {
    let privileged = record.host_config.privileged;
    let read_only = |mut options: Vec<&'static str>| {
        if !privileged {
            options.push("ro");
        }
        options
    };
    let mut list = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/sys", "sysfs", "sysfs", &read_only(vec!["nosuid", "noexec", "nodev"])),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &read_only(vec!["nosuid", "noexec", "nodev"])),
    ];
    match &modes.ipc {
        Mode::Host => {
            list.push(mount("/dev/mqueue", "bind", "/dev/mqueue", &["rbind", "nosuid", "noexec", "nodev"]));
            list.push(mount("/dev/shm", "bind", "/dev/shm", &["rbind", "nosuid", "noexec", "nodev"]));
            list.retain(|mount| {
                mount.kind.as_deref() != Some("bind") || std::path::Path::new(&mount.destination).is_dir()
            });
        }
        Mode::Container(partner) => {
            list.push(mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]));
            let shm = (context.shm_of)(partner)?;
            list.push(mount("/dev/shm", "bind", &shm, &["bind", "nosuid", "noexec", "nodev"]));
        }
        mode => {
            list.push(mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]));
            if *mode == Mode::Shareable {
                // Where others can get at it: their own is mounted in nobody's namespace but the container's.
                let shm = (context.shm_of)(&record.id)?;
                list.push(mount("/dev/shm", "bind", &shm, &["bind", "nosuid", "noexec", "nodev"]));
            } else if *mode != Mode::None {
                let size = match record.host_config.shm_size {
                    0 => context.defaults.shm_size,
                    size => size,
                };
                let size = format!("size={size}");
                list.push(mount(
                    "/dev/shm",
                    "tmpfs",
                    "shm",
                    &["nosuid", "noexec", "nodev", "mode=1777", &size],
                ));
            }
        }
    }
    Ok(list)
}

fn identity(context: &Context<'_>) -> Vec<Mount> {
    [("/etc/resolv.conf", "resolv.conf"), ("/etc/hostname", "hostname"), ("/etc/hosts", "hosts")]
        .into_iter()
        .map(|(destination, name)| {
            let source = context.directory.join(name).display().to_string();
            mount(destination, "bind", &source, &["bind", "rprivate"])
        })
        .collect()
}

fn own(own: &ResolvedMount) -> Mount {
    let mut options: Vec<&str> = Vec::new();
    match own.kind {
        MountKind::Tmpfs => {
            options.extend(
                ["nosuid", "nodev", "noexec"].iter().filter(|flag| !contradicted(&own.options, flag)),
            );
            options.extend(own.options.iter().map(String::as_str));
            if own.read_only && !options.contains(&"ro") {
                options.push("ro");
            }
            return mount(&own.destination, "tmpfs", "tmpfs", &options);
        }
        MountKind::Bind | MountKind::Volume | MountKind::Image => {
            options.push(if own.non_recursive { "bind" } else { "rbind" });
            options.push(if own.propagation.is_empty() { "rprivate" } else { &own.propagation });
            if own.read_only {
                options.push("ro");
                // Mounts below stay writable otherwise; mount_setattr (5.12) makes them read-only in one go.
                if own.recursive_read_only != RecursiveReadOnly::Never && !own.non_recursive {
                    options.push("rro");
                }
            }
        }
    }
    mount(&own.destination, "bind", &own.source, &options)
}

/// `exec` among the options takes `noexec` away.
fn contradicted(options: &[String], flag: &str) -> bool {
    let opposite = &flag[2..];
    options.iter().any(|option| option == opposite || option == flag)
}
