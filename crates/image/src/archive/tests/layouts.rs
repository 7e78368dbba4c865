//! What tools write.

use super::*;
use crate::archive::Loaded;

#[test]
fn docker_archives_of_the_old_layout() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let sample = Sample::new(&small_layers());
    let archive = docker_old(&sample, &["app:1"]);
    for compress in [plain, gzip, zstd] {
        let loaded = load(&store, &compress(&archive)).unwrap();
        let expected = Loaded { image: sample.id(), reference: Some("app:1".to_owned()), replaced: None };
        assert_eq!(loaded, [expected]);
    }
    let image = store.resolve("app:1").unwrap();
    assert_eq!(&image.config_bytes[..], &sample.config[..]);
    assert_eq!(image.layers.len(), 2);
    assert_eq!(image.size, 7 + 11 + 13 * 1000);
    assert_clean_after_removal(&store, root.path());
}

#[test]
fn layers_by_symbolic_and_hard_links() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let layer = small_layers().remove(0);
    let sample = Sample::new(&[layer.clone(), layer.clone(), layer.clone()]);
    let manifest = serde_json::to_vec(&serde_json::json!([{
        "Config": "c.json", "RepoTags": ["links:1"], "Layers": ["a/layer.tar", "b/layer.tar", "./c/layer.tar"]}]))
    .unwrap();
    let mut archive = Writer::new(Vec::new());
    let mut put = |path: &str, bytes: &[u8]| {
        let mut entry = Entry::new(Kind::File, path, 0o644);
        entry.size = bytes.len() as u64;
        archive.append(&entry, &mut { bytes }).unwrap();
    };
    put("manifest.json", &manifest);
    put("c.json", &sample.config);
    put("a/layer.tar", &layer);
    let mut symbolic = Entry::new(Kind::Symlink, "b/layer.tar", 0o777);
    symbolic.link = b"../a/layer.tar".to_vec();
    archive.append(&symbolic, &mut std::io::empty()).unwrap();
    let mut hard = Entry::new(Kind::HardLink, "c/layer.tar", 0o644);
    hard.link = b"b/layer.tar".to_vec();
    archive.append(&hard, &mut std::io::empty()).unwrap();
    load(&store, &archive.finish().unwrap()).unwrap();
    assert_eq!(store.resolve("links:1").unwrap().layers.len(), 3);
    assert_clean_after_removal(&store, root.path());
}

#[test]
fn oci_layouts_keep_compressed_blobs() {
    let sample = Sample::new(&small_layers());
    let table: [(&str, Transport); 3] =
        [(media::OCI_LAYER, plain), (media::OCI_LAYER_GZIP, gzip), (media::OCI_LAYER_ZSTD, zstd)];
    for (media_type, transport) in table {
        let root = tempfile::tempdir().unwrap();
        let store = open(root.path());
        let (manifest, blobs) = sample.oci(media_type, transport);
        let descriptor = named(Descriptor::of(media::OCI_MANIFEST, &manifest), "registry.example/app:2");
        let archive = layout(&[descriptor], &blobs);
        let loaded = load(&store, &archive).unwrap();
        assert_eq!(loaded[0].reference.as_deref(), Some("registry.example/app:2"));
        let image = store.resolve("registry.example/app:2").unwrap();
        assert_eq!((image.id, image.manifest), (sample.id(), Digest::of(&manifest)));
        let kept = std::fs::read_dir(root.path().join("image/blobs/sha256")).unwrap().count();
        assert_eq!(kept, if media_type == media::OCI_LAYER { 0 } else { 2 });

        // Saved, every blob comes back bit by bit; loaded elsewhere, it is the same image.
        let saved = save(&store, &["registry.example/app:2"]);
        let elsewhere = tempfile::tempdir().unwrap();
        let other = open(elsewhere.path());
        load(&other, &saved).unwrap();
        let copy = other.resolve("registry.example/app:2").unwrap();
        assert_eq!((copy.id, copy.manifest, &copy.blobs), (image.id, image.manifest, &image.blobs));
        assert_eq!(save(&other, &["registry.example/app:2"]), saved);
        // Loading again what is there changes nothing.
        load(&store, &saved).unwrap();
        store.sync();
        assert_clean_after_removal(&store, root.path());
        assert_clean_after_removal(&other, elsewhere.path());
    }
}

