//! What lies on the disk: trees of any depth, volumes without half-states, and who may read it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use corten_tests::{TestEngine, eventually};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

/// Deeper than a path is long (4096 bytes) and than a thread's stack of 2 MiB holds buffers. On a disk that is mounted with `discard` each
/// directory may take a millisecond or two to go, so not much deeper.
const DEPTH: usize = 2500;

/// A chain of directories, as a container makes it with `mkdir d; cd d` in a loop.
fn deepen(root: &Path, levels: usize) {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let mut current = rustix::fs::open(root, flags, Mode::empty()).unwrap();
    for _ in 0..levels {
        rustix::fs::mkdirat(&current, c"d", Mode::RWXU).unwrap();
        current = rustix::fs::openat(&current, c"d", flags, Mode::empty()).unwrap();
    }
    rustix::fs::symlinkat(c"/etc", &current, c"link").unwrap();
    assert!(rustix::fs::statat(&current, c"link", AtFlags::SYMLINK_NOFOLLOW).is_ok());
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().next().is_none()
}

/// Leaves the engine room for some descriptors more than it has.
fn limit_descriptors(engine: &TestEngine) {
    let pid = engine.pid().unwrap();
    let highest = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u64>().ok())
        .max();
    let limit = Some(highest.unwrap() + 40);
    let pid = Pid::from_raw(i32::try_from(pid).unwrap());
    prlimit(pid, Resource::Nofile, Rlimit { current: limit, maximum: limit }).unwrap();
}

#[test]
fn a_tree_deeper_than_a_stack_is_measured_and_removed() {
    let mut engine = TestEngine::with_busybox();
    let id = engine.corten(&["create", "--name", "deep", "-v", "deep:/data", "busybox"]).ok();
    let snapshots = engine.data_root().join("snapshots");
    let volumes = engine.data_root().join("volumes");
    for root in [snapshots.join(id).join("upper"), volumes.join("deep/_data")] {
        deepen(&root, DEPTH);
    }
    limit_descriptors(&engine);
    engine.corten(&["ps", "-as"]).ok();
    engine.corten(&["inspect", "--size", "deep"]).ok();
    engine.corten(&["rm", "deep"]).ok();
    engine.corten(&["volume", "prune", "-af"]).ok();
    eventually("the files are gone", || is_empty(&snapshots) && is_empty(&volumes));
    // A removal that a killed engine has begun.
    let trash = volumes.join(".removed-01234567-deep");
    fs::create_dir_all(&trash).unwrap();
    engine.kill();
    deepen(&trash, DEPTH);
    engine.restart();
    eventually("the files are gone", || is_empty(&volumes));
    assert_eq!(engine.corten(&["run", "--rm", "busybox", "echo", "well"]).ok(), "well");
}

#[test]
fn a_create_that_fails_takes_its_anonymous_volumes_along() {
    let engine = TestEngine::with_busybox();
    let file = engine.data_root().join("file");
    fs::write(&file, "").unwrap();
    let bind = format!("{}/below:/z", file.display());
    let failed = engine.corten(&["create", "-v", "/anonymous", "-v", "named:/b", "-v", &bind, "busybox"]);
    assert!(failed.fails(1).contains("below"));
    assert_eq!(engine.corten(&["volume", "ls", "-q"]).ok(), "named");
    eventually("the files are gone", || {
        fs::read_dir(engine.data_root().join("volumes")).unwrap().count() == 1
    });
    fs::remove_file(file).unwrap();
}

#[test]
fn a_volume_is_filled_once_and_then_left_alone() {
    let engine = TestEngine::with_busybox();
    let show =
        |command: &str| engine.corten(&["run", "--rm", "-v", "bin:/bin", "busybox", "sh", "-c", command]);
    assert_eq!(show("test -x /bin/sh && rm /bin/false && echo filled").ok(), "filled");
    assert_eq!(show("test -e /bin/false || echo kept").ok(), "kept");
    let beside = fs::read_dir(engine.data_root().join("volumes/bin")).unwrap();
    let names: Vec<_> = beside.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["_data"]);
    // An empty one that a container already has open gets the image's files in the same place.
    let id = engine.corten(&["run", "-d", "-v", "late:/late", "busybox", "sleep", "1000"]).ok();
    engine.corten(&["create", "-v", "late:/bin", "busybox"]).ok();
    assert_eq!(engine.corten(&["exec", &id, "sh", "-c", "test -x /late/sh && echo seen"]).ok(), "seen");
}

