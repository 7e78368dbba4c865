//! Reads the images the writer makes: by path, without a mount. Every number from the image is checked, so a
//! damaged image is an error, never a panic or a loop.

use std::cmp::Ordering;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::format::{
    COMPAT_CHECKSUM, INCOMPAT_CHUNKED, LAYOUT_CHUNKS, LAYOUT_INLINE, LAYOUT_PLAIN, MAGIC, NULL_BLOCK,
    S_IFBLK, S_IFCHR, S_IFDIR, S_IFMT, SLOT, SUPERBLOCK, crc32c, device_from_number,
};
use super::{Attributes, BLOCK, xattr};
use crate::tar::{Device, Time, Xattrs};

/// Why an image can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("cannot read the image")]
    Io(#[from] io::Error),
    #[error("damaged EROFS image: {0}")]
    Damaged(&'static str),
}

/// An image open for reading.
pub struct Image {
    file: File,
    bytes: u64,
    root: u64,
    xattr_at: u64,
    build_time: Time,
}

/// A file of an image.
#[derive(Clone, Debug)]
pub struct Inode {
    pub nid: u64,
    /// Type and permission bits, as `stat` has them.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub links: u32,
    pub mtime: Time,
    pub device: Device,
    layout: u16,
    location: u32,
    inode_bytes: u64,
    xattr_bytes: u64,
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dirent {
    pub name: Vec<u8>,
    pub nid: u64,
}

impl Inode {
    pub fn file_type(&self) -> u32 {
        self.mode & S_IFMT
    }

    pub fn is_directory(&self) -> bool {
        self.file_type() == S_IFDIR
    }
}

impl Image {
    /// Opens an image: magic number, checksum and features must be those of the writer.
    pub fn open(file: File) -> Result<Image, ReadError> {
        let bytes = file.metadata()?.len();
        let mut block = vec![0u8; BLOCK as usize];
        file.read_exact_at(&mut block, 0)?;
        let sb = &block[SUPERBLOCK..];
        let (magic, stored, compat, incompat) = (u32_at(sb, 0), u32_at(sb, 4), u32_at(sb, 8), u32_at(sb, 80));
        if magic != MAGIC
            || compat & COMPAT_CHECKSUM == 0
            || sb[12] != 12
            || incompat & !INCOMPAT_CHUNKED != 0
        {
            return Err(ReadError::Damaged("superblock"));
        }
        let root = u64::from(u16::from_le_bytes([sb[14], sb[15]]));
        let build_time = Time { seconds: u64_at(sb, 24) as i64, nanoseconds: u32_at(sb, 32) };
        let blocks = u64::from(u32_at(sb, 36));
        let xattr_at = u64::from(u32_at(sb, 44)) * BLOCK;
        block[SUPERBLOCK + 4..SUPERBLOCK + 8].fill(0);
        if crc32c(&block[SUPERBLOCK..]) != stored {
            return Err(ReadError::Damaged("superblock checksum"));
        }
        if blocks * BLOCK > bytes {
            return Err(ReadError::Damaged("the image is cut short"));
        }
        Ok(Image { file, bytes, root, xattr_at, build_time })
    }

    pub fn root(&self) -> Result<Inode, ReadError> {
        self.inode(self.root)
    }

    /// The inode behind a path of names separated by slashes; symbolic links are not followed.
    pub fn lookup(&self, path: &[u8]) -> Result<Option<Inode>, ReadError> {
        let mut inode = self.root()?;
        for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            if !inode.is_directory() {
                return Ok(None);
            }
            match self.find(&inode, name)? {
                Some(nid) => inode = self.inode(nid)?,
                None => return Ok(None),
            }
        }
        Ok(Some(inode))
    }

    pub fn inode(&self, nid: u64) -> Result<Inode, ReadError> {
        let at = nid.checked_mul(SLOT as u64).ok_or(ReadError::Damaged("inode number"))?;
        let mut bytes = [0u8; 64];
        self.read_exact(&mut bytes[..32], at)?;
        let format = u16_at(&bytes, 0);
        let extended = format & 1 != 0;
        if extended {
            self.read_exact(&mut bytes[32..], at + 32)?;
        }
        let xattr_count = u64::from(u16_at(&bytes, 2));
        let mode = u32::from(u16_at(&bytes, 4));
        let location = u32_at(&bytes, 16);
        let device = match mode & S_IFMT {
            S_IFCHR | S_IFBLK => device_from_number(location),
            _ => Device::default(),
        };
        let (uid, gid, size, links, mtime) = if extended {
            let mtime = Time { seconds: u64_at(&bytes, 32) as i64, nanoseconds: u32_at(&bytes, 40) };
            (u32_at(&bytes, 24), u32_at(&bytes, 28), u64_at(&bytes, 8), u32_at(&bytes, 44), mtime)
        } else {
            let (uid, gid) = (u32::from(u16_at(&bytes, 24)), u32::from(u16_at(&bytes, 26)));
            (uid, gid, u64::from(u32_at(&bytes, 8)), u32::from(u16_at(&bytes, 6)), self.build_time)
        };
        let xattr_bytes = if xattr_count == 0 { 0 } else { 12 + 4 * (xattr_count - 1) };
        let (layout, inode_bytes) = (format >> 1 & 7, if extended { 64 } else { 32 });
        Ok(Inode {
            nid,
            mode,
            uid,
            gid,
            size,
            links,
            mtime,
            device,
            layout,
            location,
            inode_bytes,
            xattr_bytes,
        })
    }

    /// Fills as much of the buffer as the file has at an offset; gives the count.
    pub fn read_at(&self, inode: &Inode, offset: u64, buffer: &mut [u8]) -> Result<usize, ReadError> {
        let want = usize::try_from(inode.size.saturating_sub(offset)).unwrap_or(usize::MAX).min(buffer.len());
        let mut done = 0;
        while done < want {
            let (position, run) = self.map(inode, offset + done as u64)?;
            let now = usize::try_from(run).unwrap_or(usize::MAX).min(want - done);
            let target = &mut buffer[done..done + now];
            match position {
                Some(position) => self.read_exact(target, position)?,
                None => target.fill(0),
            }
            done += now;
        }
        Ok(want)
    }

    /// A whole file, symbolic link or directory of up to a number of bytes.
    pub fn contents(&self, inode: &Inode, bytes_max: u64) -> Result<Vec<u8>, ReadError> {
        if inode.size > bytes_max {
            return Err(ReadError::Io(io::Error::from(io::ErrorKind::FileTooLarge)));
        }
        let mut contents = vec![0u8; inode.size as usize];
        self.read_at(inode, 0, &mut contents)?;
        Ok(contents)
    }

    /// The names of a directory without `.` and `..`, sorted.
    pub fn list(&self, directory: &Inode) -> Result<Vec<Dirent>, ReadError> {
        let mut entries = Vec::new();
        self.each_block(directory, |block| {
            for index in 0..block.count {
                let (name, nid) = block.entry(index)?;
                if name != b"." && name != b".." {
                    entries.push(Dirent { name: name.to_vec(), nid });
                }
            }
            Ok(true)
        })?;
        Ok(entries)
    }

    /// An inode's owner, mode, time and extended attributes.
    pub fn attributes(&self, inode: &Inode) -> Result<Attributes, ReadError> {
        let (mode, mtime) = (inode.mode & 0o7777, inode.mtime);
        let xattrs = self.xattrs(inode)?;
        Ok(Attributes { mode, uid: inode.uid, gid: inode.gid, mtime, xattrs })
    }

    fn xattrs(&self, inode: &Inode) -> Result<Xattrs, ReadError> {
        if inode.xattr_bytes == 0 {
            return Ok(Vec::new());
        }
        let mut area = vec![0u8; inode.xattr_bytes as usize];
        self.read_exact(&mut area, inode.nid * SLOT as u64 + inode.inode_bytes)?;
        let inline_at = 12 + 4 * usize::from(area[4]);
        let numbers = area.get(12..inline_at).ok_or(ReadError::Damaged("attributes"))?;
        let mut xattrs = Vec::new();
        for number in numbers.chunks_exact(4) {
            let at = self.xattr_at + 4 * u64::from(u32_at(number, 0));
            let mut head = [0u8; 4];
            self.read_exact(&mut head, at)?;
            let mut entry = vec![0u8; entry_bytes(&head)];
            self.read_exact(&mut entry, at)?;
            xattrs.push(xattr_pair(&entry)?);
        }
        let mut rest = &area[inline_at..];
        while rest.len() >= 4 {
            let bytes = entry_bytes(rest);
            let entry = rest.get(..bytes).ok_or(ReadError::Damaged("attributes"))?;
            xattrs.push(xattr_pair(entry)?);
            rest = rest.get(bytes.next_multiple_of(4)..).unwrap_or(&[]);
        }
        xattrs.sort();
        Ok(xattrs)
    }

    /// A name in a directory: names ascend over the blocks, so the block is found by halving.
    fn find(&self, directory: &Inode, name: &[u8]) -> Result<Option<u64>, ReadError> {
        let mut bytes = vec![0u8; BLOCK as usize];
        let (mut low, mut high) = (0, directory.size.div_ceil(BLOCK));
        while low < high {
            let middle = low + (high - low) / 2;
            let count = self.read_at(directory, middle * BLOCK, &mut bytes)?;
            let block = DirentBlock::new(&bytes[..count])?;
            let mut before = false;
            for index in 0..block.count {
                let (known, nid) = block.entry(index)?;
                match known.cmp(name) {
                    Ordering::Equal => return Ok(Some(nid)),
                    Ordering::Less => before = true,
                    // Between two names of this block, or before its first.
                    Ordering::Greater if before => return Ok(None),
                    Ordering::Greater => break,
                }
            }
            let (first, _) = block.entry(0)?;
            if name < first { high = middle } else { low = middle + 1 }
        }
        Ok(None)
    }

    /// Calls `visit` with the blocks of a directory until it says false.
    fn each_block(
        &self,
        directory: &Inode,
        mut visit: impl FnMut(&DirentBlock<'_>) -> Result<bool, ReadError>,
    ) -> Result<(), ReadError> {
        let mut bytes = vec![0u8; BLOCK as usize];
        let mut offset = 0;
        while offset < directory.size {
            let count = self.read_at(directory, offset, &mut bytes)?;
            if !visit(&DirentBlock::new(&bytes[..count])?)? {
                break;
            }
            offset += BLOCK;
        }
        Ok(())
    }

    /// Where a byte of a file lies (`None`: in a hole) and how many follow it there.
    fn map(&self, inode: &Inode, offset: u64) -> Result<(Option<u64>, u64), ReadError> {
        let behind = inode.nid * SLOT as u64 + inode.inode_bytes + inode.xattr_bytes;
        let start = u64::from(inode.location) * BLOCK;
        let whole = inode.size / BLOCK * BLOCK;
        match inode.layout {
            LAYOUT_PLAIN => Ok((Some(start + offset), inode.size - offset)),
            LAYOUT_INLINE if offset < whole => Ok((Some(start + offset), whole - offset)),
            LAYOUT_INLINE => Ok((Some(behind + offset - whole), inode.size - offset)),
            LAYOUT_CHUNKS if inode.location < 32 => {
                let bits = BLOCK.trailing_zeros() + inode.location;
                let (chunk, within) = (offset >> bits, offset & ((1 << bits) - 1));
                let mut address = [0u8; 4];
                self.read_exact(&mut address, behind.next_multiple_of(4) + 4 * chunk)?;
                let run = (1u64 << bits) - within;
                Ok(match u32_at(&address, 0) {
                    NULL_BLOCK => (None, run),
                    block => (Some(u64::from(block) * BLOCK + within), run),
                })
            }
            _ => Err(ReadError::Damaged("inode layout")),
        }
    }

    fn read_exact(&self, buffer: &mut [u8], position: u64) -> Result<(), ReadError> {
        let end = position.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.bytes) {
            return Err(ReadError::Damaged("an address behind the end"));
        }
        Ok(self.file.read_exact_at(buffer, position)?)
    }
}

/// A block of directory entries.
struct DirentBlock<'a> {
    bytes: &'a [u8],
    count: usize,
}

