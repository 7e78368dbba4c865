//! Who may do what at a registry of our own: real clients (skopeo, podman, curl, Docker's client and ours for logins) against
//! `corten registry serve` with TLS, users, robots and rules.

mod clients;
mod life;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use corten_tests::{Output, TestEngine, binary, eventually, run, run_with_input};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A registry with a directory of its own: `users` (alice: elephant, bob: mouse, root: whale), `cert.pem` and `key.pem`, `data/`,
/// `audit.log`.
struct TestRegistry {
    directory: TempDir,
    process: Child,
    address: String,
}

const RULES: &str = r#"[
    {"repositories": ["public/**"], "who": ["anonymous"], "may": ["read"]},
    {"repositories": ["team/**"], "who": ["group:devs", "certificate:builder"], "may": ["write"]},
    {"repositories": ["home/{user}/**"], "who": ["authenticated"], "may": ["write", "delete"]},
    {"repositories": ["**"], "who": ["user:root"], "may": ["admin"]}
]"#;

fn spawn(directory: &Path) -> Child {
    let log = fs::File::create(directory.join("log")).expect("a log");
    registry_command(&["serve", "--config"])
        .arg(directory.join("registry.json"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("start the registry")
}

/// A small file system of its own, until it is dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let directory = TempDir::with_prefix_in("corten-test-", "/var/tmp").expect("a directory");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(directory.path())).ok();
        Self(directory)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = run(Command::new("umount").arg(self.0.path()));
        assert!(unmounted.code == 0 || std::thread::panicking(), "{}", unmounted.stderr);
    }
}

fn registry_command(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("corten"));
    command.arg("registry").args(arguments);
    command
}

fn add_user(file: &Path, name: &str, password: &str) {
    let file = file.display().to_string();
    let mut command = registry_command(&["user", "add", "--file", &file, "--password-stdin", name]);
    assert_eq!(run_with_input(&mut command, password).code, 0);
}

/// A certificate for this host that is its own authority.
fn certificate(directory: &Path) {
    let script = r#"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "/CN=registry" \
        -addext "subjectAltName=IP:127.0.0.1" -keyout key.new -out cert.new && mv key.new key.pem && mv cert.new cert.pem"#;
    run(Command::new("sh").args(["-c", script]).current_dir(directory)).ok();
}

impl TestRegistry {
    /// With rules as above; `change` makes of its configuration another one.
    fn start(change: impl FnOnce(&Path, &mut Value)) -> Self {
        let directory = TempDir::with_prefix_in("corten-test-", "/var/tmp").expect("a directory");
        let path = directory.path();
        certificate(path);
        for (name, password) in [("alice", "elephant"), ("bob", "mouse"), ("root", "whale")] {
            add_user(&path.join("users"), name, password);
        }
        let rules: Value = serde_json::from_str(RULES).expect("rules");
        let mut config = json!({
            "data": path.join("data"),
            "listen": ["127.0.0.1:0"],
            "tls": { "certificate": path.join("cert.pem"), "key": path.join("key.pem") },
            "access": {
                "htpasswd": path.join("users"),
                "groups": { "devs": ["user:alice"] },
                "rules": rules,
                "audit": { "file": path.join("audit.log"), "pulls": true },
            },
        });
        change(path, &mut config);
        fs::write(path.join("registry.json"), config.to_string()).expect("the configuration");
        Self::launch(directory)
    }

    fn launch(directory: TempDir) -> Self {
        let process = spawn(directory.path());
        let mut registry = Self { directory, process, address: String::new() };
        registry.await_address();
        registry
    }

    fn await_address(&mut self) {
        let mut address = None;
        eventually("the registry tells its address", || {
            let log = self.log();
            let told = log
                .lines()
                .find_map(|line| line.split_once("registry listens address=").map(|(_, rest)| rest));
            address = told.map(|rest| rest.split(' ').next().unwrap_or_default().to_owned());
            let ended = self.process.try_wait().expect("its state");
            assert!(ended.is_none(), "it ended: {log}");
            address.is_some()
        });
        self.address = address.expect("it was found");
    }

