//! The names of a layer while it is imported: where an entry goes, what it replaces, which directories it
//! needs. Pure: tells the steps to take, touches nothing.
//!
//! The rules are those of Docker's extraction, seen from inside the layer as from a chroot: absolute paths
//! start at the layer's root, `..` is taken lexically and must not leave it, a parent that is a symbolic link
//! of this layer is followed within the layer, parents that are missing are made.

use std::collections::BTreeMap;

use super::sink::FileId;
use super::{LayerError, Metadata};

const NAME_BYTES_MAX: usize = 255;
const PATH_BYTES_MAX: usize = 4095;
const SYMLINKS_MAX: u32 = 40;

/// A directory of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct DirectoryId(u32);

pub(super) const ROOT: DirectoryId = DirectoryId(0);

/// What a name stands for.
#[derive(Clone, Debug)]
pub(super) enum Child {
    Directory(DirectoryId),
    /// A regular file, device or fifo.
    File(FileId),
    Symlink(FileId, Box<[u8]>),
    /// Hides the name in the layers below.
    Whiteout(FileId),
}

#[derive(Debug)]
pub(super) struct Directory {
    pub parent: DirectoryId,
    name: Box<[u8]>,
    pub metadata: Metadata,
    /// Hides the whole directory of the layers below.
    pub opaque: bool,
    pub children: BTreeMap<Box<[u8]>, Child>,
}

/// What the driver must do before an entry appears.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Remove { path: Vec<u8>, files: Vec<FileId> },
    MakeDirectory { path: Vec<u8> },
}

/// A resolved place for a name.
#[derive(Debug)]
pub(super) struct Place {
    pub directory: DirectoryId,
    pub name: Box<[u8]>,
    /// The full resolved path.
    pub path: Vec<u8>,
}

pub(super) struct Tree {
    /// Removed directories leave a gap.
    directories: Vec<Option<Directory>>,
    entries: u64,
    entries_max: u64,
}

impl Tree {
    pub(super) fn new(entries_max: u64) -> Tree {
        let root = Directory {
            parent: ROOT,
            name: Box::default(),
            metadata: implied_metadata(),
            opaque: false,
            children: BTreeMap::new(),
        };
        Tree { directories: vec![Some(root)], entries: 0, entries_max }
    }

    /// Counts an entry of the archive.
    pub(super) fn count(&mut self) -> Result<(), LayerError> {
        self.entries += 1;
        if self.entries > self.entries_max {
            return Err(LayerError::Limit { what: "entries", max: self.entries_max });
        }
        Ok(())
    }

    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    pub(super) fn is_root_opaque(&self) -> bool {
        self.directory(ROOT).opaque
    }

    /// All directories that are there, parents before children.
    pub(super) fn directories(&self) -> Vec<(DirectoryId, &Directory)> {
        let mut order = vec![ROOT];
        let mut next = 0;
        while let Some(&id) = order.get(next) {
            next += 1;
            order.extend(self.directory(id).children.values().filter_map(|child| match child {
                Child::Directory(id) => Some(*id),
                _ => None,
            }));
        }
        order.into_iter().map(|id| (id, self.directory(id))).collect()
    }

