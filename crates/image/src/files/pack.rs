//! Files out: a file, or a directory with everything below it, as a tar archive that is written while the tree is read.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};

use super::lookup::{PathStat, open, stat};
use super::node::{Links, Node};
use super::paths::base_name;
use super::walk::Trail;
use crate::tar::{Entry, Kind, Writer, Xattrs};

/// File data is read in pieces of this size.
const PIECE: usize = 512 * 1024;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Why a tree did not become an archive.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    #[error("cannot read {path}")]
    Read {
        path: String,
        #[source]
        source: io::Error,
    },
    /// Whoever takes the archive is gone, or has no room.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
}

/// Where an archive goes.
pub trait Output: Write {
    /// Writes what a file has next, up to `bytes`; gives how many there were, 0 at the file's end.
    fn write_from(&mut self, file: &mut File, bytes: usize) -> io::Result<usize>;
}

/// Any writer as an [`Output`].
pub struct Buffered<W> {
    output: W,
    buffer: Vec<u8>,
}

impl<W: Write> Buffered<W> {
    pub fn new(output: W) -> Buffered<W> {
        Buffered { output, buffer: Vec::new() }
    }

    pub fn into_inner(self) -> W {
        self.output
    }
}

impl<W: Write> Write for Buffered<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

impl<W: Write> Output for Buffered<W> {
    fn write_from(&mut self, file: &mut File, bytes: usize) -> io::Result<usize> {
        self.buffer.resize(bytes.clamp(self.buffer.len().min(PIECE), PIECE), 0);
        let room = bytes.min(self.buffer.len());
        let count = file.read(&mut self.buffer[..room])?;
        self.output.write_all(&self.buffer[..count])?;
        Ok(count)
    }
}

/// What goes into an archive, and under which name.
#[derive(Debug)]
pub struct Source {
    directory: OwnedFd,
    /// The entry of the directory; none: the directory itself.
    entry: Option<Vec<u8>>,
    name: Vec<u8>,
}

impl Source {
    /// Finds what a path below a root names. Its last element becomes the first of the names in the archive.
    pub fn find(root: &impl AsFd, path: &str) -> io::Result<(Source, PathStat)> {
        let found = stat(root, path.as_bytes())?;
        let name = base_name(path);
        // The root's entries begin with a slash, as Docker's do.
        let name = if name == "/" { "" } else { name };
        let source = if found.is_directory() {
            Source { directory: open(root, path.as_bytes(), DIRECTORY)?, entry: None, name: name.into() }
        } else {
            let parent = &path[..path.rfind('/').map_or(0, |at| at + 1)];
            let directory = open(root, parent.as_bytes(), DIRECTORY)?;
            Source { directory, entry: Some(name.into()), name: name.into() }
        };
        Ok((source, found))
    }

    /// A path of the caller's own: links before its last element are followed, and the last one where it ends with a slash.
    pub fn own(path: &str) -> io::Result<(Source, PathStat)> {
        let slash = rustix::fs::open("/", DIRECTORY, Mode::empty())?;
        Self::find(&slash, path)
    }

    /// Puts another name in the place of the first element.
    pub fn named(mut self, name: &str) -> Source {
        self.name = name.as_bytes().to_vec();
        self
    }
}

/// Writes the archive. What vanishes meanwhile is left out; a file that shrinks is filled up with zeros.
pub fn pack(source: Source, output: &mut dyn Output) -> Result<(), PackError> {
    let mut packing = Packing::new(output);
    match &source.entry {
        Some(entry) => {
            packing.add(&source.directory, entry, FileType::Unknown, source.name.clone())?;
        }
        None => {
            let top = [source.name.as_slice(), b"/"].concat();
            let failed = read_error(&top);
            let file = source.directory.try_clone().map_err(failed)?;
            let stat = rustix::fs::fstat(&file).map_err(|e| read_error(&top)(e.into()))?;
            let node = Node { stat, kind: FileType::Directory, file: Some(file) };
            if let Some(mut entry) = node.entry(top.clone()) {
                entry.xattrs = attributes(&node).map_err(read_error(&top))?;
                packing.writer.append_header(&entry).map_err(PackError::Write)?;
            }
            packing.tree(source.directory, top)?;
        }
    }
    packing.finish()
}

/// Writes what is in directories, each below a name of its own; directories with the same one follow each other.
pub fn pack_below(directories: Vec<(String, OwnedFd)>, output: &mut dyn Output) -> Result<(), PackError> {
    let mut packing = Packing::new(output);
    let mut last = String::new();
    for (name, directory) in directories {
        let readable = open(&directory, b".", DIRECTORY).map_err(|e| read_error(b"/")(e.into()))?;
        let path = if name.is_empty() { String::new() } else { format!("{name}/") };
        if last != name {
            let entry = Entry::new(Kind::Directory, path.as_str(), 0o755);
            packing.writer.append_header(&entry).map_err(PackError::Write)?;
            last = name;
        }
        packing.tree(readable, path.into_bytes())?;
    }
    packing.finish()
}

