//! Publishing: what arrives elsewhere is what was here.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::archive::{Fetch, Outgoing, Place, Publish, SendStage, Source, Target};
use crate::compress::Format;
use crate::manifest::{Document, Index, Manifest};
use crate::metadata::DocumentRow;

/// A repository in memory.
#[derive(Default)]
struct Repository {
    blobs: Mutex<Blobs>,
    manifests: Mutex<Blobs>,
    tags: Mutex<BTreeMap<String, Descriptor>>,
    /// Another repository has these.
    elsewhere: Vec<Digest>,
    /// Takes files as they are.
    is_near: bool,
    /// Takes no more than so many bytes of a blob.
    bytes_max: Option<usize>,
    /// So often the connection breaks.
    breaks: AtomicUsize,
}

struct Upload<'a> {
    repository: &'a Repository,
    bytes: Vec<u8>,
}

impl Write for Upload<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let breaks = |left: usize| left.checked_sub(1);
        if self.repository.breaks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, breaks).is_ok() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if self.repository.bytes_max.is_some_and(|max| self.bytes.len() + bytes.len() > max) {
            return Err(io::Error::other("the quota is used up"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Outgoing for Upload<'_> {
    fn finish(self: Box<Self>, digest: &Digest) -> io::Result<()> {
        assert_eq!(Digest::of(&self.bytes), *digest);
        self.repository.blobs.lock().unwrap().insert(*digest, self.bytes);
        Ok(())
    }
}

impl Target for Repository {
    fn find(&self, descriptor: &Descriptor) -> io::Result<Option<Place>> {
        if self.elsewhere.contains(&descriptor.digest) {
            return Ok(Some(Place::Elsewhere("other".to_owned())));
        }
        Ok(self.blobs.lock().unwrap().contains_key(&descriptor.digest).then_some(Place::Here))
    }

    fn has_manifest(&self, digest: &Digest) -> io::Result<bool> {
        Ok(self.manifests.lock().unwrap().contains_key(digest))
    }

    fn give(&self, digest: &Digest, mut file: &File) -> io::Result<bool> {
        if self.is_near {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            self.blobs.lock().unwrap().insert(*digest, bytes);
        }
        Ok(self.is_near)
    }

    fn blob(&self) -> io::Result<Box<dyn Outgoing + '_>> {
        Ok(Box::new(Upload { repository: self, bytes: Vec::new() }))
    }

    fn manifest(&self, document: &DocumentRow, tag: Option<&str>) -> io::Result<()> {
        // As registries do, it refuses what lacks its parts.
        let (blobs, mut manifests) = (self.blobs.lock().unwrap(), self.manifests.lock().unwrap());
        match Document::parse(&document.bytes, &document.media_type).unwrap() {
            Document::Manifest(manifest) => {
                for part in manifest.layers.iter().chain([&manifest.config]) {
                    assert!(blobs.contains_key(&part.digest) || self.elsewhere.contains(&part.digest));
                }
            }
            Document::Index(index) => {
                assert!(index.manifests.iter().all(|below| manifests.contains_key(&below.digest)));
            }
        }
        manifests.insert(document.digest, document.bytes.clone());
        drop((blobs, manifests));
        if let Some(tag) = tag {
            let descriptor =
                Descriptor::new(&document.media_type, document.digest, document.bytes.len() as u64);
            self.tags.lock().unwrap().insert(tag.to_owned(), descriptor);
        }
        Ok(())
    }

    fn referrer(&self, document: &DocumentRow, manifest: &Manifest, subject: &Digest) -> io::Result<()> {
        assert_eq!(manifest.subject.as_ref().unwrap().digest, *subject);
        assert!(self.manifests.lock().unwrap().contains_key(subject), "it comes behind what it is about");
        Target::manifest(self, document, None)
    }
}

impl Source for Repository {
    fn manifest(&self, descriptor: &Descriptor) -> io::Result<Vec<u8>> {
        Ok(self.manifests.lock().unwrap()[&descriptor.digest].clone())
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> io::Result<Box<dyn io::Read + Send>> {
        let bytes = self.blobs.lock().unwrap()[&descriptor.digest][offset as usize..].to_vec();
        Ok(Box::new(io::Cursor::new(bytes)))
    }
}

fn wish(name: &str, compression: Format) -> Publish {
    Publish { name: Reference::parse(name).unwrap(), platform: None, compression }
}

fn publish(store: &Store, wish: &Publish, target: &Repository) -> (Descriptor, Vec<(Digest, SendStage)>) {
    let told = Mutex::new(Vec::new());
    let watch = |of: &Descriptor, stage| told.lock().unwrap().push((of.digest, stage));
    let published = store.publish(wish, target, &watch).unwrap();
    assert_eq!(target.tags.lock().unwrap()[wish.name.tag().unwrap()], published.target);
    (published.target, told.into_inner().unwrap())
}

#[test]
fn plain_layers_are_compressed_once() {
    for format in [Format::Gzip, Format::Zstd] {
        let root = tempfile::tempdir().unwrap();
        let store = open(root.path());
        let sample = Sample::new(&small_layers());
        load(&store, &docker_old(&sample, &["host:5000/app:1"])).unwrap();
        let target = Repository::default();
        let wish = wish("host:5000/app:1", format);
        let (first, told) = publish(&store, &wish, &target);
        for layer in &sample.layers {
            let own: Vec<&SendStage> =
                told.iter().filter(|(of, _)| *of == Digest::of(layer)).map(|(_, stage)| stage).collect();
            let all = SendStage::Sent(layer.len() as u64);
            assert_eq!(
                (own[0], own[own.len() - 2], own[own.len() - 1]),
                (&SendStage::Waiting, &all, &SendStage::Done)
            );
        }
        let manifest = target.manifests.lock().unwrap()[&first.digest].clone();
        let Ok(Document::Manifest(manifest)) = Document::parse(&manifest, &first.media_type) else {
            panic!("no manifest")
        };
        assert!(manifest.layers.iter().all(|layer| layer.media_type == format.layer_media_type()));
        assert_eq!(manifest.config.digest, sample.id());
        let image = store.resolve("host:5000/app:1").unwrap();
        assert!(
            image.repo_digests.contains(&format!("host:5000/app@{}", first.digest)),
            "{:?}",
            image.repo_digests
        );
        // What it is called there leads to it; what it is here has not changed.
        let by_digest = store.named(&wish.name.with_digest(first.digest)).unwrap();
        assert_eq!((by_digest.0.id, by_digest.1), (sample.id(), first.digest));
        assert_eq!(image.descriptor.digest, image.manifest);

        // Nothing has to go a second time, also when the first engine has ended.
        drop(store);
        let store = open(root.path());
        let (again, told) = publish(&store, &wish, &target);
        assert_eq!(again, first);
        assert!(!told.iter().any(|(_, stage)| matches!(stage, SendStage::Sent(_))), "{told:?}");

        // It is the same image elsewhere.
        let other_root = tempfile::tempdir().unwrap();
        let other = open(other_root.path());
        let fetch = Fetch { name: Some(wish.name.clone()), target: first, platform: None };
        assert_eq!(other.fetch(&fetch, &target, &|_, _| {}).unwrap().image, sample.id());

        // With the tag go the digests that it has in its repository.
        let options = RemoveOptions { force: false, noprune: false, in_use: &|_| None };
        store.remove("host:5000/app:1", &options).unwrap();
        assert_clean_after_removal(&store, root.path());
    }
}

#[test]
fn what_came_compressed_goes_as_it_came() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(first.path());
    let mut blobs = Blobs::new();
    let mut manifests = Vec::new();
    for name in ["linux/amd64", "linux/arm64"] {
        let platform: Platform = name.parse().unwrap();
        let sample = Sample::for_platform(&[tar(&[("platform", name.as_bytes())])], &platform);
        let (manifest, own) = sample.oci(media::OCI_LAYER_GZIP, gzip);
        manifests
            .push(Descriptor { platform: Some(platform), ..Descriptor::of(media::OCI_MANIFEST, &manifest) });
        blobs.extend(own);
    }
    let index = Index { schema_version: 2, media_type: None, manifests, annotations: None };
    let index = serde_json::to_vec(&index).unwrap();
    blobs.insert(Digest::of(&index), index.clone());
    let named = named(Descriptor::of(media::OCI_INDEX, &index), "app:1");
    load(&store, &layout(&[named], &blobs)).unwrap();
    let target = Repository::default();
    let (whole, _) = publish(&store, &wish("app:1", Format::Gzip), &target);
    assert_eq!(whole.digest, Digest::of(&index));
    let mut there = target.blobs.lock().unwrap().clone();
    there.extend(target.manifests.lock().unwrap().clone());
    assert_eq!(there, blobs);

    // One platform alone.
    let alone = Repository::default();
    let platform = Some("linux/arm64".parse().unwrap());
    let (one, _) = publish(&store, &Publish { platform, ..wish("app:1", Format::Gzip) }, &alone);
    assert_eq!(one.media_type, media::OCI_MANIFEST);
    assert_eq!(alone.manifests.lock().unwrap().len(), 1);

    // A store that has one platform of an index sends that, unless the rest is there.
    let partial = open(second.path());
    let fetch = Fetch { name: Some(wish("app:1", Format::Gzip).name), target: whole.clone(), platform: None };
    partial.fetch(&fetch, &target, &|_, _| {}).unwrap();
    let elsewhere = Repository::default();
    let published = partial.publish(&wish("app:1", Format::Gzip), &elsewhere, &|_, _| {}).unwrap();
    assert_eq!(published.instead_of, Some(whole.digest));
    assert_eq!(published.target.media_type, media::OCI_MANIFEST);
    let back = partial.publish(&wish("app:1", Format::Gzip), &target, &|_, _| {}).unwrap();
    assert_eq!((back.target.digest, back.instead_of), (whole.digest, None));
    assert_clean_after_removal(&partial, second.path());
    assert_clean_after_removal(&store, first.path());
}

#[test]
fn blobs_of_other_repositories_are_not_sent() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let sample = Sample::new(&small_layers());
    let (manifest, blobs) = sample.oci(media::OCI_LAYER_GZIP, gzip);
    load(&store, &layout(&[named(Descriptor::of(media::OCI_MANIFEST, &manifest), "app:1")], &blobs)).unwrap();
    let layer = Digest::of(&gzip(&sample.layers[0]));
    let target = Repository { elsewhere: vec![layer], ..Repository::default() };
    let (_, told) = publish(&store, &wish("app:1", Format::Gzip), &target);
    assert!(told.contains(&(layer, SendStage::Found(Place::Elsewhere("other".to_owned())))), "{told:?}");
    assert!(!target.blobs.lock().unwrap().contains_key(&layer));
    assert_clean_after_removal(&store, root.path());
}