    /// Ends it by SIGKILL and starts it again, at another port.
    fn kill_and_start_again(&mut self) {
        self.process.kill().expect("kill it");
        self.process.wait().expect("its end");
        self.process = spawn(self.directory.path());
        self.await_address();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).expect("the log")
    }

    fn audit(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path("audit.log")).expect("the audit log");
        // What has no end yet is just being written.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// Status, headers and body.
    fn curl(&self, arguments: &[&str], path: &str) -> (u16, String, String) {
        let mut command = Command::new("curl");
        command.args(["-s", "-i", "--cacert"]).arg(self.path("cert.pem")).args(arguments);
        let output = run(command.arg(format!("https://{}{path}", self.address)));
        assert_eq!(output.code, 0, "curl {arguments:?} {path}: {}", output.stderr);
        let (head, body) = output.stdout.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.expect("a status"), head.to_lowercase(), body.to_owned())
    }

    fn status(&self, arguments: &[&str], path: &str) -> u16 {
        self.curl(arguments, path).0
    }

    /// A token for a scope.
    fn token(&self, user: Option<&str>, scope: &str) -> String {
        let arguments = user.map_or(vec![], |user| vec!["-u", user]);
        let (status, _, body) =
            self.curl(&arguments, &format!("/token?service=corten-registry&scope={scope}"));
        assert_eq!(status, 200, "{body}");
        let answer: Value = serde_json::from_str(&body).expect("an answer");
        format!("Authorization: Bearer {}", answer["token"].as_str().expect("a token"))
    }

    /// As a command of ours beside it.
    fn manage(&self, arguments: &[&str]) -> Output {
        let data = self.path("data").display().to_string();
        let mut all = arguments.to_vec();
        all.extend(["--data", &data]);
        run(&mut registry_command(&all))
    }

    fn skopeo(&self, arguments: &[&str]) -> Output {
        let certificates = self.path("certificates");
        fs::create_dir_all(&certificates).expect("a directory");
        fs::copy(self.path("cert.pem"), certificates.join("ca.crt")).expect("the authority");
        let mut command = Command::new("skopeo");
        command.env("REGISTRY_AUTH_FILE", self.path("auth.json")).env("HOME", self.directory.path());
        let place = certificates.display().to_string();
        let arguments = arguments.iter().map(|argument| argument.replace("CERTIFICATES", &place));
        run(command.arg("--insecure-policy").args(arguments))
    }

    /// Pushes a tiny image as somebody (`NAME:PASSWORD`).
    fn push(&self, who: Option<&str>, repository: &str) -> Output {
        let layout = self.path("layout");
        if !layout.exists() {
            tiny_image(&layout);
        }
        let (from, to) = (format!("oci:{}:latest", layout.display()), self.reference(repository));
        let mut arguments = vec!["copy", "-q", "--dest-cert-dir", "CERTIFICATES"];
        match who {
            Some(who) => arguments.extend(["--dest-creds", who]),
            None => arguments.push("--dest-no-creds"),
        }
        arguments.extend([from.as_str(), &to]);
        self.skopeo(&arguments)
    }

    fn inspect(&self, who: Option<&str>, repository: &str) -> Output {
        let mut arguments = vec!["inspect", "--cert-dir", "CERTIFICATES", "--format", "{{.Digest}}"];
        match who {
            Some(who) => arguments.extend(["--creds", who]),
            None => arguments.push("--no-creds"),
        }
        let from = self.reference(repository);
        arguments.push(&from);
        self.skopeo(&arguments)
    }

    fn reference(&self, repository: &str) -> String {
        format!("docker://{}/{repository}", self.address)
    }
}

impl Drop for TestRegistry {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.process.id() as i32) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

/// An image layout with one layer of one file.
fn tiny_image(layout: &Path) {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("a layout");
    let put = |bytes: &[u8]| {
        let file = layout.join("new");
        fs::write(&file, bytes).expect("a blob");
        let sum = run(Command::new("sha256sum").arg(&file)).ok();
        let digest = sum.split(' ').next().expect("a digest").to_owned();
        fs::rename(&file, blobs.join(&digest)).expect("a blob");
        (format!("sha256:{digest}"), bytes.len())
    };
    let content = layout.join("content");
    fs::create_dir_all(&content).expect("a directory");
    fs::write(content.join("hello"), "hello\n").expect("a file");
    let tar = layout.join("layer.tar");
    corten_tests::tar_of(&content, &tar);
    let (layer, layer_size) = put(&fs::read(&tar).expect("the layer"));
    let oci = |kind: &str| format!("application/vnd.oci.image.{kind}");
    let config = json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer]}});
    let (config, config_size) = put(config.to_string().as_bytes());
    let manifest = json!({"schemaVersion": 2, "mediaType": oci("manifest.v1+json"),
        "config": {"mediaType": oci("config.v1+json"), "digest": config, "size": config_size},
        "layers": [{"mediaType": oci("layer.v1.tar"), "digest": layer, "size": layer_size}]});
    let (manifest, manifest_size) = put(manifest.to_string().as_bytes());
    let index = json!({"schemaVersion": 2, "manifests": [{"mediaType": oci("manifest.v1+json"), "digest": manifest,
        "size": manifest_size, "annotations": {"org.opencontainers.image.ref.name": "latest"}}]});
    fs::write(layout.join("index.json"), index.to_string()).expect("the index");
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("the layout");
}
