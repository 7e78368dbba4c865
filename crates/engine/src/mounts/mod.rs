//! What a container has mounted: the three notations (`-v`, `--mount`, `--tmpfs`) and the image's volumes, resolved to one list.
//!
//! Deciding only: nothing is mounted here. Volumes and host directories that must exist are named in the result.

mod bind;

use std::path::Path;

use corten_api::container::{ContainerConfig, HostConfig};
use corten_api::mount::{Mount, MountPoint};
use serde::{Deserialize, Serialize};

pub use bind::{Bind, clean};

use crate::error::{Error, Result};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    #[default]
    Bind,
    Volume,
    Tmpfs,
    /// The files of another image, read-only.
    Image,
}

/// One mount of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedMount {
    pub kind: MountKind,
    /// On the host; empty for tmpfs. For a volume, the engine fills it in; for an image, its name as it was written.
    pub source: String,
    /// The id of an image that is mounted.
    #[serde(default)]
    pub image: String,
    /// Layers of a build that are mounted, bottom first; then there is no image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
    /// Of layers that are written to: the directory that gets what is written, in the end to be thrown away.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub writes: String,
    /// The volume's name; empty for an anonymous one until it has been made.
    pub volume: String,
    /// Made for this container alone and removed with it.
    pub anonymous: bool,
    pub destination: String,
    pub read_only: bool,
    /// Empty: `rprivate`.
    pub propagation: String,
    /// Without the mounts below the source.
    pub non_recursive: bool,
    /// `ro` for the mounts below as well where the kernel can; `force` fails where it can't.
    pub recursive_read_only: RecursiveReadOnly,
    /// Fill a new, empty volume with what the image has there.
    pub copy_up: bool,
    /// Below the root of the volume or image.
    pub subpath: String,
    /// A host directory that may be made when it is missing (`-v`).
    pub create_source: bool,
    /// tmpfs options.
    pub options: Vec<String>,
    /// As it was written, for inspection.
    pub mode: String,
    pub labels: Vec<(String, String)>,
    pub driver_options: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecursiveReadOnly {
    #[default]
    WherePossible,
    Never,
    Always,
}

impl ResolvedMount {
    /// As the API shows it.
    pub fn point(&self) -> MountPoint {
        let kind = match self.kind {
            MountKind::Bind => "bind",
            MountKind::Volume => "volume",
            MountKind::Tmpfs => "tmpfs",
            MountKind::Image => "image",
        };
        MountPoint {
            kind: kind.to_owned(),
            name: self.volume.clone(),
            source: self.source.clone(),
            destination: self.destination.clone(),
            driver: if self.kind == MountKind::Volume { "local".to_owned() } else { String::new() },
            mode: self.mode.clone(),
            rw: !self.read_only,
            propagation: match self.kind {
                MountKind::Bind if self.propagation.is_empty() => "rprivate".to_owned(),
                _ => self.propagation.clone(),
            },
        }
    }
}

/// Brings all notations together. `inherited` are the mounts of `--volumes-from`, weaker than all others.
pub fn resolve(
    config: &ContainerConfig,
    host: &HostConfig,
    inherited: Vec<ResolvedMount>,
) -> Result<Vec<ResolvedMount>> {
    let mut mounts: Vec<ResolvedMount> = Vec::new();
    for text in &host.binds {
        add(&mut mounts, from_bind(Bind::parse(text)?))?;
    }
    for mount in &host.mounts {
        add(&mut mounts, from_mount(mount)?)?;
    }
    for (destination, options) in &host.tmpfs {
        add(&mut mounts, from_tmpfs(destination, options)?)?;
    }
    for mount in inherited {
        if !has(&mounts, &mount.destination) {
            mounts.push(mount);
        }
    }
    for destination in config.volumes.keys() {
        let bind = Bind::parse(destination)?;
        if bind.is_host_path() || !bind.source.is_empty() {
            return Err(Error::invalid(format!("invalid volume path: '{destination}'")));
        }
        if !has(&mounts, &bind.destination) {
            mounts.push(from_bind(bind));
        }
    }
    // A mount hides what is below it: outer ones come first.
    mounts.sort_by(|a, b| a.destination.cmp(&b.destination));
    Ok(mounts)
}

