//! Build contexts of other hosts, by all ways in: repositories, archives and Dockerfiles behind URLs; archives on standard input; named
//! contexts of such kinds.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use corten_tests::git::GitServer;
use corten_tests::{Output, TestEngine, eventually, run};

const DOCKERFILE: &str = "FROM busybox\nCOPY . /here/\nRUN echo made >/made\n";

/// A server with a repository, an archive of the same files in several forms, and a Dockerfile alone.
fn server() -> GitServer {
    let server = GitServer::new();
    let files = [
        ("Dockerfile", DOCKERFILE),
        ("sub/Dockerfile", "FROM busybox\nCOPY file /here/\n"),
        ("sub/file", "one"),
        ("other/Special", "FROM busybox\nCOPY sub/file /special\n"),
        ("broken/Dockerfile", "FROM busybox\nRUN exit 3\n"),
        (".dockerignore", "left-out\n"),
        ("left-out", "x"),
    ];
    server.with("a.git", &files);
    fs::write(server.root().join("Dockerfile"), "FROM busybox\nRUN echo alone >/made\n").unwrap();
    for (name, flag) in [("a.tar", "-c"), ("a.tar.gz", "-cz"), ("a.tar.xz", "-cJ")] {
        let mut tar = Command::new("tar");
        tar.arg(flag).arg("-f").arg(server.root().join(name)).arg("-C").arg(server.work("a.git")).arg(".");
        run(&mut tar).ok();
    }
    server
}

fn runs(engine: &TestEngine, image: &str, script: &str) -> String {
    engine.corten(&["run", "--rm", image, "sh", "-c", script]).ok()
}

fn build(engine: &TestEngine, arguments: &[&str]) -> Output {
    engine.corten(&[&["build", "-t", "t", "--progress", "plain"], arguments].concat())
}

fn is_swept(engine: &TestEngine) {
    eventually("nothing of it is left", || {
        fs::read_dir(engine.data_root().join("build/archives")).map_or(0, Iterator::count) == 0
    });
}

#[test]
fn our_client_names_contexts_elsewhere() {
    let engine = TestEngine::with_busybox();
    let server = server();
    let url = server.url("a.git");
    let told = build(&engine, &[&url]);
    assert!(told.stderr.contains(&format!("load git source {url}")), "{}", told.stderr);
    told.ok();
    assert_eq!(
        runs(&engine, "t", "ls -A /here; cat /made"),
        ".dockerignore\nDockerfile\nbroken\nother\nsub\nmade"
    );
    let again = build(&engine, &[&url]);
    assert_eq!(again.stderr.matches("CACHED").count(), 3, "{}", again.stderr);
    build(&engine, &[&format!("{url}#main:sub")]).ok();
    assert_eq!(runs(&engine, "t", "cat /here/file"), "one");
    build(&engine, &["-f", "other/Special", &url]).ok();
    assert_eq!(runs(&engine, "t", "cat /special"), "one");
    // Another Dockerfile than its own.
    let own = tempfile::tempdir().unwrap();
    let path = own.path().join("Dockerfile");
    fs::write(&path, "FROM busybox\nCOPY sub/file /own\n").unwrap();
    build(&engine, &["-f", path.to_str().unwrap(), &url]).ok();
    assert_eq!(runs(&engine, "t", "cat /own"), "one");
    build(&engine, &["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", &url]).ok();
    assert_eq!(runs(&engine, "t", "ls -d /here/.git"), "/here/.git");
    for archive in ["plain/a.tar", "plain/a.tar.gz", "plain/a.tar.xz"] {
        build(&engine, &["--no-cache", &server.url(archive)]).ok();
        assert_eq!(runs(&engine, "t", "cat /here/sub/file"), "one", "{archive}");
    }
    build(&engine, &[&server.url("plain/Dockerfile")]).ok();
    assert_eq!(runs(&engine, "t", "cat /made"), "alone");
    // What is wrong is shown in its place, though the client has not read it.
    let told = build(&engine, &[&format!("{url}#:broken")]).fails(1);
    assert!(told.contains("Dockerfile:2") && told.contains(">>> RUN exit 3"), "{told}");
    let told = build(&engine, &["-f", "nothing", &url]).fails(1);
    assert!(told.contains("nothing: no such file"), "{told}");
    let targets = engine.corten(&["build", "--call=targets", &url]).ok();
    assert!(targets.contains("default"), "{targets}");
    let told = build(&engine, &[&server.url("plain/missing")]).fails(1);
    assert!(told.contains("404 Not Found"), "{told}");
    is_swept(&engine);
}

