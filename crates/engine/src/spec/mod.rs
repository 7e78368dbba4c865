//! A container's record → the OCI configuration. Pure: what the kernel and other containers say comes in as arguments.

pub mod capabilities;
pub mod devices;
mod mounts;
pub mod namespaces;
pub mod resources;
mod security;

use std::collections::BTreeMap;
use std::path::Path;

use corten_runtime::spec::{Capabilities, Linux, Mount, Namespace, Process, Root, Seccomp, Spec, User};

pub use namespaces::{Mode, Modes};
pub use security::{SeccompChoice, Security};

use crate::container::Record;
use crate::error::{Error, Result};
use crate::options::ContainerDefaults;

/// Everything that the configuration depends on, beside the record.
pub struct Context<'a> {
    pub defaults: &'a ContainerDefaults,
    /// The container's directory, with its identity files.
    pub directory: &'a Path,
    /// Where the child will find its root.
    pub root: &'a Path,
    pub hostname: &'a str,
    pub cgroups_path: String,
    /// The host's control groups are version 2.
    pub unified: bool,
    /// The network namespace as the configuration names it; `None` when the engine hands over a descriptor or shares the host's.
    pub network: Option<Namespace>,
    pub shares_host_network: bool,
    /// The first process of another container.
    pub pid_of: &'a dyn Fn(&str) -> Result<i32>,
    /// Where another container's shared memory is.
    pub shm_of: &'a dyn Fn(&str) -> Result<String>,
    pub capabilities_available: u64,
}

/// The configuration of `record`'s container.
pub fn build(record: &Record, context: &Context<'_>) -> Result<Spec> {
    let host = &record.host_config;
    let modes = Modes::parse(host, context.unified)?;
    let security = Security::parse(host, context.defaults)?;
    let capabilities = capabilities::effective(
        &host.cap_add,
        &host.cap_drop,
        host.privileged,
        context.capabilities_available,
    )?;
    let devices = devices::devices(&host.devices, &host.device_cgroup_rules, host.privileged)?;
    let seccomp = seccomp(&security, host.privileged, &capabilities)?;
    let resources = resources::resources(host, devices.rules)?;
    let linux = Linux {
        sysctl: sysctls(record, &modes, context)?,
        resources: Some(resources),
        cgroups_path: Some(context.cgroups_path.clone()),
        namespaces: namespaces::namespaces(&modes, context.network.clone(), context.pid_of)?,
        devices: devices.nodes,
        seccomp,
        masked_paths: paths(&host.masked_paths, MASKED, host.privileged || security.unmasked),
        readonly_paths: paths(&host.readonly_paths, READ_ONLY, host.privileged || security.unmasked),
        rootfs_propagation: propagation(record),
        ..Linux::default()
    };
    Ok(Spec {
        oci_version: "1.2.0".to_owned(),
        process: Some(process(record, context, &security, capabilities)?),
        root: Some(Root { path: context.root.display().to_string(), readonly: host.readonly_rootfs }),
        hostname: Some(context.hostname.to_owned()).filter(|_| modes.uts != Mode::Host),
        domainname: Some(record.config.domainname.clone())
            .filter(|name| !name.is_empty() && modes.uts != Mode::Host),
        mounts: mounts::mounts(record, context, &modes)?,
        linux: Some(linux),
        annotations: host.annotations.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        ..Spec::default()
    })
}

fn process(
    record: &Record,
    context: &Context<'_>,
    security: &Security,
    capabilities: std::collections::BTreeSet<String>,
) -> Result<Process> {
    let (config, host) = (&record.config, &record.host_config);
    let names: Vec<String> = capabilities.into_iter().collect();
    Ok(Process {
        terminal: config.tty,
        user: User::default(),
        args: crate::container::arguments(config)?,
        env: environment(config, context.hostname, config.tty),
        cwd: working_directory(&config.working_dir)?,
        capabilities: Some(Capabilities {
            bounding: names.clone(),
            effective: names.clone(),
            permitted: names,
            ..Capabilities::default()
        }),
        rlimits: resources::rlimits(host, &context.defaults.ulimits)?,
        no_new_privileges: security.no_new_privileges,
        apparmor_profile: security.apparmor_profile.clone(),
        selinux_label: security.selinux_label.clone(),
        oom_score_adj: Some(host.oom_score_adj),
        ..Process::default()
    })
}