fn has(mounts: &[ResolvedMount], destination: &str) -> bool {
    mounts.iter().any(|known| known.destination == destination)
}

fn add(mounts: &mut Vec<ResolvedMount>, mount: ResolvedMount) -> Result<()> {
    if has(mounts, &mount.destination) {
        return Err(Error::invalid(format!("Duplicate mount point: {}", mount.destination)));
    }
    mounts.push(mount);
    Ok(())
}

fn from_bind(bind: Bind) -> ResolvedMount {
    let host_path = bind.is_host_path();
    ResolvedMount {
        kind: if host_path { MountKind::Bind } else { MountKind::Volume },
        anonymous: bind.source.is_empty(),
        source: if host_path { bind.source.clone() } else { String::new() },
        volume: if host_path { String::new() } else { bind.source },
        destination: bind.destination,
        read_only: bind.read_only,
        propagation: bind.propagation,
        copy_up: !host_path && !bind.no_copy,
        create_source: host_path,
        mode: if bind.mode.is_empty() && !host_path { "z".to_owned() } else { bind.mode },
        ..ResolvedMount::default()
    }
}

const ON_THE_ROOT: &str = "invalid specification: destination can't be '/'";

fn from_tmpfs(destination: &str, options: &str) -> Result<ResolvedMount> {
    if !destination.starts_with('/') {
        return Err(Error::invalid(format!(
            "invalid mount path: '{destination}' mount path must be absolute"
        )));
    }
    if clean(destination) == "/" {
        return Err(Error::invalid(ON_THE_ROOT));
    }
    let options: Vec<String> =
        options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect();
    Ok(ResolvedMount {
        kind: MountKind::Tmpfs,
        destination: clean(destination),
        read_only: options.iter().any(|option| option == "ro"),
        options,
        ..ResolvedMount::default()
    })
}

fn from_mount(mount: &Mount) -> Result<ResolvedMount> {
    let invalid =
        |why: &str| Error::invalid(format!("invalid mount config for type \"{}\": {why}", mount.kind));
    if mount.target.is_empty() {
        return Err(invalid("field Target must not be empty"));
    }
    let destination = clean(&mount.target);
    if destination == "/" {
        return Err(invalid(ON_THE_ROOT));
    }
    if !mount.target.starts_with('/') {
        return Err(invalid(&format!("invalid mount path: '{}' mount path must be absolute", mount.target)));
    }
    let resolved = ResolvedMount { destination, read_only: mount.read_only, ..ResolvedMount::default() };
    match mount.kind.as_str() {
        "bind" => bind_mount(mount, resolved),
        "volume" => volume_mount(mount, resolved),
        "tmpfs" => tmpfs_mount(mount, resolved),
        "image" => image_mount(mount, resolved),
        "npipe" | "cluster" => Err(Error::unsupported(format!(
            "mounts of type \"{}\" are not supported by this engine; it has bind, volume, tmpfs and image",
            mount.kind
        ))),
        other => Err(Error::invalid(format!("mount type unknown: \"{other}\""))),
    }
}

fn bind_mount(mount: &Mount, mut resolved: ResolvedMount) -> Result<ResolvedMount> {
    let invalid = |why: String| Error::invalid(format!("invalid mount config for type \"bind\": {why}"));
    if mount.source.is_empty() {
        return Err(invalid("field Source must not be empty".to_owned()));
    }
    if !mount.source.starts_with('/') {
        return Err(invalid(format!("invalid mount path: '{}' mount path must be absolute", mount.source)));
    }
    if mount.volume_options.is_some() || mount.tmpfs_options.is_some() {
        return Err(invalid("field VolumeOptions and TmpfsOptions must not be specified".to_owned()));
    }
    let options = mount.bind_options.clone().unwrap_or_default();
    if !options.create_mountpoint && !Path::new(&mount.source).exists() {
        return Err(invalid(format!("bind source path does not exist: {}", mount.source)));
    }
    resolved.kind = MountKind::Bind;
    resolved.source = clean(&mount.source);
    resolved.propagation = options.propagation;
    resolved.non_recursive = options.non_recursive;
    resolved.create_source = options.create_mountpoint;
    resolved.recursive_read_only = match (options.read_only_non_recursive, options.read_only_force_recursive)
    {
        (true, true) => {
            return Err(invalid(
                "ReadOnlyNonRecursive and ReadOnlyForceRecursive are mutually exclusive".to_owned(),
            ));
        }
        (true, false) => RecursiveReadOnly::Never,
        (false, true) => RecursiveReadOnly::Always,
        (false, false) => RecursiveReadOnly::WherePossible,
    };
    Ok(resolved)
}

