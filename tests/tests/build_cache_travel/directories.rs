//! Caches in directories of the client's: OCI image layouts, which the engine never sees itself.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use corten_tests::registry::digest;
use corten_tests::{Output, TestEngine, binary, eventually, run};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{Site, image_id, layers, runs};

const BIG: &str = "FROM BASE\nRUN dd if=/dev/urandom of=/big bs=64k count=256 2>/dev/null\n\
    RUN --mount=type=cache,target=/count echo own >>/count/runs && echo own >/own\n";

impl Site {
    fn directory(&self) -> PathBuf {
        self.place.path().join("cache")
    }

    fn to_directory(&self, keys: &str) -> String {
        format!("type=local,dest={}{keys}", self.directory().display())
    }

    fn directory_source(&self) -> String {
        format!("type=local,src={}", self.directory().display())
    }

    fn import_directory(&self, engine: &TestEngine) -> Output {
        self.build(engine, &["--cache-from", &self.directory_source()])
    }

    fn blob(&self, digest: &str) -> PathBuf {
        self.directory().join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
    }

    fn index(&self) -> Value {
        json_of(&self.directory().join("index.json"))
    }

    /// The manifest that a tag stands for, with its digest.
    fn listed(&self, tag: &str) -> (String, Value) {
        let index = self.index();
        let entries = index["manifests"].as_array().expect("a list");
        let named = |entry: &&Value| entry["annotations"]["org.opencontainers.image.ref.name"] == tag;
        let entry = entries.iter().find(named).expect("the tag");
        let digest = entry["digest"].as_str().expect("a digest").to_owned();
        let manifest = json_of(&self.blob(&digest));
        (digest, manifest)
    }

    /// All files are what the list needs, and are what they are called.
    fn is_whole(&self) {
        let mut needed = BTreeSet::new();
        for entry in self.index()["manifests"].as_array().expect("a list") {
            let top = entry["digest"].as_str().expect("a digest").to_owned();
            let manifest = json_of(&self.blob(&top));
            let parts = manifest["layers"].as_array().expect("layers").iter().chain([&manifest["config"]]);
            needed.extend(parts.map(|part| part["digest"].as_str().expect("a digest").to_owned()));
            needed.insert(top);
        }
        let there: BTreeSet<String> = fs::read_dir(self.directory().join("blobs/sha256"))
            .expect("blobs")
            .map(|entry| {
                let entry = entry.expect("an entry");
                let name = format!("sha256:{}", entry.file_name().to_string_lossy());
                assert_eq!(digest(&fs::read(entry.path()).expect("a blob")), name);
                name
            })
            .collect();
        assert_eq!(there, needed);
    }
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON")
}

#[test]
fn a_second_machine_finds_all_steps_in_a_directory() {
    let first = TestEngine::with_busybox();
    let site = Site::new(&first);
    let told = site.build(&first, &["--cache-to", &site.to_directory(",mode=max,compression=zstd")]);
    assert!(told.stderr.contains("exporting build cache to"), "{}", told.stderr);
    told.ok();
    site.is_whole();
    assert_eq!(json_of(&site.directory().join("oci-layout")), json!({"imageLayoutVersion": "1.0.0"}));
    let (_, manifest) = site.listed("latest");
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");

    let second = TestEngine::start();
    // By a path that means something to the client alone.
    let context = site.context();
    let flags = ["build", "--progress", "plain", "-t", "t", "--cache-from", "type=local,src=cache"];
    let mut command = second.command(&flags);
    let told = run(command.arg(&context).current_dir(site.place.path()));
    let progress = told.stderr.clone();
    told.ok();
    assert!(
        progress.contains("importing build cache from cache") && !progress.contains("WARN"),
        "{progress}"
    );
    assert_eq!(runs(&second), [""; 0], "{progress}");
    assert_eq!(image_id(&first), image_id(&second), "the same image");
    assert_eq!(second.corten(&["run", "--rm", "t", "cat", "/own", "/out/file"]).ok(), "own\nmade");

    // On top of it goes the next one; what it replaces and nobody else has is gone.
    let both = ["--cache-from", &site.directory_source(), "--cache-to", &site.to_directory(",mode=max")];
    site.build(&second, &[&both[..], &["--cache-to", &site.to_directory(",tag=small")]].concat()).ok();
    site.is_whole();
    let (before, _) = site.listed("latest");
    site.write("file", "other\n");
    let third = TestEngine::start();
    site.build(&third, &both).ok();
    assert_eq!(runs(&third), [""; 0]);
    site.is_whole();
    let (after, _) = site.listed("latest");
    assert!(before != after && !site.blob(&before).exists());
    // By a digest, and by another tag.
    let (small, _) = site.listed("small");
    for key in [format!("digest={small}"), "tag=small".to_owned()] {
        let fourth = TestEngine::start();
        site.build(&fourth, &["--cache-from", &format!("{},{key}", site.directory_source())]).ok();
        assert_eq!(runs(&fourth), ["big", "made"]);
    }
}

