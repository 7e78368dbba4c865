//! Fetching: sources that give what they should, and such that don't.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::archive::{Fetch, Source, Stage};
use crate::manifest::Index;

/// A source that counts what it is asked for, and does wrong as it is told.
#[derive(Default)]
struct Registry {
    blobs: Blobs,
    asked: Mutex<BTreeMap<Digest, Vec<u64>>>,
    /// Each answer ends after so many bytes, with an error.
    breaks_after: Option<usize>,
    /// Instead of what was asked for.
    lies: BTreeMap<Digest, Vec<u8>>,
    /// Once it is distrusted it lies no more.
    has_another: bool,
    distrusted: AtomicBool,
}

impl Registry {
    fn of(blobs: Blobs) -> Registry {
        Registry { blobs, ..Registry::default() }
    }

    fn content(&self, descriptor: &Descriptor) -> io::Result<&[u8]> {
        let lie = self.lies.get(&descriptor.digest).filter(|_| !self.distrusted.load(Ordering::Relaxed));
        let content = lie.or_else(|| self.blobs.get(&descriptor.digest));
        content.map(Vec::as_slice).ok_or_else(|| io::Error::other("no such blob"))
    }

    fn asked(&self, digest: &Digest) -> Vec<u64> {
        self.asked.lock().unwrap().get(digest).cloned().unwrap_or_default()
    }
}

impl Source for Registry {
    fn manifest(&self, descriptor: &Descriptor) -> io::Result<Vec<u8>> {
        self.asked.lock().unwrap().entry(descriptor.digest).or_default().push(0);
        self.content(descriptor).map(<[u8]>::to_vec)
    }

    fn distrust(&self, _: &Descriptor) -> bool {
        self.has_another && !self.distrusted.swap(true, Ordering::Relaxed)
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        self.asked.lock().unwrap().entry(descriptor.digest).or_default().push(offset);
        let rest = self.content(descriptor)?[offset as usize..].to_vec();
        match self.breaks_after {
            Some(bytes) if bytes < rest.len() => {
                Ok(Box::new(io::Cursor::new(rest[..bytes].to_vec()).chain(Broken)))
            }
            _ => Ok(Box::new(io::Cursor::new(rest))),
        }
    }
}

#[test]
fn another_place_may_have_what_the_first_has_not() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let sample = Sample::new(&small_layers());
    let (manifest, blobs) = sample.oci(media::OCI_LAYER_GZIP, gzip);
    let layer = Digest::of(&gzip(&sample.layers[0]));
    let mut other = blobs[&layer].clone();
    *other.last_mut().unwrap() ^= 1;
    let lies = BTreeMap::from([(layer, other)]);
    let source = Registry { lies, has_another: true, ..Registry::of(blobs) };
    fetch(&store, &wanted("a", media::OCI_MANIFEST, &manifest), &source).unwrap();
    assert_eq!(source.asked(&layer), [0, 0]);
    assert_clean_after_removal(&store, root.path());
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

fn wanted(name: &str, media_type: &str, manifest: &[u8]) -> Fetch {
    let name = Reference::parse(name).unwrap();
    Fetch { name: Some(name), target: Descriptor::of(media_type, manifest), platform: None }
}

fn fetch(store: &Store, wanted: &Fetch, source: &Registry) -> Result<super::super::Loaded, Error> {
    store.fetch(wanted, source, &|_, _| {})
}

