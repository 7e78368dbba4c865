//! `corten registry serve`: real clients, crashes under load, full disks, crowds, hostile requests, collection.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use corten_tests::registry::{MANIFEST, TestRegistry, Wire, bytes_of, digest, image};
use corten_tests::{Output, binary, busybox_archive, eventually, run};
use rustix::mount::{MountFlags, UnmountFlags};

fn place() -> tempfile::TempDir {
    tempfile::tempdir_in("/var/tmp").expect("directory")
}

fn registry(place: &Path, arguments: &[&str]) -> TestRegistry {
    TestRegistry::start(&place.join("hub"), arguments)
}

fn corten(arguments: &[&str]) -> Output {
    run(Command::new(binary("corten")).args(arguments))
}

fn skopeo(arguments: &[&str]) -> Output {
    run(Command::new("skopeo").args(arguments))
}

/// An image of busybox as skopeo's `dir:` has it.
fn image_directory(place: &Path) -> String {
    let layer = std::fs::read(busybox_archive(place)).expect("a layer");
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    });
    let config = config.to_string().into_bytes();
    let descriptor = |kind: &str, bytes: &[u8]| serde_json::json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()});
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    });
    let directory = place.join("image");
    std::fs::create_dir(&directory).expect("directory");
    let write = |name: &str, bytes: &[u8]| std::fs::write(directory.join(name), bytes).expect("file");
    write("version", b"Directory Transport Version: 1.1\n");
    write("manifest.json", manifest.to_string().as_bytes());
    for bytes in [&config, &layer] {
        write(digest(bytes).trim_start_matches("sha256:"), bytes);
    }
    directory.display().to_string()
}

/// The manifest and the blobs that skopeo has put into a directory.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(directory).expect("directory").flatten();
    let named = entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()));
    named.map(|(name, path)| (name, std::fs::read(path).expect("file"))).collect()
}

#[test]
fn skopeo_copies_an_image_bit_by_bit() {
    let place = place();
    let hub = registry(place.path(), &[]);
    let image = image_directory(place.path());
    let plain = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    let copy = |more: &[&str], from: &str, to: &str| {
        skopeo(&[&["copy", "-q"], &plain[..], more, &[from, to]].concat()).ok();
    };
    let at = hub.address();
    for (format, tag) in [("oci", "oci"), ("v2s2", "docker")] {
        let there = format!("docker://{at}/team/busybox:{tag}");
        copy(&["--format", format], &format!("dir:{image}"), &there);
        let [first, second] = ["first", "second"].map(|name| place.path().join(format!("{name}-{tag}")));
        copy(&[], &there, &format!("dir:{}", first.display()));
        // To another repository of the same registry, which mounts the blobs.
        let elsewhere = format!("docker://{at}/other/busybox:{tag}");
        copy(&["--preserve-digests"], &there, &elsewhere);
        copy(&[], &elsewhere, &format!("dir:{}", second.display()));
        assert_eq!(files(&first), files(&second));
        assert!(files(&first).len() >= 4);
    }
    let listed = skopeo(&["list-tags", "--tls-verify=false", &format!("docker://{at}/team/busybox")]).ok();
    assert!(listed.contains("\"docker\"") && listed.contains("\"oci\""), "{listed}");
    let one = format!("docker://{at}/team/busybox:oci");
    skopeo(&["delete", "--tls-verify=false", &one]).ok();
    skopeo(&["inspect", "--tls-verify=false", &one]).fails(1);
}

#[test]
fn podman_pushes_and_pulls() {
    let place = place();
    let hub = registry(place.path(), &[]);
    let archive = busybox_archive(place.path());
    let directory = |name: &str| place.path().join(name).display().to_string();
    let (root, state, archive) = (directory("root"), directory("run"), archive.display().to_string());
    let podman = |arguments: &[&str]| {
        let own = ["--root", &root, "--runroot", &state, "--storage-driver", "vfs"];
        run(Command::new("podman").args(own).args(arguments))
    };
    let name = format!("{}/team/busybox:1", hub.address());
    podman(&["import", "-q", &archive, "busybox:latest"]).ok();
    podman(&["push", "-q", "--tls-verify=false", "busybox:latest", &name]).ok();
    podman(&["rmi", "-a", "-f"]).ok();
    let id = podman(&["pull", "-q", "--tls-verify=false", &name]).ok();
    assert_eq!(id.len(), 64, "{id}");
    podman(&["rmi", "-a", "-f"]).ok();
}

