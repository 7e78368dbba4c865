//! Images: import, load, save, tag, list, inspect, history, remove; and what is done about broken ones.

use std::fs;
use std::path::{Path, PathBuf};
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
    assert!(nowhere.fails(1).contains("writing /dev/full: No space left on device"));
}

/// The digest of a file, as `sha256:…`.
fn digest(path: &Path) -> String {
    let sum = run(Command::new("sha256sum").arg(path)).ok();
    format!("sha256:{}", sum.split_whitespace().next().unwrap())
}

/// An image of several platforms as builders export it: an index with a manifest each and an attestation of the first one's. The
/// layer of `linux/386` is the same as that of `linux/amd64`, and runs.
fn multi_platform(place: &Path, name: &str) -> PathBuf {
    let blobs = place.join("layout/blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8], media_type: &str| {
        let path = blobs.join("new");
        fs::write(&path, bytes).unwrap();
        let digest = digest(&path);
        fs::rename(&path, blobs.join(digest.trim_start_matches("sha256:"))).unwrap();
        serde_json::json!({"mediaType": format!("application/vnd.{media_type}"), "digest": digest, "size": bytes.len()})
    };
    let json = |value: &serde_json::Value| serde_json::to_vec(value).unwrap();
    let manifest = |config: serde_json::Value, layers: Vec<serde_json::Value>| {
        put(
            &json(
                &serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": config, "layers": layers}),
            ),
            "oci.image.manifest.v1+json",
        )
    };
    let mut manifests = Vec::new();
    for architecture in ["amd64", "386", "s390x"] {
        let (root, tar) = (place.join("root"), place.join("layer.tar"));
        corten_tests::busybox_rootfs(&root);
        fs::write(root.join("platform"), architecture).unwrap();
        tar_of(&root, &tar);
        fs::remove_dir_all(&root).unwrap();
        let diff_id = digest(&tar);
        assert!(Command::new("gzip").args(["-nf"]).arg(&tar).status().unwrap().success());
        let layer = put(&fs::read(place.join("layer.tar.gz")).unwrap(), "oci.image.layer.v1.tar+gzip");
        let config = put(
            &json(
                &serde_json::json!({"architecture": architecture, "os": "linux", "created": "2026-01-02T03:04:05Z",
                "config": {"Cmd": ["cat", "/platform"], "Labels": {"arch": architecture}},
                "rootfs": {"type": "layers", "diff_ids": [diff_id]},
                "history": [{"created_by": format!("made for {architecture}"), "created": "2026-01-02T03:04:05Z"}]}),
            ),
            "oci.image.config.v1+json",
        );
        let mut one = manifest(config, vec![layer]);
        one["platform"] = serde_json::json!({"architecture": architecture, "os": "linux"});
        manifests.push(one);
    }
    let mut statement = put(
        br#"{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://slsa.dev/provenance/v0.2","subject":[],"predicate":{}}"#,
        "in-toto+json",
    );
    statement["mediaType"] = "application/vnd.in-toto+json".into();
    statement["annotations"] =
        serde_json::json!({"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"});
    let mut attestation = manifest(put(b"{}", "oci.image.config.v1+json"), vec![statement]);
    attestation["platform"] = serde_json::json!({"architecture": "unknown", "os": "unknown"});
    attestation["annotations"] = serde_json::json!({"vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": manifests[0]["digest"]});
    manifests.push(attestation);
    let mut index = put(
        &json(
            &serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": manifests}),
        ),
        "oci.image.index.v1+json",
    );
    index["annotations"] = serde_json::json!({"io.containerd.image.name": name});
    let layout = place.join("layout");
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    fs::write(
        layout.join("index.json"),
        json(&serde_json::json!({"schemaVersion": 2, "manifests": [index]})),
    )
    .unwrap();
    let archive = place.join("multi.tar");
    tar_of(&layout, &archive);
    fs::remove_dir_all(&layout).unwrap();
    archive
}

