//! An image from where its content is had by digest: a registry. The documents come first, then all layers at once, each unpacked
//! while it comes. What the store has is not fetched, and what another fetch is bringing is waited for.

use std::collections::{HashSet, VecDeque};
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::intake::{Content, Taken, TakenLayer};
use super::load::place_blobs;
use super::pipeline::{self, Incoming, Unpacked};
use super::plan::{self, Known};
use super::{LoadError, LoadOptions, Loaded};
use crate::blobs::BlobWriter;
use crate::compression::{Compression, looks_like_tar};
use crate::digest::{DiffId, Digest};
use crate::error::Error;
use crate::layer::{ImportOptions, LayerError};
use crate::manifest::{Descriptor, Document, Index, Manifest, media};
use crate::metadata::LayerRow;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::{Claim, Session, Store, layer_row, now_ns};
use crate::tar::{self, TarError};

/// Layers that are fetched and unpacked at once.
const WORKERS_MAX: usize = 4;
/// Indexes within indexes.
const DEPTH_MAX: usize = 4;
/// Attestation manifests of an image that are fetched, and the bytes of what they say.
const ATTESTATIONS_MAX: usize = 8;
const STATEMENTS_BYTES_MAX: u64 = 32 << 20;
/// The annotation by which an index says what a manifest is called.
const NAME: &str = "io.containerd.image.name";

/// Where content comes from, by digest. What comes is checked here.
pub trait Source: Sync {
    /// A manifest or an index.
    fn manifest(&self, descriptor: &Descriptor) -> io::Result<Vec<u8>>;
    /// The bytes of a blob from `offset` on.
    fn blob(&self, descriptor: &Descriptor, offset: u64) -> io::Result<Box<dyn Read + Send>>;
    /// What came of a blob was something else. Whether another place may have the right one.
    fn distrust(&self, _: &Descriptor) -> bool {
        false
    }
}

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// What the image is to be called, if anything.
    pub name: Option<Reference>,
    /// What the name stands for at the source: a manifest or an index.
    pub target: Descriptor,
    /// Another platform than this host's.
    pub platform: Option<Platform>,
}

/// A layer alone: how it is transported, and what it is unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteLayer {
    pub blob: Descriptor,
    pub diff_id: DiffId,
}

/// How far a layer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It will be fetched.
    Wanted,
    /// The store has it.
    Known,
    /// So many of its bytes are here.
    Received(u64),
    /// All bytes are here.
    Whole,
    /// It can be mounted.
    Unpacked,
}

/// Told of every layer, by several threads.
pub type Watch<'a> = &'a (dyn Fn(&Descriptor, Stage) + Sync);

impl Store {
    /// Brings an image from a source, and gives it its name if it is to have one.
    ///
    /// # Errors
    /// When the source fails, or gives what it should not. Nothing is kept then but the first part of large layers, for the next
    /// attempt.
    pub fn fetch(&self, wanted: &Fetch, source: &dyn Source, watch: Watch<'_>) -> Result<Loaded, Error> {
        let session = self.session();
        let claims = Mutex::new(Vec::new());
        let stop = AtomicBool::new(false);
        let job = Job { store: self, session: &session, source, watch, stop: &stop, claims: &claims };
        let mut taken = Taken::default();
        let (manifest, said) = job.manifest(wanted, &wanted.target, &mut taken, 0)?;
        is_image(wanted, &manifest)?;
        job.layers(&manifest, &said, &mut taken)?;
        taken.contents.insert("index.json".to_owned(), layout(wanted)?);
        let options = LoadOptions { platforms: wanted.platform.iter().cloned().collect() };
        let images = plan::plan(&taken, self, &options, now_ns())?;
        place_blobs(self, &session, &mut taken, &images)?;
        let loaded = images.iter().flat_map(|new| self.loaded(new)).next().ok_or(LoadError::Empty)?;
        self.add(&images)?;
        Ok(loaded)
    }
}

