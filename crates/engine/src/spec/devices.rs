//! Devices: the nodes that a container sees, and the rules of what it may open.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use corten_api::container::DeviceMapping;
use corten_runtime::spec::{Device, DeviceKind, DeviceRule};

use crate::error::{Error, Result};

/// Nodes and rules of a container's devices.
#[derive(Debug, Default)]
pub struct Devices {
    pub nodes: Vec<Device>,
    pub rules: Vec<DeviceRule>,
}

/// What `--privileged`, `--device` and `--device-cgroup-rule` come to.
pub fn devices(mappings: &[DeviceMapping], cgroup_rules: &[String], privileged: bool) -> Result<Devices> {
    let mut devices = Devices { nodes: Vec::new(), rules: default_rules(privileged) };
    for mapping in mappings {
        map(mapping, &mut devices)?;
    }
    if privileged {
        let mut all = Vec::new();
        host_devices(Path::new("/dev"), &mut all);
        all.retain(|node| devices.nodes.iter().all(|mapped| mapped.path != node.path));
        devices.nodes.append(&mut all);
        // Everything is allowed already.
        devices.rules = default_rules(true);
        return Ok(devices);
    }
    for rule in cgroup_rules {
        devices.rules.push(parse_rule(rule)?);
    }
    Ok(devices)
}

/// Refuses what can't be meant, whether or not the devices are there now.
pub fn check(mappings: &[DeviceMapping], cgroup_rules: &[String]) -> Result<()> {
    for mapping in mappings {
        if !mapping.cgroup_permissions.bytes().all(|right| b"rwm".contains(&right)) {
            return Err(Error::invalid(format!(
                "invalid device permissions \"{}\" for \"{}\": they are of r, w and m",
                mapping.cgroup_permissions, mapping.path_on_host
            )));
        }
    }
    cgroup_rules.iter().try_for_each(|rule| parse_rule(rule).map(drop))
}

/// Nothing but making nodes and the harmless ones; everything when privileged.
fn default_rules(privileged: bool) -> Vec<DeviceRule> {
    let rule = |allow, kind: Option<&str>, major, minor, access: &str| DeviceRule {
        allow,
        kind: kind.map(str::to_owned),
        major,
        minor,
        access: Some(access.to_owned()),
    };
    if privileged {
        return vec![rule(true, None, None, None, "rwm")];
    }
    let mut rules = vec![rule(false, None, None, None, "rwm")];
    rules.push(rule(true, Some("c"), None, None, "m"));
    rules.push(rule(true, Some("b"), None, None, "m"));
    // null, zero, full, random, urandom; tty, console, ptmx; the pseudo terminals of any devpts.
    for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)] {
        rules.push(rule(true, Some("c"), Some(major), Some(minor), "rwm"));
    }
    rules.push(rule(true, Some("c"), Some(136), None, "rwm"));
    rules
}

fn map(mapping: &DeviceMapping, devices: &mut Devices) -> Result<()> {
    let host = Path::new(&mapping.path_on_host);
    let metadata = host.metadata().map_err(|e| {
        // The docker CLI derives its exit code from this wording.
        let why = match e.kind() {
            std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            _ => e.to_string(),
        };
        Error::invalid(format!(
            "error gathering device information while adding custom device \"{}\": {why}",
            host.display()
        ))
    })?;
    let target =
        if mapping.path_in_container.is_empty() { &mapping.path_on_host } else { &mapping.path_in_container };
    let access = if mapping.cgroup_permissions.is_empty() { "rwm" } else { &mapping.cgroup_permissions };
    if metadata.is_dir() {
        let mut nodes = Vec::new();
        host_devices(host, &mut nodes);
        if nodes.is_empty() {
            return Err(Error::invalid(format!(
                "error gathering device information while adding custom device \"{}\": no devices found",
                host.display()
            )));
        }
        for mut node in nodes {
            node.path = node.path.replacen(&mapping.path_on_host, target, 1);
            devices.rules.push(allow(&node, access));
            devices.nodes.push(node);
        }
        return Ok(());
    }
    let node = node(&metadata, target).ok_or_else(|| {
        Error::invalid(format!(
            "error gathering device information while adding custom device \"{}\": not a device node",
            host.display()
        ))
    })?;
    devices.rules.push(allow(&node, access));
    devices.nodes.push(node);
    Ok(())
}

fn allow(node: &Device, access: &str) -> DeviceRule {
    DeviceRule {
        allow: true,
        kind: Some(if node.kind == DeviceKind::Block { "b" } else { "c" }.to_owned()),
        major: Some(node.major),
        minor: Some(node.minor),
        access: Some(access.to_owned()),
    }
}

