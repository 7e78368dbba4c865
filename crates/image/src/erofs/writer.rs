//! The writer: files as they come, directories at the end.

use std::fs::File;
use std::io;

use super::format::{
    InodeFields, LAYOUT_CHUNKS, LAYOUT_INLINE, LAYOUT_PLAIN, NULL_BLOCK, ROOT_NID, S_IFBLK, S_IFCHR, S_IFDIR,
    S_IFIFO, S_IFLNK, S_IFREG, SLOT, Superblock, device_number, dirent_type, inode_bytes, links_field,
};
use super::output::{MetadataAreas, Output, Slot};
use super::xattr::Shared;
use super::{Attributes, BLOCK, FileShape, Node, dirents};
use crate::tar::{Extent, Time};

/// A sparse file's map has at most this many chunks; larger files get larger chunks.
const CHUNKS_MAX: u64 = 32 * 1024;

/// A file in the image that is not a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InodeId(u32);

/// Where a run of a file's stored bytes lies in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub position: u64,
    pub bytes: u64,
}

/// A directory for [`Writer::finish`]: its names in any order.
pub struct Directory<'a> {
    pub attributes: &'a Attributes,
    /// Index of the parent among the directories; the root, index 0, is its own.
    pub parent: usize,
    pub entries: Vec<(&'a [u8], Child)>,
}

/// What a name in a directory stands for.
#[derive(Clone, Copy, Debug)]
pub enum Child {
    Inode(InodeId),
    /// Index among the directories.
    Directory(usize),
}

/// Writes an image into a new, empty file.
pub struct Writer {
    output: Output,
    areas: MetadataAreas,
    xattrs: Shared,
    inodes: Vec<InodeState>,
    /// The time that compact inodes stand for: that of the first inode.
    build_time: Option<Time>,
    chunked: bool,
    current: Current,
}

#[derive(Clone, Copy)]
struct InodeState {
    position: u64,
    links: u32,
    extended: bool,
    file_type: u8,
}

/// The file whose data is coming.
#[derive(Default)]
struct Current {
    pieces: Vec<Piece>,
    piece: usize,
    /// Bytes of the piece already there.
    done: u64,
    /// The last piece lies here, behind the inode.
    tail: Option<(Slot, usize)>,
}

impl Writer {
    pub fn new(file: File) -> Writer {
        Writer {
            output: Output::new(file),
            areas: MetadataAreas::new(),
            xattrs: Shared::default(),
            inodes: Vec::new(),
            build_time: None,
            chunked: false,
            current: Current::default(),
        }
    }

    /// Starts a regular file; its stored bytes follow with [`Self::data`]. Gives where they will lie, in order.
    pub fn begin_file(
        &mut self,
        attributes: &Attributes,
        shape: FileShape<'_>,
    ) -> io::Result<(InodeId, &[Piece])> {
        let xattrs = self.xattrs.area(&attributes.xattrs)?;
        if let Some(extents) = shape.sparse
            && let Some(id) = self.sparse_file(attributes, &xattrs, shape.size, extents)?
        {
            return Ok((id, &self.current.pieces));
        }
        let size = shape.size;
        let extended = self.extended(attributes, size, 1);
        let core = inode_bytes(extended) + xattrs.len();
        let tail = (size % BLOCK) as usize;
        // A sparse file without holes worth mapping has its runs in place; a tail would split them.
        let inline = tail > 0 && core + tail <= BLOCK as usize && shape.sparse.is_none();
        let blocks = if inline { size / BLOCK } else { size.div_ceil(BLOCK) };
        let start = if blocks > 0 { self.output.reserve(blocks)? } else { 0 };
        let layout = if inline { LAYOUT_INLINE } else { LAYOUT_PLAIN };
        let head = self.inode(attributes, S_IFREG, layout, size, start, extended, &xattrs);
        let room = if inline { tail } else { 0 };
        let slot = self.place(&head, room)?;

        let at = u64::from(start) * BLOCK;
        let mut pieces = std::mem::take(&mut self.current.pieces);
        pieces.clear();
        match shape.sparse {
            Some(extents) => {
                pieces.extend(extents.iter().map(|e| Piece { position: at + e.offset, bytes: e.bytes }));
            }
            None => {
                let whole = if inline { size - tail as u64 } else { size };
                pieces.extend((whole > 0).then_some(Piece { position: at, bytes: whole }));
                let position = slot.position() + head.len() as u64;
                pieces.extend(inline.then_some(Piece { position, bytes: tail as u64 }));
            }
        }
        let tail = slot.area().filter(|_| inline).map(|slot| (slot, head.len()));
        self.current = Current { pieces, piece: 0, done: 0, tail };
        let id = self.register(slot.position(), extended, S_IFREG);
        Ok((id, &self.current.pieces))
    }

