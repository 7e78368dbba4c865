//! What becomes of a build: files, archives, pushes, and what is written down of it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use corten_tests::registry::TestRegistry;
use corten_tests::{Output, TestEngine, eventually, run};
use tempfile::TempDir;

const DOCKERFILE: &str = "FROM busybox AS made\n\
    RUN mkdir -p /out/deep && echo text >/out/deep/file && ln -s /etc/passwd /out/link \
     && ln /out/deep/file /out/hard && echo x >/out/tool && chmod 4755 /out/tool && chown 7:8 /out/tool && : >/out/empty\n\
    FROM scratch AS files\nCOPY --from=made /out /\n";

fn context(dockerfile: &str) -> TempDir {
    let context = tempfile::tempdir().unwrap();
    fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
    context
}

fn build(engine: &TestEngine, context: &Path, flags: &[&str]) -> Output {
    let context = context.display().to_string();
    engine.corten(&[&["build", "--progress", "plain"], flags, &[&context]].concat())
}

fn assert_files(root: &Path) {
    assert_eq!(fs::read_to_string(root.join("deep/file")).unwrap(), "text\n");
    assert_eq!(fs::read_link(root.join("link")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(fs::metadata(root.join("empty")).unwrap().len(), 0);
    let tool = fs::metadata(root.join("tool")).unwrap();
    assert_eq!(tool.permissions().mode() & 0o777, 0o755);
    let inode = |name: &str| fs::metadata(root.join(name)).unwrap().ino();
    assert_eq!(inode("hard"), inode("deep/file"));
}

#[test]
fn files_go_to_a_directory_and_to_archives_at_once() {
    let engine = TestEngine::with_busybox();
    let context = context(DOCKERFILE);
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let text = |name: &str| at(name).display().to_string();
    let flags = [
        "-o",
        &text("new/out"),
        "-o",
        &format!("type=tar,dest={}", text("files.tar")),
        "-o",
        &format!("type=oci,name=named:1,dest={}", text("layout.tar")),
        "-o",
        &format!("type=oci,tar=false,dest={}", text("layout")),
        "--metadata-file",
        &text("metadata.json"),
        "--iidfile",
        &text("id"),
    ];
    build(&engine, context.path(), &flags).ok();
    assert_files(&at("new/out"));
    let owner = fs::metadata(at("new/out/tool")).unwrap();
    let own = fs::metadata(place.path()).unwrap();
    assert_eq!((owner.uid(), owner.gid()), (own.uid(), own.gid()), "files belong to who asked for them");
    let listed = run(Command::new("tar").args(["-xOf", &text("files.tar"), "deep/file"])).ok();
    assert_eq!(listed, "text");
    assert!(at("layout/index.json").is_file() && at("layout/blobs/sha256").is_dir());
    let names = run(Command::new("tar").args(["-tf", &text("layout.tar")])).ok();
    assert!(names.contains("oci-layout"), "{names}");
    let id = fs::read_to_string(at("id")).unwrap();
    assert_eq!(engine.corten(&["inspect", "-f", "{{.Id}}", "named:1"]).ok(), id);
    let metadata: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(at("metadata.json")).unwrap()).unwrap();
    assert_eq!(metadata["containerimage.config.digest"], id);
    assert_eq!(metadata["containerimage.descriptor"]["digest"], metadata["containerimage.digest"]);
    assert_eq!(metadata["image.name"], "docker.io/library/named:1");
}

#[test]
fn a_tar_goes_to_standard_output_and_nothing_else_does() {
    let engine = TestEngine::with_busybox();
    let context = context(DOCKERFILE);
    let archive = tempfile::NamedTempFile::new().unwrap();
    let mut command =
        engine.command(&["build", "-q", "-t", "t", "-o", "-", context.path().to_str().unwrap()]);
    let status = command.stdout(Stdio::from(archive.reopen().unwrap())).status().unwrap();
    assert!(status.success());
    let names = run(Command::new("tar").arg("-tf").arg(archive.path())).ok();
    assert_eq!(names, "deep/\ndeep/file\nempty\nhard\nlink\ntool");
    // Who gives a name wants an image, too.
    engine.corten(&["inspect", "t"]).ok();
    build(&engine, context.path(), &["-o", "type=tar,dest=/dev/null"]).ok();
    assert_eq!(engine.corten(&["images", "-q", "-f", "dangling=true"]).ok(), "", "files alone make no image");
}

#[test]
fn a_directory_is_not_left_by_links_and_not_taken_apart() {
    let engine = TestEngine::with_busybox();
    let context = context("FROM scratch\nCOPY tree /\n");
    fs::create_dir_all(context.path().join("tree/sub")).unwrap();
    fs::write(context.path().join("tree/sub/file"), "new").unwrap();
    let place = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).display().to_string();
    // A link that is there leads out: it is refused, or replaced, but nothing is written behind it.
    fs::create_dir(at("out")).unwrap();
    symlink(outside.path(), at("out/sub")).unwrap();
    let told = build(&engine, context.path(), &["-o", &at("out")]).fails(1);
    assert!(told.contains("not complete") && told.contains("sub"), "{told}");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    // A directory of the user's own is not removed for a file of that name.
    fs::create_dir_all(at("mine/sub/file")).unwrap();
    fs::write(at("mine/sub/file/kept"), "kept").unwrap();
    let told = build(&engine, context.path(), &["-o", &at("mine")]).fails(1);
    assert!(told.contains("cannot overwrite directory"), "{told}");
    assert_eq!(fs::read_to_string(at("mine/sub/file/kept")).unwrap(), "kept");
    // What is there otherwise stays.
    fs::create_dir(at("old")).unwrap();
    fs::write(at("old/kept"), "kept").unwrap();
    build(&engine, context.path(), &["-o", &at("old")]).ok();
    assert_eq!(fs::read_to_string(at("old/kept")).unwrap(), "kept");
    assert_eq!(fs::read_to_string(at("old/sub/file")).unwrap(), "new");
}

