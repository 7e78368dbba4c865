//! Files put onto layers as one more layer: `COPY` and `ADD`, without a mount to write to and without a container.
//!
//! The layer has what is put, and the directories on the way to it: as the layers beneath have them, else new ones.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use super::mode::ModeChange;
use super::walk::{Filter, Found, walk};
use crate::error::ErrorKind;
use crate::files::{Links, Node, attributes, open, resolve};
use crate::mounts::open_by;
use crate::tar::{Entry, Extent, Kind, Reader, Time, Writer};

/// File data is read in pieces of this size.
const PIECE: usize = 512 * 1024;

/// Why files did not become a layer.
#[derive(Debug, thiserror::Error)]
pub enum GraftError {
    #[error("cannot read {path}")]
    Read {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot copy to non-directory: /{0}")]
    NotADirectory(String),
    #[error("cannot replace the directory /{0} by a file")]
    IsADirectory(String),
    #[error("{0:?} can't be copied: in a layer a name that begins with .wh. deletes a file")]
    Whiteout(String),
    #[error("cannot read the archive {name}")]
    Archive {
        name: String,
        #[source]
        source: crate::tar::TarError,
    },
    #[error("the archive {name} has an entry outside of its tree: {entry:?}")]
    Outside { name: String, entry: String },
    #[error("cannot hand over the files")]
    Write(#[source] io::Error),
    /// There are none; never seen outside.
    #[error("no files")]
    Nothing,
    #[error(transparent)]
    Import(#[from] crate::import::ImportError),
}

impl GraftError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            GraftError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                ErrorKind::NotFound
            }
            GraftError::Write(_) => ErrorKind::Internal,
            GraftError::Import(error) => error.kind(),
            _ => ErrorKind::InvalidParameter,
        }
    }
}

/// Who owns what is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Is(u32, u32),
    /// As in the source.
    AsItWas,
}

/// Files from somewhere and the place where they go.
pub struct Item {
    pub source: Source,
    pub owner: Owner,
    pub mode: ModeChange,
    /// Where it goes, below the root, `.` and `..` resolved: the very name of a file, the directory that gets what is in a
    /// directory or archive. Links on the way are followed within the layers beneath.
    pub target: Vec<u8>,
}

pub enum Source {
    /// What the path leads to below the root. Of a directory, what is in it; with parents, itself and as many of the directories above
    /// it: the target has them, too.
    Path { root: Arc<OwnedFd>, path: Vec<u8>, filter: Arc<dyn Filter + Send>, with_parents: Option<usize> },
    /// A directory that is to be there; those above it too.
    Directory,
    /// A file that is not in a tree: a here-document.
    Bytes { bytes: Vec<u8>, mode: u32, mtime: i64 },
    /// What is in an archive, uncompressed.
    Archive { name: String, reader: Box<dyn Read + Send> },
}

/// What is put on which layers.
pub struct Graft {
    /// The layers beneath, merged; none: nothing of them is looked at.
    pub base: Option<OwnedFd>,
    pub items: Vec<Item>,
    /// No file of the layer is newer, Unix seconds.
    pub newest: i64,
}

impl Graft {
    pub(super) fn write(self, output: &mut dyn Write) -> Result<u64, GraftError> {
        let Graft { base, items, newest } = self;
        let mut layer = Layer {
            base,
            owner: Owner::AsItWas,
            mode: ModeChange::Keep,
            newest,
            writer: Writer::new(output),
            links: Links::default(),
            directories: HashSet::new(),
            buffer: Vec::new(),
            entries: 0,
        };
        for item in items {
            layer.item(item)?;
        }
        if layer.entries > 0 {
            layer.writer.finish().map_err(GraftError::Write)?;
        }
        Ok(layer.entries)
    }
}

struct Layer<'a> {
    base: Option<OwnedFd>,
    owner: Owner,
    mode: ModeChange,
    newest: i64,
    writer: Writer<&'a mut dyn Write>,
    links: Links,
    /// Those that the layer has by now.
    directories: HashSet<Vec<u8>>,
    buffer: Vec<u8>,
    entries: u64,
}

