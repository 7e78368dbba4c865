//! The `erofs` driver: `<layer>/layer.erofs`.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::files::{FileKind, Found, LayerFiles};
use super::import::directory_xattrs;
use super::recipe::{Copy, Data};
use super::sink::{FileId, Sink};
use super::tree::{self, Tree, lossy};
use super::{Driver, DriverKind, LayerError, Metadata, MountSource, Special};
use crate::digest::DiffId;
use crate::erofs::{Attributes, Child, Directory, FileShape, Image, Inode, InodeId, Node, ReadError, Writer};
use crate::tar::{Device, Extent};

const IMAGE: &str = "layer.erofs";

pub(super) struct ErofsDriver;

impl Driver for ErofsDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Erofs
    }

    fn sink(&self, directory: &Path) -> Result<Box<dyn Sink>, LayerError> {
        let path = directory.join(IMAGE);
        let open = File::options().write(true).create_new(true).open(&path);
        let file = open.map_err(|error| LayerError::write(path.display().to_string(), error))?;
        Ok(Box::new(ErofsSink { writer: Writer::new(file), inodes: Vec::new(), place: String::new() }))
    }

    fn mount_source(&self, directory: &Path) -> MountSource {
        MountSource::Erofs(directory.join(IMAGE))
    }

    fn files(&self, id: DiffId, directory: &Path) -> Result<Box<dyn LayerFiles>, LayerError> {
        let file = File::open(directory.join(IMAGE)).map_err(|source| LayerError::Read { id, source })?;
        let image = Image::open(file).map_err(|error| read_error(id, error))?;
        Ok(Box::new(ErofsFiles { id, image }))
    }

    fn data(&self, id: DiffId, directory: &Path) -> Result<Box<dyn Data>, LayerError> {
        let file = File::open(directory.join(IMAGE)).map_err(|source| LayerError::Read { id, source })?;
        Ok(Box::new(ImageData(file)))
    }
}

struct ImageData(File);

impl Data for ImageData {
    fn read_exact_at(&mut self, _file: u32, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }
}

struct ErofsSink {
    writer: Writer,
    inodes: Vec<InodeId>,
    /// The file being written, for errors.
    place: String,
}

impl ErofsSink {
    fn add(&mut self, inode: InodeId) -> FileId {
        self.inodes.push(inode);
        FileId((self.inodes.len() - 1) as u32)
    }
}

impl Sink for ErofsSink {
    fn directory(&mut self, _path: &[u8]) -> Result<(), LayerError> {
        Ok(())
    }

    fn remove(&mut self, _path: &[u8], files: &[FileId]) -> Result<(), LayerError> {
        for file in files {
            self.writer.unlink(self.inodes[file.0 as usize]);
        }
        Ok(())
    }

    fn begin_file(
        &mut self,
        path: &[u8],
        metadata: &Metadata,
        size: u64,
        sparse: Option<&[Extent]>,
        copies: &mut Vec<Copy>,
    ) -> Result<FileId, LayerError> {
        self.place = lossy(path);
        let started = self.writer.begin_file(&attributes(metadata), FileShape { size, sparse });
        let (inode, pieces) = started.map_err(|error| LayerError::write(&self.place, error))?;
        copies.extend(pieces.iter().map(|p| Copy { file: 0, offset: p.position, bytes: p.bytes }));
        Ok(self.add(inode))
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        self.writer.data(bytes).map_err(|error| LayerError::write(&self.place, error))
    }

    fn end_file(&mut self) -> Result<(), LayerError> {
        Ok(())
    }

    fn symlink(&mut self, path: &[u8], metadata: &Metadata, target: &[u8]) -> Result<FileId, LayerError> {
        let inode = self.writer.node(&attributes(metadata), &Node::Symlink(target));
        Ok(self.add(inode.map_err(|error| LayerError::write(lossy(path), error))?))
    }

    fn special(&mut self, path: &[u8], metadata: &Metadata, special: Special) -> Result<FileId, LayerError> {
        let node = match special {
            Special::CharDevice(device) => Node::CharDevice(device),
            Special::BlockDevice(device) => Node::BlockDevice(device),
            Special::Fifo => Node::Fifo,
        };
        let inode = self.writer.node(&attributes(metadata), &node);
        Ok(self.add(inode.map_err(|error| LayerError::write(lossy(path), error))?))
    }

    fn link(&mut self, _path: &[u8], file: FileId, _target: &[u8]) -> Result<(), LayerError> {
        self.writer.link(self.inodes[file.0 as usize]);
        Ok(())
    }

