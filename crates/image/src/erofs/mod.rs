//! EROFS images: a streaming writer and a reader for what it writes.
//!
//! The writer makes the uncompressed subset of the format described in `docs/layer-format.md`: 4096-byte
//! blocks, flat and inline files, chunk-mapped sparse files, inline and shared attributes. File data goes to
//! the image as it comes, inodes of files in small areas between it, directories last; block 0, with the
//! superblock and the root directory's inode, is written at the very end, so that a torn image never mounts.
//! The format is the kernel's: <https://docs.kernel.org/filesystems/erofs.html>, `fs/erofs/erofs_fs.h`.
//!
//! Knows nothing of tar, layers and whiteouts.

use crate::tar::{Device, Extent, Time, Xattrs};

mod dirents;
mod format;
mod output;
mod reader;
mod writer;
mod xattr;

pub use reader::{Dirent, Image, Inode, ReadError};
pub use writer::{Child, Directory, InodeId, Piece, Writer};

#[cfg(test)]
mod tests;

/// The size of a block.
pub const BLOCK: u64 = 4096;

/// What every inode has. Attribute names are full (`user.a`); see [`supports_xattr`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// 12 bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Time,
    pub xattrs: Xattrs,
}

/// What an inode without data blocks of its own is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node<'a> {
    Symlink(&'a [u8]),
    CharDevice(Device),
    BlockDevice(Device),
    Fifo,
}

/// A regular file to come: its size and, when it is sparse, its runs of real bytes.
#[derive(Clone, Copy, Debug)]
pub struct FileShape<'a> {
    pub size: u64,
    pub sparse: Option<&'a [Extent]>,
}

/// Whether the format can hold an attribute of this name.
pub fn supports_xattr(name: &[u8]) -> bool {
    xattr::split(name).is_some()
}
