//! Disks that are full, or can't be written.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use corten_tests::{TestEngine, eventually, run};
use rustix::mount::{MountFlags, UnmountFlags};

use super::{first_pid, interfaces, kill, layers_in, state};

/// A small file system of its own.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(parent: &Path, size: &str) -> Self {
        let path = parent.join("small");
        std::fs::create_dir(&path).expect("mount point");
        let options = std::ffi::CString::new(format!("size={size}")).expect("options");
        rustix::mount::mount("tmpfs", &path, "tmpfs", MountFlags::empty(), Some(options.as_c_str()))
            .expect("mount");
        Self(path)
    }

    fn path(&self) -> String {
        self.0.display().to_string()
    }

    fn fill(&self) {
        let _ = Command::new("dd")
            .arg("if=/dev/zero")
            .arg(format!("of={}/filler", self.path()))
            .args(["bs=64k"])
            .stderr(Stdio::null())
            .status();
        let _ = Command::new("sh")
            .args(["-c", &format!("cat /dev/zero >> {}/filler", self.path())])
            .stderr(Stdio::null())
            .status();
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).expect("filler");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn full_disk() {
    let place = tempfile::tempdir_in("/var/tmp").expect("directory");
    let disk = SmallDisk::new(place.path(), "48m");
    let mut engine = TestEngine::start_with(&["--data-root", &disk.path()]);
    engine.add_busybox();
    let archive = place.path().join("image.tar");
    engine.corten(&["save", "-o", &archive.display().to_string(), "busybox"]).ok();
    let script = "while :; do echo a line of the log; sleep 0.005; done";
    engine.corten(&["run", "-d", "--name", "talker", "busybox", "sh", "-c", script]).ok();
    let writer =
        engine.corten(&["run", "--name", "writer", "busybox", "dd", "if=/dev/zero", "of=/big", "bs=1M"]);
    assert!(writer.stderr.contains("No space left on device"), "{}", writer.stderr);
    disk.fill();
    // Nothing new can be made, and it says why.
    let created = engine.corten(&["create", "busybox"]);
    assert!(created.code != 0 && created.stderr.to_lowercase().contains("no space"), "{}", created.stderr);
    let loaded = engine.corten(&["load", "-i", &archive.display().to_string()]);
    assert!(loaded.code == 0 || loaded.stderr.to_lowercase().contains("no space"), "{}", loaded.stderr);
    // What runs goes on, without its log: it writes in this time, and can't.
    thread::sleep(Duration::from_millis(500));
    assert_eq!(state(&engine, "talker"), "running 0");
    assert_eq!(engine.corten(&["exec", "talker", "echo", "alive"]).ok(), "alive");
    // An end is known although it can't be written, and removing makes room.
    engine.corten(&["kill", "talker"]).ok();
    assert_eq!(state(&engine, "talker"), "exited 137");
    engine.corten(&["rm", "writer"]).ok();
    disk.free();
    engine.corten(&["rm", "talker"]).ok();
    // The files go behind the removals.
    eventually("there is room", || engine.corten(&["run", "--rm", "busybox", "echo", "again"]).code == 0);
    engine.stop();
    engine.restart();
    assert_eq!(engine.corten(&["run", "--rm", "busybox", "echo", "still"]).ok(), "still");
    drop(engine);
}

/// Whatever has failed for want of room before, everything can be removed: that is how there is room again.
#[test]
fn full_disk_is_no_dead_end() {
    let place = tempfile::tempdir_in("/var/tmp").expect("directory");
    let disk = SmallDisk::new(place.path(), "32m");
    let engine = TestEngine::start_with(&["--data-root", &disk.path()]);
    engine.add_busybox();
    let archive = place.path().join("other.tar");
    std::fs::write(place.path().join("other"), vec![b'o'; 2 << 20]).expect("a file");
    let directory = place.path().display().to_string();
    run(Command::new("tar").args(["-C", &directory, "-cf"]).arg(&archive).arg("other")).ok();
    engine.corten(&["import", &archive.display().to_string(), "other"]).ok();
    engine.corten(&["volume", "create", "data"]).ok();
    engine.corten(&["network", "create", "further"]).ok();
    engine.corten(&["create", "--name", "small", "busybox", "true"]).ok();
    disk.fill();
    for _ in 0..5 {
        // A failure that cleans up after itself leaves others no room that removals need.
        let _ = engine.corten(&["create", "busybox", "true"]);
        disk.fill();
    }
    assert_ne!(engine.corten(&["volume", "create", "more"]).code, 0, "the disk is full");
    engine.corten(&["rmi", "other"]).ok();
    disk.fill();
    engine.corten(&["network", "rm", "further"]).ok();
    engine.corten(&["volume", "rm", "data"]).ok();
    engine.corten(&["rm", "small"]).ok();
    disk.fill();
    engine.corten(&["system", "prune", "-af"]).ok();
    assert_eq!(engine.corten(&["images", "-q"]).ok(), "");
    assert_eq!(engine.corten(&["ps", "-aq"]).ok(), "");
    drop(engine);
}

