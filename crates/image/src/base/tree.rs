//! What the base image holds, by path: the packages' files as they lie under the root, then what is generated.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::dpkg::{Database, Diversions};
use super::{BaseError, generated, md5};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Directory,
    /// A file of the host.
    File {
        path: PathBuf,
        size: u64,
        /// Device and inode when the file has several names.
        shared: Option<(u64, u64)>,
    },
    Symlink(Vec<u8>),
    /// A file that is made here.
    Bytes(Vec<u8>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub source: Source,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Unix seconds.
    pub mtime: i64,
}

/// The image's files by path without leading slash; ordered, so a directory comes before what is in it.
pub(super) struct Tree {
    root: PathBuf,
    nodes: BTreeMap<String, Node>,
    /// Directories of the host with their symbolic links followed.
    resolved: HashMap<String, String>,
    /// The time of everything that is made here: that of the distribution's release file.
    pub made_at: i64,
}

pub(super) fn collect(
    root: &Path,
    database: &Database,
    selected: &BTreeSet<String>,
) -> Result<Tree, BaseError> {
    let made_at = fs::metadata(root.join("usr/lib/os-release")).map_or(0, |metadata| metadata.mtime());
    let (nodes, resolved) = (BTreeMap::new(), HashMap::new());
    let mut tree = Tree { root: root.to_owned(), nodes, resolved, made_at };
    let diversions = database.diversions()?;
    for name in selected {
        let Some(package) = database.package(name) else { continue };
        let shipped: HashMap<&str, &str> =
            package.conffiles.iter().map(|(path, sum)| (path.as_str(), sum.as_str())).collect();
        for path in database.files(package)? {
            let (from, to) = divert(&path, name, &diversions, selected);
            match shipped.get(path.as_str()) {
                Some(sum) if !is_pristine(&root.join(from.trim_start_matches('/')), sum)? => {
                    tracing::info!(path, "left out: the host changed this configuration file");
                }
                _ => tree.take(&from, &to)?,
            }
        }
    }
    // dash and bash have shipped this link in their maintainer scripts until lately.
    for link in ["/bin/sh", "/usr/bin/sh"] {
        tree.take(link, link)?;
    }
    generated::add(&mut tree, database, selected)?;
    tree.complete();
    Ok(tree)
}

/// Where a package's file lies on the host, and where it belongs in the image, which has other diversions.
fn divert(
    path: &str,
    package: &str,
    diversions: &Diversions,
    selected: &BTreeSet<String>,
) -> (String, String) {
    match diversions.get(path) {
        Some((moved, by)) if by != package => {
            let to = if selected.contains(by) { moved } else { path };
            (moved.clone(), to.to_owned())
        }
        _ => (path.to_owned(), path.to_owned()),
    }
}

/// Whether a configuration file is as its package shipped it. One that is gone is nobody's.
fn is_pristine(path: &Path, sum: &str) -> Result<bool, BaseError> {
    match fs::read(path) {
        Ok(bytes) => Ok(md5::hex(&bytes) == sum),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(BaseError::Read { path: path.to_owned(), source }),
    }
}