impl<'a> DirentBlock<'a> {
    fn new(bytes: &'a [u8]) -> Result<DirentBlock<'a>, ReadError> {
        let first = bytes.get(8..10).map_or(0, |field| usize::from(u16_at(field, 0)));
        if first < 12 || first % 12 != 0 || first > bytes.len() {
            return Err(ReadError::Damaged("directory"));
        }
        Ok(DirentBlock { bytes, count: first / 12 })
    }

    fn entry(&self, index: usize) -> Result<(&'a [u8], u64), ReadError> {
        let name_at = |index: usize| usize::from(u16_at(self.bytes, index * 12 + 8));
        let start = name_at(index);
        let end = if index + 1 < self.count { name_at(index + 1) } else { self.bytes.len() };
        let name = self.bytes.get(start..end).ok_or(ReadError::Damaged("directory"))?;
        // The last name ends with the block or at the zeros behind it.
        let length = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        Ok((&name[..length], u64_at(self.bytes, index * 12)))
    }
}

/// An attribute's bytes without padding, by its header.
fn entry_bytes(head: &[u8]) -> usize {
    4 + usize::from(head[0]) + usize::from(u16_at(head, 2))
}

fn xattr_pair(entry: &[u8]) -> Result<(Vec<u8>, Vec<u8>), ReadError> {
    let (name, value) = entry[4..].split_at(usize::from(entry[0]));
    let name = xattr::join(entry[1], name).ok_or(ReadError::Damaged("attribute name"))?;
    Ok((name, value.to_vec()))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