impl Store {
    /// Brings one layer, or finds it here; `keep` is to record what it is, and how it came compressed, before it could go again.
    /// The blob itself is not kept.
    ///
    /// # Errors
    /// When the source fails, or gives another layer than it should; and those of `keep`.
    pub(crate) fn fetch_layer(
        &self,
        wanted: &RemoteLayer,
        source: &dyn Source,
        watch: Watch<'_>,
        keep: impl FnOnce(LayerRow, Compression) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let session = self.session();
        let claims = Mutex::new(Vec::new());
        let stop = AtomicBool::new(false);
        let job = Job { store: self, session: &session, source, watch, stop: &stop, claims: &claims };
        if let Some(row) = Known::layer(self, &wanted.diff_id)? {
            return keep(row, Compression::None);
        }
        let (row, compression) = match job.layer(&wanted.blob)? {
            Some(taken) => {
                // Nobody asks for the rest of it another time.
                taken.staged.iter().for_each(|staged| staged.forget());
                (Some(taken.layer), taken.compression)
            }
            // Somebody else has brought it meanwhile.
            None => (Known::layer(self, &wanted.diff_id)?, Compression::None),
        };
        let object = || format!("the layer of {}", wanted.blob.digest);
        let row = row.ok_or_else(|| LoadError::Missing { object: object() })?;
        if row.diff_id != wanted.diff_id {
            let (expected, actual) = (wanted.diff_id, row.diff_id);
            return Err(LoadError::Mismatch { object: object(), expected, actual }.into());
        }
        keep(row, compression)
    }
}

impl Fetch {
    /// For people.
    fn shown(&self) -> String {
        self.name.as_ref().map_or_else(|| self.target.digest.to_string(), Reference::familiar)
    }
}

/// Refuses what has no image's configuration, before anything of it comes.
fn is_image(wanted: &Fetch, manifest: &Manifest) -> Result<(), LoadError> {
    let config = &manifest.config.media_type;
    if media::kind(config) == Some(media::Kind::Config) {
        return Ok(());
    }
    let kind = manifest.artifact_type.as_ref().unwrap_or(config).clone();
    Err(LoadError::Artifact { image: wanted.shown(), kind })
}

/// The layout that a fetch amounts to: the target, with its name if it has one.
fn layout(wanted: &Fetch) -> Result<Content, LoadError> {
    let mut target = wanted.target.clone();
    target.annotations = wanted.name.as_ref().map(|name| [(NAME.to_owned(), name.to_string())].into());
    // It stands alone, so it is nobody's other platform.
    target.platform = None;
    let index = Index { schema_version: 2, media_type: None, manifests: vec![target], annotations: None };
    let object = || "index.json".to_owned();
    let bytes = serde_json::to_vec(&index).map_err(|source| LoadError::Json { object: object(), source })?;
    Ok(document(bytes))
}

fn document(bytes: Vec<u8>) -> Content {
    let digest = Digest::of(&bytes);
    Content::Bytes { bytes: bytes.into(), digest }
}

fn path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// One fetch under way.
#[derive(Clone, Copy)]
struct Job<'a, 's> {
    store: &'s Store,
    session: &'a Session<'s>,
    source: &'a dyn Source,
    watch: Watch<'a>,
    /// Something failed: what else is under way isn't wanted any more.
    stop: &'a AtomicBool,
    /// Held until the database knows what was brought.
    claims: &'a Mutex<Vec<Claim<'s>>>,
}

impl Job<'_, '_> {
    /// The image manifest that is wanted, below a descriptor; the documents on the way to it are taken. And what the index that has it
    /// has beside it of what is said of it.
    fn manifest(
        &self,
        wanted: &Fetch,
        descriptor: &Descriptor,
        taken: &mut Taken,
        depth: usize,
    ) -> Result<(Manifest, Vec<Descriptor>), LoadError> {
        if depth > DEPTH_MAX {
            return Err(LoadError::Nesting(descriptor.digest));
        }
        let bytes = self.document(descriptor, taken, |descriptor| self.source.manifest(descriptor))?;
        match Document::parse(&bytes, &descriptor.media_type)? {
            Document::Manifest(manifest) => Ok((*manifest, Vec::new())),
            Document::Index(index) => {
                let platform = wanted.platform.clone().unwrap_or_else(Platform::host);
                let chosen = index.choose(&platform).ok_or_else(|| LoadError::NoPlatform {
                    image: wanted.shown(),
                    platform: Box::new(platform),
                })?;
                let (manifest, mut said) = self.manifest(wanted, chosen, taken, depth + 1)?;
                let is_said = |other: &&Descriptor| other.attestation_subject() == Some(chosen.digest);
                said.extend(index.manifests.iter().filter(is_said).cloned());
                Ok((manifest, said))
            }
        }
    }

