//! One suite for both drivers, and for both ways to mount EROFS: what GNU tar extracts is what a layer shows.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use super::facts::{Facts, assert_same, collect};
use super::{Archive, DRIVERS, import, is_root, run, scratch};
use crate::digest::Hasher;
use crate::layer::{DriverKind, FileKind, LayerFiles, Layers, MountSource};
use crate::mounts::{LayerMounts, Via};
use crate::tar::Kind;

/// A tree with everything tar can carry.
fn make_tree(root: &Path) {
    let script = r#"
        set -e
        umask 022
        mkdir -p plain/deep/er empty many 'odd !"$ names' "$(printf 'lat\351n')"
        printf hello > plain/hello; : > plain/empty
        head -c 100000 /dev/urandom > plain/blocks
        head -c 8192 /dev/urandom > plain/exact
        head -c 4095 /dev/urandom > plain/nearly
        for i in 0 1 5 31 32 33 1000 4031 4032 4033 4096 4097; do head -c $i /dev/urandom > plain/deep/size$i; done
        for i in $(seq 3000); do printf "$i" > many/file-$i; done
        ln plain/hello plain/deep/hard; ln plain/hello another-hard; ln plain/blocks many/blocks
        ln -s /etc/passwd absolute; ln -s ../../../escape plain/relative; ln -s "$(head -c 3000 /dev/zero | tr '\0' x)" long-target
        mknod char c 5 1; mknod block b 259 1048575; mkfifo fifo
        ln char char-hard; ln -s x sym-hard-source; ln sym-hard-source sym-hard
        chown 1000:2000 plain/empty; chown 100000:4000000000 plain/nearly; chown -h 65536:7 absolute
        chmod 4755 plain/exact; chmod 1777 empty; chmod 0 plain/deep/size1; chmod 2750 plain/deep
        setfattr -n user.short -v x plain/hello; setfattr -n user.long -v "$(head -c 2500 /dev/zero | tr '\0' v)" plain/blocks
        setfattr -n trusted.t -v t absolute; setfattr -n trusted.t -v t char; setfattr -n user.same -v same plain; setfattr -n user.same -v same empty
        setfattr -n user.same -v same plain/deep; setfattr -n security.thing -v s plain/exact; setfattr -n user.empty plain/nearly
        touch -d '1969-12-31 23:59:58.25 UTC' plain/hello; touch -d '2038-01-20 00:00:00.123456789 UTC' plain/exact
        touch -h -d '2001-02-03 04:05:06.000000007 UTC' absolute; touch -d '2100-01-01 UTC' fifo
        touch -d '2000-01-01 UTC' plain/deep plain
        n=$(head -c 200 /dev/zero | tr '\0' n); mkdir -p $n/$n; printf deep > $n/$n/$n; ln $n/$n/$n long-hard
        chmod 0711 .
    "#;
    run("sh", &["-c", script], root);
    symlink("é", root.join("unicode-ünï")).expect("a link");
    // Runs at odd places, holes before, between and behind; one file is only a hole.
    let sparse = fs::File::create(root.join("sparse")).expect("a file");
    sparse.write_all_at(&[7; 5000], 1 << 20).expect("a run");
    sparse.write_all_at(&[8; 12345], (3 << 20) + 4096).expect("a run");
    sparse.set_len((5 << 20) + 17).expect("a size");
    let hole = fs::File::create(root.join("hole")).expect("a file");
    hole.set_len(20_000_001).expect("a size");
    let front = fs::File::create(root.join("front")).expect("a file");
    front.write_all_at(&[9; 70_000], 0).expect("a run");
    front.set_len(200_000).expect("a size");
}

