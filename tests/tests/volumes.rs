//! Volumes that are more than directories: what they are made of, who shares them, and that nothing of them stays behind.

use std::fs;
use std::path::Path;
use std::process::Command;

use corten_tests::{TestEngine, eventually, now_s, run};

/// What the host has mounted below the engine's directories.
fn host_mounts(engine: &TestEngine) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    let roots = [engine.data_root(), engine.exec_root()].map(|root| root.display().to_string());
    table.lines().filter(|line| roots.iter().any(|root| line.contains(root))).map(str::to_owned).collect()
}

/// The loop devices with a file of the engine's.
fn loop_devices(root: &Path) -> Vec<String> {
    let devices = fs::read_dir("/sys/block").unwrap().flatten();
    let files = devices.filter_map(|entry| fs::read_to_string(entry.path().join("loop/backing_file")).ok());
    files.filter(|file| file.contains(&root.display().to_string())).collect()
}

fn exec(engine: &TestEngine, name: &str, script: &str) -> String {
    engine.corten(&["exec", name, "sh", "-c", script]).ok()
}

const ENDLESS: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

#[test]
fn a_tmpfs_volume_is_shared_and_outlives_the_engine_but_not_its_users() {
    let mut engine = TestEngine::with_busybox();
    let options = ["-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,mode=0700"];
    engine.corten(&[&["volume", "create"], &options[..], &["fast"]].concat()).ok();
    let shown = engine.docker(&["volume", "inspect", "-f", "{{.Options.o}} {{.Options.type}}", "fast"]).ok();
    assert_eq!(shown, "size=1m,mode=0700 tmpfs");
    engine.background("one", &["-v", "fast:/data"], ENDLESS);
    engine.background("two", &["-v", "fast:/other:ro"], ENDLESS);
    exec(&engine, "one", "echo kept > /data/file");
    assert_eq!(exec(&engine, "two", "cat /other/file"), "kept");
    assert!(
        exec(&engine, "one", "dd if=/dev/zero of=/data/big bs=64k count=32 2>&1; true")
            .contains("No space left")
    );
    engine.corten(&["exec", "two", "touch", "/other/x"]).fails(1);
    assert_eq!(host_mounts(&engine), Vec::<String>::new());
    engine.kill();
    engine.restart();
    // Another mount would be another, empty tmpfs.
    engine.background("three", &["-v", "fast:/data"], ENDLESS);
    assert_eq!(exec(&engine, "three", "cat /data/file"), "kept");
    exec(&engine, "three", "echo new > /data/file");
    assert_eq!(exec(&engine, "two", "cat /other/file"), "new");
    let users = || engine.corten(&["volume", "inspect", "-f", "{{.Status.Users}}", "fast"]).ok();
    assert_eq!(users(), "3");
    engine.corten(&["rm", "-f", "one", "two", "three"]).ok();
    assert_eq!(users(), "0");
    let empty = engine.corten(&["run", "--rm", "-v", "fast:/data", "busybox", "ls", "-A", "/data"]);
    assert_eq!(empty.ok(), "");
    engine.corten(&["volume", "rm", "fast"]).ok();
}

#[test]
fn a_bind_volume_shows_a_directory_of_the_host() {
    let engine = TestEngine::with_busybox();
    let place = tempfile::tempdir_in("/var/tmp").unwrap();
    let device = format!("device={}", place.path().display());
    for (name, words) in [("rw", "o=bind"), ("ro", "o=bind,ro")] {
        engine.corten(&["volume", "create", "-o", "type=none", "-o", &device, "-o", words, name]).ok();
    }
    engine
        .corten(&["run", "--rm", "-v", "rw:/data:nocopy", "busybox", "sh", "-c", "echo x > /data/file"])
        .ok();
    assert_eq!(fs::read_to_string(place.path().join("file")).unwrap(), "x\n");
    let read = engine.corten(&["run", "--rm", "-v", "ro:/data", "busybox", "cat", "/data/file"]);
    assert_eq!(read.ok(), "x");
    let refused = engine.corten(&["run", "--rm", "-v", "ro:/data", "busybox", "touch", "/data/y"]);
    assert!(refused.fails(1).contains("Read-only"));
    engine.corten(&["volume", "rm", "rw", "ro"]).ok();
    assert!(place.path().join("file").exists(), "the directory is the host's");
}

