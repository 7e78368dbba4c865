//! Images: import, load, save, tag, list, inspect, history, remove; and what is done about broken ones.

use std::fs;
use std::process::Command;

use corten_tests::{TestEngine, run, tar_of};

#[test]
fn an_image_is_imported_tagged_listed_and_removed() {
    let engine = TestEngine::with_busybox();
    let id = engine.corten(&["images", "-q", "--no-trunc", "busybox"]).ok();
    for client in [TestEngine::corten, TestEngine::docker] {
        assert_eq!(client(&engine, &["images", "-q", "--no-trunc"]).ok(), id);
        assert_eq!(
            client(&engine, &["inspect", "-f", "{{.Id}} {{.Os}}", "busybox"]).ok(),
            format!("{id} linux")
        );
        assert!(client(&engine, &["history", "busybox"]).ok().contains("Imported from"));
        client(&engine, &["tag", "busybox", "team/tool:1.0"]).ok();
        assert!(client(&engine, &["images", "team/tool"]).ok().contains("1.0"));
        assert!(client(&engine, &["rmi", "team/tool:1.0"]).ok().contains("Untagged: team/tool:1.0"));
    }
    engine.corten(&["create", "--name", "user", "busybox"]).ok();
    assert!(engine.corten(&["rmi", "busybox"]).fails(1).contains("container"));
    engine.corten(&["rm", "user"]).ok();
    assert!(engine.docker(&["rmi", "busybox"]).ok().contains("Deleted: sha256:"));
    assert_eq!(engine.corten(&["images", "-q"]).ok(), "");
    assert!(engine.corten(&["inspect", "busybox"]).fails(1).to_lowercase().contains("no such"));
}

#[test]
fn an_image_travels_between_engines() {
    let (here, there) = (TestEngine::with_busybox(), TestEngine::start());
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("busybox.tar").display().to_string();
    here.docker(&["save", "-o", &archive, "busybox"]).ok();
    assert!(there.docker(&["load", "-i", &archive]).ok().contains("Loaded image: busybox:latest"));
    let id =
        |engine: &TestEngine| engine.corten(&["inspect", "-f", "{{.Id}} {{.RootFS.Layers}}", "busybox"]).ok();
    assert_eq!(id(&here), id(&there));
    assert_eq!(there.corten(&["run", "--rm", "busybox", "echo", "arrived"]).ok(), "arrived");
    let again = dir.path().join("again.tar").display().to_string();
    there.corten(&["save", "-o", &again, "busybox"]).ok();
    for program in ["gzip", "zstd"] {
        let packed = format!("{again}.{program}");
        let output = fs::File::create(&packed).unwrap();
        assert!(Command::new(program).args(["-c", &again]).stdout(output).status().unwrap().success());
        there.corten(&["rmi", "busybox"]).ok();
        assert!(there.corten(&["load", "-i", &packed]).ok().contains("Loaded image: busybox:latest"));
    }
    assert_eq!(id(&here), id(&there));
}

#[test]
fn broken_archives_leave_nothing() {
    let engine = TestEngine::with_busybox();
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole.tar");
    engine.corten(&["save", "-o", &whole.display().to_string(), "busybox"]).ok();
    engine.corten(&["rmi", "busybox"]).ok();
    let used = || {
        run(Command::new("du").args(["-s", "--apparent-size"]).arg(engine.data_root().join("image/layers")))
            .ok()
    };
    let before = used();
    let bytes = fs::read(&whole).unwrap();
    let broken = dir.path().join("broken.tar");
    let load = || engine.corten(&["load", "-i", &broken.display().to_string()]);
    fs::write(&broken, &bytes[..bytes.len() / 2]).unwrap();
    assert!(load().fails(1).contains("truncated") || load().stderr.contains("end"));
    let at = bytes.len() / 3;
    let mut flipped = bytes.clone();
    flipped[at] ^= 0xff;
    fs::write(&broken, &flipped).unwrap();
    assert!(load().fails(1).contains("sha256:"));
    fs::write(&broken, b"not an archive at all").unwrap();
    load().fails(1);
    assert_eq!(engine.corten(&["images", "-q"]).ok(), "");
    assert_eq!(used(), before);
}

