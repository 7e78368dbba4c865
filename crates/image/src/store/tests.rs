//! The store's life: names, removal, snapshots, crashes.

use std::cell::Cell;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::archive::LoadOptions;
use crate::archive::tests::{
    Sample, Transport, assert_clean_after_removal, assert_nothing_on_disk, docker_old, gzip, load, open,
    save, small_layers, tar, zstd,
};
use crate::error::ErrorKind;
use crate::import::ImportOptions;

fn nobody(_: &ImageId) -> Option<User> {
    None
}

fn remove(store: &Store, text: &str, force: bool) -> Result<Vec<Removed>, Error> {
    store.remove(text, &RemoveOptions { force, noprune: false, in_use: &nobody }).map(|removal| removal.steps)
}

#[test]
fn images_survive_reopening() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let sample = Sample::new(&small_layers());
    load(&store, &gzip(&docker_old(&sample, &["app:1"]))).unwrap();
    let before = store.resolve("app:1").unwrap();
    let locked =
        Store::open(&root.path().join("image"), &root.path().join("snapshots"), StoreOptions::default());
    assert!(matches!(locked, Err(Error::Locked(_))));
    drop(store);
    let store = open(root.path());
    let after = store.resolve("app:1").unwrap();
    assert_eq!((after.id, &after.repo_tags, after.size), (before.id, &before.repo_tags, before.size));
    assert_clean_after_removal(&store, root.path());
    drop(store);
    let wrong = StoreOptions { driver: Some(DriverKind::Directory), ..StoreOptions::default() };
    let error = Store::open(&root.path().join("image"), &root.path().join("snapshots"), wrong).unwrap_err();
    assert!(error.to_string().contains("was made with the layer driver erofs, not dir"), "{error}");
}

#[test]
fn tags_follow_dockers_rules() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let sample = Sample::new(&small_layers());
    load(&store, &docker_old(&sample, &["app:1"])).unwrap();
    store.tag("app:1", "localhost:5000/other").unwrap();
    let image = store.tag(&sample.id().short(), "app:2").unwrap();
    assert_eq!(image.repo_tags, ["app:1", "app:2", "localhost:5000/other:latest"]);
    assert_eq!(store.tag("nope", "x").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(store.tag("app:1", "BAD").unwrap_err().kind(), ErrorKind::InvalidParameter);
    let by_digest = format!("app@{}", image.manifest);
    assert!(matches!(store.tag("app:1", &by_digest), Err(Error::TagByDigest)));
    assert_eq!(store.resolve(&by_digest).unwrap().id, image.id);

    // By name only the name goes, until it was the last.
    assert_eq!(remove(&store, "app:2", false).unwrap(), [Removed::Untagged("app:2".to_owned())]);
    let error = remove(&store, &image.id.hex(), false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(
        error.to_string(),
        format!(
            "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
            image.id.short()
        )
    );
    remove(&store, "localhost:5000/other", false).unwrap();
    let chain = remove::chain_ids(&image.layers);
    assert_eq!(
        remove(&store, "app:1", false).unwrap(),
        [
            Removed::Untagged("app:1".to_owned()),
            Removed::Deleted(image.id),
            Removed::Layer(chain[1]),
            Removed::Layer(chain[0])
        ]
    );
    assert_nothing_on_disk(root.path());
    assert_eq!(remove(&store, "app:1", true).unwrap_err().to_string(), "No such image: app:1");
}

#[test]
fn images_in_use_stay() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let sample = Sample::new(&small_layers());
    load(&store, &docker_old(&sample, &["app:1"])).unwrap();
    let id = sample.id();
    let container = "0123456789abcdef0123".to_owned();
    let running = Cell::new(true);
    let user = |_: &ImageId| Some(User { container: container.clone(), running: running.get() });
    let attempt = |text: &str, force: bool| {
        store
            .remove(text, &RemoveOptions { force, noprune: false, in_use: &user })
            .map(|removal| removal.steps)
            .map_err(|error| error.to_string())
    };
    assert_eq!(
        attempt("app:1", false).unwrap_err(),
        format!(
            "conflict: unable to remove repository reference \"app:1\" (must force) - container 0123456789ab is using its referenced image {}",
            id.short()
        )
    );
    assert_eq!(
        attempt(&id.hex(), true).unwrap_err(),
        format!(
            "conflict: unable to delete {} (cannot be forced) - image is being used by running container 0123456789ab",
            id.short()
        )
    );
    // Forced by name, the name goes and the running container keeps the image.
    assert_eq!(attempt("app:1", true).unwrap(), [Removed::Untagged("app:1".to_owned())]);
    assert!(store.image(&id).unwrap().is_dangling());
    running.set(false);
    let stopped = attempt(&id.hex(), false).unwrap_err();
    assert!(
        stopped.ends_with("(must be forced) - image is being used by stopped container 0123456789ab"),
        "{stopped}"
    );
    attempt(&id.hex(), true).unwrap();
    assert_nothing_on_disk(root.path());
}