#[test]
fn directories_in_the_oci_layout() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let sample = Sample::new(&small_layers());
    let (manifest, blobs) = sample.oci(media::OCI_LAYER_GZIP, gzip);
    let directory = root.path().join("layout");
    std::fs::create_dir_all(directory.join("blobs/sha256")).unwrap();
    for (digest, bytes) in &blobs {
        std::fs::write(directory.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
    }
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [Descriptor::of(media::OCI_MANIFEST, &manifest)]});
    std::fs::write(directory.join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
    let loaded = store.load_layout(&directory, &LoadOptions::default(), &|_| {}).unwrap();
    assert_eq!(loaded, [Loaded { image: sample.id(), reference: None, replaced: None }]);
    assert!(store.resolve(&sample.id().hex()).unwrap().is_dangling());
    assert_clean_after_removal(&store, root.path());
}

/// Two platforms and an attestation, as BuildKit exports.
fn multi_platform() -> (Sample, Sample, Vec<u8>, Digest) {
    let foreign = Platform::new("linux", "s390x", None);
    let ours = Sample::new(&small_layers());
    let theirs = Sample::for_platform(&[tar(&[("lib/", b""), ("lib/s390", b"other machine")])], &foreign);
    let (our_manifest, mut blobs) = ours.oci(media::OCI_LAYER_GZIP, gzip);
    let (their_manifest, their_blobs) = theirs.oci(media::OCI_LAYER_GZIP, gzip);
    blobs.extend(their_blobs);
    let statement = br#"{"_type":"https://in-toto.io/Statement/v0.1"}"#.to_vec();
    let attestation = crate::manifest::compose(
        Descriptor::of(media::OCI_CONFIG, b"{}"),
        vec![Descriptor::of("application/vnd.in-toto+json", &statement)],
    );
    let describe = |bytes: &[u8], platform: Platform| Descriptor {
        platform: Some(platform),
        ..Descriptor::of(media::OCI_MANIFEST, bytes)
    };
    let unknown = Platform { os: "unknown".into(), architecture: "unknown".into(), ..Platform::default() };
    let mut attached = describe(&attestation, unknown);
    attached.annotations = Some(BTreeMap::from([
        ("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned()),
        ("vnd.docker.reference.digest".to_owned(), Digest::of(&our_manifest).to_string()),
    ]));
    let index = serde_json::to_vec(
        &serde_json::json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [
        describe(&their_manifest, foreign), describe(&our_manifest, Platform::host()), attached]}),
    )
    .unwrap();
    for bytes in [&index, &attestation, &statement, &b"{}".to_vec()] {
        blobs.insert(Digest::of(bytes), bytes.clone());
    }
    let target = Digest::of(&index);
    let archive = layout(&[named(Descriptor::of(media::OCI_INDEX, &index), "multi:1")], &blobs);
    (ours, theirs, archive, target)
}

#[test]
fn indexes_are_kept_whole() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let (ours, theirs, archive, target) = multi_platform();
    load(&store, &archive).unwrap();
    let image = store.resolve("multi:1").unwrap();
    assert_eq!((image.id, image.descriptor.digest), (ours.id(), target));
    assert_eq!(image.repo_digests, [format!("multi@{target}")]);
    // The other platform's bytes came along, without being unpacked.
    assert!(store.document(&theirs.id()).is_ok());
    assert_eq!(store.usage().unwrap().layers.len(), 2);
    let elsewhere = tempfile::tempdir().unwrap();
    let other = open(elsewhere.path());
    load(&other, &save(&store, &["multi:1"])).unwrap();
    assert_eq!(other.resolve("multi:1").unwrap().descriptor.digest, target);
    let wanted = LoadOptions { platforms: vec!["linux/s390x".parse().unwrap()] };
    let third = tempfile::tempdir().unwrap();
    let third_store = open(third.path());
    third_store.load(&mut &save(&other, &["multi:1"])[..], &wanted, &|_| {}).unwrap();
    assert_eq!(third_store.resolve("multi:1").unwrap().id, theirs.id());
    for (store, root) in [(&store, &root), (&other, &elsewhere), (&third_store, &third)] {
        assert_clean_after_removal(store, root.path());
    }
}

