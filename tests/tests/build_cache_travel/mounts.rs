//! Cache mounts that travel with a cache.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use corten_tests::{TestEngine, eventually};
use rustix::fs::XattrFlags;
use serde_json::Value;

use super::Site;

/// A step that leaves something in a cache mount.
const FILL: &str = "FROM BASE\nARG KIND=ap\nRUN --mount=type=cache,id=${KIND}t,target=/c,mode=0750 \
    mkdir /c/deb && echo text >/c/deb/file && ln /c/deb/file /c/twin && ln -s deb/file /c/link && \
    chmod 4711 /c/twin && chown 12:34 /c/deb && : >/c/.wh.name\n";

/// Another step with the same one: the first machine's is not found.
const LOOK: &str = "FROM BASE\nRUN --mount=type=cache,id=apt,target=/c,mode=0750 ls /c >/seen; cat /c/deb/file >>/seen; true\n";

/// The directories of cache mounts that an engine has.
pub fn directories(engine: &TestEngine) -> Vec<PathBuf> {
    let entries = fs::read_dir(engine.data_root().join("build/caches")).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| !path.file_name().expect("a name").to_string_lossy().starts_with('.'));
    paths
}

pub fn only_directory(engine: &TestEngine) -> PathBuf {
    let mut all = directories(engine);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

impl Site {
    /// A file of the image that was built.
    pub fn seen(&self, engine: &TestEngine) -> String {
        engine.corten(&["run", "--rm", "t", "cat", "/seen"]).ok()
    }

    pub fn mounts(&self) -> Vec<Value> {
        self.cached()["mounts"].as_array().cloned().unwrap_or_default()
    }
}

#[test]
fn a_second_machine_has_what_the_first_one_has_kept() {
    let first = TestEngine::with_busybox();
    let site = Site::new(&first);
    site.dockerfile(FILL);
    site.build(&first, &[]).ok();
    let twin = only_directory(&first).join("twin");
    rustix::fs::setxattr(&twin, "user.note", b"kept", XattrFlags::empty()).expect("an attribute");
    // The step is found, and its mount goes along all the same.
    let told = site.export(&first, ",mounts=apt");
    assert!(
        told.stderr.contains("CACHED") && told.stderr.contains("packed the cache mount apt"),
        "{}",
        told.stderr
    );
    let size = told.stderr.split("packed the cache mount apt: ").nth(1).and_then(|rest| rest.lines().next());
    assert!(size.is_some_and(|size| size.ends_with(" KiB")), "{size:?}");
    told.ok();
    let mounts = site.mounts();
    assert_eq!((mounts.len(), &mounts[0]["id"]), (1, &Value::from("apt")));
    let (manifest, config) = site.manifest("cache");
    assert_eq!(config["version"], 1);
    let at = config["rootfs"]["diff_ids"]
        .as_array()
        .expect("layers")
        .iter()
        .position(|id| *id == mounts[0]["layer"]);
    let blob = &manifest["layers"][at.expect("a layer")];
    assert_eq!(blob["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");

    let second = TestEngine::start();
    site.dockerfile(LOOK);
    let told = site.import(&second);
    assert!(!told.stderr.contains("WARN"), "{}", told.stderr);
    told.ok();
    assert_eq!(site.seen(&second), "deb\nlink\ntwin\ntext", "without names that begin with a dot");
    let there = only_directory(&second);
    let twin = fs::metadata(there.join("twin")).expect("a file");
    assert_eq!((twin.mode() & 0o7777, twin.nlink()), (0o4711, 2));
    assert_eq!(twin.ino(), fs::metadata(there.join("deb/file")).expect("a file").ino());
    let deb = fs::metadata(there.join("deb")).expect("a directory");
    assert_eq!((deb.uid(), deb.gid()), (12, 34));
    assert_eq!(fs::read_link(there.join("link")).expect("a link"), PathBuf::from("deb/file"));
    assert!(there.join(".wh.name").exists());
    let mut note = [0; 4];
    rustix::fs::getxattr(there.join("twin"), "user.note", &mut note[..]).expect("an attribute");
    assert_eq!(&note, b"kept");
    assert_eq!(fs::metadata(&there).expect("it").mode() & 0o7777, 0o750, "as the mount says");
    let listed = second.corten(&["builder", "du", "--verbose"]).ok();
    assert!(listed.contains(&format!("cache mount apt from {}", site.name("cache"))), "{listed}");
    // The step's container goes when the build is over.
    eventually("it is pruned", || {
        second.corten(&["builder", "prune", "-f", "--filter", "type=exec.cachemount"]).ok();
        directories(&second).is_empty()
    });
}

#[test]
fn one_that_no_two_steps_share_travels_too() {
    let first = TestEngine::with_busybox();
    let site = Site::new(&first);
    let step = |command: &str| {
        site.dockerfile(&format!(
            "FROM BASE\nRUN --mount=type=cache,sharing=private,id=p,target=/c {command}\n"
        ));
    };
    step("echo text >/c/file");
    site.export(&first, ",mounts=p").ok();
    let second = TestEngine::start();
    step("cat /c/file >/seen");
    site.import(&second).ok();
    assert_eq!(site.seen(&second), "text");
}

#[test]
fn what_is_sent_is_named() {
    let first = TestEngine::with_busybox();
    let site = Site::new(&first);
    site.dockerfile(&format!("{FILL}RUN --mount=type=cache,target=/other : >/other/file\nRUN --mount=type=cache,id=none,target=/none true\n"));
    site.export(&first, "").ok();
    assert!(site.mounts().is_empty(), "nothing goes that nobody asked for");
    let told = site.export(&first, ",mounts=apt:pip").fails(1);
    assert!(
        told.contains("no step of this build has the cache mount pip") && told.contains("/other, apt, none"),
        "{told}"
    );
    let told = site.export(&first, ",mounts=pip,ignore-error=true");
    assert!(
        told.stderr.contains("WARN: BuildCache: ") && told.stderr.contains("cache mount pip"),
        "{}",
        told.stderr
    );
    told.ok();
    let told = site.build(&first, &["--cache-to", "type=inline,mounts=all"]).fails(1);
    assert!(told.contains("an image has no room for directories of cache mounts"), "{told}");
    let told = site.export(&first, ",mounts=").fails(1);
    assert!(told.contains("mounts=apt:pip"), "{told}");
    site.export(&first, ",mounts=/other:apt,compression=gzip").ok();
    assert_eq!(site.mounts().len(), 2);
    // One that is empty isn't sent.
    site.export(&first, ",mounts=all").ok();
    let mut ids: Vec<String> = site.mounts().iter().map(|mount| mount["id"].to_string()).collect();
    ids.sort();
    assert_eq!(ids, ["\"/other\"", "\"apt\""]);
}

#[test]
fn what_has_not_changed_is_not_sent_again() {
    let first = TestEngine::with_busybox();
    let site = Site::new(&first);
    site.dockerfile(FILL);
    site.export(&first, ",mounts=all").ok();
    let before = site.mounts();
    let packed = |keys: &str| {
        let told = site.export(&first, keys);
        let packed = told.stderr.contains("packed the cache mount");
        told.ok();
        packed
    };
    assert!(!packed(",mounts=all"), "nobody has used it since");
    assert_eq!(site.mounts(), before);
    // Used, and the same: the same blob.
    site.dockerfile(&format!("{FILL}RUN --mount=type=cache,id=apt,target=/c,mode=0750 ls /c\n"));
    assert!(packed(",mounts=all"));
    assert_eq!(site.mounts(), before);
    site.dockerfile(&format!("{FILL}RUN --mount=type=cache,id=apt,target=/c,mode=0750 echo more >/c/more\n"));
    assert!(packed(",mounts=all"));
    assert_ne!(site.mounts(), before);
}

#[test]
fn a_machine_that_lives_on_adds_to_what_came() {
    let first = TestEngine::with_busybox();
    let site = Site::new(&first);
    site.dockerfile(FILL);
    site.export(&first, ",mounts=all").ok();
    let from = site.name("cache");
    let to = format!("type=registry,ref={from},mounts=all");
    let second = TestEngine::start();
    let again = |step: &str| {
        site.dockerfile(&format!(
            "FROM BASE\nRUN --mount=type=cache,id=apt,target=/c,mode=0750 {step}; ls /c >/seen\n"
        ));
        let told = site.build(&second, &["--cache-from", &from, "--cache-to", &to]);
        assert!(!told.stderr.contains("WARN"), "{}", told.stderr);
        told.ok();
        site.seen(&second)
    };
    let before = site.mounts();
    assert_eq!(again(": >/c/one"), "deb\nlink\none\ntwin");
    assert_ne!(site.mounts(), before);
    let inode = fs::metadata(only_directory(&second)).expect("it").ino();
    assert_eq!(again(": >/c/two"), "deb\nlink\none\ntwin\ntwo");
    assert_eq!(fs::metadata(only_directory(&second)).expect("it").ino(), inode, "it need not come again");
    // What another machine sends then takes its place.
    site.dockerfile("FROM BASE\nRUN --mount=type=cache,id=apt,target=/c,mode=0750 : >/c/new\n");
    site.export(&first, ",mounts=all").ok();
    assert_eq!(again(": >/c/three"), "deb\nlink\nnew\nthree\ntwin");
    assert_ne!(fs::metadata(only_directory(&second)).expect("it").ino(), inode);
    let third = TestEngine::start();
    site.dockerfile(LOOK);
    site.import(&third).ok();
    assert_eq!(site.seen(&third), "deb\nlink\nnew\nthree\ntwin\ntext");
}

#[test]
fn what_no_step_has_needed_stays_in_the_cache() {
    let first = TestEngine::with_busybox();
    let site = Site::new(&first);
    site.dockerfile(FILL);
    site.export(&first, ",mounts=all").ok();
    let before = site.mounts();
    let second = TestEngine::start();
    let other = TestEngine::start();
    for (engine, name) in [(&second, "cache"), (&second, "copy"), (&other, "copy")] {
        let to = format!("type=registry,ref={},mounts=all", site.name(name));
        let told = site.build(engine, &["--cache-from", &site.name("cache"), "--cache-to", &to]);
        assert!(told.stderr.contains("CACHED") && !told.stderr.contains("WARN"), "{}", told.stderr);
        told.ok();
        assert!(directories(engine).is_empty(), "nothing had to come for it");
        let (_, config) = site.manifest(name);
        assert_eq!(config["mounts"].as_array().expect("mounts"), &before);
    }
    // Another registry has it not: it comes, and goes on.
    let place = tempfile::tempdir().expect("a place");
    let registry = corten_tests::registry::TestRegistry::start(&place.path().join("data"), &[]);
    let to = format!("type=registry,ref={}/far,mounts=all", registry.address());
    site.build(&second, &["--cache-from", &site.name("cache"), "--cache-to", &to]).ok();
    let third = TestEngine::start();
    site.dockerfile(LOOK);
    site.build(&third, &["--cache-from", &format!("{}/far", registry.address())]).ok();
    assert_eq!(site.seen(&third), "deb\nlink\ntwin\ntext");
}

#[test]
fn mounts_go_by_directories_too() {
    let first = TestEngine::with_busybox();
    let site = Site::new(&first);
    let place = site.context().join("../mounts");
    let place = place.display();
    site.dockerfile(FILL);
    let told =
        site.build(&first, &["--cache-to", &format!("type=local,dest={place},mounts=apt:pip")]).fails(1);
    assert!(told.contains("no step of this build has the cache mount pip"), "{told}");
    let to = format!("type=local,dest={place},mounts=apt");
    site.build(&first, &["--cache-to", &to]).ok();
    let from = format!("type=local,src={place}");
    let second = TestEngine::start();
    // Found: it stays there. Done: it comes.
    site.build(&second, &["--cache-from", &from, "--cache-to", &to]).ok();
    assert!(directories(&second).is_empty());
    site.dockerfile(LOOK);
    let told = site.build(&second, &["--cache-from", &from]);
    assert!(!told.stderr.contains("WARN"), "{}", told.stderr);
    told.ok();
    assert_eq!(site.seen(&second), "deb\nlink\ntwin\ntext");
}