#[test]
fn an_engine_far_away_gets_a_directorys_cache_too() {
    let first = TestEngine::with_busybox();
    let site = Site::new(&first);
    site.build(&first, &["--cache-to", &site.to_directory(",mode=max")]).ok();
    let (before, _) = site.listed("latest");
    let remote = TestEngine::start_with(&["-H", "tcp://127.0.0.1:0", "--insecure-tcp"]);
    let address = format!("tcp://{}", remote.listens_on_tcp("API"));
    let mut command = Command::new(binary("corten"));
    command
        .args(["-H", &address, "--no-autostart", "build", "--progress", "plain", "-t", "t"])
        .arg(site.context());
    command.args(["--cache-from", &site.directory_source(), "--cache-to", &site.to_directory("")]);
    let told = run(&mut command);
    assert!(!told.stderr.contains("WARN"), "{}", told.stderr);
    told.ok();
    assert_eq!((runs(&remote), image_id(&remote)), (Vec::new(), image_id(&first)));
    assert_ne!(site.listed("latest").0, before);
    site.is_whole();
}

#[test]
fn layers_that_nobody_needs_stay_in_the_directory() {
    let first = TestEngine::with_busybox();
    let site = Site::new(&first);
    // Nothing of the first stage is in the result.
    let dockerfile = "FROM BASE AS made\nRUN echo x >/x\n\
         RUN dd if=/dev/urandom of=/big bs=64k count=16 2>/dev/null\n\
         FROM BASE\nRUN --mount=type=bind,from=made,target=/made cp /made/x /y\n";
    site.dockerfile(dockerfile);
    site.build(&first, &["--cache-to", &site.to_directory(",mode=max")]).ok();
    let second = TestEngine::start();
    let both = ["--cache-from", &site.directory_source(), "--cache-to", &site.to_directory(",mode=max")];
    site.build(&second, &both).ok();
    assert_eq!(layers(&second), 2, "the base image's, and the one of the result");
    // The cache has the other ones nevertheless, as it had them.
    site.is_whole();
    let (_, manifest) = site.listed("latest");
    assert_eq!(manifest["layers"].as_array().expect("layers").len(), 3);
    // When a step needs them they come.
    site.dockerfile(&dockerfile.replace("cp /made/x /y", "test -s /made/big && cp /made/x /z"));
    site.build(&second, &both).ok();
    assert_eq!(second.corten(&["run", "--rm", "t", "cat", "/z"]).ok(), "x");
    assert_eq!(layers(&second), 5);
    site.is_whole();
}

#[test]
fn a_directory_that_is_none_is_told_of() {
    let engine = TestEngine::with_busybox();
    let site = Site::new(&engine);
    let told = site.import_directory(&engine);
    assert!(
        told.stderr.contains("WARNING: the build cache") && told.stderr.contains("is not used"),
        "{}",
        told.stderr
    );
    told.ok();
    site.build(&engine, &["--cache-to", &site.to_directory("")]).ok();
    for (keys, why) in [
        (",tag=no".to_owned(), "nothing in it has the tag no"),
        (format!(",digest={}", digest(b"no")), "is not there"),
    ] {
        let told = site.build(&engine, &["--cache-from", &(site.directory_source() + &keys)]);
        assert!(told.stderr.contains(why), "{}", told.stderr);
        told.ok();
    }
    for (flag, place, why) in [
        ("--cache-to", "type=local".to_owned(), "needs dest=DIRECTORY"),
        ("--cache-to", site.to_directory(",compression-level=3"), "takes no compression-level=3"),
        ("--cache-to", site.to_directory(",reset=true"), "takes no reset"),
        ("--cache-to", format!("type=local,dest={}/Dockerfile", site.context().display()), "it is a file"),
        ("--cache-from", "type=local".to_owned(), "needs src=DIRECTORY"),
        ("--cache-from", "type=local,src=/no,wings=2".to_owned(), "takes no wings=2"),
    ] {
        let told = site.build(&engine, &[flag, &place]).fails(1);
        assert!(told.contains(why), "{told}");
    }
    // Somebody else's file is nobody's to replace.
    fs::write(site.directory().join("index.json"), "text").expect("a file");
    let told = site.build(&engine, &["--cache-to", &site.to_directory("")]).fails(1);
    assert!(told.contains("index.json can't be read"), "{told}");
    assert_eq!(fs::read_to_string(site.directory().join("index.json")).expect("text"), "text");
}