impl Layer<'_> {
    fn item(&mut self, item: Item) -> Result<(), GraftError> {
        (self.owner, self.mode) = (item.owner, item.mode);
        match item.source {
            Source::Directory => {
                let target = self.resolved(&item.target)?;
                if !matches!(self.kind_beneath(&target)?, None | Some(FileType::Directory)) {
                    return Err(GraftError::NotADirectory(text(&target)));
                }
                // One that is there stays as it is.
                match self.kind_beneath(&target)? {
                    Some(_) => Ok(()),
                    None => self.directories_down_to(&target),
                }
            }
            Source::Path { root, path, filter, with_parents } => {
                if let Some(count) = with_parents {
                    self.parents(&root, &path, count, &item.target)?;
                }
                self.tree(&root, &path, filter.as_ref(), &item.target)
            }
            Source::Bytes { bytes, mode, mtime } => {
                let target = self.file_target(&item.target)?;
                let entry = self.new_file(target, mode, mtime, bytes.len() as u64);
                self.dressed(&entry)?;
                self.writer.write_all(&bytes).map_err(GraftError::Write)
            }
            Source::Archive { name, reader } => self.archive(&name, reader, &item.target),
        }
    }

    fn new_file(&self, target: Vec<u8>, mode: u32, mtime: i64, size: u64) -> Entry {
        let mut entry = Entry::new(Kind::File, target, mode);
        entry.mtime.seconds = mtime;
        (entry.size, entry.stored_bytes) = (size, size);
        entry
    }

    /// The directories above a path that come along, and itself if it is one, where the layers beneath don't have them.
    fn parents(
        &mut self,
        root: &OwnedFd,
        path: &[u8],
        count: usize,
        target: &[u8],
    ) -> Result<(), GraftError> {
        let (mut path, mut target, mut way) = (path, target, Vec::new());
        for _ in 0..=count {
            way.push((path, target));
            (path, target) = (parent(path), parent(target));
        }
        for (path, target) in way.into_iter().rev() {
            let target = self.resolved(target)?;
            if self.kind_beneath(&target)?.is_some() || self.directories.contains(&target) {
                continue;
            }
            let entry = match directory_entry(root, path) {
                Err(GraftError::NotADirectory(_)) => None,
                found => found?,
            };
            let Some(mut entry) = entry else { continue };
            self.directories_down_to(parent(&target))?;
            entry.path = [&target, &b"/"[..]].concat();
            self.directories.insert(target);
            self.dressed(&entry)?;
        }
        Ok(())
    }

    /// A path or, of a directory, what is in it.
    fn tree(
        &mut self,
        root: &OwnedFd,
        path: &[u8],
        filter: &dyn Filter,
        target: &[u8],
    ) -> Result<(), GraftError> {
        let mut outcome = Ok(());
        // Links within one source only: what is the same file in two of them may be changed in between.
        self.links = Links::default();
        let mut top = Vec::new();
        let walked = walk(root, path, filter, &mut |found| {
            let placed = if found.relative.is_empty() {
                self.top(found, target).map(|resolved| top = resolved)
            } else {
                self.below(found, &top)
            };
            placed.map_err(|error| {
                outcome = Err(error);
                io::Error::other("see outcome")
            })
        });
        outcome?;
        walked.map_err(read_error(path))
    }

    /// What was asked for by name; gives where it is.
    fn top(&mut self, found: &Found<'_>, target: &[u8]) -> Result<Vec<u8>, GraftError> {
        if found.kind != FileType::Directory {
            let target = self.file_target(target)?;
            self.add(found, target.clone())?;
            return Ok(target);
        }
        let target = self.resolved(target)?;
        match self.kind_beneath(&target)? {
            // Its permissions stay.
            Some(FileType::Directory) => self.directories_down_to(&target)?,
            Some(_) if !self.directories.contains(&target) => {
                return Err(GraftError::NotADirectory(text(&target)));
            }
            _ if target.is_empty() => self.directories_down_to(b"")?,
            _ if self.directories.contains(&target) => {}
            // It is a new one: only what is in the source is copied, not the source itself.
            _ => {
                self.directories_down_to(parent(&target))?;
                let mut entry = Entry::new(Kind::Directory, [&target, &b"/"[..]].concat(), 0o755);
                entry.mtime.seconds = self.newest;
                self.directories.insert(target.clone());
                self.dressed(&entry)?;
            }
        }
        Ok(target)
    }

    fn below(&mut self, found: &Found<'_>, top: &[u8]) -> Result<(), GraftError> {
        let target = join(top, found.relative);
        let beneath = self.kind_beneath(&target)?;
        if found.kind == FileType::Directory {
            if beneath.is_some_and(|kind| kind != FileType::Directory) {
                return Err(GraftError::NotADirectory(text(&target)));
            }
        } else if beneath == Some(FileType::Directory) || self.directories.contains(&target) {
            return Err(GraftError::IsADirectory(text(&target)));
        }
        self.add(found, target)
    }

    fn add(&mut self, found: &Found<'_>, target: Vec<u8>) -> Result<(), GraftError> {
        let failed = read_error(found.relative);
        let node = match found.kind {
            FileType::RegularFile | FileType::Directory => {
                let opened = Node::open(found.directory, found.name, found.kind).map_err(failed)?;
                let Some(node) = opened else { return Ok(()) };
                node
            }
            _ => Node { stat: *found.stat, kind: found.kind, file: None },
        };
        let failed = read_error(found.relative);
        let entry = self.links.entry(&node, found.directory, found.name, target).map_err(failed)?;
        let Some(mut entry) = entry else { return Ok(()) };
        if entry.kind == Kind::HardLink {
            return self.dressed(&entry);
        }
        entry.xattrs = attributes(&node).map_err(read_error(found.relative))?;
        if entry.kind == Kind::Directory {
            self.directories.insert(bare(&entry.path).to_vec());
        }
        self.dressed(&entry)?;
        match (entry.kind, node.into_file()) {
            (Kind::File, Some(file)) if entry.size > 0 => self.data(file, &entry),
            _ => Ok(()),
        }
    }

    fn archive(&mut self, name: &str, reader: Box<dyn Read + Send>, target: &[u8]) -> Result<(), GraftError> {
        let failed = |source| GraftError::Archive { name: name.to_owned(), source };
        let top = self.resolved(target)?;
        if !matches!(self.kind_beneath(&top)?, None | Some(FileType::Directory)) {
            return Err(GraftError::NotADirectory(text(&top)));
        }
        self.directories_down_to(&top)?;
        let place = |path: &[u8]| -> Result<Vec<u8>, GraftError> {
            let clean = inside(path)
                .ok_or_else(|| GraftError::Outside { name: name.to_owned(), entry: text(path) })?;
            Ok(if clean.is_empty() { top.clone() } else { join(&top, &clean) })
        };
        let mut reader = Reader::new(reader);
        while let Some(mut entry) = reader.next_entry().map_err(failed)? {
            let target = place(&entry.path)?;
            if target == top {
                continue;
            }
            self.directories_down_to(parent(&target))?;
            entry.path = target.clone();
            (entry.user, entry.group) = (Vec::new(), Vec::new());
            entry.mtime.nanoseconds = 0;
            match entry.kind {
                Kind::Directory => {
                    entry.path.push(b'/');
                    self.directories.insert(target);
                }
                Kind::HardLink => {
                    entry.link = place(&entry.link)?;
                    self.dressed(&entry)?;
                    continue;
                }
                _ => {}
            }
            let runs = entry.sparse.take();
            entry.stored_bytes = entry.size;
            self.dressed(&entry)?;
            if entry.kind == Kind::File {
                let whole = [Extent { offset: 0, bytes: entry.size }];
                self.runs(&mut reader, runs.as_deref().unwrap_or(&whole), &entry)?;
            }
        }
        Ok(())
    }

    /// The data of a file of an archive, with zeros where it has none.
    fn runs(&mut self, reader: &mut dyn Read, runs: &[Extent], entry: &Entry) -> Result<(), GraftError> {
        let mut at = 0;
        for run in runs {
            self.zeros(run.offset - at)?;
            let mut data = reader.take(run.bytes);
            let copied = io::copy(&mut data, &mut self.writer).map_err(read_error(&entry.path))?;
            if copied < run.bytes {
                return Err(read_error(&entry.path)(io::ErrorKind::UnexpectedEof.into()));
            }
            at = run.offset + run.bytes;
        }
        self.zeros(entry.size - at)
    }

    fn zeros(&mut self, bytes: u64) -> Result<(), GraftError> {
        io::copy(&mut io::repeat(0).take(bytes), &mut self.writer).map_err(GraftError::Write).map(drop)
    }

    /// Where a file goes: links on the way to it are followed, and one in its place as well.
    fn file_target(&mut self, target: &[u8]) -> Result<Vec<u8>, GraftError> {
        let target = self.resolved(target)?;
        if target.is_empty()
            || self.kind_beneath(&target)? == Some(FileType::Directory)
            || self.directories.contains(&target)
        {
            return Err(GraftError::IsADirectory(text(&target)));
        }
        self.directories_down_to(parent(&target))?;
        Ok(target)
    }

    fn resolved(&self, target: &[u8]) -> Result<Vec<u8>, GraftError> {
        let Some(base) = &self.base else { return Ok(target.to_vec()) };
        let resolved = resolve(base, target).map_err(read_error(target))?;
        Ok(resolved.strip_prefix(b"/").unwrap_or(&resolved).to_vec())
    }

    fn kind_beneath(&self, path: &[u8]) -> Result<Option<FileType>, GraftError> {
        let Some(base) = &self.base else { return Ok(None) };
        let resolve = rustix::fs::ResolveFlags::IN_ROOT | rustix::fs::ResolveFlags::NO_SYMLINKS;
        let path = if path.is_empty() { b"." } else { path };
        match open_by(base, path, OFlags::PATH | OFlags::NOFOLLOW, resolve) {
            Ok(found) => {
                let stat = rustix::fs::fstat(&found).map_err(|error| read_error(path)(error.into()))?;
                Ok(Some(FileType::from_raw_mode(stat.st_mode)))
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(read_error(path)(error.into())),
        }
    }

    /// Sees to it that the layer has a directory and those above it.
    fn directories_down_to(&mut self, path: &[u8]) -> Result<(), GraftError> {
        if path.is_empty() || self.directories.contains(path) {
            return Ok(());
        }
        self.directories_down_to(parent(path))?;
        let beneath = self.base.as_ref().map(|base| directory_entry(base, path)).transpose()?.flatten();
        let mut entry = match beneath {
            Some(entry) => entry,
            None => {
                let mut entry = Entry::new(Kind::Directory, path, 0o755);
                entry.mtime.seconds = self.newest;
                if let Owner::Is(uid, gid) = self.owner {
                    (entry.uid, entry.gid) = (uid, gid);
                }
                entry
            }
        };
        entry.path = [path, b"/"].concat();
        self.directories.insert(path.to_vec());
        self.header(&entry)
    }

    /// Writes an entry with the owner, permissions and time that all of them get.
    fn dressed(&mut self, entry: &Entry) -> Result<(), GraftError> {
        let mut entry = entry.clone();
        if let Owner::Is(uid, gid) = self.owner {
            (entry.uid, entry.gid) = (uid, gid);
        }
        if entry.kind != Kind::Symlink {
            entry.mode = self.mode.apply(entry.mode, entry.kind == Kind::Directory);
        }
        if entry.mtime.seconds > self.newest {
            entry.mtime = Time { seconds: self.newest, nanoseconds: 0 };
        }
        self.header(&entry)
    }

    fn header(&mut self, entry: &Entry) -> Result<(), GraftError> {
        let name = bare(&entry.path).rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        if name.starts_with(b".wh.") {
            return Err(GraftError::Whiteout(text(&entry.path)));
        }
        self.entries += 1;
        self.writer.append_header(entry).map_err(GraftError::Write)
    }

    /// Copies exactly as many bytes as the header has promised.
    fn data(&mut self, mut file: File, entry: &Entry) -> Result<(), GraftError> {
        self.buffer.resize(PIECE, 0);
        let mut left = entry.size;
        while left > 0 {
            let room = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE);
            let count = match file.read(&mut self.buffer[..room]) {
                Ok(0) => {
                    let source = io::Error::new(io::ErrorKind::UnexpectedEof, "it was cut while it was read");
                    return Err(read_error(&entry.path)(source));
                }
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(read_error(&entry.path)(error)),
            };
            self.writer.write_all(&self.buffer[..count]).map_err(GraftError::Write)?;
            left -= count as u64;
        }
        Ok(())
    }
}