impl Tree {
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Node)> {
        self.nodes.iter()
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Takes a host's file under its own name.
    pub(super) fn take_same(&mut self, path: &str) -> Result<(), BaseError> {
        self.take(path, path)
    }

    /// Takes the host's file `from` as `to`; one that isn't there is left out (dpkg can be told to skip
    /// documentation).
    pub(super) fn take(&mut self, from: &str, to: &str) -> Result<(), BaseError> {
        let Some(to) = self.resolve(to)? else { return Ok(()) };
        let path = self.root.join(from.trim_start_matches('/'));
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(());
            }
            Err(source) => return Err(BaseError::Read { path, source }),
        };
        let kind = metadata.file_type();
        let source = if kind.is_dir() {
            Source::Directory
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).map_err(|source| BaseError::Read { path, source })?;
            Source::Symlink(std::os::unix::ffi::OsStrExt::as_bytes(target.as_os_str()).to_vec())
        } else if kind.is_file() {
            let shared = (metadata.nlink() > 1).then(|| (metadata.dev(), metadata.ino()));
            Source::File { path, size: metadata.len(), shared }
        } else {
            return Ok(());
        };
        // A directory's time changes with whatever the host puts into it.
        let mtime = if kind.is_dir() { self.made_at } else { metadata.mtime() };
        let mode = metadata.permissions().mode() & 0o7777;
        self.nodes.insert(to, Node { source, mode, uid: metadata.uid(), gid: metadata.gid(), mtime });
        Ok(())
    }

    /// Adds a file that is made here, in place of any other.
    pub(super) fn make(&mut self, path: &str, mode: u32, gid: u32, bytes: Vec<u8>) {
        let node = Node { source: Source::Bytes(bytes), mode, uid: 0, gid, mtime: self.made_at };
        self.nodes.insert(path.trim_start_matches('/').to_owned(), node);
    }

    pub(super) fn make_directory(&mut self, path: &str, mode: u32) {
        let node = Node { source: Source::Directory, mode, uid: 0, gid: 0, mtime: self.made_at };
        self.nodes.insert(path.trim_start_matches('/').to_owned(), node);
    }

    pub(super) fn make_link(&mut self, path: &str, target: &str) -> Result<(), BaseError> {
        let Some(path) = self.resolve(path)? else { return Ok(()) };
        let source = Source::Symlink(target.as_bytes().to_vec());
        self.nodes.insert(path, Node { source, mode: 0o777, uid: 0, gid: 0, mtime: self.made_at });
        Ok(())
    }

    /// Whether the image has something at an absolute path.
    pub(super) fn contains(&mut self, path: &str) -> bool {
        matches!(self.resolve(path), Ok(Some(path)) if self.nodes.contains_key(&path))
    }

    pub(super) fn remove(&mut self, path: &str) {
        self.nodes.remove(path.trim_start_matches('/'));
    }

    /// The owners of all files.
    pub(super) fn owners(&self) -> (BTreeSet<u32>, BTreeSet<u32>) {
        (
            self.nodes.values().map(|node| node.uid).collect(),
            self.nodes.values().map(|node| node.gid).collect(),
        )
    }

    /// The place of an absolute path with the links among its directories followed (`/lib/x` lies in `usr/lib/x`
    /// where /usr is merged), and those links taken along. `None` for the root itself.
    fn resolve(&mut self, path: &str) -> Result<Option<String>, BaseError> {
        let path = path.trim_end_matches("/.").trim_matches('/');
        let Some((parent, name)) = path.rsplit_once('/') else {
            return Ok(Some(path.to_owned()).filter(|path| !path.is_empty() && path != "."));
        };
        let parent = self.resolve_directory(parent, 0)?;
        Ok(Some(if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") }))
    }

    fn resolve_directory(&mut self, path: &str, depth: usize) -> Result<String, BaseError> {
        if let Some(known) = self.resolved.get(path) {
            return Ok(known.clone());
        }
        let mut current = String::new();
        for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
            if part == ".." {
                current.truncate(current.rfind('/').unwrap_or(0));
                continue;
            }
            let next = if current.is_empty() { part.to_owned() } else { format!("{current}/{part}") };
            // A loop of links ends here as a plain directory; nothing is read through it.
            match fs::read_link(self.root.join(&next)) {
                Ok(target) if depth < 16 => {
                    self.take(&next, &next)?;
                    let target = target.to_string_lossy().into_owned();
                    let joined = if target.starts_with('/') { target } else { format!("{current}/{target}") };
                    current = self.resolve_directory(joined.trim_matches('/'), depth + 1)?;
                }
                _ => current = next,
            }
        }
        self.resolved.insert(path.to_owned(), current.clone());
        Ok(current)
    }

    /// Adds the directories that files lie in and no package lists.
    fn complete(&mut self) {
        let paths: Vec<String> = self.nodes.keys().cloned().collect();
        for path in paths {
            let mut path = path.as_str();
            while let Some((parent, _)) = path.rsplit_once('/') {
                if !self.nodes.contains_key(parent) {
                    self.make_directory(parent, 0o755);
                }
                path = parent;
            }
        }
    }
}