#[test]
fn what_a_directory_has_become_is_seen() {
    let first = TestEngine::with_busybox();
    let site = Site::new(&first);
    site.build(&first, &["--cache-to", &site.to_directory(",mode=max")]).ok();
    let whole = site.place.path().join("whole");
    let copy = |from: &Path, to: &Path| {
        let _ = fs::remove_dir_all(to);
        run(Command::new("cp").arg("-a").arg(from).arg(to)).ok();
    };
    copy(&site.directory(), &whole);
    let (top, manifest) = site.listed("latest");
    let config = manifest["config"]["digest"].as_str().expect("a digest");
    let layer_blobs = || {
        let layers = manifest["layers"].as_array().expect("layers");
        layers.iter().map(|layer| site.blob(layer["digest"].as_str().expect("a digest"))).collect::<Vec<_>>()
    };
    let other = |path: &Path| {
        let mut bytes = fs::read(path).expect("a blob");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).expect("a blob");
    };
    let outside = site.place.path().join("outside");
    let linked = |path: &Path| {
        fs::rename(path, &outside).expect("a blob");
        symlink(&outside, path).expect("a link");
    };
    let endless =
        |path: &Path| fs::File::create(path).and_then(|file| file.set_len(1 << 42)).expect("a file");
    let shortened = |path: &Path| {
        let file = fs::File::options().write(true).open(path).expect("a blob");
        file.set_len(file.metadata().expect("a length").len() / 2).expect("a blob");
    };
    let engine = TestEngine::start();
    let lied = |what: &str| {
        engine.corten(&["builder", "prune", "-af"]).ok();
        // There may be none yet.
        let _ = engine.corten(&["rmi", "-f", "t"]);
        let told = site.import_directory(&engine);
        assert!(told.stderr.contains("WARN"), "{what}: {}", told.stderr);
        told.ok();
        let shown = engine.corten(&["run", "--rm", "t", "cat", "/own", "/out/file"]).ok();
        assert_eq!(shown, "own\nmade", "{what}");
        copy(&whole, &site.directory());
    };
    for blob in layer_blobs() {
        other(&blob);
    }
    lied("other layers");
    for blob in layer_blobs() {
        shortened(&blob);
    }
    lied("shortened layers");
    for blob in layer_blobs() {
        endless(&blob);
    }
    lied("layers without end");
    for blob in layer_blobs() {
        linked(&blob);
    }
    lied("links");
    for blob in layer_blobs() {
        fs::remove_file(blob).expect("a blob");
    }
    lied("no layers");
    for name in [top.as_str(), config] {
        other(&site.blob(name));
        lied("other text");
        shortened(&site.blob(name));
        lied("a part of the text");
        endless(&site.blob(name));
        lied("text without end");
        linked(&site.blob(name));
        lied("text behind a link");
    }
    // A list that leads to something else.
    linked(&site.directory().join("index.json"));
    lied("a linked list");
    let mut index = site.index();
    index["manifests"][0]["digest"] = json!(config);
    fs::write(site.directory().join("index.json"), index.to_string()).expect("a file");
    lied("a list of something else");
    let blobs = site.directory().join("blobs");
    fs::rename(&blobs, site.place.path().join("blobs")).expect("blobs");
    symlink(site.place.path().join("blobs"), &blobs).expect("a link");
    lied("blobs behind a link");
    assert_eq!(runs(&first), ["big", "made", "own"]);
    // As it was it is used.
    engine.corten(&["builder", "prune", "-af"]).ok();
    let told = site.import_directory(&engine);
    assert!(!told.stderr.contains("WARN"), "{}", told.stderr);
}

/// A client's build that goes to the directory, and comes to its export.
fn begun(site: &Site, engine: &TestEngine) -> Child {
    let told = tempfile::NamedTempFile::new().expect("a file");
    let context = site.context();
    let to = site.to_directory(",mode=max");
    let mut command = engine.command(&["build", "--progress", "plain", "-t", "t", "--cache-to", &to]);
    let output = || Stdio::from(told.as_file().try_clone().expect("a file"));
    let client = command.arg(&context).stdout(output()).stderr(output()).spawn().expect("a client");
    eventually("the build comes to it", || {
        fs::read_to_string(told.path()).expect("text").contains("exporting build cache to")
    });
    client
}

