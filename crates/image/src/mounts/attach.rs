//! Entering the private namespace, and mounting single layers in it.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use corten_sys::loopdev::LoopDevice;
use corten_sys::process;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    UnmountFlags,
};

use crate::layer::MountSource;

/// How an EROFS file is mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Via {
    /// From the file where the kernel can (6.12), else by a loop device.
    #[default]
    Auto,
    File,
    Loop,
}

/// Puts the calling thread into a mount namespace of its own: what the host mounts still appears there, nothing
/// gets out. `directory` becomes a small file system of its own for mount points.
pub(super) fn enter_namespace(directory: &Path) -> io::Result<()> {
    // CLONE_NEWNS wants a thread with a root and working directory of its own.
    process::unshare(clone_flags::NEWNS | clone_flags::FS)?;
    rustix::mount::mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM)?;
    rustix::mount::mount("tmpfs", directory, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=0755")?;
    Ok(())
}

/// The calling thread's mount namespace.
pub(super) fn namespace() -> io::Result<OwnedFd> {
    Ok(File::open("/proc/thread-self/ns/mnt")?.into())
}

/// `CLONE_*` of <linux/sched.h>.
pub(super) mod clone_flags {
    pub(in crate::mounts) const NEWNS: u64 = 0x0002_0000;
    pub(in crate::mounts) const FS: u64 = 0x0000_0200;
}

pub(super) fn mount_layer(source: &MountSource, target: &Path, via: Via) -> io::Result<()> {
    fs::create_dir_all(target)?;
    let mounted = match source {
        MountSource::Directory(directory) => bind(directory, target),
        MountSource::Erofs(image) => match via {
            Via::File => erofs(image, target),
            Via::Loop => by_loop(image, target),
            Via::Auto => erofs(image, target).or_else(|error| match Errno::from_io_error(&error) {
                // Older kernels want a block device; anything else would fail with one too.
                Some(Errno::NOTBLK | Errno::INVAL | Errno::OPNOTSUPP) => by_loop(image, target),
                _ => Err(error),
            }),
        },
    };
    if mounted.is_err() {
        // Nothing is mounted there; the directory is ours.
        let _ = fs::remove_dir(target);
    }
    mounted
}

pub(super) fn unmount(target: &Path) -> io::Result<()> {
    rustix::mount::unmount(target, UnmountFlags::DETACH)?;
    fs::remove_dir(target)
}

fn bind(directory: &Path, target: &Path) -> io::Result<()> {
    rustix::mount::mount_bind(directory, target)?;
    rustix::mount::mount_remount(target, MountFlags::BIND | MountFlags::RDONLY, c"")?;
    Ok(())
}

fn by_loop(image: &Path, target: &Path) -> io::Result<()> {
    let file = File::open(image)?;
    let device = LoopDevice::attach(file.as_fd(), crate::erofs::BLOCK as u32)?;
    // The mount keeps the device from here on.
    erofs(device.path(), target)
}

fn erofs(source: &Path, target: &Path) -> io::Result<()> {
    let fs = match rustix::mount::fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC) {
        Ok(fs) => fs,
        Err(Errno::NOSYS) => {
            return Ok(rustix::mount::mount(source, target, "erofs", MountFlags::RDONLY, None)?);
        }
        Err(error) => return Err(error.into()),
    };
    rustix::mount::fsconfig_set_string(&fs, "source", source)?;
    rustix::mount::fsconfig_set_flag(&fs, "ro")?;
    rustix::mount::fsconfig_create(&fs)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY;
    let mount = rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    rustix::mount::move_mount(&mount, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(())
}
