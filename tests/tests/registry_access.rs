//! Who may do what at a registry of our own: real clients (skopeo, podman, curl, Docker's client and ours for logins) against
//! `corten registry serve` with TLS, users, robots and rules.

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
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
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

#[test]
fn only_those_who_may_push_and_pull() {
    let registry = TestRegistry::start(|_, _| ());
    registry.push(Some("alice:elephant"), "team/app:1").ok();
    registry.push(Some("root:whale"), "public/app:1").ok();
    registry.push(Some("bob:mouse"), "home/bob/app:1").ok();
    for (who, repository) in [
        (Some("bob:mouse"), "team/app:2"),
        (Some("alice:elephant"), "home/bob/app:2"),
        (Some("alice:elephant"), "public/app:2"),
        (None, "public/app:2"),
        (None, "team/app:2"),
        (Some("alice:mouse"), "team/app:2"),
    ] {
        registry.push(who, repository).fails(1);
    }
    let digest = registry.inspect(Some("alice:elephant"), "team/app:1").ok();
    assert_eq!(registry.inspect(None, "public/app:1").ok(), digest);
    for (who, repository) in
        [(None, "team/app:1"), (Some("bob:mouse"), "team/app:1"), (None, "home/bob/app:1")]
    {
        registry.inspect(who, repository).fails(1);
    }
    // What is not there and what one may not see can't be told apart.
    let refused = |path: &str| {
        let (status, head, body) = registry.curl(&["-u", "bob:mouse"], path);
        let challenge = head.lines().find(|line| line.starts_with("www-authenticate")).map(str::to_owned);
        (
            status,
            challenge.map(|text| text.replace("team/none", "team/app")),
            body.replace("team/none", "team/app"),
        )
    };
    assert_eq!(refused("/v2/team/app/manifests/1"), refused("/v2/team/none/manifests/1"));
    let delete = |who: &str, repository: &str| {
        registry.skopeo(&[
            "delete",
            "--cert-dir",
            "CERTIFICATES",
            "--creds",
            who,
            &registry.reference(repository),
        ])
    };
    delete("alice:elephant", "team/app:1").fails(1);
    delete("bob:mouse", "home/bob/app:1").ok();
    delete("root:whale", "team/app:1").ok();
    registry.push(Some("alice:elephant"), "team/app:1").ok();
    let catalogue = |arguments: &[&str]| {
        let (status, _, body) = registry.curl(arguments, "/v2/_catalog");
        assert_eq!(status, 200);
        serde_json::from_str::<Value>(&body).expect("a list")["repositories"].clone()
    };
    let stranger = registry.token(None, "registry:catalog:*");
    assert_eq!(catalogue(&["-H", &stranger]), json!(["public/app"]));
    assert_eq!(registry.status(&[], "/v2/_catalog"), 401);
    assert_eq!(catalogue(&["-u", "alice:elephant"]), json!(["public/app", "team/app"]));
    let (_, head, body) = registry.curl(&["-u", "root:whale"], "/v2/_catalog?n=1");
    assert!(head.contains("rel=\"next\"") && !body.contains(','), "{head}{body}");
    // A blob that one may not read can't be mounted from where it is.
    let blob = format!("{digest}&from=team/app");
    let path = format!("/v2/home/bob/mine/blobs/uploads/?mount={blob}");
    assert_eq!(registry.status(&["-u", "bob:mouse", "-X", "POST"], &path), 202);
    let log = registry.log();
    for secret in ["elephant", "mouse", "whale"] {
        assert!(
            !log.contains(secret)
                && !fs::read_to_string(registry.path("audit.log")).unwrap().contains(secret)
        );
    }
}

