//! `corten registry serve` with its blobs in an S3 store: real clients, crashes, a store that misbehaves, collection.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use corten_tests::proxy::{Mood, Proxy};
use corten_tests::registry::{TestRegistry, Wire, bytes_of, digest};
use corten_tests::s3::{ACCESS_KEY, BUCKET, SECRET_KEY, Store, s3_server};
use corten_tests::tls::{TlsFront, certificates};
use corten_tests::{Output, TestEngine, binary, busybox_archive, eventually, run};

/// More than two parts.
const LARGE: usize = 20_000_000;

/// A store, what stands before it, and a registry on it.
struct Place {
    directory: tempfile::TempDir,
    store: Store,
    proxy: Proxy,
}

impl Place {
    fn new() -> Option<Place> {
        let program = s3_server()?;
        let directory = tempfile::tempdir_in("/var/tmp").expect("directory");
        let store = Store::start(&program, &directory.path().join("s3"));
        let proxy = Proxy::before(store.address());
        fs::write(directory.path().join("secret"), format!("{SECRET_KEY}\n")).expect("a file");
        Some(Place { directory, store, proxy })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A configuration file with these changes to `storage.s3`.
    fn config(&self, name: &str, changes: serde_json::Value) -> String {
        let mut s3 = serde_json::json!({
            "bucket": BUCKET, "prefix": "team/images", "endpoint": format!("http://{}", self.proxy.address()),
            "access_key_id": ACCESS_KEY, "secret_access_key_file": self.path("secret"),
        });
        for (key, value) in changes.as_object().expect("an object") {
            s3[key] = value.clone();
        }
        let path = self.path(name);
        fs::write(&path, serde_json::json!({"storage": {"s3": s3}}).to_string()).expect("a file");
        path.display().to_string()
    }

    fn registry(&self) -> TestRegistry {
        TestRegistry::start(&self.path("hub"), &["--config", &self.config("hub.json", serde_json::json!({}))])
    }

    /// What a registry says that can't be started.
    fn refused(&self, data: &str, changes: serde_json::Value) -> String {
        let (config, data) = (self.config("refused.json", changes), self.path(data).display().to_string());
        let serve = ["registry", "serve", "--listen", "127.0.0.1:0", "--data", &data, "--config", &config];
        corten(&serve).fails(1)
    }

    fn gc(&self, arguments: &[&str]) -> String {
        let (config, data) =
            (self.path("hub.json").display().to_string(), self.path("hub").display().to_string());
        corten(&[&["registry", "gc", "--data", &data, "--config", &config], arguments].concat()).ok()
    }

    /// Objects but for the one that says whose they are.
    fn blobs(&self) -> Vec<String> {
        let objects = self.store.objects().into_iter();
        objects.filter(|name| name != "team/images/registry.json").collect()
    }

    /// What lies on the registry's own disk for the time being.
    fn left_here(&self) -> usize {
        ["ingest", "parts"]
            .map(|name| fs::read_dir(self.path("hub").join(name)).expect("directory").count())
            .iter()
            .sum()
    }
}

fn object(bytes: &[u8]) -> String {
    format!("team/images/blobs/sha256/{}", digest(bytes).trim_start_matches("sha256:"))
}

fn corten(arguments: &[&str]) -> Output {
    run(Command::new(binary("corten")).args(arguments))
}

fn get(wire: &mut Wire, repository: &str, bytes: &[u8]) -> corten_tests::registry::Reply {
    wire.get(&format!("/v2/{repository}/blobs/{}", digest(bytes))).expect("GET")
}

/// An engine, by Docker's own client; a store whose authority is nobody's else.
#[test]
fn an_image_goes_through_a_store_that_speaks_tls() {
    let Some(place) = Place::new() else { return };
    certificates(place.directory.path(), &["store"]);
    let front = TlsFront::before(place.store.address(), place.directory.path(), "store");
    let endpoint = format!("https://{}", front.address());
    let refused = place.refused("other", serde_json::json!({"endpoint": endpoint}));
    assert!(refused.contains("certificate signed by unknown authority"), "{refused}");
    let config =
        place.config("tls.json", serde_json::json!({"endpoint": endpoint, "ca": place.path("ca.crt")}));
    let hub = TestRegistry::start(&place.path("hub"), &["--config", &config]);
    let engine = TestEngine::with_busybox();
    let name = format!("{}/team/app:1", hub.address());
    engine.docker(&["tag", "busybox", &name]).ok();
    engine.docker(&["push", &name]).ok();
    assert_eq!(place.blobs().len(), 2, "a configuration and a layer");
    let id = || engine.docker(&["inspect", "-f", "{{.Id}}", &name]).ok();
    let pushed = id();
    engine.docker(&["rmi", "-f", &name, "busybox"]).ok();
    assert_eq!(engine.docker(&["run", "--rm", &name, "echo", "from afar"]).ok(), "from afar");
    assert_eq!(id(), pushed);
}

#[test]
fn blobs_are_objects() {
    let Some(place) = Place::new() else { return };
    let hub = place.registry();
    let mut wire = hub.connect();
    let blobs =
        [bytes_of(1, LARGE), bytes_of(2, 1000), Vec::new(), bytes_of(3, 8 << 20), bytes_of(4, (8 << 20) + 1)];
    for bytes in &blobs {
        assert_eq!(wire.push_blob("a", bytes).expect("an answer"), 201);
        let path = format!("/v2/a/blobs/{}", digest(bytes));
        let head = wire.ask("HEAD", &path, "", &[]).expect("HEAD");
        assert_eq!((head.status, head.header("content-length")), (200, bytes.len().to_string().as_str()));
        let whole = wire.get(&path).expect("GET");
        assert!(
            whole.status == 200 && whole.body == *bytes,
            "{} bytes for {}",
            whole.body.len(),
            bytes.len()
        );
    }
    let large = &blobs[0];
    let path = format!("/v2/a/blobs/{}", digest(large));
    for (range, wanted) in [
        ("0-0", &large[..1]),
        ("8388607-8388608", &large[8_388_607..8_388_609]),
        ("19999990-", &large[19_999_990..]),
        ("-7", &large[LARGE - 7..]),
    ] {
        let part = wire.ask("GET", &path, &format!("Range: bytes={range}\r\n"), &[]).expect("GET");
        assert_eq!((part.status, part.body.as_slice()), (206, wanted), "{range}");
    }
    assert_eq!(wire.ask("GET", &path, "Range: bytes=20000000-\r\n", &[]).expect("GET").status, 416);
    let mut names: Vec<_> = blobs.iter().map(|bytes| object(bytes)).collect();
    names.sort();
    assert_eq!(place.blobs(), names);
    assert_eq!((place.left_here(), place.store.unfinished()), (0, Vec::<String>::new()));
    // The same once more, elsewhere: the store isn't asked to take it again.
    assert_eq!(wire.push_blob("b", large).expect("an answer"), 201);
    assert_eq!((place.blobs().len(), place.left_here()), (blobs.len(), 0));
}

#[test]
fn an_upload_goes_on_after_a_kill() {
    let Some(place) = Place::new() else { return };
    let mut hub = place.registry();
    let bytes = bytes_of(1, LARGE);
    let mut wire = hub.connect();
    let begun = wire.ask("POST", "/v2/a/blobs/uploads/", "", &[]).expect("POST");
    let location = begun.header("location").to_owned();
    assert_eq!(wire.ask("PATCH", &location, "", &bytes[..12_000_000]).expect("PATCH").status, 202);
    hub.kill();
    hub.restart();
    let mut wire = hub.connect();
    let status = wire.get(&location).expect("status");
    assert_eq!((status.status, status.header("range")), (204, "0-11999999"));
    assert_eq!(wire.ask("PATCH", &location, "", &bytes[12_000_000..]).expect("PATCH").status, 202);
    let end = format!("{location}?digest={}", digest(&bytes));
    assert_eq!(wire.ask("PUT", &end, "", &[]).expect("PUT").status, 201);
    assert!(get(&mut wire, "a", &bytes).body == bytes);
}

#[test]
fn a_kill_in_the_middle_of_parts_leaves_nothing() {
    let Some(place) = Place::new() else { return };
    let mut hub = place.registry();
    let bytes = Arc::new(bytes_of(1, LARGE));
    place.proxy.set(Mood::Slow(400_000));
    let (mut wire, pushed) = (hub.connect(), bytes.clone());
    let push = thread::spawn(move || wire.push_blob("a", &pushed));
    let notes = place.path("hub").join("parts");
    eventually("parts are on their way", || {
        let noted = fs::read_dir(&notes).expect("notes").flatten().next();
        noted.is_some_and(|note| fs::read_to_string(note.path()).is_ok_and(|id| !id.is_empty()))
    });
    hub.kill();
    push.join().expect("a push").unwrap_err();
    assert_eq!(place.blobs(), Vec::<String>::new());
    place.proxy.set(Mood::Pass);
    hub.restart();
    eventually("what was begun is given up", || {
        fs::read_dir(&notes).expect("notes").count() == 0 && place.store.unfinished().is_empty()
    });
    let mut wire = hub.connect();
    assert_eq!(get(&mut wire, "a", &bytes).status, 404);
    assert_eq!(wire.push_blob("a", &bytes).expect("an answer"), 201);
    assert!(get(&mut wire, "a", &bytes).body == *bytes);
}

#[test]
fn what_no_row_knows_goes_and_what_is_not_ours_stays() {
    let Some(place) = Place::new() else { return };
    let mut hub = place.registry();
    let mut wire = hub.connect();
    let kept = bytes_of(1, 5000);
    assert_eq!(wire.push_blob("a", &kept).expect("an answer"), 201);
    hub.stop();
    // More than a page of them.
    let bucket = place.store.bucket();
    for number in 0..1100 {
        let bytes = bytes_of(number + 10, 16);
        fs::write(bucket.join(object(&bytes)), bytes).expect("an object");
    }
    let foreign = "team/images/blobs/sha256/notes.txt";
    fs::write(bucket.join(foreign), "mine").expect("an object");
    hub.restart();
    for left in [800, 500, 200, 2] {
        eventually("what a crash has left goes", || place.blobs().len() <= left);
    }
    assert_eq!(place.blobs().iter().filter(|name| **name == object(&kept) || *name == foreign).count(), 2);
}

#[test]
fn collection_empties_the_bucket() {
    let Some(place) = Place::new() else { return };
    let mut hub = place.registry();
    let mut wire = hub.connect();
    let (one, other) = (bytes_of(1, 5000), bytes_of(2, LARGE));
    for bytes in [&one, &other] {
        assert_eq!(wire.push_blob("a", bytes).expect("an answer"), 201);
    }
    let (manifest, status) = wire.push_image("a", "1", &[&digest(&one), &digest(&other)]).expect("an answer");
    assert_eq!((status, place.gc(&["--undo", "0"]).as_str()), (201, "0 blobs removed, 0B"));
    let path = format!("/v2/a/manifests/{}", digest(&manifest));
    assert_eq!(wire.ask("DELETE", &path, "", &[]).expect("DELETE").status, 202);
    eventually("what was pushed may go", || {
        place.gc(&["--dry-run", "--undo", "0"]).contains("2 blobs would go")
    });
    assert_eq!(place.blobs().len(), 2);
    // One by the registry that runs, and one by a command that works by itself.
    place.proxy.set(Mood::Away);
    let (config, data) =
        (place.path("hub.json").display().to_string(), place.path("hub").display().to_string());
    let gc = ["registry", "gc", "--data", &data, "--config", &config, "--undo", "0"];
    let away = corten(&gc).fails(1);
    assert!(away.contains("cannot remove blob sha256:") && away.contains("bucket hub at"), "{away}");
    hub.stop();
    let away = corten(&gc).fails(1);
    assert!(away.contains("cannot read team/images/registry.json"), "{away}");
    place.proxy.set(Mood::Pass);
    let removed = corten(&gc).ok();
    assert!(removed.contains("removed"), "{removed}");
    assert_eq!(place.store.objects(), ["team/images/registry.json"]);
    hub.restart();
    assert_eq!(hub.connect().push_blob("a", &other).expect("an answer"), 201);
}

#[test]
fn a_store_that_is_away_is_said_to_be_and_comes_back() {
    let Some(place) = Place::new() else { return };
    let hub = place.registry();
    let mut wire = hub.connect();
    let (there, new) = (bytes_of(1, LARGE), bytes_of(2, LARGE));
    assert_eq!(wire.push_blob("a", &there).expect("an answer"), 201);
    let begun = wire.ask("POST", "/v2/a/blobs/uploads/", "", &[]).expect("POST");
    let location = begun.header("location").to_owned();
    assert_eq!(wire.ask("PATCH", &location, "", &new).expect("PATCH").status, 202);
    let end = format!("{location}?digest={}", digest(&new));
    for mood in [Mood::Away, Mood::SlowDown] {
        place.proxy.set(mood);
        let pulled = get(&mut wire, "a", &there);
        assert_eq!((pulled.status, pulled.header("retry-after")), (503, "5"), "{mood:?}");
        assert!(
            pulled.text().contains("UNAVAILABLE") && pulled.text().contains("try again"),
            "{}",
            pulled.text()
        );
        let pushed = wire.ask("PUT", &end, "", &[]).expect("PUT");
        assert_eq!((pushed.status, pushed.header("retry-after")), (503, "5"), "{mood:?}");
        // What needs no store goes on.
        let path = format!("/v2/a/blobs/{}", digest(&there));
        assert_eq!(wire.ask("HEAD", &path, "", &[]).expect("HEAD").status, 200);
        assert_eq!(wire.get("/healthz").expect("GET").status, 200);
    }
    let log = hub.log();
    assert!(log.contains("cannot read blob sha256:") && log.contains("SlowDown: said the test"), "{log}");
    place.proxy.set(Mood::Pass);
    assert!(get(&mut wire, "a", &there).body == there);
    assert_eq!(wire.ask("PUT", &end, "", &[]).expect("PUT").status, 201);
    assert!(get(&mut wire, "a", &new).body == new);
    eventually("nothing is left", || place.left_here() == 0 && place.store.unfinished().is_empty());
}

#[test]
fn what_passes_is_waited_for() {
    let Some(place) = Place::new() else { return };
    let hub = place.registry();
    let mut wire = hub.connect();
    for (number, mood) in
        [Mood::Away, Mood::SlowDown, Mood::BreakUp(3_000_000), Mood::BreakDown(10)].into_iter().enumerate()
    {
        let bytes = bytes_of(number as u64, LARGE);
        place.proxy.set_for(mood, 2);
        assert_eq!(wire.push_blob("a", &bytes).expect("an answer"), 201, "{mood:?}: {}", hub.log());
        assert!(get(&mut wire, "a", &bytes).body == bytes, "{mood:?}");
    }
    // In the middle of what goes out, more often than anything is tried that brings nothing.
    let bytes = bytes_of(0, LARGE);
    place.proxy.set_for(Mood::BreakDown(3_000_000), 6);
    let whole = get(&mut wire, "a", &bytes);
    assert!(whole.status == 200 && whole.body == bytes);
    // Not what the store has of uploads that it began without being heard: this one can't list them.
    assert_eq!(place.left_here(), 0);
}

#[test]
fn a_full_store_takes_nothing_and_keeps_nothing_here() {
    let Some(place) = Place::new() else { return };
    let hub = place.registry();
    let mut wire = hub.connect();
    for length in [1000, LARGE] {
        place.proxy.set(Mood::Full);
        let bytes = bytes_of(1, length);
        assert_eq!(wire.push_blob("a", &bytes).expect("an answer"), 507);
        place.proxy.set(Mood::Pass);
        assert_eq!(place.blobs(), Vec::<String>::new());
        assert_eq!(fs::read_dir(place.path("hub/ingest")).expect("directory").count(), 0);
    }
    assert!(hub.log().contains("XMinioStorageFull: said the test"), "{}", hub.log());
    assert_eq!(wire.push_blob("a", &bytes_of(1, LARGE)).expect("an answer"), 201);
    assert_eq!(place.left_here(), 0);
}

#[test]
fn at_the_start_it_says_what_is_wrong() {
    let Some(place) = Place::new() else { return };
    let said = |changes, words: &[&str]| {
        let told = place.refused("new", changes);
        assert!(words.iter().all(|word| told.contains(word)), "{told}");
    };
    use serde_json::json;
    said(
        json!({"bucket": "nosuch"}),
        &["bucket nosuch at http://127.0.0.1:", "NoSuchBucket", "storage.s3.bucket"],
    );
    fs::write(place.path("wrong"), "wrong").expect("a file");
    said(json!({"secret_access_key_file": place.path("wrong")}), &["SignatureDoesNotMatch", "secret key"]);
    said(json!({"access_key_id": "nobody"}), &["cannot read team/images/registry.json: bucket hub at"]);
    said(json!({"secret_access_key_file": place.path("missing")}), &["secret_access_key_file", "missing"]);
    said(json!({"secret_access_key_file": null}), &["secret_access_key_file"]);
    said(
        json!({"access_key_id": null, "secret_access_key_file": null}),
        &["no credentials", "AWS_ACCESS_KEY_ID"],
    );
    said(json!({"endpoint": "http://store.example:9000"}), &["allow_http"]);
    said(json!({"buckte": "hub"}), &["buckte"]);
    place.proxy.set(Mood::Away);
    said(json!({}), &["cannot read team/images/registry.json: bucket hub at"]);
    place.proxy.set(Mood::Pass);
    said(json!({"endpoint": "http://127.0.0.1:1"}), &["connection refused"]);
    // Whose blobs these are.
    let mut hub = place.registry();
    assert_eq!(hub.connect().push_blob("a", b"blob").expect("an answer"), 201);
    hub.stop();
    said(json!({}), &["belongs to another registry", "team/images/registry.json"]);
    let told = place.refused("hub", json!({"prefix": "elsewhere"}));
    assert!(told.contains("there is no elsewhere/registry.json"), "{told}");
    let data = place.path("hub").display().to_string();
    let told = corten(&["registry", "serve", "--listen", "127.0.0.1:0", "--data", &data]).fails(1);
    assert!(told.contains("object store") && told.contains("storage"), "{told}");
    fs::remove_file(place.store.bucket().join("team/images/registry.json")).expect("an object");
    said(json!({}), &["there are blobs below team/images/blobs/"]);
    assert_eq!(place.blobs(), [object(b"blob")]);
    // A registry that has its blobs on its disk.
    let mut here = TestRegistry::start(&place.path("here"), &[]);
    assert_eq!(here.connect().push_blob("a", b"blob").expect("an answer"), 201);
    here.stop();
    let told = place.refused("here", json!({"prefix": "other"}));
    assert!(
        told.contains("its blobs are in this directory") && told.contains("docs/registry-s3.md"),
        "{told}"
    );
}

#[test]
fn clients_push_and_pull_through_it_and_past_it() {
    let Some(place) = Place::new() else { return };
    let archive = busybox_archive(place.directory.path()).display().to_string();
    let directory = |name: &str| place.path(name).display().to_string();
    let (root, state) = (directory("root"), directory("run"));
    let podman = |arguments: &[&str]| {
        let own = ["--root", &root, "--runroot", &state, "--storage-driver", "vfs"];
        run(Command::new("podman").args(own).args(arguments))
    };
    podman(&["import", "-q", &archive, "busybox:latest"]).ok();
    for redirect in [false, true] {
        let config = place.config("hub.json", serde_json::json!({"redirect": redirect}));
        let mut hub = TestRegistry::start(&place.path("hub"), &["--config", &config]);
        let name = format!("{}/team/busybox:1", hub.address());
        podman(&["push", "-q", "--tls-verify=false", "busybox:latest", &name]).ok();
        podman(&["rmi", "-f", &name]).ok();
        assert_eq!(podman(&["pull", "-q", "--tls-verify=false", &name]).ok().len(), 64);
        let copy = place.path(&format!("copy-{redirect}"));
        let (from, to) = (format!("docker://{name}"), format!("dir:{}", copy.display()));
        run(Command::new("skopeo").args(["copy", "-q", "--src-tls-verify=false", &from, &to])).ok();
        // The first layer of what skopeo has: by whom it was sent shows.
        let manifest: serde_json::Value =
            serde_json::from_slice(&fs::read(copy.join("manifest.json")).expect("a manifest")).expect("JSON");
        let layer = manifest["layers"][0]["digest"].as_str().expect("a digest");
        let answer = hub.connect().get(&format!("/v2/team/busybox/blobs/{layer}")).expect("GET");
        if redirect {
            let location = answer.header("location");
            let there = format!("http://{}/{BUCKET}/team/images/blobs/sha256/", place.proxy.address());
            assert!(answer.status == 307 && location.starts_with(&there), "{answer:?}");
            assert!(location.contains("X-Amz-Signature=") && answer.header("cache-control") == "no-store");
        } else {
            assert_eq!(answer.status, 200);
        }
        hub.stop();
    }
}

#[test]
fn many_push_at_once_with_little_memory() {
    let Some(place) = Place::new() else { return };
    let hub = place.registry();
    let same = Arc::new(bytes_of(1, LARGE));
    let pushers: Vec<_> = (0..12)
        .map(|number: u64| {
            let (mut wire, same) = (hub.connect(), same.clone());
            thread::spawn(move || {
                let own = bytes_of(100 + number, 30_000_000);
                assert_eq!(wire.push_blob("same", &same).expect("an answer"), 201);
                assert_eq!(wire.push_blob("own", &own).expect("an answer"), 201);
                assert!(get(&mut wire, "own", &own).body == own);
            })
        })
        .collect();
    pushers.into_iter().for_each(|pusher| pusher.join().expect("a pusher"));
    assert_eq!((place.blobs().len(), place.left_here()), (13, 0));
    let memory = hub.memory_peak_mib();
    assert!(memory < 160, "{memory} MiB");
}

#[test]
fn what_the_store_is_asked_is_counted() {
    let Some(place) = Place::new() else { return };
    let config = place.config("hub.json", serde_json::json!({}));
    let hub = TestRegistry::start(&place.path("hub"), &["--config", &config, "--metrics", "127.0.0.1:0"]);
    let mut wire = hub.connect();
    let bytes = bytes_of(1, 1000);
    assert_eq!(wire.push_blob("a", &bytes).expect("an answer"), 201);
    assert_eq!(get(&mut wire, "a", &bytes).status, 200);
    let mut address = None;
    eventually("metrics listen", || {
        let log = hub.log();
        address = log.split("metrics=").nth(1).and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        address.is_some()
    });
    let told = Wire::connect(address.expect("an address"))
        .expect("a connection")
        .get("/metrics")
        .expect("GET")
        .text();
    let value = |series: &str| -> f64 {
        let line = told
            .lines()
            .find_map(|line| line.strip_prefix(series))
            .unwrap_or_else(|| panic!("{series}\n{told}"));
        line.trim().parse().expect("a number")
    };
    // The mark of whose they are, and the blob.
    assert_eq!(value("corten_registry_s3_requests_total{method=\"PUT\",status=\"200\"}"), 2.0);
    assert_eq!(value("corten_registry_s3_requests_total{method=\"GET\",status=\"206\"}"), 1.0);
    assert!(value("corten_registry_s3_sent_bytes_total") >= 1000.0);
    assert!(value("corten_registry_s3_received_bytes_total") >= 1000.0);
}
