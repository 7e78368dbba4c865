//! Rotated files, compressed: gzip that any tool unpacks, in members that can be read one by one.
//!
//! A member holds whole records, some 256 KiB of them. The last member is empty; its extra field lists the others with their
//! times, so that a reader goes to where it wants to read. docs/log-format.md has the bytes.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};

use flate2::{Compress, Compression, Crc, Decompress, FlushCompress, FlushDecompress, Status};

use super::cursor::Cursor;
use super::source::ReadAt;
use crate::monitor::protocol::{LogDriver, Timestamp};

/// Bytes of records in a member,
const BLOCK: u64 = 256 * 1024;
/// or more, so that the list stays below the 64 KiB that an extra field can hold.
const BLOCKS_MAX: u64 = 1500;
const MAGIC: &[u8; 8] = b"cortlidx";
/// Inode, first time, length.
const HEAD: usize = 24;
const ENTRY: usize = 32;
/// Length and magic behind the list.
const TAIL: usize = 12;
/// The empty member's deflate block, check and length.
const END: &[u8; 10] = &[3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// gzip's header up to the extra field (RFC 1952).
const HEADER: usize = 10;
const FOOTER: usize = 8;
/// More than that deflate does not make of a byte.
const RATIO_MAX: usize = 1032;

/// One member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Block {
    /// Where it is in the file,
    packed: u64,
    /// and in what the file unpacks to.
    offset: u64,
    /// The lowest and the highest time in it.
    times: (i64, i64),
}

/// A compressed file that is open for reading.
pub(super) struct Packed {
    file: File,
    /// Of the file that was compressed.
    pub inode: u64,
    /// Of that file's first record.
    pub first: Timestamp,
    pub len: u64,
    blocks: Vec<Block>,
    packed_len: u64,
    /// The block that was read last, unpacked. Never locked by two: readers have a file each.
    current: Mutex<(Range<u64>, Vec<u8>)>,
}

impl Packed {
    /// `InvalidData` when there is no list: the file is somebody else's, or was torn.
    pub(super) fn open(file: File) -> io::Result<Self> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        let size = file.metadata()?.len();
        let mut tail = [0; TAIL + END.len()];
        let tail_at = size.checked_sub(tail.len() as u64).ok_or_else(invalid)?;
        file.read_whole(&mut tail, tail_at)?;
        let len = u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]) as usize;
        if tail[4..TAIL] != *MAGIC || len < HEAD || !(len - HEAD).is_multiple_of(ENTRY) {
            return Err(invalid());
        }
        let list_at = tail_at.checked_sub(len as u64).ok_or_else(invalid)?;
        let mut list = vec![0; len];
        file.read_whole(&mut list, list_at)?;
        let number = |at: usize| list[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let blocks = (HEAD..len).step_by(ENTRY).map(|at| Block {
            packed: number(at),
            offset: number(at + 8),
            times: (number(at + 16) as i64, number(at + 24) as i64),
        });
        Ok(Self {
            inode: number(0),
            first: Timestamp(number(8) as i64),
            len: number(16),
            blocks: blocks.collect(),
            // Of the extra field: its length, and the subfield's name and length.
            packed_len: list_at.saturating_sub(HEADER as u64 + 6),
            current: Mutex::default(),
            file,
        })
    }

    /// Where the first record that may not be older than `since` begins.
    pub(super) fn start_of(&self, since: Timestamp) -> u64 {
        let first = self.blocks.iter().find(|block| block.times.1 >= since.0);
        first.map_or(self.len, |block| block.offset)
    }

    fn unpack(&self, at: usize) -> io::Result<(Range<u64>, Vec<u8>)> {
        let end = |next: Option<u64>, last: u64| next.unwrap_or(last);
        let (block, next) = (self.blocks[at], self.blocks.get(at + 1));
        let range = block.offset..end(next.map(|b| b.offset), self.len);
        let packed = block.packed..end(next.map(|b| b.packed), self.packed_len);
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        let size = |range: &Range<u64>| {
            range.end.checked_sub(range.start).and_then(|len| usize::try_from(len).ok()).ok_or_else(invalid)
        };
        // A list that is damaged must not cost memory.
        if packed.end > self.packed_len || size(&range)? / RATIO_MAX > size(&packed)? {
            return Err(invalid());
        }
        let mut member = vec![0; size(&packed)?];
        self.file.read_whole(&mut member, packed.start)?;
        let body = member.get(HEADER..member.len().saturating_sub(FOOTER)).ok_or_else(invalid)?;
        let mut bytes = Vec::with_capacity(size(&range)?);
        let status = Decompress::new(false).decompress_vec(body, &mut bytes, FlushDecompress::Finish);
        let mut crc = Crc::new();
        crc.update(&bytes);
        let sound = matches!(status, Ok(Status::StreamEnd))
            && bytes.len() as u64 == range.end - range.start
            && member[member.len() - FOOTER..][..4] == crc.sum().to_le_bytes();
        if sound { Ok((range, bytes)) } else { Err(invalid()) }
    }
}

