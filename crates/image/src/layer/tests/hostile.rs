//! Archives that want out, that lie or that break off: refused by name, and nothing stays.

use std::fs;
use std::io::{self, Read};

use super::{Archive, DRIVERS, import, is_root, scratch};
use crate::digest::Digest;
use crate::layer::{ImportOptions, LayerError, Layers, Limits};
use crate::tar::{Entry, Kind, TarError};

/// Every driver must refuse the archive with an error that contains `words`, and keep nothing.
fn refused(archive: &[u8], options: &ImportOptions, words: &str) {
    let scratch = scratch();
    for driver in DRIVERS {
        let directory = scratch.path().join(driver.name());
        let layers = Layers::open(&directory, driver).expect("a store");
        let result = layers.import(&mut &archive[..], options, &|_| {});
        let error = result.expect_err("the archive must be refused").to_string();
        assert!(error.contains(words), "{}: {error}", driver.name());
        assert_eq!(fs::read_dir(&directory).expect("the store").count(), 0, "something stayed");
        let outside = fs::read_dir(scratch.path()).expect("the directory around").count();
        assert_eq!(outside, 1, "something got out");
        fs::remove_dir(&directory).expect("an empty store");
    }
}

fn refused_archive(archive: &Archive, words: &str) {
    refused(&archive.bytes(), &ImportOptions::default(), words);
}

#[test]
fn paths_that_leave_the_layer() {
    if !is_root() {
        return;
    }
    for path in ["../escape", "a/../../escape", "/../../escape", "..", "a/b/../../../x/"] {
        refused_archive(&Archive::default().file(path, "x"), "the path leaves the layer");
    }
    refused_archive(&Archive::default().directory("a/../.."), "a/../..");
}

#[test]
fn hard_links_to_what_is_not_there() {
    if !is_root() {
        return;
    }
    for target in ["/etc/passwd", "../../../etc/passwd", "missing", "a/missing"] {
        let archive = Archive::default().directory("a").link(Kind::HardLink, "link", target);
        refused_archive(&archive, &format!("\"link\": hard link to {target:?}"));
    }
    // Out of the layer by a symbolic link: the target is looked up inside.
    let archive =
        Archive::default().link(Kind::Symlink, "out", "/").link(Kind::HardLink, "link", "out/etc/passwd");
    refused_archive(&archive, "hard link to \"out/etc/passwd\"");
    refused_archive(
        &Archive::default().directory("a").link(Kind::HardLink, "b", "a"),
        "hard link to a directory",
    );
    let own = Archive::default().file("a", "x").link(Kind::HardLink, "a", "a");
    refused_archive(&own, "hard link to \"a\"");
}

#[test]
fn entries_below_files_and_link_loops() {
    if !is_root() {
        return;
    }
    refused_archive(&Archive::default().file("a", "x").file("a/b", "y"), "a parent is not a directory");
    let looping = Archive::default().link(Kind::Symlink, "l", "l").file("l/x", "y");
    refused_archive(&looping, "too many symbolic links");
    refused_archive(&Archive::default().file("/", "x"), "the layer's root must be a directory");
}

#[test]
fn whiteouts_of_no_name() {
    if !is_root() {
        return;
    }
    for path in [".wh.", "a/.wh..", "a/.wh..."] {
        refused_archive(&Archive::default().file(path, ""), "whiteout of no name");
    }
}

#[test]
fn more_than_the_limits_allow() {
    if !is_root() {
        return;
    }
    let archive = Archive::default().file("a/b/c", &"x".repeat(5000)).bytes();
    let with = |limits| ImportOptions { limits, expected: None };
    refused(&archive, &with(Limits { tar_bytes_max: 4096, ..Limits::default() }), "more than 4096 bytes");
    refused(&archive, &with(Limits { entries_max: 2, ..Limits::default() }), "more than 2 entries");
    refused(&archive, &with(Limits { file_bytes_max: 4999, ..Limits::default() }), "4999 bytes in one file");
    let few = Limits { data_bytes_max: 8192, ..Limits::default() };
    refused(&archive, &with(Limits { data_bytes_max: 4096, ..few }), "more than 4096 bytes of data");
    let zeros = Archive::default().file("zeros", &"\0".repeat(1 << 20)).bytes();
    let scratch = scratch();
    let layers = Layers::open(scratch.path(), DRIVERS[0]).expect("a store");
    let kept = layers.import(&mut &zeros[..], &with(few), &|_| {}).expect("zeros are no data");
    assert!(kept.disk_bytes < 64 << 10, "nor take they room: {}", kept.disk_bytes);
    assert_eq!(Limits::default().of_compressed(10 << 20).data_bytes_max, 4 << 30);
    let large = Limits::default().of_compressed(1 << 30);
    assert_eq!((large.data_bytes_max, large.entries_max), (400 << 30, 10_000_000));
    assert_eq!(Limits::default().of_compressed(16 << 20).entries_max, 1 << 20);
    let mut entry = Entry::new(Kind::File, "x".repeat(200), 0o644);
    entry.xattrs = vec![(b"user.a".to_vec(), vec![1; 60_000])];
    let archive = Archive::default().entry(entry).bytes();
    refused(&archive, &with(Limits { metadata_bytes_max: 50_000, ..Limits::default() }), "50000 allowed");
}