fn node(metadata: &std::fs::Metadata, path: &str) -> Option<Device> {
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => DeviceKind::Character,
        kind if kind.is_block_device() => DeviceKind::Block,
        _ => return None,
    };
    let number = metadata.rdev();
    Some(Device {
        path: path.to_owned(),
        kind,
        major: i64::from(rustix::fs::major(number)),
        minor: i64::from(rustix::fs::minor(number)),
        file_mode: Some(metadata.mode() & 0o7777),
        uid: Some(metadata.uid()),
        gid: Some(metadata.gid()),
    })
}

/// Every node below `directory` but the container's own: terminals, shared memory, message queues.
fn host_devices(directory: &Path, nodes: &mut Vec<Device>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if matches!(
            name.to_str(),
            Some("pts" | "shm" | "fd" | "mqueue" | ".lxc" | ".lxd-mounts" | ".udev" | "console" | "ptmx")
        ) {
            continue;
        }
        let Ok(metadata) = entry.path().symlink_metadata() else { continue };
        if metadata.is_dir() {
            host_devices(&entry.path(), nodes);
        } else if let Some(path) = entry.path().to_str() {
            nodes.extend(node(&metadata, path));
        }
    }
}

/// `c 42:* rmw` → a rule.
fn parse_rule(text: &str) -> Result<DeviceRule> {
    let invalid = || Error::invalid(format!("invalid device cgroup rule format: '{text}'"));
    let [kind, numbers, access] = text.split_whitespace().collect::<Vec<_>>()[..] else {
        return Err(invalid());
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(invalid)?;
    let number = |part: &str| match part {
        "*" => Ok(None),
        part => part.parse().map(Some).map_err(|_| invalid()),
    };
    if !matches!(kind, "a" | "b" | "c") || access.is_empty() || !access.bytes().all(|b| b"rwm".contains(&b)) {
        return Err(invalid());
    }
    Ok(DeviceRule {
        allow: true,
        kind: Some(kind.to_owned()),
        major: number(major)?,
        minor: number(minor)?,
        access: Some(access.to_owned()),
    })
}

/// The number of the block device at `path`.
pub fn block_number(path: &str) -> Result<(i64, i64)> {
    let metadata = std::fs::metadata(path)
        .map_err(|e| Error::invalid(format!("device \"{path}\" for a blkio limit: {e}")))?;
    if !metadata.file_type().is_block_device() {
        return Err(Error::invalid(format!("device \"{path}\" for a blkio limit is not a block device")));
    }
    Ok((i64::from(rustix::fs::major(metadata.rdev())), i64::from(rustix::fs::minor(metadata.rdev()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_parsed_or_refused() {
        let rule = parse_rule("c 42:* rmw").unwrap();
        assert_eq!((rule.major, rule.minor, rule.access.as_deref()), (Some(42), None, Some("rmw")));
        for text in ["c 42 rwm", "x 1:1 r", "c 1:1 q", "c a:1 r", ""] {
            assert!(parse_rule(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rights_are_checked_before_anything_is_made() {
        let mapping = |rights: &str| DeviceMapping {
            path_on_host: "/dev/not-there-yet".into(),
            path_in_container: String::new(),
            cgroup_permissions: rights.into(),
        };
        assert!(check(&[mapping("rm")], &["c 1:* r".into()]).is_ok());
        assert!(check(&[mapping("rx")], &[]).unwrap_err().message.contains("\"rx\""));
        assert!(check(&[], &["q".into()]).is_err());
    }

    #[test]
    fn a_mapping_counts_for_a_privileged_container_too() {
        let mapping = DeviceMapping {
            path_on_host: "/dev/null".into(),
            path_in_container: "/dev/nothing".into(),
            cgroup_permissions: String::new(),
        };
        let devices = devices(&[mapping], &[], true).unwrap();
        let count = |path: &str| devices.nodes.iter().filter(|node| node.path == path).count();
        assert_eq!((count("/dev/nothing"), count("/dev/null"), devices.rules.len()), (1, 1, 1));
    }

    #[test]
    fn a_mapped_device_is_made_and_allowed() {
        let mapping = DeviceMapping {
            path_on_host: "/dev/null".into(),
            path_in_container: "/dev/nothing".into(),
            cgroup_permissions: "r".into(),
        };
        let devices = devices(&[mapping], &[], false).unwrap();
        assert_eq!(devices.nodes[0].path, "/dev/nothing");
        assert_eq!(devices.rules.last().unwrap().access.as_deref(), Some("r"));
    }
}
