//! Broken and malicious archives: each is refused with an error that names the object, and leaves nothing.

use super::*;

/// Loads into a fresh store and gives the error with its causes; checks that the disk is as before.
fn refused(archive: &[u8], limits: LoadLimits) -> String {
    let root = tempfile::tempdir().unwrap();
    let store = open_with(root.path(), limits);
    let error = load(&store, archive).expect_err("must be refused");
    assert!(store.list().unwrap().is_empty());
    assert_nothing_on_disk(root.path());
    error.explain()
}

fn image(media_type: &str, transport: fn(&[u8]) -> Vec<u8>) -> (Sample, Vec<u8>, Blobs) {
    let sample = Sample::new(&small_layers());
    let (manifest, blobs) = sample.oci(media_type, transport);
    (sample, manifest, blobs)
}

fn descriptor(manifest: &[u8]) -> Descriptor {
    named(Descriptor::of(media::OCI_MANIFEST, manifest), "bad:1")
}

#[test]
fn whole_archives_that_are_none() {
    let sample = Sample::new(&small_layers());
    let good = docker_old(&sample, &["a:1"]);
    let table: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", Vec::new(), "this is not an image archive: it has neither manifest.json nor index.json"),
        ("text", b"hello, this is no archive".to_vec(), "truncated"),
        ("noise", vec![0xa5; 4096], "not a tar archive"),
        (
            "bzip2",
            b"BZh91AY&SY".to_vec(),
            "the image archive is compressed with bzip2, which is not supported",
        ),
        ("xz", b"\xfd7zXZ\0\0\0".to_vec(), "compressed with xz"),
        ("a plain tarball", small_layers().remove(0), "neither manifest.json nor index.json"),
        ("cut in a header", good[..700].to_vec(), "truncated"),
        ("cut in a layer", good[..2000].to_vec(), "truncated"),
        ("cut gzip", gzip(&good)[..400].to_vec(), "truncated"),
        ("no list", tar(&[("repositories", b"{}")]), "layout of Docker before 1.10"),
        ("empty list", tar(&[("manifest.json", b"[]")]), "list of images is empty"),
        ("no JSON", tar(&[("manifest.json", b"{]")]), "manifest.json is not valid JSON"),
        ("wrong JSON", tar(&[("manifest.json", b"{\"a\":1}")]), "manifest.json is not valid JSON"),
    ];
    for (what, archive, message) in table {
        let error = refused(&archive, LoadLimits::default());
        assert!(error.contains(message), "{what}: {error}");
    }
    // Up to the last two kilobytes: an empty list of repositories and the end mark, which nobody needs.
    for cut in (0..good.len() - 2048).step_by(512) {
        refused(&good[..cut], LoadLimits::default());
    }
}

#[test]
fn contents_that_are_not_what_they_should_be() {
    let (sample, manifest, blobs) = image(media::OCI_LAYER_GZIP, gzip);
    let layer = Digest::of(&gzip(&sample.layers[0]));
    let with = |change: &dyn Fn(&mut Blobs)| {
        let mut blobs = blobs.clone();
        change(&mut blobs);
        layout(&[descriptor(&manifest)], &blobs)
    };
    let other = gzip(&tar(&[("x", b"other")]));
    let table: Vec<(&str, Vec<u8>, String)> = vec![
        (
            "another layer under the name",
            with(&|blobs| drop(blobs.insert(layer, other.clone()))),
            format!("blobs/sha256/{} does not have the content it is named after", layer.hex()),
        ),
        (
            "another config under the name",
            with(&|blobs| drop(blobs.insert(sample.id(), b"{}".to_vec()))),
            format!("blobs/sha256/{} does not have the content", sample.id().hex()),
        ),
        (
            "no layer",
            with(&|blobs| drop(blobs.remove(&layer))),
            format!("{layer} is missing in the image archive"),
        ),
        ("no config", with(&|blobs| drop(blobs.remove(&sample.id()))), format!("{} is missing", sample.id())),
        (
            "no manifest",
            with(&|blobs| drop(blobs.remove(&Digest::of(&manifest)))),
            format!("{} is missing", Digest::of(&manifest)),
        ),
    ];
    for (what, archive, message) in table {
        let error = refused(&archive, LoadLimits::default());
        assert!(error.contains(&message), "{what}: {error}");
    }
}