/// Imports with every driver, and compares with what GNU tar makes of the same archive.
fn check_archive(what: &str, archive: &[u8], scratch: &Path) {
    let extracted = scratch.join("extracted");
    fs::create_dir(&extracted).expect("a directory");
    fs::write(scratch.join("archive.tar"), archive).expect("the archive");
    let options = [
        "--xattrs",
        "--xattrs-include=*",
        "--numeric-owner",
        "--same-owner",
        "--delay-directory-restore",
        "-xpf",
    ];
    run("tar", &[&options[..], &["../archive.tar"]].concat(), &extracted);
    let theirs = collect(&extracted);
    for driver in DRIVERS {
        let what = format!("{what}, driver {}", driver.name());
        let layers = Layers::open(&scratch.join(driver.name()), driver).expect("a store");
        let imported = import(&layers, archive).unwrap_or_else(|error| panic!("{what}: {error:?}"));
        assert_eq!(imported.tar_bytes, archive.len() as u64);

        let mut again = Vec::new();
        layers.reproduce(&imported.id, &mut again).expect("the stream");
        assert!(again == archive, "{what}: the stream came back different");

        let files = layers.files(&imported.id).expect("the files");
        check_files(&what, &*files, &theirs);
        let source = layers.mount_source(&imported.id).expect("a source");
        if let MountSource::Erofs(image) = &source {
            check_image(&what, image);
        }
        let vias: &[Via] = if driver == DriverKind::Erofs { &[Via::File, Via::Loop] } else { &[Via::Auto] };
        for &via in vias {
            let mounts = LayerMounts::start_via(&scratch.join("mounts"), via).expect("a namespace");
            let at =
                mounts.mount(imported.id, &source).unwrap_or_else(|e| panic!("{what} via {via:?}: {e:?}"));
            let ours = mounts.run(move || collect(&at)).expect("an answer");
            assert_same(&format!("{what} via {via:?}"), &ours, &theirs);
            mounts.unmount(&imported.id).expect("no mount");
        }
        layers.remove(&imported.id).expect("no layer");
        assert_eq!(fs::read_dir(scratch.join(driver.name())).expect("a store").count(), 0);
    }
    fs::remove_dir_all(&extracted).expect("no directory");
}

/// fsck.erofs reads every file; the image is no larger than it should be.
fn check_image(what: &str, image: &Path) {
    let image = image.to_str().expect("a plain path");
    let output = std::process::Command::new("fsck.erofs").args(["--extract", image]).output();
    let output = output.expect("fsck.erofs of erofs-utils");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && !errors.contains("<E>"), "{what}: fsck.erofs: {errors}");
}

/// The same facts by reading the layer without a mount.
fn check_files(what: &str, files: &dyn LayerFiles, theirs: &BTreeMap<Vec<u8>, Facts>) {
    for (path, facts) in theirs {
        let name = path.escape_ascii();
        let found = files.stat(path).expect("an answer").unwrap_or_else(|| panic!("{what}: no {name}"));
        assert_eq!((found.kind, &found.metadata), (facts.kind, &facts.metadata), "{what}: {name}");
        if matches!(found.kind, FileKind::File | FileKind::Symlink) {
            assert_eq!((found.size, found.links), (facts.size, facts.links), "{what}: {name}");
        }
        match facts.kind {
            FileKind::File if facts.size > 0 && facts.size < 1 << 20 => {
                let contents = files.read(path, 1 << 20).expect("contents");
                let mut hasher = Hasher::new();
                hasher.update(&contents);
                // As `facts` does for small files: the end comes twice.
                hasher.update(&contents);
                assert_eq!(Some(hasher.finish()), facts.contents, "{what}: {name}");
            }
            FileKind::Symlink => assert_eq!(files.read(path, 1 << 24).ok(), facts.target, "{what}: {name}"),
            FileKind::Directory { .. } => {
                let prefix = if path.is_empty() { Vec::new() } else { [&path[..], b"/"].concat() };
                let below = theirs.keys().filter_map(|known| known.strip_prefix(&prefix[..]));
                let names: Vec<Vec<u8>> =
                    below.filter(|n| !n.is_empty() && !n.contains(&b'/')).map(<[u8]>::to_vec).collect();
                let listed: Vec<Vec<u8>> =
                    files.list(path).expect("a list").into_iter().map(|(name, _)| name).collect();
                assert_eq!(listed, names, "{what}: names in {name}");
            }
            _ => {}
        }
    }
}

