//! What keeps a registry in order while it runs: reload, quotas, retention, webhooks.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corten_tests::registry::{MANIFEST, TestRegistry, bytes_of, digest};
use corten_tests::tls::{TlsFront, certificates};
use corten_tests::{Output, TestEngine, binary, eventually, free_port, run};
use serde_json::{Value, json};

/// A registry with a configuration file that a test changes.
struct Hub {
    place: tempfile::TempDir,
    registry: TestRegistry,
}

impl Hub {
    fn start(config: &Value) -> Self {
        let place = tempfile::tempdir_in("/var/tmp").expect("directory");
        let file = place.path().join("registry.json");
        write(&file, config);
        let arguments = ["--config", file.to_str().expect("a path")];
        let registry = TestRegistry::start(&place.path().join("hub"), &arguments);
        Self { place, registry }
    }

    fn file(&self) -> PathBuf {
        self.place.path().join("registry.json")
    }

    fn configure(&self, config: &Value) {
        write(&self.file(), config);
    }

    fn corten(&self, arguments: &[&str]) -> Output {
        let data = self.registry.data().to_str().expect("a path");
        run(Command::new(binary("corten")).arg("registry").args(arguments).args(["--data", data]))
    }

    fn reload(&self) -> Output {
        self.corten(&["reload"])
    }

    fn hangup(&self) {
        let pid = i32::try_from(self.registry.pid()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.expect("a process"), rustix::process::Signal::HUP).expect("SIGHUP");
    }
}

/// By a rename: a registry may be reading it.
fn write(file: &Path, config: &Value) {
    let new = file.with_extension("new");
    std::fs::write(&new, config.to_string()).expect("a configuration");
    std::fs::rename(new, file).expect("a configuration");
}

#[test]
fn a_reload_changes_who_may_do_what() {
    let public = json!({"repositories": ["public/**"], "who": ["anonymous"], "may": ["write"]});
    let open = json!({"access": {"rules": [public]}});
    let hub = Hub::start(&open);
    let mut wire = hub.registry.connect();
    assert_eq!(wire.push_blob("public/a", b"one").expect("push"), 201);
    assert_eq!(wire.push_blob("team/a", b"one").expect("push"), 401);
    let team = json!({"repositories": ["team/**"], "who": ["anonymous"], "may": ["write"]});
    hub.configure(&json!({"access": {"rules": [team]}, "collection": {"undo": "1h"}, "log_level": "debug"}));
    assert_eq!(hub.reload().ok(), "changed: access\nchanged: collection.undo\nchanged: log_level");
    // The same connection, and another rule.
    assert_eq!(wire.push_blob("public/a", b"two").expect("push"), 401);
    assert_eq!(wire.push_blob("team/a", b"two").expect("push"), 201);
    eventually("it logs more", || hub.registry.log().contains("DEBUG"));
    assert_eq!(hub.reload().ok(), "nothing has changed");
    hub.configure(&open);
    hub.hangup();
    eventually("the signal is heard", || {
        wire.push_blob("public/a", b"two").is_ok_and(|status| status == 201)
    });
    eventually("it is told", || {
        hub.registry.log().contains("read the configuration again changed=\"access, ")
    });
}

#[test]
fn a_wrong_configuration_changes_nothing() {
    let right =
        json!({"access": {"rules": [{"repositories": ["a/**"], "who": ["anonymous"], "may": ["write"]}]}});
    let hub = Hub::start(&right);
    let mut wire = hub.registry.connect();
    let mut unchanged = || assert_eq!(wire.push_blob("a/b", b"one").expect("push"), 201);
    for (config, why) in [
        (json!({"acess": {}}), "unknown field `acess`"),
        (json!({"collection": {"undo": "tomorrow"}}), "collection.undo"),
        (
            json!({"access": {"rules": [{"repositories": ["A"], "who": ["anonymous"], "may": ["read"]}]}}),
            "\"A\"",
        ),
        (json!({"access": {"htpasswd": "/nowhere/users"}}), "/nowhere/users"),
        (
            json!({"listen": ["127.0.0.1:1"], "metrics": "127.0.0.1:2", "access": {}}),
            "these can't change while the registry runs, so nothing has changed: metrics",
        ),
        (json!({"log_level": "loud"}), "log_level"),
    ] {
        hub.configure(&config);
        let refused = hub.reload();
        let said = refused.fails(1);
        assert!(said.contains(why), "{said}");
        eventually("the log says why", || hub.registry.log().contains(why));
        unchanged();
    }
    std::fs::remove_file(hub.file()).expect("remove");
    hub.reload().fails(1);
    unchanged();
    hub.configure(&right);
    assert_eq!(hub.reload().ok(), "nothing has changed");
}