/// Bytes that no compression makes small.
pub(super) fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn layers_of_each_kind_are_fetched_once() {
    for (media_type, transport) in
        [(media::OCI_LAYER, plain as Transport), (media::OCI_LAYER_GZIP, gzip), (media::OCI_LAYER_ZSTD, zstd)]
    {
        let root = tempfile::tempdir().unwrap();
        let store = open(root.path());
        let sample = Sample::new(&small_layers());
        let (manifest, blobs) = sample.oci(media_type, transport);
        let layers: Vec<Digest> = sample.layers.iter().map(|layer| Digest::of(&transport(layer))).collect();
        let source = Registry::of(blobs.clone());
        let stages = Mutex::new(Vec::new());
        let first = wanted("host:5000/a:1", media::OCI_MANIFEST, &manifest);
        let loaded = store
            .fetch(&first, &source, &|descriptor, stage| {
                stages.lock().unwrap().push((descriptor.digest, stage))
            })
            .unwrap();
        assert_eq!((loaded.image, loaded.reference.as_deref()), (sample.id(), Some("host:5000/a:1")));
        let stages = stages.into_inner().unwrap();
        for layer in &layers {
            let size = blobs[layer].len() as u64;
            let own: Vec<Stage> =
                stages.iter().filter(|(of, _)| of == layer).map(|(_, stage)| *stage).collect();
            assert_eq!((own.first(), own.last()), (Some(&Stage::Wanted), Some(&Stage::Unpacked)), "{own:?}");
            assert!(own.contains(&Stage::Received(size)) && own.contains(&Stage::Whole), "{own:?}");
            assert_eq!(source.asked(layer), [0]);
        }
        let image = store.resolve("host:5000/a:1").unwrap();
        assert_eq!(image.repo_digests, [format!("host:5000/a@{}", Digest::of(&manifest))]);
        // Again, under another name: nothing has to come.
        let again = fetch(&store, &wanted("b", media::OCI_MANIFEST, &manifest), &source).unwrap();
        assert_eq!(again.image, loaded.image);
        assert!(layers.iter().all(|layer| source.asked(layer) == [0]));
        let saved = save(&store, &["b"]);
        for layer in &layers {
            let bytes = &blobs[layer];
            assert!(saved.windows(bytes.len()).any(|window| window == bytes.as_slice()));
        }
        assert_clean_after_removal(&store, root.path());
    }
}

#[test]
fn a_broken_fetch_goes_on_where_it_ended() {
    let root = tempfile::tempdir().unwrap();
    let layer = tar(&[("noise", &noise(5 << 20))]);
    let sample = Sample::new(&[layer]);
    let (manifest, blobs) = sample.oci(media::OCI_LAYER_GZIP, gzip);
    let digest = Digest::of(&gzip(&sample.layers[0]));
    let wanted = wanted("a", media::OCI_MANIFEST, &manifest);
    let mut source = Registry { breaks_after: Some(2 << 20), ..Registry::of(blobs.clone()) };
    let partial = root.path().join("image/blobs/partial").join(digest.hex());
    for _ in 0..2 {
        // Each time with a store that was opened anew.
        let store = open(root.path());
        let error = fetch(&store, &wanted, &source).unwrap_err().explain();
        assert!(error.contains(&digest.to_string()) && error.contains("reset"), "{error}");
        assert_nothing_on_disk(root.path());
    }
    assert_eq!(source.asked(&digest), [0, 2 << 20]);
    assert_eq!(std::fs::metadata(&partial).unwrap().len(), 4 << 20);
    source.breaks_after = None;
    let store = open(root.path());
    fetch(&store, &wanted, &source).unwrap();
    assert_eq!(source.asked(&digest), [0, 2 << 20, 4 << 20]);
    assert!(!partial.exists());
    assert_eq!(std::fs::read(store.blobs.path(&digest)).unwrap(), blobs[&digest]);
    assert_clean_after_removal(&store, root.path());

    // What was kept and has suffered comes again from the beginning.
    let mut damaged = blobs[&digest][..3 << 20].to_vec();
    damaged[1 << 20] ^= 1;
    std::fs::write(&partial, damaged).unwrap();
    let source = Registry::of(blobs.clone());
    fetch(&store, &wanted, &source).unwrap();
    assert_eq!(source.asked(&digest), [3 << 20, 0]);
    assert!(!partial.exists());
    assert_clean_after_removal(&store, root.path());

    // All of it was here already when the end came.
    std::fs::write(&partial, &blobs[&digest]).unwrap();
    let source = Registry::of(blobs);
    fetch(&store, &wanted, &source).unwrap();
    assert!(source.asked(&digest).is_empty());
    assert_clean_after_removal(&store, root.path());
}