#[test]
fn what_is_kept_as_it_is_sent_is_given_as_a_file() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let sample = Sample::new(&small_layers());
    load(&store, &docker_old(&sample, &["plain:1"])).unwrap();
    let (manifest, blobs) = sample.oci(media::OCI_LAYER_GZIP, gzip);
    load(&store, &layout(&[named(Descriptor::of(media::OCI_MANIFEST, &manifest), "packed:1")], &blobs))
        .unwrap();
    for (name, given) in [("packed:1", sample.layers.len()), ("plain:1", 0)] {
        let target = Repository { is_near: true, ..Repository::default() };
        let (_, told) = publish(&store, &wish(name, Format::Gzip), &target);
        assert_eq!(told.iter().filter(|(_, stage)| *stage == SendStage::Given).count(), given, "{told:?}");
        assert!(target.blobs.lock().unwrap().iter().all(|(digest, bytes)| Digest::of(bytes) == *digest));
    }
    assert_clean_after_removal(&store, root.path());
}

#[test]
fn a_broken_way_is_tried_again() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let sample = Sample::new(&small_layers()[..1]);
    load(&store, &docker_old(&sample, &["plain:1"])).unwrap();
    let target = Repository { breaks: AtomicUsize::new(2), ..Repository::default() };
    publish(&store, &wish("plain:1", Format::Gzip), &target);
    let (manifest, blobs) = sample.oci(media::OCI_LAYER_GZIP, gzip);
    load(&store, &layout(&[named(Descriptor::of(media::OCI_MANIFEST, &manifest), "packed:1")], &blobs))
        .unwrap();
    for (breaks, is_sent) in [(2, true), (1000, false)] {
        let target = Repository { breaks: AtomicUsize::new(breaks), ..Repository::default() };
        let outcome = store.publish(&wish("packed:1", Format::Gzip), &target, &|_, _| {});
        assert_eq!(outcome.is_ok(), is_sent, "{outcome:?}");
    }
    assert_clean_after_removal(&store, root.path());
}