#[test]
fn reloads_under_load_disturb_nobody() {
    let rules = |more: &str| {
        let everything = json!({"repositories": ["**"], "who": ["anonymous"], "may": ["write"]});
        let other = json!({"repositories": [more], "who": ["anonymous"], "may": ["read"]});
        json!({"access": {"rules": [everything, other]}})
    };
    let hub = Hub::start(&rules("a/one"));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (hub, done) = (&hub, &done);
            scope.spawn(move || {
                let (mut wire, mut round) = (hub.registry.connect(), 0);
                while !done.load(Ordering::Relaxed) {
                    round += 1;
                    let repository = format!("load/{worker}");
                    let blob = bytes_of(worker * 1000 + round, 100_000);
                    assert_eq!(wire.push_blob(&repository, &blob).expect("push"), 201);
                    let (_, status) =
                        wire.push_image(&repository, "latest", &[&digest(&blob)]).expect("push");
                    assert_eq!(status, 201);
                }
            });
        }
        for round in 0..30 {
            hub.configure(&rules(if round % 2 == 0 { "a/two" } else { "a/one" }));
            if round % 3 == 0 { hub.hangup() } else { drop(hub.reload().ok()) }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(!hub.registry.log().contains("ERROR"), "{}", hub.registry.log());
}

/// An image of so many bytes, as skopeo's `oci:` has it.
fn layout(place: &Path, bytes: usize) -> String {
    let layer = bytes_of(99, bytes);
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]}});
    let config = config.to_string().into_bytes();
    let descriptor =
        |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()});
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    });
    let manifest = manifest.to_string().into_bytes();
    let index = json!({"schemaVersion": 2, "manifests": [descriptor(MANIFEST, &manifest)]});
    let directory = place.join("layout");
    let blobs = directory.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).expect("directory");
    std::fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).expect("file");
    std::fs::write(directory.join("index.json"), index.to_string()).expect("file");
    for bytes in [&layer, &config, &manifest] {
        std::fs::write(blobs.join(digest(bytes).trim_start_matches("sha256:")), bytes).expect("file");
    }
    format!("oci:{}", directory.display())
}

#[test]
fn a_quota_is_told_of_before_its_bytes_come() {
    let hub = Hub::start(&json!({"quotas": [{"repositories": ["team/**"], "size": "3MB"}]}));
    let mut wire = hub.registry.connect();
    assert_eq!(wire.push_blob("team/a", &bytes_of(1, 2_000_000)).expect("push"), 201);
    // Another repository of the quota: the same blob is there for nothing, by mount or push.
    let first = digest(&bytes_of(1, 2_000_000));
    let mounted = wire.ask("POST", &format!("/v2/team/b/blobs/uploads/?mount={first}&from=team/a"), "", &[]);
    assert_eq!(mounted.expect("mount").status, 201);
    // A length that is said is too much at once.
    let begun = wire.ask("POST", "/v2/team/a/blobs/uploads/", "", &[]).expect("POST");
    let location = begun.header("location").to_owned();
    wire.send(
        format!("PATCH {location} HTTP/1.1\r\nHost: hub\r\nContent-Length: 5000000\r\n\r\n").as_bytes(),
    )
    .expect("head");
    let refused = wire.answer(false).expect("an answer");
    assert_eq!(refused.status, 403, "{}", refused.text());
    let body: Value = serde_json::from_slice(&refused.body).expect("JSON");
    assert_eq!(body["errors"][0]["code"], "DENIED");
    assert_eq!(body["errors"][0]["detail"]["limit"], 3_000_000);
    assert!(
        refused.text().contains("quota exceeded: team/** holds 2.0 MB of 3.0 MB, and 5.0 MB more do not fit")
    );
    // Without a length, where it becomes too much. Nothing of it stays.
    let mut wire = hub.registry.connect();
    let begun = wire.ask("POST", "/v2/team/a/blobs/uploads/", "", &[]).expect("POST");
    let location = begun.header("location").to_owned();
    let head = format!("PATCH {location} HTTP/1.1\r\nHost: hub\r\nTransfer-Encoding: chunked\r\n\r\n");
    wire.send(head.as_bytes()).expect("head");
    let piece = bytes_of(2, 100_000);
    let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), &piece, b"\r\n"].concat();
    for _ in 0..13 {
        wire.send(&chunk).expect("piece");
    }
    // Who goes on is heard, since many clients only look for an answer when they have sent all: no connection breaks under them.
    wire.wait_for_answer().expect("an answer");
    for _ in 0..20 {
        wire.send(&chunk).expect("piece");
    }
    assert_eq!(wire.answer(false).expect("an answer").status, 403);
    let left = std::fs::read_dir(hub.registry.data().join("ingest")).expect("uploads").count();
    assert_eq!(left, 0);
    assert_eq!(hub.registry.connect().push_blob("other", &bytes_of(3, 4_000_000)).expect("push"), 201);
    let used =
        hub.corten(&["usage", "--format", "{{.Kind}} {{.Name}} {{.Size}} {{.Limit}} {{.Coming}}"]).ok();
    assert_eq!(
        used,
        "quota team/** 2MB 3MB 0B\nrepository other 4MB - 0B\nrepository team/a 2MB - 0B\nrepository team/b 2MB - 0B"
    );
    // What goes makes room, and more of it by a reload.
    let mut wire = hub.registry.connect();
    assert_eq!(wire.push_blob("team/a", &bytes_of(4, 1_500_000)).expect("push"), 403);
    hub.configure(&json!({"quotas": [{"repositories": ["team/**"], "size": "4MB"}]}));
    assert_eq!(hub.reload().ok(), "changed: quotas");
    let mut wire = hub.registry.connect();
    assert_eq!(wire.push_blob("team/a", &bytes_of(4, 1_500_000)).expect("push"), 201);
}