#[test]
fn what_is_not_what_was_promised_leaves_nothing() {
    let sample = Sample::new(&small_layers());
    let (manifest, blobs) = sample.oci(media::OCI_LAYER_GZIP, gzip);
    let (plain_manifest, plain_blobs) = sample.oci(media::OCI_LAYER, plain);
    let layer = Digest::of(&gzip(&sample.layers[0]));
    let other = gzip(&tar(&[("other", b"")]));
    let mut longer = blobs[&layer].clone();
    longer.push(0);
    let shorter = blobs[&layer][..blobs[&layer].len() - 1].to_vec();
    let mut flipped = blobs[&layer].clone();
    *flipped.last_mut().unwrap() ^= 1;
    let mut plain_flipped = sample.layers[0].clone();
    plain_flipped[1024] ^= 1;
    let mut config = sample.config.clone();
    config[0] = b'[';
    for (what, manifest, blobs, lie, told) in [
        ("shorter", &manifest, &blobs, (layer, shorter), "ends 1 bytes before its end"),
        ("flipped", &manifest, &blobs, (layer, flipped), "but the image wants"),
        (
            "other",
            &manifest,
            &blobs,
            (layer, [other.clone(), vec![0; 1 << 16]].concat()),
            "but the image wants",
        ),
        (
            "plain",
            &plain_manifest,
            &plain_blobs,
            (Digest::of(&sample.layers[0]), plain_flipped),
            "but the image wants",
        ),
        ("config", &manifest, &blobs, (sample.id(), config), "but the image wants"),
        ("manifest", &manifest, &blobs, (Digest::of(&manifest), other.clone()), "bytes long, but"),
        ("not there", &manifest, &blobs, (layer, Vec::new()), "before its end"),
    ] {
        let root = tempfile::tempdir().unwrap();
        let store = open(root.path());
        let source = Registry { lies: BTreeMap::from([lie]), ..Registry::of(blobs.clone()) };
        let error =
            fetch(&store, &wanted("a", media::OCI_MANIFEST, manifest), &source).unwrap_err().explain();
        assert!(error.contains(told), "{what}: {error}");
        assert_nothing_on_disk(root.path());
        assert!(store.list().unwrap().is_empty());
        // More than was promised is not even read.
        let source =
            Registry { lies: BTreeMap::from([(layer, longer.clone())]), ..Registry::of(blobs.clone()) };
        fetch(&store, &wanted("a", media::OCI_MANIFEST, manifest), &source).unwrap();
        assert_clean_after_removal(&store, root.path());
    }
}

#[test]
fn layers_that_came_compressed_are_here_when_they_are_wanted_as_they_are() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let sample = Sample::for_platform(&small_layers(), &Platform::host());
    let (manifest, blobs) = sample.oci(media::OCI_LAYER_GZIP, gzip);
    fetch(&store, &wanted("packed", media::OCI_MANIFEST, &manifest), &Registry::of(blobs)).unwrap();
    let (manifest, blobs) = sample.oci(media::OCI_LAYER, plain);
    let layers: Vec<Digest> = sample.layers.iter().map(|layer| Digest::of(layer)).collect();
    let source = Registry::of(blobs);
    let mut wanted = wanted("plain", media::OCI_MANIFEST, &manifest);
    wanted.platform = Some(Platform::host());
    assert_eq!(fetch(&store, &wanted, &source).unwrap().image, sample.id());
    assert!(layers.iter().all(|layer| source.asked(layer).is_empty()), "they are known by what they are");
    assert_clean_after_removal(&store, root.path());
}

#[test]
fn the_platform_that_is_wanted_is_fetched() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let mut blobs = Blobs::new();
    let mut manifests = Vec::new();
    let mut samples = Vec::new();
    for (at, name) in ["linux/arm64", "linux/amd64", "windows/amd64"].iter().enumerate() {
        let platform: Platform = name.parse().unwrap();
        let layer = tar(&[("platform", format!("{name} {at}").as_bytes())]);
        let sample = Sample::for_platform(&[layer], &platform);
        let (manifest, own) = sample.oci(media::OCI_LAYER_GZIP, gzip);
        manifests
            .push(Descriptor { platform: Some(platform), ..Descriptor::of(media::OCI_MANIFEST, &manifest) });
        blobs.extend(own);
        samples.push(sample);
    }
    let index = Index { schema_version: 2, media_type: None, manifests, annotations: None };
    let index = serde_json::to_vec(&index).unwrap();
    blobs.insert(Digest::of(&index), index.clone());
    let source = Registry::of(blobs);
    let mut wanted = wanted("many", media::OCI_INDEX, &index);
    for (platform, sample) in [("windows/amd64", 2), ("linux/arm64", 0), ("linux/amd64", 1)] {
        wanted.platform = Some(platform.parse().unwrap());
        let loaded = fetch(&store, &wanted, &source).unwrap();
        assert_eq!(loaded.image, samples[sample].id(), "{platform}");
    }
    let image = store.resolve("many").unwrap();
    assert_eq!((image.id, image.descriptor.digest), (samples[1].id(), Digest::of(&index)));
    wanted.platform = Some("linux/riscv64".parse().unwrap());
    let error = fetch(&store, &wanted, &source).unwrap_err().explain();
    assert!(error.contains("no matching manifest for linux/riscv64"), "{error}");
    assert_clean_after_removal(&store, root.path());
}