#[test]
fn an_upload_goes_on_after_a_kill() {
    let place = place();
    let mut hub = registry(place.path(), &[]);
    let bytes = bytes_of(1, 3_000_000);
    let mut wire = hub.connect();
    let begun = wire.ask("POST", "/v2/a/blobs/uploads/", "", &[]).expect("POST");
    let location = begun.header("location").to_owned();
    let range = "Content-Range: 0-999999\r\n";
    assert_eq!(wire.ask("PATCH", &location, range, &bytes[..1_000_000]).expect("PATCH").status, 202);
    // A chunk that breaks off in the middle: what has come is kept.
    wire.send(
        format!("PATCH {location} HTTP/1.1\r\nHost: hub\r\nContent-Length: 1500000\r\n\r\n").as_bytes(),
    )
    .expect("head");
    wire.send(&bytes[1_000_000..2_000_000]).expect("part of a body");
    drop(wire);
    let mut wire = hub.connect();
    eventually("what has come is kept", || {
        let status = wire.get(&location).expect("status");
        assert_eq!(status.status, 204);
        status.header("range") == "0-1999999"
    });
    drop(wire);
    hub.kill();
    hub.restart();
    let mut wire = hub.connect();
    let status = wire.get(&location).expect("status");
    assert_eq!((status.status, status.header("range")), (204, "0-1999999"));
    let wrong = wire.ask("PATCH", &location, "Content-Range: 0-9\r\n", &bytes[..10]).expect("PATCH");
    assert_eq!((wrong.status, wrong.header("range")), (416, "0-1999999"));
    let end = format!("{location}?digest={}", digest(&bytes));
    let range = "Content-Range: 2000000-2999999\r\n";
    assert_eq!(wire.ask("PUT", &end, range, &bytes[2_000_000..]).expect("PUT").status, 201);
    let got = wire.get(&format!("/v2/a/blobs/{}", digest(&bytes))).expect("GET");
    assert!(got.status == 200 && got.body == bytes);
    assert_eq!(wire.get(&location).expect("status").status, 404);
}

/// Whether each file below `blobs` is what its name says.
fn assert_whole(data: &Path) {
    for entry in std::fs::read_dir(data.join("blobs/sha256")).expect("blobs").flatten() {
        let name = format!("sha256:{}", entry.file_name().to_string_lossy());
        // What is collected meanwhile is gone.
        if let Ok(bytes) = std::fs::read(entry.path()) {
            assert_eq!(digest(&bytes), name);
        }
    }
}

/// A manifest's bytes, and the blobs that it needs.
type Image = (Vec<u8>, Vec<String>);

/// What a crowd was told.
#[derive(Default)]
struct Told {
    /// Images that were acknowledged and not deleted, by the path of their manifest.
    images: Mutex<BTreeMap<String, Image>>,
    /// What nobody knows the end of: the answer never came.
    unsure: Mutex<Vec<String>>,
}

/// So many that work at the same time, each until the registry ends.
fn workers(
    count: u64,
    address: std::net::SocketAddr,
    numbers: &Arc<AtomicU64>,
    told: &Arc<Told>,
    fleeting: bool,
) -> Vec<thread::JoinHandle<()>> {
    let start = |worker| {
        let (told, numbers) = (told.clone(), numbers.clone());
        thread::spawn(move || {
            let _ = work(address, worker, &numbers, &told, fleeting);
        })
    };
    (0..count).map(start).collect()
}

/// Pushes images and deletes some, until the connection breaks. Where blobs are `fleeting`, one may be collected before the manifest that
/// needs it is there, which is refused then.
fn work(
    address: std::net::SocketAddr,
    worker: u64,
    numbers: &AtomicU64,
    told: &Told,
    fleeting: bool,
) -> std::io::Result<()> {
    let mut wire = Wire::connect(address)?;
    loop {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let repository = format!("team/{worker}");
        // One that all have, one of its own.
        let blobs = [bytes_of(number % 7, 50_000), bytes_of(1_000_000 + number, 200_000)];
        for blob in &blobs {
            assert_eq!(wire.push_blob(&repository, blob)?, 201);
        }
        let digests: Vec<String> = blobs.iter().map(|blob| digest(blob)).collect();
        let names: Vec<&str> = digests.iter().map(String::as_str).collect();
        let tag = format!("t{number}");
        let path = format!("/v2/{repository}/manifests/{tag}");
        let (bytes, status) = wire.push_image(&repository, &tag, &names)?;
        if status == 404 && fleeting {
            continue;
        }
        assert_eq!(status, 201);
        let by_digest = format!("/v2/{repository}/manifests/{}", digest(&bytes));
        told.images.lock().expect("told").insert(path.clone(), (bytes, digests));
        if number.is_multiple_of(3) {
            told.images.lock().expect("told").remove(&path);
            told.unsure.lock().expect("told").push(path.clone());
            assert_eq!(wire.ask("DELETE", &by_digest, "", &[])?.status, 202);
            assert_eq!(wire.get(&path)?.status, 404);
        }
    }
}