/// A directory as it is below a root; none where there is none.
fn directory_entry(root: &OwnedFd, path: &[u8]) -> Result<Option<Entry>, GraftError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match open(root, path, flags) {
        Ok(directory) => directory,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::NOTDIR | Errno::LOOP) => return Err(GraftError::NotADirectory(text(path))),
        Err(error) => return Err(read_error(path)(error.into())),
    };
    let stat = rustix::fs::fstat(&directory).map_err(|error| read_error(path)(error.into()))?;
    let node = Node { stat, kind: FileType::Directory, file: Some(directory) };
    let Some(mut entry) = node.entry(path.to_vec()) else { return Ok(None) };
    entry.xattrs = attributes(&node).map_err(read_error(path))?;
    Ok(Some(entry))
}

fn join(above: &[u8], name: &[u8]) -> Vec<u8> {
    if above.is_empty() { name.to_vec() } else { [above, b"/", name].concat() }
}

fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|&byte| byte == b'/').map_or(b"", |at| &path[..at])
}

fn bare(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"/").unwrap_or(path)
}

/// A path of an archive without `.`, `..` and slashes in front; none when it leads out.
fn inside(path: &[u8]) -> Option<Vec<u8>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join(&b'/'))
}

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn read_error(path: &[u8]) -> impl FnOnce(io::Error) -> GraftError + use<> {
    let path = text(path);
    move |source| GraftError::Read { path, source }
}
