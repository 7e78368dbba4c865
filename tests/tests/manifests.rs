//! `manifest`: lists of images made at registries, with our client and Docker's.

use std::path::Path;
use std::process::Command;

use corten_tests::registry::{MANIFEST, TestRegistry, digest};
use corten_tests::{Output, TestEngine, binary, run};
use serde_json::{Value, json};
use tempfile::TempDir;

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// An image without layers, for an architecture that is not this host's.
fn push_image(registry: &TestRegistry, repository: &str, tag: &str, architecture: &str) {
    let config = json!({
        "architecture": architecture, "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": []},
    });
    let config = config.to_string();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
        "config": {"mediaType": CONFIG, "digest": digest(config.as_bytes()), "size": config.len()},
    });
    let mut wire = registry.connect();
    assert_eq!(wire.push_blob(repository, config.as_bytes()).unwrap(), 201);
    let path = format!("/v2/{repository}/manifests/{tag}");
    let headers = format!("Content-Type: {MANIFEST}\r\n");
    let put = wire.ask("PUT", &path, &headers, manifest.to_string().as_bytes()).unwrap();
    assert_eq!(put.status, 201, "{}", put.text());
}

/// A client with settings of its own, without an engine.
fn client(program: &str, home: &Path, args: &[&str]) -> Output {
    let mut command = match program {
        "docker" => Command::new("docker"),
        program => Command::new(binary(program)),
    };
    command.arg("manifest").args(args).env("DOCKER_CONFIG", home).env("DOCKER_HOST", "unix:///nowhere");
    if program == "docker" && !matches!(args[0], "annotate" | "rm") {
        command.arg("--insecure");
    }
    run(&mut command)
}

/// What both clients say of the same steps is the same, and so is the list at the registry.
#[test]
fn a_list_is_made_as_by_docker_s_client() {
    let directory = TempDir::new().unwrap();
    let registry = TestRegistry::start(&directory.path().join("registry"), &[]);
    let address = registry.address();
    push_image(&registry, "team/app", "amd64", "amd64");
    push_image(&registry, "other/app", "arm", "arm64");
    let name = |rest: &str| format!("{address}/{rest}");
    let (amd, arm, list) = (name("team/app:amd64"), name("other/app:arm"), name("team/list:1"));
    let steps: &[&[&str]] = &[
        &["inspect", &amd],
        &["inspect", "-v", &amd],
        &["create", &list, &amd, &arm],
        &["create", &list, &amd],
        &["create", "-a", &list, &amd],
        &["annotate", "--variant", "v8", "--os-features", "a,b", "--os-version", "10.0", &list, &arm],
        &["annotate", "--variant", "v8", &list, &name("team/app:none")],
        &["inspect", &list],
        &["inspect", "-v", &list],
        &["inspect", &list, &arm],
        &["inspect", &list, &name("team/app:none")],
        &["push", &list],
        &["push", "--purge", &list],
        &["push", &list],
        &["rm", &list],
        &["inspect", &list],
        &["create", &name("team/further:1"), &list],
        &["create", &name("team/further:1"), &amd, &name("team/nosuch:1")],
        &["inspect", &name("team/nosuch:1")],
    ];
    let homes = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let mut failures = 0;
    for step in steps {
        let [theirs, ours] = [("docker", &homes[0]), ("corten", &homes[1])]
            .map(|(program, home)| client(program, home.path(), step));
        assert_eq!((&theirs.stdout, theirs.code), (&ours.stdout, ours.code), "{step:?}: {}", ours.stderr);
        let said = ours.stderr.strip_prefix("corten: ").unwrap_or(&ours.stderr);
        assert_eq!(theirs.stderr.lines().next(), said.lines().next(), "{step:?}");
        failures += ours.code;
    }
    assert_eq!(failures, 8);
    // Docker's client keeps what it had made when it failed.
    let [theirs, ours] = [("docker", &homes[0]), ("corten", &homes[1])]
        .map(|(program, home)| client(program, home.path(), &["rm", &name("team/further:1")]).code);
    assert_eq!((theirs, ours), (0, 1));
    // Either goes on with what the other has begun.
    let shared = homes[0].path();
    let mixed = name("team/mixed:1");
    client("docker", shared, &["create", &mixed, &amd]).ok();
    client("corten", shared, &["create", "--amend", &mixed, &arm]).ok();
    client("docker", shared, &["annotate", "--variant", "v8", &mixed, &arm]).ok();
    let before = client("docker", shared, &["inspect", &mixed]).ok();
    client("corten", shared, &["push", &mixed]).ok();
    client("docker", shared, &["rm", &mixed]).ok();
    assert_eq!(client("corten", shared, &["inspect", &mixed]).ok(), before);
    assert!(before.contains("v8") && before.contains("amd64"), "{before}");
}

