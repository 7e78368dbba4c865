//! Project quotas: limits of the disk that a directory and everything in it may take, on file systems that keep them (ext4, XFS).
//!
//! A directory is given a project's number that whatever is made in it inherits; the limit is the project's. By `quotactl_fd` (5.14),
//! which needs no block device.

use std::fs::File;
use std::os::fd::AsRawFd;

use rustix::io::Errno;

use crate::raw::{Result, syscall};

const FS_IOC_FSGETXATTR: usize = 0x801c_581f;
const FS_IOC_FSSETXATTR: usize = 0x401c_5820;
const FS_XFLAG_PROJINHERIT: u32 = 0x200;

/// `QCMD(Q_X…, PRJQUOTA)` of <linux/dqblk_xfs.h>.
const Q_XGETQUOTA: usize = (0x5803 << 8) | 2;
const Q_XSETQLIM: usize = (0x5804 << 8) | 2;
const Q_XGETQSTATV: usize = (0x5808 << 8) | 2;

const FS_QSTATV_VERSION1: i8 = 1;
const FS_QUOTA_PDQ_ACCT: u16 = 1 << 4;
const FS_QUOTA_PDQ_ENFD: u16 = 1 << 5;
const FS_DQUOT_VERSION: i8 = 1;
const FS_PROJ_QUOTA: i8 = 1 << 1;
const FS_DQ_BSOFT: u16 = 1 << 2;
const FS_DQ_BHARD: u16 = 1 << 3;

/// The same on all architectures (since 5.14 numbers are).
const SYS_QUOTACTL_FD: libc::c_long = 443;

/// The unit of limits and counts.
const BLOCK: u64 = 512;

/// `struct fsxattr` of <linux/fs.h>.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct FsXattr {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}

/// `struct fs_disk_quota`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct DiskQuota {
    version: i8,
    flags: i8,
    fields: u16,
    id: u32,
    blocks_hard: u64,
    blocks_soft: u64,
    inodes_hard: u64,
    inodes_soft: u64,
    blocks: u64,
    inodes: u64,
    rest: [u64; 7],
}

/// `struct fs_quota_statv`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Status {
    version: i8,
    padding: u8,
    flags: u16,
    rest: [u32; 39],
}

const _: () =
    assert!(size_of::<FsXattr>() == 28 && size_of::<DiskQuota>() == 112 && size_of::<Status>() == 160);

/// Whether the file system of `directory` keeps project quotas and acts on them.
pub fn is_enforced(directory: &File) -> bool {
    let mut status = Status { version: FS_QSTATV_VERSION1, padding: 0, flags: 0, rest: [0; 39] };
    let wanted = FS_QUOTA_PDQ_ACCT | FS_QUOTA_PDQ_ENFD;
    control(directory, Q_XGETQSTATV, 0, &mut status).is_ok() && status.flags & wanted == wanted
}

/// Whether a project's number has neither files nor a limit.
pub fn is_free(directory: &File, project: u32) -> bool {
    let mut quota = DiskQuota::default();
    match control(directory, Q_XGETQUOTA, project, &mut quota) {
        Ok(()) => [quota.blocks, quota.inodes, quota.blocks_hard, quota.inodes_hard] == [0; 4],
        Err(error) => matches!(error, Errno::NOENT | Errno::SRCH),
    }
}

/// Lets a project take at most so many bytes; 0 is no limit.
pub fn set_limit(directory: &File, project: u32, bytes: u64) -> std::io::Result<()> {
    let blocks = bytes.div_ceil(BLOCK);
    let mut quota = DiskQuota {
        version: FS_DQUOT_VERSION,
        flags: FS_PROJ_QUOTA,
        fields: FS_DQ_BHARD | FS_DQ_BSOFT,
        id: project,
        blocks_hard: blocks,
        blocks_soft: blocks,
        ..DiskQuota::default()
    };
    Ok(control(directory, Q_XSETQLIM, project, &mut quota)?)
}

/// Makes a directory, and whatever comes to be in it, a project's.
pub fn set_project(directory: &File, project: u32) -> std::io::Result<()> {
    let mut attributes = FsXattr::default();
    ioctl(directory, FS_IOC_FSGETXATTR, &mut attributes)?;
    attributes.project = project;
    attributes.flags |= FS_XFLAG_PROJINHERIT;
    Ok(ioctl(directory, FS_IOC_FSSETXATTR, &mut attributes)?)
}

fn control<T>(directory: &File, command: usize, project: u32, argument: &mut T) -> Result<()> {
    // SAFETY: each command is called with its own structure, of the kernel's size (checked above), which outlives the call.
    unsafe {
        let argument = &raw mut *argument as usize;
        let words = [directory.as_raw_fd() as usize, command, project as usize, argument, 0, 0];
        syscall(SYS_QUOTACTL_FD, words).map(drop)
    }
}

fn ioctl(directory: &File, request: usize, attributes: &mut FsXattr) -> Result<()> {
    // SAFETY: both requests read or fill one `struct fsxattr`, whose layout `attributes` has, and keep no pointer to it.
    unsafe {
        let attributes = &raw mut *attributes as usize;
        syscall(libc::SYS_ioctl, [directory.as_raw_fd() as usize, request, attributes, 0, 0, 0]).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_without_them_says_so() {
        let directory = File::open("/proc").unwrap();
        assert!(!is_enforced(&directory));
        assert!(set_limit(&directory, 7, 1 << 20).is_err() && set_project(&directory, 7).is_err());
    }
}
