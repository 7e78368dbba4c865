//! The parts of the mount API that rustix lacks: mount_setattr, and reading a file system context's own words.

use core::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::raw::{Result, syscall};

/// Attributes of a mount (`MOUNT_ATTR_*`, include/uapi/linux/mount.h).
pub mod attr {
    pub const RDONLY: u64 = 0x1;
    pub const NOSUID: u64 = 0x2;
    pub const NODEV: u64 = 0x4;
    pub const NOEXEC: u64 = 0x8;
    /// Mask of the access time settings: 0 relatime, [`NOATIME`], [`STRICTATIME`].
    pub const ATIME: u64 = 0x70;
    pub const NOATIME: u64 = 0x10;
    pub const STRICTATIME: u64 = 0x20;
    pub const NODIRATIME: u64 = 0x80;
    pub const IDMAP: u64 = 0x0010_0000;
    pub const NOSYMFOLLOW: u64 = 0x0020_0000;
}

/// Propagation types, as mount(2) and mount_setattr(2) write them.
pub mod propagation {
    pub const UNBINDABLE: u64 = libc::MS_UNBINDABLE;
    pub const PRIVATE: u64 = libc::MS_PRIVATE;
    pub const SLAVE: u64 = libc::MS_SLAVE;
    pub const SHARED: u64 = libc::MS_SHARED;
}

/// A change to a mount, made at once.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountAttr {
    pub set: u64,
    pub clear: u64,
    /// 0: as it is.
    pub propagation: u64,
    /// With [`attr::IDMAP`]: the user namespace whose mapping is taken.
    pub user_namespace: u64,
}

impl MountAttr {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Changes the mount behind `mount` (and, `recursive`, all below it).
pub fn set_attributes(mount: BorrowedFd<'_>, recursive: bool, change: &MountAttr) -> Result<()> {
    set_attributes_at(mount, c"", recursive, change)
}

/// Changes the mount whose root `path` is.
pub fn set_attributes_at(
    dir: BorrowedFd<'_>,
    path: &CStr,
    recursive: bool,
    change: &MountAttr,
) -> Result<()> {
    let mut flags = libc::AT_EMPTY_PATH as usize;
    if recursive {
        flags |= libc::AT_RECURSIVE as usize;
    }
    // SAFETY: the path is null-terminated, the structure is the kernel's first version with its true size.
    unsafe {
        syscall(
            libc::SYS_mount_setattr,
            [
                dir.as_raw_fd() as usize,
                path.as_ptr() as usize,
                flags,
                core::ptr::from_ref(change) as usize,
                size_of::<MountAttr>(),
                0,
            ],
        )
        .map(drop)
    }
}

/// Detached copy of the mount (or, `recursive`, mounts) at `path`; an empty path means what `dir` itself is.
pub fn clone_tree(dir: BorrowedFd<'_>, path: &CStr, recursive: bool) -> Result<OwnedFd> {
    const OPEN_TREE_CLONE: usize = 1;
    let mut flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as usize | libc::AT_EMPTY_PATH as usize;
    if recursive {
        flags |= libc::AT_RECURSIVE as usize;
    }
    // SAFETY: the path is null-terminated; the answer is a new descriptor that nobody else owns.
    unsafe {
        let fd =
            syscall(libc::SYS_open_tree, [dir.as_raw_fd() as usize, path.as_ptr() as usize, flags, 0, 0, 0])?;
        Ok(OwnedFd::from_raw_fd(fd as i32))
    }
}

/// Attaches the detached `mount` on what `target` is.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    const MOVE_MOUNT_F_EMPTY_PATH: usize = 0x4;
    const MOVE_MOUNT_T_EMPTY_PATH: usize = 0x40;
    // SAFETY: both paths are empty and static.
    unsafe {
        syscall(
            libc::SYS_move_mount,
            [
                mount.as_raw_fd() as usize,
                c"".as_ptr() as usize,
                target.as_raw_fd() as usize,
                c"".as_ptr() as usize,
                MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH,
                0,
            ],
        )
        .map(drop)
    }
}

/// mount(2) with everything as it is; `null` for an absent string.
pub fn mount(
    source: Option<&CStr>,
    target: &CStr,
    kind: Option<&CStr>,
    flags: u64,
    data: Option<&CStr>,
) -> Result<()> {
    let pointer = |text: Option<&CStr>| text.map_or(0, |t| t.as_ptr() as usize);
    // SAFETY: every string is null-terminated or a null pointer, both of which mount(2) takes.
    unsafe {
        syscall(
            libc::SYS_mount,
            [pointer(source), target.as_ptr() as usize, pointer(kind), flags as usize, pointer(data), 0],
        )
        .map(drop)
    }
}
