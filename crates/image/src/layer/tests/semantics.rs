//! Whiteouts, duplicates, missing parents, links: what each entry does to the layer.

use super::{Archive, DRIVERS, import, is_root, scratch};
use crate::layer::{DriverKind, FileKind, LayerFiles, Layers, Stack};
use crate::tar::{Device, Entry, Kind};

/// Imports with both drivers; the stream must come back, and `check` must hold.
fn with_both(archive: &Archive, check: impl Fn(&dyn LayerFiles)) {
    let bytes = archive.bytes();
    let scratch = scratch();
    for driver in DRIVERS {
        let layers = Layers::open(&scratch.path().join(driver.name()), driver).expect("a store");
        let imported = import(&layers, &bytes).unwrap_or_else(|error| panic!("{}: {error:?}", driver.name()));
        let mut again = Vec::new();
        layers.reproduce(&imported.id, &mut again).expect("the stream");
        assert!(again == bytes, "{}: the stream came back different", driver.name());
        if driver == DriverKind::Erofs {
            let image = scratch.path().join("erofs").join(imported.id.hex()).join("layer.erofs");
            super::run("fsck.erofs", &[image.to_str().expect("a plain path")], scratch.path());
        }
        check(&*layers.files(&imported.id).expect("the files"));
    }
}

fn kind(files: &dyn LayerFiles, path: &str) -> Option<FileKind> {
    files.stat(path.as_bytes()).expect("an answer").map(|found| found.kind)
}

fn text(files: &dyn LayerFiles, path: &str) -> String {
    String::from_utf8(files.read(path.as_bytes(), 1000).expect("contents")).expect("text")
}

const PLAIN: FileKind = FileKind::Directory { opaque: false };
const OPAQUE: FileKind = FileKind::Directory { opaque: true };

#[test]
fn whiteouts_become_overlayfs_marks() {
    if !is_root() {
        return;
    }
    let archive = Archive::default()
        .file("a/.wh.gone", "")
        .file("b/.wh..wh..opq", "")
        .file(".wh..wh.plnk", "")
        .file("c/.wh.replaced", "with data that nobody needs")
        .file("c/replaced", "new")
        .file(".wh.dir", "")
        .file("dir/x", "x")
        .file("late/x", "x")
        .file(".wh.late", "");
    with_both(&archive, |files| {
        assert_eq!(kind(files, "a/gone"), Some(FileKind::Whiteout));
        assert_eq!(kind(files, "b"), Some(OPAQUE));
        assert_eq!(kind(files, "c/replaced"), Some(FileKind::File));
        assert_eq!(kind(files, "dir"), Some(OPAQUE));
        assert_eq!(kind(files, "late"), Some(OPAQUE));
        assert_eq!(text(files, "late/x"), "x");
        let names: Vec<_> = files.list(b"").expect("a list").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, [&b"a"[..], b"b", b"c", b"dir", b"late"]);
    });
}

#[test]
fn the_last_entry_of_a_name_wins() {
    if !is_root() {
        return;
    }
    let archive = Archive::default()
        .file("file", "old")
        .link(Kind::HardLink, "kept", "file")
        .file("file", "new")
        .file("dir/inside", "stays")
        .directory("dir")
        .file("tree/a/b", "deep")
        .link(Kind::HardLink, "deep", "tree/a/b")
        .file("tree-neighbour", "n")
        .file("tree", "flat")
        .link(Kind::Symlink, "link", "dir")
        .directory("link")
        .file("link/own", "o");
    with_both(&archive, |files| {
        assert_eq!((text(files, "file"), text(files, "kept")), ("new".into(), "old".into()));
        assert_eq!(text(files, "dir/inside"), "stays");
        assert_eq!((text(files, "tree"), text(files, "deep")), ("flat".into(), "deep".into()));
        assert_eq!(kind(files, "link"), Some(PLAIN));
        assert_eq!(kind(files, "dir/own"), None);
    });
}

#[test]
fn names_are_resolved_inside_the_layer() {
    if !is_root() {
        return;
    }
    let archive = Archive::default()
        .file("/absolute/file", "a")
        .file("./a//b/../c", "c")
        .directory("usr/lib")
        .link(Kind::Symlink, "lib", "usr/lib")
        .file("lib/so", "s")
        .link(Kind::Symlink, "usr/up", "../../../../outside")
        .file("usr/up/in", "i")
        .link(Kind::Symlink, "etc", "/config/etc")
        .file("etc/passwd", "p")
        .link(Kind::HardLink, "linked", "/lib/so");
    with_both(&archive, |files| {
        assert_eq!(text(files, "absolute/file"), "a");
        assert_eq!((kind(files, "a/b"), text(files, "a/c")), (None, "c".into()));
        assert_eq!((text(files, "usr/lib/so"), text(files, "linked")), ("s".into(), "s".into()));
        assert_eq!((kind(files, "lib"), text(files, "lib")), (Some(FileKind::Symlink), "usr/lib".into()));
        assert_eq!((text(files, "outside/in"), text(files, "config/etc/passwd")), ("i".into(), "p".into()));
    });
}

