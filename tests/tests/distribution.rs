//! Images through registries: pushed by one engine, pulled by another, with our client and Docker's.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use corten_tests::reference::Reference;
use corten_tests::registry::{TestRegistry, digest};
use corten_tests::{TestEngine, eventually, run, tar_of};
use tempfile::TempDir;

/// A way to a registry that counts the bytes that come back, and can end.
struct Way {
    address: SocketAddr,
    received: Arc<AtomicU64>,
    /// No more bytes than that come back.
    bytes_max: Arc<AtomicU64>,
}

impl Way {
    fn to(registry: SocketAddr) -> Way {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (received, bytes_max) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(u64::MAX)));
        let (counter, limit) = (received.clone(), bytes_max.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(registry) else { continue };
                let (mut up, mut out) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut up, &mut out);
                    let _ = out.shutdown(Shutdown::Write);
                });
                let (counter, limit) = (counter.clone(), limit.clone());
                std::thread::spawn(move || forward(server, client, &counter, &limit));
            }
        });
        Way { address, received, bytes_max }
    }

    fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, counter: &AtomicU64, limit: &AtomicU64) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        while counter.load(Ordering::Relaxed) >= limit.load(Ordering::Relaxed) {
            // Whoever set the limit lifts it.
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        if to.write_all(&buffer[..count]).is_err() {
            return;
        }
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }
    let _ = to.shutdown(Shutdown::Write);
}

fn own(directory: &TempDir) -> TestRegistry {
    TestRegistry::start(&directory.path().join("registry"), &[])
}

type Client<'a> = (&'a str, &'a dyn Fn(&TestEngine, &[&str]) -> String);

const CORTEN: Client<'static> = ("corten", &|engine, args| engine.corten(args).ok());
const DOCKER: Client<'static> = ("docker", &|engine, args| engine.docker(args).ok());

fn there_and_back(registry: &str) {
    let (here, there) = (TestEngine::with_busybox(), TestEngine::start());
    for (name, client) in [CORTEN, DOCKER] {
        let image = format!("{registry}/{name}/busybox:1");
        client(&here, &["tag", "busybox", &image]);
        let pushed = client(&here, &["push", &image]);
        let digest = pushed.split_once("digest: ").unwrap().1.split(' ').next().unwrap().to_owned();
        let again = client(&here, &["push", &image]);
        assert!(again.contains("Layer already exists") && again.contains(&digest), "{again}");
        let pulled = client(&there, &["pull", &image]);
        assert!(pulled.contains(&format!("Digest: {digest}")), "{pulled}");
        assert!(pulled.contains(&format!("Status: Downloaded newer image for {image}")), "{pulled}");
        assert_eq!(pulled.lines().last(), Some(image.as_str()));
        // Either knows it by the name that the registry has for it, and has the same image.
        for engine in [&here, &there] {
            let by_digest = format!("{}@{digest}", image.trim_end_matches(":1"));
            let pulled = client(engine, &["pull", &image]);
            assert!(pulled.contains(&format!("Status: Image is up to date for {image}")), "{pulled}");
            assert_eq!(client(engine, &["run", "--rm", &by_digest, "echo", "well"]), "well");
            let digests = client(engine, &["inspect", "-f", "{{.RepoDigests}}", &image]);
            assert!(digests.contains(&by_digest), "{digests}");
        }
        let id = |engine: &TestEngine| client(engine, &["inspect", "-f", "{{.Id}}", &image]);
        assert_eq!(id(&here), id(&there));
        let events = there.corten(&["events", "--since", "1h", "--until", "0s", "-f", "event=pull"]).ok();
        assert!(events.contains(&format!(" image pull {image}")), "{events}");
        // With the name goes everything.
        client(&there, &["rmi", &image]);
        assert_eq!(client(&there, &["images", "-aq"]), "");
        assert_eq!(std::fs::read_dir(there.data_root().join("image/blobs/sha256")).unwrap().count(), 0);
    }
    assert!(
        here.docker(&["push", &format!("{registry}/nosuch:1")]).fails(1).contains("does not exist locally")
    );
    let unknown = there.docker(&["pull", &format!("{registry}/nosuch:1")]).fails(1);
    assert!(
        unknown.contains(&format!("manifest for {registry}/nosuch:1 not found: manifest unknown")),
        "{unknown}"
    );
}

