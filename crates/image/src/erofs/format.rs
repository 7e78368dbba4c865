//! Numbers and byte layouts of the format; encoding only, the reader decodes in its own file.

use super::Attributes;
use crate::tar::Device;

pub(super) const MAGIC: u32 = 0xe0f5_e1e2;
pub(super) const SUPERBLOCK: usize = 1024;
/// Where the root directory's inode lies: right behind the superblock. The superblock has 16 bits for it.
pub(super) const ROOT_NID: u16 = ((SUPERBLOCK + 128) / SLOT) as u16;
/// Inodes start at multiples of this; an inode's number is its position divided by it.
pub(super) const SLOT: usize = 32;

pub(super) const COMPAT_CHECKSUM: u32 = 1;
pub(super) const COMPAT_MTIME: u32 = 2;
pub(super) const INCOMPAT_CHUNKED: u32 = 4;

pub(super) const LAYOUT_PLAIN: u16 = 0;
pub(super) const LAYOUT_INLINE: u16 = 2;
pub(super) const LAYOUT_CHUNKS: u16 = 4;

pub(super) const S_IFMT: u32 = 0o170_000;
pub(super) const S_IFIFO: u32 = 0o010_000;
pub(super) const S_IFCHR: u32 = 0o020_000;
pub(super) const S_IFDIR: u32 = 0o040_000;
pub(super) const S_IFBLK: u32 = 0o060_000;
pub(super) const S_IFREG: u32 = 0o100_000;
pub(super) const S_IFLNK: u32 = 0o120_000;

/// A block address that stands for a hole.
pub(super) const NULL_BLOCK: u32 = u32::MAX;

/// The file type byte of a directory entry.
pub(super) fn dirent_type(file_type: u32) -> u8 {
    match file_type {
        S_IFREG => 1,
        S_IFDIR => 2,
        S_IFCHR => 3,
        S_IFBLK => 4,
        S_IFIFO => 5,
        S_IFLNK => 7,
        _ => 0,
    }
}

/// An inode as it will be encoded.
pub(super) struct InodeFields<'a> {
    pub attributes: &'a Attributes,
    pub file_type: u32,
    pub layout: u16,
    pub size: u64,
    pub links: u32,
    /// First block, device number or chunk format.
    pub location: u32,
    pub number: u32,
    pub xattr_bytes: usize,
    pub extended: bool,
}

impl InodeFields<'_> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let attributes = self.attributes;
        let mut bytes = Vec::with_capacity(64);
        let format = u16::from(self.extended) | self.layout << 1;
        let mode = (self.file_type | attributes.mode) as u16;
        bytes.extend_from_slice(&format.to_le_bytes());
        bytes.extend_from_slice(&xattr_count(self.xattr_bytes).to_le_bytes());
        bytes.extend_from_slice(&mode.to_le_bytes());
        if self.extended {
            bytes.extend_from_slice(&[0; 2]);
            bytes.extend_from_slice(&self.size.to_le_bytes());
            bytes.extend_from_slice(&self.location.to_le_bytes());
            bytes.extend_from_slice(&self.number.to_le_bytes());
            bytes.extend_from_slice(&attributes.uid.to_le_bytes());
            bytes.extend_from_slice(&attributes.gid.to_le_bytes());
            bytes.extend_from_slice(&attributes.mtime.seconds.to_le_bytes());
            bytes.extend_from_slice(&attributes.mtime.nanoseconds.to_le_bytes());
            bytes.extend_from_slice(&self.links.to_le_bytes());
            bytes.extend_from_slice(&[0; 16]);
        } else {
            // The caller chose the compact form because all of these fit.
            bytes.extend_from_slice(&(self.links as u16).to_le_bytes());
            bytes.extend_from_slice(&(self.size as u32).to_le_bytes());
            bytes.extend_from_slice(&[0; 4]);
            bytes.extend_from_slice(&self.location.to_le_bytes());
            bytes.extend_from_slice(&self.number.to_le_bytes());
            bytes.extend_from_slice(&(attributes.uid as u16).to_le_bytes());
            bytes.extend_from_slice(&(attributes.gid as u16).to_le_bytes());
            bytes.extend_from_slice(&[0; 4]);
        }
        bytes
    }
}

pub(super) fn inode_bytes(extended: bool) -> usize {
    if extended { 64 } else { 32 }
}

/// Where the link count lies in an inode, and its width.
pub(super) fn links_field(extended: bool) -> (u64, usize) {
    if extended { (44, 4) } else { (6, 2) }
}

/// The attribute area's size as inodes count it: a 12-byte header, then units of four.
pub(super) fn xattr_count(bytes: usize) -> u16 {
    if bytes == 0 { 0 } else { ((bytes - 12) / 4 + 1) as u16 }
}

/// The largest attribute area an inode can count.
pub(super) const XATTR_BYTES_MAX: usize = 12 + 4 * (u16::MAX as usize - 1);

/// The kernel's `new_encode_dev`.
pub(super) fn device_number(device: Device) -> u32 {
    (device.minor & 0xff) | device.major << 8 | (device.minor & !0xff) << 12
}

pub(super) fn device_from_number(number: u32) -> Device {
    Device { major: number >> 8 & 0xfff, minor: (number & 0xff) | (number >> 12 & 0xfff00) }
}

/// What goes into the superblock.
pub(super) struct Superblock {
    pub inodes: u64,
    pub build_seconds: i64,
    pub build_nanoseconds: u32,
    pub blocks: u32,
    pub xattr_block: u32,
    pub uuid: [u8; 16],
    pub chunked: bool,
}

impl Superblock {
    /// Writes the superblock into block 0, whose other bytes must be final: the checksum covers them.
    pub(super) fn encode(&self, block: &mut [u8]) {
        let mut put = |at: usize, bytes: &[u8]| {
            block[SUPERBLOCK + at..SUPERBLOCK + at + bytes.len()].copy_from_slice(bytes);
        };
        put(0, &MAGIC.to_le_bytes());
        put(8, &(COMPAT_CHECKSUM | COMPAT_MTIME).to_le_bytes());
        put(12, &[12]);
        put(14, &ROOT_NID.to_le_bytes());
        put(16, &self.inodes.to_le_bytes());
        put(24, &self.build_seconds.to_le_bytes());
        put(32, &self.build_nanoseconds.to_le_bytes());
        put(36, &self.blocks.to_le_bytes());
        // Offset 40, the metadata area's first block, stays 0: inode numbers count from the image's start.
        put(44, &self.xattr_block.to_le_bytes());
        put(48, &self.uuid);
        put(80, &if self.chunked { INCOMPAT_CHUNKED } else { 0 }.to_le_bytes());
        let checksum = crc32c(&block[SUPERBLOCK..]);
        block[SUPERBLOCK + 4..SUPERBLOCK + 8].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// CRC-32C as the kernel computes it: seeded with ones, not inverted at the end. Only ever sees one block.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ if crc & 1 != 0 { 0x82f6_3b78 } else { 0 })
    })
}
