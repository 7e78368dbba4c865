//! Archives in every layout that tools write, built here, loaded, saved and loaded again; and archives that are
//! broken in every way one can think of.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use super::{LoadLimits, LoadOptions};
use crate::digest::{Digest, ImageId};
use crate::error::Error;
use crate::layer::{DriverKind, Limits};
use crate::manifest::{Descriptor, media};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::{RemoveOptions, Store, StoreOptions};
use crate::tar::{Entry, Kind, Writer};

mod directories;
mod fetching;
mod hostile;
mod layouts;
mod publishing;

pub(crate) fn open(root: &Path) -> Store {
    open_with(root, LoadLimits::default())
}

pub(crate) fn open_with(root: &Path, limits: LoadLimits) -> Store {
    // Directories need no kernel support and no root; the layer drivers have a conformance suite of their own.
    let options = StoreOptions { driver: Some(DriverKind::Erofs), limits };
    Store::open(&root.join("image"), &root.join("snapshots"), options).unwrap()
}

/// A tar of files and, for names that end with a slash, directories.
pub(crate) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Writer::new(Vec::new());
    for (path, content) in files {
        let kind = if path.ends_with('/') { Kind::Directory } else { Kind::File };
        let mut entry = Entry::new(kind, *path, if kind == Kind::Directory { 0o755 } else { 0o644 });
        entry.size = content.len() as u64;
        let mut content = *content;
        archive.append(&entry, &mut content).unwrap();
    }
    archive.finish().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// An image to be put into archives: plain layers and a configuration.
#[derive(Clone)]
pub(crate) struct Sample {
    pub layers: Vec<Vec<u8>>,
    pub config: Vec<u8>,
}

impl Sample {
    pub fn new(layers: &[Vec<u8>]) -> Sample {
        Sample::for_platform(layers, &Platform::host())
    }