#[test]
fn clients_are_told_what_to_show() {
    let registry = TestRegistry::start(|_, _| ());
    let challenge = |path: &str, arguments: &[&str]| {
        let (status, head, _) = registry.curl(arguments, path);
        let challenge =
            head.lines().find_map(|line| line.strip_prefix("www-authenticate: ")).map(str::to_owned);
        (status, challenge.unwrap_or_default())
    };
    let bearer = format!("bearer realm=\"https://{}/token\",service=\"corten-registry\"", registry.address);
    assert_eq!(challenge("/v2/", &[]), (401, bearer.clone()));
    let scope = ",scope=\"repository:team/app:pull\"";
    assert_eq!(challenge("/v2/team/app/manifests/1", &[]), (401, format!("{bearer}{scope}")));
    let token = registry.token(Some("alice:elephant"), "repository:team/app:pull");
    assert_eq!(challenge("/v2/", &["-H", &token]), (200, String::new()));
    assert_eq!(registry.status(&["-H", &token], "/v2/team/app/manifests/1"), 404);
    let insufficient = ",error=\"insufficient_scope\"";
    let push = ",scope=\"repository:team/app:pull,push\"";
    assert_eq!(
        challenge("/v2/team/app/blobs/uploads/", &["-H", &token, "-X", "POST"]),
        (401, format!("{bearer}{push}{insufficient}"))
    );
    let (_, invalid) = challenge("/v2/", &["-H", "Authorization: Bearer a.b.c"]);
    assert_eq!(invalid, format!("{bearer},error=\"invalid_token\""));
    // Hostile input costs an error each, and the registry goes on.
    let long = format!("scope={}", "x".repeat(100_000));
    let many = "grant_type=password&".repeat(1000);
    for (arguments, path, expected) in [
        (vec!["-d", long.as_str()], "/token", vec![400, 413]),
        (vec!["-d", many.as_str()], "/token", vec![400]),
        (vec!["-X", "DELETE"], "/token", vec![405]),
        (vec![], "/token?scope=%ff", vec![400]),
        (vec![], "/token?service=elsewhere", vec![400]),
        (vec!["-H", "Authorization: Basic !!!!"], "/token", vec![401]),
        (vec!["-H", "Authorization: Bearer x", "-H", "Authorization: Bearer y"], "/v2/", vec![401]),
    ] {
        let status = registry.status(&arguments, path);
        assert!(expected.contains(&status), "{path}: {status}");
    }
    assert_eq!(registry.status(&["-u", "alice:elephant"], "/v2/"), 200);
}

#[test]
fn passwords_alone_do_where_that_is_configured() {
    let registry = TestRegistry::start(|_, config| config["access"]["challenge"] = "basic".into());
    let (status, head, _) = registry.curl(&[], "/v2/");
    assert!(status == 401 && head.contains("www-authenticate: basic realm=\"corten-registry\""), "{head}");
    registry.push(Some("alice:elephant"), "team/app:1").ok();
    registry.push(Some("bob:mouse"), "team/app:2").fails(1);
    registry.inspect(None, "team/app:1").fails(1);
    assert_eq!(registry.status(&["-u", "bob:mouse"], "/v2/team/app/manifests/1"), 403);
    assert_eq!(registry.status(&["-u", "bob:mouse", "-I"], "/v2/team/app/manifests/1"), 401);
}

#[test]
fn both_docker_s_client_and_ours_log_in_and_pull() {
    let registry = TestRegistry::start(|_, _| ());
    registry.push(Some("alice:elephant"), "team/app:1").ok();
    // Registries on this host need no proof.
    let engine = TestEngine::start();
    for ours in [false, true] {
        let make = if ours { TestEngine::command } else { TestEngine::docker_command };
        let home = TempDir::new().expect("a directory");
        let client = |arguments: &[&str]| {
            let mut command = make(&engine, arguments);
            command.env("DOCKER_CONFIG", home.path());
            command
        };
        let login = ["login", "-u", "alice", "--password-stdin", &registry.address];
        let refused = run_with_input(&mut client(&login), "mouse").fails(1);
        assert!(refused.contains("unauthorized: incorrect username or password"), "{refused}");
        assert_eq!(run_with_input(&mut client(&login), "elephant").ok(), "Login Succeeded");
        let kept = fs::read_to_string(home.path().join("config.json")).expect("the settings");
        assert!(kept.contains("corten_login_"), "{kept}");
        let image = format!("{}/team/app:1", registry.address);
        let pull = || run(&mut client(&["pull", "-q", &image]));
        pull().ok();
        let logins = registry.manage(&["login", "ls"]).ok();
        assert_eq!(logins.matches("user:alice").count(), 1, "{logins}");
        assert_eq!(registry.manage(&["login", "revoke", "user:alice"]).ok(), "1 logins ended");
        if ours {
            // Docker's client never shows it at a login.
            let refused = run(&mut client(&["login", &registry.address]));
            assert!(
                refused.code != 0 && refused.stderr.contains("the login has ended"),
                "{}",
                refused.stderr
            );
        }
    }
}