#[test]
fn images_go_through_our_registry() {
    let directory = TempDir::new().unwrap();
    there_and_back(&own(&directory).address().to_string());
}

#[test]
fn images_go_through_docker_s_registry() {
    let Some(registry) = Reference::start() else { return };
    there_and_back(&registry.address().to_string());
}

#[test]
fn what_is_not_there_is_pulled_to_be_run() {
    let directory = TempDir::new().unwrap();
    let registry = own(&directory);
    let image = format!("{}/busybox", registry.address());
    let (here, there) = (TestEngine::with_busybox(), TestEngine::start());
    here.corten(&["tag", "busybox", &image]).ok();
    here.corten(&["push", "-q", &image]).ok();
    for run in [TestEngine::corten, TestEngine::docker] {
        let refused = run(&there, &["run", "--rm", "--pull", "never", &image, "true"]).fails(125);
        assert!(refused.contains("No such image"), "{refused}");
        let output = run(&there, &["run", "--rm", &image, "echo", "well"]);
        let unable = format!("Unable to find image '{image}:latest' locally");
        assert!(
            output.stderr.contains(&unable) && output.stderr.contains("Pull complete"),
            "{}",
            output.stderr
        );
        assert_eq!(output.ok(), "well");
        let again = run(&there, &["run", "--rm", "--pull", "always", &image, "echo", "again"]);
        assert!(again.stderr.contains("Image is up to date"), "{}", again.stderr);
        assert_eq!(again.ok(), "again");
        run(&there, &["rmi", &image]).ok();
    }
    let id = there.corten(&["create", "-q", "--name", "made", &image]);
    assert_eq!(id.stderr, "");
    // An image that is gone is missed, not looked for in vain.
    let missing = format!("{}/nosuch:2", registry.address());
    let output = there.corten(&["run", "--rm", &missing]).fails(125);
    assert!(output.contains("not found: manifest unknown"), "{output}");
}

#[test]
fn all_tags_go_at_once() {
    let directory = TempDir::new().unwrap();
    let registry = own(&directory);
    let repository = format!("{}/team/busybox", registry.address());
    let (here, there) = (TestEngine::with_busybox(), TestEngine::start());
    for tag in ["1", "2", "3"] {
        here.corten(&["tag", "busybox", &format!("{repository}:{tag}")]).ok();
    }
    for client in [TestEngine::corten, TestEngine::docker] {
        assert_eq!(client(&here, &["push", "-a", &repository]).ok().matches("digest: ").count(), 3);
        assert_eq!(client(&there, &["pull", "-a", &repository]).ok().matches("Status: ").count(), 3);
        let tags = client(&there, &["images", "--format", "{{.Tag}}", &repository]).ok();
        assert_eq!(tags.lines().collect::<std::collections::BTreeSet<_>>(), ["1", "2", "3"].into());
        client(
            &there,
            &["rmi", "-f", client(&there, &["images", "-q", &repository]).ok().lines().next().unwrap()],
        )
        .ok();
    }
    let refused = here.corten(&["push", "-a", &format!("{repository}:1")]).fails(1);
    assert!(refused.contains("tag can't be used with --all-tags"), "{refused}");
}

#[test]
fn layers_are_compressed_as_was_wished() {
    let directory = TempDir::new().unwrap();
    let registry = own(&directory);
    let here = TestEngine::with_busybox();
    for (compression, media_type) in [("gzip", "tar+gzip"), ("zstd", "tar+zstd")] {
        let image = format!("{}/busybox:{compression}", registry.address());
        here.corten(&["tag", "busybox", &image]).ok();
        here.corten(&["push", "-q", "--compression", compression, &image]).ok();
        let url = format!("http://{}/v2/busybox/manifests/{compression}", registry.address());
        let accept = "Accept: application/vnd.oci.image.manifest.v1+json";
        let manifest = run(Command::new("curl").args(["-sf", "-H", accept, &url])).ok();
        assert!(manifest.contains(media_type), "{manifest}");
        let there = TestEngine::start();
        assert_eq!(there.corten(&["run", "-q", "--rm", &image, "echo", "well"]).ok(), "well");
        // It is passed on as it came, whatever is wished.
        let copy = format!("{}/copy:{compression}", registry.address());
        there.corten(&["tag", &image, &copy]).ok();
        let mounted = there.corten(&["push", "--compression", "gzip", &copy]).ok();
        assert!(mounted.contains("Mounted from busybox"), "{mounted}");
        let url = format!("http://{}/v2/copy/manifests/{compression}", registry.address());
        assert_eq!(run(Command::new("curl").args(["-sf", "-H", accept, &url])).ok(), manifest);
    }
}

