//! The pull-through cache of `corten registry serve`: real clients through it, from several upstreams at once; upstreams that are
//! slow, wrong, busy or gone; what is kept, and what a kill leaves.

mod clients;
mod fake;
mod fetches;
mod room;
mod upstreams;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use corten_tests::registry::{MANIFEST, Reply, TestRegistry, digest};
use corten_tests::{Output, binary, busybox_archive, run, run_with_input};
use serde_json::{Value, json};

fn place() -> tempfile::TempDir {
    tempfile::tempdir_in("/var/tmp").expect("directory")
}

/// A registry that caches; its configuration lies beside its data.
fn hub(place: &Path, config: &Value) -> TestRegistry {
    let file = place.join("hub.json");
    fs::write(&file, config.to_string()).expect("configuration");
    TestRegistry::start(&place.join("hub"), &["--config", &file.display().to_string()])
}

fn upstream(address: SocketAddr) -> Value {
    json!({"registry": address.to_string(), "insecure": true})
}

fn skopeo(arguments: &[&str]) -> Output {
    run(Command::new("skopeo").args(arguments))
}

fn get(hub: &TestRegistry, path: &str) -> Reply {
    hub.connect().get(path).expect("an answer")
}

fn bytes_in(directory: &Path) -> usize {
    fs::read_dir(directory).expect("directory").flatten().count()
}

/// An image of busybox, pushed to a registry with skopeo.
fn push_busybox(place: &Path, to: &str, credentials: &[&str]) {
    let directory = place.join("busybox-image");
    if !directory.exists() {
        let layer = fs::read(busybox_archive(place)).expect("a layer");
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
        });
        let config = config.to_string().into_bytes();
        let descriptor = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()});
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
        });
        fs::create_dir(&directory).expect("directory");
        let write = |name: &str, bytes: &[u8]| fs::write(directory.join(name), bytes).expect("file");
        write("version", b"Directory Transport Version: 1.1\n");
        write("manifest.json", manifest.to_string().as_bytes());
        for bytes in [&config, &layer] {
            write(digest(bytes).trim_start_matches("sha256:"), bytes);
        }
    }
    let (from, to) = (format!("dir:{}", directory.display()), format!("docker://{to}"));
    skopeo(&[&["copy", "-q", "--dest-tls-verify=false"], credentials, &[&from, &to]].concat()).ok();
}

/// A registry with users, rules and tokens: what is below `team/` is alice's (password: elephant).
fn guarded(place: &Path) -> TestRegistry {
    let users = place.join("users").display().to_string();
    let mut add = Command::new(binary("corten"));
    add.args(["registry", "user", "add", "--file", &users, "--password-stdin", "alice"]);
    assert_eq!(run_with_input(&mut add, "elephant").code, 0);
    let rules = json!([{"repositories": ["team/**"], "who": ["user:alice"], "may": ["write"]}]);
    let file = place.join("guarded.json");
    fs::write(&file, json!({"access": {"htpasswd": users, "rules": rules}}).to_string())
        .expect("configuration");
    TestRegistry::start(&place.join("guarded"), &["--config", &file.display().to_string()])
}