#[test]
fn shared_layers_stay_until_their_last_image_goes() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let layers = small_layers();
    load(&store, &docker_old(&Sample::new(&layers[..1]), &["one:1"])).unwrap();
    load(&store, &docker_old(&Sample::new(&layers), &["two:1"])).unwrap();
    let removed = remove(&store, "one:1", false).unwrap();
    assert_eq!(removed.len(), 2, "the layer is not among what was deleted: {removed:?}");
    assert_eq!(store.resolve("two:1").unwrap().layers.len(), 2);
    assert!(!save(&store, &["two:1"]).is_empty());
    assert_clean_after_removal(&store, root.path());
}

#[test]
fn history_in_dockers_shape() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let sample = Sample::new(&small_layers());
    load(&store, &docker_old(&sample, &["app:1"])).unwrap();
    let history = store.history(&store.resolve("app:1").unwrap()).unwrap();
    assert_eq!(history.len(), 2);
    assert_eq!(
        (history[0].id.as_str(), history[0].tags.as_slice()),
        (sample.id().to_string().as_str(), &["app:1".to_owned()][..])
    );
    assert_eq!((history[1].id.as_str(), history[1].size), ("<missing>", 18));
}

#[test]
fn tarballs_become_images() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let plain = tar(&[("etc/", b""), ("etc/motd", b"welcome")]);
    let options = ImportOptions {
        reference: Some("imported".to_owned()),
        message: String::new(),
        changes: vec!["CMD [\"cat\", \"/etc/motd\"]".to_owned(), "ENV A=1".to_owned()],
        platform: Some("linux/arm64".parse().unwrap()),
    };
    let transports: [Transport; 3] = [<[u8]>::to_vec, gzip, zstd];
    for transport in transports {
        let image = store.import(&mut &transport(&plain)[..], &options, &|_| {}).unwrap();
        assert_eq!(image.layers, [Digest::of(&plain)]);
        assert_eq!(image.config.config.cmd.as_deref().unwrap(), ["cat", "/etc/motd"]);
        assert_eq!((image.config.os.as_str(), image.config.architecture.as_str()), ("linux", "arm64"));
        assert_eq!(store.history(&image).unwrap()[0].comment, "Imported from -");
    }
    assert_eq!(store.resolve("imported").unwrap().repo_tags, ["imported:latest"]);
    let bad: [(&[u8], &str); 4] = [
        (b"", "the tarball is empty"),
        (&[0x5a; 2048], "not a tar archive"),
        (b"BZh9", "the tarball is compressed with bzip2"),
        (&gzip(&plain)[..20], "cannot decompress the tarball"),
    ];
    for (bytes, message) in bad {
        let error = store.import(&mut { bytes }, &ImportOptions::default(), &|_| {}).unwrap_err();
        assert!(error.explain().contains(message), "{}", error.explain());
    }
    let options = ImportOptions { changes: vec!["RUN x".to_owned()], ..ImportOptions::default() };
    let error = store.import(&mut &plain[..], &options, &|_| {}).unwrap_err();
    assert_eq!(error.to_string(), "RUN is not a valid change command");
    assert_clean_after_removal(&store, root.path());
}