#[test]
fn a_crowd_stays_within_a_quota() {
    let hub = Hub::start(&json!({"quotas": [{"repositories": ["**"], "size": "5MB"}]}));
    let pushed = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for worker in 0..8u64 {
            let (hub, pushed) = (&hub, &pushed);
            scope.spawn(move || {
                for round in 0..6 {
                    let bytes = bytes_of(worker * 100 + round, 300_000);
                    // A refusal may close the connection.
                    let status =
                        hub.registry.connect().push_blob(&format!("r/{worker}"), &bytes).expect("push");
                    assert!(status == 201 || status == 403, "{status}");
                    if status == 201 {
                        pushed.fetch_add(300_000, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let pushed = pushed.into_inner();
    assert!((3_000_000..=5_000_000).contains(&pushed), "{pushed}");
    let used = hub.corten(&["usage", "--quotas", "--format", "{{.Bytes}} {{.Coming}}"]).ok();
    assert_eq!(used, format!("{pushed} 0B"));
}

#[test]
fn clients_show_why() {
    let hub = Hub::start(&json!({"quotas": [{"repositories": ["team/**"], "size": "1MB"}]}));
    let image = layout(hub.place.path(), 3_000_000);
    let to = format!("docker://{}/team/app:1", hub.registry.address());
    let refused = run(Command::new("skopeo").args(["copy", "--dest-tls-verify=false", &image, &to]));
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("denied: quota exceeded: team/** holds"), "{}", refused.stderr);
}

#[test]
fn retention_explains_itself_and_can_be_undone() {
    let audit = tempfile::tempdir().expect("directory");
    let log = audit.path().join("audit.log");
    let rules = json!([{"repositories": ["**"], "who": ["anonymous"], "may": ["write"]}]);
    let rule = json!({"repositories": ["team/*"], "tags": ["pr-*"], "keep_last": 1, "protect": ["pr-1"]});
    let hub = Hub::start(&json!({
        "access": {"rules": rules, "audit": {"file": log}}, "collection": {"every": "0"}, "retention": [rule],
    }));
    let mut wire = hub.registry.connect();
    let blob = bytes_of(1, 1000);
    assert_eq!(wire.push_blob("team/app", &blob).expect("push"), 201);
    for tag in ["latest", "pr-1", "pr-2", "pr-3"] {
        assert_eq!(wire.push_image("team/app", tag, &[&digest(&blob)]).expect("push").1, 201);
    }
    let told = hub.corten(&["gc", "--dry-run", "--kept"]).ok();
    for line in [
        "would keep tag team/app:latest@sha256:",
        "would keep tag team/app:pr-1@sha256:",
        ": rule 0 protects pr-1",
        "would remove tag team/app:pr-2@sha256:",
        ": rule 0: number 2 of the last 1",
        "would keep tag team/app:pr-3@sha256:",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
    let told = hub.corten(&["gc"]).ok();
    assert!(told.starts_with("removed tag team/app:pr-2@sha256:") && !told.contains("kept"), "{told}");
    assert_eq!(wire.get("/v2/team/app/manifests/pr-2").expect("get").status, 404);
    let listed = hub.corten(&["restore", "--format", "{{.Repository}}:{{.Tag}} {{.Digest}}"]).ok();
    let (name, gone) = listed.split_once(' ').expect("a line");
    assert_eq!(name, "team/app:pr-2");
    assert_eq!(wire.get(&format!("/v2/team/app/manifests/{gone}")).expect("get").status, 200);
    assert_eq!(hub.corten(&["restore", "team/app:pr-2"]).ok(), format!("team/app:pr-2: {gone}"));
    assert_eq!(wire.get("/v2/team/app/manifests/pr-2").expect("get").status, 200);
    let refused = hub.corten(&["restore", "team/app:pr-2"]).fails(1);
    assert!(refused.contains("stands for sha256:"), "{refused}");
    eventually("the audit log has it", || {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        let entries: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        entries.iter().any(|entry| {
            entry["action"] == "retire"
                && entry["repository"] == "team/app"
                && entry["reference"] == "pr-2"
                && entry["identity"] == "registry"
        })
    });
}

/// Hears what webhooks say.
struct Receiver {
    address: std::net::SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
    status: Arc<AtomicU16>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Clone, Debug)]
struct Heard {
    head: String,
    body: Vec<u8>,
}

impl Heard {
    fn events(&self) -> Vec<Value> {
        let body: Value = serde_json::from_slice(&self.body).expect("JSON");
        body["events"].as_array().expect("events").clone()
    }
}

impl Receiver {
    fn start(address: &str) -> Self {
        Self::answering(address, 200)
    }

    fn answering(address: &str, status: u16) -> Self {
        let listener = std::net::TcpListener::bind(address).expect("listen");
        listener.set_nonblocking(true).expect("a listener");
        let address = listener.local_addr().expect("an address");
        let (heard, status, stop) = (
            Arc::<Mutex<Vec<Heard>>>::default(),
            Arc::new(AtomicU16::new(status)),
            Arc::<AtomicBool>::default(),
        );
        let (all, answer, stopped) = (heard.clone(), status.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let Ok((stream, _)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                };
                stream.set_nonblocking(false).expect("a stream");
                stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a stream");
                // One request a connection.
                if let Some(one) = hear(&stream) {
                    let status = answer.load(Ordering::Relaxed);
                    if status == 200 {
                        all.lock().expect("what was heard").push(one);
                    }
                    let text = format!(
                        "HTTP/1.1 {status} x\r\nLocation: /elsewhere\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                    );
                    let _ = (&stream).write_all(text.as_bytes());
                }
            }
        });
        Self { address, heard, status, stop, thread: Some(thread) }
    }

    fn url(&self) -> String {
        format!("http://{}/hook?from=hub", self.address)
    }

    fn heard(&self) -> Vec<Heard> {
        self.heard.lock().expect("what was heard").clone()
    }

    /// What was heard of, as `ACTION REPOSITORY:TAG`.
    fn deeds(&self) -> Vec<String> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let events = self.heard().iter().flat_map(Heard::events).collect::<Vec<_>>();
        let deed = |event: &Value| {
            let target = &event["target"];
            format!("{} {}:{}", text(&event["action"]), text(&target["repository"]), text(&target["tag"]))
        };
        events.iter().map(deed).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn hear(stream: &std::net::TcpStream) -> Option<Heard> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    })?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Heard { head, body })
}

#[test]
fn a_webhook_hears_of_pushes_and_deletions() {
    let receiver = Receiver::start("127.0.0.1:0");
    let place = tempfile::tempdir().expect("directory");
    let secret = place.path().join("secret");
    std::fs::write(&secret, "open sesame\n").expect("a secret");
    let hook = json!({"name": "ci", "url": receiver.url(), "repositories": ["team/**"], "secret_file": secret,
        "headers": {"Authorization": "Bearer abc"}});
    let hub = Hub::start(&json!({"webhooks": [hook]}));
    let mut wire = hub.registry.connect();
    let blob = bytes_of(1, 1000);
    for repository in ["team/app", "other"] {
        assert_eq!(wire.push_blob(repository, &blob).expect("push"), 201);
        assert_eq!(wire.push_image(repository, "1.0", &[&digest(&blob)]).expect("push").1, 201);
    }
    assert_eq!(wire.ask("DELETE", "/v2/team/app/manifests/1.0", "", &[]).expect("delete").status, 202);
    assert_eq!(wire.ask("DELETE", "/v2/team/app/manifests/1.0", "", &[]).expect("delete").status, 404);
    eventually("the receiver hears", || receiver.heard().len() == 2);
    assert_eq!(receiver.deeds(), ["push team/app:1.0", "delete team/app:1.0"]);
    let first = &receiver.heard()[0];
    let head = first.head.to_ascii_lowercase();
    assert!(head.starts_with("post /hook?from=hub http/1.1"), "{head}");
    assert!(head.contains("content-type: application/vnd.docker.distribution.events.v1+json"), "{head}");
    assert!(head.contains("authorization: bearer abc"), "{head}");
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"open sesame");
    let tag: String =
        ring::hmac::sign(&key, &first.body).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(head.contains(&format!("x-hub-signature-256: sha256={tag}")), "{head}");
    let event = &first.events()[0];
    assert_eq!(event["target"]["mediaType"], MANIFEST);
    let url = event["target"]["url"].as_str().expect("a URL");
    assert!(url.starts_with("http://hub/v2/team/app/manifests/sha256:"), "{url}");
    assert_eq!((&event["request"]["method"], &event["request"]["host"]), (&"PUT".into(), &"hub".into()));
}

