//! The `dir` driver: `<layer>/root/` is the layer; `replaced/` keeps what later entries of the same archive
//! replaced (the tar stream needs it); `files.zst` says where the data files lie.
//!
//! No path of the archive is ever given to the kernel from where it could be resolved elsewhere: every name is
//! opened below the layer's own descriptor with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, ResolveFlags, Uid};

use super::directory_files::DirectoryFiles;
use super::files::LayerFiles;
use super::import::directory_xattrs;
use super::recipe::{Copy, Data};
use super::sink::{FileId, Sink};
use super::tree::{Tree, lossy};
use super::{Driver, DriverKind, LayerError, Metadata, MountSource, Special};
use crate::digest::DiffId;
use crate::tar::Extent;

pub(super) const ROOT: &str = "root";
const REPLACED: &str = "replaced";
const FILES: &str = "files.zst";

pub(super) struct DirectoryDriver;

impl Driver for DirectoryDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Directory
    }

    fn sink(&self, directory: &Path) -> Result<Box<dyn Sink>, LayerError> {
        DirectorySink::new(directory)
            .map(|sink| Box::new(sink) as Box<dyn Sink>)
            .map_err(|error| LayerError::write(directory.display().to_string(), error))
    }

    fn mount_source(&self, directory: &Path) -> MountSource {
        MountSource::Directory(directory.join(ROOT))
    }

    fn files(&self, id: DiffId, directory: &Path) -> Result<Box<dyn LayerFiles>, LayerError> {
        let root = open_directory(&directory.join(ROOT)).map_err(|source| LayerError::Read { id, source })?;
        Ok(Box::new(DirectoryFiles::new(id, root)))
    }

    fn data(&self, id: DiffId, directory: &Path) -> Result<Box<dyn Data>, LayerError> {
        let open = || -> io::Result<DirectoryData> {
            let base = open_directory(directory)?;
            let mut table = Vec::new();
            zstd::Decoder::new(File::open(directory.join(FILES))?)?.read_to_end(&mut table)?;
            Ok(DirectoryData {
                base,
                paths: table.split(|&b| b == 0).map(<[u8]>::to_vec).collect(),
                open: None,
            })
        };
        open().map(|data| Box::new(data) as Box<dyn Data>).map_err(|source| LayerError::Read { id, source })
    }
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

/// Opens below a directory; neither the path nor a symbolic link can lead out of it.
pub(crate) fn open_beneath(base: &impl AsFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    crate::mounts::open_by(base, path, flags, resolve)
}