#[test]
fn an_absent_platform_is_an_error_that_says_so() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let (.., archive, _) = multi_platform();
    let wanted = LoadOptions { platforms: vec!["linux/arm64".parse().unwrap()] };
    let error = store.load(&mut &archive[..], &wanted, &|_| {}).unwrap_err();
    assert_eq!(
        error.to_string(),
        "image with reference multi:1 was found but does not provide the specified platform (linux/arm64)"
    );
    assert_nothing_on_disk(root.path());
    let sample = Sample::new(&small_layers());
    let error = store.load(&mut &docker_old(&sample, &["one:1"])[..], &wanted, &|_| {}).unwrap_err();
    assert!(error.to_string().contains("one:1 was found but does not provide"), "{error}");
    assert_nothing_on_disk(root.path());
}

#[test]
fn a_name_moves_and_leaves_its_image_dangling() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let layers = small_layers();
    let (first, second) = (Sample::new(&layers[..1]), Sample::new(&layers));
    load(&store, &docker_old(&first, &["app:1"])).unwrap();
    let loaded = load(&store, &docker_old(&second, &["app:1"])).unwrap();
    assert_eq!(loaded[0].replaced, Some(first.id()));
    assert!(store.image(&first.id()).unwrap().is_dangling());
    assert_eq!(store.resolve("app:1").unwrap().id, second.id());
    let usage = store.usage().unwrap();
    assert_eq!((usage.images.len(), usage.layers.len()), (2, 2));
    assert!(usage.images.iter().all(|image| image.shared_size > 0));
    assert_clean_after_removal(&store, root.path());
}

#[test]
fn several_images_in_one_archive_share_their_layers() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let layers = small_layers();
    let (first, second) = (Sample::new(&layers[..1]), Sample::new(&layers));
    load(&store, &docker_old(&first, &["one:1", "one:2"])).unwrap();
    load(&store, &docker_old(&second, &["two:1"])).unwrap();
    let saved = save(&store, &["one", "two:1"]);
    let mut blobs = 0;
    let mut reader = crate::tar::Reader::new(&saved[..]);
    while let Some(entry) = reader.next_entry().unwrap() {
        blobs += usize::from(entry.kind == Kind::File && entry.path.starts_with(b"blobs/"));
    }
    assert_eq!(blobs, 2 + 2 + 2, "two layers, two configurations, two manifests");
    let elsewhere = tempfile::tempdir().unwrap();
    let other = open(elsewhere.path());
    let names: Vec<_> =
        load(&other, &saved).unwrap().into_iter().filter_map(|loaded| loaded.reference).collect();
    assert_eq!(names, ["one:1", "one:2", "two:1"]);
    assert_eq!(other.list().unwrap().len(), 2);
}

#[test]
fn layers_that_are_there_may_be_left_out() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let sample = Sample::new(&small_layers());
    load(&store, &docker_old(&sample, &["full:1"])).unwrap();
    let (manifest, mut blobs) = sample.oci(media::OCI_LAYER, plain);
    for layer in &sample.layers {
        blobs.remove(&Digest::of(layer));
    }
    let descriptor = named(Descriptor::of(media::OCI_MANIFEST, &manifest), "thin:1");
    load(&store, &layout(&[descriptor], &blobs)).unwrap();
    assert_eq!(store.resolve("thin:1").unwrap().id, sample.id());
}

fn wanted(text: &str) -> Platform {
    text.parse().unwrap()
}

fn nobody(_: &ImageId) -> Option<crate::store::User> {
    None
}