#[test]
fn an_image_for_another_machine_is_kept_but_not_run() {
    let engine = TestEngine::start();
    let dir = tempfile::tempdir().unwrap();
    let (root, archive) = (dir.path().join("root"), dir.path().join("root.tar"));
    fs::create_dir(&root).unwrap();
    fs::write(root.join("file"), "x").unwrap();
    tar_of(&root, &archive);
    let archive = archive.display().to_string();
    engine.corten(&["import", "--platform", "linux/s390x", &archive, "foreign"]).ok();
    assert_eq!(engine.docker(&["inspect", "-f", "{{.Architecture}}", "foreign"]).ok(), "s390x");
    let refused = engine.corten(&["run", "--rm", "foreign", "true"]).fails(125);
    assert!(refused.contains("s390x"), "{refused}");
}

#[test]
fn a_base_image_from_the_host_runs_its_package_manager() {
    let engine = TestEngine::start();
    engine.corten(&["image", "create-base", "base:1"]).ok();
    assert_eq!(engine.corten(&["run", "--rm", "base:1", "bash", "-c", "echo $((6*7))"]).ok(), "42");
    assert!(engine.docker(&["run", "--rm", "base:1", "dpkg", "-l"]).ok().contains("bash"));
    let secrets = "cut -d: -f2 /etc/shadow 2>/dev/null | grep -c '[$]' ; ls /root/.ssh 2>/dev/null; cat /etc/machine-id 2>/dev/null";
    assert_eq!(engine.corten(&["run", "--rm", "base:1", "sh", "-c", secrets]).stdout.trim(), "0");
}

#[test]
fn a_gigabyte_goes_in_runs_and_comes_out() {
    let engine = TestEngine::with_busybox();
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let (root, archive, saved) =
        (dir.path().join("root"), dir.path().join("big.tar"), dir.path().join("saved.tar"));
    corten_tests::busybox_rootfs(&root);
    let noise = fs::read("/bin/busybox").unwrap();
    fs::create_dir(root.join("data")).unwrap();
    for number in 0..1024_u32 {
        let mut content = noise.repeat((1 << 20) / noise.len() + 1);
        content.truncate(1 << 20);
        content[..4].copy_from_slice(&number.to_le_bytes());
        fs::write(root.join(format!("data/{number}")), content).unwrap();
    }
    tar_of(&root, &archive);
    let sum = "find /data -type f | sort | xargs cat | sha256sum";
    let expected = run(Command::new("sh").arg("-c").arg(format!(
        "cd {} && {}",
        root.display(),
        sum.replace("/data", "data")
    )))
    .ok();
    fs::remove_dir_all(&root).unwrap();
    engine.corten(&["import", &archive.display().to_string(), "big"]).ok();
    fs::remove_file(&archive).unwrap();
    assert_eq!(engine.corten(&["run", "--rm", "big", "sh", "-c", sum]).ok(), expected);
    engine.docker(&["save", "-o", &saved.display().to_string(), "big"]).ok();
    engine.corten(&["rmi", "big"]).ok();
    engine.corten(&["load", "-i", &saved.display().to_string()]).ok();
    assert_eq!(engine.docker(&["run", "--rm", "big", "sh", "-c", sum]).ok(), expected);
}

#[test]
fn a_save_that_is_killed_leaves_nothing() {
    let engine = TestEngine::with_busybox();
    let place = tempfile::tempdir_in("/var/tmp").expect("directory");
    let path = place.path().join("saved.tar");
    for round in 0..20u64 {
        let words = ["save", "-o", &path.display().to_string(), "busybox"];
        let mut save = engine.command(&words).spawn().expect("start the client");
        // Different every time; a save takes some milliseconds.
        std::thread::sleep(std::time::Duration::from_micros(round * 500));
        save.kill().expect("kill the client");
        save.wait().expect("the client's end");
        let names: Vec<_> =
            fs::read_dir(&place).expect("directory").flatten().map(|e| e.file_name()).collect();
        assert!(names.is_empty() || names == ["saved.tar"], "round {round}: {names:?}");
    }
    // One that is there is replaced, as a whole.
    fs::write(&path, "old").expect("an older file");
    engine.corten(&["save", "-o", &path.display().to_string(), "busybox"]).ok();
    engine.corten(&["load", "-i", &path.display().to_string()]).ok();
    let nowhere = engine.corten(&["save", "-o", "/dev/full", "busybox"]);
    assert!(nowhere.fails(1).contains("saving to /dev/full: No space left on device"));
}