#[test]
fn a_volume_with_a_limit_is_full_for_its_own_users_only() {
    let mut engine = TestEngine::with_busybox();
    engine.corten(&["volume", "create", "-o", "size=16m", "small"]).ok();
    assert_eq!(engine.docker(&["volume", "inspect", "-f", "{{.Options.size}}", "small"]).ok(), "16m");
    assert!(engine.curl(&[], "/volumes/small").ok().contains("\"QuotaBytes\":16777216"));
    engine.background("user", &["-v", "small:/bin2", "-v", "large:/large"], ENDLESS);
    assert_eq!(exec(&engine, "user", "ls -A /bin2"), "", "a new file system is empty");
    let fill = "dd if=/dev/zero of=/bin2/big bs=64k count=1000 2>&1; true";
    assert!(exec(&engine, "user", fill).contains("No space left"));
    exec(
        &engine,
        "user",
        "dd if=/dev/zero of=/large/big bs=64k count=400 2>/dev/null && rm /bin2/big && echo kept > /bin2/file && sync",
    );
    assert_eq!(host_mounts(&engine), Vec::<String>::new());
    engine.kill();
    engine.restart();
    // Two file systems in the same file would know nothing of each other.
    engine.background("other", &["-v", "small:/data"], ENDLESS);
    assert_eq!(exec(&engine, "other", "cat /data/file"), "kept");
    exec(&engine, "other", "echo other > /data/other");
    assert_eq!(exec(&engine, "user", "cat /bin2/other"), "other");
    assert_eq!(loop_devices(engine.data_root()).len(), 1);
    engine.corten(&["rm", "-f", "user", "other"]).ok();
    eventually("the loop device is gone", || loop_devices(engine.data_root()).is_empty());
    let again =
        engine.corten(&["run", "--rm", "-v", "small:/data", "busybox", "cat", "/data/file", "/data/other"]);
    assert_eq!(again.ok(), "kept\nother");
    engine.corten(&["volume", "rm", "small", "large"]).ok();
    eventually("its files are gone", || {
        fs::read_dir(engine.data_root().join("volumes")).unwrap().count() == 0
    });
}

#[test]
fn a_volume_with_a_limit_gets_the_images_files_whole() {
    let engine = TestEngine::with_busybox();
    engine.corten(&["volume", "create", "-o", "o=size=16m", "filled"]).ok();
    let show = |script: &str| {
        engine.corten(&["run", "--rm", "-v", "filled:/bin", "busybox", "/bin/sh", "-c", script])
    };
    assert_eq!(show("test -x /bin/sh && rm /bin/false && echo filled").ok(), "filled");
    assert_eq!(show("test -e /bin/false || echo kept; ls -A /bin | grep -c '^[.]'; true").ok(), "kept\n0");
    let part = "type=volume,src=filled,dst=/part,volume-subpath=inner";
    engine.corten(&["run", "--rm", "-v", "filled:/x", "busybox", "mkdir", "/x/inner"]).ok();
    engine.corten(&["run", "--rm", "--mount", part, "busybox", "touch", "/part/here"]).ok();
    let found = engine.corten(&["run", "--rm", "-v", "filled:/x", "busybox", "ls", "/x/inner"]);
    assert_eq!(found.ok(), "here");
    // One that is too small for what it should begin with stays empty, and the container is not made.
    engine.corten(&["volume", "create", "-o", "size=2m", "tiny"]).ok();
    let full = engine.corten(&["create", "--name", "none", "-v", "tiny:/bin", "busybox"]).fails(1);
    assert!(full.contains("No space left"), "{full}");
    let empty = engine.corten(&["run", "--rm", "-v", "tiny:/x", "busybox", "ls", "-A", "/x"]);
    assert_eq!(empty.ok(), "");
}