#[test]
fn podman_pushes_and_pulls_with_a_robot_s_secret() {
    let registry = TestRegistry::start(|_, _| ());
    let made = registry.manage(&["robot", "create", "--allow", "team/*:read,write", "--expires", "1h", "ci"]);
    assert!(made.stderr.contains("robot+ci until"), "{}", made.stderr);
    let secret = made.ok();
    registry.manage(&["robot", "create", "--allow", "**:read", "ci"]).fails(1);
    registry.push(Some(&format!("robot+ci:{secret}")), "team/app:1").ok();
    registry.push(Some(&format!("robot+ci:{secret}")), "other/app:1").fails(1);
    let storage = |name: &str| registry.path(name).display().to_string();
    let (root, run_root, certificates, auth) =
        (storage("podman"), storage("podman-run"), storage("certificates"), storage("podman.json"));
    let podman = |arguments: &[&str]| {
        let mut command = Command::new("podman");
        command.args(["--root", &root, "--runroot", &run_root, "--storage-driver", "vfs"]).args(arguments);
        command.args(["--cert-dir", &certificates, "--authfile", &auth]);
        command
    };
    let login = ["login", "-u", "robot+ci", "--password-stdin", &registry.address];
    run_with_input(&mut podman(&login), "wrong").fails(125);
    run_with_input(&mut podman(&login), &secret).ok();
    let image = format!("{}/team/app:1", registry.address);
    run(&mut podman(&["pull", "-q", &image])).ok();
    run(&mut podman(&["push", "-q", &image, &format!("docker://{}/team/copy:1", registry.address)])).ok();
    run(&mut podman(&["push", "-q", &image, &format!("docker://{}/other/copy:1", registry.address)]))
        .fails(125);
    let listed = registry.manage(&["robot", "ls"]).ok();
    assert!(listed.contains("team/*:read,write") && !listed.contains(&secret), "{listed}");
    let token = registry.token(Some(&format!("robot+ci:{secret}")), "repository:team/app:pull");
    assert_eq!(registry.status(&["-H", &token], "/v2/team/app/manifests/1"), 200);
    registry.manage(&["robot", "revoke", "ci"]).ok();
    eventually("the robot is out", || registry.status(&["-H", &token], "/v2/team/app/manifests/1") == 401);
    run(&mut podman(&["pull", "-q", &image])).fails(125);
    registry.manage(&["robot", "revoke", "ci"]).fails(1);
    // One that ends soon says so when it has.
    let soon =
        registry.manage(&["robot", "create", "--allow", "team/*:read", "--expires", "2s", "soon"]).ok();
    let who = format!("robot+soon:{soon}");
    let mut answer = String::new();
    eventually("the robot has expired", || {
        answer = registry.curl(&["-u", &who], "/v2/").2;
        answer.contains("has expired on")
    });
    assert!(answer.contains("the robot account soon has expired on 20"), "{answer}");
    run(Command::new("podman")
        .args(["--root", &root, "--runroot", &run_root, "--storage-driver", "vfs"])
        .args(["system", "reset", "-f"]));
}