/// The manifests of an image as the API tells them: platform and whether it is there.
fn manifests(engine: &TestEngine) -> Vec<String> {
    let list = engine.curl(&[], "/v1.51/images/json?manifests=1").ok();
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let all = list[0]["Manifests"].as_array().unwrap();
    let told = |manifest: &serde_json::Value| {
        let architecture = manifest["ImageData"]["Platform"]["architecture"].as_str().unwrap_or("");
        format!("{} {architecture} {}", manifest["Kind"].as_str().unwrap(), manifest["Available"])
    };
    all.iter().map(told).collect()
}

#[test]
fn an_image_of_several_platforms() {
    let (engine, other) = (TestEngine::start(), TestEngine::start());
    let place = tempfile::tempdir_in("/var/tmp").unwrap();
    let archive = multi_platform(place.path(), "docker.io/library/multi:1").display().to_string();
    engine.docker(&["load", "-i", &archive]).ok();
    let whole = ["image amd64 true", "image 386 true", "image s390x true", "attestation  true"];
    assert_eq!(manifests(&engine), whole);
    let tree = engine.corten(&["images", "--tree"]).ok();
    assert!(tree.contains("├─ linux/386") && tree.contains("└─ linux/s390x"), "{tree}");
    let tree = engine.docker(&["images", "--tree"]).ok();
    assert!(tree.contains("linux/386") && tree.contains("linux/s390x"), "{tree}");
    // Run by platform; another one is unpacked when it is asked for, and is no image of its own.
    for (platform, expected) in [("linux/amd64", "amd64"), ("linux/386", "386"), ("linux/386", "386")] {
        assert_eq!(engine.docker(&["run", "--rm", "--platform", platform, "multi:1"]).ok(), expected);
    }
    assert_eq!(engine.corten(&["run", "--rm", "multi:1"]).ok(), "amd64");
    let refused = engine.corten(&["run", "--rm", "--platform", "linux/s390x", "multi:1"]).fails(125);
    assert!(refused.contains("made for linux/s390x, this host runs linux/amd64"), "{refused}");
    let refused =
        engine.docker(&["create", "--pull", "never", "--platform", "linux/arm64", "multi:1"]).fails(1);
    assert!(refused.contains("does not provide the specified platform (linux/arm64)"), "{refused}");
    assert_eq!(engine.docker(&["images", "-aq"]).ok().lines().count(), 1);
    // Told of by platform.
    for client in [TestEngine::corten, TestEngine::docker] {
        let format = ["-f", "{{.Architecture}} {{.Config.Labels.arch}}", "multi:1"];
        let inspect = [&["image", "inspect", "--platform", "linux/s390x"], &format[..]].concat();
        assert_eq!(client(&engine, &inspect).ok(), "s390x s390x");
        let history = client(&engine, &["history", "--platform", "linux/386", "multi:1"]).ok();
        assert!(history.contains("made for 386"), "{history}");
        let missing = client(&engine, &["image", "inspect", "--platform", "linux/arm64", "multi:1"]).fails(1);
        assert!(missing.contains("does not provide the specified platform (linux/arm64)"), "{missing}");
    }
    let attestations = engine.curl(&[], "/v1.55/images/multi:1/attestations?statement=1").ok();
    assert!(attestations.contains(r#""PredicateType":"https://slsa.dev/provenance/v0.2""#), "{attestations}");
    assert!(attestations.contains("Statement/v0.1"));
    let none = engine.curl(&[], "/v1.55/images/multi:1/attestations?type=other").ok();
    assert_eq!(none, "[]");
    // Out and in again, by platform.
    let part = place.path().join("part.tar").display().to_string();
    engine.docker(&["save", "--platform", "linux/386", "-o", &part, "multi:1"]).ok();
    other.docker(&["load", "-i", &part]).ok();
    assert_eq!(manifests(&other), ["image 386 true"]);
    other.corten(&["rmi", "multi:1"]).ok();
    other.docker(&["load", "--platform", "linux/s390x", "-i", &archive]).ok();
    assert_eq!(
        manifests(&other),
        ["image amd64 false", "image 386 false", "image s390x true", "attestation  false"]
    );
    other.docker(&["load", "-i", &archive]).ok();
    assert_eq!(manifests(&other), whole);
    assert_eq!(other.corten(&["run", "--rm", "multi:1"]).ok(), "amd64");
    // One platform goes, the others stay.
    engine.corten(&["create", "--name", "user", "--platform", "linux/386", "multi:1"]).ok();
    let used = engine.corten(&["rmi", "--platform", "linux/386", "multi:1"]).fails(1);
    assert!(used.contains("image is being used by stopped container"), "{used}");
    assert!(engine.docker(&["rmi", "multi:1"]).fails(1).contains("is using its referenced image"));
    engine.corten(&["rm", "user"]).ok();
    engine.corten(&["rmi", "--platform", "linux/s390x", "--platform", "linux/amd64", "multi:1"]).ok();
    assert_eq!(
        manifests(&engine),
        ["image amd64 false", "image 386 true", "image s390x false", "attestation  false"]
    );
    assert_eq!(engine.corten(&["run", "--rm", "multi:1"]).ok(), "386");
    assert!(engine.docker(&["rmi", "multi:1"]).ok().contains("Untagged: multi:1"));
    for directory in ["image/layers", "image/blobs/sha256"] {
        let left: Vec<_> = fs::read_dir(engine.data_root().join(directory)).unwrap().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn unused_images_are_pruned() {
    let engine = TestEngine::with_busybox();
    let layers = || {
        let files = fs::read_dir(engine.data_root().join("image/layers")).unwrap().flatten();
        files
            .map(|entry| run(Command::new("du").args(["-s", "-B1"]).arg(entry.path())).ok())
            .map(|line| line.split_whitespace().next().unwrap().parse::<u64>().unwrap())
            .sum::<u64>()
    };
    let place = tempfile::tempdir_in("/var/tmp").unwrap();
    let add = |name: &str, label: &str| {
        let (root, tar) = (place.path().join("root"), place.path().join("root.tar"));
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join("file"), name.repeat(500_000)).unwrap();
        tar_of(&root, &tar);
        engine
            .corten(&["import", "-c", &format!("LABEL kind={label}"), &tar.display().to_string(), name])
            .ok();
    };
    add("used", "x");
    add("named", "y");
    add("kept", "z");
    // Two that have lost their names.
    for (name, label) in [("lost", "a"), ("other", "b")] {
        add(name, label);
        engine.corten(&["tag", "busybox", name]).ok();
    }
    engine.corten(&["rmi", "lost", "other"]).ok();
    engine.corten(&["create", "--name", "user", "used", "true"]).ok();
    let prune = |filters: &str| {
        let answer = engine.curl(&["-XPOST"], &format!("/v1.51/images/prune?filters={filters}")).ok();
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let deleted = answer["ImagesDeleted"]
            .as_array()
            .map_or(0, |all| all.iter().filter(|item| item.get("Untagged").is_none()).count());
        (deleted, answer["SpaceReclaimed"].as_u64().unwrap())
    };
    assert_eq!(prune("%7B%22until%22:%5B%221h%22%5D%7D"), (0, 0));
    let before = layers();
    // The image and its layer.
    let (deleted, bytes) = prune("%7B%22label%22:%5B%22kind=a%22%5D%7D");
    assert_eq!(deleted, 2);
    assert!(bytes > 1_000_000 && bytes <= before - layers() + 65_536, "{bytes} of {}", before - layers());
    let pruned = engine.docker(&["image", "prune", "-f"]).ok();
    assert!(pruned.contains("deleted: sha256:") && pruned.contains("Total reclaimed space: 2"), "{pruned}");
    assert_eq!(engine.corten(&["image", "prune", "-f"]).ok(), "Total reclaimed space: 0B");
    let all = engine.corten(&["image", "prune", "-af", "--filter", "label!=kind=z"]).ok();
    assert!(all.contains("untagged: named:latest") && all.contains("untagged: busybox:latest"), "{all}");
    let mut left: Vec<String> =
        engine.corten(&["images", "--format", "{{.Repository}}"]).ok().lines().map(str::to_owned).collect();
    left.sort();
    assert_eq!(left, ["kept", "used"]);
    assert_eq!(prune("%7B%22nonsense%22:%5B%221%22%5D%7D".replace("nonsense", "dangling").as_str()), (0, 0));
}