    fn finish(self: Box<Self>, tree: &Tree, id: DiffId) -> Result<(), LayerError> {
        let ErofsSink { writer, inodes, .. } = *self;
        let known = tree.directories();
        let index: HashMap<_, _> = known.iter().enumerate().map(|(index, (id, _))| (*id, index)).collect();
        let all_attributes: Vec<Attributes> = known
            .iter()
            .map(|&(id, directory)| Attributes {
                xattrs: directory_xattrs(tree, id),
                ..attributes(&directory.metadata)
            })
            .collect();
        let child = |child: &tree::Child| match child {
            tree::Child::Directory(id) => Child::Directory(index[id]),
            tree::Child::File(file) | tree::Child::Symlink(file, _) | tree::Child::Whiteout(file) => {
                Child::Inode(inodes[file.0 as usize])
            }
        };
        let directories: Vec<Directory<'_>> = known
            .iter()
            .zip(&all_attributes)
            .map(|((_, directory), attributes)| Directory {
                attributes,
                parent: index[&directory.parent],
                entries: directory.children.iter().map(|(name, to)| (&**name, child(to))).collect(),
            })
            .collect();
        let mut uuid = [0u8; 16];
        uuid.copy_from_slice(&id.as_bytes()[..16]);
        let written = writer.finish(&directories, uuid).and_then(|file| file.sync_data());
        written.map_err(|error| LayerError::write(IMAGE, error))
    }
}

fn attributes(metadata: &Metadata) -> Attributes {
    let Metadata { mode, uid, gid, mtime, xattrs } = metadata.clone();
    Attributes { mode, uid, gid, mtime, xattrs }
}

struct ErofsFiles {
    id: DiffId,
    image: Image,
}

impl ErofsFiles {
    fn found(&self, inode: &Inode) -> Result<Found, ReadError> {
        let Attributes { mode, uid, gid, mtime, xattrs } = self.image.attributes(inode)?;
        let kind = kind(inode, &xattrs);
        let metadata = Metadata { mode, uid, gid, mtime, xattrs };
        Ok(Found { kind, size: inode.size, links: inode.links, metadata })
    }
}

fn kind(inode: &Inode, xattrs: &[(Vec<u8>, Vec<u8>)]) -> FileKind {
    match inode.file_type() >> 12 {
        0o1 => FileKind::Fifo,
        0o2 if inode.device == Device::default() => FileKind::Whiteout,
        0o2 => FileKind::CharDevice(inode.device),
        0o4 => {
            let opaque =
                xattrs.iter().any(|(name, value)| name == b"trusted.overlay.opaque" && value == b"y");
            FileKind::Directory { opaque }
        }
        0o6 => FileKind::BlockDevice(inode.device),
        0o12 => FileKind::Symlink,
        _ => FileKind::File,
    }
}

impl LayerFiles for ErofsFiles {
    fn stat(&self, path: &[u8]) -> Result<Option<Found>, LayerError> {
        let inode = self.image.lookup(path).map_err(|error| read_error(self.id, error))?;
        inode.map(|inode| self.found(&inode)).transpose().map_err(|error| read_error(self.id, error))
    }

    fn read(&self, path: &[u8], bytes_max: u64) -> Result<Vec<u8>, LayerError> {
        let not_found = || ReadError::Io(io::Error::from(io::ErrorKind::NotFound));
        let inode = self.image.lookup(path).and_then(|inode| inode.ok_or_else(not_found));
        let contents = inode.and_then(|inode| self.image.contents(&inode, bytes_max));
        contents.map_err(|error| read_error(self.id, error))
    }

    fn list(&self, path: &[u8]) -> Result<Vec<(Vec<u8>, FileKind)>, LayerError> {
        let read = || -> Result<_, ReadError> {
            let Some(directory) = self.image.lookup(path)?.filter(Inode::is_directory) else {
                return Ok(Vec::new());
            };
            let mut names = Vec::new();
            for entry in self.image.list(&directory)? {
                let inode = self.image.inode(entry.nid)?;
                names.push((entry.name, self.found(&inode)?.kind));
            }
            Ok(names)
        };
        read().map_err(|error| read_error(self.id, error))
    }
}

fn read_error(id: DiffId, error: ReadError) -> LayerError {
    match error {
        ReadError::Io(source) => LayerError::Read { id, source },
        ReadError::Damaged(reason) => LayerError::Damaged { id, reason: reason.to_owned() },
    }
}
