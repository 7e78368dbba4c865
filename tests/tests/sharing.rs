//! An engine and a registry on one host: what is pushed is the same bytes on the disk.

use std::io::{IoSlice, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use corten_tests::registry::{TestRegistry, Wire, bytes_of, digest};
use corten_tests::{TestEngine, run, tar_of};
use rustix::mount::{UnmountFlags, unmount};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tempfile::TempDir;

const SHARED: &str = "Shared with the registry of this host";
/// Of a layer that can't be compressed.
const LARGE: usize = 64 << 20;

fn place() -> TempDir {
    tempfile::tempdir_in("/var/tmp").unwrap()
}

/// An engine below `directory` that has pulled an image with a large layer, from a registry that is gone; the image's name is `large`.
fn engine_with_a_pulled_image(directory: &Path) -> TestEngine {
    let root = directory.join("root");
    corten_tests::busybox_rootfs(&root);
    std::fs::write(root.join("large"), bytes_of(1, LARGE)).unwrap();
    let archive = directory.join("large.tar");
    tar_of(&root, &archive);
    std::fs::remove_dir_all(root).unwrap();
    let registry = TestRegistry::start(&directory.join("first"), &[]);
    let image = format!("{}/large", registry.address());
    let maker = TestEngine::start();
    maker.corten(&["import", &archive.display().to_string(), &image]).ok();
    std::fs::remove_file(archive).unwrap();
    maker.corten(&["push", &image]).ok();
    let engine = TestEngine::start_with(&["--data-root", &directory.join("engine").display().to_string()]);
    engine.corten(&["pull", &image]).ok();
    engine.corten(&["tag", &image, "large"]).ok();
    engine.corten(&["rmi", &image]).ok();
    engine
}

/// The largest file below a directory of blobs.
fn large(blobs: PathBuf) -> PathBuf {
    let files = std::fs::read_dir(&blobs).unwrap().map(|entry| entry.unwrap().path());
    let found = files.max_by_key(|path| path.metadata().unwrap().len()).expect("a blob");
    assert!(found.metadata().unwrap().len() >= LARGE as u64);
    found
}

fn used_bytes(directory: &Path) -> u64 {
    let stat = rustix::fs::statvfs(directory).unwrap();
    (stat.f_blocks - stat.f_bfree) * stat.f_frsize
}

fn push(engine: &TestEngine, registry: &TestRegistry, name: &str) -> String {
    let image = format!("{}/{name}", registry.address());
    engine.corten(&["tag", "large", &image]).ok();
    let pushed = engine.docker(&["push", &image]).ok();
    engine.corten(&["rmi", &image]).ok();
    pushed
}

fn runs(registry: &TestRegistry, name: &str) {
    let image = format!("{}/{name}", registry.address());
    let ran = TestEngine::start().corten(&["run", "-q", "--rm", &image, "wc", "-c", "/large"]).ok();
    assert_eq!(ran, format!("{LARGE} /large"));
}

#[test]
fn a_push_to_the_registry_of_this_host_moves_no_bytes() {
    let place = place();
    let engine = engine_with_a_pulled_image(place.path());
    let mut registry = TestRegistry::start(&place.path().join("second"), &[]);
    let pushed = push(&engine, &registry, "copy:1");
    assert!(pushed.contains(SHARED), "{pushed}");
    let (here, there) =
        (large(place.path().join("engine/image/blobs/sha256")), large(registry.data().join("blobs/sha256")));
    let inode = |path: &Path| path.metadata().unwrap().ino();
    assert_eq!(inode(&here), inode(&there), "one file with two names");
    assert_eq!(std::fs::read_dir(registry.data().join("ingest")).unwrap().count(), 0);
    // What is there is there, and other repositories have it by the engine as well.
    assert!(push(&engine, &registry, "copy:2").contains("Layer already exists"));
    runs(&registry, "copy:1");
    // Either removes its own.
    engine.corten(&["rmi", "large"]).ok();
    assert!(!here.exists());
    registry.stop();
    registry.restart();
    runs(&registry, "copy:2");
}

#[test]
fn a_file_system_with_clones_shares_the_bytes_of_two_files() {
    let place = place();
    let (disk, mounted) = (place.path().join("disk"), Mounted(place.path().join("mounted")));
    std::fs::File::create(&disk).unwrap().set_len(1 << 30).unwrap();
    run(Command::new("mkfs.btrfs").arg("-q").arg(&disk)).ok();
    std::fs::create_dir(&mounted.0).unwrap();
    run(Command::new("mount").args(["-o", "loop"]).arg(&disk).arg(&mounted.0)).ok();
    {
        let engine = engine_with_a_pulled_image(&mounted.0);
        let registry = TestRegistry::start(&mounted.0.join("second"), &[]);
        run(&mut Command::new("sync")).ok();
        let before = used_bytes(&mounted.0);
        let pushed = push(&engine, &registry, "copy:1");
        assert!(pushed.contains(SHARED), "{pushed}");
        run(&mut Command::new("sync")).ok();
        let more = used_bytes(&mounted.0).saturating_sub(before);
        assert!(more < LARGE as u64 / 2, "{more} bytes more are in use");
        let (here, there) =
            (large(mounted.0.join("engine/image/blobs/sha256")), large(registry.data().join("blobs/sha256")));
        assert_ne!(here.metadata().unwrap().ino(), there.metadata().unwrap().ino(), "two files");
        runs(&registry, "copy:1");
    }
}

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// Wherever a registry of this host points to: without somebody there who takes the file, the bytes are sent.
#[test]
fn what_is_not_taken_is_sent() {
    let place = place();
    let engine = engine_with_a_pulled_image(place.path());
    // Another file system.
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let registry = TestRegistry::start(&elsewhere.path().join("data"), &[]);
    let pushed = push(&engine, &registry, "sent:1");
    assert!(!pushed.contains(SHARED) && pushed.contains("Pushed"), "{pushed}");
    runs(&registry, "sent:1");
    assert_eq!(std::fs::read_dir(registry.data().join("ingest")).unwrap().count(), 0);
    // Nobody at the door, somebody who says nothing, somebody who lies.
    let registry = TestRegistry::start(&place.path().join("third"), &[]);
    let door = registry.data().join("share");
    std::fs::remove_file(&door).unwrap();
    assert!(!push(&engine, &registry, "gone:1").contains(SHARED));
    run(Command::new("rm").arg("-rf").arg(registry.data().join("blobs/sha256"))).ok();
    std::fs::create_dir(registry.data().join("blobs/sha256")).unwrap();
    let liar = UnixListener::bind(&door).unwrap();
    std::thread::spawn(move || {
        for stream in liar.incoming().flatten() {
            let _ = (&stream).write_all(b"taken");
        }
    });
    let pushed = push(&engine, &registry, "lied:1");
    assert!(!pushed.contains(SHARED) && pushed.contains("Pushed"), "{pushed}");
    runs(&registry, "lied:1");
}

/// What comes through the door is what `PUT` is about, no more.
#[test]
fn the_door_takes_files_for_empty_uploads_only() {
    let place = place();
    let mut registry = TestRegistry::start(&place.path().join("data"), &[]);
    let data = registry.data().display().to_string();
    let door = registry.data().join("share");
    let path = place.path().join("file");
    std::fs::write(&path, "bytes").unwrap();
    let file = std::fs::File::open(&path).unwrap();
    let offer = |path: &str, what: &dyn AsFd| {
        let mut stream = UnixStream::connect(&door).unwrap();
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [what.as_fd()];
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        // An empty packet would be none.
        let path = if path.is_empty() { " " } else { path };
        sendmsg(&stream, &[IoSlice::new(path.as_bytes())], &mut control, SendFlags::empty()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let mut wire = registry.connect();
    let begin = |wire: &mut Wire| {
        let begun = wire.ask("POST", "/v2/a/blobs/uploads/", "", b"").unwrap();
        assert_eq!(begun.header("corten-share"), data);
        begun.header("location").to_owned()
    };
    let upload = begin(&mut wire);
    for path in ["", "/", "/v2/a/blobs/uploads/", &upload.replace("/v2/a/", "/v2/b/"), "\u{0}"] {
        assert_ne!(offer(path, &file), "taken", "{path}");
    }
    // Neither a directory nor a pipe is a file.
    let directory = std::fs::File::open(place.path()).unwrap();
    let (pipe, _other) = std::io::pipe().unwrap();
    for what in [&directory as &dyn AsFd, &pipe] {
        assert_eq!(offer(&upload, what), "no");
    }
    assert_eq!(offer(&upload, &file), "taken");
    assert_eq!(offer(&upload, &file), "no", "it isn't empty any more");
    let mode = std::fs::metadata(&door).unwrap().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Nothing is added to somebody's file, and a wrong digest makes no blob of it.
    assert_eq!(wire.ask("PATCH", &upload, "", b"more").unwrap().status, 400);
    let wrong = format!("{upload}?digest=sha256:{}", "0".repeat(64));
    assert_eq!(wire.ask("PUT", &wrong, "", b"").unwrap().status, 400);
    let upload = begin(&mut wire);
    assert_eq!(wire.ask("PATCH", &upload, "", b"by").unwrap().status, 202);
    assert_eq!(offer(&upload, &file), "no", "something has come of it");
    // Given, and given up: the file stays as it was.
    let upload = begin(&mut wire);
    assert_eq!(offer(&upload, &file), "taken");
    assert_eq!(wire.ask("DELETE", &upload, "", b"").unwrap().status, 204);
    assert_eq!(file.metadata().unwrap().nlink(), 1);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "bytes");
    let upload = begin(&mut wire);
    assert_eq!(offer(&upload, &file), "taken");
    let right = format!("{upload}?digest={}", digest(b"bytes"));
    assert_eq!(wire.ask("PUT", &right, "", b"").unwrap().status, 201);
    assert_eq!(file.metadata().unwrap().nlink(), 2);
    // What was taken and not finished when the registry died is nobody's.
    let upload = begin(&mut wire);
    assert_eq!(offer(&upload, &file), "taken");
    registry.kill();
    registry.restart();
    assert_eq!(file.metadata().unwrap().nlink(), 2);
    let mut wire = registry.connect();
    assert_eq!(wire.ask("PATCH", &upload, "", b"more").unwrap().status, 202);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "bytes");
}
