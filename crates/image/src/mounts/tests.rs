//! In private namespaces, as root: nothing may be seen on the host, nothing may stay.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::OFlags;

use super::*;
use crate::layer::{DriverKind, ImportOptions, Layers};
use crate::tar::{Entry, Kind, Writer};

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: this test needs root");
    }
    root
}

fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("corten-mounts-").tempdir_in("/var/tmp").expect("a scratch directory")
}

/// A layer with these files.
fn layer(layers: &Layers, files: &[(&str, &str)]) -> DiffId {
    let mut writer = Writer::new(Vec::new());
    for (path, data) in files {
        let mut entry = Entry::new(Kind::File, *path, 0o640);
        entry.size = data.len() as u64;
        entry.uid = 33;
        writer.append(&entry, &mut data.as_bytes()).expect("an entry");
    }
    let archive = writer.finish().expect("an archive");
    layers.import(&mut &archive[..], &ImportOptions::default(), &|_| {}).expect("a layer").id
}

fn snapshot(scratch: &Path, mounts: &LayerMounts, layers: &Layers, ids: &[DiffId]) -> Rootfs {
    let mount =
        |id: &DiffId| mounts.mount(*id, &layers.mount_source(id).expect("a source")).expect("a mount");
    let (upper, work) = (scratch.join("upper"), scratch.join("work"));
    fs::create_dir_all(&upper).expect("a directory");
    fs::create_dir_all(&work).expect("a directory");
    Rootfs { lower: ids.iter().map(mount).collect(), upper, work }
}