#[test]
fn an_archive_of_a_build_that_fails_or_is_killed_is_not_there() {
    let mut engine = TestEngine::with_busybox();
    let context = context("FROM busybox\nRUN exit 3\n");
    let place = tempfile::tempdir().unwrap();
    let dest = format!("type=tar,dest={}", place.path().join("x.tar").display());
    build(&engine, context.path(), &["-o", &dest]).fails(1);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    fs::write(context.path().join("Dockerfile"), "FROM busybox\nRUN sleep 1000\n").unwrap();
    let mut client = engine
        .command(&["build", "-o", &dest, context.path().to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let steps = || fs::read_dir(engine.data_root().join("snapshots")).map_or(0, Iterator::count);
    eventually("the step runs", || steps() > 0);
    client.kill().unwrap();
    client.wait().unwrap();
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    // An engine that is killed leaves no part of an archive as the whole either.
    let mut client = engine
        .command(&["build", "-o", &dest, context.path().to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("the step runs again", || steps() > 0);
    engine.kill();
    assert!(!client.wait().unwrap().success());
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    engine.restart();
}

#[test]
fn an_image_is_pushed_under_its_names() {
    let engine = TestEngine::with_busybox();
    let context = context("FROM busybox\nRUN echo pushed >/made\n");
    let data = tempfile::tempdir().unwrap();
    let registry = TestRegistry::start(&data.path().join("data"), &[]);
    let name = |tag: &str| format!("{}/built:{tag}", registry.address());
    build(&engine, context.path(), &["-t", &name("one"), "--push"]).ok();
    let both = format!("type=image,\"name={},{}\",push=true", name("two"), name("three"));
    build(&engine, context.path(), &["-o", &both, "--load"]).ok();
    for tag in ["one", "two", "three"] {
        engine.corten(&["rmi", &name(tag)]).ok();
    }
    assert_eq!(engine.corten(&["run", "--rm", &name("three"), "cat", "/made"]).ok(), "pushed");
    let told = build(&engine, context.path(), &["--push"]).fails(1);
    assert!(told.contains("needs a name"), "{told}");
    let nobody = format!("127.0.0.1:{}/built:1", corten_tests::free_port());
    let told = build(&engine, context.path(), &["-t", &nobody, "--push"]).fails(1);
    assert!(told.contains("failed to push"), "{told}");
    let told = build(&engine, context.path(), &["-o", "type=tar,dest=/dev/null", "--iidfile", "/dev/null"]);
    assert!(told.fails(1).contains("no image whose id"));
}

#[test]
fn what_is_pushed_is_known_by_what_the_registry_has() {
    let engine = TestEngine::with_busybox();
    let place = tempfile::tempdir().unwrap();
    let registry = TestRegistry::start(&place.path().join("registry"), &[]);
    let context = place.path().join("context");
    fs::create_dir(&context).unwrap();
    fs::write(context.join("Dockerfile"), "FROM busybox\nRUN echo pushed > /pushed\n").unwrap();
    let metadata = place.path().join("metadata").display().to_string();
    let name = format!("{}/pushed:1", registry.address());
    let path = context.display().to_string();
    engine.corten(&["build", "--push", "-t", &name, "--metadata-file", &metadata, &path]).ok();
    let written: serde_json::Value = serde_json::from_str(&fs::read_to_string(metadata).unwrap()).unwrap();
    let digest = written["containerimage.digest"].as_str().unwrap();
    let kept = registry.connect().get(&format!("/v2/pushed/manifests/{digest}")).unwrap();
    assert_eq!(kept.status, 200, "{written}");
    assert_eq!(written["containerimage.descriptor"]["size"], kept.body.len());
}