#[test]
fn kills_under_load_lose_nothing_that_was_acknowledged() {
    let place = place();
    let mut hub = registry(place.path(), &[]);
    let told = Arc::new(Told::default());
    let numbers = Arc::new(AtomicU64::new(0));
    let pushed = || told.images.lock().expect("told").len();
    for round in 0..6 {
        let (address, before) = (hub.address(), pushed());
        let workers = workers(6, address, &numbers, &told, false);
        let data = hub.data().display().to_string();
        // Each round in the middle of something else.
        eventually("images are pushed", || pushed() >= before + 6 + 3 * round);
        // A collection in the middle of it, which has nothing to find.
        let collected = corten(&["registry", "gc", "--data", &data]).ok();
        assert!(collected.contains("0 blobs removed"), "{collected}");
        hub.kill();
        for worker in workers {
            worker.join().expect("a worker was told something wrong");
        }
        assert_whole(hub.data());
        hub.restart();
        let mut wire = hub.connect();
        for (path, (bytes, blobs)) in told.images.lock().expect("told").iter() {
            let got = wire.get(path).expect("GET");
            assert!(got.status == 200 && got.body == *bytes, "{path}: {}", got.status);
            let repository = path.split("/manifests/").next().expect("a repository");
            for blob in blobs {
                let got = wire.get(&format!("{repository}/blobs/{blob}")).expect("GET");
                assert!(got.status == 200 && digest(&got.body) == *blob, "{path} {blob}: {}", got.status);
            }
        }
    }
    // With no time for second thoughts, what was deleted goes and nothing else.
    let data = hub.data().display().to_string();
    let mut wire = hub.connect();
    let removed = corten(&["registry", "gc", "--data", &data, "--undo", "0"]).ok();
    assert!(!removed.contains("removed manifest"), "{removed}");
    for (path, (_, blobs)) in told.images.lock().expect("told").iter() {
        let repository = path.split("/manifests/").next().expect("a repository");
        for blob in blobs {
            let there = wire.ask("HEAD", &format!("{repository}/blobs/{blob}"), "", &[]).expect("HEAD");
            assert_eq!(there.status, 200, "{path} {blob}");
        }
    }
    hub.kill();
    let ingest = std::fs::read_dir(hub.data().join("ingest")).expect("ingest").count();
    assert!(ingest <= 6 * 6 * 2, "{ingest} uploads are left");
}

#[test]
fn kills_while_a_collection_gives_no_time() {
    let place = place();
    let mut hub = registry(place.path(), &[]);
    let told = Arc::new(Told::default());
    let numbers = Arc::new(AtomicU64::new(0));
    let data = hub.data().display().to_string();
    let removed = Arc::new(AtomicUsize::new(0));
    for round in 0..4 {
        let address = hub.address();
        let workers = workers(4, address, &numbers, &told, true);
        let killed = Arc::new(AtomicBool::new(false));
        let collector = {
            let (data, killed, removed) = (data.clone(), killed.clone(), removed.clone());
            thread::spawn(move || {
                let gc = ["registry", "gc", "--data", &data, "--undo", "0", "--json"];
                // The last one breaks off with the registry, or finds nobody there and works by itself.
                while !killed.load(Ordering::Relaxed) {
                    let told = run(Command::new(binary("corten")).args(gc));
                    let blobs = told.stdout.matches("\"what\":\"blob\"").count();
                    removed.fetch_add(blobs, Ordering::Relaxed);
                }
            })
        };
        // In seconds are times kept, so it takes one until anything is old. Each round in the middle of something else.
        eventually("blobs are collected and images pushed", || {
            let images = told.images.lock().expect("told").len();
            removed.load(Ordering::Relaxed) >= 3 * (round + 1) && images >= 3 * (round + 1)
        });
        hub.kill();
        killed.store(true, Ordering::Relaxed);
        for worker in workers {
            worker.join().expect("a worker was told something wrong");
        }
        collector.join().expect("the collector");
        assert_whole(hub.data());
        hub.restart();
        let mut wire = hub.connect();
        for (path, (bytes, blobs)) in told.images.lock().expect("told").iter() {
            let got = wire.get(path).expect("GET");
            assert!(got.status == 200 && got.body == *bytes, "{path}: {}", got.status);
            let repository = path.split("/manifests/").next().expect("a repository");
            for blob in blobs {
                let got = wire.get(&format!("{repository}/blobs/{blob}")).expect("GET");
                assert!(got.status == 200 && digest(&got.body) == *blob, "{path} {blob}: {}", got.status);
            }
        }
    }
}