fn text(root: &OwnedFd, path: &str) -> io::Result<String> {
    let mut text = String::new();
    open_in_root(root, Path::new(path), OFlags::RDONLY)?.read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn layers_are_mounted_once_and_only_in_the_threads_namespace() {
    if !is_root() {
        return;
    }
    let scratch = scratch();
    let layers = Layers::open(&scratch.path().join("layers"), DriverKind::Erofs).expect("a store");
    let id = layer(&layers, &[("f", "text")]);
    let source = layers.mount_source(&id).expect("a source");
    let at = scratch.path().join("mounts");
    for via in [Via::Auto, Via::File, Via::Loop] {
        let mounts = LayerMounts::start_via(&at, via).expect("a namespace");
        let target = mounts.mount(id, &source).expect("a mount");
        assert_eq!(mounts.mount(id, &source).expect("the same mount"), target);
        let inside = target.clone();
        let table = mounts.run(move || {
            assert_eq!(fs::read_to_string(inside.join("f")).expect("contents"), "text");
            assert!(fs::write(inside.join("g"), "x").is_err(), "a layer must not be writable");
            fs::read_to_string("/proc/thread-self/mounts").expect("a table")
        });
        let table = table.expect("an answer");
        let lines: Vec<&str> = table.lines().filter(|line| line.contains(" erofs ")).collect();
        let ours: Vec<&&str> =
            lines.iter().filter(|line| line.contains(target.to_str().unwrap_or("?"))).collect();
        assert_eq!(ours.len(), 1, "{table}");
        assert_eq!(ours[0].starts_with("/dev/loop"), via == Via::Loop, "{}", ours[0]);
        let host = fs::read_to_string("/proc/self/mounts").expect("a table");
        assert!(!host.contains(at.to_str().expect("a plain path")), "the host sees it");
        assert!(!target.exists());
        mounts.unmount(&id).expect("unmounted");
        mounts.unmount(&id).expect("nothing to do");
    }
}

#[test]
fn a_detached_root_shows_all_layers_and_can_be_written_below() {
    if !is_root() {
        return;
    }
    let scratch = scratch();
    for driver in [DriverKind::Erofs, DriverKind::Directory] {
        let layers = Layers::open(&scratch.path().join("layers"), driver).expect("a store");
        let bottom = layer(&layers, &[("etc/passwd", "bottom"), ("etc/group", "bottom"), ("gone", "x")]);
        let top = layer(&layers, &[("etc/passwd", "top"), (".wh.gone", "")]);
        let mounts = LayerMounts::start(&scratch.path().join("mounts")).expect("a namespace");
        let rootfs = snapshot(&scratch.path().join(driver.name()), &mounts, &layers, &[top, bottom]);
        fs::write(rootfs.upper.join("own"), "own").expect("a file of the container");

        let root = mounts.detached_root(&rootfs, true).expect("a root");
        assert_eq!(text(&root, "/etc/passwd").expect("contents"), "top");
        assert_eq!(text(&root, "etc/group").expect("contents"), "bottom");
        assert_eq!(text(&root, "own").expect("contents"), "own");
        assert!(text(&root, "gone").is_err());
        drop(root);

        let root = mounts.detached_root(&rootfs, false).expect("a writable root");
        let etc = open_in_root(&root, Path::new("etc"), OFlags::RDONLY | OFlags::DIRECTORY).expect("etc");
        rustix::fs::unlinkat(&etc, "group", rustix::fs::AtFlags::empty()).expect("removed");
        assert!(text(&root, "etc/group").is_err());
        drop((etc, root));
        assert!(rootfs.upper.join("etc/group").exists() || rootfs.upper.join("etc").is_dir());
        drop(mounts);
        [top, bottom].iter().for_each(|id| layers.remove(id).expect("removed"));
    }
}

#[test]
fn nothing_below_a_root_leads_out_of_it() {
    let scratch = scratch();
    let root = scratch.path().join("root");
    fs::create_dir_all(root.join("etc")).expect("a directory");
    fs::write(root.join("etc/passwd"), "inside").expect("a file");
    symlink("/etc/passwd", root.join("absolute")).expect("a link");
    symlink("../../../../../etc/passwd", root.join("relative")).expect("a link");
    symlink("/proc/self/root", root.join("magic")).expect("a link");
    let root = OwnedFd::from(fs::File::open(&root).expect("the root"));
    for path in ["absolute", "/absolute", "relative", "../../etc/passwd", "/../etc/passwd"] {
        assert_eq!(text(&root, path).expect(path), "inside", "{path}");
    }
    assert!(text(&root, "magic/etc/passwd").is_err());
    assert!(text(&root, "missing").is_err());
}

#[test]
fn a_tree_is_copied_with_everything() {
    if !is_root() {
        return;
    }
    let scratch = scratch();
    let (from, to) = (scratch.path().join("from"), scratch.path().join("to"));
    fs::create_dir_all(from.join("data/sub")).expect("directories");
    fs::create_dir(&to).expect("a directory");
    fs::write(from.join("data/sub/file"), "text").expect("a file");
    fs::hard_link(from.join("data/sub/file"), from.join("data/second")).expect("a link");
    symlink("/etc/passwd", from.join("data/link")).expect("a link");
    fs::set_permissions(from.join("data"), fs::Permissions::from_mode(0o1770)).expect("a mode");
    fs::set_permissions(from.join("data/sub/file"), fs::Permissions::from_mode(0o4755)).expect("a mode");
    std::os::unix::fs::lchown(from.join("data/link"), Some(5), Some(6)).expect("an owner");
    std::os::unix::fs::chown(from.join("data"), Some(7), Some(8)).expect("an owner");
    let root = OwnedFd::from(fs::File::open(&from).expect("the root"));

    copy_tree(&root, Path::new("/data"), &to).expect("a copy");
    let facts = |path: &str| {
        let metadata = fs::symlink_metadata(to.join(path)).expect(path);
        (metadata.mode() & 0o7777, metadata.uid(), metadata.gid(), metadata.nlink())
    };
    let (mode, uid, gid, _) = facts("");
    assert_eq!((mode, uid, gid), (0o1770, 7, 8));
    assert_eq!(facts("sub/file"), (0o4755, 0, 0, 2));
    assert_eq!(fs::read_to_string(to.join("second")).expect("contents"), "text");
    assert_eq!(facts("link").1, 5);
    assert_eq!(fs::read_link(to.join("link")).expect("a target"), Path::new("/etc/passwd"));

    copy_tree(&root, Path::new("/missing"), &to).expect("nothing to copy");
    copy_tree(&root, Path::new("/data/second"), &to).expect("no directory");
}

#[test]
fn a_deep_directory_is_copied_on_a_small_stack() {
    if !is_root() {
        return;
    }
    let scratch = scratch();
    let (from, to) = (scratch.path().join("from"), scratch.path().join("to"));
    fs::create_dir(&to).expect("a directory");
    let mut deepest = from.join("data");
    for _ in 0..1500 {
        deepest.push("d");
    }
    fs::create_dir_all(&deepest).expect("directories");
    fs::write(deepest.join("file"), "text").expect("a file");
    let root = fs::File::open(&from).expect("a root");
    let target = to.clone();
    let small = std::thread::Builder::new()
        .stack_size(128 << 10)
        .spawn(move || copy_tree(&root, Path::new("/data"), &target));
    assert!(small.expect("a thread").join().expect("no overflow").expect("a copy"));
    let copied = to.join(deepest.strip_prefix(from.join("data")).expect("a path")).join("file");
    assert_eq!(fs::read_to_string(copied).expect("contents"), "text");
}