#[test]
fn snapshots_keep_their_layers_alive() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    load(&store, &docker_old(&Sample::new(&small_layers()), &["app:1"])).unwrap();
    let image = store.resolve("app:1").unwrap();
    store.create_snapshot("c1", &image).unwrap();
    assert!(store.create_snapshot("c1", &image).is_err());
    assert!(matches!(store.create_snapshot("../x", &image), Err(Error::SnapshotName(_))));
    assert_eq!(store.snapshots(), [("c1".to_owned(), image.id)]);
    remove(&store, "app:1", true).unwrap();
    assert!(image.layers.iter().all(|id| store.layers.contains(id)), "the snapshot needs them");
    drop(store);
    let store = open(root.path());
    assert_eq!(store.snapshot_layers("c1").unwrap(), image.layers);
    std::fs::write(root.path().join("snapshots/c1/upper/file"), "x").unwrap();
    store.remove_snapshot("c1").unwrap();
    store.remove_snapshot("c1").unwrap();
    assert!(matches!(store.snapshot_layers("c1"), Err(Error::NoSnapshot(_))));
    assert_nothing_on_disk(root.path());
    assert_eq!(std::fs::read_dir(root.path().join("snapshots")).unwrap().count(), 0);
}

#[test]
fn containers_see_their_image() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: mounting needs root");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    load(&store, &docker_old(&Sample::new(&small_layers()), &["app:1"])).unwrap();
    store.create_snapshot("c1", &store.resolve("app:1").unwrap()).unwrap();
    let mounts = Arc::new(LayerMounts::start(&root.path().join("run")).unwrap());
    store.use_mounts(&mounts);
    let rootfs = store.rootfs("c1", &mounts).unwrap();
    assert_eq!(rootfs.lower.len(), 2);
    let top = rootfs.lower[0].clone();
    let read = mounts.run(move || std::fs::read_to_string(top.join("etc/second"))).unwrap().unwrap();
    assert!(read.starts_with("second layer"));
    store.remove_snapshot("c1").unwrap();
    assert_clean_after_removal(&store, root.path());
}

/// While content comes in nothing is deleted; afterwards what nobody owns is.
#[test]
fn removal_waits_for_loads() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let sample = Sample::new(&small_layers());
    load(&store, &docker_old(&sample, &["app:1"])).unwrap();
    let image = store.resolve("app:1").unwrap();
    let session = store.session();
    remove(&store, "app:1", false).unwrap();
    assert!(image.layers.iter().all(|id| store.layers.contains(id)));
    // The same layers come again, find themselves there, and are owned when the first session ends.
    load(&store, &docker_old(&sample, &["again:1"])).unwrap();
    drop(session);
    assert!(image.layers.iter().all(|id| store.layers.contains(id)));
    remove(&store, "again:1", false).unwrap();
    assert_nothing_on_disk(root.path());
}

#[test]
fn opening_repairs() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let layers = small_layers();
    load(&store, &docker_old(&Sample::new(&layers[..1]), &["one:1"])).unwrap();
    load(&store, &docker_old(&Sample::new(&layers), &["two:1"])).unwrap();
    let second = Digest::of(&layers[1]);
    let alone =
        store.layers.import(&mut &tar(&[("x", b"orphan")])[..], &Default::default(), &|_| {}).unwrap();
    // A blob that may not have reached the disk when the machine went down.
    store.writer().change(|change| change.mark_unsynced(&Digest::of(&layers[0]), &store.boot)).unwrap();
    drop(store);
    std::fs::write(root.path().join("image/blobs/ingest/1-1"), "half").unwrap();
    std::fs::write(root.path().join("image/blobs/sha256").join(second.hex()), "orphan").unwrap();
    std::fs::create_dir_all(root.path().join("snapshots/lost/upper")).unwrap();
    std::fs::create_dir_all(root.path().join("snapshots/begun")).unwrap();
    std::fs::create_dir_all(root.path().join("snapshots/.removed-x/deep/er")).unwrap();
    std::fs::remove_dir_all(root.path().join("image/layers").join(second.hex())).unwrap();
    let store = open(root.path());
    assert!(!store.layers.contains(&alone.id));
    assert!(store.resolve("one:1").is_ok(), "of this boot: believed");
    assert!(matches!(store.resolve("two:1"), Err(Error::NotFound(_))), "its layer is gone");
    assert_eq!(std::fs::read_dir(root.path().join("snapshots")).unwrap().count(), 0);
    store.writer().change(|change| change.mark_unsynced(&Digest::of(&layers[0]), "another boot")).unwrap();
    drop(store);
    let store = open(root.path());
    assert!(matches!(store.resolve("one:1"), Err(Error::NotFound(_))), "of another boot: not believed");
    assert_nothing_on_disk(root.path());
}

