//! Trees there and back, and archives that want out. As any user, but for owners.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::*;
use crate::tar::{Entry, Kind, Writer};

fn root(path: &Path) -> std::os::fd::OwnedFd {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()
}

fn packed(directory: &Path, path: &str) -> Vec<u8> {
    let (source, _) = Source::find(&root(directory), path).unwrap();
    let mut archive = Buffered::new(Vec::new());
    pack(source, &mut archive).unwrap();
    archive.into_inner()
}

fn unpacked(directory: &Path, destination: &str, archive: &[u8]) -> Result<(), UnpackError> {
    let options = UnpackOptions { owner: Owner::Caller, keep_kinds: true, ..UnpackOptions::default() };
    unpack(&root(directory), destination.as_bytes(), Plain(archive), &options)
}

fn archive(entries: &[(Kind, &str, &str)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (kind, path, content) in entries {
        let mut entry = Entry::new(*kind, *path, 0o755);
        match kind {
            Kind::File => entry.size = content.len() as u64,
            _ => entry.link = content.as_bytes().to_vec(),
        }
        let mut data = if *kind == Kind::File { content.as_bytes() } else { b"" };
        writer.append(&entry, &mut data).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn a_tree_comes_back_as_it_was() {
    let place = tempfile::tempdir().unwrap();
    let tree = place.path().join("tree");
    fs::create_dir_all(tree.join("a/b")).unwrap();
    fs::write(tree.join("a/file"), vec![7; 1_000_001]).unwrap();
    fs::hard_link(tree.join("a/file"), tree.join("a/b/again")).unwrap();
    fs::set_permissions(tree.join("a/file"), fs::Permissions::from_mode(0o751)).unwrap();
    symlink("/nowhere", tree.join("link")).unwrap();
    fs::create_dir(place.path().join("to")).unwrap();
    unpacked(place.path(), "/to", &packed(place.path(), "/tree")).unwrap();
    let to = place.path().join("to/tree");
    assert_eq!(fs::read(to.join("a/b/again")).unwrap(), vec![7; 1_000_001]);
    let (one, two) = (fs::metadata(to.join("a/file")).unwrap(), fs::metadata(to.join("a/b/again")).unwrap());
    assert_eq!((one.ino(), one.mode() & 0o777), (two.ino(), 0o751));
    assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/nowhere"));
    let time = |path: &Path| fs::metadata(path).unwrap().mtime();
    assert_eq!(time(&tree.join("a/b")), time(&to.join("a/b")));
}

#[test]
fn names_begin_as_the_path_ends() {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("d")).unwrap();
    fs::write(place.path().join("d/f"), "").unwrap();
    for (path, first, second) in
        [("/d", "d/", "d/f"), ("/d/", "d/", "d/f"), ("/d/.", "./", "./f"), ("/", "/", "/d/")]
    {
        let archive = packed(place.path(), path);
        let mut reader = crate::tar::Reader::new(&archive[..]);
        let names: Vec<String> =
            std::iter::from_fn(|| reader.next_entry().unwrap().map(|e| e.name())).take(2).collect();
        assert_eq!(names, [first, second]);
    }
}

#[test]
fn a_tree_of_any_depth_needs_few_descriptors() {
    let place = tempfile::tempdir().unwrap();
    let mut current = root(place.path());
    for _ in 0..600 {
        rustix::fs::mkdirat(&current, c"d", Mode::RWXU).unwrap();
        current =
            rustix::fs::openat(&current, c"d", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    rustix::fs::symlinkat(c"end", &current, c"z").unwrap();
    let archive = packed(place.path(), "/d");
    let mut reader = crate::tar::Reader::new(&archive[..]);
    let mut count = 0;
    while reader.next_entry().unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 601);
}

#[test]
fn nothing_gets_out_of_the_root() {
    let place = tempfile::tempdir().unwrap();
    let (inside, outside) = (place.path().join("in"), place.path().join("out"));
    fs::create_dir_all(inside.join("to")).unwrap();
    fs::create_dir(&outside).unwrap();
    let absolute = outside.to_str().unwrap();
    for entries in [
        vec![(Kind::File, "../../out/x", "x")],
        vec![(Kind::HardLink, "x", "../../out/x")],
        vec![(Kind::Symlink, "l", absolute), (Kind::File, "l/x", "x")],
        vec![(Kind::Symlink, "l", "../../out"), (Kind::File, "l/x", "x")],
    ] {
        assert!(unpacked(&inside, "/to", &archive(&entries)).is_err(), "{entries:?}");
        let _ = fs::remove_file(inside.join("to/l"));
    }
    // The root is the top, as for a process there.
    symlink("../../..", inside.join("to/up")).unwrap();
    unpacked(&inside, "/to", &archive(&[(Kind::File, "up/top", "x"), (Kind::File, "/abs", "y")])).unwrap();
    assert!(inside.join("top").exists() && inside.join("to/abs").exists());
    assert!(fs::read_dir(&outside).unwrap().next().is_none());
}

#[test]
fn kinds_are_kept_when_that_is_asked() {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("d")).unwrap();
    fs::write(place.path().join("f"), "").unwrap();
    let error = |entries: &[(Kind, &str, &str)]| {
        unpacked(place.path(), "/", &archive(entries)).unwrap_err().to_string()
    };
    assert!(error(&[(Kind::File, "d", "x")]).contains("cannot overwrite directory \"d\" with non-directory"));
    assert!(
        error(&[(Kind::Directory, "f", "")]).contains("cannot overwrite non-directory \"f\" with directory")
    );
    unpacked(
        place.path(),
        "/",
        &archive(&[(Kind::Directory, "d", ""), (Kind::File, "f", "new"), (Kind::File, "n/m", "")]),
    )
    .unwrap();
    assert_eq!(fs::read_to_string(place.path().join("f")).unwrap(), "new");
    assert!(place.path().join("n/m").exists());
}

#[test]
fn links_are_resolved_as_far_as_they_lead() {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir_all(place.path().join("a/b")).unwrap();
    for (link, target) in
        [("abs", "/a"), ("rel", "a/b"), ("up", "../../../a"), ("bad", "/no/where"), ("loop", "loop")]
    {
        symlink(target, place.path().join(link)).unwrap();
    }
    let root = root(place.path());
    for (path, resolved) in [
        ("/abs/b", "/a/b"),
        ("rel", "/a/b"),
        ("/up", "/a"),
        ("/bad/x", "/no/where/x"),
        ("/a/../..", "/"),
        ("", "/"),
    ] {
        assert_eq!(resolve(&root, path.as_bytes()).unwrap(), resolved.as_bytes(), "{path}");
    }
    assert!(resolve(&root, b"/loop").is_err());
    assert_eq!(resolve_existing(&root, b"/bad").unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(stat(&root, b"/rel").unwrap().link_target.as_deref(), Some(&b"/a/b"[..]));
    assert!(stat(&root, b"/rel/").unwrap().is_directory());
}

#[test]
fn a_directory_that_an_archive_replaces_is_not_written_into_any_more() {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("real")).unwrap();
    let entries = [
        (Kind::Directory, "d", ""),
        (Kind::File, "d/one", "1"),
        (Kind::Symlink, "d", "real"),
        (Kind::File, "d/two", "2"),
    ];
    let options = UnpackOptions { owner: Owner::Caller, ..UnpackOptions::default() };
    unpack(&root(place.path()), b"/", Plain(&archive(&entries)[..]), &options).unwrap();
    assert_eq!(fs::read_to_string(place.path().join("real/two")).unwrap(), "2");
}

/// A container makes it in a second, and its paths together would fill the memory of the engine.
#[test]
fn a_tree_with_endless_paths_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let name = "d".repeat(250);
    let mut current = root(place.path());
    for _ in 0..20 {
        rustix::fs::mkdirat(&current, name.as_str(), Mode::RWXU).unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        current = rustix::fs::openat(&current, name.as_str(), flags, Mode::empty()).unwrap();
    }
    let error = pack_contents(root(place.path()), &mut Buffered::new(Vec::new())).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("name too long"), "{cause}");
    corten_sys::tree::remove(&place.path().join(&name)).unwrap();
}