/// A small file system of its own.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(parent: &Path, size: &str) -> Self {
        let path = parent.join("small");
        std::fs::create_dir(&path).expect("mount point");
        let options = std::ffi::CString::new(format!("size={size}")).expect("options");
        rustix::mount::mount("tmpfs", &path, "tmpfs", MountFlags::empty(), Some(options.as_c_str()))
            .expect("mount");
        Self(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let place = place();
    let disk = SmallDisk::new(place.path(), "24m");
    let mut hub = registry(&disk.0, &[]);
    let mut wire = hub.connect();
    let mut kept: Vec<(String, String, String)> = Vec::new();
    let mut refused = None;
    for number in 0..100 {
        let bytes = bytes_of(number, 1_000_000);
        let (blob, tag) = (digest(&bytes), format!("t{number}"));
        let status = match wire.push_blob("a", &bytes).expect("an answer") {
            201 => {
                let (manifest, status) = wire.push_image("a", &tag, &[&blob]).expect("an answer");
                kept.push((tag, digest(&manifest), blob));
                status
            }
            status => status,
        };
        if status != 201 {
            refused = Some(status);
            break;
        }
    }
    assert_eq!(refused, Some(507));
    assert!(kept.len() > 10, "{}", kept.len());
    // To the last byte: what is left is too little for anything.
    let filler = disk.0.join("filler");
    let mut file = std::fs::File::create(&filler).expect("filler");
    while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    for attempt in 0..50 {
        let status = wire.push_blob("a", &bytes_of(1000 + attempt, 300_000)).expect("an answer");
        assert_eq!(status, 507);
    }
    assert_whole(hub.data());
    // What was refused doesn't take up the room that others need.
    assert_eq!(std::fs::read_dir(hub.data().join("ingest")).expect("ingest").count(), 0);
    assert!(std::fs::read_dir(hub.data().join("blobs/sha256")).expect("blobs").count() <= kept.len() + 1);
    // Half a blob is nothing that anybody can have, and what was kept is there.
    for (tag, manifest, blob) in &kept {
        let got = wire.get(&format!("/v2/a/blobs/{blob}")).expect("GET");
        assert!(got.status == 200 && digest(&got.body) == *blob);
        let there = wire.ask("HEAD", &format!("/v2/a/manifests/{tag}"), "", &[]).expect("HEAD");
        // The last one may have been refused.
        assert!(there.header("docker-content-digest") == manifest || there.status == 404);
    }
    // Also a start finds its way.
    drop(wire);
    hub.kill();
    hub.restart();
    hub.stop();
    // What a clean end has given back of the catalogue's log goes, too.
    while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    hub.restart();
    let mut wire = hub.connect();
    for (_, manifest, _) in &kept[..6] {
        let gone = wire.ask("DELETE", &format!("/v2/a/manifests/{manifest}"), "", &[]).expect("DELETE");
        assert_eq!(gone.status, 202, "{}", gone.text());
    }
    // Times are kept in seconds, and what was touched in this one stays.
    thread::sleep(Duration::from_millis(1100));
    let data = hub.data().display().to_string();
    let removed = corten(&["registry", "gc", "--data", &data, "--undo", "0"]).ok();
    assert!(removed.contains("6 blobs removed") || removed.contains("7 blobs removed"), "{removed}");
    std::fs::remove_file(&filler).expect("filler");
    assert_eq!(wire.push_blob("a", &bytes_of(2000, 1_000_000)).expect("an answer"), 201);
}