    /// A document of the store or, failing that, of the source.
    fn document(
        &self,
        descriptor: &Descriptor,
        taken: &mut Taken,
        get: impl FnOnce(&Descriptor) -> io::Result<Vec<u8>>,
    ) -> Result<Vec<u8>, LoadError> {
        if let Some(row) = Known::document(self.store, &descriptor.digest)? {
            return Ok(row.bytes);
        }
        let max = self.store.limits.document_bytes_max;
        if descriptor.size > max {
            return Err(LoadError::Limit { what: "bytes in a manifest or configuration", max });
        }
        let object = || descriptor.digest.to_string();
        let bytes = get(descriptor).map_err(|source| LoadError::Fetch { object: object(), source })?;
        let (expected, actual) = (descriptor.size, bytes.len() as u64);
        if actual != expected {
            return Err(LoadError::Size { object: object(), expected, actual });
        }
        let (expected, actual) = (descriptor.digest, Digest::of(&bytes));
        if actual != expected {
            return Err(LoadError::Mismatch { object: object(), expected, actual });
        }
        taken.contents.insert(path(&actual), document(bytes.clone()));
        Ok(bytes)
    }

    /// Takes the configuration and all layers of a manifest, and what is said of it.
    fn layers(&self, manifest: &Manifest, said: &[Descriptor], taken: &mut Taken) -> Result<(), LoadError> {
        let mut seen = HashSet::new();
        let mut missing = VecDeque::new();
        for descriptor in manifest.layers.iter().filter(|layer| seen.insert(layer.digest)) {
            if self.is_known(descriptor)? {
                (self.watch)(descriptor, Stage::Known);
            } else {
                (self.watch)(descriptor, Stage::Wanted);
                missing.push_back(descriptor);
            }
        }
        // The largest first: nobody waits for it alone at the end.
        missing.make_contiguous().sort_by_key(|descriptor| std::cmp::Reverse(descriptor.size));
        let queue = Mutex::new(missing);
        let workers = WORKERS_MAX.min(queue.lock().unwrap_or_else(PoisonError::into_inner).len());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let work = || -> Result<Vec<TakenLayer>, LoadError> {
            let mut brought = Vec::new();
            while let Some(descriptor) = next() {
                match self.layer(descriptor) {
                    Ok(layer) => brought.extend(layer),
                    Err(error) => {
                        self.stop.store(true, Ordering::Relaxed);
                        return Err(error);
                    }
                }
                (self.watch)(descriptor, Stage::Unpacked);
            }
            Ok(brought)
        };
        thread::scope(|scope| {
            let spawn = |_| thread::Builder::new().name("layer".to_owned()).spawn_scoped(scope, work);
            let workers: Vec<_> =
                (0..workers).map(spawn).collect::<Result<_, _>>().map_err(LoadError::Thread)?;
            let config = self.configuration(&manifest.config, taken);
            match &config {
                Ok(()) => self.attestations(said, taken),
                Err(_) => self.stop.store(true, Ordering::Relaxed),
            }
            let mut failure = config.err();
            for worker in workers {
                match pipeline::join(worker) {
                    Ok(brought) => taken
                        .contents
                        .extend(brought.into_iter().map(|layer| (path(&layer.blob), Content::Layer(layer)))),
                    // What was told to stop has nothing to tell.
                    Err(LoadError::Stopped) => {}
                    Err(error) => failure = failure.take().or(Some(error)),
                }
            }
            failure.map_or(Ok(()), Err)
        })
    }

    fn configuration(&self, descriptor: &Descriptor, taken: &mut Taken) -> Result<(), LoadError> {
        self.document(descriptor, taken, |descriptor| self.small_blob(descriptor)).map(drop)
    }

