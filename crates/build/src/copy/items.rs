//! What COPY and ADD put becomes, piece by piece: with which name, below what.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use corten_image::build::{Item, ModeChange, Owner, Source, TakeAll};

use super::{From, Put, PutSource, excluding};
use crate::archive;
use crate::error::{Error, Result};
use crate::pattern;
use crate::remote::{Origin, Remote};
use crate::stage::Running;
use crate::worker::FETCHED;

/// Where things are put, and as whose.
pub(super) struct Placing<'p> {
    /// The instruction.
    pub kind: &'static str,
    /// What is there already.
    pub base: Option<&'p OwnedFd>,
    pub owner: Owner,
    /// The owner was said.
    pub has_owner: bool,
    pub mode: ModeChange,
}

impl Placing<'_> {
    /// What is unpacked keeps its owners, unless others were said.
    fn unpacked_owner(&self) -> Owner {
        if self.has_owner { self.owner } else { Owner::AsItWas }
    }
}

/// A name that a thing gets within a directory, and by itself.
struct Target {
    /// A path in the layer.
    path: Vec<u8>,
    is_directory: bool,
}

impl Target {
    /// For a thing that is no directory itself.
    fn of(self, name: &[u8]) -> Vec<u8> {
        match (self.is_directory, self.path.is_empty()) {
            (false, _) => self.path,
            (true, true) => name.to_vec(),
            (true, false) => [&self.path, b"/".as_slice(), name].concat(),
        }
    }
}

impl Running<'_> {
    pub(super) fn items(&self, puts: Vec<Put>, from: &From, placing: &Placing<'_>) -> Result<Vec<Item>> {
        let is_many = puts.len() > 1;
        // A tree becomes the target, or is merged with it: what comes with one goes into it.
        let has_tree = puts.iter().any(|put| put.source.is_tree(from));
        let items = puts.into_iter().map(|put| {
            let mut target = self.target(&put.target, placing.base);
            target.is_directory |= has_tree;
            if is_many && !target.is_directory && !put.source.has_own_target() {
                return Err(Error::Invalid(format!(
                    "When using {} with more than one source file, the destination must be a directory and end with a /: there is no \
                     directory {}",
                    placing.kind.to_uppercase(),
                    put.target
                )));
            }
            item(put.source, target, from, placing, self.state.newest)
        });
        items.collect()
    }

    fn target(&self, text: &str, base: Option<&OwnedFd>) -> Target {
        let absolute = self.absolute(text);
        let clean = pattern::clean(&absolute);
        let path = clean.trim_start_matches('/').as_bytes().to_vec();
        let is_directory =
            absolute.ends_with('/') || is_plain_directory(text) || is_directory_of(base, &path);
        Target { path, is_directory }
    }
}

impl PutSource {
    fn is_tree(&self, from: &From) -> bool {
        match self {
            PutSource::Path { path, with_parents: None, .. } => is_directory(&from.root, path),
            PutSource::Archive { .. } => true,
            PutSource::Remote { remote, unpacks, .. } => {
                *unpacks || matches!(remote.origin, Origin::Repository(_))
            }
            PutSource::Path { .. } | PutSource::Document { .. } => false,
        }
    }

    /// Its path is in its target's.
    fn has_own_target(&self) -> bool {
        matches!(self, PutSource::Path { with_parents: Some(_), .. })
    }
}

/// `newest` is the time of what has none, Unix seconds.
fn item(source: PutSource, target: Target, from: &From, placing: &Placing<'_>, newest: i64) -> Result<Item> {
    let Placing { owner, mode, .. } = placing;
    let (source, owner, target) = match source {
        PutSource::Path { path, filter, with_parents } => {
            let target = match is_directory(&from.root, &path) || with_parents.is_some() {
                true => target.path,
                false => target.of(base_name(&path)),
            };
            (Source::Path { root: from.root.clone(), path, filter, with_parents }, *owner, target)
        }
        PutSource::Archive { path } => {
            let name = String::from_utf8_lossy(&path).into_owned();
            let file = corten_image::build::open_file(&from.root, &path)
                .map_err(|error| Error::Invalid(format!("cannot read {name}: {error}")))?;
            (Source::Archive { name, reader: archive::reader(file)? }, placing.unpacked_owner(), target.path)
        }
        PutSource::Remote { remote, unpacks, exclude } => {
            return fetched(*remote, unpacks, &exclude, target, placing);
        }
        PutSource::Document { name, bytes } => {
            (Source::Bytes { bytes, mode: 0o644, mtime: newest }, *owner, target.of(name.as_bytes()))
        }
    };
    Ok(Item { source, owner, mode: mode.clone(), target })
}

/// What came from another host.
fn fetched(
    remote: Remote,
    unpacks: bool,
    exclude: &[String],
    target: Target,
    placing: &Placing<'_>,
) -> Result<Item> {
    let (owner, mode) = (placing.owner, placing.mode.clone());
    let tree = remote.fetched.tree.clone();
    let tree = tree.ok_or_else(|| Error::Internal("a source of ADD was not fetched".to_owned()))?;
    let root = tree.root.clone();
    let name = match remote.origin {
        Origin::File { name, .. } => name,
        Origin::Repository(_) => {
            let filter = excluding(&From::tree(tree, Arc::new(TakeAll)), exclude, "")?;
            let source = Source::Path { root, path: Vec::new(), filter, with_parents: None };
            return Ok(Item { source, owner, mode, target: target.path });
        }
    };
    let file = || {
        let file = corten_image::build::open_file(&root, FETCHED.as_bytes());
        file.map_err(|error| Error::Internal(format!("cannot read {name}: {error}")))
    };
    if unpacks && archive::is_archive(&file()?)? {
        let reader = archive::reader(file()?)?;
        let (owner, target) = (placing.unpacked_owner(), target.path);
        return Ok(Item { source: Source::Archive { name, reader }, owner, mode, target });
    }
    let target = target.of(name.as_bytes());
    let (path, filter) = (FETCHED.as_bytes().to_vec(), Arc::new(TakeAll));
    Ok(Item { source: Source::Path { root, path, filter, with_parents: None }, owner, mode, target })
}

/// `.` and `..` name directories without a slash.
fn is_plain_directory(target: &str) -> bool {
    matches!(target.rsplit('/').next(), Some("." | ".."))
}

fn is_directory_of(base: Option<&OwnedFd>, target: &[u8]) -> bool {
    base.map_or(target.is_empty(), |base| is_directory(base, target))
}

/// Whether a path leads to one.
fn is_directory(root: &OwnedFd, path: &[u8]) -> bool {
    let resolved = corten_image::files::resolve(root, path).unwrap_or_else(|_| path.to_vec());
    corten_image::files::stat(root, &resolved).is_ok_and(|stat| stat.is_directory())
}

pub(super) fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}
