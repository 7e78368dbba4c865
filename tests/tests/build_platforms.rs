//! Builds for several platforms at once: the index of their images in the store, at a registry, in archives and as files.

use std::fs;
use std::path::Path;
use std::process::Command;

use corten_tests::registry::TestRegistry;
use corten_tests::{Output, TestEngine, run};
use serde_json::Value;
use tempfile::TempDir;

const BOTH: &str = "linux/amd64,linux/arm64";

/// Files are made for the one platform that can run programs, and copied into the images of all.
const DOCKERFILE: &str = "FROM --platform=$BUILDPLATFORM busybox AS made\nRUN mkdir /out && echo made >/out/tool\n\
    FROM scratch\nARG TARGETARCH\nCOPY --from=made /out /\nCOPY $TARGETARCH.txt /own\nENTRYPOINT [\"/tool\"]\n";

fn context(dockerfile: &str) -> TempDir {
    let context = tempfile::tempdir().unwrap();
    fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
    for architecture in ["amd64", "arm64"] {
        fs::write(context.path().join(format!("{architecture}.txt")), architecture).unwrap();
    }
    context
}

fn build(engine: &TestEngine, context: &Path, flags: &[&str]) -> Output {
    let context = context.display().to_string();
    engine.corten(&[&["build", "--progress", "plain"], flags, &[&context]].concat())
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The platforms of an index, in its order.
fn platforms(index: &Value) -> Vec<String> {
    let manifests = index["manifests"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let platform = |manifest: &Value| {
        let platform = &manifest["platform"];
        format!("{}/{}", text(&platform["os"]), text(&platform["architecture"]))
    };
    manifests.iter().map(platform).collect()
}

#[test]
fn one_name_stands_for_the_images_of_all_platforms() {
    let engine = TestEngine::with_busybox();
    let context = context(DOCKERFILE);
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).display().to_string();
    let flags =
        ["--platform", BOTH, "-t", "many:1", "--metadata-file", &at("metadata"), "--iidfile", &at("id")];
    let built = build(&engine, context.path(), &flags);
    let progress = built.stderr.clone();
    built.ok();
    for line in
        ["[linux/amd64->arm64 made 2/2] RUN", "[linux/amd64 made 2/2] RUN", "[linux/arm64 stage-1 2/3] COPY"]
    {
        assert!(progress.contains(line), "{line}: {progress}");
    }
    let metadata = json(&fs::read_to_string(at("metadata")).unwrap());
    let digest = metadata["containerimage.digest"].as_str().unwrap();
    assert_eq!(metadata["containerimage.descriptor"]["mediaType"], "application/vnd.oci.image.index.v1+json");
    assert_eq!(metadata["containerimage.config.digest"], Value::Null);
    assert_eq!(fs::read_to_string(at("id")).unwrap(), digest);
    // It is found by that, too, and each platform's image is there.
    let inspect =
        |more: &[&str]| engine.corten(&[&["image", "inspect", "-f", "{{.Architecture}}"], more].concat());
    assert_eq!(inspect(&[digest]).ok(), "amd64");
    assert_eq!(inspect(&["--platform", "linux/arm64", "many:1"]).ok(), "arm64");
    let listed = engine.corten(&["image", "ls", "-q", "-a"]).ok();
    assert_eq!(listed.lines().count(), 2, "busybox and one more: {listed}");
    // Built again it is the same, and what it no longer has goes.
    build(&engine, context.path(), &["--platform", BOTH, "-t", "many:1", "--metadata-file", &at("again")])
        .ok();
    assert_eq!(fs::read_to_string(at("metadata")).unwrap(), fs::read_to_string(at("again")).unwrap());
    fs::write(context.path().join("arm64.txt"), "another").unwrap();
    build(&engine, context.path(), &["--platform", BOTH, "-t", "many:1"]).ok();
    engine.corten(&["save", "-o", &at("saved.tar"), "many:1"]).ok();
    let names = run(Command::new("tar").args(["-tf", &at("saved.tar")])).ok();
    let blobs =
        names.lines().filter(|name| name.starts_with("blobs/sha256/") && !name.ends_with('/')).count();
    // An index, two manifests, two configurations, and of the two layers of each the first is the same.
    assert_eq!(blobs, 1 + 2 + 2 + 3, "{names}");
    engine.corten(&["rmi", "many:1"]).ok();
    inspect(&[digest]).fails(1);
}

#[test]
fn all_platforms_are_pushed_and_saved() {
    let engine = TestEngine::with_busybox();
    let context = context(DOCKERFILE);
    let place = tempfile::tempdir().unwrap();
    let registry = TestRegistry::start(&place.path().join("registry"), &[]);
    let at = |name: &str| place.path().join(name).display().to_string();
    let name = format!("{}/many:1", registry.address());
    let oci = format!("type=oci,name=kept:1,dest={}", at("layout.tar"));
    let flags = ["--platform", BOTH, "-t", &name, "--push", "-o", &oci, "--metadata-file", &at("metadata")];
    build(&engine, context.path(), &flags).ok();
    let metadata = json(&fs::read_to_string(at("metadata")).unwrap());
    let index = registry.connect().get("/v2/many/manifests/1").unwrap();
    assert_eq!(index.header("docker-content-digest"), metadata["containerimage.digest"].as_str().unwrap());
    let index = json(&index.text());
    assert_eq!(platforms(&index), ["linux/amd64", "linux/arm64"]);
    for manifest in index["manifests"].as_array().unwrap() {
        let path = format!("/v2/many/manifests/{}", manifest["digest"].as_str().unwrap());
        let manifest = json(&registry.connect().get(&path).unwrap().text());
        assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    }
    // The archive has the same index, and others read it.
    let layout = at("layout");
    fs::create_dir(&layout).unwrap();
    run(Command::new("tar").args(["-xf", &at("layout.tar"), "-C", &layout])).ok();
    let listed = json(&fs::read_to_string(Path::new(&layout).join("index.json")).unwrap());
    assert_eq!(listed["manifests"][0]["digest"], metadata["containerimage.digest"]);
    let other = TestEngine::start();
    other.corten(&["load", "-i", &at("layout.tar")]).ok();
    let architecture = |platform: &str| {
        other.corten(&["image", "inspect", "--platform", platform, "-f", "{{.Architecture}}", "kept:1"]).ok()
    };
    assert_eq!((architecture("linux/amd64"), architecture("linux/arm64")), ("amd64".into(), "arm64".into()));
    let unnamed = format!("type=oci,tar=false,dest={}", at("unnamed"));
    build(&engine, context.path(), &["--platform", BOTH, "-o", &unnamed]).ok();
    let listed = json(&fs::read_to_string(Path::new(&at("unnamed")).join("index.json")).unwrap());
    assert_eq!(listed["manifests"][0]["digest"], metadata["containerimage.digest"]);
}

#[test]
fn files_lie_in_a_directory_per_platform() {
    let engine = TestEngine::with_busybox();
    let context = context(DOCKERFILE);
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).display().to_string();
    let tar = format!("type=tar,dest={}", at("files.tar"));
    build(&engine, context.path(), &["--platform", BOTH, "-o", &at("out"), "-o", &tar]).ok();
    let read = |path: &str| fs::read_to_string(place.path().join(path)).unwrap();
    assert_eq!((read("out/linux_amd64/own"), read("out/linux_arm64/own")), ("amd64".into(), "arm64".into()));
    assert_eq!(read("out/linux_arm64/tool"), "made\n");
    let names = run(Command::new("tar").args(["-tf", &at("files.tar")])).ok();
    let expected = ["linux_amd64/", "linux_amd64/own", "linux_amd64/tool"];
    assert_eq!(names.lines().take(3).collect::<Vec<_>>(), expected);
    let split = format!("type=local,platform-split=true,dest={}", at("one"));
    build(&engine, context.path(), &["-o", &split]).ok();
    assert_eq!(read("one/linux_amd64/own"), "amd64");
    let flat = format!("type=local,platform-split=false,dest={}", at("flat"));
    let told = build(&engine, context.path(), &["--platform", BOTH, "-o", &flat]).fails(1);
    assert!(told.contains("over each other"), "{told}");
    let docker = format!("type=docker,dest={}", at("docker.tar"));
    let told = build(&engine, context.path(), &["--platform", BOTH, "-o", &docker]).fails(1);
    assert!(told.contains("holds one platform"), "{told}");
}