#[test]
fn attributes_that_steer_overlayfs_are_not_taken() {
    if !is_root() {
        return;
    }
    let mut entry = Entry::new(Kind::Directory, "d", 0o700);
    entry.xattrs = ["trusted.overlay.opaque", "trusted.overlay.redirect", "user.overlay.opaque", "user.kept"]
        .map(|name| (name.as_bytes().to_vec(), b"y".to_vec()))
        .to_vec();
    let mut device = Entry::new(Kind::CharDevice, "null", 0o666);
    device.device = Device { major: 1, minor: 3 };
    device.xattrs = vec![(b"user.not-for-devices".to_vec(), b"y".to_vec())];
    with_both(&Archive::default().entry(entry).entry(device), |files| {
        let found = files.stat(b"d").expect("an answer").expect("a directory");
        assert_eq!((found.kind, found.metadata.mode), (PLAIN, 0o700));
        assert_eq!(found.metadata.xattrs, [(b"user.kept".to_vec(), b"y".to_vec())]);
        let device = FileKind::CharDevice(Device { major: 1, minor: 3 });
        assert_eq!(kind(files, "null"), Some(device));
    });
}

#[test]
fn an_empty_archive_is_an_empty_layer() {
    if !is_root() {
        return;
    }
    with_both(&Archive::default(), |files| {
        assert_eq!(kind(files, ""), Some(PLAIN));
        assert!(files.list(b"").expect("a list").is_empty());
    });
}

#[test]
fn the_same_archive_gives_the_same_image() {
    let archive = Archive::default().file("a/b", "b").link(Kind::HardLink, "c", "a/b").directory("d").bytes();
    let images = [0, 1].map(|_| {
        let scratch = scratch();
        let layers = Layers::open(scratch.path(), DriverKind::Erofs).expect("a store");
        let imported = import(&layers, &archive).expect("a layer");
        assert!(import(&layers, &archive).expect("the same layer").existed);
        std::fs::read(scratch.path().join(imported.id.hex()).join("layer.erofs")).expect("the image")
    });
    assert!(images[0] == images[1]);
}

#[test]
fn link_counts_follow_replaced_names() {
    let archive = Archive::default()
        .file("file", "old")
        .link(Kind::HardLink, "kept", "file")
        .link(Kind::HardLink, "more", "kept")
        .file("file", "new");
    let scratch = scratch();
    let layers = Layers::open(scratch.path(), DriverKind::Erofs).expect("a store");
    let files = layers.files(&import(&layers, &archive.bytes()).expect("a layer").id).expect("its files");
    let links = |path: &[u8]| files.stat(path).expect("an answer").expect("a file").links;
    assert_eq!((links(b"file"), links(b"kept"), links(b"more")), (1, 2, 2));
}

#[test]
fn a_stack_reads_as_overlayfs_would() {
    let scratch = scratch();
    let layers = Layers::open(scratch.path(), DriverKind::Erofs).expect("a store");
    let bottom = Archive::default()
        .file("etc/passwd", "bottom")
        .file("etc/group", "bottom")
        .file("gone/x", "x")
        .file("opaque/x", "x")
        .link(Kind::Symlink, "link", "/etc/../opaque/../etc/group");
    let middle =
        Archive::default().file("etc/passwd", "middle").file(".wh.gone", "").file("opaque/.wh..wh..opq", "");
    let top = Archive::default().link(Kind::Symlink, "etc/alias", "passwd").file("opaque/y", "y");
    let files = [top, middle, bottom].map(|archive| {
        let id = import(&layers, &archive.bytes()).expect("a layer").id;
        layers.files(&id).expect("its files")
    });
    let stack = Stack::new(files.into());
    let read = |path: &str| {
        let contents = stack.read(path, 100).expect("an answer");
        contents.map(|bytes| String::from_utf8(bytes).expect("text"))
    };
    assert_eq!(read("/etc/passwd").as_deref(), Some("middle"));
    assert_eq!(read("etc/alias").as_deref(), Some("middle"));
    assert_eq!(read("/link").as_deref(), Some("bottom"));
    assert_eq!(read("/opaque/y").as_deref(), Some("y"));
    assert_eq!(read("/opaque/x"), None);
    assert_eq!(read("/gone/x"), None);
    assert_eq!(read("/etc"), None);
    assert_eq!(read("/etc/passwd/x"), None);
}