#[test]
fn users_come_and_go_while_it_runs() {
    let registry = TestRegistry::start(|_, _| ());
    let users = registry.path("users");
    let token = registry.token(Some("alice:elephant"), "repository:team/app:pull");
    assert_eq!(registry.status(&["-H", &token], "/v2/"), 200);
    add_user(&users, "carol", "newt");
    assert_eq!(registry.status(&["-u", "carol:newt"], "/v2/"), 200);
    add_user(&users, "alice", "other");
    eventually("the old password's token is worth nothing", || {
        registry.status(&["-H", &token], "/v2/") == 401
    });
    assert_eq!(registry.status(&["-u", "alice:other"], "/v2/"), 200);
    let file = users.display().to_string();
    assert_eq!(run(&mut registry_command(&["user", "ls", "--file", &file])).ok(), "alice\nbob\nroot\ncarol");
    assert_eq!(run(&mut registry_command(&["user", "rm", "--file", &file, "alice"])).ok(), "alice");
    eventually("alice is out", || registry.status(&["-u", "alice:other"], "/v2/") == 401);
    run(&mut registry_command(&["user", "rm", "--file", &file, "alice"])).fails(1);
    let odd = run_with_input(
        &mut registry_command(&["user", "add", "--file", &file, "--password-stdin", "a:b"]),
        "x",
    );
    assert!(odd.fails(1).contains("a name can't have a colon in it"));
    // What isn't bcrypt lets nobody in, and is told of by name.
    let text = fs::read_to_string(&users).expect("the users");
    fs::write(&users, format!("{text}dave:$apr1$6FIvMN3f$Mv9n9zHMAQuOkVjQM4nqd0\n")).expect("the users");
    eventually("it is told", || {
        // It looks when somebody comes.
        assert_eq!(registry.status(&[], "/v2/"), 401);
        registry.log().contains("user \"dave\" can't log in: its password is hashed by MD5")
    });
    assert_eq!(registry.status(&["-u", "root:whale"], "/v2/"), 200);
    fs::remove_file(&users).expect("remove the users");
    eventually("nobody gets in", || registry.status(&["-u", "root:whale"], "/v2/") == 401);
}

#[test]
fn certificates_are_renewed_while_it_runs() {
    let registry = TestRegistry::start(|_, _| ());
    let serial = || {
        let script = format!(
            "openssl s_client -connect {} </dev/null 2>/dev/null | openssl x509 -noout -serial",
            registry.address
        );
        run(Command::new("sh").args(["-c", &script])).ok()
    };
    let before = serial();
    // A key that is not the certificate's: the old pair goes on.
    let key = fs::read(registry.path("key.pem")).expect("the key");
    let spare = registry.path("spare");
    fs::create_dir(&spare).expect("a directory");
    certificate(&spare);
    fs::copy(spare.join("key.pem"), registry.path("key.pem")).expect("another key");
    eventually("it is told", || {
        assert_eq!(serial(), before);
        registry.log().contains("going on with what was there")
    });
    fs::write(registry.path("key.pem"), key).expect("the old key");
    certificate(registry.directory.path());
    eventually("the new one is shown", || serial() != before);
    assert_eq!(registry.status(&["-u", "alice:elephant"], "/v2/"), 200);
}

#[test]
fn clients_certificates_are_identities() {
    let authorities = |path: &Path| {
        let script = r#"
            set -e
            for name in ours theirs; do
                openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=$name" -keyout $name-key.pem -out $name-ca.pem
                openssl req -newkey rsa:2048 -nodes -subj "/O=Team/CN=builder" -keyout $name-client-key.pem -out $name.csr
                printf 'extendedKeyUsage=clientAuth' > $name.ext
                openssl x509 -req -days 2 -in $name.csr -CA $name-ca.pem -CAkey $name-key.pem -CAcreateserial \
                    -extfile $name.ext -out $name-client.pem
            done"#;
        run(Command::new("sh").args(["-c", script]).current_dir(path)).ok();
    };
    let registry = TestRegistry::start(|path, config| {
        authorities(path);
        config["tls"]["client_ca"] = json!(path.join("ours-ca.pem"));
    });
    let file = |name: &str| registry.path(name).display().to_string();
    let shown = |whose: &str| {
        [
            "--cert".into(),
            file(&format!("{whose}-client.pem")),
            "--key".into(),
            file(&format!("{whose}-client-key.pem")),
        ]
    };
    let ours = shown("ours");
    let ours: Vec<&str> = ours.iter().map(String::as_str).collect();
    assert_eq!(registry.status(&ours, "/v2/"), 200);
    assert_eq!(registry.status(&ours, "/v2/team/app/manifests/1"), 404);
    assert_eq!(registry.status(&ours, "/v2/home/bob/app/manifests/1"), 401);
    // Without one, as everywhere else; with a stranger's, not at all.
    assert_eq!(registry.status(&[], "/v2/"), 401);
    assert_eq!(registry.status(&["-u", "alice:elephant"], "/v2/"), 200);
    let theirs = run(Command::new("curl")
        .args(["-s", "--cacert", &file("cert.pem")])
        .args(shown("theirs"))
        .arg(format!("https://{}/v2/", registry.address)));
    assert_ne!(theirs.code, 0, "{}", theirs.stdout);
    // A password says more than a certificate.
    let both: Vec<&str> = ours.iter().copied().chain(["-u", "bob:mouse"]).collect();
    assert_eq!(registry.status(&both, "/v2/home/bob/app/manifests/1"), 404);
}

