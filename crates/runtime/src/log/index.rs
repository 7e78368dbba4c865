//! The index beside a log file: where in it output of which time can begin.
//!
//! Each entry is an offset and the highest time of all records before it, so that whoever wants what is not older than some time
//! passes over all that stands before the last entry with an earlier one: exactly, even where the clock was set back. An index that
//! is missing, or ends early, costs time only. docs/log-format.md has the bytes.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::monitor::protocol::Timestamp;

const MAGIC: &[u8; 8] = b"cortlidx";
const HEADER: u64 = 16;
const ENTRY: usize = 16;
/// Bytes of log between two entries.
const STEP: u64 = 256 * 1024;

/// The index of the log file `path`.
pub(super) fn path_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".index");
    name.into()
}

/// Written along with the log.
#[derive(Default)]
pub(super) struct IndexWriter {
    file: Option<File>,
    /// When the log has so many bytes, the next entry is due.
    due: u64,
    highest: i64,
}

impl IndexWriter {
    /// For the log file `log` that has `size` bytes; what is there of its index is gone on with.
    pub(super) fn open(log: &Path, inode: u64, size: u64) -> Self {
        let fresh = Self { file: None, due: STEP, highest: 0 };
        if size < STEP {
            return fresh;
        }
        // No record of an earlier run can be later than now, but where the clock was set back: there the index says so.
        let entries = read(&path_of(log), inode, size);
        let (offset, highest) = entries.last().copied().unwrap_or_default();
        Self { due: (offset + STEP).max(size), highest: highest.max(Timestamp::now().0), ..fresh }
    }

    /// Takes the time of a record into account that is about to be written.
    pub(super) fn note(&mut self, time: Timestamp) {
        self.highest = self.highest.max(time.0);
    }

    /// To be called when the log has `size` bytes, all of them whole records.
    pub(super) fn grown(&mut self, log: &Path, inode: u64, size: u64) {
        if size < self.due {
            return;
        }
        self.due = size + STEP;
        // What fails here costs a reader time, and nothing else.
        let _ = self.append(log, inode, size);
    }

    fn append(&mut self, log: &Path, inode: u64, size: u64) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let path = path_of(log);
                let known = read(&path, inode, size).len();
                let mut options = OpenOptions::new();
                let mut file =
                    options.write(true).create(true).truncate(known == 0).mode(0o640).open(&path)?;
                if known == 0 {
                    file.write_all(MAGIC)?;
                    file.write_all(&inode.to_le_bytes())?;
                } else {
                    let end = HEADER + (known * ENTRY) as u64;
                    file.set_len(end)?;
                    io::Seek::seek(&mut file, io::SeekFrom::Start(end))?;
                }
                self.file.insert(file)
            }
        };
        let mut entry = [0; ENTRY];
        entry[..8].copy_from_slice(&size.to_le_bytes());
        entry[8..].copy_from_slice(&self.highest.to_le_bytes());
        file.write_all(&entry)
    }
}

/// The sound entries of an index: offset, and the highest time before it. None when it belongs to another file.
fn read(path: &Path, inode: u64, size: u64) -> Vec<(u64, i64)> {
    let Ok(bytes) = std::fs::read(path) else { return Vec::new() };
    let Some((head, entries)) = bytes.split_first_chunk::<{ HEADER as usize }>() else { return Vec::new() };
    if head[..8] != *MAGIC || head[8..] != inode.to_le_bytes() {
        return Vec::new();
    }
    let (mut last, mut found) = ((0, i64::MIN), Vec::new());
    for entry in entries.as_chunks::<ENTRY>().0 {
        let number = |at: usize| entry[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let next = (number(0), number(8) as i64);
        if next.0 <= last.0 || next.0 > size || next.1 < last.1 {
            break;
        }
        found.push(next);
        last = next;
    }
    found
}

/// Where the first record of the log that may not be older than `since` begins.
pub(super) fn start_of(log: &Path, inode: u64, size: u64, since: Timestamp) -> u64 {
    let entries = read(&path_of(log), inode, size);
    let older = entries.partition_point(|(_, highest)| *highest < since.0);
    older.checked_sub(1).map_or(0, |at| entries[at].0)
}