#[test]
fn a_webhook_speaks_tls_to_whom_it_believes() {
    let receiver = Receiver::start("127.0.0.1:0");
    let place = tempfile::tempdir().expect("directory");
    certificates(place.path(), &["ci"]);
    let front = TlsFront::before(receiver.address, place.path(), "ci");
    let hook = |more: Value| {
        let mut hook = json!({"name": "ci", "url": format!("https://{}/hook", front.address())});
        hook.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        json!({"webhooks": [hook]})
    };
    let hub = Hub::start(&hook(json!({})));
    let mut wire = hub.registry.connect();
    assert_eq!(wire.push_blob("a", b"layer").expect("push"), 201);
    assert_eq!(wire.push_image("a", "1", &[&digest(b"layer")]).expect("push").1, 201);
    eventually("it does not believe a stranger", || {
        hub.registry.log().contains("the webhook doesn't hear")
            && hub.registry.log().contains("UnknownIssuer")
    });
    assert!(receiver.heard().is_empty());
    hub.configure(&hook(json!({"ca": place.path().join("ca.crt")})));
    assert_eq!(hub.reload().ok(), "changed: webhooks");
    eventually("the receiver hears", || receiver.deeds() == ["push a:1"]);
}

#[test]
fn who_asks_for_pulls_hears_of_them() {
    let (pulls, others) = (Receiver::start("127.0.0.1:0"), Receiver::start("127.0.0.1:0"));
    let hub = Hub::start(&json!({"webhooks": [
        {"url": pulls.url(), "events": ["pull"], "repositories": ["team/**"]}, {"url": others.url()}]}));
    let mut wire = hub.registry.connect();
    let mut digests = Vec::new();
    for repository in ["team/app", "other"] {
        assert_eq!(wire.push_blob(repository, b"layer").expect("push"), 201);
        let (manifest, status) = wire.push_image(repository, "1", &[&digest(b"layer")]).expect("push");
        assert_eq!(status, 201);
        digests.push(digest(&manifest));
        let path = format!("/v2/{repository}/manifests/1");
        assert_eq!(wire.ask("HEAD", &path, "", &[]).expect("HEAD").status, 200);
        assert_eq!(wire.get(&path).expect("GET").status, 200);
    }
    assert_eq!(wire.get(&format!("/v2/team/app/manifests/{}", digests[0])).expect("GET").status, 200);
    eventually("the receiver hears", || pulls.heard().len() == 2);
    assert_eq!(pulls.deeds(), ["pull team/app:1", "pull team/app:"]);
    let event = &pulls.heard()[0].events()[0];
    assert_eq!(event["target"]["digest"], digests[0].as_str());
    assert_eq!(
        (&event["request"]["method"], &event["target"]["mediaType"]),
        (&"GET".into(), &MANIFEST.into())
    );
    eventually("so does the other", || others.heard().len() == 2);
    assert_eq!(others.deeds(), ["push team/app:1", "push other:1"]);
}

