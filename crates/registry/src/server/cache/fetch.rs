//! Blobs of upstreams: each is fetched once for all who want it. The fetch writes a file that grows, everybody reads from that; it
//! gets its name when its digest has turned out to be right, and its last bytes aren't given out before.
//!
//! A fetch belongs to nobody's request. It goes on when clients leave, and is given up when nobody has waited for it for a while.

use std::collections::HashMap;
use std::fs::File;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::StatusCode;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::task::JoinHandle;

use super::failure::{Failure, Trouble};
use super::growing::Growing;
use super::through::Through;
use super::upstream::{Source, count};
use super::uses::Reading;
use crate::client::Download;
use crate::server::digest::Digest;
use crate::server::name::UploadId;
use crate::server::refusal::{Code, Refusal};
use crate::server::registry::Registry;
use crate::server::storage::{Ingest, StorageError};

/// Bytes that may wait for the disk; the upstream has to wait then.
const HELD_MAX: usize = 1 << 20;
/// How long a fetch goes on that nobody waits for.
const GRACE: Duration = Duration::from_secs(30);
/// How long a client waits until its blob's turn has come.
const TURN: Duration = Duration::from_secs(60);
/// What a fetch leaves of a disk.
const DISK_FREE_MIN: u64 = 16 << 20;
/// For how long a disk that was full is taken for full.
const FULL_FOR: Duration = Duration::from_secs(10);

type Key = (String, Digest);

/// All that are under way.
#[derive(Debug, Default)]
pub struct Fetches {
    running: Mutex<HashMap<Key, Arc<Fetch>>>,
    full_until: Mutex<Option<Instant>>,
    /// Bytes that are still to come of those under way: they have their room already.
    coming: AtomicU64,
}

#[derive(Debug)]
struct Fetch {
    /// Whose it was first.
    repository: String,
    state: watch::Sender<State>,
    readers: watch::Sender<usize>,
}

#[derive(Clone, Debug, Default)]
struct State {
    /// What grows, and how large it will be.
    file: Option<(Arc<File>, u64)>,
    written: u64,
    end: Option<End>,
}

#[derive(Clone, Debug)]
enum End {
    /// All of it is there and right.
    Verified,
    /// There was nothing to be fetched: it is in the storage.
    Stored,
    Failed(Failure),
}

/// Somebody who waits for a blob, or reads it.
#[derive(Debug)]
pub struct Reader {
    fetch: Arc<Fetch>,
    state: watch::Receiver<State>,
}

/// A blob of an upstream for somebody who wants it.
pub enum Content {
    /// In the storage, and stays there until this is dropped.
    Stored { size: u64, reading: Reading },
    /// On its way.
    Growing(Growing),
    /// On its way, and not kept.
    Through(Box<Through>),
}

impl Fetches {
    fn running(&self) -> MutexGuard<'_, HashMap<Key, Arc<Fetch>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_full(&self) -> bool {
        let until = self.full_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| until > Instant::now())
    }

    fn note_full(&self) {
        *self.full_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + FULL_FOR);
    }

    /// The fetch of a blob, which is begun if there is none.
    fn join(&self, registry: &Registry, source: &Source, digest: Digest) -> Reader {
        let key = (source.upstream.name.clone(), digest);
        let mut running = self.running();
        if let Some(fetch) = running.get(&key) {
            return Reader::new(fetch);
        }
        let fetch = Arc::new(Fetch {
            repository: source.repository.to_string(),
            state: watch::Sender::default(),
            readers: watch::Sender::new(0),
        });
        let reader = Reader::new(&fetch);
        running.insert(key.clone(), fetch.clone());
        let ending = Ending { registry: registry.clone(), key, fetch };
        let (registry, source) = (registry.clone(), source.clone());
        tokio::spawn(async move { ending.run(&registry, &source, digest).await });
        reader
    }
}

impl Registry {
    /// A blob of an upstream that is read.
    pub async fn cached_blob(&self, source: &Source, digest: Digest) -> Result<Content, Failure> {
        let reading = self.cache.uses.read(digest);
        if let Some(size) = self.kept_blob(source, digest).await? {
            count(&source.upstream.counts.blob_hits);
            return Ok(Content::Stored { size, reading });
        }
        let mut reader = self.cache.fetches.join(self, source, digest);
        let counts = &source.upstream.counts;
        count(if reader.has_all() { &counts.blob_hits } else { &counts.blob_misses });
        // What another repository of the upstream has needn't be in this one.
        if reader.fetch.repository != source.repository.as_str()
            && self.size_upstream(source, digest).await?.is_none()
        {
            return Err(Failure::Gone);
        }
        match reader.begun().await {
            Ok(Some((file, size))) => {
                if size <= Growing::HELD_BACK {
                    // Nothing of it is given out before it is verified, so it can still be told that it went wrong.
                    reader.ended().await?;
                }
                Ok(Content::Growing(Growing::new(reader, file, size)))
            }
            Ok(None) => match self.kept_blob(source, digest).await? {
                Some(size) => Ok(Content::Stored { size, reading }),
                None => Err(Failure::Gone),
            },
            Err(Failure::Own(refusal)) if refusal.status == StatusCode::INSUFFICIENT_STORAGE => {
                Ok(Content::Through(Box::new(Through::open(source, digest).await?)))
            }
            Err(failure) => Err(failure),
        }
    }