#[test]
fn tokens_expire() {
    let registry = TestRegistry::start(|_, config| config["access"]["token"] = json!({"lifetime": "1m"}));
    let data = registry.path("data").display().to_string();
    let token = registry.token(Some("alice:elephant"), "repository:team/app:pull");
    assert_eq!(registry.status(&["-H", &token], "/v2/"), 200);
    let claims = token.split('.').nth(1).expect("claims");
    let claims =
        run_with_input(Command::new("sh").args(["-c", "tr '_-' '/+' | base64 -d 2>/dev/null"]), claims)
            .stdout;
    let claims: Value = serde_json::from_str(&claims).expect("claims");
    assert_eq!(claims["exp"].as_u64().expect("an end") - claims["iat"].as_u64().expect("a beginning"), 60);
    assert_eq!(
        (&claims["aud"], &claims["access"][0]["actions"]),
        (&json!("corten-registry"), &json!(["pull"]))
    );
    // Another key: tokens of the old one are good, until it is forgotten.
    run(&mut registry_command(&["key", "rotate", "--data", &data])).ok();
    let newer = || registry.token(Some("alice:elephant"), "repository:team/app:pull");
    let kid = |token: &str| token.split('.').next().map(str::to_owned);
    eventually("the new key signs", || kid(&newer()) != kid(&token));
    assert_eq!(registry.status(&["-H", &token], "/v2/"), 200);
    run(&mut registry_command(&["key", "rotate", "--forget", "--data", &data])).ok();
    eventually("the old ones are worth nothing", || registry.status(&["-H", &token], "/v2/") == 401);
    assert_eq!(registry.status(&["-H", &newer()], "/v2/"), 200);
}

#[test]
fn who_guesses_has_to_wait() {
    let registry = TestRegistry::start(|_, _| ());
    let mut statuses = Vec::new();
    let mut waits = 0;
    for guess in 0..10 {
        let (status, head, _) =
            registry.curl(&["-u", &format!("alice:{guess}")], "/token?service=corten-registry");
        waits += usize::from(head.contains("retry-after: "));
        statuses.push(status);
    }
    assert_eq!(statuses[..6], [401; 6]);
    assert!(statuses[6..].iter().all(|status| *status == 429 || *status == 401), "{statuses:?}");
    assert!(statuses.contains(&429) && waits == statuses.iter().filter(|status| **status == 429).count());
    // Others are not kept out by it.
    assert_eq!(registry.status(&["-u", "bob:mouse"], "/v2/"), 200);
    let refused = registry.audit();
    assert!(refused.iter().any(|line| line["status"] == 429 && line["identity"] == "alice"), "{refused:?}");
}

