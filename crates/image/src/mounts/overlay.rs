//! Layers as one overlay mount: a container's, detached and looked at from outside, or an image's, given to containers.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

use crate::store::Rootfs;

/// What overlayfs is told: the lower directories, top first, and the writable one with its work directory.
struct Plan {
    lower: Vec<PathBuf>,
    upper: Option<(PathBuf, PathBuf)>,
}

impl Plan {
    fn new(rootfs: &Rootfs, read_only: bool) -> Plan {
        let mut lower = rootfs.lower.clone();
        if read_only {
            lower.insert(0, rootfs.upper.clone());
            return Plan { lower, upper: None };
        }
        Plan { lower, upper: Some((rootfs.upper.clone(), rootfs.work.clone())) }
    }
}

pub(super) fn mount_detached(rootfs: &Rootfs, read_only: bool, directory: &Path) -> io::Result<OwnedFd> {
    let plan = Plan::new(rootfs, read_only);
    // Files are looked at, not run; devices of an image are not for the host to open.
    let attributes = MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    match by_descriptor(&plan, attributes) {
        // No `lowerdir+` before Linux 6.8, no `fsopen` before 5.2.
        Err(Errno::INVAL | Errno::NOSYS) => by_path(&plan, directory),
        mounted => Ok(mounted?),
    }
}

/// The lower directories alone.
pub(super) fn mount_lower(rootfs: &Rootfs, directory: &Path) -> io::Result<OwnedFd> {
    if let [only] = &rootfs.lower[..] {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        return Ok(rustix::mount::open_tree(CWD, only, flags)?);
    }
    let plan = Plan { lower: rootfs.lower.clone(), upper: None };
    match by_descriptor(&plan, MountAttrFlags::MOUNT_ATTR_NODEV) {
        Err(Errno::INVAL | Errno::NOSYS) => by_path(&plan, directory),
        mounted => Ok(mounted?),
    }
}

/// Mounts layers without a writable one, top first, on a directory.
pub(super) fn mount_layers(lower: Vec<PathBuf>, target: &Path) -> io::Result<()> {
    if let [only] = &lower[..] {
        // Overlayfs wants two.
        return Ok(rustix::mount::mount_bind(only, target)?);
    }
    mount_on(&Plan { lower, upper: None }, target)
}

/// The same, with what is written going into an empty directory.
pub(super) fn mount_writable(lower: Vec<PathBuf>, writes: &Path, target: &Path) -> io::Result<()> {
    let (upper, work) = (writes.join("upper"), writes.join("work"));
    fs::create_dir(&upper)?;
    fs::create_dir(&work)?;
    // The merged root is as the upper one.
    if let Some(top) = lower.first() {
        let found = fs::metadata(top)?;
        std::os::unix::fs::chown(&upper, Some(found.uid()), Some(found.gid()))?;
        fs::set_permissions(&upper, found.permissions())?;
    }
    mount_on(&Plan { lower, upper: Some((upper, work)) }, target)
}

fn mount_on(plan: &Plan, target: &Path) -> io::Result<()> {
    match by_descriptor(plan, MountAttrFlags::empty()) {
        Err(Errno::INVAL | Errno::NOSYS) => mount_by_path(plan, target, MountFlags::empty()),
        mounted => {
            Ok(rustix::mount::move_mount(mounted?, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
        }
    }
}

impl Plan {
    /// Where nothing is written, directories that were renamed as a whole and files without data of their own are followed to what they
    /// come from: not every writable directory was ours from the beginning, nor has every kernel our defaults. Where something is
    /// written neither is made, as in the container's own mount.
    fn following(&self) -> [(&'static str, &'static str); 2] {
        let copies = if self.upper.is_none() { "on" } else { "off" };
        [("redirect_dir", "follow"), ("metacopy", copies)]
    }
}

fn by_descriptor(plan: &Plan, mut attributes: MountAttrFlags) -> Result<OwnedFd, Errno> {
    let fs = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (option, value) in plan.following() {
        rustix::mount::fsconfig_set_string(&fs, option, value)?;
    }
    for lower in &plan.lower {
        rustix::mount::fsconfig_set_string(&fs, "lowerdir+", lower.as_path())?;
    }
    if let Some((upper, work)) = &plan.upper {
        rustix::mount::fsconfig_set_string(&fs, "upperdir", upper.as_path())?;
        rustix::mount::fsconfig_set_string(&fs, "workdir", work.as_path())?;
    }
    rustix::mount::fsconfig_create(&fs)?;
    if plan.upper.is_none() {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// The old way: mounted for a moment (in the mount thread's namespace), then only held by the descriptor.
fn by_path(plan: &Plan, directory: &Path) -> io::Result<OwnedFd> {
    let target = directory.join("detached");
    fs::create_dir_all(&target)?;
    mount_by_path(plan, &target, MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC)?;
    let cloned = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = rustix::mount::open_tree(CWD, &target, cloned);
    rustix::mount::unmount(&target, UnmountFlags::DETACH)?;
    Ok(mount?)
}

fn mount_by_path(plan: &Plan, target: &Path, mut flags: MountFlags) -> io::Result<()> {
    let lower: Vec<Vec<u8>> = plan.lower.iter().map(|path| escape(path)).collect();
    let mut options = [&b"lowerdir="[..], &lower.join(&b':')].concat();
    for (option, value) in plan.following() {
        options.extend_from_slice(format!(",{option}={value}").as_bytes());
    }
    if let Some((upper, work)) = &plan.upper {
        options.extend_from_slice(&[b",upperdir=", &escape(upper)[..], b",workdir=", &escape(work)].concat());
    }
    if plan.upper.is_none() {
        flags |= MountFlags::RDONLY;
    }
    let options = std::ffi::CString::new(OsString::from_vec(options).as_bytes())?;
    Ok(rustix::mount::mount("overlay", target, "overlay", flags, Some(&*options))?)
}

/// Colons separate lower directories, commas options.
fn escape(path: &Path) -> Vec<u8> {
    let mut escaped = Vec::new();
    for &byte in path.as_os_str().as_bytes() {
        if matches!(byte, b':' | b',' | b'\\') {
            escaped.push(b'\\');
        }
        escaped.push(byte);
    }
    escaped
}