/// Archives whose manifest lies about what is there.
#[test]
fn manifests_that_lie() {
    let (sample, manifest, blobs) = image(media::OCI_LAYER, plain);
    let edit = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut value: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        change(&mut value);
        let bytes = serde_json::to_vec(&value).unwrap();
        let mut blobs = blobs.clone();
        blobs.insert(Digest::of(&bytes), bytes.clone());
        layout(&[descriptor(&bytes)], &blobs)
    };
    let wrong_size = Descriptor { size: 3, ..descriptor(&manifest) };
    let as_index = Descriptor { media_type: media::OCI_INDEX.to_owned(), ..descriptor(&manifest) };
    let swapped =
        sample.layers.iter().rev().map(|layer| Descriptor::of(media::OCI_LAYER, layer)).collect::<Vec<_>>();
    let layer = Digest::of(&sample.layers[0]);
    let table: Vec<(&str, Vec<u8>, String)> = vec![
        (
            "layer size",
            edit(&|v| v["layers"][0]["size"] = 1.into()),
            format!("{layer} is {} bytes long, but 1 are promised", sample.layers[0].len()),
        ),
        (
            "layer type",
            edit(&|v| v["layers"][0]["mediaType"] = "text/html".into()),
            format!("{layer} has the unknown media type \"text/html\""),
        ),
        (
            "config type",
            edit(&|v| v["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json".into()),
            "unknown media type \"application/vnd.cncf".to_owned(),
        ),
        (
            "layer count",
            edit(&|v| drop(v["layers"].as_array_mut().unwrap().pop())),
            "has 2 layers in its configuration and 1 in its manifest".to_owned(),
        ),
        (
            "layer order",
            edit(&|v| v["layers"] = serde_json::to_value(&swapped).unwrap()),
            "but the image wants".to_owned(),
        ),
        (
            "config as layer",
            edit(&|v| v["layers"][0]["digest"] = sample.id().to_string().into()),
            format!("{} is not a layer: it is not a tar archive", sample.id()),
        ),
        (
            "both kinds",
            edit(&|v| v["manifests"] = serde_json::json!([])),
            "has the fields of both a manifest and an index".to_owned(),
        ),
        (
            "own type differs",
            edit(&|v| v["mediaType"] = media::OCI_INDEX.into()),
            "is declared as".to_owned(),
        ),
        (
            "schema 1",
            edit(&|v| v["schemaVersion"] = 1.into()),
            "manifest schema version 1 is not supported".to_owned(),
        ),
        (
            "bad digest",
            edit(&|v| v["config"]["digest"] = "sha512:00".into()),
            "unsupported digest algorithm".to_owned(),
        ),
        ("manifest size", layout(&[wrong_size], &blobs), "bytes long, but 3 are promised".to_owned()),
        ("manifest as index", layout(&[as_index], &blobs), "is declared as".to_owned()),
        (
            "bad name",
            layout(&[named(descriptor(&manifest), "BAD/name:x:y")], &blobs),
            "\"BAD/name:x:y\" is no name for an image".to_owned(),
        ),
    ];
    for (what, archive, message) in table {
        let error = refused(&archive, LoadLimits::default());
        assert!(error.contains(&message), "{what}: {error}");
    }
}

#[test]
fn docker_archives_that_lie() {
    let sample = Sample::new(&small_layers());
    let other = tar(&[("x", b"other")]);
    let archive = |config: &str, layers: &[&str], files: &[(&str, &[u8])]| {
        let manifest = serde_json::json!([{"Config": config, "RepoTags": ["bad:1"], "Layers": layers}]);
        let manifest = serde_json::to_vec(&manifest).unwrap();
        let mut all = vec![("manifest.json", manifest.as_slice())];
        all.extend(files);
        tar(&all)
    };
    let (a, b, config) = (sample.layers[0].as_slice(), sample.layers[1].as_slice(), sample.config.as_slice());
    let wrong_name = format!("{}.json", Digest::of(b"x").hex());
    let both = ["a", "b"];
    let table: Vec<(&str, Vec<u8>, &str)> = vec![
        (
            "missing layer",
            archive("c", &both, &[("c", config), ("a", a)]),
            "b is missing in the image archive",
        ),
        ("missing config", archive("c", &both, &[("a", a), ("b", b)]), "c is missing in the image archive"),
        ("other layer", archive("c", &both, &[("c", config), ("a", a), ("b", &other)]), "b is sha256:"),
        (
            "config's name",
            archive(&wrong_name, &both, &[(&wrong_name, config), ("a", a), ("b", b)]),
            "but the image wants",
        ),
        (
            "layer count",
            archive("c", &["a"], &[("c", config), ("a", a)]),
            "has 2 layers in its configuration and 1",
        ),
        (
            "outside",
            archive("c", &["../../etc/passwd", "b"], &[("c", config), ("b", b)]),
            "is missing in the image archive",
        ),
        (
            "twice",
            archive("c", &both, &[("c", config), ("a", a), ("a", b), ("b", b)]),
            "\"a\" twice, with different content",
        ),
        ("config is a layer", archive("a", &both, &[("a", a), ("b", b)]), "a has the unknown media type"),
        (
            "layer is text",
            archive("c", &both, &[("c", config), ("a", b"text"), ("b", b)]),
            "a is not a layer: it is not a tar archive",
        ),
        (
            "layer is bad gzip",
            archive("c", &both, &[("c", config), ("a", &gzip(a)[..60]), ("b", b)]),
            "a is not a layer: cannot decompress it",
        ),
        (
            "layer is cut",
            archive("c", &both, &[("c", config), ("a", &a[..1100]), ("b", b)]),
            "a is not a layer: the archive is truncated",
        ),
    ];
    for (what, archive, message) in table {
        let error = refused(&archive, LoadLimits::default());
        assert!(error.contains(message), "{what}: {error}");
    }
    let mut links = Writer::new(Vec::new());
    for (path, target) in [("a", "b"), ("b", "a")] {
        let mut entry = Entry::new(Kind::Symlink, path, 0o777);
        entry.link = target.as_bytes().to_vec();
        links.append(&entry, &mut std::io::empty()).unwrap();
    }
    let mut links = links.finish().unwrap();
    links.truncate(links.len() - 1024);
    links.extend(archive("c", &both, &[("c", config)]));
    assert!(refused(&links, LoadLimits::default()).contains("a is a chain of links that leads nowhere"));
}

