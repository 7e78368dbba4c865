//! The one pass over an archive: every entry is taken as it comes. Small files are kept in memory, layers are
//! imported at once, other blobs go to temporary files. What it all means is decided later, in `plan`.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read};
use std::sync::Arc;
use std::thread::{self, Scope, ScopedJoinHandle};

use super::pipeline::{self, Incoming, Unpacked};
use super::{LoadError, Progress};
use crate::blobs::StagedBlob;
use crate::compression::{Compression, looks_like_tar};
use crate::digest::{Digest, Hasher};
use crate::layer::{ImportOptions, ImportedLayer, LayerError};
use crate::metadata::LayerRow;
use crate::store::{Session, Store, layer_row};
use crate::tar;

/// Layers that are being finished while the next one is read.
const WORKERS_MAX: usize = 3;
/// Enough to tell a tar header.
const HEAD_BYTES: u64 = tar::BLOCK as u64;
/// Progress is reported this often.
const REPORT_BYTES: u64 = 4 << 20;

/// A file of the archive.
#[derive(Debug)]
pub(super) enum Content {
    /// A document, or anything else that is small.
    Bytes {
        bytes: Arc<[u8]>,
        digest: Digest,
    },
    Layer(TakenLayer),
    /// A large blob that is no layer.
    Opaque {
        digest: Digest,
        size: u64,
        staged: Arc<StagedBlob>,
        reason: String,
    },
    /// Looked like a layer and is none. An error if an image wants it.
    Broken {
        error: LoadError,
    },
}

/// A layer that was imported, or that was there.
#[derive(Clone, Debug)]
pub(crate) struct TakenLayer {
    pub blob: Digest,
    pub blob_bytes: u64,
    pub compression: Compression,
    /// The compressed bytes, unless the store has them.
    pub staged: Option<Arc<StagedBlob>>,
    pub layer: LayerRow,
}

/// Everything an archive brought, by path.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub contents: HashMap<String, Content>,
    /// Symbolic and hard links: path to target, both relative to the archive's root.
    pub links: HashMap<String, String>,
}

enum Finished {
    Plain(Result<ImportedLayer, LayerError>),
    Compressed(Compression, Unpacked),
}

type Worker<'scope> = ScopedJoinHandle<'scope, Result<Finished, LoadError>>;

pub(super) struct Intake<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    store: &'env Store,
    session: &'env Session<'env>,
    progress: &'env dyn Fn(Progress),
    workers: VecDeque<(String, Worker<'scope>)>,
    taken: Taken,
    document_bytes: u64,
    entries: u64,
}

impl<'scope, 'env> Intake<'scope, 'env> {
    pub(super) fn new(
        scope: &'scope Scope<'scope, 'env>,
        store: &'env Store,
        session: &'env Session<'env>,
        progress: &'env dyn Fn(Progress),
    ) -> Intake<'scope, 'env> {
        let (workers, taken) = (VecDeque::new(), Taken::default());
        Intake { scope, store, session, progress, workers, taken, document_bytes: 0, entries: 0 }
    }