    /// How large a blob of an upstream is.
    pub async fn cached_blob_size(&self, source: &Source, digest: Digest) -> Result<u64, Failure> {
        if let Some(size) = self.kept_blob(source, digest).await? {
            return Ok(size);
        }
        self.size_upstream(source, digest).await?.ok_or(Failure::Gone)
    }

    async fn size_upstream(&self, source: &Source, digest: Digest) -> Result<Option<u64>, Failure> {
        Ok(source.open().await?.blob_size(&super::asked(&digest)?).await?)
    }

    /// The size of a blob that a repository has, bytes and all.
    async fn kept_blob(&self, source: &Source, digest: Digest) -> Result<Option<u64>, Failure> {
        let name = source.repository.to_string();
        let Some(linked) = self.catalogue.blob(name, digest).await? else { return Ok(None) };
        let stored = self.storage.size(digest).await.map_err(Refusal::from)?;
        if stored != Some(linked.size) {
            return Ok(None);
        }
        self.cache.uses.note(source.repository.as_str(), digest);
        Ok(Some(linked.size))
    }
}

/// Waits for a turn to fetch a blob.
pub(super) async fn turn(source: &Source) -> Result<SemaphorePermit<'_>, Failure> {
    let turn = tokio::time::timeout(TURN, source.upstream.blob_turns.acquire()).await;
    turn.ok().and_then(Result::ok).ok_or_else(|| {
        let text = format!("too many blobs of {} are being fetched: try again", source.upstream.name);
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, text).into()
    })
}

/// Sees to it that a fetch has an end, and makes room for the next one, whatever becomes of its task.
struct Ending {
    registry: Registry,
    key: Key,
    fetch: Arc<Fetch>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let mut running = self.registry.cache.fetches.running();
        if running.get(&self.key).is_some_and(|fetch| Arc::ptr_eq(fetch, &self.fetch)) {
            running.remove(&self.key);
        }
        drop(running);
        self.fetch.state.send_if_modified(|state| {
            let is_open = state.end.is_none();
            if is_open {
                state.end = Some(End::Failed(Refusal::internal("a fetch was given up").into()));
            }
            is_open
        });
    }
}

impl Ending {
    async fn run(self, registry: &Registry, source: &Source, digest: Digest) {
        let begun = Instant::now();
        let fetch = &self.fetch;
        source.upstream.counts.fetches.fetch_add(1, Ordering::Relaxed);
        let outcome = get(registry, source, digest, fetch).await;
        source.upstream.counts.fetches.fetch_sub(1, Ordering::Relaxed);
        let (upstream, repository) = (&source.upstream.name, &source.path);
        match outcome {
            Ok(Got::Stored) => fetch.end(End::Stored),
            Ok(Got::Fetched { size, is_kept }) => {
                let took = begun.elapsed();
                tracing::info!(upstream, repository, %digest, size, is_kept, ?took, "blob fetched");
                if is_kept {
                    registry.cache.grew(size);
                } else {
                    // Who comes while somebody reads it needn't fetch it again.
                    fetch.nobody_waits().await;
                }
            }
            Ok(Got::Unwanted) => {
                tracing::info!(upstream, repository, %digest, "nobody waits for the blob: fetch given up");
            }
            Err(failure) => {
                source.note_failure(&digest.to_string(), &failure);
                if let Failure::Own(refusal) = &failure
                    && refusal.status == StatusCode::INSUFFICIENT_STORAGE
                {
                    registry.cache.fetches.note_full();
                }
                fetch.end(End::Failed(failure));
            }
        }
    }
}

/// What became of a fetch.
enum Got {
    Stored,
    Fetched {
        size: u64,
        is_kept: bool,
    },
    /// Nobody waits for it any more.
    Unwanted,
}