    pub(super) fn path(&self, id: DirectoryId) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = id;
        while at != ROOT {
            let directory = self.directory(at);
            names.push(&*directory.name);
            at = directory.parent;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// Finds the place for a name of the archive, making parents; `None` is the root itself.
    pub(super) fn place(&mut self, name: &[u8], steps: &mut Vec<Step>) -> Result<Option<Place>, LayerError> {
        let mut components = normalise(name)?;
        let Some(last) = components.pop() else {
            return Ok(None);
        };
        let directory = self.walk(name, components, Some(steps))?;
        // Making parents always ends in a directory.
        directory.map(|directory| self.at(directory, last, name)).transpose()
    }

    /// The place of a name whose parents must be there; `None` when they are not.
    pub(super) fn find(&mut self, name: &[u8]) -> Result<Option<(Place, Child)>, LayerError> {
        let mut components = normalise(name)?;
        let Some(last) = components.pop() else {
            return Ok(Some((
                Place { directory: ROOT, name: Box::default(), path: Vec::new() },
                Child::Directory(ROOT),
            )));
        };
        let Some(directory) = self.walk(name, components, None)? else {
            return Ok(None);
        };
        let Some(child) = self.directory(directory).children.get(last).cloned() else {
            return Ok(None);
        };
        Ok(Some((self.at(directory, last, name)?, child)))
    }

    /// Makes a directory appear (or gives one that is there new metadata).
    pub(super) fn put_directory(
        &mut self,
        place: Option<&Place>,
        metadata: Metadata,
        steps: &mut Vec<Step>,
    ) -> Result<(), LayerError> {
        let Some(place) = place else {
            self.directory_mut(ROOT).metadata = metadata;
            return Ok(());
        };
        let known = self.directory(place.directory).children.get(&place.name).cloned();
        match known {
            Some(Child::Directory(id)) => self.directory_mut(id).metadata = metadata,
            known => {
                if known.is_some() {
                    self.clear(place, steps);
                }
                // What a whiteout of this layer hid stays hidden.
                let opaque = matches!(known, Some(Child::Whiteout(_)));
                let id = self.make(place.directory, &place.name, place.path.clone(), steps);
                let directory = self.directory_mut(id);
                directory.metadata = metadata;
                directory.opaque = opaque;
            }
        }
        Ok(())
    }

    /// Removes what has a name, if anything has.
    pub(super) fn clear(&mut self, place: &Place, steps: &mut Vec<Step>) {
        let Some(child) = self.directory_mut(place.directory).children.remove(&place.name) else {
            return;
        };
        let (mut files, mut removed) = (Vec::new(), vec![child]);
        while let Some(child) = removed.pop() {
            match child {
                Child::Directory(id) => {
                    let directory = self.directories[id.0 as usize].take();
                    removed.extend(directory.into_iter().flat_map(|d| d.children.into_values()));
                }
                Child::File(file) | Child::Symlink(file, _) | Child::Whiteout(file) => files.push(file),
            }
        }
        steps.push(Step::Remove { path: place.path.clone(), files });
    }

    pub(super) fn insert(&mut self, place: Place, child: Child) {
        self.directory_mut(place.directory).children.insert(place.name, child);
    }

    /// Marks a directory as hiding the layers below.
    pub(super) fn set_opaque(&mut self, id: DirectoryId) {
        self.directory_mut(id).opaque = true;
    }

    pub(super) fn child(&self, place: &Place) -> Option<&Child> {
        self.directory(place.directory).children.get(&place.name)
    }

    pub(super) fn directory(&self, id: DirectoryId) -> &Directory {
        self.directories[id.0 as usize].as_ref().expect("names only refer to directories that are there")
    }

    fn directory_mut(&mut self, id: DirectoryId) -> &mut Directory {
        self.directories[id.0 as usize].as_mut().expect("names only refer to directories that are there")
    }

    fn at(&self, directory: DirectoryId, name: &[u8], entry: &[u8]) -> Result<Place, LayerError> {
        let mut path = self.path(directory);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        if path.len() > PATH_BYTES_MAX {
            return Err(refuse(entry, "path of more than 4095 bytes"));
        }
        Ok(Place { directory, name: name.into(), path })
    }

    /// Follows names from the root. With `steps`, missing directories are made; without, the walk ends `None`.
    fn walk(
        &mut self,
        entry: &[u8],
        components: Vec<&[u8]>,
        mut steps: Option<&mut Vec<Step>>,
    ) -> Result<Option<DirectoryId>, LayerError> {
        // Reversed, so that a symbolic link's target is put in front by pushing.
        let mut rest: Vec<Box<[u8]>> = components.into_iter().rev().map(Into::into).collect();
        let (mut at, mut symlinks) = (ROOT, 0);
        while let Some(name) = rest.pop() {
            if &*name == b".." {
                at = self.directory(at).parent;
                continue;
            }
            match self.directory(at).children.get(&name) {
                Some(Child::Directory(id)) => at = *id,
                Some(Child::File(_)) => return Err(refuse(entry, "a parent is not a directory")),
                Some(Child::Symlink(_, target)) => {
                    symlinks += 1;
                    if symlinks > SYMLINKS_MAX {
                        return Err(refuse(entry, "too many symbolic links in the path"));
                    }
                    if target.starts_with(b"/") {
                        at = ROOT;
                    }
                    let parts = target.split(|&byte| byte == b'/');
                    rest.extend(parts.rev().filter(|part| !part.is_empty() && *part != b".").map(Box::from));
                }
                Some(Child::Whiteout(_)) | None => {
                    let Some(steps) = steps.as_deref_mut() else {
                        return Ok(None);
                    };
                    if name.len() > NAME_BYTES_MAX {
                        return Err(refuse(entry, "name of more than 255 bytes"));
                    }
                    self.count()?;
                    let place = self.at(at, &name, entry)?;
                    self.put_directory(Some(&place), implied_metadata(), steps)?;
                    if let Some(Child::Directory(id)) = self.child(&place) {
                        at = *id;
                    }
                }
            }
        }
        Ok(Some(at))
    }

    fn make(
        &mut self,
        parent: DirectoryId,
        name: &[u8],
        path: Vec<u8>,
        steps: &mut Vec<Step>,
    ) -> DirectoryId {
        let id = DirectoryId(self.directories.len() as u32);
        self.directories.push(Some(Directory {
            parent,
            name: name.into(),
            metadata: Metadata::default(),
            opaque: false,
            children: BTreeMap::new(),
        }));
        self.directory_mut(parent).children.insert(name.into(), Child::Directory(id));
        steps.push(Step::MakeDirectory { path });
        id
    }
}

/// What a directory gets that no entry describes.
fn implied_metadata() -> Metadata {
    Metadata { mode: 0o755, ..Metadata::default() }
}

/// The parts of a name: `.` and empty parts dropped, `..` taken lexically, as Go's `path.Clean` does.
fn normalise(name: &[u8]) -> Result<Vec<&[u8]>, LayerError> {
    let mut components = Vec::new();
    for part in name.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                if components.pop().is_none() {
                    return Err(LayerError::Breakout { entry: lossy(name) });
                }
            }
            part if part.len() > NAME_BYTES_MAX => return Err(refuse(name, "name of more than 255 bytes")),
            part => components.push(part),
        }
    }
    Ok(components)
}

pub(super) fn refuse(entry: &[u8], reason: &'static str) -> LayerError {
    LayerError::Entry { entry: lossy(entry), reason }
}

pub(super) fn lossy(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}
