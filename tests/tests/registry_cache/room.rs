//! Room: a budget, and a disk that is full.

use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::{fs, thread};

use corten_tests::registry::bytes_of;
use corten_tests::{binary, eventually, run};
use serde_json::json;

use super::fake::Fake;
use super::{bytes_in, get, hub, place, upstream};

/// What there is, in bytes.
fn bytes_kept(data: &Path) -> u64 {
    let files = fs::read_dir(data.join("blobs/sha256")).expect("blobs").flatten();
    files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}

#[test]
fn least_recently_used_blobs_go_when_there_are_too_many() {
    let place = place();
    let fake = Fake::start();
    let blobs: Vec<Vec<u8>> = (0..5).map(|number| bytes_of(10 + number, 1_000_000)).collect();
    let layers: Vec<String> =
        blobs.iter().enumerate().map(|(tag, blob)| fake.put("team/app", &tag.to_string(), blob).0).collect();
    let (huge, _) = fake.put("team/app", "huge", &bytes_of(20, 4_000_000));
    let config = json!({"cache": {"upstreams": {"up": upstream(fake.address)}, "size": "3.1MB"}});
    let hub = hub(place.path(), &config);
    let path = |layer: &str| format!("/v2/up/team/app/blobs/{layer}");
    let fetched = |layer: &str| fake.asked(&format!("GET /v2/team/app/blobs/{layer}"));
    // One that is one's own, too, takes no room of the cache's.
    let mut wire = hub.connect();
    assert_eq!(wire.push_blob("own/app", &blobs[4]).expect("push"), 201);
    assert_eq!(wire.push_image("own/app", "1", &[&layers[4]]).expect("push").1, 201);
    let there =
        |layer: &str| hub.data().join("blobs/sha256").join(layer.trim_start_matches("sha256:")).exists();
    // What is used is noted by the second.
    let next_second = || thread::sleep(Duration::from_millis(1100));
    for (count, layer) in (1..).zip([&layers[4], &layers[0], &layers[1]]) {
        assert_eq!(wire.get(&path(layer)).expect("GET").status, 200);
        // Its client has it before it is noted.
        eventually("it is kept", || hub.log().matches("blob fetched").count() == count);
        next_second();
    }
    // Used again, so the second one is older now.
    assert_eq!(wire.get(&path(&layers[0])).expect("GET").status, 200);
    next_second();
    for layer in [&layers[2], &layers[3]] {
        assert_eq!(wire.get(&path(layer)).expect("GET").status, 200);
    }
    eventually("the least recently used one goes", || there(&layers[3]) && !there(&layers[1]));
    for layer in [0, 2, 3, 4] {
        assert!(there(&layers[layer]), "{layer}: {}", hub.log());
    }
    assert!(bytes_kept(hub.data()) <= 4_100_000);
    // It can be had again.
    assert!(wire.get(&path(&layers[1])).expect("GET").body == blobs[1]);
    assert_eq!((fetched(&layers[0]), fetched(&layers[1])), (1, 2));
    // One that is more than the cache may have is passed on.
    assert_eq!(wire.get(&path(&huge)).expect("GET").body.len(), 4_000_000);
    eventually("it isn't kept", || bytes_in(&hub.data().join("ingest")) == 0 && !there(&huge));
    // With less room: what would go, and why.
    drop(wire);
    let small = json!({"cache": {"upstreams": {"up": upstream(fake.address)}, "size": "500kB"}});
    let file = place.path().join("small.json");
    fs::write(&file, small.to_string()).expect("configuration");
    let data = hub.data().display().to_string();
    drop(hub);
    let gc = |more: &[&str]| {
        let file = file.display().to_string();
        run(Command::new(binary("corten"))
            .args(["registry", "gc", "--data", &data, "--config", &file])
            .args(more))
        .ok()
    };
    let told = gc(&["--dry-run"]);
    assert!(
        told.contains("would remove cached blob") && told.contains("more than 500000 bytes of upstreams"),
        "{told}"
    );
    gc(&[]);
    assert!(bytes_kept(Path::new(&data)) <= 1_500_000);
    assert!(!gc(&["--dry-run"]).contains("cached"));
}

/// A small file system of its own, until it is dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Self {
        let directory = place();
        let options = format!("size={size}");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(directory.path())).ok();
        Self(directory)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = run(Command::new("umount").arg(self.0.path()));
        assert!(unmounted.code == 0 || thread::panicking(), "{}", unmounted.stderr);
    }
}

#[test]
fn on_a_full_disk_clients_get_what_they_want_all_the_same() {
    let disk = SmallDisk::mount("24m");
    let fake = Fake::start();
    let blob = bytes_of(36, 12_000_000);
    let (layer, _) = fake.put("team/app", "1", &blob);
    let hub = hub(disk.0.path(), &json!({"cache": {"upstreams": {"up": upstream(fake.address)}}}));
    let path = format!("/v2/up/team/app/blobs/{layer}");
    assert!(get(&hub, &path).body == blob);
    let part = hub.connect().ask("GET", &path, "Range: bytes=11000000-\r\n", &[]).expect("GET");
    assert_eq!(part.status, 206);
    assert!(part.body == blob[11_000_000..]);
    // Wrong bytes are no more welcome here.
    let mut wrong = blob.clone();
    wrong[0] ^= 1;
    fake.content
        .lock()
        .expect("lock")
        .insert(format!("/v2/team/app/blobs/{layer}"), (wrong, "application/octet-stream"));
    hub.connect().get(&path).expect_err("a body that breaks off");
    assert_eq!((bytes_in(&hub.data().join("ingest")), bytes_in(&hub.data().join("blobs/sha256"))), (0, 0));
    // Not even a manifest fits.
    fs::write(disk.0.path().join("filler"), vec![0; 22_000_000]).unwrap_or_default();
    let manifest = get(&hub, "/v2/up/team/app/manifests/1");
    assert_eq!(manifest.status, 200, "{}", hub.log());
    drop(hub);
}