/// Everything below a directory that others than its owner and group may read or change, and can reach.
fn open_to_all(path: &Path, found: &mut Vec<PathBuf>) {
    let mode = fs::symlink_metadata(path).unwrap().permissions().mode();
    if mode & 0o001 == 0 {
        return;
    }
    for entry in fs::read_dir(path).unwrap().flatten() {
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            open_to_all(&entry.path(), found);
        } else if metadata.is_file() && metadata.permissions().mode() & 0o006 != 0 {
            found.push(entry.path());
        }
    }
}

#[test]
fn nothing_of_a_container_is_open_to_other_users_of_the_host() {
    let mut engine = TestEngine::with_busybox();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let id =
        engine.corten(&["run", "-d", "-e", "SECRET=x", "-v", "data:/data", "busybox", "sleep", "1000"]).ok();
    // As an older engine has left it.
    engine.stop();
    for path in
        [engine.data_root(), &engine.data_root().join("containers"), &engine.exec_root().join("containers")]
    {
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
    fs::set_permissions(engine.data_root().join("engine.db"), Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(engine.exec_root(), Permissions::from_mode(0o755)).unwrap();
    engine.restart();
    assert_eq!(mode(engine.data_root()), 0o710);
    for name in ["containers", "image", "snapshots", "volumes"] {
        assert_eq!(mode(&engine.data_root().join(name)), 0o700, "{name}");
    }
    for name in ["engine.db", "engine.db-wal", "engine.db-shm", "image/images.db"] {
        assert_eq!(mode(&engine.data_root().join(name)), 0o600, "{name}");
    }
    let run = engine.exec_root().join("containers");
    assert_eq!(mode(&run), 0o700);
    for name in ["config.json", "state.json"] {
        assert_eq!(mode(&run.join(&id).join(name)), 0o600, "{name}");
    }
    // The socket's group gets to the socket, and nobody to anything else.
    assert_eq!(mode(engine.exec_root()), 0o755);
    let mut open = Vec::new();
    open_to_all(engine.exec_root(), &mut open);
    assert_eq!(open, Vec::<PathBuf>::new());
    assert_eq!(
        engine
            .corten(&[
                "exec",
                "-u",
                "1000",
                &id,
                "sh",
                "-c",
                "cat /etc/hosts /etc/resolv.conf >/dev/null && echo read"
            ])
            .ok(),
        "read"
    );
}

#[test]
fn an_image_is_mounted_into_another() {
    let engine = TestEngine::with_busybox();
    let run = |mount: &str, script: &str| {
        [
            engine.corten(&["run", "--rm", "--mount", mount, "busybox", "sh", "-c", script]),
            engine.docker(&["run", "--rm", "--mount", mount, "busybox", "sh", "-c", script]),
        ]
    };
    for output in
        run("type=image,source=busybox,target=/other", "/other/bin/busybox echo ran; touch /other/x")
    {
        assert!(output.stdout.contains("ran"), "{}", output.stderr);
        assert!(output.stderr.contains("Read-only file system"), "{}", output.stderr);
    }
    for output in run(
        "type=image,source=busybox,target=/bins,image-subpath=bin",
        "ls /bins | head -n 1; ls -d /bins/busybox",
    ) {
        assert!(output.clone().ok().contains("/bins/busybox"), "{}", output.stderr);
    }
    for output in run("type=image,source=busybox,target=/x,image-subpath=not/there", "true") {
        assert!(output.stderr.contains("cannot access path not/there"), "{}", output.stderr);
        assert!(!output.stderr.contains("unmount"), "{}", output.stderr);
    }
    for output in run("type=image,source=busybox,target=/x,image-subpath=../..", "true") {
        assert!(output.stderr.contains("relative path within the image"), "{}", output.stderr);
    }
    let missing = engine.corten(&["create", "--mount", "type=image,source=nothing,target=/x", "busybox"]);
    assert!(missing.stderr.contains("nothing"), "{}", missing.stderr);

    engine.corten(&["tag", "busybox", "mounted"]).ok();
    engine
        .corten(&[
            "create",
            "--name",
            "kept",
            "--mount",
            "type=image,source=mounted,target=/m",
            "busybox",
            "ls",
            "/m/bin/busybox",
        ])
        .ok();
    let format = "{{range .Mounts}}{{.Type}} {{.Source}} {{.Destination}} {{.RW}}{{end}}";
    assert_eq!(engine.docker(&["inspect", "--format", format, "kept"]).ok(), "image mounted /m false");
    assert_eq!(engine.corten(&["start", "-a", "kept"]).ok(), "/m/bin/busybox");
    assert_eq!(engine.corten(&["start", "-a", "kept"]).ok(), "/m/bin/busybox");
}
