//! Everything that can be told about the files below a directory, for comparing two of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};

use crate::digest::{Digest, Hasher};
use crate::layer::{FileKind, Metadata, inspect, open_beneath};

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub kind: FileKind,
    pub metadata: Metadata,
    pub links: u32,
    /// The first name, in order, that the same inode has.
    pub same_as: Vec<u8>,
    pub size: u64,
    pub contents: Option<Digest>,
    pub target: Option<Vec<u8>>,
}

pub(super) fn collect(directory: &Path) -> BTreeMap<Vec<u8>, Facts> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, directory, flags, Mode::empty()).expect("the directory");
    let mut all = BTreeMap::new();
    visit(&root, b"", &mut all, &mut BTreeMap::new());
    all
}

fn visit(
    root: &OwnedFd,
    path: &[u8],
    all: &mut BTreeMap<Vec<u8>, Facts>,
    inodes: &mut BTreeMap<u64, Vec<u8>>,
) {
    let node = open_beneath(root, path, OFlags::PATH | OFlags::NOFOLLOW).expect("a node");
    let found = inspect(&node).expect("facts");
    let is_directory = matches!(found.kind, FileKind::Directory { .. });
    let inode = rustix::fs::fstat(&node).expect("stat").st_ino;
    let same_as = inodes.entry(inode).or_insert_with(|| path.to_vec()).clone();
    let (mut contents, mut target) = (None, None);
    match found.kind {
        FileKind::File => {
            let file = open_beneath(root, path, OFlags::RDONLY | OFlags::NOFOLLOW).expect("a file");
            contents = Some(digest(&File::from(file), found.size));
        }
        FileKind::Symlink => {
            target = Some(rustix::fs::readlinkat(&node, "", Vec::new()).expect("a target").into_bytes());
        }
        _ => {}
    }
    // What a file system calls the size and link count of a directory is its own affair.
    let file = matches!(found.kind, FileKind::File | FileKind::Symlink);
    let facts = Facts {
        kind: found.kind,
        metadata: found.metadata,
        links: if is_directory { 0 } else { found.links },
        same_as,
        size: if file { found.size } else { 0 },
        contents,
        target,
    };
    all.insert(path.to_vec(), facts);
    if is_directory {
        let directory = open_beneath(root, path, OFlags::DIRECTORY | OFlags::RDONLY).expect("a directory");
        let entries = rustix::fs::Dir::read_from(&directory).expect("its entries");
        let mut names: Vec<Vec<u8>> =
            entries.map(|entry| entry.expect("an entry").file_name().to_bytes().to_vec()).collect();
        names.sort();
        for name in names.into_iter().filter(|name| name != b"." && name != b"..") {
            let below = if path.is_empty() { name } else { [path, b"/", &name].concat() };
            visit(root, &below, all, inodes);
        }
    }
}

/// Of a whole file; of large (so: sparse) ones the beginning, the end and parts between.
fn digest(file: &File, size: u64) -> Digest {
    const WHOLE_MAX: u64 = 16 << 20;
    let mut hasher = Hasher::new();
    let mut bytes = vec![0u8; 1 << 20];
    let step = if size <= WHOLE_MAX { 1 << 20 } else { 64 << 20 };
    for offset in (0..size).step_by(step).chain([size.saturating_sub(1 << 20)]) {
        let count = file.read_at(&mut bytes, offset).expect("its bytes");
        hasher.update(&bytes[..count]);
    }
    hasher.finish()
}

/// Panics with the first differences.
pub(super) fn assert_same(what: &str, ours: &BTreeMap<Vec<u8>, Facts>, theirs: &BTreeMap<Vec<u8>, Facts>) {
    let names: std::collections::BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    let different: Vec<String> = names
        .into_iter()
        .filter(|name| ours.get(*name) != theirs.get(*name))
        .take(5)
        .map(|name| {
            format!(
                "{}\n  ours:   {:?}\n  theirs: {:?}",
                name.escape_ascii(),
                ours.get(name),
                theirs.get(name)
            )
        })
        .collect();
    assert!(different.is_empty(), "{what} differs:\n{}", different.join("\n"));
}