/// A name for a descriptor, for calls that take no descriptor of a symbolic link or device.
pub(super) fn descriptor_path(fd: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

struct DirectoryData {
    base: OwnedFd,
    paths: Vec<Vec<u8>>,
    open: Option<(u32, File)>,
}

impl Data for DirectoryData {
    fn read_exact_at(&mut self, file: u32, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != file) {
            let path = self.paths.get(file as usize).filter(|path| !path.is_empty());
            let path = path.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
            let opened = open_beneath(&self.base, path, OFlags::RDONLY | OFlags::NOFOLLOW)?;
            self.open = Some((file, File::from(opened)));
        }
        match &self.open {
            Some((_, file)) => file.read_exact_at(buffer, offset),
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }
}

struct DirectorySink {
    base: OwnedFd,
    root: OwnedFd,
    /// The directory of the last entry: the next one is usually a neighbour.
    parent: (Vec<u8>, OwnedFd),
    /// Where each file lies, for the tar stream; empty for files without data.
    paths: Vec<Vec<u8>>,
    /// Data files by their path in the layer.
    by_path: BTreeMap<Vec<u8>, u32>,
    replaced: u64,
    current: Option<Current>,
}

struct Current {
    file: File,
    path: Vec<u8>,
    metadata: Metadata,
    size: u64,
    /// Runs of real bytes still to come, the next one last.
    runs: Vec<Extent>,
}

impl DirectorySink {
    fn new(directory: &Path) -> io::Result<DirectorySink> {
        let base = open_directory(directory)?;
        rustix::fs::mkdirat(&base, ROOT, Mode::from_raw_mode(0o700))?;
        let root = open_beneath(&base, ROOT.as_bytes(), OFlags::DIRECTORY | OFlags::RDONLY)?;
        let parent = (Vec::new(), root.try_clone()?);
        let (paths, by_path) = (Vec::new(), BTreeMap::new());
        Ok(DirectorySink { base, root, parent, paths, by_path, replaced: 0, current: None })
    }

    /// The directory of a path, and the last name.
    fn locate<'p>(&mut self, path: &'p [u8]) -> io::Result<(&OwnedFd, &'p [u8])> {
        let split = path.iter().rposition(|&byte| byte == b'/');
        let (parent, name) = split.map_or((&b""[..], path), |at| (&path[..at], &path[at + 1..]));
        if self.parent.0 != parent {
            let fd = open_beneath(&self.root, parent, OFlags::DIRECTORY | OFlags::PATH)?;
            self.parent = (parent.to_vec(), fd);
        }
        Ok((&self.parent.1, name))
    }

    fn add(&mut self, path: Vec<u8>) -> FileId {
        self.paths.push(path);
        FileId((self.paths.len() - 1) as u32)
    }

    fn make_file(&mut self, path: &[u8]) -> io::Result<File> {
        let (parent, name) = self.locate(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))?))
    }

    /// Moves a name out of the layer; data files in it keep their number.
    fn replace(&mut self, path: &[u8]) -> io::Result<()> {
        if self.replaced == 0 {
            rustix::fs::mkdirat(&self.base, REPLACED, Mode::from_raw_mode(0o700))?;
        }
        let new = format!("{REPLACED}/{}", self.replaced);
        self.replaced += 1;
        let base = self.base.try_clone()?;
        let (parent, name) = self.locate(path)?;
        rustix::fs::renameat(parent, name, &base, &new)?;
        // The cached parent may lie in what was moved.
        self.parent = (Vec::new(), self.root.try_clone()?);
        let below = [path, b"/"].concat();
        let mut moved: Vec<Vec<u8>> = self
            .by_path
            .range(below.clone()..)
            .map(|(p, _)| p.clone())
            .take_while(|p| p.starts_with(&below))
            .collect();
        moved.push(path.to_vec());
        for old in moved {
            if let Some(number) = self.by_path.remove(&old) {
                self.paths[number as usize] = [new.as_bytes(), &old[path.len()..]].concat();
            }
        }
        Ok(())
    }

    fn make_symlink(&mut self, path: &[u8], metadata: &Metadata, target: &[u8]) -> io::Result<()> {
        let (parent, name) = self.locate(path)?;
        rustix::fs::symlinkat(target, parent, name)?;
        dress_name(parent, name, metadata, false)
    }

    fn make_special(&mut self, path: &[u8], metadata: &Metadata, special: Special) -> io::Result<()> {
        use rustix::fs::FileType;
        let (parent, name) = self.locate(path)?;
        let (kind, device) = match special {
            Special::CharDevice(device) => (FileType::CharacterDevice, device),
            Special::BlockDevice(device) => (FileType::BlockDevice, device),
            Special::Fifo => (FileType::Fifo, Default::default()),
        };
        let number = rustix::fs::makedev(device.major, device.minor);
        rustix::fs::mknodat(parent, name, kind, Mode::from_raw_mode(0o600), number)?;
        dress_name(parent, name, metadata, true)
    }

    fn make_link(&mut self, path: &[u8], target: &[u8]) -> io::Result<()> {
        let source = open_beneath(&self.root, parent_of(target), OFlags::DIRECTORY | OFlags::PATH)?;
        let (parent, name) = self.locate(path)?;
        let target = &target[target.len() - name_of(target).len()..];
        Ok(rustix::fs::linkat(source, target, parent, name, AtFlags::empty())?)
    }

    /// Gives the directories their metadata, children before parents, and writes everything out.
    fn complete(&mut self, tree: &Tree) -> Result<(), LayerError> {
        for (id, directory) in tree.directories().into_iter().rev() {
            let path = tree.path(id);
            let metadata = Metadata { xattrs: directory_xattrs(tree, id), ..directory.metadata.clone() };
            open_beneath(&self.root, &path, OFlags::DIRECTORY | OFlags::RDONLY)
                .map_err(io::Error::from)
                .and_then(|fd| dress(&File::from(fd), &metadata))
                .map_err(|error| LayerError::write(lossy(&path), error))?;
        }
        self.write_table().map_err(|error| LayerError::write(FILES, error))?;
        rustix::fs::syncfs(&self.base).map_err(|error| LayerError::write(ROOT, error.into()))
    }

    fn write_table(&mut self) -> io::Result<()> {
        for (path, number) in std::mem::take(&mut self.by_path) {
            self.paths[number as usize] = [ROOT.as_bytes(), b"/", &path].concat();
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.base, FILES, flags, Mode::from_raw_mode(0o600))?;
        let mut output = zstd::Encoder::new(File::from(file), 3)?;
        output.write_all(&self.paths.join(&0))?;
        output.finish()?;
        Ok(())
    }
}