    /// Takes all entries of a tar archive.
    pub(super) fn archive(&mut self, input: impl Read) -> Result<(), LoadError> {
        let mut reader = tar::Reader::new(input);
        while let Some(entry) = reader.next_entry()? {
            let Some(path) = normalise(&entry.path, "") else { continue };
            match entry.kind {
                tar::Kind::File => {
                    let size = entry.stored_bytes;
                    self.file(path, size, &mut reader)?;
                }
                // A symbolic link is relative to its own directory, a hard link to the archive's root.
                tar::Kind::Symlink => {
                    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned();
                    self.link(path, normalise(&entry.link, &parent))?;
                }
                tar::Kind::HardLink => self.link(path, normalise(&entry.link, ""))?,
                _ => {}
            }
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), LoadError> {
        self.entries += 1;
        let max = self.store.limits.entries_max;
        if self.entries > max { Err(LoadError::Limit { what: "files", max }) } else { Ok(()) }
    }

    fn link(&mut self, path: String, target: Option<String>) -> Result<(), LoadError> {
        self.count()?;
        // A target outside of the archive resolves to nothing, which is an error if an image wants it.
        self.taken.links.insert(path, target.unwrap_or_default());
        Ok(())
    }

    /// Takes one file of `size` bytes.
    pub(super) fn file(&mut self, path: String, size: u64, data: &mut dyn Read) -> Result<(), LoadError> {
        self.count()?;
        self.reap(WORKERS_MAX)?;
        let mut head = Vec::with_capacity(HEAD_BYTES as usize);
        data.take(HEAD_BYTES.min(size)).read_to_end(&mut head).map_err(LoadError::Read)?;
        let mut whole = Exact { path: &path, left: size, input: io::Cursor::new(&head).chain(data) };
        if looks_like_tar(&head) {
            return self.plain_layer(&path, size, &mut whole);
        }
        let compression = Compression::detect(&head).unwrap_or(Compression::None);
        if compression != Compression::None {
            return self.compressed_layer(&path, size, compression, &mut whole);
        }
        if size <= self.store.limits.document_bytes_max {
            return self.document(&path, size, &mut whole);
        }
        self.opaque(&path, size, &mut whole)
    }

    fn document(&mut self, path: &str, size: u64, data: &mut dyn Read) -> Result<(), LoadError> {
        self.document_bytes += size;
        let max = self.store.limits.documents_bytes_max;
        if self.document_bytes > max {
            return Err(LoadError::Limit { what: "bytes of manifests and configurations", max });
        }
        let mut bytes = Vec::with_capacity(size as usize);
        data.read_to_end(&mut bytes).map_err(|error| read_error(path, error))?;
        let digest = Digest::of(&bytes);
        self.insert(path.to_owned(), digest, Content::Bytes { bytes: bytes.into(), digest })
    }

    fn opaque(&mut self, path: &str, size: u64, data: &mut dyn Read) -> Result<(), LoadError> {
        if named_digest(path).is_none() {
            // No manifest can mean it: documents are small, layers are tar archives.
            let reason = "it is neither a tar archive nor a document".to_owned();
            let error = LoadError::NotALayer { object: path.to_owned(), reason };
            io::copy(data, &mut io::sink()).map_err(|error| read_error(path, error))?;
            self.taken.contents.insert(path.to_owned(), Content::Broken { error });
            return Ok(());
        }
        let mut blob = self.store.blobs.create()?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            match data.read(&mut buffer).map_err(|error| read_error(path, error))? {
                0 => break,
                count => blob.write(&buffer[..count])?,
            }
        }
        let staged = Arc::new(blob.finish());
        let digest = staged.digest;
        let reason = "it is not a tar archive".to_owned();
        self.insert(path.to_owned(), digest, Content::Opaque { digest, size, staged, reason })
    }

    fn plain_layer(&mut self, path: &str, size: u64, data: &mut dyn Read) -> Result<(), LoadError> {
        let hint = named_digest(path).or_else(|| Digest::from_hex(path.strip_suffix(".tar")?));
        if let Some(diff_id) = hint
            && let Some(layer) = self.known_layer(&diff_id)?
        {
            let actual = self.hash(path, size, data)?;
            if actual != diff_id {
                return Err(LoadError::BlobDigest { path: path.to_owned(), actual });
            }
            let compression = Compression::None;
            let taken = TakenLayer { blob: actual, blob_bytes: size, compression, staged: None, layer };
            return self.insert(path.to_owned(), actual, Content::Layer(taken));
        }
        let (feed, mut pipe) = pipeline::pipe();
        let options = ImportOptions { limits: self.store.limits.layer, expected: None };
        let (store, session) = (self.store, self.session);
        let work = move || {
            let imported = store.layers.import(&mut pipe, &options, &|_| {});
            if let Ok(layer) = &imported {
                session.brought_layer(layer.id);
            }
            Ok(Finished::Plain(imported))
        };
        self.work(path, size, data, feed, work)
    }