#[test]
fn an_engine_starts_on_a_full_disk_and_makes_room() {
    let place = tempfile::tempdir_in("/var/tmp").expect("directory");
    let disk = SmallDisk::new(place.path(), "32m");
    let mut engine = TestEngine::start_with(&["--data-root", &disk.path()]);
    engine.add_busybox();
    engine.background("steady", &[], "sleep 1000");
    let write = ["dd", "if=/dev/zero", "of=/big", "bs=1M", "count=4"];
    engine.corten(&[&["run", "--name", "large", "busybox"][..], &write].concat()).ok();
    for killed in [false, true] {
        if killed {
            engine.kill()
        } else {
            engine.stop()
        }
        disk.fill();
        engine.restart();
        assert_eq!(engine.corten(&["exec", "steady", "echo", "on"]).ok(), "on");
        if !killed {
            disk.free();
        }
    }
    engine.corten(&["rm", "large"]).ok();
    eventually("there is room", || engine.corten(&["run", "--rm", "busybox", "true"]).code == 0);
    drop(engine);
}

#[test]
fn full_disk_while_containers_change() {
    let place = tempfile::tempdir_in("/var/tmp").expect("directory");
    let disk = SmallDisk::new(place.path(), "32m");
    let engine = TestEngine::start_with(&["--data-root", &disk.path()]);
    engine.add_busybox();
    engine.corten(&["network", "create", "further"]).ok();
    for name in ["moved", "ended"] {
        engine.background(name, &["--hostname", "host-of-it"], "sleep 1000");
    }
    // So much that no page of the database has room for another copy.
    let label = format!("long={}", "x".repeat(64 << 10));
    for name in ["named", "begun"] {
        engine.corten(&["create", "--name", name, "--label", &label, "busybox", "sleep", "1000"]).ok();
    }
    let hosts = engine.corten(&["exec", "moved", "cat", "/etc/hosts"]).ok();
    let resolver = engine.corten(&["exec", "moved", "cat", "/etc/resolv.conf"]).ok();
    disk.fill();
    let refused = |args: &[&str]| {
        let output = engine.corten(args);
        assert_eq!(output.code, 1, "{args:?}: {output:?}");
        assert!(output.stderr.to_lowercase().contains("no space"), "{args:?}: {}", output.stderr);
    };
    refused(&["rename", "named", "renamed"]);
    refused(&["network", "connect", "further", "begun"]);
    refused(&["start", "begun"]);
    assert_eq!(state(&engine, "begun").split(' ').next(), Some("created"));
    assert_eq!(engine.corten(&["ps", "-aq", "-f", "name=^named$"]).ok().lines().count(), 1);
    // Small changes may find a last piece of room; either way the container is what it is said to be.
    for change in ["connect", "disconnect"] {
        let changed = engine.corten(&["network", change, "further", "moved"]);
        assert!(
            changed.code == 0
                || changed.stderr.to_lowercase().contains("no space")
                || changed.stderr.contains("is not connected"),
            "{change}: {}",
            changed.stderr
        );
        let (seen, told) = interfaces(&engine, "moved");
        assert_eq!(seen, told, "after {change}: {}", changed.stderr);
        let now = engine.corten(&["exec", "moved", "cat", "/etc/hosts"]).ok();
        assert!(now.starts_with(&hosts), "a file that could not be written is as it was: {now}");
        let now = engine.corten(&["exec", "moved", "cat", "/etc/resolv.conf"]).ok();
        assert!(now == resolver || now.contains("127.0.0.11"), "{now}");
    }
    engine.corten(&["stop", "-t", "0", "ended"]).ok();
    assert_eq!(state(&engine, "ended"), "exited 137");
    engine.corten(&["rm", "ended"]).ok();
    engine.corten(&["rm", "-f", "named"]).ok();
    disk.free();
    engine.corten(&["network", "connect", "further", "begun"]).ok();
    engine.corten(&["start", "begun"]).ok();
    assert_eq!(interfaces(&engine, "begun"), (2, 2));
    engine.corten(&["rm", "-f", "begun", "moved"]).ok();
    engine.corten(&["network", "rm", "further"]).ok();
    drop(engine);
}