#[test]
fn a_file_with_a_file_system_is_mounted_by_a_loop_device() {
    let engine = TestEngine::with_busybox();
    let place = tempfile::tempdir_in("/var/tmp").unwrap();
    let image = place.path().join("disk.img");
    fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
    run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image)).ok();
    let device = format!("device={}", image.display());
    for name in ["disk", "same"] {
        engine
            .corten(&["volume", "create", "-o", "type=ext4", "-o", &device, "-o", "o=loop,noatime", name])
            .ok();
    }
    engine.background("user", &["-v", "disk:/data", "-v", "same:/same"], ENDLESS);
    exec(&engine, "user", "echo x > /data/file");
    assert_eq!(exec(&engine, "user", "cat /same/file"), "x", "one device for two volumes");
    assert!(exec(&engine, "user", "grep ' /data ' /proc/mounts").contains("noatime"));
    engine.corten(&["rm", "-f", "user"]).ok();
    eventually("the loop device is gone", || loop_devices(place.path()).is_empty());
    // The same as a block device, that somebody else keeps.
    let block = run(Command::new("losetup").args(["-f", "--show"]).arg(&image)).ok();
    let device = format!("device={block}");
    engine.corten(&["volume", "create", "-o", "type=ext4", "-o", &device, "-o", "o=ro", "block"]).ok();
    let read = engine.corten(&["run", "--rm", "-v", "block:/data", "busybox", "cat", "/data/file"]);
    let written = engine.corten(&["run", "--rm", "-v", "block:/data", "busybox", "touch", "/data/other"]);
    run(Command::new("losetup").args(["-d", &block])).ok();
    assert_eq!(read.ok(), "x");
    assert!(written.fails(1).contains("Read-only"));
}

#[test]
fn what_cannot_be_mounted_is_said_when_a_container_wants_it() {
    let engine = TestEngine::with_busybox();
    let create = |name: &str, kind: &str, device: &str, words: &str| {
        let (kind, device, words) =
            (format!("type={kind}"), format!("device={device}"), format!("o={words}"));
        engine.corten(&["volume", "create", "-o", &kind, "-o", &device, "-o", &words, name]).ok();
    };
    create("nowhere", "none", "/does/not/exist", "bind");
    create("server", "nfs", ":/export", "addr=no-such-host.invalid,rw");
    create("strange", "nosuchfs", "/dev/null", "rw");
    // This kernel has no NFS, but the name is looked up before it is asked.
    create("local", "nfs", ":/export", "addr=localhost,rw");
    for (name, text) in [
        ("local", "data: addr=127.0.0.1"),
        ("nowhere", "failed to mount local volume: mount /does/not/exist:"),
        (
            "server",
            "error resolving passed in network volume address: no address found for no-such-host.invalid",
        ),
        ("strange", "no such device (this kernel has no file system \"nosuchfs\")"),
    ] {
        let mount = format!("{name}:/data");
        let refused = engine.docker(&["run", "--name", name, "-v", &mount, "busybox", "true"]).stderr;
        assert!(refused.contains("error while mounting volume") && refused.contains(text), "{refused}");
        // The container is there, and was not started.
        assert_eq!(engine.corten(&["container", "inspect", "-f", "{{.State.Status}}", name]).ok(), "created");
        engine.corten(&["rm", name]).ok();
    }
    for (option, text) in [
        ("colour=red", "invalid option: \"colour\""),
        ("type=tmpfs", "missing required option: \"device\""),
        ("size=lots", "invalid size: 'lots'"),
    ] {
        assert!(engine.docker(&["volume", "create", "-o", option]).fails(1).contains(text));
    }
    assert_eq!(engine.corten(&["volume", "ls", "-q"]).ok(), "local\nnowhere\nserver\nstrange");
}