    /// Takes the next stored bytes of the current file.
    pub fn data(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let current = &mut self.current;
            let Some(piece) = current.pieces.get(current.piece) else {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "more data than the file's size"));
            };
            let left = usize::try_from(piece.bytes - current.done).unwrap_or(usize::MAX);
            let (now, rest) = bytes.split_at(bytes.len().min(left));
            match current.tail {
                Some((slot, offset)) if current.piece + 1 == current.pieces.len() => {
                    self.areas.fill(slot, offset + current.done as usize, now);
                }
                _ => self.output.write_at(piece.position + current.done, now)?,
            }
            current.done += now.len() as u64;
            if current.done == piece.bytes {
                current.piece += 1;
                current.done = 0;
            }
            bytes = rest;
        }
        Ok(())
    }

    /// Adds a symbolic link, device or fifo.
    pub fn node(&mut self, attributes: &Attributes, node: &Node<'_>) -> io::Result<InodeId> {
        let xattrs = self.xattrs.area(&attributes.xattrs)?;
        let target = match node {
            Node::Symlink(target) => *target,
            _ => b"",
        };
        let (file_type, mut location) = match node {
            Node::Symlink(_) => (S_IFLNK, 0),
            Node::CharDevice(device) => (S_IFCHR, device_number(*device)),
            Node::BlockDevice(device) => (S_IFBLK, device_number(*device)),
            Node::Fifo => (S_IFIFO, 0),
        };
        let size = target.len() as u64;
        let extended = self.extended(attributes, size, 1);
        let inline =
            !target.is_empty() && inode_bytes(extended) + xattrs.len() + target.len() <= BLOCK as usize;
        if !inline && !target.is_empty() {
            location = self.output.reserve(size.div_ceil(BLOCK))?;
            self.output.write_at(u64::from(location) * BLOCK, target)?;
        }
        let layout = if inline { LAYOUT_INLINE } else { LAYOUT_PLAIN };
        let mut head = self.inode(attributes, file_type, layout, size, location, extended, &xattrs);
        if inline {
            head.extend_from_slice(target);
        }
        let slot = self.place(&head, 0)?;
        Ok(self.register(slot.position(), extended, file_type))
    }

    /// Counts one more name for an inode (a new one has one).
    pub fn link(&mut self, id: InodeId) {
        self.inodes[id.0 as usize].links += 1;
    }

    /// Counts one name less.
    pub fn unlink(&mut self, id: InodeId) {
        let links = &mut self.inodes[id.0 as usize].links;
        *links = links.saturating_sub(1);
    }

    /// Writes the directories (index 0 is the root), the shared attributes and the superblock.
    pub fn finish(mut self, directories: &[Directory<'_>], uuid: [u8; 16]) -> io::Result<File> {
        self.areas.flush(&mut self.output)?;
        self.patch_links()?;
        self.areas.retain();
        let mut sorted: Vec<Vec<(&[u8], Option<Child>)>> = Vec::with_capacity(directories.len());
        for directory in directories {
            let mut names: Vec<(&[u8], Option<Child>)> =
                directory.entries.iter().map(|&(name, child)| (name, Some(child))).collect();
            names.extend([(&b"."[..], None), (&b".."[..], None)]);
            names.sort_unstable_by_key(|&(name, _)| name);
            sorted.push(names);
        }
        let mut plans = Vec::with_capacity(directories.len());
        for (index, directory) in directories.iter().enumerate() {
            plans.push(self.plan_directory(directory, &sorted[index], index == 0)?);
        }
        let mut block = vec![0u8; BLOCK as usize];
        for (index, directory) in directories.iter().enumerate() {
            self.write_directory(index, directory, &sorted[index], &plans, &mut block)?;
        }
        self.areas.flush(&mut self.output)?;
        let xattr_block = self.write_shared_xattrs()?;

        let build_time = self.build_time.unwrap_or_default();
        let superblock = Superblock {
            inodes: (self.inodes.len() + directories.len()) as u64,
            build_seconds: build_time.seconds,
            build_nanoseconds: build_time.nanoseconds,
            // `reserve` keeps the count below the hole mark.
            blocks: self.output.blocks() as u32,
            xattr_block,
            uuid,
            chunked: self.chunked,
        };
        superblock.encode(&mut block);
        self.output.write_through(0, &block)?;
        self.output.finish()
    }

    /// A file with holes as a map of chunks, unless no chunk is a hole.
    fn sparse_file(
        &mut self,
        attributes: &Attributes,
        xattrs: &[u8],
        size: u64,
        extents: &[Extent],
    ) -> io::Result<Option<InodeId>> {
        let mut chunk_bits = BLOCK.trailing_zeros();
        while size.div_ceil(1 << chunk_bits) > CHUNKS_MAX {
            chunk_bits += 1;
        }
        let chunk = 1u64 << chunk_bits;
        let mut map = vec![NULL_BLOCK; size.div_ceil(chunk) as usize];
        for extent in extents.iter().filter(|extent| extent.bytes > 0) {
            let (first, last) = (extent.offset / chunk, (extent.offset + extent.bytes - 1) / chunk);
            map[first as usize..=last as usize].fill(0);
        }
        if !map.contains(&NULL_BLOCK) {
            return Ok(None);
        }
        for (index, address) in map.iter_mut().enumerate().filter(|(_, address)| **address != NULL_BLOCK) {
            let bytes = chunk.min(size - index as u64 * chunk);
            *address = self.output.reserve(bytes.div_ceil(BLOCK))?;
        }
        let extended = self.extended(attributes, size, 1);
        let format = chunk_bits - BLOCK.trailing_zeros();
        let mut head = self.inode(attributes, S_IFREG, LAYOUT_CHUNKS, size, format, extended, xattrs);
        for address in &map {
            head.extend_from_slice(&address.to_le_bytes());
        }
        let slot = self.place(&head, 0)?;
        self.current = Current { pieces: chunk_pieces(extents, &map, chunk), ..Current::default() };
        self.chunked = true;
        Ok(Some(self.register(slot.position(), extended, S_IFREG)))
    }

    /// Whether the 32-byte form is too small for an inode.
    fn extended(&mut self, attributes: &Attributes, size: u64, links: u32) -> bool {
        const COMPACT_MAX: u32 = u16::MAX as u32;
        let build_time = *self.build_time.get_or_insert(attributes.mtime);
        attributes.mtime != build_time
            || attributes.uid > COMPACT_MAX
            || attributes.gid > COMPACT_MAX
            || links > COMPACT_MAX
            || size > u64::from(u32::MAX)
    }

    #[allow(clippy::too_many_arguments, reason = "one call per field of the on-disk inode")]
    fn inode(
        &self,
        attributes: &Attributes,
        file_type: u32,
        layout: u16,
        size: u64,
        location: u32,
        extended: bool,
        xattrs: &[u8],
    ) -> Vec<u8> {
        let fields = InodeFields {
            attributes,
            file_type,
            layout,
            size,
            links: 1,
            location,
            number: self.inodes.len() as u32 + 1,
            xattr_bytes: xattrs.len(),
            extended,
        };
        let mut head = fields.encode();
        head.extend_from_slice(xattrs);
        head
    }

    /// Stores an inode with what lies behind it, leaving `room` for a tail. What is larger than a block gets
    /// blocks of its own.
    fn place(&mut self, head: &[u8], room: usize) -> io::Result<Placed> {
        if head.len() + room <= BLOCK as usize {
            let slot = self.areas.allocate(head.len() + room, &mut self.output)?;
            self.areas.fill(slot, 0, head);
            return Ok(Placed::Area(slot));
        }
        let position = u64::from(self.output.reserve((head.len() as u64).div_ceil(BLOCK))?) * BLOCK;
        self.output.write_at(position, head)?;
        Ok(Placed::Own(position))
    }

    fn register(&mut self, position: u64, extended: bool, file_type: u32) -> InodeId {
        let file_type = dirent_type(file_type);
        self.inodes.push(InodeState { position, links: 1, extended, file_type });
        InodeId((self.inodes.len() - 1) as u32)
    }

    /// Hard links come after their file: its count is corrected in place.
    fn patch_links(&mut self) -> io::Result<()> {
        for index in 0..self.inodes.len() {
            let InodeState { position, links, extended, .. } = self.inodes[index];
            if links > 1 {
                let (offset, width) = links_field(extended);
                if width == 2 && links > u32::from(u16::MAX) {
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, "more than 65535 hard links"));
                }
                self.output.write_at(position + offset, &links.to_le_bytes()[..width])?;
            }
        }
        Ok(())
    }

    fn plan_directory(
        &mut self,
        directory: &Directory<'_>,
        names: &[(&[u8], Option<Child>)],
        root: bool,
    ) -> io::Result<Plan> {
        let is_directory = |child: &Option<Child>| matches!(child, Some(Child::Directory(_)));
        let links = 2 + names.iter().filter(|(_, child)| is_directory(child)).count() as u32;
        let size = dirents::size(names.iter().map(|&(name, _)| name));
        let extended = self.extended(directory.attributes, size, links);
        let mut xattrs = self.xattrs.area(&directory.attributes.xattrs)?;
        let room = BLOCK as usize - usize::from(ROOT_NID) * SLOT;
        if root && inode_bytes(extended) + xattrs.len() > room {
            xattrs = self.xattrs.shared_area(&directory.attributes.xattrs)?;
        }
        let core = inode_bytes(extended) + xattrs.len();
        let tail = (size % BLOCK) as usize;
        let inline = !root && tail > 0 && core + tail <= BLOCK as usize;
        let blocks = if inline { size / BLOCK } else { size.div_ceil(BLOCK) };
        let start = if blocks > 0 { self.output.reserve(blocks)? } else { 0 };
        let bytes = core + if inline { tail } else { 0 };
        let slot = if root {
            Placed::Own(u64::from(ROOT_NID) * SLOT as u64)
        } else if bytes <= BLOCK as usize {
            Placed::Area(self.areas.allocate(bytes, &mut self.output)?)
        } else {
            Placed::Own(u64::from(self.output.reserve((bytes as u64).div_ceil(BLOCK))?) * BLOCK)
        };
        Ok(Plan { slot, xattrs, size, links, extended, inline, start })
    }

    fn write_directory(
        &mut self,
        index: usize,
        directory: &Directory<'_>,
        names: &[(&[u8], Option<Child>)],
        plans: &[Plan],
        root_block: &mut [u8],
    ) -> io::Result<()> {
        let plan = &plans[index];
        let entries: Vec<dirents::Entry<'_>> = names
            .iter()
            .map(|&(name, child)| match child {
                Some(Child::Inode(id)) => {
                    let inode = self.inodes[id.0 as usize];
                    (name, inode.position / SLOT as u64, inode.file_type)
                }
                Some(Child::Directory(child)) => (name, plans[child].nid(), dirent_type(S_IFDIR)),
                None => {
                    let of = if name == b"." { index } else { directory.parent };
                    (name, plans[of].nid(), dirent_type(S_IFDIR))
                }
            })
            .collect();
        let contents = dirents::encode(&entries);
        let whole =
            if plan.inline { contents.len() / BLOCK as usize * BLOCK as usize } else { contents.len() };
        let fields = InodeFields {
            attributes: directory.attributes,
            file_type: S_IFDIR,
            layout: if plan.inline { LAYOUT_INLINE } else { LAYOUT_PLAIN },
            size: plan.size,
            links: plan.links,
            location: plan.start,
            number: (self.inodes.len() + index + 1) as u32,
            xattr_bytes: plan.xattrs.len(),
            extended: plan.extended,
        };
        let mut head = fields.encode();
        head.extend_from_slice(&plan.xattrs);
        if plan.inline {
            head.extend_from_slice(&contents[whole..]);
        }
        self.output.write_at(u64::from(plan.start) * BLOCK, &contents[..whole])?;
        match plan.slot {
            Placed::Area(slot) => self.areas.fill(slot, 0, &head),
            Placed::Own(position) if index == 0 => {
                let at = position as usize;
                root_block[at..at + head.len()].copy_from_slice(&head);
            }
            Placed::Own(position) => self.output.write_at(position, &head)?,
        }
        Ok(())
    }

    fn write_shared_xattrs(&mut self) -> io::Result<u32> {
        let table = self.xattrs.table();
        if table.is_empty() {
            return Ok(0);
        }
        let block = self.output.reserve((table.len() as u64).div_ceil(BLOCK))?;
        self.output.write_at(u64::from(block) * BLOCK, table)?;
        Ok(block)
    }
}

