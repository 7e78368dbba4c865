//! `artifact`: files at registries, ours and Docker's.

use std::path::Path;
use std::process::Command;

use corten_tests::reference::Reference;
use corten_tests::registry::TestRegistry;
use corten_tests::{Output, TestEngine, binary, run};
use serde_json::Value;
use tempfile::TempDir;

/// Our client in a directory, without an engine.
fn corten(place: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(binary("corten"));
    command.args(args).current_dir(place).env("DOCKER_CONFIG", place).env("DOCKER_HOST", "unix:///nowhere");
    run(&mut command)
}

fn artifacts_at(registry: &str) {
    let place = TempDir::new().unwrap();
    let place = place.path();
    let artifact = |args: &[&str]| corten(place, &[&["artifact"], args].concat());
    std::fs::create_dir(place.join("docs")).unwrap();
    std::fs::write(place.join("docs/a:b.txt"), "text").unwrap();
    let large = corten_tests::registry::bytes_of(7, 3 << 20);
    std::fs::write(place.join("large"), &large).unwrap();
    let name = format!("{registry}/files/some:1");
    let kind = "application/vnd.example.some.v1";
    let pushed = artifact(&[
        "push",
        "--artifact-type",
        kind,
        "--annotation",
        "who=me",
        &name,
        "docs/a:b.txt",
        "large:application/x-large",
    ])
    .ok();
    let digest = pushed.split_once('@').expect("a digest").1;
    // By tag and by digest, into directories of their own.
    for (name, output) in [(name.clone(), "one"), (format!("{registry}/files/some@{digest}"), "two")] {
        let pulled = artifact(&["pull", "-o", output, &name]).ok();
        assert_eq!(pulled, format!("{output}/docs/a:b.txt\n{output}/large"));
        assert_eq!(std::fs::read(place.join(output).join("docs/a:b.txt")).unwrap(), b"text");
        assert!(std::fs::read(place.join(output).join("large")).unwrap() == large);
        assert_eq!(std::fs::read_dir(place.join(output)).unwrap().count(), 2, "nothing else is left");
    }
    std::fs::write(place.join("one/large"), "mine").unwrap();
    assert!(artifact(&["pull", "-o", "one", &name]).fails(1).contains("is there already"));
    assert_eq!(std::fs::read(place.join("one/large")).unwrap(), b"mine");
    artifact(&["pull", "-fo", "one", &name]).ok();
    assert_eq!(std::fs::read(place.join("one/large")).unwrap().len(), large.len());
    let manifest: Value = serde_json::from_str(&corten(place, &["manifest", "inspect", &name]).ok()).unwrap();
    assert_eq!((&manifest["artifactType"], &manifest["annotations"]["who"]), (&kind.into(), &"me".into()));
    assert_eq!(manifest["layers"][1]["mediaType"], "application/x-large");
    // Others copy it.
    let copy = format!("docker://{registry}/copy:1");
    let tls = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    run(Command::new("skopeo").arg("copy").args(tls).arg(format!("docker://{name}")).arg(&copy)).ok();
    artifact(&["pull", "-o", "copied", &format!("{registry}/copy:1")]).ok();

    // Attached to an image, whether or not the registry keeps account of that.
    let engine = TestEngine::with_busybox();
    let image = format!("{registry}/busybox:1");
    engine.corten(&["tag", "busybox", &image]).ok();
    engine.corten(&["push", &image]).ok();
    assert_eq!(artifact(&["ls", "-q", &image]).ok(), "");
    std::fs::write(place.join("bom.json"), "{}").unwrap();
    let mut attached = Vec::new();
    for kind in ["application/vnd.example.bom", "application/vnd.example.note"] {
        let told = artifact(&["attach", "--artifact-type", kind, &image, "bom.json:application/json"]).ok();
        attached.push(told.split_once('@').unwrap().1.to_owned());
    }
    attached.sort();
    let mut listed: Vec<String> = artifact(&["ls", "-q", &image]).ok().lines().map(str::to_owned).collect();
    listed.sort();
    assert_eq!(listed, attached);
    let format = "{{.ArtifactType}} {{.Digest}}";
    let notes =
        artifact(&["ls", "--artifact-type", "application/vnd.example.note", "--format", format, &image]).ok();
    assert!(
        notes.starts_with("application/vnd.example.note sha256:") && notes.lines().count() == 1,
        "{notes}"
    );
    let digest = notes.split_once(' ').unwrap().1;
    artifact(&["pull", "-o", "note", &format!("{registry}/busybox@{digest}")]).ok();
    assert_eq!(std::fs::read(place.join("note/bom.json")).unwrap(), b"{}");
    assert_eq!(engine.corten(&["run", "--rm", &image, "echo", "well"]).ok(), "well");

    // Mistakes.
    for (args, said) in [
        (&["push", &name, "nosuch"][..], "nosuch"),
        (&["push", &name, "docs"], "is no file"),
        (&["push", &name, "docs/a:b.txt", "./docs/a:b.txt"], "one name"),
        (&["push", "--artifact-type", "nonsense", &name, "large"], "no media type"),
        (&["push", "--annotation", "nonsense", &name, "large"], "nonsense"),
        (&["pull", &image], "nothing in"),
        (&["pull", &format!("{registry}/nosuch")], "no such manifest"),
        (&["attach", &format!("{registry}/nosuch"), "large"], "no such manifest"),
        (&["ls", &format!("{registry}/nosuch")], "no such manifest"),
    ] {
        let refused = artifact(args);
        assert_ne!(refused.code, 0, "{args:?}");
        assert!(refused.stderr.contains(said), "{args:?}: {}", refused.stderr);
    }
    // An engine has no use for it, and says so.
    let refused = engine.corten(&["pull", &name]).fails(1);
    assert!(refused.contains(kind) && refused.contains("corten artifact pull"), "{refused}");
}

#[test]
fn files_go_through_our_registry() {
    let directory = TempDir::new().unwrap();
    let registry = TestRegistry::start(&directory.path().join("registry"), &[]);
    artifacts_at(&registry.address().to_string());
}

#[test]
fn files_go_through_docker_s_registry() {
    if let Some(registry) = Reference::start() {
        artifacts_at(&registry.address().to_string());
    }
}

#[test]
fn names_of_files_stay_below_the_directory() {
    let directory = TempDir::new().unwrap();
    let registry = TestRegistry::start(&directory.path().join("registry"), &[]);
    let mut wire = registry.connect();
    let config = b"{}";
    assert_eq!(wire.push_blob("x", config).unwrap(), 201);
    let digest = corten_tests::registry::digest(config);
    for (tag, title) in [("up", "../../outside"), ("root", "/outside"), ("empty", ""), ("dot", ".")] {
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": corten_tests::registry::MANIFEST,
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest, "size": 2},
            "layers": [{"mediaType": "text/plain", "digest": digest, "size": 2,
                "annotations": {"org.opencontainers.image.title": title}}],
        });
        let headers = format!("Content-Type: {}\r\n", corten_tests::registry::MANIFEST);
        let path = format!("/v2/x/manifests/{tag}");
        assert_eq!(wire.ask("PUT", &path, &headers, manifest.to_string().as_bytes()).unwrap().status, 201);
        let place = directory.path().join("a/b");
        std::fs::create_dir_all(&place).unwrap();
        let refused =
            corten(&place, &["artifact", "pull", &format!("{}/x:{tag}", registry.address())]).fails(1);
        assert!(refused.contains("leads out of the directory"), "{refused}");
        assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
        assert!(!directory.path().join("outside").exists());
    }
}