#[test]
fn mounts_and_unmounts_are_events() {
    let engine = TestEngine::with_busybox();
    engine.corten(&["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "fast"]).ok();
    let id = engine.corten(&["create", "-v", "fast:/a", "-v", "plain:/b:ro", "busybox", "true"]).ok();
    engine.corten(&["start", "-a", &id]).ok();
    engine.corten(&["rm", &id]).ok();
    engine.corten(&["volume", "rm", "fast"]).ok();
    engine.corten(&["volume", "rm", "plain"]).ok();
    let format = "{{.Action}} {{.Actor.ID}} {{.Actor.Attributes.destination}} {{index .Actor.Attributes \"read/write\"}}";
    let (since, until) = ((now_s() - 60).to_string(), (now_s() + 1).to_string());
    let seen = ["events", "--since", &since, "--until", &until, "-f", "type=volume", "--format", format];
    let seen = engine.docker(&seen).ok().replace("<no value>", "").replace(" \n", "\n");
    let lines: Vec<&str> = seen.lines().map(str::trim_end).collect();
    let expected = [
        "create fast",
        "create plain",
        "mount fast /a true",
        "mount plain /b false",
        "unmount fast",
        "unmount plain",
        "destroy fast",
        "destroy plain",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_clone_has_the_same_files_and_a_life_of_its_own() {
    let engine = TestEngine::with_busybox();
    engine.corten(&["volume", "create", "--label", "team=red", "aa"]).ok();
    engine.corten(&["volume", "create", "-o", "size=16m", "limited"]).ok();
    let script = "cd /d && echo one > file && ln file hard && ln -s file link && mkdir -m 2750 dir && chown 7:8 dir file && mkfifo pipe && dd if=/dev/zero of=sparse bs=1 count=1 seek=5000000 2>/dev/null";
    let list = "cd /d && stat -c '%n %F %a %u %g %h %s' * && cat hard && readlink link && du -k sparse";
    for (volume, copy) in [("aa", "bb"), ("limited", "l2")] {
        let run = |volume: &str, script: &str| {
            engine.corten(&["run", "--rm", "-v", &format!("{volume}:/d"), "busybox", "sh", "-c", script]).ok()
        };
        run(volume, script);
        assert_eq!(engine.corten(&["volume", "clone", volume, copy]).ok(), copy);
        assert_eq!(run(copy, list), run(volume, list));
        run(copy, "echo two > /d/file");
        assert_eq!(run(volume, "cat /d/file"), "one");
    }
    let shown = engine.docker(&["volume", "inspect", "-f", "{{.Labels.team}} {{.Options}}", "bb"]).ok();
    assert_eq!(shown, "red map[]");
    assert_eq!(engine.docker(&["volume", "inspect", "-f", "{{.Options.size}}", "l2"]).ok(), "16m");
    for (words, why) in [
        (["aa", "bb"], "volume bb already exists"),
        (["none", "cc"], "get none: no such volume"),
        (["aa", "cc/d"], "invalid characters"),
    ] {
        assert!(engine.corten(&["volume", "clone", words[0], words[1]]).fails(1).contains(why));
    }
    engine.background("writer", &["-v", "aa:/d"], ENDLESS);
    assert!(
        engine.corten(&["volume", "clone", "aa", "cc"]).fails(1).contains("is in use by running container")
    );
    engine.corten(&["pause", "writer"]).ok();
    engine.corten(&["volume", "clone", "aa", "cc"]).ok();
    engine.corten(&["unpause", "writer"]).ok();
    engine.corten(&["volume", "clone", "--live", "aa", "ee"]).ok();
    assert_eq!(engine.corten(&["volume", "ls", "-q"]).ok(), "aa\nbb\ncc\nee\nl2\nlimited");
    eventually("the loop devices are gone", || loop_devices(engine.data_root()).is_empty());
}

#[test]
fn a_volume_is_renamed_in_the_containers_that_use_it() {
    let mut engine = TestEngine::with_busybox();
    engine
        .corten(&[
            "run",
            "--name",
            "one",
            "-v",
            "old:/d",
            "busybox",
            "sh",
            "-c",
            "echo x >> /d/file; cat /d/file",
        ])
        .ok();
    engine
        .corten(&["create", "--name", "two", "--mount", "type=volume,src=old,dst=/m", "busybox", "true"])
        .ok();
    engine.corten(&["volume", "create", "taken"]).ok();
    assert!(
        engine.corten(&["volume", "rename", "old", "taken"]).fails(1).contains("volume taken already exists")
    );
    assert!(
        engine.corten(&["volume", "rename", "none", "new"]).fails(1).contains("get none: no such volume")
    );
    engine.background("user", &["-v", "old:/d"], ENDLESS);
    assert!(
        engine.corten(&["volume", "rename", "old", "new"]).fails(1).contains("in use by running container")
    );
    engine.corten(&["rm", "-f", "user"]).ok();
    engine.corten(&["volume", "rename", "old", "new"]).ok();
    for round in 0..2 {
        assert_eq!(engine.corten(&["volume", "ls", "-q"]).ok(), "new\ntaken");
        let mounts = "{{(index .Mounts 0).Name}} {{index .HostConfig.Binds 0}}";
        assert_eq!(engine.docker(&["inspect", "-f", mounts, "one"]).ok(), "new new:/d");
        let wish = "{{(index .Mounts 0).Name}} {{(index .HostConfig.Mounts 0).Source}}";
        assert_eq!(engine.docker(&["inspect", "-f", wish, "two"]).ok(), "new new");
        let seen = engine.corten(&["start", "-a", "one"]).ok();
        assert_eq!(seen.lines().count(), 2 + round);
        assert!(engine.corten(&["volume", "rm", "new"]).fails(1).contains("volume is in use"));
        if round == 0 {
            engine.kill();
            engine.restart();
        }
    }
}

#[test]
fn a_clone_that_is_killed_or_has_no_room_leaves_nothing() {
    let mut engine = TestEngine::with_busybox();
    let volumes = engine.data_root().join("volumes");
    engine
        .corten(&[
            "run",
            "--rm",
            "-v",
            "aa:/d",
            "busybox",
            "sh",
            "-c",
            "for i in $(seq 2000); do echo $i > /d/$i; done",
        ])
        .ok();
    for round in 0..8u64 {
        let mut clone = engine.command(&["volume", "clone", "aa", "bb"]).spawn().unwrap();
        // Each round a little later on its way.
        std::thread::sleep(std::time::Duration::from_millis(3 * round));
        engine.kill();
        clone.wait().unwrap();
        engine.restart();
        let made = engine.corten(&["volume", "ls", "-q"]).ok() == "aa\nbb";
        let count = |name: &str| fs::read_dir(volumes.join(name).join("_data")).map_or(0, Iterator::count);
        assert_eq!(count("bb"), if made { 2000 } else { 0 }, "round {round}");
        engine.corten(&["volume", "rm", "-f", "bb"]).ok();
        eventually("only one volume is on the disk", || fs::read_dir(&volumes).unwrap().count() == 1);
    }
    // Renamed entirely or not at all.
    for round in 0..8u64 {
        let (from, to) = if volumes.join("aa").exists() { ("aa", "zz") } else { ("zz", "aa") };
        let mut rename = engine.command(&["volume", "rename", from, to]).spawn().unwrap();
        // As above.
        std::thread::sleep(std::time::Duration::from_millis(round));
        engine.kill();
        rename.wait().unwrap();
        engine.restart();
        let name = engine.corten(&["volume", "ls", "-q"]).ok();
        assert_eq!(
            fs::read_dir(volumes.join(&name).join("_data")).unwrap().count(),
            2000,
            "round {round}: {name}"
        );
        assert_eq!(fs::read_dir(&volumes).unwrap().count(), 1);
    }
    let name = engine.corten(&["volume", "ls", "-q"]).ok();
    engine.corten(&["volume", "create", "-o", "size=4m", "small"]).ok();
    engine
        .corten(&[
            "run",
            "--rm",
            "-v",
            "small:/d",
            "busybox",
            "sh",
            "-c",
            "dd if=/dev/urandom of=/d/x bs=64k count=20 2>/dev/null",
        ])
        .ok();
    let clone = engine.corten(&["volume", "clone", "small", "copy"]);
    assert_eq!(clone.ok(), "copy");
    engine.corten(&["volume", "rm", "copy", "small", &name]).ok();
}

/// A small file system of its own.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Self {
        let place = tempfile::tempdir_in("/var/tmp").unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", place.path(), "tmpfs", flags, c"size=40m").unwrap();
        Self(place)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_leaves_no_half_volume() {
    let disk = SmallDisk::new();
    let engine = TestEngine::start_with(&["--data-root", &disk.0.path().display().to_string()]);
    engine.add_busybox();
    let volumes = disk.0.path().join("volumes");
    let write = |volume: &str, count: &str| {
        let script = format!("dd if=/dev/zero of=/d/x bs=1M count={count} 2>&1; true");
        engine.corten(&["run", "--rm", "-v", &format!("{volume}:/d"), "busybox", "sh", "-c", &script]).ok()
    };
    write("large", "20");
    let clone = engine.corten(&["volume", "clone", "large", "copy"]).fails(1);
    assert!(clone.contains("clone volume large to copy") && clone.contains("No space left"), "{clone}");
    // The files of a limited volume are on the same disk, which is full before its limit is reached.
    engine.corten(&["volume", "create", "-o", "size=100m", "limited"]).ok();
    engine.corten(&["volume", "create", "-o", "size=4m", "little"]).ok();
    write("little", "1");
    let before: Vec<_> = fs::read_dir(&volumes).unwrap().flatten().map(|entry| entry.file_name()).collect();
    let filler = disk.0.path().join("filler");
    let _ = Command::new("dd")
        .arg("if=/dev/zero")
        .arg(format!("of={}", filler.display()))
        .args(["bs=64k"])
        .output();
    for (words, name) in [
        (&["volume", "create", "-o", "size=8m", "more"][..], "more"),
        (&["volume", "clone", "little", "more"], "more"),
        (&["volume", "clone", "large", "more"], "more"),
    ] {
        let refused = engine.corten(words).fails(1).to_lowercase();
        assert!(refused.contains("space"), "{words:?}: {refused}");
        assert!(engine.corten(&["volume", "inspect", name]).fails(1).contains("no such volume"));
    }
    eventually("only what was there is there", || {
        let now: Vec<_> = fs::read_dir(&volumes).unwrap().flatten().map(|entry| entry.file_name()).collect();
        now.len() == before.len()
    });
    fs::remove_file(filler).unwrap();
    // With room again everything works.
    engine.corten(&["volume", "clone", "little", "more"]).ok();
    assert_eq!(write("more", "1").matches("1+0 records out").count(), 1);
}

#[test]
fn a_volume_goes_out_as_an_archive_and_comes_in_again() {
    let mut engine = TestEngine::with_busybox();
    let place = tempfile::tempdir_in("/var/tmp").unwrap();
    let archive = place.path().join("volume.tar").display().to_string();
    let run = |engine: &TestEngine, volume: &str, script: &str| {
        engine.corten(&["run", "--rm", "-v", &format!("{volume}:/d"), "busybox", "sh", "-c", script]).ok()
    };
    let script = "cd /d && chown 70:71 . && chmod 2700 . && echo one > file && ln file hard && ln -s /etc/passwd link && mkdir -m 1777 dir && chown 7:8 dir file && mkfifo pipe && touch -d '2020-01-02 03:04:05' file";
    let list =
        "cd /d && stat -c '%n %F %a %u %g %h %Y' . file hard link dir pipe && cat hard && readlink link";
    engine.corten(&["volume", "create", "-o", "size=16m", "source"]).ok();
    run(&engine, "source", script);
    let before = run(&engine, "source", list);
    engine.corten(&["volume", "export", "-o", &archive, "source"]).ok();
    assert!(corten_tests::run(Command::new("tar").args(["-tf", &archive])).ok().starts_with("./\n"));
    // A file, and standard input; whole and compressed; a directory and a volume with a limit.
    assert_eq!(engine.corten(&["volume", "import", "--label", "a=b", "copy", &archive]).ok(), "copy");
    assert_eq!(engine.docker(&["volume", "inspect", "-f", "{{.Labels.a}}", "copy"]).ok(), "b");
    let pipe = |target: &str, options: &str| {
        let host = engine.host();
        let corten = corten_tests::binary("corten").display().to_string();
        let script = format!(
            "{corten} -H {host} volume export source | gzip | {corten} -H {host} volume import {options} {target} -"
        );
        corten_tests::run(Command::new("sh").args(["-c", &script])).ok()
    };
    assert_eq!(pipe("piped", ""), "piped");
    assert_eq!(pipe("limited", "-o size=16m"), "limited");
    for volume in ["copy", "piped", "limited"] {
        assert_eq!(run(&engine, volume, list), before, "{volume}");
    }
    // All or nothing.
    let bytes = fs::read(&archive).unwrap();
    let broken = place.path().join("broken.tar").display().to_string();
    fs::write(&broken, &bytes[..1500]).unwrap();
    engine.corten(&["volume", "import", "broken", &broken]).fails(1);
    fs::write(&broken, "no archive at all".repeat(100)).unwrap();
    engine.corten(&["volume", "import", "broken", &broken]).fails(1);
    assert!(engine.corten(&["volume", "import", "copy", &archive]).fails(1).contains("already exists"));
    assert!(engine.corten(&["volume", "export", "none"]).fails(1).contains("no such volume"));
    assert_eq!(engine.corten(&["volume", "ls", "-q"]).ok(), "copy\nlimited\npiped\nsource");
    let big = place.path().join("big.tar").display().to_string();
    let files = place.path().join("files");
    fs::create_dir(&files).unwrap();
    (0..2000).for_each(|number| fs::write(files.join(number.to_string()), "x").unwrap());
    corten_tests::tar_of(&files, Path::new(&big));
    for round in 0..5u64 {
        let mut import = engine.command(&["volume", "import", "killed", &big]).spawn().unwrap();
        // Each round a little later on its way.
        std::thread::sleep(std::time::Duration::from_millis(10 * round));
        engine.kill();
        import.wait().unwrap();
        engine.restart();
        let made = engine.corten(&["volume", "inspect", "killed"]).code == 0;
        let data = engine.data_root().join("volumes/killed/_data");
        assert_eq!(fs::read_dir(data).map_or(0, Iterator::count), if made { 2000 } else { 0 });
        engine.corten(&["volume", "rm", "-f", "killed"]).ok();
    }
    eventually("the loop devices are gone", || loop_devices(engine.data_root()).is_empty());
}