    fn compressed_layer(
        &mut self,
        path: &str,
        size: u64,
        compression: Compression,
        data: &mut dyn Read,
    ) -> Result<(), LoadError> {
        if let Some(digest) = named_digest(path) {
            let row = self.store.writer().blob(&digest)?;
            let diff_id = row.filter(|row| row.stored).and_then(|row| row.diff_id);
            if let Some(diff_id) = diff_id
                && let Some(layer) = self.known_layer(&diff_id)?
            {
                let actual = self.hash(path, size, data)?;
                let taken = TakenLayer { blob: actual, blob_bytes: size, compression, staged: None, layer };
                return self.insert(path.to_owned(), actual, Content::Layer(taken));
            }
        }
        let (feed, pipe) = pipeline::pipe();
        let limits = self.store.limits.layer.of_compressed(size);
        let options = ImportOptions { limits, expected: None };
        let (store, session) = (self.store, self.session);
        let object = path.to_owned();
        let work = move || {
            let incoming = Incoming::new(pipe, store.blobs.create()?);
            let unpacked = pipeline::unpack(&object, incoming, compression, store, session, &options)?;
            Ok(Finished::Compressed(compression, unpacked))
        };
        self.work(path, size, data, feed, work)
    }

    fn known_layer(&self, diff_id: &Digest) -> Result<Option<LayerRow>, LoadError> {
        let row = self.store.writer().layer(diff_id)?;
        Ok(row.filter(|_| self.store.layers.contains(diff_id)))
    }

    /// Starts a layer's worker and feeds it.
    fn work(
        &mut self,
        path: &str,
        size: u64,
        data: &mut dyn Read,
        mut feed: pipeline::Feed,
        work: impl FnOnce() -> Result<Finished, LoadError> + Send + 'scope,
    ) -> Result<(), LoadError> {
        let worker = thread::Builder::new()
            .name("layer".to_owned())
            .spawn_scoped(self.scope, work)
            .map_err(LoadError::Thread)?;
        self.workers.push_back((path.to_owned(), worker));
        let mut report = Report::new(self.progress, path, size);
        loop {
            match feed.fill(data, u64::MAX).map_err(|error| read_error(path, error))? {
                0 => break,
                count => report.add(count as u64),
            }
        }
        feed.finish();
        report.finish();
        Ok(())
    }

    fn hash(&self, path: &str, size: u64, data: &mut dyn Read) -> Result<Digest, LoadError> {
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; 256 << 10];
        let mut report = Report::new(self.progress, path, size);
        loop {
            match data.read(&mut buffer).map_err(|error| read_error(path, error))? {
                0 => break,
                count => {
                    hasher.update(&buffer[..count]);
                    report.add(count as u64);
                }
            }
        }
        report.finish();
        Ok(hasher.finish())
    }

    /// Takes the results of workers that have ended, and waits until fewer than `workers_max` are left.
    fn reap(&mut self, workers_max: usize) -> Result<(), LoadError> {
        while self.workers.len() >= workers_max.max(1)
            || self.workers.front().is_some_and(|(_, worker)| worker.is_finished())
        {
            let Some((path, worker)) = self.workers.pop_front() else { break };
            match pipeline::join(worker)? {
                Finished::Plain(Ok(layer)) => {
                    let row = layer_row(&layer);
                    let compression = Compression::None;
                    let taken = TakenLayer {
                        blob: layer.id,
                        blob_bytes: layer.tar_bytes,
                        compression,
                        staged: None,
                        layer: row,
                    };
                    self.insert(path, layer.id, Content::Layer(taken))?;
                }
                Finished::Plain(Err(source)) => self.broken(path, source)?,
                Finished::Compressed(compression, Unpacked { blob, layer }) => {
                    self.compressed(path, compression, blob, layer)?;
                }
            }
        }
        Ok(())
    }

    fn compressed(
        &mut self,
        path: String,
        compression: Compression,
        staged: StagedBlob,
        layer: Result<ImportedLayer, LoadError>,
    ) -> Result<(), LoadError> {
        let (digest, size) = (staged.digest, staged.size);
        let staged = Arc::new(staged);
        match layer {
            Ok(layer) => {
                let layer = layer_row(&layer);
                let (blob, blob_bytes) = (digest, size);
                let taken = TakenLayer { blob, blob_bytes, compression, staged: Some(staged), layer };
                self.insert(path, digest, Content::Layer(taken))
            }
            Err(LoadError::Layer { source, object }) if !pipeline::is_format(&source) => {
                self.check_name(&path, digest)?;
                Err(LoadError::Layer { source, object })
            }
            Err(error) => {
                let reason = match &error {
                    LoadError::Layer { source, .. } => source.to_string(),
                    LoadError::NotALayer { reason, .. } => reason.clone(),
                    other => other.to_string(),
                };
                self.insert(path, digest, Content::Opaque { digest, size, staged, reason })
            }
        }
    }

    fn broken(&mut self, path: String, source: LayerError) -> Result<(), LoadError> {
        let fatal = !pipeline::is_format(&source);
        let error = LoadError::Layer { object: path.clone(), source: Box::new(source) };
        if fatal {
            return Err(error);
        }
        self.taken.contents.insert(path, Content::Broken { error });
        Ok(())
    }

    fn check_name(&self, path: &str, actual: Digest) -> Result<(), LoadError> {
        match named_digest(path) {
            Some(named) if named != actual => Err(LoadError::BlobDigest { path: path.to_owned(), actual }),
            _ => Ok(()),
        }
    }

    fn insert(&mut self, path: String, digest: Digest, content: Content) -> Result<(), LoadError> {
        self.check_name(&path, digest)?;
        if let Some(earlier) = self.taken.contents.get(&path)
            && earlier.digest() != Some(digest)
        {
            return Err(LoadError::Duplicate { path });
        }
        self.taken.contents.insert(path, content);
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Taken, LoadError> {
        while !self.workers.is_empty() {
            self.reap(1)?;
        }
        Ok(self.taken)
    }
}