async fn get(
    registry: &Registry,
    source: &Source,
    digest: Digest,
    fetch: &Arc<Fetch>,
) -> Result<Got, Failure> {
    let wanted = super::asked(&digest)?;
    // Looked at again, as another fetch may just have ended.
    if registry.kept_blob(source, digest).await?.is_some() {
        return Ok(Got::Stored);
    }
    let _turn = turn(source).await?;
    let repository = source.open().await?;
    let (upstream, name) = (source.upstream.name.clone(), source.repository.to_string());
    // The upstream has given these bytes, and says that they are in this repository, too. No other repository's bytes count: that
    // an upstream names a digest is no proof that it has more than its name.
    if registry.catalogue.is_cached_blob(upstream.clone(), digest).await?
        && registry.storage.size(digest).await.map_err(Refusal::from)?.is_some()
    {
        repository.blob_size(&wanted).await?.ok_or(Failure::Gone)?;
        if registry.catalogue.link_cached_blob(upstream, name, digest).await? {
            return Ok(Got::Stored);
        }
    }
    if registry.cache.fetches.is_full() {
        return Err(Refusal::no_space("it was full a moment ago").into());
    }
    let mut download = repository.open(&wanted).await?;
    let size = download.size();
    let mut coming = has_room(registry, size).await?;
    let id = UploadId::random().map_err(|_| Refusal::internal("no random numbers"))?;
    let is_kept = registry.cache.size().is_some_and(|size_max| size <= size_max);
    let storage = &registry.storage;
    storage.begin(id).await.map_err(Refusal::from)?;
    let received = receive(registry, source, digest, &mut download, id, fetch, &mut coming).await;
    drop(coming);
    let keep = match received {
        Ok(Some(ingest)) if is_kept => registry.keep_fetched(&source.repository, id, ingest, digest).await,
        Ok(Some(_)) => storage.abandon(id).await.map_err(Refusal::from),
        Ok(None) => {
            storage.abandon(id).await.map_err(Refusal::from)?;
            return Ok(Got::Unwanted);
        }
        Err(failure) => {
            storage.abandon(id).await.map_err(Refusal::from)?;
            return Err(failure);
        }
    };
    // Those who wait have got it all.
    let is_kept = keep.map(|()| is_kept).unwrap_or_else(|refusal| {
        source.note_failure(&digest.to_string(), &refusal.into());
        false
    });
    Ok(Got::Fetched { size, is_kept })
}

/// Room for what is still to come of a fetch.
struct Coming<'f> {
    of: &'f AtomicU64,
    bytes: u64,
}

impl Coming<'_> {
    /// So many bytes have taken theirs.
    fn came(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.of.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        self.came(self.bytes);
    }
}

/// Takes room for a blob of that size, if it leaves something of the disk.
async fn has_room(registry: &Registry, size: u64) -> Result<Coming<'_>, Failure> {
    let of = &registry.cache.fetches.coming;
    let others = of.fetch_add(size, Ordering::Relaxed);
    let coming = Coming { of, bytes: size };
    let data = registry.settings().data.clone();
    let free = tokio::task::spawn_blocking(move || {
        rustix::fs::statvfs(&data).map(|of| of.f_bavail.saturating_mul(of.f_frsize))
    });
    match free.await.map_err(Refusal::internal)? {
        Ok(free) if free < size.saturating_add(others).saturating_add(DISK_FREE_MIN) => {
            Err(Refusal::no_space(format!("{free} bytes are free, the blob has {size}")).into())
        }
        // Who doesn't know finds out by writing.
        _ => Ok(coming),
    }
}

/// Takes the bytes in while others read them. Whole and right when this returns; none when nobody wants them.
async fn receive(
    registry: &Registry,
    source: &Source,
    digest: Digest,
    download: &mut Download,
    id: UploadId,
    fetch: &Arc<Fetch>,
    coming: &mut Coming<'_>,
) -> Result<Option<Ingest>, Failure> {
    // One writer there is: this.
    let turn = Arc::new(Semaphore::new(1)).try_acquire_owned().map_err(Refusal::internal)?;
    let ingest = registry.storage.resume(id, digest.algorithm(), Arc::default(), Arc::new(turn)).await;
    let ingest = ingest.map_err(Refusal::from)?;
    let file = ingest.reader();
    fetch.state.send_modify(|state| state.file = Some((file, download.size())));
    let mut unwanted = pin!(fetch.abandoned(&registry.cache.fetches, (source.upstream.name.clone(), digest)));
    let mut sink = Sink { ingest: &ingest, batch: Vec::new(), held: 0, writing: None };
    loop {
        let mut next = pin!(download.chunk());
        let chunk = loop {
            tokio::select! {
                chunk = &mut next, if sink.held < HELD_MAX => break chunk?,
                written = sink.written() => {
                    written?;
                    fetch.grown(ingest.offset());
                }
                () = &mut unwanted => return Ok(None),
            }
        };
        let Some(bytes) = chunk else { break };
        source.upstream.counts.fetched_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        coming.came(bytes.len() as u64);
        sink.take(bytes);
    }
    while sink.writing.is_some() {
        sink.written().await?;
        fetch.grown(ingest.offset());
    }
    let found = ingest.digest(digest.algorithm()).await.map_err(Refusal::from)?;
    if found != digest {
        download.distrust();
        let why = format!("the bytes that it gives for {digest} are {found}");
        return Err(Failure::Trouble(Trouble::new(StatusCode::BAD_GATEWAY, why)));
    }
    fetch.end(End::Verified);
    Ok(Some(ingest))
}