#[test]
fn every_platform_of_an_index_is_told_of_and_can_be_unpacked() {
    let root = tempfile::tempdir().unwrap();
    let mut store = open(root.path());
    let (ours, theirs, archive, target) = multi_platform();
    load(&store, &archive).unwrap();
    let image = store.resolve("multi:1").unwrap();
    let manifests = store.manifests(&image).unwrap();
    assert!(manifests.iter().all(|manifest| manifest.available));
    assert_eq!(
        manifests.iter().map(|manifest| manifest.image).collect::<Vec<_>>()[..2],
        [Some(theirs.id()), Some(ours.id())]
    );
    assert_eq!(manifests[1].unpacked_bytes, image.size);
    assert_eq!(manifests[0].unpacked_bytes, 0);
    assert_eq!(
        manifests[2].kind,
        crate::store::ManifestKind::Attestation { subject: Some(manifests[1].descriptor.digest) }
    );
    assert_eq!(store.attestations("multi:1", &Platform::host()).unwrap().len(), 1);
    assert_eq!(store.attestations("multi:1", &wanted("linux/s390x")).unwrap(), []);
    // Looked at, nothing is unpacked.
    let view = store.on_platform("multi:1", &wanted("linux/s390x")).unwrap();
    assert_eq!(
        (view.id, view.config.architecture.as_str(), &view.repo_tags),
        (theirs.id(), "s390x", &image.repo_tags)
    );
    assert_eq!(store.usage().unwrap().layers.len(), 2);
    for _ in 0..2 {
        let member = store.resolve_platform("multi:1", &wanted("linux/s390x")).unwrap();
        assert_eq!((member.id, member.owner), (theirs.id(), Some(ours.id())));
        assert_eq!(store.list().unwrap().len(), 1, "it is not an image of its own");
        assert_eq!(store.usage().unwrap().layers.len(), 3);
        assert_eq!(store.resolve("multi:1").unwrap().id, ours.id());
        drop(store);
        store = open(root.path());
    }
    assert_eq!(store.manifests(&image).unwrap()[0].unpacked_bytes, 13);
    let error = store.resolve_platform("multi:1", &wanted("linux/arm64")).unwrap_err();
    assert!(error.to_string().contains("does not provide the specified platform (linux/arm64)"), "{error}");
    assert_eq!(store.resolve(&target.hex()).unwrap().id, ours.id());
    assert_clean_after_removal(&store, root.path());
}

#[test]
fn platforms_are_saved_loaded_and_removed_one_by_one() {
    let (ours, theirs, archive, target) = multi_platform();
    let places: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let [store, other] = [0, 1].map(|number: usize| open(places[number].path()));
    load(&store, &archive).unwrap();
    let save = |platforms: &[&str]| {
        let platforms: Vec<Platform> = platforms.iter().map(|text| wanted(text)).collect();
        let mut bytes = Vec::new();
        store.save(&["multi:1".to_owned()], &mut bytes, &platforms).map(|()| bytes)
    };
    let host = Platform::host().to_string();
    assert!(save(&["linux/arm64"]).is_err());
    // One alone is an image without an index.
    load(&other, &save(&["linux/s390x"]).unwrap()).unwrap();
    let alone = other.resolve("multi:1").unwrap();
    assert_eq!((alone.id, other.manifests(&alone).unwrap().len()), (theirs.id(), 1));
    assert_clean_after_removal(&other, places[1].path());
    // Several come below their index; what is loaded later of the same index is added.
    let both = save(&["linux/s390x", &host]).unwrap();
    let options = LoadOptions { platforms: vec![wanted("linux/s390x")] };
    other.load(&mut &both[..], &options, &|_| {}).unwrap();
    let partial = other.resolve("multi:1").unwrap();
    assert_eq!((partial.id, partial.descriptor.digest), (theirs.id(), target));
    let available = |store: &Store| {
        let image = store.resolve("multi:1").unwrap();
        store.manifests(&image).unwrap().iter().map(|manifest| manifest.available).collect::<Vec<_>>()
    };
    assert_eq!(available(&other), [true, false, false]);
    load(&other, &both).unwrap();
    assert_eq!(available(&other), [true, true, true]);
    assert_eq!(other.list().unwrap().len(), 1);
    // The one that the name runs goes: another one takes its place.
    let options = RemoveOptions { force: false, noprune: false, in_use: &nobody };
    let removal = other.remove_platforms("multi:1", &[wanted("linux/s390x")], &options).unwrap();
    assert!(removal.freed_bytes > 0);
    let left = other.resolve("multi:1").unwrap();
    assert_eq!((left.id, left.owner, left.descriptor.digest), (ours.id(), None, target));
    assert_eq!(available(&other), [false, true, true]);
    assert!(other.image(&theirs.id()).is_none());
    let last = other.remove_platforms("multi:1", &[Platform::host()], &options).unwrap_err();
    assert!(last.to_string().contains("no other platform of the image is here"), "{last}");
    // And one that is not run, with what is said of it.
    let removal = store.remove_platforms("multi:1", &[wanted("linux/s390x")], &options).unwrap();
    assert_eq!(removal.steps.len(), 1);
    assert_eq!(available(&store), [false, true, true]);
    for (store, place) in [&store, &other].into_iter().zip(&places) {
        assert_clean_after_removal(store, place.path());
    }
}