#[test]
fn an_archive_may_come_on_standard_input() {
    let engine = TestEngine::with_busybox();
    let server = server();
    let piped = |name: &str, flags: &[&str]| {
        let mut corten =
            engine.command(&[&["build", "-t", "t", "--progress", "plain"], flags, &["-"]].concat());
        let input = fs::File::open(server.root().join(name)).unwrap();
        Output::from(corten.stdin(Stdio::from(input)).output().unwrap())
    };
    for name in ["a.tar", "a.tar.gz", "a.tar.xz"] {
        piped(name, &["--no-cache"]).ok();
        assert_eq!(runs(&engine, "t", "ls -A /here"), ".dockerignore\nDockerfile\nbroken\nother\nsub");
    }
    piped("a.tar", &["-f", "other/Special"]).ok();
    assert_eq!(runs(&engine, "t", "cat /special"), "one");
    piped("Dockerfile", &[]).ok();
    assert_eq!(runs(&engine, "t", "cat /made"), "alone");
    let told = piped("a.tar", &["-f", "broken/Dockerfile"]).fails(1);
    assert!(told.contains(">>> RUN exit 3"), "{told}");
    // Half of one.
    let mut corten = engine.command(&["build", "-"]);
    let mut child =
        corten.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let whole = fs::read(server.root().join("a.tar")).unwrap();
    let _ = child.stdin.take().unwrap().write_all(&whole[..700]);
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{}", String::from_utf8_lossy(&ended.stderr));
    is_swept(&engine);
}

#[test]
fn the_older_api_fetches_what_remote_names() {
    let engine = TestEngine::with_busybox();
    let server = server();
    let ask = |query: &str| {
        let path = format!("/build?t=t&{query}");
        engine.curl(&["-X", "POST"], &path).stdout
    };
    let told = ask(&format!("remote={}%23main:sub", server.url("a.git")));
    assert!(told.contains("Successfully built"), "{told}");
    assert_eq!(runs(&engine, "t", "cat /here/file"), "one");
    for path in ["plain/a.tar", "plain/a.tar.gz"] {
        let told = ask(&format!("nocache=1&dockerfile=other/Special&remote={}", server.url(path)));
        assert!(told.contains("Successfully built"), "{told}");
    }
    let told = ask(&format!("remote={}", server.url("plain/Dockerfile")));
    assert!(told.contains("Successfully built"), "{told}");
    assert_eq!(runs(&engine, "t", "cat /made"), "alone");
    for (remote, wanted) in [
        ("file:///etc", "neither the URL of a repository nor"),
        ("client-session", "neither the URL of a repository nor"),
        ("https://127.0.0.1:1/x.git", "127.0.0.1:1"),
    ] {
        let told = ask(&format!("remote={remote}"));
        assert!(told.contains(wanted), "{remote}: {told}");
    }
    is_swept(&engine);
}

#[test]
fn docker_s_builder_fetches_them_too() {
    let engine = TestEngine::with_busybox();
    let server = server();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let plugins = repository.join("target/clients");
    run(Command::new(repository.join("scripts/docker-plugins")).arg(&plugins)).ok();
    let own = tempfile::tempdir().unwrap();
    let docker = |arguments: &[&str]| {
        let mut command =
            engine.docker_command(&[&["build", "--progress=plain", "-t", "t"], arguments].concat());
        run(command.env("DOCKER_CONFIG", &plugins).current_dir(own.path()))
    };
    let url = server.url("a.git");
    docker(&[&url]).ok();
    assert_eq!(
        runs(&engine, "t", "ls -A /here; cat /made"),
        ".dockerignore\nDockerfile\nbroken\nother\nsub\nmade"
    );
    docker(&["-f", "other/Special", &format!("{url}#main")]).ok();
    assert_eq!(runs(&engine, "t", "cat /special"), "one");
    fs::write(own.path().join("Dockerfile"), "FROM busybox\nCOPY sub/file /own\n").unwrap();
    docker(&["-f", own.path().join("Dockerfile").to_str().unwrap(), &url]).ok();
    assert_eq!(runs(&engine, "t", "cat /own"), "one");
    docker(&[&server.url("plain/a.tar.gz")]).ok();
    docker(&[&server.url("plain/Dockerfile")]).ok();
    assert_eq!(runs(&engine, "t", "cat /made"), "alone");
    let failed = docker(&[&format!("{url}#:broken")]);
    assert!(failed.code != 0 && failed.stderr.contains(">>> RUN exit 3"), "{}", failed.stderr);
    // Who asks is known by a secret.
    server.require("Basic eC1hY2Nlc3MtdG9rZW46aHVzaA==");
    fs::write(own.path().join("token"), "hush").unwrap();
    assert!(docker(&[&url]).code != 0);
    docker(&["--secret", "id=GIT_AUTH_TOKEN,src=token", &url]).ok();
    is_swept(&engine);
}

