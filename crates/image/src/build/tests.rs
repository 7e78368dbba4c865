//! What is copied, as the archive says it that becomes a layer; and what tells one selection of files from another.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::tar::{Entry, Kind, Reader, Writer};

const NEWEST: i64 = 1_700_000_000;

fn open(path: &Path) -> OwnedFd {
    File::open(path).unwrap().into()
}

fn path(root: &Path, path: &str, target: &str) -> Item {
    let (root, filter) = (Arc::new(open(root)), Arc::new(TakeAll));
    let source = Source::Path { root, path: path.into(), filter, with_parents: None };
    Item { source, owner: Owner::Is(0, 0), mode: ModeChange::Keep, target: target.into() }
}

fn graft(base: Option<&Path>, items: Vec<Item>) -> Graft {
    let base = base.map(open);
    Graft { base, items, newest: NEWEST }
}

/// The entries by name, with their contents.
fn written(graft: Graft) -> Result<BTreeMap<String, (Entry, Vec<u8>)>, GraftError> {
    let mut archive = Vec::new();
    graft.write(&mut archive)?;
    let mut reader = Reader::new(&archive[..]);
    let mut entries = BTreeMap::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let mut data = Vec::new();
        reader.read_to_end(&mut data).unwrap();
        entries.insert(entry.name(), (entry, data));
    }
    Ok(entries)
}

fn names(entries: &BTreeMap<String, (Entry, Vec<u8>)>) -> Vec<&str> {
    entries.keys().map(String::as_str).collect()
}

fn tree() -> tempfile::TempDir {
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir_all(tree.path().join("src/deep")).unwrap();
    fs::write(tree.path().join("src/a"), "a").unwrap();
    fs::write(tree.path().join("src/deep/b"), "bb").unwrap();
    fs::set_permissions(tree.path().join("src/deep/b"), fs::Permissions::from_mode(0o750)).unwrap();
    symlink("deep/b", tree.path().join("src/link")).unwrap();
    fs::hard_link(tree.path().join("src/a"), tree.path().join("src/z")).unwrap();
    tree
}

#[test]
fn the_contents_of_a_directory_go_where_nothing_is() {
    let tree = tree();
    let entries = written(graft(None, vec![path(tree.path(), "src", "app/src")])).unwrap();
    assert_eq!(
        names(&entries),
        ["app/", "app/src/", "app/src/a", "app/src/deep/", "app/src/deep/b", "app/src/link", "app/src/z"]
    );
    let (deep, data) = &entries["app/src/deep/b"];
    assert_eq!((deep.mode, deep.uid, data.as_slice()), (0o750, 0, &b"bb"[..]));
    assert!(entries.values().all(|(entry, _)| entry.mtime.seconds <= NEWEST), "nothing is newer");
    assert_eq!(entries["app/src/link"].0.link, b"deep/b");
    assert_eq!(
        (entries["app/src/z"].0.kind, &entries["app/src/z"].0.link[..]),
        (Kind::HardLink, &b"app/src/a"[..])
    );
}

#[test]
fn directories_on_the_way_are_as_beneath() {
    let (tree, base) = (tree(), tempfile::tempdir().unwrap());
    fs::create_dir_all(base.path().join("usr/lib")).unwrap();
    fs::set_permissions(base.path().join("usr/lib"), fs::Permissions::from_mode(0o711)).unwrap();
    symlink("usr/lib", base.path().join("lib")).unwrap();
    symlink("/usr/../../lib", base.path().join("far")).unwrap();
    for target in ["lib/new/x", "far/new/x"] {
        let entries = written(graft(Some(base.path()), vec![path(tree.path(), "src/a", target)])).unwrap();
        assert_eq!(names(&entries), ["usr/", "usr/lib/", "usr/lib/new/", "usr/lib/new/x"], "{target}");
        assert_eq!(entries["usr/lib/"].0.mode, 0o711);
        assert_eq!(entries["usr/lib/new/"].0.mode, 0o755);
    }
    // A directory that is there keeps its permissions; one below it gets those of the source.
    fs::create_dir_all(base.path().join("app/deep")).unwrap();
    fs::set_permissions(base.path().join("app"), fs::Permissions::from_mode(0o700)).unwrap();
    let entries = written(graft(Some(base.path()), vec![path(tree.path(), "src", "app")])).unwrap();
    assert_eq!((entries["app/"].0.mode, entries["app/deep/"].0.mode), (0o700, 0o755));
}

