//! Writing a log: one record per chunk of output (`local`), or one line per line (`json-file`); rotation before a file grows
//! beyond its bound.
//!
//! A record is written whole or not at all: when the disk is full, what was written of it is cut off again and the loss is
//! reported, but the container goes on.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use super::index::IndexWriter;
use super::record::{self, Header, MAGIC};
use super::source::ReadAt;
use super::{LINE_BYTES_MAX, LogError, Stream, cursor, files, json, packed};
use crate::monitor::protocol::{LogConfig, LogDriver, Timestamp};

/// The open log of one container. There is one writer at a time.
pub struct Writer {
    path: PathBuf,
    bytes_max: u64,
    files_max: u32,
    /// `None` after a rotation that could not create the new file; opened again with the next write.
    file: Option<File>,
    size: u64,
    inode: u64,
    index: IndexWriter,
    format: Format,
    compress: bool,
    /// There are rotated files to be compressed.
    unpacked: bool,
}

enum Format {
    /// Whether each stream's last record left a line open.
    Local {
        open: [bool; 2],
    },
    JsonFile {
        pending: [Pending; 2],
        encoder: json::Encoder,
        out: Vec<u8>,
    },
}

/// A rotated file to be compressed, which takes time: for somebody else to do.
pub struct PackJob {
    source: PathBuf,
    target: PathBuf,
    inode: u64,
    format: LogDriver,
}

impl PackJob {
    /// Whether the file is still where it was found.
    fn is_in_place(&self) -> bool {
        std::fs::metadata(&self.source).is_ok_and(|source| source.ino() == self.inode)
    }

    /// Does it; [`Writer::packed`] puts the outcome in its place.
    pub fn run(&self) -> io::Result<()> {
        let source = File::open(&self.source)?;
        if source.metadata()?.ino() != self.inode {
            // Rotated meanwhile; it will be found again.
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut options = OpenOptions::new();
        let target = options.write(true).create(true).truncate(true).mode(0o640).open(&self.target)?;
        packed::pack(&source, self.format, target)
    }
}

/// The beginning of a line whose end has not been seen.
#[derive(Default)]
struct Pending {
    line: Vec<u8>,
    /// When the line began, which all its pieces bear.
    began: Option<Timestamp>,
}

impl Writer {
    /// Opens the log to append; repairs what a writer that was killed left behind. `None` for the driver `none`.
    pub fn open(config: &LogConfig) -> Result<Option<Self>, LogError> {
        let format = match config.driver {
            LogDriver::None => return Ok(None),
            LogDriver::Local => Format::Local { open: [false; 2] },
            LogDriver::JsonFile => Format::JsonFile {
                pending: Default::default(),
                encoder: json::Encoder::new(config.attributes.clone()),
                out: Vec::new(),
            },
        };
        let mut writer = Self {
            path: config.path.clone(),
            bytes_max: if config.bytes_max == 0 { u64::MAX } else { config.bytes_max },
            files_max: config.files_max,
            file: None,
            size: 0,
            inode: 0,
            index: IndexWriter::default(),
            format,
            compress: config.compress,
            unpacked: false,
        };
        writer.reopen()?;
        // A container's first start has nothing to look for.
        if writer.compress && writer.size > MAGIC.len() as u64 {
            files::tidy(&writer.path, writer.files_max);
            writer.unpacked = true;
        }
        Ok(Some(writer))
    }

    /// Logs what was read from `stream` at `time`.
    pub fn write(&mut self, stream: Stream, time: Timestamp, mut bytes: &[u8]) -> Result<(), LogError> {
        if let Format::JsonFile { .. } = self.format {
            return self.write_lines(stream, time, bytes);
        }
        while !bytes.is_empty() {
            let (chunk, rest) = bytes.split_at(bytes.len().min(record::PAYLOAD_MAX));
            self.write_record(stream, time, chunk)?;
            bytes = rest;
        }
        Ok(())
    }

    /// Writes the lines that are not ended yet; to be called when the streams have ended.
    pub fn finish(&mut self, time: Timestamp) -> Result<(), LogError> {
        let Format::JsonFile { pending, encoder, out } = &mut self.format else { return Ok(()) };
        for (pending, stream) in pending.iter_mut().zip([Stream::Stdout, Stream::Stderr]) {
            if !pending.line.is_empty() {
                let began = pending.began.unwrap_or(time);
                self.index.note(began);
                encoder.encode(out, stream, began, &pending.line);
            }
            *pending = Pending::default();
        }
        self.flush_lines(0)
    }

    /// Gives back buffers that are empty.
    pub fn trim(&mut self) {
        if let Format::JsonFile { pending, out, .. } = &mut self.format {
            out.shrink_to_fit();
            for pending in pending {
                pending.line.shrink_to_fit();
            }
        }
    }

    /// Whether there may be a rotated file to be compressed.
    pub fn has_unpacked(&self) -> bool {
        self.unpacked
    }

    /// A rotated file to be compressed, if there is one; to be asked again when that is done.
    pub fn next_to_pack(&mut self) -> Option<PackJob> {
        if !self.unpacked {
            return None;
        }
        let found = files::youngest_unpacked(&self.path, self.files_max);
        self.unpacked = found.is_some();
        let format = match self.format {
            Format::Local { .. } => LogDriver::Local,
            Format::JsonFile { .. } => LogDriver::JsonFile,
        };
        found.map(|(source, inode)| PackJob { source, target: files::unfinished(&self.path), inode, format })
    }