#[test]
fn databases_of_the_future_are_left_alone() {
    let root = tempfile::tempdir().unwrap();
    drop(open(root.path()));
    let path = root.path().join("image/images.db");
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error =
        Store::open(&root.path().join("image"), &root.path().join("snapshots"), StoreOptions::default())
            .unwrap_err();
    assert!(error.to_string().contains("has schema version 99; this program knows up to 5"), "{error}");
}

const CHILD_ROOT: &str = "CORTEN_TEST_IMAGE_ROOT";

/// Not a test: the process that [`kill_nine_in_the_middle_leaves_nothing`] kills.
#[test]
#[ignore = "run by another test"]
fn child_loads_from_stdin() {
    let Some(root) = std::env::var_os(CHILD_ROOT) else { return };
    let store = open(Path::new(&root));
    store.load(&mut std::io::stdin(), &LoadOptions::default(), &|_| {}).unwrap();
    println!("loaded");
    // Lives until it is killed or its input ends.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

#[test]
fn kill_nine_in_the_middle_leaves_nothing() {
    let noise: Vec<u8> =
        (0..2_000_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let layers: Vec<Vec<u8>> = (0..3).map(|at| gzip_seed(&noise, at)).collect();
    let sample = Sample::new(&layers);
    let (manifest, blobs) = sample.oci(crate::manifest::media::OCI_LAYER_GZIP, gzip);
    let descriptor = crate::archive::tests::named(
        crate::manifest::Descriptor::of(crate::manifest::media::OCI_MANIFEST, &manifest),
        "killed:1",
    );
    for archive in [docker_old(&sample, &["killed:1"]), crate::archive::tests::layout(&[descriptor], &blobs)]
    {
        for share in [1, 3, 5, 7] {
            let root = tempfile::tempdir().unwrap();
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "store::tests::child_loads_from_stdin", "--ignored", "--nocapture"])
                .env(CHILD_ROOT, root.path())
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            let mut input = child.stdin.take().unwrap();
            input.write_all(&archive[..archive.len() * share / 8]).unwrap();
            let layers = root.path().join("image/layers");
            let deadline = Instant::now() + Duration::from_secs(30);
            while std::fs::read_dir(&layers).map_or(0, Iterator::count) == 0 {
                assert!(Instant::now() < deadline, "the child has begun no layer");
                std::thread::yield_now();
            }
            child.kill().unwrap();
            child.wait().unwrap();
            let store = open(root.path());
            assert!(store.list().unwrap().is_empty());
            assert_nothing_on_disk(root.path());
            load(&store, &archive).unwrap();
            assert_eq!(store.resolve("killed:1").unwrap().id, sample.id());
        }
    }
}

/// A layer of its own content for each number.
fn gzip_seed(noise: &[u8], number: usize) -> Vec<u8> {
    let name = format!("noise-{number}");
    tar(&[(&name, &noise[number..])])
}

#[test]
fn a_layer_with_an_opaque_root_hides_what_is_below() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let layers = vec![
        tar(&[("below", b"1")]),
        tar(&[(".wh..wh..opq", b""), ("middle", b"2")]),
        tar(&[("above", b"3")]),
    ];
    load(&store, &docker_old(&Sample::new(&layers), &["app:1"])).unwrap();
    let image = store.resolve("app:1").unwrap();
    store.create_snapshot("one", &image).unwrap();
    assert_eq!(store.snapshot_layers("one").unwrap(), image.layers[1..]);
    store.remove_snapshot("one").unwrap();
    assert_clean_after_removal(&store, root.path());
}