impl Sink for DirectorySink {
    fn directory(&mut self, path: &[u8]) -> Result<(), LayerError> {
        let made = self
            .locate(path)
            .and_then(|(parent, name)| Ok(rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700))?));
        made.map_err(|error| LayerError::write(lossy(path), error))
    }

    fn remove(&mut self, path: &[u8], _files: &[FileId]) -> Result<(), LayerError> {
        self.replace(path).map_err(|error| LayerError::write(lossy(path), error))
    }

    fn begin_file(
        &mut self,
        path: &[u8],
        metadata: &Metadata,
        size: u64,
        sparse: Option<&[Extent]>,
        copies: &mut Vec<Copy>,
    ) -> Result<FileId, LayerError> {
        let file = self.make_file(path).map_err(|error| LayerError::write(lossy(path), error))?;
        let id = self.add(Vec::new());
        self.by_path.insert(path.to_vec(), id.0);
        let whole = [Extent { offset: 0, bytes: size }];
        let runs = sparse.unwrap_or(&whole);
        copies.extend(runs.iter().map(|run| Copy { file: id.0, offset: run.offset, bytes: run.bytes }));
        let runs = runs.iter().rev().copied().collect();
        self.current = Some(Current { file, path: path.to_vec(), metadata: metadata.clone(), size, runs });
        Ok(id)
    }

    fn data(&mut self, mut bytes: &[u8]) -> Result<(), LayerError> {
        let Some(current) = &mut self.current else { return Ok(()) };
        while let Some(run) = current.runs.last_mut().filter(|_| !bytes.is_empty()) {
            let now = usize::try_from(run.bytes).unwrap_or(usize::MAX).min(bytes.len());
            let written = current.file.write_all_at(&bytes[..now], run.offset);
            written.map_err(|error| LayerError::write(lossy(&current.path), error))?;
            bytes = &bytes[now..];
            *run = Extent { offset: run.offset + now as u64, bytes: run.bytes - now as u64 };
            if run.bytes == 0 {
                current.runs.pop();
            }
        }
        Ok(())
    }

    fn end_file(&mut self) -> Result<(), LayerError> {
        let Some(current) = self.current.take() else { return Ok(()) };
        let ended = current.file.set_len(current.size).and_then(|()| dress(&current.file, &current.metadata));
        ended.map_err(|error| LayerError::write(lossy(&current.path), error))
    }

    fn symlink(&mut self, path: &[u8], metadata: &Metadata, target: &[u8]) -> Result<FileId, LayerError> {
        let made = self.make_symlink(path, metadata, target);
        made.map_err(|error| LayerError::write(lossy(path), error))?;
        Ok(self.add(Vec::new()))
    }

    fn special(&mut self, path: &[u8], metadata: &Metadata, special: Special) -> Result<FileId, LayerError> {
        let made = self.make_special(path, metadata, special);
        made.map_err(|error| LayerError::write(lossy(path), error))?;
        Ok(self.add(Vec::new()))
    }

    fn link(&mut self, path: &[u8], _file: FileId, target: &[u8]) -> Result<(), LayerError> {
        self.make_link(path, target).map_err(|error| LayerError::write(lossy(path), error))
    }

    fn finish(mut self: Box<Self>, tree: &Tree, _id: DiffId) -> Result<(), LayerError> {
        self.complete(tree)
    }
}

fn name_of(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

fn parent_of(path: &[u8]) -> &[u8] {
    let parent = &path[..path.len() - name_of(path).len()];
    parent.strip_suffix(b"/").unwrap_or(parent)
}

/// Owner first (it clears setuid and capabilities), then attributes, mode and times.
pub(crate) fn dress(file: &File, metadata: &Metadata) -> io::Result<()> {
    rustix::fs::fchown(file, Some(Uid::from_raw(metadata.uid)), Some(Gid::from_raw(metadata.gid)))?;
    for (name, value) in &metadata.xattrs {
        rustix::fs::fsetxattr(file, name.as_slice(), value, rustix::fs::XattrFlags::empty())?;
    }
    rustix::fs::fchmod(file, Mode::from_raw_mode(metadata.mode))?;
    rustix::fs::futimens(file, &times(metadata))?;
    Ok(())
}

/// The same for what can't be opened: symbolic links, devices, fifos.
pub(crate) fn dress_name(
    parent: &OwnedFd,
    name: &[u8],
    metadata: &Metadata,
    with_mode: bool,
) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(metadata.uid), Gid::from_raw(metadata.gid));
    rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if !metadata.xattrs.is_empty() {
        let node = open_beneath(parent, name, OFlags::PATH | OFlags::NOFOLLOW)?;
        for (name, value) in &metadata.xattrs {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(descriptor_path(&node), name.as_slice(), value, flags)?;
        }
    }
    if with_mode {
        // The name was just made here and is no symbolic link.
        rustix::fs::chmodat(parent, name, Mode::from_raw_mode(metadata.mode), AtFlags::empty())?;
    }
    rustix::fs::utimensat(parent, name, &times(metadata), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

fn times(metadata: &Metadata) -> rustix::fs::Timestamps {
    let time = rustix::fs::Timespec {
        tv_sec: metadata.mtime.seconds,
        tv_nsec: i64::from(metadata.mtime.nanoseconds),
    };
    rustix::fs::Timestamps { last_access: time, last_modification: time }
}