#[test]
fn a_restart_that_cannot_be_written_down_is_an_end() {
    let place = tempfile::tempdir_in("/var/tmp").expect("directory");
    let disk = SmallDisk::new(place.path(), "32m");
    let engine = TestEngine::start_with(&["--data-root", &disk.path()]);
    engine.add_busybox();
    let label = format!("long={}", "x".repeat(64 << 10));
    engine.background("again", &["--restart", "on-failure:1", "--label", &label], "sleep 1000");
    disk.fill();
    kill(first_pid(&engine, "again"));
    // Killed, started once more, and ended for want of room: who waits hears of it.
    eventually("it has come to rest", || state(&engine, "again").starts_with("exited"));
    let mut wait = engine.command(&["wait", "again"]);
    let mut wait = wait.stdout(Stdio::null()).spawn().expect("wait");
    eventually("who waits hears of the end", || wait.try_wait().expect("wait").is_some());
    assert_eq!(engine.corten(&["inspect", "-f", "{{.RestartCount}}", "again"]).ok(), "1");
    disk.free();
    engine.corten(&["start", "again"]).ok();
    assert_eq!(state(&engine, "again"), "running 0");
    drop(engine);
}

#[test]
fn data_root_that_cannot_be_written() {
    let place = tempfile::tempdir().expect("directory");
    let disk = SmallDisk::new(place.path(), "1m");
    rustix::mount::mount_remount(&disk.0, MountFlags::RDONLY, "").expect("remount");
    let run_directory = tempfile::tempdir().expect("directory");
    let mut daemon = Command::new(corten_tests::binary("corten"));
    daemon.args(["daemon", "-H", &format!("unix://{}/corten.sock", run_directory.path().display())]);
    daemon.args([
        "--data-root",
        &disk.path(),
        "--exec-root",
        &run_directory.path().display().to_string(),
        "--bip",
        "10.63.255.1/24",
    ]);
    let output = run(&mut daemon);
    assert_eq!(output.code, 1, "{}", output.stderr);
    assert!(
        output.stderr.contains(&disk.path()) && output.stderr.to_lowercase().contains("read-only"),
        "{}",
        output.stderr
    );
    assert!(!run_directory.path().join("corten.sock").exists());
}

#[test]
fn full_disk_during_commits_and_copies() {
    let place = tempfile::tempdir_in("/var/tmp").expect("directory");
    let disk = SmallDisk::new(place.path(), "48m");
    let engine = TestEngine::start_with(&["--data-root", &disk.path()]);
    engine.add_busybox();
    let file = place.path().join("file");
    std::fs::write(&file, vec![7; 32 << 20]).expect("file");
    let file = file.display().to_string();
    for name in ["running", "resting"] {
        engine.background(name, &[], "dd if=/dev/urandom of=/b bs=1M count=8; sleep 1000");
    }
    eventually("the files are there", || {
        let whole = ["sh", "-c", "test $(stat -c %s /b) = 8388608"];
        ["running", "resting"]
            .iter()
            .all(|name| engine.corten(&[&["exec", name], &whole[..]].concat()).code == 0)
    });
    engine.corten(&["stop", "-t", "0", "resting"]).ok();
    let layers_before = layers_in(&disk.0);
    for name in ["running", "resting"] {
        let copied = engine.corten(&["cp", &file, &format!("{name}:/big")]);
        assert_eq!(copied.code, 1);
        assert!(copied.stderr.contains("write /big: no space left on device"), "{}", copied.stderr);
        disk.fill();
        let committed = engine.corten(&["commit", name, "made"]);
        assert_eq!(committed.code, 1);
        assert!(committed.stderr.to_lowercase().contains("no space left"), "{}", committed.stderr);
        assert!(!committed.stderr.contains("tarball"), "{}", committed.stderr);
        disk.free();
        assert_eq!(layers_in(&disk.0), layers_before, "half a layer is left");
    }
    assert_eq!(state(&engine, "running"), "running 0");
    engine.corten(&["exec", "running", "rm", "/big"]).ok();
    engine.corten(&["cp", "running:/etc/passwd", &place.path().display().to_string()]).ok();
    engine.corten(&["rm", "-f", "resting"]).ok();
    engine.corten(&["exec", "running", "rm", "/b"]).ok();
    engine.corten(&["commit", "running", "made"]).ok();
    engine.corten(&["rm", "-f", "running"]).ok();
    drop(engine);
}