fn volume_mount(mount: &Mount, mut resolved: ResolvedMount) -> Result<ResolvedMount> {
    let options = mount.volume_options.clone().unwrap_or_default();
    if mount.bind_options.is_some() || mount.tmpfs_options.is_some() {
        return Err(Error::invalid(
            "invalid mount config for type \"volume\": field BindOptions and TmpfsOptions must not be specified",
        ));
    }
    let driver = options.driver_config.unwrap_or_default();
    if !matches!(driver.name.as_str(), "" | "local") {
        return Err(Error::not_found(format!("plugin \"{}\" not found", driver.name)));
    }
    resolved.kind = MountKind::Volume;
    resolved.anonymous = mount.source.is_empty();
    resolved.volume.clone_from(&mount.source);
    resolved.copy_up = !options.no_copy;
    resolved.subpath = within(options.subpath, "volume")?;
    resolved.labels = options.labels.into_iter().collect();
    resolved.driver_options = driver.options.into_iter().collect();
    resolved.mode = "z".to_owned();
    Ok(resolved)
}

fn image_mount(mount: &Mount, mut resolved: ResolvedMount) -> Result<ResolvedMount> {
    let invalid = |why: &str| Error::invalid(format!("invalid mount config for type \"image\": {why}"));
    if mount.source.is_empty() {
        return Err(invalid("field Source must not be empty"));
    }
    if mount.bind_options.is_some() || mount.volume_options.is_some() || mount.tmpfs_options.is_some() {
        return Err(invalid("field BindOptions, VolumeOptions and TmpfsOptions must not be specified"));
    }
    resolved.kind = MountKind::Image;
    resolved.source.clone_from(&mount.source);
    resolved.read_only = true;
    resolved.subpath = within(mount.image_options.clone().unwrap_or_default().subpath, "image")?;
    Ok(resolved)
}

/// Refuses a subpath that leads out of its volume or image.
fn within(subpath: String, kind: &str) -> Result<String> {
    if subpath.starts_with('/') || subpath.split('/').any(|part| part == "..") {
        return Err(Error::invalid(format!(
            "invalid mount config for type \"{kind}\": subpath must be a relative path within the {kind}: {subpath}"
        )));
    }
    Ok(subpath)
}

fn tmpfs_mount(mount: &Mount, mut resolved: ResolvedMount) -> Result<ResolvedMount> {
    let invalid = |why: &str| Error::invalid(format!("invalid mount config for type \"tmpfs\": {why}"));
    if !mount.source.is_empty() {
        return Err(invalid("field Source must not be specified"));
    }
    if mount.bind_options.is_some() || mount.volume_options.is_some() {
        return Err(invalid("field BindOptions and VolumeOptions must not be specified"));
    }
    let options = mount.tmpfs_options.clone().unwrap_or_default();
    resolved.kind = MountKind::Tmpfs;
    if options.size_bytes > 0 {
        resolved.options.push(format!("size={}", options.size_bytes));
    }
    if options.mode != 0 {
        resolved.options.push(format!("mode={:o}", options.mode));
    }
    for option in &options.options {
        match option.as_slice() {
            [flag] => resolved.options.push(flag.clone()),
            [name, value] => resolved.options.push(format!("{name}={value}")),
            _ => return Err(invalid("options must be [key] or [key, value]")),
        }
    }
    Ok(resolved)
}

#[cfg(test)]
mod tests;