    pub fn for_platform(layers: &[Vec<u8>], platform: &Platform) -> Sample {
        let diff_ids: Vec<String> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
        let config = serde_json::json!({
            "architecture": platform.architecture, "os": platform.os, "variant": platform.variant,
            "created": "2026-01-02T03:04:05Z",
            "config": {"Cmd": ["sh"], "Env": ["A=b"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": diff_ids.iter().map(|id| serde_json::json!({"created_by": id})).collect::<Vec<_>>(),
        });
        Sample { layers: layers.to_vec(), config: serde_json::to_vec(&config).unwrap() }
    }

    pub fn id(&self) -> ImageId {
        Digest::of(&self.config)
    }

    /// An OCI manifest whose layers are what `transport` makes of them, with all blobs.
    pub fn oci(&self, media_type: &str, transport: Transport) -> (Vec<u8>, Blobs) {
        let blobs: Vec<Vec<u8>> = self.layers.iter().map(|layer| transport(layer)).collect();
        let layers = blobs.iter().map(|blob| Descriptor::of(media_type, blob)).collect();
        let manifest = crate::manifest::compose(Descriptor::of(media::OCI_CONFIG, &self.config), layers);
        let mut all: Blobs = blobs.into_iter().map(|blob| (Digest::of(&blob), blob)).collect();
        all.insert(Digest::of(&manifest), manifest.clone());
        all.insert(self.id(), self.config.clone());
        (manifest, all)
    }
}

/// What makes a layer's blob of its tar.
pub(crate) type Transport = fn(&[u8]) -> Vec<u8>;

pub(crate) type Blobs = BTreeMap<Digest, Vec<u8>>;

pub(crate) fn plain(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

/// The descriptor of a manifest with a name.
pub(crate) fn named(mut descriptor: Descriptor, name: &str) -> Descriptor {
    let key = "org.opencontainers.image.ref.name".to_owned();
    descriptor.annotations = Some(BTreeMap::from([(key, name.to_owned())]));
    descriptor
}

/// An OCI layout as a tar archive.
pub(crate) fn layout(descriptors: &[Descriptor], blobs: &Blobs) -> Vec<u8> {
    let index =
        serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "manifests": descriptors})).unwrap();
    let paths: Vec<String> = blobs.keys().map(|digest| format!("blobs/sha256/{}", digest.hex())).collect();
    let mut files: Vec<(&str, &[u8])> = vec![("blobs/", b""), ("blobs/sha256/", b"")];
    files.extend(paths.iter().map(String::as_str).zip(blobs.values().map(Vec::as_slice)));
    files.push(("index.json", &index));
    files.push(("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#));
    tar(&files)
}

/// `docker save` before 25: `<id>/layer.tar`, `<id>/json`, `<config>.json`, `manifest.json`, `repositories`.
pub(crate) fn docker_old(sample: &Sample, tags: &[&str]) -> Vec<u8> {
    let config = format!("{}.json", sample.id().hex());
    let paths: Vec<String> = (0..sample.layers.len()).map(|at| format!("{at:064x}/layer.tar")).collect();
    let manifest =
        serde_json::to_vec(&serde_json::json!([{"Config": config, "RepoTags": tags, "Layers": paths}]))
            .unwrap();
    let mut files: Vec<(&str, &[u8])> = Vec::new();
    files.extend(paths.iter().map(String::as_str).zip(sample.layers.iter().map(Vec::as_slice)));
    files.push((&config, &sample.config));
    files.push(("manifest.json", &manifest));
    files.push(("repositories", b"{}"));
    tar(&files)
}

pub(crate) fn load(store: &Store, archive: &[u8]) -> Result<Vec<super::Loaded>, Error> {
    store.load(&mut &archive[..], &LoadOptions::default(), &|_| {})
}

pub(crate) fn small_layers() -> Vec<Vec<u8>> {
    vec![
        tar(&[("bin/", b""), ("bin/sh", b"#!shell"), ("etc/", b""), ("etc/hello", b"hello world")]),
        tar(&[("etc/", b""), ("etc/second", &b"second layer ".repeat(1000))]),
    ]
}

/// Removes every image and checks that nothing is left: no layer, no blob, no half-made file.
pub(crate) fn assert_clean_after_removal(store: &Store, root: &Path) {
    let options = RemoveOptions { force: true, noprune: false, in_use: &|_| None };
    for image in store.list().unwrap() {
        store.remove(&image.id.to_string(), &options).unwrap();
    }
    assert_nothing_on_disk(root);
}

pub(crate) fn assert_nothing_on_disk(root: &Path) {
    for directory in ["image/layers", "image/blobs/sha256", "image/blobs/ingest"] {
        let left: Vec<_> =
            std::fs::read_dir(root.join(directory)).unwrap().map(|e| e.unwrap().path()).collect();
        assert!(left.is_empty(), "left in {directory}: {left:?}");
    }
}

pub(crate) fn save(store: &Store, names: &[&str]) -> Vec<u8> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut out = Vec::new();
    store.save(&names, &mut out, &[]).unwrap();
    out
}

#[test]
fn limits_are_configurable() {
    let _ = Limits::default();
    let root = tempfile::tempdir().unwrap();
    let limits = LoadLimits { entries_max: 3, ..LoadLimits::default() };
    let store = open_with(root.path(), limits);
    let error = load(&store, &docker_old(&Sample::new(&small_layers()), &["a:b"])).unwrap_err();
    assert_eq!(error.to_string(), "the image archive has more than 3 files");
    assert_nothing_on_disk(root.path());
}

#[test]
fn names_resolve_as_users_type_them() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let sample = Sample::new(&small_layers());
    load(&store, &docker_old(&sample, &["app:1", "localhost:5000/app:latest"])).unwrap();
    let id = sample.id();
    for text in [
        "app:1",
        "docker.io/library/app:1",
        "localhost:5000/app",
        &id.to_string(),
        &id.hex(),
        &id.hex()[..12],
        &id.to_string()[..20],
    ] {
        assert_eq!(store.resolve(text).unwrap().id, id, "{text}");
    }
    let image = store.resolve("app:1").unwrap();
    assert_eq!(image.repo_tags, ["app:1", "localhost:5000/app:latest"]);
    assert_eq!(store.resolve(&image.repo_digests[0]).unwrap().id, id);
    for (text, message) in [
        ("app", "No such image: app:latest"),
        ("other:1", "No such image: other:1"),
        ("UPPER", "invalid reference format: repository name (library/UPPER) must be lowercase"),
        ("sha256:ffff", "No such image: sha256:ffff"),
        ("", "invalid reference format"),
    ] {
        assert_eq!(store.resolve(text).unwrap_err().to_string(), message);
    }
    assert!(Reference::parse(&image.repo_digests[0]).is_ok());
}