#[test]
fn another_digest_than_promised() {
    if !is_root() {
        return;
    }
    let options = ImportOptions { expected: Some(Digest::of(b"else")), ..ImportOptions::default() };
    refused(&Archive::default().file("a", "x").bytes(), &options, "but the image wants sha256:");
}

#[test]
fn input_that_breaks_off_names_the_entry() {
    if !is_root() {
        return;
    }
    let archive = Archive::default().file("first", "x").file("second", &"y".repeat(3000)).bytes();
    for length in [100, 700, 1024 + 100, 1536 + 1, 1536 + 2999, 1536 + 3000] {
        let scratch = scratch();
        let layers = Layers::open(scratch.path(), DRIVERS[0]).expect("a store");
        let error = import(&layers, &archive[..length]).expect_err("cut short");
        let LayerError::Tar(TarError::Truncated { place, .. }) = &error else {
            panic!("after {length} bytes: {error:?}");
        };
        let names = ["the first header", "first", "second"];
        assert!(names.contains(&place.as_str()), "after {length} bytes: {place}");
        assert_eq!(fs::read_dir(scratch.path()).expect("the store").count(), 0);
    }
}

/// Fails like a connection that drops.
struct Broken<'a>(&'a [u8]);

impl Read for Broken<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            Err(io::Error::from(io::ErrorKind::ConnectionReset))
        } else {
            self.0.read(buffer)
        }
    }
}

#[test]
fn input_that_fails_leaves_nothing() {
    if !is_root() {
        return;
    }
    let archive = Archive::default().file("first", &"x".repeat(2_000_000)).bytes();
    let scratch = scratch();
    for driver in DRIVERS {
        let layers = Layers::open(scratch.path(), driver).expect("a store");
        let mut input = Broken(&archive[..1_000_000]);
        let error = layers.import(&mut input, &ImportOptions::default(), &|_| {}).expect_err("no input");
        assert!(matches!(error, LayerError::Tar(TarError::Read { .. })), "{error:?}");
        assert_eq!(fs::read_dir(scratch.path()).expect("the store").count(), 0);
    }
}

#[test]
fn what_a_crash_leaves_is_swept() {
    let scratch = scratch();
    fs::create_dir_all(scratch.path().join("tmp-1-2/root/a")).expect("a half-made layer");
    fs::write(scratch.path().join("tmp-1-2/root/a/b"), "x").expect("a file");
    Layers::open(scratch.path(), DRIVERS[0]).expect("a store");
    assert_eq!(fs::read_dir(scratch.path()).expect("the store").count(), 0);
}

#[test]
fn a_full_disk_gives_its_space_back() {
    if !is_root() {
        return;
    }
    let archive = Archive::default().file("large", &"x".repeat(8 << 20)).bytes();
    let scratch = scratch();
    let small = scratch.path().join("small");
    fs::create_dir(&small).expect("a directory");
    let mounts = crate::mounts::LayerMounts::start(&scratch.path().join("mounts")).expect("a namespace");
    // In the thread's own namespace: the host never sees the small file system.
    let outcome = mounts.run(move || {
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", &small, "tmpfs", flags, c"size=4m").expect("a small file system");
        DRIVERS.map(|driver| {
            let layers = Layers::open(&small, driver).expect("a store");
            let error = import(&layers, &archive).expect_err("no space");
            (matches!(error, LayerError::NoSpace { .. }), fs::read_dir(&small).expect("the store").count())
        })
    });
    assert_eq!(outcome.expect("an answer"), [(true, 0), (true, 0)]);
}