/// `/` unless said otherwise; always absolute.
pub fn working_directory(path: &str) -> Result<String> {
    match path {
        "" => Ok("/".to_owned()),
        path if path.starts_with('/') => Ok(crate::mounts::clean(path)),
        path => Err(Error::invalid(format!(
            "the working directory '{path}' is invalid, it needs to be an absolute path"
        ))),
    }
}

/// PATH, HOSTNAME and TERM stand unless the image or the request says otherwise.
pub fn environment(
    config: &corten_api::container::ContainerConfig,
    hostname: &str,
    tty: bool,
) -> Vec<String> {
    let has = |name: &str| config.env.iter().any(|entry| entry.split('=').next() == Some(name));
    let mut env = Vec::with_capacity(config.env.len() + 3);
    if !has("PATH") {
        env.push("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
    }
    if !has("HOSTNAME") {
        env.push(format!("HOSTNAME={hostname}"));
    }
    if tty && !has("TERM") {
        env.push("TERM=xterm".to_owned());
    }
    for entry in &config.env {
        let name = entry.split('=').next().unwrap_or_default();
        env.retain(|known| known.split('=').next() != Some(name));
        // A name alone removes.
        if entry.contains('=') {
            env.push(entry.clone());
        }
    }
    env
}

fn seccomp(
    security: &Security,
    privileged: bool,
    capabilities: &std::collections::BTreeSet<String>,
) -> Result<Option<Seccomp>> {
    match &security.seccomp {
        SeccompChoice::Unconfined => Ok(None),
        SeccompChoice::Default if privileged => Ok(None),
        SeccompChoice::Default => Ok(Some(corten_runtime::seccomp::default_profile(capabilities))),
        SeccompChoice::Profile(text) => corten_runtime::seccomp::from_docker_json(
            text,
            capabilities,
            corten_runtime::seccomp::Arch::NATIVE,
        )
        .map(Some)
        .map_err(|e| Error::invalid(format!("Decoding seccomp profile failed: {e}"))),
    }
}

/// The kernel settings that may be made per container, because their namespace is.
fn sysctls(record: &Record, modes: &Modes, context: &Context<'_>) -> Result<BTreeMap<String, String>> {
    for name in record.host_config.sysctls.keys() {
        let allowed = if name.starts_with("net.") {
            !context.shares_host_network
        } else if name.starts_with("fs.mqueue.")
            || IPC_SYSCTLS.contains(&name.as_str())
            || name.starts_with("kernel.shm")
        {
            modes.ipc != Mode::Host
        } else {
            false
        };
        if !allowed {
            return Err(Error::invalid(format!(
                "sysctl '{name}' is not allowed: only those of a namespace that the container does not share with the host (net.*, kernel.shm*, kernel.msg*, kernel.sem, fs.mqueue.*)"
            )));
        }
    }
    Ok(record.host_config.sysctls.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
}

const IPC_SYSCTLS: [&str; 4] = ["kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem"];

/// A shared bind needs a root that does not cut propagation.
fn propagation(record: &Record) -> Option<String> {
    let wants =
        |words: &[&str]| record.mounts.iter().any(|mount| words.contains(&mount.propagation.as_str()));
    if wants(&["shared", "rshared"]) {
        Some("shared".to_owned())
    } else if wants(&["slave", "rslave"]) {
        // The schema has no recursive forms; at the root every one is meant so.
        Some("slave".to_owned())
    } else {
        None
    }
}

/// Nil is the default set, an empty list none.
fn paths(own: &corten_api::List<String>, default: &[&str], open: bool) -> Vec<String> {
    if open {
        return Vec::new();
    }
    if own.is_nil() { default.iter().map(|&path| path.to_owned()).collect() } else { own.to_vec() }
}

const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

pub fn default_masked_paths() -> Vec<String> {
    MASKED.iter().map(|&path| path.to_owned()).collect()
}

pub fn default_readonly_paths() -> Vec<String> {
    READ_ONLY.iter().map(|&path| path.to_owned()).collect()
}

/// A mount by its parts.
fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.to_owned(),
        kind: Some(kind.to_owned()),
        source: Some(source.to_owned()),
        options: options.iter().map(|&option| option.to_owned()).collect(),
        ..Mount::default()
    }
}

#[cfg(test)]
mod tests;