/// Writes what is in a directory, without the directory itself: names begin with those of its entries.
pub fn pack_contents(directory: OwnedFd, output: &mut dyn Output) -> Result<(), PackError> {
    let readable = open(&directory, b".", DIRECTORY).map_err(|e| read_error(b"/")(e.into()))?;
    let mut packing = Packing::new(output);
    packing.tree(readable, Vec::new())?;
    packing.finish()
}

/// The same for strangers: devices stay behind, which mean nothing elsewhere.
pub fn pack_for_others(directory: &impl AsFd, output: &mut dyn Output) -> Result<(), PackError> {
    let readable = open(directory, b".", DIRECTORY).map_err(|e| read_error(b"/")(e.into()))?;
    let mut packing = Packing { has_devices: false, ..Packing::new(output) };
    packing.tree(readable, Vec::new())?;
    packing.finish()
}

struct Packing<'a> {
    writer: Writer<&'a mut dyn Output>,
    links: Links,
    has_devices: bool,
}

impl<'a> Packing<'a> {
    fn new(output: &'a mut dyn Output) -> Packing<'a> {
        Packing { writer: Writer::new(output), links: Links::default(), has_devices: true }
    }

    fn finish(self) -> Result<(), PackError> {
        self.writer.finish().map(drop).map_err(PackError::Write)
    }

    /// Adds everything below a directory; `path` is its own, with a slash at the end.
    fn tree(&mut self, top: OwnedFd, path: Vec<u8>) -> Result<(), PackError> {
        let mut trail = Trail::new(top, path.clone(), ()).map_err(read_error(&path))?;
        while let Some((name, hint)) = trail.next().map_err(read_error(&path))? {
            let Some((directory, above, ())) = trail.current() else { break };
            let path = [above, &name].concat();
            if let Some((below, path)) = self.add(directory, &name, hint, path)? {
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
    ) -> Result<Option<(OwnedFd, Vec<u8>)>, PackError> {
        let node = Node::open(directory, name, hint).map_err(read_error(&path))?;
        let Some(node) = node else { return Ok(None) };
        if !self.has_devices && matches!(node.kind, FileType::CharacterDevice | FileType::BlockDevice) {
            return Ok(None);
        }
        let failed = read_error(&path);
        let Some(mut entry) = self.links.entry(&node, directory, name, path).map_err(failed)? else {
            return Ok(None);
        };
        if entry.kind != Kind::HardLink {
            entry.xattrs = attributes(&node).map_err(read_error(&entry.path))?;
        }
        self.writer.append_header(&entry).map_err(PackError::Write)?;
        match entry.kind {
            Kind::Directory => Ok(node.file.map(|directory| (directory, entry.path))),
            Kind::File if entry.size > 0 => {
                if let Some(file) = node.into_file() {
                    self.data(file, &entry)?;
                }
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// Copies exactly as many bytes as the header has promised.
    fn data(&mut self, mut file: File, entry: &Entry) -> Result<(), PackError> {
        const ZEROS: [u8; 4096] = [0; 4096];
        let mut left = entry.size;
        while left > 0 {
            let room = usize::try_from(left).unwrap_or(usize::MAX);
            let copied = self.writer.data_by(room, |output, room| output.write_from(&mut file, room));
            left -= match copied {
                Ok(0) => {
                    let bytes = room.min(ZEROS.len());
                    self.writer.write_all(&ZEROS[..bytes]).map_err(PackError::Write)?;
                    bytes as u64
                }
                Ok(count) => count as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    return Err(PackError::Write(error));
                }
                Err(error) => return Err(read_error(&entry.path)(error)),
            };
        }
        Ok(())
    }
}

/// What of a file's attributes an archive takes along: capabilities, and what users have put there.
pub(crate) fn attributes(node: &Node) -> io::Result<Xattrs> {
    let mut xattrs = node.xattrs(is_packed)?;
    for (name, value) in &mut xattrs {
        if name == b"security.capability" {
            without_root_id(value);
        }
    }
    Ok(xattrs)
}

pub(super) fn is_packed(attribute: &[u8]) -> bool {
    attribute == b"security.capability" || attribute.starts_with(b"user.")
}

/// The third version of the structure names the root of a user namespace (<linux/capability.h>), which means nothing elsewhere.
fn without_root_id(value: &mut Vec<u8>) {
    if value.len() == 24 && value[3] == 3 {
        value[3] = 2;
        value.truncate(20);
    }
}

fn read_error(path: &[u8]) -> impl FnOnce(io::Error) -> PackError + use<> {
    let path = String::from_utf8_lossy(path).into_owned();
    move |source| PackError::Read { path, source }
}