    /// Takes note of what became of a job. After a failure nothing is tried before the next rotation, unless that came in between.
    pub fn packed(&mut self, job: &PackJob, success: bool) -> io::Result<()> {
        if success {
            return files::replace(&self.path, self.files_max, job.inode);
        }
        self.unpacked = !job.is_in_place();
        std::fs::remove_file(&job.target)
    }

    fn write_record(&mut self, stream: Stream, time: Timestamp, payload: &[u8]) -> Result<(), LogError> {
        let len = (record::HEADER_LEN + payload.len() + record::TRAILER_LEN) as u64;
        self.make_room(len)?;
        let Format::Local { open } = &mut self.format else { return Ok(()) };
        let partial = payload.last() != Some(&b'\n');
        let continues = std::mem::replace(&mut open[stream.index()], partial);
        let header = Header { len: payload.len(), stream, continues, partial, time }.encode();
        self.index.note(time);
        self.append(&[&header, payload, &record::trailer(payload.len())])
    }

    fn write_lines(&mut self, stream: Stream, time: Timestamp, mut bytes: &[u8]) -> Result<(), LogError> {
        while !bytes.is_empty() {
            let Format::JsonFile { pending, encoder, out } = &mut self.format else { return Ok(()) };
            let pending = &mut pending[stream.index()];
            let newline = memchr::memchr(b'\n', bytes).map(|at| at + 1);
            let room = LINE_BYTES_MAX - pending.line.len();
            let taken = newline.unwrap_or(bytes.len()).min(room);
            let (piece, rest) = bytes.split_at(taken);
            bytes = rest;
            let ended = piece.last() == Some(&b'\n');
            if !ended && taken < room {
                pending.line.extend_from_slice(piece);
                pending.began.get_or_insert(time);
                break;
            }
            let began = *pending.began.get_or_insert(time);
            self.index.note(began);
            if pending.line.is_empty() {
                encoder.encode(out, stream, began, piece);
            } else {
                pending.line.extend_from_slice(piece);
                encoder.encode(out, stream, began, &pending.line);
                pending.line.clear();
            }
            if ended {
                pending.began = None;
            }
            self.flush_lines(32 * 1024)?;
        }
        self.flush_lines(0)
    }

    /// Writes the encoded lines once there are more than `keep` bytes of them, or when the file has no room for more.
    fn flush_lines(&mut self, keep: usize) -> Result<(), LogError> {
        let Format::JsonFile { out, .. } = &mut self.format else { return Ok(()) };
        let full = self.bytes_max.saturating_sub(self.size) < (out.len() + json::LINE_LEN_MAX) as u64;
        if out.is_empty() || (out.len() <= keep && !full) {
            return Ok(());
        }
        let lines = std::mem::take(out);
        let result = self.make_room(lines.len() as u64).and_then(|()| self.append(&[&lines]));
        if let Format::JsonFile { out, .. } = &mut self.format {
            *out = lines;
            out.clear();
        }
        result
    }

    /// Rotates when `len` more bytes would exceed the bound; a file gets at least one record.
    fn make_room(&mut self, len: u64) -> Result<(), LogError> {
        let empty = if matches!(self.format, Format::Local { .. }) { MAGIC.len() as u64 } else { 0 };
        if self.file.is_none() {
            self.reopen()?;
        }
        if self.size > empty && self.size.saturating_add(len) > self.bytes_max {
            self.file = None;
            files::rotate(&self.path, self.files_max)?;
            self.unpacked = self.compress;
            self.reopen()?;
        }
        Ok(())
    }

    fn append(&mut self, parts: &[&[u8]]) -> Result<(), LogError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let total: usize = parts.iter().map(|p| p.len()).sum();
        match write_all(file, parts) {
            Ok(()) => {
                self.size += total as u64;
                self.index.grown(&self.path, self.inode, self.size);
                Ok(())
            }
            Err(source) => {
                // Best effort: the reader copes with a torn record at the end, too.
                let _ = file.set_len(self.size);
                Err(LogError::Write { path: self.path.clone(), source })
            }
        }
    }

    fn reopen(&mut self) -> Result<(), LogError> {
        let error = |source| LogError::Open { path: self.path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o640)
            .open(&self.path)
            .map_err(error)?;
        let metadata = file.metadata().map_err(error)?;
        let len = metadata.len();
        self.size = match self.format {
            Format::Local { .. } => cursor::end_of_records(&file, len).map_err(error)?,
            Format::JsonFile { .. } => end_of_lines(&file, len).map_err(error)?,
        };
        if self.size != len {
            file.set_len(self.size).map_err(error)?;
        }
        if self.size == 0 && matches!(self.format, Format::Local { .. }) {
            file.write_all(MAGIC).map_err(error)?;
            self.size = MAGIC.len() as u64;
        }
        (self.file, self.inode) = (Some(file), metadata.ino());
        self.index = IndexWriter::open(&self.path, self.inode, self.size);
        Ok(())
    }
}

fn write_all(file: &mut File, parts: &[&[u8]]) -> io::Result<()> {
    let mut slices = [IoSlice::new(&[]); 3];
    for (slice, part) in slices.iter_mut().zip(parts) {
        *slice = IoSlice::new(part);
    }
    let mut slices = &mut slices[..parts.len().min(3)];
    while !slices.is_empty() {
        match file.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => IoSlice::advance_slices(&mut slices, n),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// The length of the file up to its last newline.
fn end_of_lines(file: &File, len: u64) -> io::Result<u64> {
    let mut buffer = [0; 4096];
    let mut end = len;
    while end > 0 {
        let start = end.saturating_sub(buffer.len() as u64);
        let block = &mut buffer[..(end - start) as usize];
        file.read_whole(block, start)?;
        if let Some(at) = memchr::memrchr(b'\n', block) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