/// In the words that Docker has for it.
#[test]
fn a_client_is_told_of_the_quota() {
    let hub = Hub::start(&json!({"quotas": [{"repositories": ["team/**"], "size": "1kB"}]}));
    let engine = TestEngine::with_busybox();
    let name = format!("{}/team/app:1", hub.registry.address());
    engine.corten(&["tag", "busybox", &name]).ok();
    for refused in [engine.corten(&["push", &name]), engine.docker(&["push", &name])] {
        let said = refused.stderr.trim();
        let said = said.lines().next().unwrap_or_default().trim_start_matches("corten: ");
        assert!(
            refused.code == 1 && said.starts_with("denied: quota exceeded: team/** holds "),
            "{refused:?}"
        );
    }
}

#[test]
fn a_dead_receiver_hears_all_of_it_later_and_slows_nobody() {
    let address = format!("127.0.0.1:{}", free_port());
    let url = format!("http://{address}/hook?from=hub");
    let hub = Hub::start(&json!({"webhooks": [{"name": "ci", "url": url, "queue": 5}]}));
    let mut hub = hub;
    let mut wire = hub.registry.connect();
    let blob = bytes_of(1, 1000);
    assert_eq!(wire.push_blob("a", &blob).expect("push"), 201);
    for number in 0..4 {
        assert_eq!(wire.push_image("a", &number.to_string(), &[&digest(&blob)]).expect("push").1, 201);
    }
    eventually("the log says so", || hub.registry.log().contains("the webhook doesn't hear"));
    // What it was to be told is on the disk.
    hub.registry.kill();
    hub.registry.restart();
    let receiver = Receiver::answering(&address, 503);
    let mut wire = hub.registry.connect();
    for number in 4..8 {
        assert_eq!(wire.push_image("a", &number.to_string(), &[&digest(&blob)]).expect("push").1, 201);
    }
    // Five may wait: the oldest go.
    eventually("what is too much is dropped", || hub.registry.log().contains("is dropped"));
    // A redirect isn't followed.
    receiver.status.store(307, Ordering::Relaxed);
    receiver.status.store(200, Ordering::Relaxed);
    eventually("it hears the rest", || receiver.deeds().len() >= 5);
    let expected: Vec<String> = (3..8).map(|number| format!("push a:{number}")).collect();
    assert_eq!(receiver.deeds(), expected);
}