#[test]
fn a_crowd_pushes_one_blob() {
    let place = place();
    let hub = registry(place.path(), &[]);
    let bytes = Arc::new(bytes_of(3, 2_000_000));
    let address = hub.address();
    let crowd: Vec<_> = (0..12)
        .map(|pusher| {
            let bytes = bytes.clone();
            thread::spawn(move || {
                let mut wire = Wire::connect(address).expect("connect");
                for _ in 0..5 {
                    assert_eq!(
                        wire.push_blob(&format!("team/{}", pusher % 3), &bytes).expect("an answer"),
                        201
                    );
                }
            })
        })
        .collect();
    for one in crowd {
        one.join().expect("a push");
    }
    let blobs = std::fs::read_dir(hub.data().join("blobs/sha256")).expect("blobs").count();
    let left = std::fs::read_dir(hub.data().join("ingest")).expect("ingest").count();
    assert_eq!((blobs, left), (1, 0));
    assert_whole(hub.data());
}

#[test]
fn hostile_requests() {
    let place = place();
    let hub = registry(place.path(), &[]);
    let mut wire = hub.connect();
    let bytes = bytes_of(4, 10_000);
    let blob = digest(&bytes);
    assert_eq!(wire.push_blob("a", &bytes).expect("an answer"), 201);
    let other = digest(b"other");
    let uploads = "/v2/a/blobs/uploads/";
    let location = wire.ask("POST", uploads, "", &[]).expect("POST").header("location").to_owned();
    let nested = "[".repeat(50_000);
    let image = image(&[&blob], "");
    let manifest = format!("Content-Type: {MANIFEST}\r\n");
    for (method, path, headers, body, status) in [
        ("GET", "/v2/../../../etc/passwd", "", &b""[..], 404),
        ("GET", "/v2/%2e%2e/%2e%2e/blobs/..", "", b"", 400),
        ("GET", "/v2/a/blobs/sha256:..%2f..%2fregistry.db", "", b"", 400),
        ("GET", "/v2/a/manifests/..%2f..%2fregistry.db", "", b"", 400),
        ("GET", "/v2/a/blobs/md5:d41d8cd98f00b204e9800998ecf8427e", "", b"", 400),
        ("GET", &format!("/v2/b/blobs/{blob}"), "", b"", 404),
        ("GET", &format!("/v2/a/blobs/{blob}"), "Range: bytes=10000-\r\n", b"", 416),
        ("PUT", &format!("/v2/a/blobs/{blob}"), "", b"", 405),
        ("TRACE", "/v2/", "", b"", 405),
        ("POST", &format!("{uploads}?digest={other}"), "", &bytes, 400),
        ("POST", &format!("{uploads}?digest=sha256:zz"), "", &bytes, 400),
        ("POST", &format!("{uploads}?digest-algorithm=md5"), "", b"", 400),
        ("POST", &format!("{uploads}?mount=nonsense&from=a"), "", b"", 400),
        ("POST", &format!("{uploads}?mount={blob}&from=../a"), "", b"", 400),
        ("PATCH", &location, "Content-Range: 5-9\r\n", b"12345", 416),
        ("PATCH", &location, "Content-Range: 0-99\r\n", b"12345", 400),
        ("PATCH", &location, "Content-Range: nonsense\r\n", b"12345", 400),
        ("PATCH", &location.replace("/a/", "/b/"), "", b"12345", 404),
        ("PUT", &location, "", b"", 400),
        ("PATCH", &format!("{uploads}../../x"), "", b"12345", 404),
        ("PUT", "/v2/a/manifests/x", &manifest, b"{", 400),
        ("PUT", "/v2/a/manifests/x", &manifest, nested.as_bytes(), 400),
        ("PUT", "/v2/a/manifests/x", "Content-Type: text/html\r\n", &image, 400),
        ("PUT", &format!("/v2/a/manifests/{other}"), &manifest, &image, 400),
        ("PUT", "/v2/b/manifests/x", &manifest, &image, 404),
        ("PUT", "/v2/a/manifests/x?tag=..%2fy", &manifest, &image, 400),
        ("GET", "/v2/a/tags/list?n=-1", "", b"", 400),
        ("GET", "/v2/nowhere/tags/list", "", b"", 404),
        ("GET", "/v2/a/referrers/nonsense", "", b"", 400),
        ("DELETE", "/v2/a/manifests/missing", "", b"", 404),
    ] {
        let mut wire = hub.connect();
        let reply =
            wire.ask(method, path, headers, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.text());
        assert!(
            status < 400 || method == "TRACE" || reply.text().contains("\"errors\":[{"),
            "{}",
            reply.text()
        );
    }
    // A wrong digest has ended its upload; nothing of it is there.
    let end = format!("{location}?digest={other}");
    assert_eq!(wire.ask("PUT", &end, "", b"12345").expect("PUT").status, 400);
    assert_eq!(wire.get(&location).expect("GET").status, 404);
    let huge = vec![b' '; (4 << 20) + 1];
    assert_eq!(hub.connect().ask("PUT", "/v2/a/manifests/x", &manifest, &huge).expect("PUT").status, 413);
    // Headers without end, and requests that make no sense.
    for (request, status) in [
        (format!("GET /v2/ HTTP/1.1\r\nHost: hub\r\nX: {}\r\n\r\n", "x".repeat(400_000)), "431"),
        (format!("GET /v2/{} HTTP/1.1\r\nHost: hub\r\n\r\n", "a/".repeat(150_000)), "431"),
        ("GET /v2/ HTTP/1.1\r\n".to_owned() + &"X: y\r\n".repeat(5000) + "\r\n", "431"),
        ("\x16\x03\x01 not http\r\n\r\n".to_owned(), "400"),
    ] {
        let mut wire = hub.connect();
        // It may stop listening in the middle.
        let _ = wire.send(request.as_bytes());
        match wire.answer(false) {
            Ok(reply) => assert_eq!(reply.status.to_string(), status, "{:.40}", request),
            Err(error) => assert!(
                matches!(
                    error.kind(),
                    std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::UnexpectedEof
                ),
                "{error}"
            ),
        }
    }
    // Many that begin and send nothing more keep nobody else from anything.
    let idle: Vec<Wire> = (0..300)
        .map(|number| {
            let mut wire = hub.connect();
            let begun = match number % 3 {
                0 => "GET /v2/ HT".to_owned(),
                1 => format!(
                    "PUT /v2/a/manifests/x HTTP/1.1\r\nHost: hub\r\n{manifest}Content-Length: 100\r\n\r\n{{"
                ),
                _ => format!(
                    "POST {uploads}?digest={other} HTTP/1.1\r\nHost: hub\r\nContent-Length: 100\r\n\r\nx"
                ),
            };
            wire.send(begun.as_bytes()).expect("send");
            wire
        })
        .collect();
    assert_eq!(wire.push_blob("a", &bytes_of(5, 100_000)).expect("an answer"), 201);
    assert_eq!(wire.push_image("a", "idle", &[&blob]).expect("an answer").1, 201);
    let got = wire.get(&format!("/v2/a/blobs/{blob}")).expect("GET");
    assert!(got.status == 200 && got.body == bytes);
    drop(idle);
    assert!(hub.memory_peak_mib() < 96, "{} MiB", hub.memory_peak_mib());
    assert!(!hub.log().contains("ERROR"), "{}", hub.log());
}