#[test]
fn builds_at_the_same_time_fill_one_directory() {
    let engines = ["a", "b"].map(|tag| (tag, TestEngine::with_busybox()));
    let site = Site::new(&engines[0].1);
    for round in 0..3 {
        let clients = engines.each_ref().map(|(tag, engine)| {
            let context = site.place.path().join(tag);
            fs::create_dir_all(&context).expect("a context");
            // Nothing that the other one has, and nothing that was there before.
            let step = format!(
                "RUN echo {tag} {round} >/file && dd if=/dev/urandom of=/big bs=64k count=64 2>/dev/null"
            );
            fs::write(context.join("Dockerfile"), format!("FROM busybox\n{step}\n")).expect("a file");
            let to = site.to_directory(&format!(",tag={tag}"));
            let mut command = engine.command(&["build", "-t", "t", "--cache-to", &to]);
            command.arg(context).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a client")
        });
        for mut client in clients {
            assert!(client.wait().expect("its end").success());
        }
        site.is_whole();
        assert_eq!(site.index()["manifests"].as_array().expect("a list").len(), 2);
    }
}

#[test]
fn who_is_killed_leaves_the_cache_that_was_there() {
    let mut first = TestEngine::with_busybox();
    let site = Site::new(&first);
    site.dockerfile(BIG);
    site.build(&first, &["--cache-to", &site.to_directory(",mode=max")]).ok();
    let is_used = |what: &str| {
        let second = TestEngine::start();
        site.dockerfile(BIG);
        let told = site.import_directory(&second);
        assert!(!told.stderr.contains("WARN"), "{what}: {}", told.stderr);
        told.ok();
        assert_eq!(runs(&second), [""; 0], "{what}");
    };
    for number in 0..3 {
        // More than is there, so that it has all of the old one's steps whenever it is done.
        site.dockerfile(&format!("{BIG}RUN dd if=/dev/urandom of=/{number} bs=64k count=256 2>/dev/null\n"));
        let mut client = begun(&site, &first);
        if number == 1 {
            let pid = Pid::from_raw(client.id().cast_signed()).expect("a client");
            kill_process(pid, Signal::KILL).expect("kill the client");
        } else {
            first.kill();
        }
        client.wait().expect("the client's end");
        if number != 1 {
            first.restart();
        }
        is_used(&format!("after kill {number}"));
    }
    site.build(&first, &["--cache-to", &site.to_directory(",mode=max")]).ok();
    is_used("in the end");
}

#[test]
fn clients_with_directories_of_the_same_name_leave_each_other_alone() {
    let engine = TestEngine::with_busybox();
    let site = Site::new(&engine);
    let second = TestEngine::start();
    let projects = ["a", "b"].map(|name| site.place.path().join(name));
    let build = |engine: &TestEngine, project: &Path, step: &str, flag: &[&str]| {
        let step = format!("FROM {}\nRUN --mount=type=cache,id=apt,target=/c {step}\n", site.name("base:1"));
        fs::write(project.join("Dockerfile"), step).expect("a file");
        let flags = [&["build", "--progress", "plain", "-t", "t"], flag, &["."]].concat();
        let told = run(engine.command(&flags).current_dir(project));
        assert!(!told.stderr.contains("WARN"), "{}", told.stderr);
        told.ok();
    };
    for project in &projects {
        fs::create_dir(project).expect("a project");
        let step = format!("echo {} >/c/file", project.display());
        build(&engine, project, &step, &["--cache-to", "type=local,dest=.cache,mounts=all"]);
    }
    let inodes = || {
        let inode = |path: PathBuf| fs::metadata(path).expect("a directory").ino();
        super::mounts::directories(&second).into_iter().map(inode).collect::<BTreeSet<_>>()
    };
    for round in 0..2 {
        let before = inodes();
        for project in &projects {
            let step = format!("grep -q {} /c/file && : {round}", project.display());
            build(&second, project, &step, &["--cache-from", "type=local,src=.cache"]);
        }
        let after = inodes();
        assert_eq!(after.len(), 2);
        assert!(round == 0 || before == after, "none comes twice");
    }
}

#[test]
fn what_is_refused_leaves_no_directory_behind() {
    let engine = TestEngine::with_busybox();
    let site = Site::new(&engine);
    let out = site.place.path().join("new/out");
    let flags = ["--provenance=referrers=true", "-o", out.to_str().expect("a path")];
    let told = site.build(&engine, &flags).fails(1);
    assert!(told.contains("referrers"), "{told}");
    assert!(!out.exists() && !site.place.path().join("new").exists());
}