/// Where an inode lies.
#[derive(Clone, Copy)]
enum Placed {
    Area(Slot),
    /// In blocks of its own.
    Own(u64),
}

impl Placed {
    fn position(self) -> u64 {
        match self {
            Placed::Area(slot) => slot.position,
            Placed::Own(position) => position,
        }
    }

    fn area(self) -> Option<Slot> {
        match self {
            Placed::Area(slot) => Some(slot),
            Placed::Own(_) => None,
        }
    }
}

/// A directory's place and shape, known before any directory's contents.
struct Plan {
    slot: Placed,
    xattrs: Vec<u8>,
    size: u64,
    links: u32,
    extended: bool,
    inline: bool,
    start: u32,
}

impl Plan {
    fn nid(&self) -> u64 {
        self.slot.position() / SLOT as u64
    }
}

/// Where the runs of a sparse file lie: cut at chunk ends, joined again where chunks follow each other.
fn chunk_pieces(extents: &[Extent], map: &[u32], chunk: u64) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for extent in extents {
        let (mut offset, end) = (extent.offset, extent.offset + extent.bytes);
        while offset < end {
            let within = offset % chunk;
            let bytes = (chunk - within).min(end - offset);
            let position = u64::from(map[(offset / chunk) as usize]) * BLOCK + within;
            match pieces.last_mut() {
                Some(last) if last.position + last.bytes == position => last.bytes += bytes,
                _ => pieces.push(Piece { position, bytes }),
            }
            offset += bytes;
        }
    }
    pieces
}