impl Content {
    pub(super) fn digest(&self) -> Option<Digest> {
        match self {
            Content::Bytes { digest, .. } | Content::Opaque { digest, .. } => Some(*digest),
            Content::Layer(layer) => Some(layer.blob),
            Content::Broken { .. } => None,
        }
    }
}

/// `blobs/sha256/<hex>`: the name is a promise.
fn named_digest(path: &str) -> Option<Digest> {
    Digest::from_hex(path.strip_prefix("blobs/sha256/")?)
}

/// The path within the archive without `.`, `..` and leading slashes; `None` if it leaves the archive or is no
/// text.
fn normalise(path: &[u8], base: &str) -> Option<String> {
    let path = std::str::from_utf8(path).ok()?;
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = if absolute { Vec::new() } else { base.split('/').collect() };
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    parts.retain(|part| !part.is_empty());
    if parts.is_empty() { None } else { Some(parts.join("/")) }
}

fn read_error(path: &str, error: io::Error) -> LoadError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Short>()) {
        Some(Short(missing_bytes)) => {
            LoadError::Truncated { path: path.to_owned(), missing_bytes: *missing_bytes }
        }
        None => LoadError::Read(error),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0} bytes are missing")]
struct Short(u64);

/// Exactly the bytes of one file: an earlier end is an error.
struct Exact<'a, R> {
    path: &'a str,
    left: u64,
    input: R,
}

impl<R: Read> Read for Exact<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let count = match self.input.read(&mut buffer[..want]) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            other => other?,
        };
        if count == 0 {
            tracing::debug!(path = self.path, missing = self.left, "the archive ends within a file");
            return Err(io::Error::new(io::ErrorKind::InvalidData, Short(self.left)));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// Counts a file's bytes and reports now and then.
struct Report<'a> {
    progress: &'a dyn Fn(Progress),
    state: Progress,
    reported_bytes: u64,
}

impl<'a> Report<'a> {
    fn new(progress: &'a dyn Fn(Progress), path: &str, total_bytes: u64) -> Report<'a> {
        let object = named_digest(path).map_or_else(|| path.to_owned(), |digest| digest.short());
        Report { progress, state: Progress { object, current_bytes: 0, total_bytes }, reported_bytes: 0 }
    }

    fn add(&mut self, bytes: u64) {
        self.state.current_bytes += bytes;
        if self.state.current_bytes - self.reported_bytes >= REPORT_BYTES {
            self.finish();
        }
    }

    fn finish(&mut self) {
        if self.reported_bytes < self.state.current_bytes {
            self.reported_bytes = self.state.current_bytes;
            (self.progress)(self.state.clone());
        }
    }
}