#[test]
fn fetches_at_once_share_what_comes() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let base = tar(&[("base", &noise(3 << 20))]);
    let images: Vec<Sample> =
        (0..4).map(|at| Sample::new(&[base.clone(), tar(&[("own", format!("{at}").as_bytes())])])).collect();
    let mut blobs = Blobs::new();
    let mut manifests = Vec::new();
    for sample in &images {
        let (manifest, own) = sample.oci(media::OCI_LAYER_GZIP, gzip);
        blobs.extend(own);
        manifests.push(manifest);
    }
    let source = Registry::of(blobs);
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for (at, manifest) in manifests.iter().enumerate() {
            let (store, source, done) = (&store, &source, &done);
            scope.spawn(move || {
                let name = format!("image{at}");
                fetch(store, &wanted(&name, media::OCI_MANIFEST, manifest), source).unwrap();
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
    assert_eq!(done.into_inner(), images.len());
    assert_eq!(source.asked(&Digest::of(&gzip(&base))), [0]);
    assert_clean_after_removal(&store, root.path());
}

#[test]
fn what_is_said_of_an_image_comes_along() {
    let sample = Sample::new(&small_layers());
    let (manifest, blobs) = sample.oci(media::OCI_LAYER_GZIP, gzip);
    let (statement, config) = (br#"{"predicateType":"a"}"#.to_vec(), b"{}".to_vec());
    let attestation = |statement: &[u8]| {
        let statement = Descriptor::of(media::IN_TOTO, statement);
        crate::manifest::compose(Descriptor::of(media::OCI_CONFIG, &config), vec![statement])
    };
    let said = |of: &[u8], bytes: &[u8]| Descriptor {
        platform: Some("unknown/unknown".parse().unwrap()),
        annotations: Some(BTreeMap::from([
            ("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned()),
            ("vnd.docker.reference.digest".to_owned(), Digest::of(of).to_string()),
        ])),
        ..Descriptor::of(media::OCI_MANIFEST, bytes)
    };
    let (ours, others, lost) = (attestation(&statement), attestation(b"of another"), attestation(b"lost"));
    let image =
        Descriptor { platform: Some(Platform::host()), ..Descriptor::of(media::OCI_MANIFEST, &manifest) };
    let all = vec![image, said(&manifest, &lost), said(b"another", &others), said(&manifest, &ours)];
    let index = crate::manifest::compose_index(all, BTreeMap::new());
    let with = |blobs: &Blobs| {
        let mut blobs = blobs.clone();
        for bytes in [&index, &manifest, &statement, &config, &ours, &others, &lost] {
            blobs.insert(Digest::of(bytes), bytes.clone());
        }
        blobs
    };
    let wanted = wanted("a", media::OCI_INDEX, &index);
    for lie in [None, Some(&statement), Some(&ours)] {
        let root = tempfile::tempdir().unwrap();
        let store = open(root.path());
        let lies = lie.map(|of| (Digest::of(of), b"a lie".to_vec()));
        let source = Registry { lies: lies.into_iter().collect(), ..Registry::of(with(&blobs)) };
        // What can't be had of it is no reason to be without the image.
        fetch(&store, &wanted, &source).unwrap();
        let found = store.attestations("a", &Platform::host()).unwrap();
        let expected = if lie.is_none() { vec![statement.clone()] } else { Vec::new() };
        assert_eq!(found.into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>(), expected);
        assert_eq!(source.asked(&Digest::of(&others)).len(), 0, "of what is not here");
        assert_clean_after_removal(&store, root.path());
    }
}
