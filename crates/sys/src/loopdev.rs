//! Loop devices: a file as a block device that clears itself when its last user is gone.

use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::raw::{Result, numbers, syscall};

const LOOP_GET_STATUS64: usize = 0x4c05;
const LOOP_CONFIGURE: usize = 0x4c0a;
const LOOP_CTL_GET_FREE: usize = 0x4c82;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;
/// Somebody else may take the free device between the two calls; so often in a row means something else.
const ATTEMPTS_MAX: u32 = 64;

/// `struct loop_info64` of <linux/loop.h>.
#[repr(C)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

/// A loop device; it lives as long as this or a mount of it does.
pub struct LoopDevice {
    _device: File,
    path: PathBuf,
}

impl LoopDevice {
    /// Makes `file` a read-only block device with blocks of `block_size` bytes, with direct I/O where the file system
    /// below can do that (so that pages are not cached twice).
    pub fn attach(file: BorrowedFd<'_>, block_size: u32) -> std::io::Result<LoopDevice> {
        Self::attach_for(file, block_size, true)
    }

    /// The same, for writing too.
    pub fn attach_for(file: BorrowedFd<'_>, block_size: u32, read_only: bool) -> std::io::Result<LoopDevice> {
        let control = File::options().read(true).write(true).open("/dev/loop-control")?;
        for _ in 0..ATTEMPTS_MAX {
            let number =
                numbers(libc::SYS_ioctl, [control.as_raw_fd() as usize, LOOP_CTL_GET_FREE, 0, 0, 0, 0])?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = File::options().read(true).write(!read_only).open(&path)?;
            let mut flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO;
            if read_only {
                flags |= LO_FLAGS_READ_ONLY;
            }
            let mut configured = configure(&device, file, block_size, flags);
            if configured == Err(Errno::INVAL) {
                flags &= !LO_FLAGS_DIRECT_IO;
                configured = configure(&device, file, block_size, flags);
            }
            match configured {
                Ok(()) => return Ok(LoopDevice { _device: device, path }),
                Err(Errno::BUSY) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Errno::BUSY.into())
    }

    /// The device that a file already is, if any.
    pub fn of(file: &File) -> std::io::Result<Option<LoopDevice>> {
        let wanted = file.metadata()?;
        let devices = match std::fs::read_dir("/sys/block") {
            Ok(devices) => devices,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        for entry in devices {
            let entry = entry?;
            // Only a device with a file behind it has this directory.
            if !entry.path().join("loop").is_dir() {
                continue;
            }
            let path = std::path::Path::new("/dev").join(entry.file_name());
            // Opened, it can't be cleared and given another file meanwhile.
            let Ok(device) = File::open(&path) else { continue };
            if status(&device).is_ok_and(|info| (info.device, info.inode) == (wanted.dev(), wanted.ino())) {
                return Ok(Some(LoopDevice { _device: device, path }));
            }
        }
        Ok(None)
    }

    /// Where the device lies.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }
}

const EMPTY: LoopInfo64 = LoopInfo64 {
    device: 0,
    inode: 0,
    rdevice: 0,
    offset: 0,
    sizelimit: 0,
    number: 0,
    encrypt_type: 0,
    encrypt_key_size: 0,
    flags: 0,
    file_name: [0; 64],
    crypt_name: [0; 64],
    encrypt_key: [0; 32],
    init: [0; 2],
};

fn status(device: &File) -> Result<LoopInfo64> {
    let mut info = EMPTY;
    // SAFETY: LOOP_GET_STATUS64 fills one `struct loop_info64`, whose layout `info` has, and keeps no pointer to it.
    unsafe {
        let info = &raw mut info;
        syscall(libc::SYS_ioctl, [device.as_raw_fd() as usize, LOOP_GET_STATUS64, info as usize, 0, 0, 0])
    }?;
    Ok(info)
}

fn configure(device: &File, file: BorrowedFd<'_>, block_size: u32, flags: u32) -> Result<()> {
    let info = LoopInfo64 { flags, ..EMPTY };
    let config = LoopConfig { fd: file.as_raw_fd() as u32, block_size, info, reserved: [0; 8] };
    // SAFETY: LOOP_CONFIGURE reads one `struct loop_config`, whose layout `config` has, and keeps no pointer to it.
    unsafe {
        let config = &raw const config;
        syscall(libc::SYS_ioctl, [device.as_raw_fd() as usize, LOOP_CONFIGURE, config as usize, 0, 0, 0])
    }
    .map(drop)
}