fn archive_of(tree: &Path, options: &[&str]) -> Vec<u8> {
    run("tar", &[&["--numeric-owner", "--sort=name"], options, &["-cf", "-", "."]].concat(), tree)
}

#[test]
fn shows_what_gnu_tar_extracts_in_every_format() {
    if !is_root() {
        return;
    }
    let scratch = scratch();
    let tree = scratch.path().join("tree");
    fs::create_dir(&tree).expect("a directory");
    make_tree(&tree);
    let xattrs = ["--format=posix", "--xattrs", "--xattrs-include=*"];
    check_archive("posix", &archive_of(&tree, &xattrs), scratch.path());
    for version in ["0.0", "0.1", "1.0"] {
        let version = format!("--sparse-version={version}");
        let options = [&xattrs[..], &["--sparse", &version]].concat();
        check_archive(&version, &archive_of(&tree, &options), scratch.path());
    }
    check_archive("gnu", &archive_of(&tree, &["--format=gnu", "--sparse"]), scratch.path());
}

#[test]
fn keeps_a_real_system() {
    if !is_root() {
        return;
    }
    let scratch = scratch();
    let usr = PathBuf::from("/usr");
    let parts = ["./sbin", "./lib/python3", "./share/perl5", "./share/zoneinfo"].into_iter();
    let parts: Vec<&str> = parts.filter(|part| usr.join(part).exists()).collect();
    // With an entry for every directory: what an extraction makes of missing ones depends on its clock.
    let options = ["--numeric-owner", "-cf", "-", "--no-recursion", ".", "./lib", "./share", "--recursion"];
    let archive = run("tar", &[&options[..], &parts].concat(), &usr);
    check_archive("/usr", &archive, scratch.path());

    let layers = Layers::open(&scratch.path().join("size"), DriverKind::Erofs).expect("a store");
    let imported = import(&layers, &archive).expect("a layer");
    let (disk, unpacked) = (imported.disk_bytes as f64, imported.unpacked_bytes as f64);
    assert!(disk <= unpacked * 1.15, "{disk} bytes of disk for {unpacked} bytes of files");
}

#[test]
fn holds_a_file_beyond_four_gigabytes() {
    if !is_root() {
        return;
    }
    let scratch = scratch();
    let tree = scratch.path().join("tree");
    fs::create_dir(&tree).expect("a directory");
    let large = fs::File::create(tree.join("large")).expect("a file");
    large.write_all_at(&[1; 4096], (5 << 30) + 100).expect("a run");
    check_archive("large", &archive_of(&tree, &["--format=posix", "--sparse"]), scratch.path());
}

#[test]
fn holds_a_directory_of_a_hundred_thousand_names() {
    if !is_root() {
        return;
    }
    const NAMES: usize = 100_000;
    let mut archive = Archive::default().directory("many");
    for number in 0..NAMES {
        archive = archive.link(Kind::Symlink, &format!("many/name-{number:x}"), &number.to_string());
    }
    let scratch = scratch();
    let layers = Layers::open(&scratch.path().join("layers"), DriverKind::Erofs).expect("a store");
    let imported = import(&layers, &archive.bytes()).expect("a layer");
    let files = layers.files(&imported.id).expect("the files");
    assert_eq!(files.list(b"many").expect("a list").len(), NAMES);
    assert_eq!(files.read(b"many/name-1869f", 100).expect("a target"), b"99999");
    assert!(files.stat(b"many/name-186a0").expect("an answer").is_none());

    let source = layers.mount_source(&imported.id).expect("a source");
    let mounts = LayerMounts::start(&scratch.path().join("mounts")).expect("a namespace");
    let at = mounts.mount(imported.id, &source).expect("a mount");
    let count = mounts.run(move || {
        let all = fs::read_dir(at.join("many")).expect("a directory").count();
        let right = |n: &usize| {
            let target = fs::read_link(at.join(format!("many/name-{n:x}"))).expect("a link");
            target.as_os_str() == n.to_string().as_str()
        };
        (all, (0..NAMES).step_by(97).filter(right).count())
    });
    assert_eq!(count.expect("an answer"), (NAMES, NAMES.div_ceil(97)));
}
