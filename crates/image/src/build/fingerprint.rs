//! What a selection of files is, in 32 bytes: names, types, permissions, contents and attributes, but not times and, on wish, not
//! owners.
//!
//! The content of a file is read once: what was found is remembered by the file's identity and the time of its last change, as
//! long as that time is far enough back to tell a later change apart. That holds for file systems that stay: of those that are mounted for
//! a while and gone, the next one may have the same numbers and times. What is read of layers is remembered by what was asked of which
//! layers instead: they never change.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FileType, Stat};

use super::cache::CachedSource;
use super::walk::{Filter, Found, walk};
use crate::digest::{Digest, Hasher};
use crate::files::{Node, attributes};

/// How many files are remembered; beyond that, all are forgotten at once. Some 100 bytes each.
const KNOWN_MAX: usize = 1 << 20;

/// How many requests of layers are remembered; beyond that, all are forgotten at once. Some 100 bytes each.
const SOURCES_MAX: usize = 1 << 16;

/// The clock of a file system advances in steps of up to 10 ms (`CONFIG_HZ=100`): two changes within one of them look the same.
const CLOCK_STEP_NS: i128 = 20_000_000;

/// Files are read in pieces of this size.
const PIECE: usize = 256 * 1024;

/// What a selection is, and what it costs to take it along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    pub digest: Digest,
    pub files: u64,
    pub bytes: u64,
    /// When the newest of the files was changed, Unix seconds; none for an empty selection.
    pub newest: Option<i64>,
}

/// A file as long as nobody changes it.
#[derive(PartialEq, Eq, Hash)]
struct Identity {
    device: u64,
    inode: u64,
    size: i64,
    modified: (i64, u64),
    changed: (i64, u64),
}

/// The contents of files that were read before.
#[derive(Default)]
pub struct Fingerprints {
    known: Mutex<HashMap<Identity, Digest>>,
    sources: Mutex<HashMap<Digest, CachedSource>>,
}

impl Fingerprints {
    /// What was found in layers when somebody asked the same of the same ones.
    pub fn source(&self, request: &Digest) -> Option<CachedSource> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).get(request).copied()
    }

    pub fn remember_source(&self, source: CachedSource) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.len() >= SOURCES_MAX {
            sources.clear();
        }
        sources.insert(source.request, source);
    }

    /// Looks at what `path` leads to below `root`, and all that `filter` wants below it. With `owners`, who owns the files matters.
    pub fn of(
        &self,
        root: &OwnedFd,
        path: &[u8],
        filter: &dyn Filter,
        owners: bool,
    ) -> io::Result<Fingerprint> {
        let mut hasher = Hasher::new();
        let mut sum = Fingerprint { digest: Digest::of(b""), files: 0, bytes: 0, newest: None };
        let mut line = Vec::with_capacity(256);
        walk(root, path, filter, &mut |found| {
            line.clear();
            if self.describe(found, owners, &mut line)? {
                hasher.update(&line);
                sum.files += 1;
                sum.bytes += u64::try_from(found.stat.st_size).unwrap_or(0);
                sum.newest = sum.newest.max(Some(found.stat.st_mtime));
            }
            Ok(())
        })?;
        sum.digest = hasher.finish();
        Ok(sum)
    }

    /// One file in an unambiguous form: every part has its length in front or is of a fixed one. Sockets are none.
    fn describe(&self, found: &Found<'_>, owners: bool, line: &mut Vec<u8>) -> io::Result<bool> {
        let stat = found.stat;
        let part = |line: &mut Vec<u8>, bytes: &[u8]| {
            line.extend((bytes.len() as u64).to_le_bytes());
            line.extend(bytes);
        };
        part(line, found.relative);
        line.extend(stat.st_mode.to_le_bytes());
        let (uid, gid) = if owners { (stat.st_uid, stat.st_gid) } else { (0, 0) };
        line.extend(uid.to_le_bytes());
        line.extend(gid.to_le_bytes());
        match found.kind {
            FileType::RegularFile | FileType::Directory => match self.content(found)? {
                Some(content) => line.extend(content.as_bytes()),
                // It is gone by now.
                None => return Ok(false),
            },
            FileType::Symlink => {
                part(line, rustix::fs::readlinkat(found.directory, found.name, Vec::new())?.as_bytes());
            }
            FileType::CharacterDevice | FileType::BlockDevice => line.extend(stat.st_rdev.to_le_bytes()),
            FileType::Fifo => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The digest of a file's attributes and, of a regular file, content.
    fn content(&self, found: &Found<'_>) -> io::Result<Option<Digest>> {
        let identity = identity(found.stat);
        if let Some(digest) = self.lock().get(&identity) {
            return Ok(Some(*digest));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as i128;
        let Some(node) = Node::open(found.directory, found.name, found.kind)? else { return Ok(None) };
        // Another file may have its name by now: what is read is remembered as that.
        let (kind, identity) = (node.kind, self::identity(&node.stat));
        let mut hasher = Hasher::new();
        for (name, value) in attributes(&node)? {
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(&name);
            hasher.update(&(value.len() as u64).to_le_bytes());
            hasher.update(&value);
        }
        hasher.update(b"\0");
        if kind == FileType::RegularFile
            && let Some(file) = node.into_file()
        {
            read_into(file, &mut hasher)?;
        }
        let digest = hasher.finish();
        let changed = i128::from(identity.changed.0) * 1_000_000_000 + i128::from(identity.changed.1);
        if changed + CLOCK_STEP_NS < now {
            let mut known = self.lock();
            if known.len() >= KNOWN_MAX {
                known.clear();
            }
            known.insert(identity, digest);
        }
        Ok(Some(digest))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Identity, Digest>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn identity(stat: &Stat) -> Identity {
    Identity {
        device: stat.st_dev,
        inode: stat.st_ino,
        size: stat.st_size,
        modified: (stat.st_mtime, stat.st_mtime_nsec),
        changed: (stat.st_ctime, stat.st_ctime_nsec),
    }
}

fn read_into(mut file: File, hasher: &mut Hasher) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