#[test]
fn large_blobs_pass_through_little_memory() {
    let place = place();
    let hub = registry(place.path(), &[]);
    let bytes = bytes_of(6, 256 << 20);
    let blob = digest(&bytes);
    let mut wire = hub.connect();
    assert_eq!(wire.push_blob("a", &bytes).expect("an answer"), 201);
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..8)
        .map(|reader: usize| {
            let (mut wire, path, stop) = (hub.connect(), format!("/v2/a/blobs/{blob}"), stop.clone());
            let from = reader * 1_000_003;
            let wanted = digest(&bytes[from..from + (16 << 20)]);
            thread::spawn(move || {
                let range = format!("Range: bytes={from}-{}\r\n", from + (16 << 20) - 1);
                while !stop.load(Ordering::Relaxed) {
                    let got = wire.ask("GET", &path, &range, &[]).expect("GET");
                    assert!(got.status == 206 && digest(&got.body) == wanted);
                }
            })
        })
        .collect();
    let got = wire.get(&format!("/v2/a/blobs/{blob}")).expect("GET");
    stop.store(true, Ordering::Relaxed);
    assert!(got.status == 200 && digest(&got.body) == blob);
    for reader in readers {
        reader.join().expect("a part");
    }
    assert!(hub.memory_peak_mib() < 64, "{} MiB", hub.memory_peak_mib());
}