impl ReadAt for Packed {
    fn read_from(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        if at >= self.len {
            return Ok(0);
        }
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if !current.0.contains(&at) {
            let block = self.blocks.partition_point(|block| block.offset <= at);
            let block = block.checked_sub(1).ok_or(io::ErrorKind::InvalidData)?;
            *current = self.unpack(block)?;
            if !current.0.contains(&at) {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        let (range, bytes) = &*current;
        let from = &bytes[(at - range.start) as usize..];
        let count = from.len().min(buffer.len());
        buffer[..count].copy_from_slice(&from[..count]);
        Ok(count)
    }
}

/// Compresses the whole records of `source`, durably.
pub(super) fn pack(source: &File, format: LogDriver, target: File) -> io::Result<()> {
    let metadata = source.metadata()?;
    let least = (metadata.len() / BLOCKS_MAX).max(BLOCK);
    let mut packer = Packer {
        source,
        out: BufWriter::new(target),
        written: 0,
        deflate: Compress::new(Compression::default(), false),
        blocks: Vec::new(),
        raw: Vec::new(),
        packed: Vec::new(),
    };
    let mut cursor = Cursor::new(format);
    let mut block = Block { times: (i64::MAX, i64::MIN), ..Block::default() };
    let mut first = None;
    while let Some(record) = cursor.next(source)? {
        if record.offset - block.offset >= least {
            packer.member(block, record.offset)?;
            block = Block { offset: record.offset, times: (i64::MAX, i64::MIN), ..block };
        }
        first.get_or_insert(record.time);
        block.times = (block.times.0.min(record.time.0), block.times.1.max(record.time.0));
    }
    let len = cursor.offset();
    if len > block.offset {
        packer.member(block, len)?;
    }
    packer.finish(metadata.ino(), first.unwrap_or_default(), len)
}

struct Packer<'a> {
    source: &'a File,
    out: BufWriter<File>,
    written: u64,
    deflate: Compress,
    blocks: Vec<Block>,
    raw: Vec<u8>,
    packed: Vec<u8>,
}

impl Packer<'_> {
    fn member(&mut self, block: Block, end: u64) -> io::Result<()> {
        let len = (end - block.offset) as usize;
        self.raw.resize(len, 0);
        self.source.read_whole(&mut self.raw, block.offset)?;
        self.packed.clear();
        // What deflate adds to bytes that it can't compress.
        self.packed.reserve(len + len / 1000 + 64);
        self.deflate.reset();
        let status = self.deflate.compress_vec(&self.raw, &mut self.packed, FlushCompress::Finish);
        if !matches!(status, Ok(Status::StreamEnd)) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut crc = Crc::new();
        crc.update(&self.raw);
        self.out.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255])?;
        self.out.write_all(&self.packed)?;
        self.out.write_all(&crc.sum().to_le_bytes())?;
        self.out.write_all(&(len as u32).to_le_bytes())?;
        self.blocks.push(Block { packed: self.written, ..block });
        self.written += (HEADER + self.packed.len() + FOOTER) as u64;
        Ok(())
    }

    fn finish(mut self, inode: u64, first: Timestamp, len: u64) -> io::Result<()> {
        let list = (HEAD + self.blocks.len() * ENTRY) as u32;
        let field = list as u16 + TAIL as u16;
        self.out.write_all(&[0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255])?;
        self.out.write_all(&(field + 4).to_le_bytes())?;
        self.out.write_all(b"CL")?;
        self.out.write_all(&field.to_le_bytes())?;
        for number in [inode, first.0 as u64, len] {
            self.out.write_all(&number.to_le_bytes())?;
        }
        for block in &self.blocks {
            for number in [block.packed, block.offset, block.times.0 as u64, block.times.1 as u64] {
                self.out.write_all(&number.to_le_bytes())?;
            }
        }
        self.out.write_all(&list.to_le_bytes())?;
        self.out.write_all(MAGIC)?;
        self.out.write_all(END)?;
        self.out.into_inner().map_err(|e| e.into_error())?.sync_all()
    }
}