#[test]
fn what_the_target_says_is_told() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    // Several, of which the first to fail tells why: the others are only given up.
    let large = |size: usize| tar(&[("large", &fetching::noise(size))]);
    let sample = Sample::new(&[9, 3, 2, 2].map(|mebibytes| large(mebibytes << 20)));
    load(&store, &docker_old(&sample, &["plain:1"])).unwrap();
    let (manifest, blobs) = sample.oci(media::OCI_LAYER_GZIP, gzip);
    load(&store, &layout(&[named(Descriptor::of(media::OCI_MANIFEST, &manifest), "packed:1")], &blobs))
        .unwrap();
    for name in ["plain:1", "packed:1"].repeat(5) {
        let target = Repository { bytes_max: Some(1 << 20), ..Repository::default() };
        let error = store.publish(&wish(name, Format::Gzip), &target, &|_, _| {}).unwrap_err().explain();
        assert!(error.contains("cannot send sha256:") && error.contains("quota"), "{name}: {error}");
        assert!(target.blobs.lock().unwrap().values().all(|blob| blob.len() < 1 << 20));
        assert!(target.manifests.lock().unwrap().is_empty() && target.tags.lock().unwrap().is_empty());
    }
    let error = store.publish(&wish("nobody:1", Format::Gzip), &Repository::default(), &|_, _| {});
    assert_eq!(error.unwrap_err().to_string(), "No such image: nobody:1");
    assert_clean_after_removal(&store, root.path());
}