#[test]
fn collection_explains_itself() {
    let place = place();
    let mut hub = registry(place.path(), &[]);
    let mut wire = hub.connect();
    let (used, spare) = (bytes_of(7, 1000), bytes_of(8, 2000));
    for bytes in [&used, &spare] {
        assert_eq!(wire.push_blob("team/app", bytes).expect("an answer"), 201);
    }
    assert_eq!(wire.push_image("team/app", "1", &[&digest(&used)]).expect("an answer").1, 201);
    // Times are kept in seconds, and what was touched in this one stays.
    thread::sleep(Duration::from_millis(1100));
    let data = hub.data().display().to_string();
    let gc = |arguments: &[&str]| corten(&[&["registry", "gc", "--data", &data], arguments].concat()).ok();
    let spare_digest = digest(&spare);
    assert_eq!(gc(&["--dry-run"]), "0 blobs would go, 0B");
    let would = gc(&["--dry-run", "--undo", "0"]);
    assert!(
        would.contains(&format!("would remove blob {spare_digest} (2kB): no repository has the blob")),
        "{would}"
    );
    assert!(
        would.contains(&format!("would remove from its repository: blob team/app@{spare_digest}")),
        "{would}"
    );
    assert!(would.ends_with("1 blobs would go, 2kB"), "{would}");
    // The same when nobody serves.
    hub.kill();
    assert_eq!(gc(&["--dry-run", "--undo", "0"]), would);
    hub.restart();
    let lines = gc(&["--undo", "0", "--json"]);
    assert!(
        lines.lines().all(|line| line.starts_with("{\"what\":\"")) && lines.contains(&spare_digest),
        "{lines}"
    );
    let mut wire = hub.connect();
    let there = |wire: &mut Wire, bytes: &[u8]| {
        wire.ask("HEAD", &format!("/v2/team/app/blobs/{}", digest(bytes)), "", &[]).expect("HEAD").status
    };
    assert_eq!((there(&mut wire, &used), there(&mut wire, &spare)), (200, 404));
    assert_eq!(wire.push_blob("team/app", &spare).expect("an answer"), 201);
    assert_eq!(there(&mut wire, &spare), 200);
}

#[test]
fn it_says_what_it_wants() {
    let place = place();
    let hub = registry(place.path(), &[]);
    let data = hub.data().display().to_string();
    let serve =
        |arguments: &[&str]| corten(&[&["registry", "serve", "--data", &data], arguments].concat()).fails(1);
    let taken = serve(&["--listen", "127.0.0.1:0"]);
    assert!(taken.contains("in use by another registry") && taken.contains("--data"), "{taken}");
    let exposed = serve(&["--listen", "0.0.0.0:0"]);
    assert!(exposed.contains("--insecure-anonymous"), "{exposed}");
    let config = place.path().join("registry.json");
    std::fs::write(&config, r#"{"listne": ["127.0.0.1:0"]}"#).expect("a file");
    let unknown = serve(&["--config", &config.display().to_string()]);
    assert!(unknown.contains("listne") && unknown.contains("docs/registry-server.md"), "{unknown}");
    let time = serve(&["--upload-expiry", "soon"]);
    assert!(time.contains("upload_expiry") && time.contains("soon"), "{time}");
}

#[test]
fn health_and_metrics() {
    let place = place();
    let hub = registry(place.path(), &["--metrics", "127.0.0.1:0"]);
    let mut wire = hub.connect();
    assert_eq!(wire.get("/healthz").expect("GET").text(), "ok\n");
    assert_eq!(wire.push_blob("a", &bytes_of(9, 5000)).expect("an answer"), 201);
    let mut metrics = None;
    eventually("metrics listen", || {
        let log = hub.log();
        let address = log.split("metrics=").nth(1).and_then(|rest| rest.split_whitespace().next());
        metrics = address.and_then(|address| Wire::connect(address.parse().expect("an address")).ok());
        metrics.is_some()
    });
    let mut metrics = metrics.expect("a connection");
    let told = metrics.get("/metrics").expect("GET").text();
    for line in [
        "corten_registry_requests_total{method=\"PUT\",status=\"201\"} 1",
        "corten_registry_received_bytes_total 5000",
        "corten_registry_blobs 1",
        "corten_registry_blob_bytes 5000",
        "corten_registry_uploads 0",
    ] {
        assert!(told.lines().any(|found| found == line), "{line}\n{told}");
    }
    // What is for the operator isn't for everybody.
    assert_eq!(wire.get("/metrics").expect("GET").status, 404);
}