    fn small_blob(&self, descriptor: &Descriptor) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(usize::try_from(descriptor.size).unwrap_or_default());
        self.source.blob(descriptor, 0)?.take(descriptor.size + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Takes what is said of an image, each attestation whole or not at all. One that can't be had is no reason to be without the image.
    fn attestations(&self, said: &[Descriptor], taken: &mut Taken) {
        let mut bytes_left = STATEMENTS_BYTES_MAX;
        for descriptor in said.iter().take(ATTESTATIONS_MAX) {
            match self.attestation(descriptor, &mut bytes_left) {
                Ok(found) => taken.contents.extend(found.contents),
                Err(error) => {
                    tracing::warn!(attestation = %descriptor.digest, %error, "what is said of an image is not fetched");
                }
            }
        }
    }

    fn attestation(&self, descriptor: &Descriptor, bytes_left: &mut u64) -> Result<Taken, LoadError> {
        let mut found = Taken::default();
        let bytes = self.document(descriptor, &mut found, |descriptor| self.source.manifest(descriptor))?;
        let Document::Manifest(manifest) = Document::parse(&bytes, &descriptor.media_type)? else {
            let (object, media_type) = (descriptor.digest.to_string(), descriptor.media_type.clone());
            return Err(LoadError::MediaType { object, media_type });
        };
        for part in manifest.layers.iter().chain([&manifest.config]) {
            *bytes_left = bytes_left.checked_sub(part.size).ok_or(LoadError::Limit {
                what: "bytes of statements about an image",
                max: STATEMENTS_BYTES_MAX,
            })?;
            let bytes = self.document(part, &mut found, |part| self.small_blob(part))?;
            // Also what is here already: this image keeps it, too.
            found.contents.insert(path(&part.digest), document(bytes));
        }
        Ok(found)
    }

    /// Whether the store has a layer, and its blob if it has one.
    fn is_known(&self, descriptor: &Descriptor) -> Result<bool, LoadError> {
        if Known::layer(self.store, &descriptor.digest)?.is_some() {
            return Ok(true);
        }
        let diff_id = Known::blob(self.store, &descriptor.digest)?.and_then(|row| row.diff_id);
        Ok(match diff_id {
            Some(diff_id) => Known::layer(self.store, &diff_id)?.is_some(),
            None => false,
        })
    }

    /// Brings one layer, or waits for whoever is bringing it; none when the store has it by then.
    fn layer(&self, descriptor: &Descriptor) -> Result<Option<TakenLayer>, LoadError> {
        let mut claim = match self.store.arrivals.claim(descriptor.digest) {
            Ok(claim) => claim,
            Err(brought) => return Ok(Some(brought)),
        };
        if self.is_known(descriptor)? {
            return Ok(None);
        }
        let brought = self.bring(descriptor)?;
        claim.brought(brought.clone());
        self.claims.lock().unwrap_or_else(PoisonError::into_inner).push(claim);
        Ok(Some(brought))
    }

    fn bring(&self, descriptor: &Descriptor) -> Result<TakenLayer, LoadError> {
        let digest = descriptor.digest;
        if Known::blob(self.store, &digest)?.is_some_and(|row| row.stored) {
            // Another platform's image keeps it as it came.
            let kept = self.store.blobs.reader(&digest)?;
            let mut layer = self.unpack(descriptor, Box::new(kept), self.store.blobs.create()?)?;
            layer.staged = None;
            return Ok(layer);
        }
        let mut blob = self.store.blobs.resume(&digest)?;
        if blob.kept_bytes() > descriptor.size {
            blob.restart()?;
        }
        let kept_bytes = blob.kept_bytes();
        match self.unpack(descriptor, self.open(descriptor, kept_bytes)?, blob) {
            // What was kept may have suffered; the source is asked for all of it, or another one is.
            Err(LoadError::Mismatch { .. }) if kept_bytes > 0 || self.source.distrust(descriptor) => {
                let blob = self.store.blobs.resume(&digest)?;
                self.unpack(descriptor, self.open(descriptor, 0)?, blob)
            }
            ended => ended,
        }
    }

    fn open(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>, LoadError> {
        if offset == descriptor.size {
            return Ok(Box::new(io::empty()));
        }
        let object = || descriptor.digest.to_string();
        self.source.blob(descriptor, offset).map_err(|source| LoadError::Fetch { object: object(), source })
    }

    /// Keeps and unpacks a layer whose bytes come from `blob`, then from `input`.
    fn unpack(
        &self,
        descriptor: &Descriptor,
        input: Box<dyn Read + Send>,
        blob: BlobWriter,
    ) -> Result<TakenLayer, LoadError> {
        let object = descriptor.digest.to_string();
        let (stop, received) = (self.stop, blob.kept_bytes());
        let mut input = Arriving { input, descriptor, received, watch: self.watch, stop, failure: None };
        let mut head = vec![0; tar::BLOCK];
        let kept = blob.kept_head(&mut head)?;
        let fetched = match kept {
            0 => {
                head.clear();
                (&mut input)
                    .take(tar::BLOCK as u64)
                    .read_to_end(&mut head)
                    .map_err(|e| read_error(&object, e))?;
                head.clone()
            }
            kept => {
                head.truncate(kept);
                Vec::new()
            }
        };
        let whole = io::Cursor::new(fetched).chain(input);
        let limits = self.store.limits.layer;
        if looks_like_tar(&head) && kept == 0 {
            blob.forget();
            return self.plain(
                descriptor,
                whole,
                ImportOptions { limits, expected: Some(descriptor.digest) },
            );
        }
        let compression = Compression::detect(&head)?;
        if compression == Compression::None {
            blob.forget();
            let reason = "it is neither a tar archive nor compressed with gzip or zstd".to_owned();
            return Err(LoadError::NotALayer { object, reason });
        }
        let options = ImportOptions { limits: limits.of_compressed(descriptor.size), expected: None };
        let incoming = Incoming::new(whole, blob);
        let Unpacked { blob: staged, layer } =
            pipeline::unpack(&object, incoming, compression, self.store, self.session, &options)
                .map_err(|error| as_fetched(&object, error))?;
        if staged.digest != descriptor.digest {
            staged.forget();
            let (expected, actual) = (descriptor.digest, staged.digest);
            return Err(LoadError::Mismatch { object, expected, actual });
        }
        let layer = layer.inspect_err(|_| staged.forget())?;
        let (blob, blob_bytes) = (staged.digest, staged.size);
        let staged = Some(Arc::new(staged));
        Ok(TakenLayer { blob, blob_bytes, compression, staged, layer: layer_row(&layer) })
    }

    fn plain(
        &self,
        descriptor: &Descriptor,
        mut input: impl Read + Send,
        options: ImportOptions,
    ) -> Result<TakenLayer, LoadError> {
        let object = descriptor.digest.to_string();
        let layer = self.store.layers.import(&mut input, &options, &|_| {}).map_err(|error| match error {
            LayerError::Tar(TarError::Read { source, .. }) => read_error(&object, source),
            LayerError::Digest { expected, actual } => LoadError::Mismatch { object, expected, actual },
            error => LoadError::Layer { object, source: Box::new(error) },
        })?;
        self.session.brought_layer(layer.id);
        let (blob, blob_bytes, compression) = (layer.id, layer.tar_bytes, Compression::None);
        Ok(TakenLayer { blob, blob_bytes, compression, staged: None, layer: layer_row(&layer) })
    }
}

fn read_error(object: &str, error: io::Error) -> LoadError {
    match error.get_ref() {
        Some(inner) if inner.is::<Stopped>() => LoadError::Stopped,
        _ => LoadError::Fetch { object: object.to_owned(), source: error },
    }
}

/// What failed in the pipeline, told as a failure of the source where it is one.
fn as_fetched(object: &str, error: LoadError) -> LoadError {
    match error {
        LoadError::Read(source) => read_error(object, source),
        error => error,
    }
}

/// Another part of the image failed.
#[derive(Debug, thiserror::Error)]
#[error("given up")]
struct Stopped;

/// A layer's bytes as they come: counted, and no more and no fewer than were promised.
struct Arriving<'a> {
    input: Box<dyn Read + Send>,
    descriptor: &'a Descriptor,
    received: u64,
    watch: Watch<'a>,
    stop: &'a AtomicBool,
    /// Whoever reads again is told again.
    failure: Option<(io::ErrorKind, String)>,
}

impl Read for Arriving<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other(Stopped));
        }
        let left = self.descriptor.size - self.received;
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        if let Some((kind, why)) = &self.failure {
            return Err(io::Error::new(*kind, why.clone()));
        }
        if wanted == 0 {
            return Ok(0);
        }
        let read = match self.input.read(&mut buffer[..wanted]) {
            Ok(0) => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("it ends {left} bytes before its end"),
            )),
            read => read,
        };
        let count = read.inspect_err(|error| self.failure = Some((error.kind(), error.to_string())))?;
        self.received += count as u64;
        (self.watch)(self.descriptor, Stage::Received(self.received));
        if self.received == self.descriptor.size {
            (self.watch)(self.descriptor, Stage::Whole);
        }
        Ok(count)
    }
}