#[test]
fn the_audit_log_says_who_did_what() {
    let registry = TestRegistry::start(|_, _| ());
    registry.push(Some("alice:elephant"), "team/app:1").ok();
    registry.inspect(Some("alice:elephant"), "team/app:1").ok();
    registry.push(Some("bob:mouse"), "team/app:2").fails(1);
    let (_, head, _) = registry.curl(&["-u", "root:whale", "-X", "DELETE"], "/v2/team/app/manifests/1");
    let id = head.lines().find_map(|line| line.strip_prefix("x-request-id: ")).expect("an id").to_owned();
    let has = |action: &str, who: &str, status: u16| {
        registry.audit().iter().any(|line| {
            line["action"] == action
                && line["identity"] == who
                && line["status"] == status
                && line["repository"] == "team/app"
        })
    };
    eventually("the deletion is noted", || has("delete", "user:root", 202));
    assert!(
        has("push", "user:alice", 201) && has("pull", "user:alice", 200) && has("blob", "user:alice", 201)
    );
    assert!(registry.audit().iter().any(|line| line["identity"] == "user:bob" && line["reason"].is_string()));
    let deletion = registry.audit().into_iter().find(|line| line["action"] == "delete").expect("it is there");
    assert_eq!(
        (deletion["request"].as_str(), deletion["address"].as_str()),
        (Some(id.as_str()), Some("127.0.0.1"))
    );
    assert_eq!(deletion["reference"], "1");
}

#[test]
fn what_was_given_outlives_a_kill() {
    let mut registry = TestRegistry::start(|_, _| ());
    let login = |registry: &TestRegistry| {
        let path = "/token?service=corten-registry&offline_token=true";
        let (_, _, body) = registry.curl(&["-u", "alice:elephant"], path);
        let answer: Value = serde_json::from_str(&body).expect("an answer");
        format!(
            "grant_type=refresh_token&refresh_token={}",
            answer["refresh_token"].as_str().expect("a login")
        )
    };
    let secret = registry.manage(&["robot", "create", "--allow", "team/*:write", "ci"]).ok();
    let token = registry.token(Some("alice:elephant"), "repository:team/app:pull");
    let (robot, login) = (format!("robot+ci:{secret}"), login(&registry));
    registry.kill_and_start_again();
    assert_eq!(registry.status(&["-H", &token], "/v2/team/app/manifests/1"), 404);
    assert_eq!(registry.status(&["-u", &robot], "/v2/team/app/manifests/1"), 404);
    assert_eq!(registry.status(&["-d", &login], "/token"), 200);
    registry.manage(&["robot", "revoke", "ci"]).ok();
    registry.manage(&["login", "revoke", "--all"]).ok();
    registry.kill_and_start_again();
    assert_eq!(registry.status(&["-u", &robot], "/v2/team/app/manifests/1"), 401);
    assert_eq!(registry.status(&["-d", &login], "/token"), 401);
}

#[test]
fn a_full_disk_keeps_nobody_out() {
    let disk = SmallDisk::mount();
    let registry = TestRegistry::start(|_, config| {
        config["data"] = json!(disk.0.path());
        config["access"]["audit"]["file"] = json!(disk.0.path().join("audit.log"));
    });
    let path = "/token?service=corten-registry&offline_token=true&scope=repository:team/app:pull";
    let token = || {
        let (status, _, body) = registry.curl(&["-u", "alice:elephant"], path);
        let answer: Value = serde_json::from_str(&body).expect("an answer");
        let header = format!("Authorization: Bearer {}", answer["token"].as_str().expect("a token"));
        (status, header, answer.get("refresh_token").is_some())
    };
    assert!(token().2);
    let filler = disk.0.path().join("filler");
    run(Command::new("dd").args(["if=/dev/zero", "bs=4k"]).arg(format!("of={}", filler.display()))).fails(1);
    let (status, header, kept) = token();
    assert_eq!((status, kept), (200, false));
    assert_eq!(registry.status(&["-H", &header], "/v2/team/app/manifests/1"), 404);
    let data = disk.0.path().display().to_string();
    let made = run(&mut registry_command(&["robot", "create", "--allow", "**:read", "--data", &data, "ci"]));
    assert!(made.stdout.is_empty() && made.clone().fails(1).contains("disk is full"), "{}", made.stderr);
    fs::remove_file(filler).expect("make room");
    assert!(token().2);
    run(&mut registry_command(&["robot", "create", "--allow", "**:read", "--data", &data, "ci"])).ok();
}

