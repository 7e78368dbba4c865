//! The changes as a layer's tar stream, with the whiteouts that OCI layers have.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, OFlags};

use super::{METACOPY, OPAQUE, REDIRECT, Upper, beneath, is_whiteout};
use crate::files::{Links, Node, Trail};
use crate::tar::{Entry, Kind, Time, Writer};

/// File data is read in pieces of this size.
const PIECE: usize = 256 * 1024;

/// Why the changes did not become a layer.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    #[error("cannot read /{path} of the container")]
    Read {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot hand over the changes")]
    Write(#[source] io::Error),
}

/// Writes the stream, the same bytes for the same changes; gives the number of entries. With none, nothing is written.
pub(crate) fn write_layer(
    upper: &Upper<'_>,
    newest: Option<i64>,
    output: &mut dyn Write,
) -> Result<u64, DiffError> {
    let mut layer = Layer {
        upper,
        writer: Writer::new(output),
        links: Links::default(),
        buffer: Vec::new(),
        entries: 0,
        newest,
    };
    let top = beneath(&upper.upper, b"", OFlags::RDONLY | OFlags::DIRECTORY);
    layer.tree(top.map_err(|e| read_error(b"")(e.into()))?, Vec::new(), Side::Upper)?;
    if layer.entries > 0 {
        layer.writer.finish().map_err(DiffError::Write)?;
    }
    Ok(layer.entries)
}

/// Where a directory is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Upper,
    /// As the container sees it: everything in it is new.
    Merged,
}

struct Layer<'a> {
    upper: &'a Upper<'a>,
    writer: Writer<&'a mut dyn Write>,
    links: Links,
    buffer: Vec<u8>,
    entries: u64,
    newest: Option<i64>,
}

impl Layer<'_> {
    fn tree(&mut self, top: OwnedFd, path: Vec<u8>, side: Side) -> Result<(), DiffError> {
        let mut trail = Trail::new(top, path.clone(), ()).map_err(read_error(&path))?;
        while let Some((name, hint)) = trail.next().map_err(read_error(&path))? {
            let Some((directory, above, ())) = trail.current() else { break };
            let path = [above, &name].concat();
            if side == Side::Upper {
                if is_whiteout(directory, &name, hint).map_err(read_error(&path))? {
                    self.marker(&[above, b".wh.", &name].concat())?;
                    continue;
                }
                if self.upper.is_implied(directory, &name, &path).map_err(read_error(&path))? {
                    continue;
                }
            }
            if let Some((below, path)) = self.add(directory, &name, hint, path, side)? {
                trail.enter(below, path.clone(), ()).map_err(read_error(&path))?;
            }
        }
        Ok(())
    }

    /// Adds one file; gives a directory with its path, whose content is to follow.
    fn add(
        &mut self,
        directory: &OwnedFd,
        name: &[u8],
        hint: FileType,
        path: Vec<u8>,
        side: Side,
    ) -> Result<Option<(OwnedFd, Vec<u8>)>, DiffError> {
        let Some(node) = Node::open(directory, name, hint).map_err(read_error(&path))? else {
            return Ok(None);
        };
        let failed = read_error(&path);
        let Some(mut entry) = self.links.entry(&node, directory, name, path).map_err(failed)? else {
            return Ok(None);
        };
        if entry.kind == Kind::HardLink {
            return self.header(&entry).map(|()| None);
        }
        let mut xattrs = node.xattrs(|_| true).map_err(read_error(&entry.path))?;
        let mark = |wanted: &[u8]| xattrs.iter().any(|(name, _)| name == wanted);
        let (opaque, redirected, partial) = (mark(OPAQUE), mark(REDIRECT), mark(METACOPY));
        xattrs.retain(|(name, _)| !name.starts_with(b"trusted.overlay."));
        entry.xattrs = xattrs;
        self.header(&entry)?;
        if entry.kind == Kind::File && entry.size > 0 {
            let file = if partial && side == Side::Upper {
                let opened = self.upper.open_merged(&entry.path, OFlags::RDONLY | OFlags::NONBLOCK);
                Some(File::from(opened.map_err(read_error(&entry.path))?))
            } else {
                node.into_file()
            };
            return file.map_or(Ok(()), |file| self.data(file, &entry)).map(|()| None);
        }
        if entry.kind != Kind::Directory {
            return Ok(None);
        }
        if opaque {
            self.marker(&[&entry.path, &b".wh..wh..opq"[..]].concat())?;
        }
        if redirected && side == Side::Upper {
            let path = entry.path.strip_suffix(b"/").unwrap_or(&entry.path);
            let merged = self.upper.open_merged(path, OFlags::RDONLY | OFlags::DIRECTORY);
            self.tree(merged.map_err(read_error(path))?, entry.path.clone(), Side::Merged)?;
            return Ok(None);
        }
        Ok(node.file.map(|directory| (directory, entry.path)))
    }

    fn marker(&mut self, path: &[u8]) -> Result<(), DiffError> {
        self.header(&Entry::new(Kind::File, path, 0o600))
    }

    fn header(&mut self, entry: &Entry) -> Result<(), DiffError> {
        self.entries += 1;
        if let Some(newest) = self.newest.filter(|newest| entry.mtime.seconds > *newest) {
            let mut entry = entry.clone();
            entry.mtime = Time { seconds: newest, nanoseconds: 0 };
            return self.writer.append_header(&entry).map_err(DiffError::Write);
        }
        self.writer.append_header(entry).map_err(DiffError::Write)
    }

    /// Copies exactly as many bytes as the header has promised.
    fn data(&mut self, mut file: File, entry: &Entry) -> Result<(), DiffError> {
        self.buffer.resize(PIECE, 0);
        let mut left = entry.size;
        while left > 0 {
            let room = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE);
            let count = match file.read(&mut self.buffer[..room]) {
                // It was cut while it was read.
                Ok(0) => {
                    self.buffer[..room].fill(0);
                    room
                }
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(read_error(&entry.path)(error)),
            };
            self.writer.write_all(&self.buffer[..count]).map_err(DiffError::Write)?;
            left -= count as u64;
        }
        Ok(())
    }
}

fn read_error(path: &[u8]) -> impl FnOnce(io::Error) -> DiffError + use<> {
    let path = String::from_utf8_lossy(path).into_owned();
    move |source| DiffError::Read { path, source }
}
