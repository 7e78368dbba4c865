//! A container's layers as one detached overlay mount.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, OpenTreeFlags, UnmountFlags};

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
    match by_descriptor(&plan) {
        // No `lowerdir+` before Linux 6.8, no `fsopen` before 5.2.
        Err(Errno::INVAL | Errno::NOSYS) => by_path(&plan, directory),
        mounted => Ok(mounted?),
    }
}

fn by_descriptor(plan: &Plan) -> Result<OwnedFd, Errno> {
    let fs = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for lower in &plan.lower {
        rustix::mount::fsconfig_set_string(&fs, "lowerdir+", lower.as_path())?;
    }
    if let Some((upper, work)) = &plan.upper {
        rustix::mount::fsconfig_set_string(&fs, "upperdir", upper.as_path())?;
        rustix::mount::fsconfig_set_string(&fs, "workdir", work.as_path())?;
    }
    rustix::mount::fsconfig_create(&fs)?;
    // Files are looked at, not run; devices of an image are not for the host to open.
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    if plan.upper.is_none() {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// The old way: mounted for a moment (in the mount thread's namespace), then only held by the descriptor.
fn by_path(plan: &Plan, directory: &Path) -> io::Result<OwnedFd> {
    let target = directory.join("detached");
    fs::create_dir_all(&target)?;
    let lower: Vec<Vec<u8>> = plan.lower.iter().map(|path| escape(path)).collect();
    let mut options = [&b"lowerdir="[..], &lower.join(&b':')].concat();
    if let Some((upper, work)) = &plan.upper {
        options.extend_from_slice(&[b",upperdir=", &escape(upper)[..], b",workdir=", &escape(work)].concat());
    }
    let mut flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
    if plan.upper.is_none() {
        flags |= MountFlags::RDONLY;
    }
    let options = std::ffi::CString::new(OsString::from_vec(options).as_bytes())?;
    rustix::mount::mount("overlay", &target, "overlay", flags, Some(&*options))?;
    let cloned = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = rustix::mount::open_tree(CWD, &target, cloned);
    rustix::mount::unmount(&target, UnmountFlags::DETACH)?;
    Ok(mount?)
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