/// An image with a layer of so many bytes that can't be compressed.
fn large_image(engine: &TestEngine, name: &str, bytes: usize) {
    let root = engine.data_root().join("large-root");
    corten_tests::busybox_rootfs(&root);
    std::fs::write(root.join("large"), corten_tests::registry::bytes_of(1, bytes)).unwrap();
    let archive = engine.data_root().join("large.tar");
    tar_of(&root, &archive);
    engine.corten(&["import", &archive.display().to_string(), name]).ok();
    std::fs::remove_file(archive).unwrap();
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn a_pull_goes_on_where_a_killed_engine_was() {
    const SIZE: u64 = 48 << 20;
    let directory = TempDir::new().unwrap();
    let registry = own(&directory);
    let way = Way::to(registry.address());
    let image = format!("{}/large:1", way.address);
    let (here, mut there) = (TestEngine::start(), TestEngine::start());
    large_image(&here, &image, SIZE as usize);
    here.corten(&["push", "-q", &image]).ok();
    way.received.store(0, Ordering::Relaxed);
    way.bytes_max.store(SIZE / 2, Ordering::Relaxed);
    let mut pull =
        there.command(&["pull", &image]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let partial = there.data_root().join("image/blobs/partial");
    let kept = || -> u64 {
        std::fs::read_dir(&partial).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    };
    eventually("half of it is there", || kept() >= SIZE / 2 - (4 << 20));
    there.kill();
    pull.wait().unwrap();
    way.received.store(0, Ordering::Relaxed);
    way.bytes_max.store(u64::MAX, Ordering::Relaxed);
    there.restart();
    let before = kept();
    assert!(before >= SIZE / 2 - (4 << 20), "{before}");
    there.corten(&["pull", "-q", &image]).ok();
    assert!(way.received() < SIZE - before + (2 << 20), "{} after {before}", way.received());
    assert_eq!(kept(), 0);
    assert_eq!(there.corten(&["run", "--rm", &image, "stat", "-c", "%s", "/large"]).ok(), SIZE.to_string());

    // What a pull that was given up leaves goes with a prune.
    there.corten(&["rmi", &image]).ok();
    way.received.store(0, Ordering::Relaxed);
    way.bytes_max.store(SIZE / 2, Ordering::Relaxed);
    let mut pull =
        there.command(&["pull", &image]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("half of it is there", || kept() >= SIZE / 2 - (4 << 20));
    pull.kill().unwrap();
    pull.wait().unwrap();
    way.bytes_max.store(u64::MAX, Ordering::Relaxed);
    eventually("nobody brings it any more", || {
        there.corten(&["image", "prune", "-f"]).ok();
        kept() == 0
    });
}

#[test]
fn pulls_at_once_fetch_what_they_share_once() {
    const SIZE: u64 = 16 << 20;
    let directory = TempDir::new().unwrap();
    let registry = own(&directory);
    let way = Way::to(registry.address());
    let (here, there) = (TestEngine::start(), TestEngine::start());
    large_image(&here, "base", SIZE as usize);
    let images: Vec<String> = (0..4).map(|number| format!("{}/app{number}:1", way.address)).collect();
    for (number, image) in images.iter().enumerate() {
        let name = format!("c{number}");
        here.corten(&["run", "--name", &name, "--network", "none", "base", "touch", &format!("/{number}")])
            .ok();
        here.corten(&["commit", &name, image]).ok();
        here.corten(&["rm", &name]).ok();
        here.corten(&["push", "-q", image]).ok();
    }
    way.received.store(0, Ordering::Relaxed);
    let pulls: Vec<Child> = images
        .iter()
        .map(|image| there.command(&["pull", "-q", image]).stdout(Stdio::null()).spawn().unwrap())
        .collect();
    for mut pull in pulls {
        assert!(pull.wait().unwrap().success());
    }
    assert!(way.received() < SIZE + (4 << 20), "{}", way.received());
    for (number, image) in images.iter().enumerate() {
        there
            .corten(&["run", "--rm", "--network", "none", image, "ls", &format!("/{number}"), "/large"])
            .ok();
    }
}

/// Signs an image as cosign does with a key: an image under a tag that is made of the digest.
fn sign(registry: &TestRegistry, repository: &str, digest: &str, key: &Path) {
    let payload = format!(
        r#"{{"critical":{{"identity":{{"docker-reference":""}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}},"optional":null}}"#
    );
    let file = key.with_extension("payload");
    std::fs::write(&file, &payload).unwrap();
    let script =
        format!("openssl dgst -sha256 -sign {} {} | openssl base64 -A", key.display(), file.display());
    let signature = run(Command::new("sh").args(["-c", &script])).ok();
    let mut wire = registry.connect();
    for blob in [payload.as_bytes(), b"{}"] {
        assert_eq!(wire.push_blob(repository, blob).unwrap(), 201);
    }
    let describe = |bytes: &[u8]| (corten_tests::registry::digest(bytes), bytes.len());
    let ((config, config_size), (layer, layer_size)) = (describe(b"{}"), describe(payload.as_bytes()));
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":{config_size}}},"layers":[{{"mediaType":"application/vnd.dev.cosign.simplesigning.v1+json","digest":"{layer}","size":{layer_size},"annotations":{{"dev.cosignproject.cosign/signature":"{signature}"}}}}]}}"#
    );
    let path = format!("/v2/{repository}/manifests/{}.sig", digest.replace(':', "-"));
    let kind = "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n";
    let answer = wire.ask("PUT", &path, kind, manifest.as_bytes()).unwrap();
    assert_eq!(answer.status, 201, "{}", answer.text());
}

#[test]
fn what_has_to_be_signed_is_pulled_with_a_signature_only() {
    let directory = TempDir::new().unwrap();
    let registry = own(&directory);
    let (key, public) = (directory.path().join("key"), directory.path().join("key.pub"));
    let make = "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key && openssl pkey -in key -pubout -out key.pub";
    run(Command::new("sh").args(["-c", make]).current_dir(directory.path())).ok();
    let rule = |repository: &str, mode: &str| {
        let (address, key) = (registry.address(), public.display());
        format!(r#"{{"repository":"{address}/{repository}","mode":"{mode}","keys":["{key}"]}}"#)
    };
    let settings = directory.path().join("daemon.json");
    let text = format!(r#"{{"signatures":[{},{}]}}"#, rule("strict/*", "enforce"), rule("lax/*", "warn"));
    std::fs::write(&settings, text).unwrap();
    let here = TestEngine::with_busybox();
    let there = TestEngine::start_with(&["--config-file", &settings.display().to_string()]);
    let push = |repository: &str| {
        let image = format!("{}/{repository}:1", registry.address());
        here.corten(&["tag", "busybox", &image]).ok();
        let pushed = here.corten(&["push", &image]).ok();
        (image, pushed.split_once("digest: ").unwrap().1.split(' ').next().unwrap().to_owned())
    };
    let (strict, digest) = push("strict/app");
    for client in [TestEngine::corten, TestEngine::docker] {
        let refused = client(&there, &["pull", &strict]).fails(1);
        assert!(refused.contains("is not signed") && refused.contains("nobody has signed it"), "{refused}");
    }
    assert_eq!(there.corten(&["images", "-aq"]).ok(), "");
    // By somebody else it is no better.
    let other = directory.path().join("other");
    run(Command::new("openssl")
        .args(["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"])
        .arg(&other))
    .ok();
    sign(&registry, "strict/app", &digest, &other);
    let refused = there.corten(&["run", "--rm", &strict, "true"]).fails(125);
    assert!(refused.contains("none of them by one of the keys"), "{refused}");
    sign(&registry, "strict/app", &digest, &key);
    assert_eq!(there.corten(&["run", "-q", "--rm", &strict, "echo", "signed"]).ok(), "signed");
    let (lax, _) = push("lax/app");
    let warned = there.corten(&["pull", &lax]).ok();
    assert!(warned.contains("WARNING: ") && warned.contains("nobody has signed it"), "{warned}");
    let (free, _) = push("free/app");
    assert!(!there.corten(&["pull", &free]).ok().contains("WARNING"));
}

/// Windows' layers may be had from Microsoft only, or so it was once.
#[test]
fn an_image_of_another_system_is_kept_bit_by_bit() {
    let directory = TempDir::new().unwrap();
    let [hub, elsewhere] =
        ["hub", "elsewhere"].map(|name| TestRegistry::start(&directory.path().join(name), &[]));
    let root = directory.path().join("root");
    std::fs::create_dir_all(root.join("Files/Windows")).unwrap();
    std::fs::write(root.join("Files/Windows/notepad.exe"), "MZ").unwrap();
    let archive = directory.path().join("layer.tar");
    tar_of(&root, &archive);
    run(Command::new("gzip").arg("-k").arg(&archive)).ok();
    let (tar, layer) =
        (std::fs::read(&archive).unwrap(), std::fs::read(directory.path().join("layer.tar.gz")).unwrap());
    assert_eq!(elsewhere.connect().push_blob("layers", &layer).unwrap(), 201);
    let mut wire = hub.connect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "windows", "os.version": "10.0.17763.1", "config": {"Cmd": ["cmd.exe"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&tar)]},
    });
    let config = config.to_string();
    assert_eq!(wire.push_blob("windows", config.as_bytes()).unwrap(), 201);
    let url = format!("http://{}/v2/layers/blobs/{}", elsewhere.address(), digest(&layer));
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": config.len(), "digest": digest(config.as_bytes())},
        "layers": [{"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "size": layer.len(),
            "digest": digest(&layer), "urls": [url]}],
    });
    let manifest = manifest.to_string();
    let platform =
        serde_json::json!({"architecture": "amd64", "os": "windows", "os.version": "10.0.17763.1"});
    let list = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",
        "manifests": [{"mediaType": "application/vnd.docker.distribution.manifest.v2+json", "size": manifest.len(),
            "digest": digest(manifest.as_bytes()), "platform": platform}],
    });
    let list = list.to_string();
    for (name, kind, bytes) in [
        (digest(manifest.as_bytes()), "application/vnd.docker.distribution.manifest.v2+json", &manifest),
        ("1".to_owned(), "application/vnd.docker.distribution.manifest.list.v2+json", &list),
    ] {
        let headers = format!("Content-Type: {kind}\r\n");
        let put =
            wire.ask("PUT", &format!("/v2/windows/manifests/{name}"), &headers, bytes.as_bytes()).unwrap();
        assert_eq!(put.status, 201, "{}", put.text());
    }
    let engine = TestEngine::start();
    let image = format!("{}/windows:1", hub.address());
    assert!(engine.docker(&["pull", &image]).fails(1).contains("linux/amd64"));
    engine.docker(&["pull", "--platform", "windows/amd64", &image]).ok();
    let shown = engine.docker(&["inspect", "-f", "{{.Os}} {{.OsVersion}} {{.Architecture}}", &image]).ok();
    assert_eq!(shown, "windows 10.0.17763.1 amd64");
    let refused = engine.docker(&["run", "--rm", "--platform", "windows/amd64", &image]);
    assert_ne!(refused.code, 0);
    assert!(
        refused.stderr.contains("windows/amd64") && refused.stderr.contains("linux"),
        "{}",
        refused.stderr
    );
    // What is saved, loaded and pushed is what was pulled.
    let saved = directory.path().join("saved.tar");
    engine.docker(&["save", "-o", &saved.display().to_string(), &image]).ok();
    let other = TestEngine::start();
    other.docker(&["load", "-i", &saved.display().to_string()]).ok();
    let copy = format!("{}/copy:1", hub.address());
    other.docker(&["tag", &image, &copy]).ok();
    drop(elsewhere);
    other.docker(&["push", &copy]).ok();
    let kinds = "Accept: application/vnd.docker.distribution.manifest.list.v2+json, \
                 application/vnd.docker.distribution.manifest.v2+json\r\n";
    assert_eq!(wire.ask("GET", "/v2/copy/manifests/1", kinds, b"").unwrap().text(), list);
    let path = format!("/v2/copy/manifests/{}", digest(manifest.as_bytes()));
    assert_eq!(wire.ask("GET", &path, kinds, b"").unwrap().text(), manifest);
    let path = format!("/v2/copy/blobs/{}", digest(&layer));
    assert_eq!(wire.ask("HEAD", &path, "", b"").unwrap().status, 404, "foreign layers are not passed on");
}