#[test]
fn a_full_disk_keeps_those_out_who_are_revoked() {
    let disk = SmallDisk::mount();
    let registry = TestRegistry::start(|_, config| {
        let users = disk.0.path().join("users");
        fs::copy(config["access"]["htpasswd"].as_str().expect("a file of users"), &users).expect("users");
        config["access"]["htpasswd"] = json!(users);
        config["data"] = json!(disk.0.path());
    });
    let data = disk.0.path().display().to_string();
    let make = |name: &str| {
        let made = ["robot", "create", "--allow", "**:read", "--data", &data, name];
        let secret = run(&mut registry_command(&made)).ok();
        format!("robot+{name}:{}", secret.lines().last().expect("a secret"))
    };
    let (one, other) = (make("one"), make("other"));
    let users = disk.0.path().join("users").display().to_string();
    let status = |who: &str| registry.status(&["-u", who], "/v2/team/app/manifests/1");
    let token = "/token?service=corten-registry&offline_token=true&scope=repository:team/app:pull";
    let (_, _, body) = registry.curl(&["-u", "alice:elephant"], token);
    let answer: Value = serde_json::from_str(&body).expect("an answer");
    let login = answer["refresh_token"].as_str().expect("a login").to_owned();
    let login = format!("grant_type=refresh_token&service=corten-registry&refresh_token={login}");
    let known = |who: &str| registry.status(&["-u", who], "/v2/");
    assert_eq!(
        (status(&one), status(&other), status("alice:elephant"), known("bob:mouse")),
        (404, 404, 404, 200)
    );
    let filler = disk.0.path().join("filler");
    for size in ["bs=64k", "bs=4k"] {
        let of = format!("of={}", filler.display());
        run(Command::new("dd").args(["if=/dev/zero", size, "oflag=append", "conv=notrunc"]).arg(of)).fails(1);
    }
    run(&mut registry_command(&["robot", "revoke", "--data", &data, "one"])).ok();
    run(&mut registry_command(&["robot", "revoke", "--data", &data, "other"])).ok();
    run(&mut registry_command(&["login", "revoke", "--data", &data, "user:alice"])).ok();
    run(&mut registry_command(&["user", "rm", "--file", &users, "bob"])).ok();
    eventually("robots are out", || (status(&one), status(&other)) == (401, 401));
    assert_eq!(registry.status(&["-d", &login], "/token"), 401);
    eventually("a user is out", || known("bob:mouse") == 401);
    assert_eq!(status("alice:elephant"), 404);
    // Also by a command that has to make the database's shared memory itself.
    drop(registry);
    run(&mut registry_command(&["key", "rotate", "--forget", "--data", &data])).ok();
    let listed = run(&mut registry_command(&["user", "ls", "--file", &users])).ok();
    assert_eq!(
        listed,
        "alice
root"
    );
}

#[test]
fn what_can_t_be_is_refused_at_the_start() {
    let directory = TempDir::new().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    certificate(directory.path());
    let refused = |config: Value, flags: &[&str]| {
        fs::write(path("registry.json"), config.to_string()).expect("the configuration");
        let file = path("registry.json").display().to_string();
        run(registry_command(&["serve", "--config", &file]).args(flags)).fails(1)
    };
    let data = path("data");
    let listen = json!(["192.0.2.1:0"]);
    let access = json!({"rules": [{"repositories": ["**"], "who": ["anonymous"], "may": ["read"]}]});
    for (config, expected) in [
        (json!({"data": data, "access": {"rulez": []}}), "unknown field `rulez`"),
        (
            json!({"data": data, "access": {"rules": [{"repositories": ["**"], "who": ["alice"], "may": ["read"]}]}}),
            "access.rules[0].who: \"alice\": want anonymous",
        ),
        (json!({"data": data, "access": {"htpasswd": path("none")}}), "none: No such file or directory"),
        (json!({"data": data, "listen": listen}), "--insecure-anonymous"),
        (json!({"data": data, "listen": listen, "access": access}), "--insecure-plain"),
        (
            json!({"data": data, "tls": {"certificate": path("cert.pem"), "key": path("none")}}),
            "none: I/O error: No such file or directory",
        ),
        (
            json!({"data": data, "tls": {"certificate": path("cert.pem"), "key": path("key.pem"), "clients": "required"}}),
            "there is no tls.client_ca",
        ),
    ] {
        let told = refused(config.clone(), &[]);
        assert!(told.contains(expected), "{config}: {told}");
    }
}