#[test]
fn files_and_directories_do_not_replace_each_other() {
    let (tree, base) = (tree(), tempfile::tempdir().unwrap());
    fs::create_dir_all(base.path().join("app/a")).unwrap();
    fs::write(base.path().join("app/deep"), "").unwrap();
    fs::write(base.path().join("file"), "").unwrap();
    let refused = |items| written(graft(Some(base.path()), items)).unwrap_err().to_string();
    assert_eq!(
        refused(vec![path(tree.path(), "src/a", "app")]),
        "cannot replace the directory /app by a file"
    );
    assert_eq!(refused(vec![path(tree.path(), "src", "file")]), "cannot copy to non-directory: /file");
    assert_eq!(refused(vec![path(tree.path(), "src/a", "file/x")]), "cannot copy to non-directory: /file");
    assert_eq!(
        refused(vec![path(tree.path(), "src", "app")]),
        "cannot replace the directory /app/a by a file"
    );
    fs::write(tree.path().join("src/.wh.passwd"), "").unwrap();
    assert!(refused(vec![path(tree.path(), "src", "etc")]).contains(".wh.passwd"), "it would delete a file");
}

#[test]
fn an_archive_stays_below_its_place() {
    let archive = |entries: &[(&str, Kind, &str)]| {
        let mut writer = Writer::new(Vec::new());
        for (name, kind, link) in entries {
            let mut entry = Entry::new(*kind, *name, 0o640);
            (entry.uid, entry.link) = (7, link.as_bytes().to_vec());
            writer.append(&entry, &mut std::io::empty()).unwrap();
        }
        let bytes = writer.finish().unwrap();
        let source = Source::Archive { name: "x.tar".into(), reader: Box::new(std::io::Cursor::new(bytes)) };
        vec![Item { source, owner: Owner::Is(0, 0), mode: ModeChange::Keep, target: b"opt".to_vec() }]
    };
    let put = |entries: &[(&str, Kind, &str)]| written(graft(None, archive(entries)));
    let entries =
        put(&[("./d/", Kind::Directory, ""), ("/d/f", Kind::File, ""), ("h", Kind::HardLink, "d/f")]);
    let entries = entries.unwrap();
    assert_eq!(names(&entries), ["opt/", "opt/d/", "opt/d/f", "opt/h"]);
    assert_eq!((entries["opt/d/f"].0.uid, &entries["opt/h"].0.link[..]), (0, &b"opt/d/f"[..]));
    for hostile in [("../x", Kind::File, ""), ("h", Kind::HardLink, "../../etc/shadow")] {
        assert!(matches!(put(&[hostile]), Err(GraftError::Outside { .. })), "{hostile:?}");
    }
    assert!(matches!(put(&[("a/.wh..wh..opq", Kind::File, "")]), Err(GraftError::Whiteout(_))));
}

struct Without(&'static str);

impl Filter for Without {
    fn verdict(&self, path: &[u8], is_directory: bool) -> Verdict {
        match path == self.0.as_bytes() {
            true if is_directory => Verdict::Look,
            true => Verdict::Skip,
            false => Verdict::Take,
        }
    }
}

#[test]
fn fingerprints_know_what_matters() {
    let tree = tree();
    let (root, known) = (open(tree.path()), Fingerprints::default());
    let of = |filter: &dyn Filter| known.of(&root, b"src", filter, false).unwrap();
    let first = of(&TakeAll);
    assert_eq!((first.files, of(&TakeAll)), (6, first));
    let touched = File::open(tree.path().join("src/a")).unwrap();
    touched.set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(of(&TakeAll).digest, first.digest, "times don't matter");
    assert_ne!(of(&Without("src/link")).digest, first.digest);
    // Its directory is told of because of what is in it.
    assert_eq!(of(&Without("src/deep")).digest, first.digest);
    assert_eq!(of(&Without("src/deep/b")).files, 5);
    let change = |change: &dyn Fn()| {
        let before = of(&TakeAll).digest;
        change();
        assert_ne!(of(&TakeAll).digest, before);
    };
    change(&|| fs::write(tree.path().join("src/a"), "A").unwrap());
    change(&|| fs::set_permissions(tree.path().join("src/a"), fs::Permissions::from_mode(0o600)).unwrap());
    change(&|| fs::rename(tree.path().join("src/deep"), tree.path().join("src/deeq")).unwrap());
    change(&|| fs::remove_file(tree.path().join("src/z")).unwrap());
    let outside = known.of(&root, b"../../../../src/a", &TakeAll, false).unwrap();
    assert_eq!(outside.files, 1, "the root is the top");
}

#[test]
fn a_change_right_after_a_look_is_seen() {
    let tree = tempfile::tempdir().unwrap();
    let (root, known) = (open(tree.path()), Fingerprints::default());
    let mut seen = std::collections::HashSet::new();
    for number in 0..200 {
        fs::write(tree.path().join("f"), format!("{number:03}")).unwrap();
        assert!(seen.insert(known.of(&root, b"f", &TakeAll, false).unwrap().digest), "{number}");
    }
}
