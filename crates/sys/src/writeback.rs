//! Telling the kernel to write pages out early, so that a later fsync has little to wait for.

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::raw::{Result, numbers};

/// Starts writing a range of a file to the disk and does not wait for it. A hint: durability takes an fsync.
pub fn start(file: BorrowedFd<'_>, offset: u64, bytes: u64) -> Result<()> {
    const SYNC_FILE_RANGE_WRITE: usize = 2;
    let arguments = [file.as_raw_fd() as usize, offset as usize, bytes as usize, SYNC_FILE_RANGE_WRITE, 0, 0];
    numbers(libc::SYS_sync_file_range, arguments).map(drop)
}
