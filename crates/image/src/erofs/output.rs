//! Where an image's bytes go: a file whose blocks are handed out in order, and areas of small metadata.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use corten_sys::writeback;

use super::BLOCK;
use crate::zeros;

/// Small writes are gathered up to this size; larger ones go straight through.
const BUFFER: usize = 256 * 1024;

/// Every so many bytes the kernel is asked to start writing them out: the disk works while the rest comes in, and
/// the fsync at the end has less to wait for.
const WRITEBACK: u64 = 32 << 20;

/// A file that grows by whole blocks.
pub(super) struct Output {
    file: File,
    blocks: u64,
    buffer: Vec<u8>,
    buffer_at: u64,
    /// Up to here the disk is at work.
    written_back: u64,
}

impl Output {
    /// Block 0 is taken: it is written last.
    pub(super) fn new(file: File) -> Output {
        Output { file, blocks: 1, buffer: Vec::with_capacity(BUFFER), buffer_at: 0, written_back: 0 }
    }

    /// Hands out the next blocks; gives the first one's address.
    pub(super) fn reserve(&mut self, blocks: u64) -> io::Result<u32> {
        let first = self.blocks;
        self.blocks = self.blocks.saturating_add(blocks);
        // The last address means "hole".
        if self.blocks >= u64::from(u32::MAX) {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        Ok(first as u32)
    }

    pub(super) fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Writes where blocks were handed out; bytes never written read as zeros.
    pub(super) fn write_at(&mut self, position: u64, bytes: &[u8]) -> io::Result<()> {
        if position != self.buffer_at + self.buffer.len() as u64 || self.buffer.len() + bytes.len() > BUFFER {
            self.flush()?;
            self.buffer_at = position;
        }
        if bytes.len() >= BUFFER / 4 && self.buffer.is_empty() {
            self.buffer_at = position + bytes.len() as u64;
            write_data(&self.file, bytes, position)?;
            self.write_back();
            return Ok(());
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes past the buffer, for single pieces between the data.
    pub(super) fn write_through(&mut self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, position)
    }

    fn flush(&mut self) -> io::Result<()> {
        write_data(&self.file, &self.buffer, self.buffer_at)?;
        self.buffer_at += self.buffer.len() as u64;
        self.buffer.clear();
        self.write_back();
        Ok(())
    }

    fn write_back(&mut self) {
        if self.buffer_at >= self.written_back + WRITEBACK {
            // A hint: file systems that don't know it write when they must.
            let _ =
                writeback::start(self.file.as_fd(), self.written_back, self.buffer_at - self.written_back);
            self.written_back = self.buffer_at;
        }
    }

    /// Writes what is buffered and gives the file, cut to whole blocks, back.
    pub(super) fn finish(mut self) -> io::Result<File> {
        self.flush()?;
        self.file.set_len(self.blocks * BLOCK)?;
        Ok(self.file)
    }
}

/// Writes but for pages of zeros, which take no room then.
fn write_data(file: &File, bytes: &[u8], position: u64) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        let (length, is_data) = zeros::run(&bytes[done..]);
        if is_data {
            file.write_all_at(&bytes[done..done + length], position + done as u64)?;
        }
        done += length;
    }
    Ok(())
}

/// The largest area; the first ones are smaller, so that small images stay small.
const AREA_BLOCKS_MAX: usize = 16;

/// Room for inodes with their attributes and tails: none of them crosses a block's end, as the kernel wants it
/// for inline data. The blocks of the open area are filled best fit.
pub(super) struct MetadataAreas {
    areas: Vec<Area>,
    next_blocks: usize,
    /// Whether full areas stay in memory: the directories refer to each other, so that their contents are only
    /// known once all of them have their place.
    retain: bool,
}

struct Area {
    position: u64,
    bytes: Vec<u8>,
    used: Vec<usize>,
}

/// A place in an area.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    area: usize,
    at: usize,
    /// The byte position in the image.
    pub position: u64,
}

impl MetadataAreas {
    pub(super) fn new() -> MetadataAreas {
        MetadataAreas { areas: Vec::new(), next_blocks: 1, retain: false }
    }

    /// From now on areas are kept in memory until [`Self::flush`].
    pub(super) fn retain(&mut self) {
        self.retain = true;
    }

    /// Finds room for up to a block; contents follow with [`Self::fill`] before the next allocation (or, when
    /// retaining, any time).
    pub(super) fn allocate(&mut self, bytes: usize, output: &mut Output) -> io::Result<Slot> {
        if let Some(slot) = self.fit(bytes) {
            return Ok(slot);
        }
        if !self.retain {
            self.flush(output)?;
        }
        let blocks = self.next_blocks;
        self.next_blocks = (blocks * 2).min(AREA_BLOCKS_MAX);
        let position = u64::from(output.reserve(blocks as u64)?) * BLOCK;
        self.areas.push(Area { position, bytes: vec![0; blocks * BLOCK as usize], used: vec![0; blocks] });
        self.fit(bytes).ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))
    }

    /// The fullest block of the last area that has room.
    fn fit(&mut self, bytes: usize) -> Option<Slot> {
        let index = self.areas.len().checked_sub(1)?;
        let area = &mut self.areas[index];
        let room = |used: usize| used + bytes <= BLOCK as usize;
        let block = (0..area.used.len()).filter(|&b| room(area.used[b])).max_by_key(|&b| area.used[b])?;
        let at = block * BLOCK as usize + area.used[block];
        area.used[block] = (area.used[block] + bytes).next_multiple_of(super::format::SLOT);
        Some(Slot { area: index, at, position: area.position + at as u64 })
    }

    pub(super) fn fill(&mut self, slot: Slot, offset: usize, bytes: &[u8]) {
        let at = slot.at + offset;
        self.areas[slot.area].bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub(super) fn flush(&mut self, output: &mut Output) -> io::Result<()> {
        for area in self.areas.drain(..) {
            output.write_through(area.position, &area.bytes)?;
        }
        Ok(())
    }
}
