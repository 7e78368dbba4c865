//! Cache mounts in caches of those who mean no good, and such that have suffered.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use corten_tests::TestEngine;
use corten_tests::registry::digest;
use serde_json::{Value, json};

use super::Site;
use super::hostile::CONFIG;
use super::mounts::only_directory;

/// Another step each time, so that it is done.
const LOOK: &str = "FROM BASE\nRUN --mount=type=cache,id=apt,target=/c ls /c >/seen; : NUMBER\n";

impl Site {
    /// Makes the cache one that has nothing but this as a cache mount.
    fn put_mount(&self, blob: &[u8], layer: &str) {
        assert_eq!(self.registry.connect().push_blob("cache", blob).expect("a blob"), 201);
        let layers = json!([{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(blob), "size": blob.len()}]);
        self.put_listed(layer, &layers);
    }

    fn put_listed(&self, layer: &str, layers: &Value) {
        let mount = json!({"id": "apt", "key": digest(b"apt"), "layer": layer, "size": 1});
        let config = json!({
            "version": 1, "rootfs": {"type": "layers", "diff_ids": [layer]}, "steps": [], "mounts": [mount],
        });
        self.put_cache(CONFIG, config.to_string().as_bytes(), layers);
    }

    /// A build for which the mount does not come; nothing is left of it.
    fn goes_without(&self, engine: &TestEngine, why: &str) {
        static BUILDS: AtomicUsize = AtomicUsize::new(0);
        let number = BUILDS.fetch_add(1, Ordering::Relaxed);
        self.dockerfile(&LOOK.replace("NUMBER", &number.to_string()));
        let told = self.import(engine);
        let progress = told.stderr.clone();
        told.ok();
        let warning = "WARN: BuildCache: the cache mount apt does not come from";
        assert!(progress.contains(warning) && progress.contains(why), "{why}: {progress}");
        assert_eq!(self.seen(engine), "");
        let own = only_directory(engine);
        assert!(fs::read_dir(&own).expect("it").next().is_none());
    }
}

fn tar(directory: &Path, options: &[&str]) -> Vec<u8> {
    let mut command = Command::new("tar");
    command.arg("-C").arg(directory).args(["-P", "-cf", "-"]).args(options).arg(".");
    let output = command.output().expect("tar");
    assert!(output.status.success());
    output.stdout
}

#[test]
fn a_mount_that_has_suffered_begins_empty() {
    let first = TestEngine::with_busybox();
    let site = Site::new(&first);
    site.dockerfile(
        "FROM BASE\nRUN --mount=type=cache,id=apt,target=/c echo text >/c/file\nRUN echo same >/same\n",
    );
    site.export(&first, ",mounts=all").ok();
    let (manifest, config) = site.manifest("cache");
    let layer = &site.mounts()[0]["layer"];
    let at = config["rootfs"]["diff_ids"].as_array().expect("layers").iter().position(|id| id == layer);
    let blob = manifest["layers"][at.expect("a layer")].clone();
    let hex = blob["digest"].as_str().expect("a digest").trim_start_matches("sha256:");
    let path = site.registry.data().join("blobs/sha256").join(hex);
    let whole = fs::read(&path).expect("the blob");
    let second = TestEngine::start();
    for at in [0, whole.len() / 2, whole.len() - 1] {
        let mut broken = whole.clone();
        broken[at] ^= 1;
        fs::write(&path, broken).expect("the blob");
        site.goes_without(&second, "");
    }
    // What else is in the cache counts still.
    site.dockerfile("FROM BASE\nRUN --mount=type=cache,id=apt,target=/c echo text >/c/file\nRUN echo same >/same\nRUN --mount=type=cache,id=apt,target=/c ls /c >/seen\n");
    let told = site.import(&second);
    assert!(told.stderr.contains("WARN") && told.stderr.matches("CACHED").count() >= 2, "{}", told.stderr);
    told.ok();
    fs::remove_file(&path).expect("the blob");
    site.goes_without(&second, "");
}

#[test]
fn what_a_stranger_has_packed_stays_in_its_place() {
    let engine = TestEngine::with_busybox();
    let site = Site::new(&engine);
    let from = tempfile::tempdir().expect("a directory");
    fs::write(from.path().join("evil"), "evil").expect("a file");
    let good = tar(from.path(), &[]);
    let out = tar(from.path(), &["--transform", "s,^./evil,../../evil,"]);
    site.put_mount(&out, &digest(&out));
    site.goes_without(&engine, "leaves the directory");
    assert!(!engine.data_root().join("build/evil").exists() && !engine.data_root().join("evil").exists());
    site.put_mount(&good, &digest(b"another"));
    site.goes_without(&engine, "what was packed is");
    for (bytes, why) in [(&good[..700], "truncated"), (b"no archive at all".as_slice(), "unpack")] {
        site.put_mount(bytes, &digest(bytes));
        site.goes_without(&engine, why);
    }
    for size in [1, u64::MAX / 2] {
        site.put_listed(&digest(&good), &json!([{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(&good), "size": size}]));
        site.goes_without(&engine, "");
    }
    let device = from.path().join("disk");
    let made = rustix::fs::mknodat(
        rustix::fs::CWD,
        &device,
        rustix::fs::FileType::BlockDevice,
        rustix::fs::Mode::RUSR,
        rustix::fs::makedev(8, 0),
    );
    made.expect("a device");
    let disk = tar(from.path(), &[]);
    site.put_mount(&disk, &digest(&disk));
    site.goes_without(&engine, "is a device");
    // What is as it should be comes.
    site.dockerfile(LOOK);
    site.put_mount(&good, &digest(&good));
    site.import(&engine).ok();
    assert_eq!(site.seen(&engine), "evil");
}