#[test]
fn layers_that_break_out() {
    for path in ["../evil", "a/../../evil"] {
        let sample = Sample::new(&[tar(&[(path, b"x")])]);
        let error = refused(&docker_old(&sample, &["evil:1"]), LoadLimits::default());
        assert!(error.contains("layer.tar") && error.contains(path), "{error}");
    }
}

#[test]
fn bombs() {
    let zeros = vec![0u8; 8 << 20];
    let sample = Sample::new(&[tar(&[("zeros", &zeros)])]);
    let (manifest, blobs) = sample.oci(media::OCI_LAYER_GZIP, gzip);
    let archive = layout(&[descriptor(&manifest)], &blobs);
    assert!(archive.len() < 100_000);
    let layer = Limits { tar_bytes_max: 1 << 20, ..Limits::default() };
    let error = refused(&archive, LoadLimits { layer, ..LoadLimits::default() });
    assert!(
        error.contains("cannot unpack layer blobs/sha256/") && error.contains("more than 1048576"),
        "{error}"
    );
    let big = vec![b' '; 2 << 20];
    let limits = LoadLimits { documents_bytes_max: 1 << 20, ..LoadLimits::default() };
    let error = refused(&tar(&[("manifest.json", &big)]), limits);
    assert!(error.contains("more than 1048576 bytes of manifests"), "{error}");
    let many: Vec<(String, Vec<u8>)> = (0..200).map(|at| (format!("f{at}"), vec![b'x'; 100])).collect();
    let many: Vec<(&str, &[u8])> =
        many.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let error = refused(&tar(&many), LoadLimits { entries_max: 100, ..LoadLimits::default() });
    assert!(error.contains("more than 100 files"), "{error}");
}

#[test]
fn indexes_within_indexes() {
    let mut blobs = Blobs::new();
    let mut below = Descriptor::of(media::OCI_MANIFEST, b"{}");
    for _ in 0..12 {
        let index =
            serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "manifests": [below]})).unwrap();
        below = Descriptor::of(media::OCI_INDEX, &index);
        blobs.insert(below.digest, index);
    }
    let error = refused(&layout(&[below], &blobs), LoadLimits::default());
    assert!(error.contains("nested too deeply"), "{error}");
}

/// Five indexes with a hundred references to the next one each: ten thousand million manifests in 60 KiB.
#[test]
fn indexes_that_name_each_other_often() {
    let mut blobs = Blobs::new();
    let empty = serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "manifests": []})).unwrap();
    let mut below = Descriptor::of(media::OCI_INDEX, &empty);
    blobs.insert(below.digest, empty);
    for _ in 0..5 {
        let index =
            serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "manifests": vec![below; 100]}))
                .unwrap();
        below = Descriptor::of(media::OCI_INDEX, &index);
        blobs.insert(below.digest, index);
    }
    let begin = std::time::Instant::now();
    let error = refused(&layout(&[below], &blobs), LoadLimits::default());
    assert!(error.contains("each counted as often as it is named"), "{error}");
    assert!(begin.elapsed() < std::time::Duration::from_secs(20), "{:?}", begin.elapsed());
}