#[test]
fn a_kill_between_push_and_delivery_loses_nothing() {
    let receiver = Receiver::start("127.0.0.1:0");
    let mut hub = Hub::start(&json!({"webhooks": [{"url": receiver.url()}]}));
    let blob = bytes_of(1, 1000);
    let mut pushed = Vec::new();
    for round in 0..6 {
        let mut wire = hub.registry.connect();
        assert_eq!(wire.push_blob("a", &blob).expect("push"), 201);
        for number in 0..5 {
            let tag = format!("{round}-{number}");
            if wire.push_image("a", &tag, &[&digest(&blob)]).expect("push").1 == 201 {
                pushed.push(format!("push a:{tag}"));
            }
        }
        hub.registry.kill();
        hub.registry.restart();
    }
    eventually("all of it is heard", || {
        let deeds = receiver.deeds();
        pushed.iter().all(|push| deeds.contains(push))
    });
    // In order; what was heard just before a kill may be heard twice.
    let mut deeds = receiver.deeds();
    deeds.dedup();
    assert_eq!(deeds, pushed);
}

#[test]
fn webhooks_change_by_a_reload() {
    let receiver = Receiver::start("127.0.0.1:0");
    let hub = Hub::start(&json!({}));
    let mut wire = hub.registry.connect();
    let blob = bytes_of(1, 1000);
    assert_eq!(wire.push_blob("a", &blob).expect("push"), 201);
    assert_eq!(wire.push_image("a", "before", &[&digest(&blob)]).expect("push").1, 201);
    hub.configure(&json!({"webhooks": [{"url": receiver.url(), "secret_file": "/nowhere/secret"}]}));
    assert!(hub.reload().fails(1).contains("/nowhere/secret"));
    hub.configure(&json!({"webhooks": [{"url": receiver.url()}]}));
    assert_eq!(hub.reload().ok(), "changed: webhooks");
    assert_eq!(wire.push_image("a", "after", &[&digest(&blob)]).expect("push").1, 201);
    eventually("it hears", || !receiver.heard().is_empty());
    assert_eq!(receiver.deeds(), ["push a:after"]);
}

#[test]
fn a_reload_needs_a_registry() {
    let place = tempfile::tempdir().expect("directory");
    let data = place.path().to_str().expect("a path");
    let refused = run(Command::new(binary("corten")).args(["registry", "reload", "--data", data]));
    let said = refused.fails(1);
    assert!(said.contains("start it first"), "{said}");
}