/// What has come and is on its way to the disk.
struct Sink<'i> {
    ingest: &'i Ingest,
    batch: Vec<Bytes>,
    held: usize,
    writing: Option<JoinHandle<Result<(), StorageError>>>,
}

impl Sink<'_> {
    /// One write at a time; what comes meanwhile is the next one.
    fn take(&mut self, bytes: Bytes) {
        self.held += bytes.len();
        self.batch.push(bytes);
        self.begin();
    }

    fn begin(&mut self) {
        if self.writing.is_none() && !self.batch.is_empty() {
            self.writing = Some(self.ingest.write(std::mem::take(&mut self.batch)));
            self.held = 0;
        }
    }

    /// Waits for the write that is under way, and begins the next one. For ever, where there is none.
    async fn written(&mut self) -> Result<(), Refusal> {
        let Some(writing) = &mut self.writing else { return std::future::pending().await };
        let written = writing.await;
        self.writing = None;
        written.map_err(Refusal::internal)??;
        self.begin();
        Ok(())
    }
}

impl Fetch {
    fn grown(&self, written: u64) {
        self.state.send_modify(|state| state.written = written);
    }

    fn end(&self, end: End) {
        self.state.send_modify(|state| state.end = Some(end));
    }

    async fn nobody_waits(&self) {
        // The sender is our own.
        let _ = self.readers.subscribe().wait_for(|readers| *readers == 0).await;
    }

    /// Returns when nobody has waited for a while; then nobody can join any more either.
    async fn abandoned(self: &Arc<Self>, fetches: &Fetches, key: Key) {
        let mut readers = self.readers.subscribe();
        loop {
            self.nobody_waits().await;
            if tokio::time::timeout(GRACE, readers.wait_for(|readers| *readers > 0)).await.is_ok() {
                continue;
            }
            // Under the lock that who joins takes, too.
            let mut running = fetches.running();
            if *self.readers.borrow() == 0 {
                running.remove(&key);
                return;
            }
        }
    }
}

impl Reader {
    fn new(fetch: &Arc<Fetch>) -> Self {
        fetch.readers.send_modify(|readers| *readers += 1);
        Self { fetch: fetch.clone(), state: fetch.state.subscribe() }
    }

    /// Whether nothing more has to come, though it may have no name yet.
    fn has_all(&self) -> bool {
        matches!(self.state.borrow().end, Some(End::Verified | End::Stored))
    }

    /// Waits until it is known what comes; none when it is in the storage.
    async fn begun(&mut self) -> Result<Option<(Arc<File>, u64)>, Failure> {
        let begun = self.state.wait_for(|state| state.file.is_some() || state.end.is_some()).await;
        let state = begun.map_err(Refusal::internal)?;
        match (&state.end, &state.file) {
            (Some(End::Failed(failure)), _) => Err(failure.clone()),
            (_, Some((file, size))) => Ok(Some((file.clone(), *size))),
            _ => Ok(None),
        }
    }

    /// Waits until it is verified.
    async fn ended(&mut self) -> Result<(), Failure> {
        let ended = self.state.wait_for(|state| state.end.is_some()).await;
        match &ended.map_err(Refusal::internal)?.end {
            Some(End::Failed(failure)) => Err(failure.clone()),
            _ => Ok(()),
        }
    }

    /// How many bytes may be given out, but for the last ones, which are held back until they are verified.
    pub fn available(&self, size: u64, held_back: u64) -> Result<u64, Failure> {
        let state = self.state.borrow();
        match &state.end {
            Some(End::Failed(failure)) => Err(failure.clone()),
            Some(_) => Ok(size),
            None => Ok(state.written.min(size.saturating_sub(held_back))),
        }
    }

    /// Waits until there is more.
    pub async fn changed(&mut self) {
        // The sender lives as long as this.
        let _ = self.state.changed().await;
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.fetch.readers.send_modify(|readers| *readers -= 1);
    }
}