#[test]
fn what_can_t_run_fails_all() {
    let engine = TestEngine::with_busybox();
    let context = context("FROM scratch\nCOPY amd64.txt /x\nRUN [\"/x\"]\n");
    let told = build(&engine, context.path(), &["--platform", BOTH, "-t", "none:1"]).fails(1);
    assert!(told.contains("linux/"), "{told}");
    engine.corten(&["image", "inspect", "none:1"]).fails(1);
    let told = build(&engine, context.path(), &["--platform", "linux/amd64,a/b/c/d"]).fails(1);
    assert!(told.contains("invalid platform"), "{told}");
}

/// A base image of several platforms comes once per platform.
#[test]
fn base_images_are_pulled_for_each_platform() {
    let engine = TestEngine::with_busybox();
    let base = context("FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH.txt /base\n");
    let place = tempfile::tempdir().unwrap();
    let registry = TestRegistry::start(&place.path().join("registry"), &[]);
    let name = format!("{}/base:1", registry.address());
    build(&engine, base.path(), &["--platform", BOTH, "-t", &name, "--push"]).ok();
    let other = TestEngine::start();
    let above = context(&format!("FROM {name}\nCOPY amd64.txt /more\n"));
    let out = place.path().join("out");
    build(&other, above.path(), &["--platform", BOTH, "-t", "above:1", "-o", out.to_str().unwrap()]).ok();
    let read = |path: &str| fs::read_to_string(out.join(path)).unwrap();
    assert_eq!((read("linux_amd64/base"), read("linux_arm64/base")), ("amd64".into(), "arm64".into()));
    let architecture = other.corten(&[
        "image",
        "inspect",
        "--platform",
        "linux/arm64",
        "-f",
        "{{.Architecture}}",
        "above:1",
    ]);
    assert_eq!(architecture.ok(), "arm64");
}