#[test]
fn named_contexts_may_be_elsewhere_and_bases() {
    let engine = TestEngine::with_busybox();
    let server = server();
    let own = tempfile::tempdir().unwrap();
    let base = own.path().join("base");
    fs::create_dir_all(base.join("bin")).unwrap();
    fs::copy("/bin/busybox", base.join("bin/busybox")).unwrap();
    fs::write(
        own.path().join("Dockerfile"),
        "FROM base\nCOPY --from=code sub/file /code\nCOPY --from=archive sub/file /archive\n\
         RUN --mount=type=bind,from=code,target=/code-too [\"/bin/busybox\", \"cp\", \"/code-too/sub/file\", \"/bound\"]\n\
         CMD [\"/bin/busybox\", \"cat\", \"/code\", \"/archive\", \"/bound\"]\n",
    )
    .unwrap();
    let contexts = [
        format!("base={}", base.display()),
        format!("code={}#main", server.url("a.git")),
        format!("archive={}", server.url("plain/a.tar.gz")),
    ];
    let flags: Vec<&str> = contexts.iter().flat_map(|context| ["--build-context", context]).collect();
    let path = own.path().to_str().unwrap();
    build(&engine, &[flags.as_slice(), &[path]].concat()).ok();
    assert_eq!(engine.corten(&["run", "--rm", "t"]).ok(), "oneoneone");
    let id = engine.corten(&["inspect", "-f", "{{.Id}}", "t"]).ok();
    let again = build(&engine, &[flags.as_slice(), &[path]].concat());
    assert_eq!(again.stderr.matches("CACHED").count(), 4, "{}", again.stderr);
    assert_eq!(engine.corten(&["inspect", "-f", "{{.Id}}", "t"]).ok(), id);
    is_swept(&engine);
}

/// An image of three files in layers of their own, as a layout with the tag `1`.
fn layout(own: &Path) -> std::path::PathBuf {
    let engine = TestEngine::with_busybox();
    let context = own.join("made");
    fs::create_dir(&context).unwrap();
    let dockerfile = "FROM busybox\nRUN echo base >/base\nRUN echo more >/more\nENV FROM_BASE=yes\n";
    fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    let layout = own.join("layout");
    let output = format!("type=oci,tar=false,dest={}", layout.display());
    engine.corten(&["build", "-t", "made:1", "-o", &output, context.to_str().unwrap()]).ok();
    layout
}

#[test]
fn an_image_layout_is_a_base() {
    let own = tempfile::tempdir().unwrap();
    let layout = layout(own.path());
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    fs::write(
        own.path().join("Dockerfile"),
        "FROM base\nRUN test \"$FROM_BASE\" = yes\nCOPY --from=base /base /copy\n\
         RUN --mount=from=base,target=/mnt cat /mnt/more >/seen\n",
    )
    .unwrap();
    // One that has nothing of it.
    let engine = TestEngine::start();
    let path = own.path().to_str().unwrap();
    let mut ids = Vec::new();
    for which in ["", ":1", &format!("@{digest}"), &format!(":any@{digest}")] {
        let context = format!("base=oci-layout://{}{which}", layout.display());
        build(&engine, &["--build-context", &context, path]).ok();
        assert_eq!(runs(&engine, "t", "cat /base /copy /seen"), "base\nbase\nmore");
        ids.push(engine.corten(&["inspect", "-f", "{{.Id}}", "t"]).ok());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    let said = engine.corten(&["images"]).ok();
    assert!(!said.contains("made"), "it came without its name: {said}");
    for (context, why) in [
        (format!("{}:2", layout.display()), "nothing in it has the tag 2"),
        (format!("{}@sha256:1", layout.display()), "sha256:1"),
        (format!("{}@sha256:{}", layout.display(), "0".repeat(64)), "it is not there"),
        (path.to_owned(), "nothing in it has the tag latest"),
        (format!("{path}/none"), "No such file"),
    ] {
        let context = format!("base=oci-layout://{context}");
        let said = build(&engine, &["--build-context", &context, path]).fails(1);
        assert!(said.contains(why), "{context}: {said}");
    }
}

#[test]
fn an_image_layout_that_lies_is_no_base() {
    let own = tempfile::tempdir().unwrap();
    let layout = layout(own.path());
    fs::write(own.path().join("Dockerfile"), "FROM base\n").unwrap();
    let (path, context) = (own.path().to_str().unwrap(), format!("base=oci-layout://{}", layout.display()));
    let engine = TestEngine::start();
    let refused = |what: &str| {
        let said = build(&engine, &["--build-context", &context, path]).fails(1);
        assert!(
            said.contains("cannot read the image") || said.contains("no OCI image layout"),
            "{what}: {said}"
        );
        assert_eq!(engine.corten(&["images", "-aq"]).ok(), "", "{what}");
    };
    let blobs: Vec<_> =
        fs::read_dir(layout.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let elsewhere = own.path().join("elsewhere");
    for blob in blobs {
        let whole = fs::read(&blob).unwrap();
        let mut other = whole.clone();
        let middle = other.len() / 2;
        other[middle] ^= 1;
        fs::write(&blob, &other).unwrap();
        refused("another blob");
        fs::write(&blob, &whole[..middle]).unwrap();
        refused("a part of a blob");
        fs::write(&elsewhere, &whole).unwrap();
        fs::remove_file(&blob).unwrap();
        refused("no blob");
        std::os::unix::fs::symlink(&elsewhere, &blob).unwrap();
        refused("a link");
        fs::remove_file(&blob).unwrap();
        fs::write(&blob, whole).unwrap();
    }
    build(&engine, &["--build-context", &context, path]).ok();
    assert_eq!(runs(&engine, "t", "cat /base /more"), "base\nmore");
}