/// Docker's client won't take images of another registry.
#[test]
fn images_of_another_registry_are_copied() {
    let directory = TempDir::new().unwrap();
    let [here, there] = ["here", "there"].map(|name| TestRegistry::start(&directory.path().join(name), &[]));
    let engine = TestEngine::with_busybox();
    let busybox = format!("{}/busybox:1", there.address());
    engine.corten(&["tag", "busybox", &busybox]).ok();
    engine.corten(&["push", &busybox]).ok();
    push_image(&here, "app", "arm", "arm64");
    let list = format!("{}/deep/er/list:2", here.address());
    let home = TempDir::new().unwrap();
    let corten = |args: &[&str]| client("corten", home.path(), args);
    corten(&["create", &list, &busybox, &format!("{}/app:arm", here.address())]).ok();
    corten(&["push", "-p", &list]).ok();
    drop(there);
    let other = TestEngine::start();
    assert_eq!(other.corten(&["run", "-q", "--rm", &list, "echo", "well"]).ok(), "well");
    let listed: Value = serde_json::from_str(&corten(&["inspect", &list]).ok()).unwrap();
    let architectures: Vec<&str> = listed["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["platform"]["architecture"].as_str().unwrap())
        .collect();
    assert_eq!(architectures.len(), 2);
    assert!(architectures.contains(&"arm64"), "{architectures:?}");
}

#[test]
fn what_was_kept_and_is_damaged_is_not_sent() {
    let directory = TempDir::new().unwrap();
    let registry = TestRegistry::start(&directory.path().join("registry"), &[]);
    push_image(&registry, "app", "1", "amd64");
    let (image, list) = (format!("{}/app:1", registry.address()), format!("{}/list:1", registry.address()));
    let home = TempDir::new().unwrap();
    let corten = |args: &[&str]| client("corten", home.path(), args);
    corten(&["create", &list, &image]).ok();
    let kept = std::fs::read_dir(home.path().join("manifests")).unwrap().next().unwrap().unwrap().path();
    let file = std::fs::read_dir(&kept).unwrap().next().unwrap().unwrap().path();
    // What a killed client was writing is no image.
    std::fs::write(kept.join("x.1234.new"), "{").unwrap();
    assert!(corten(&["inspect", &list]).ok().contains("amd64"));
    let text = std::fs::read_to_string(&file).unwrap();
    let raw = serde_json::from_str::<Value>(&text).unwrap()["Raw"].as_str().unwrap().to_owned();
    std::fs::write(&file, text.replace(&raw, "e30=")).unwrap();
    // Elsewhere, so that the image has to be sent.
    let elsewhere = TestRegistry::start(&directory.path().join("elsewhere"), &[]);
    let other = format!("{}/list:1", elsewhere.address());
    std::fs::rename(&kept, home.path().join("manifests").join(other.replace(':', "-").replace('/', "_")))
        .unwrap();
    assert!(corten(&["push", &other]).fails(1).contains("is damaged"));
    std::fs::write(
        home.path()
            .join("manifests")
            .join(other.replace(':', "-").replace('/', "_"))
            .join(file.file_name().unwrap()),
        "{",
    )
    .unwrap();
    assert!(corten(&["inspect", &other]).fails(1).contains("manifests"));
}
