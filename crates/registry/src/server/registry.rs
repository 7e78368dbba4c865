//! The registry itself: storage and catalogue, and what has to be done with both at once.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::StatusCode;
use serde_json::json;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

use super::cache::Cache;
use super::catalogue::Catalogue;
use super::digest::Digest;
use super::gate::Gate;
use super::live::{Current, Live};
use super::metrics::Metrics;
use super::name::{RepositoryName, UploadId};
use super::pulls::Pulls;
use super::quota::Ledger;
use super::refusal::{Code, Refusal};
use super::settings::Settings;
use super::storage::{Ingest, Storage, StorageError};
use super::uploads::{Upload, Uploads};
use super::web::Memory;

/// What requests work with. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Parts>);

#[derive(Debug)]
pub struct Parts {
    pub storage: Storage,
    pub catalogue: Catalogue,
    pub uploads: Uploads,
    pub pulls: Pulls,
    pub metrics: Metrics,
    pub cache: Cache,
    pub web: Memory,
    current: Current,
    /// Changes when webhooks have something to be told.
    pub notices: watch::Sender<()>,
    digests: Arc<Digests>,
    manifest_room: Arc<Semaphore>,
}

/// Memory for manifests on their way in or out, in KiB. Each may take 4 MiB.
const MANIFESTS_KIB: usize = 64 << 10;
/// How long a manifest waits for that.
const MANIFEST_TURN: Duration = Duration::from_secs(60);

impl std::ops::Deref for Registry {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Registry {
    /// Opens what lies in a directory that is ours alone.
    pub async fn open(directory: &Path, gate: Gate, settings: Settings) -> Result<Registry, Refusal> {
        let storage = Storage::open(directory, settings.s3.as_ref())?;
        let path = directory.join("registry.db");
        let catalogue = tokio::task::spawn_blocking(move || Catalogue::open(&path)).await;
        let catalogue = catalogue.map_err(Refusal::internal)??;
        own(&storage, &catalogue, &settings).await?;
        let uploads = Uploads::open(storage.clone(), catalogue.clone()).await?;
        if !settings.quotas.is_empty() {
            catalogue.set_quotas(Arc::new(Ledger::new(settings.quotas.clone()))).await?;
            uploads.recount();
        }
        let pulls = Pulls::default();
        let digests = Arc::default();
        let manifest_room = Arc::new(Semaphore::new(MANIFESTS_KIB));
        let metrics = Metrics::default();
        let cache = Cache::open(&settings)?;
        let current = Current::new(Live { settings: Arc::new(settings), gate });
        let web = Memory::default();
        Ok(Registry(Arc::new(Parts {
            storage,
            catalogue,
            uploads,
            pulls,
            metrics,
            cache,
            web,
            current,
            notices: watch::channel(()).0,
            digests,
            manifest_room,
        })))
    }

    /// What counts now; whoever needs more than one thing of it takes it once.
    pub fn live(&self) -> Live {
        self.current.live()
    }

    /// The settings as they are now: they may be others a moment later.
    pub fn settings(&self) -> Arc<Settings> {
        self.current.live().settings
    }

    /// Tells when something else counts.
    pub fn subscribe(&self) -> watch::Receiver<Live> {
        self.current.subscribe()
    }

    /// Has those look who tell webhooks.
    pub fn wake_webhooks(&self) {
        self.notices.send_replace(());
    }

    pub fn replace(&self, live: Live) {
        self.current.replace(live);
    }

    /// Waits for the room that so many bytes of a manifest need in memory. It is given back when that is dropped.
    pub async fn manifest_room(&self, bytes: u64) -> Result<OwnedSemaphorePermit, Refusal> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let room = self.manifest_room.clone().acquire_many_owned(kib);
        let room = tokio::time::timeout(MANIFEST_TURN, room).await;
        room.ok().and_then(Result::ok).ok_or_else(|| {
            let text = "too many manifests come at once: try again";
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, text)
        })
    }

    /// Makes an upload the blob of that digest in its repository; on the disk when this returns. An upload that turns out to be
    /// something else is gone.
    pub async fn finish_upload(
        &self,
        repository: &RepositoryName,
        upload: Upload,
        ingest: Ingest,
        digest: Digest,
    ) -> Result<(), Refusal> {
        let found = ingest.digest(digest.algorithm()).await?;
        if found != digest {
            self.uploads.cancel(&upload).await?;
            let text = "provided digest did not match uploaded content";
            let refusal = Refusal::new(StatusCode::BAD_REQUEST, Code::DigestInvalid, text);
            let found = found.to_string();
            return Err(refusal.detail(json!({"digest": digest.to_string(), "uploaded": found})));
        }
        let size = ingest.offset();
        let _lock = self.digests.lock(digest).await;
        // Bytes that somebody has taken away are put back.
        let stored = match self.catalogue.stored_blob(digest).await? {
            Some(size) => self.storage.size(digest).await? == Some(size),
            None => false,
        };
        if !stored {
            let committed = self.storage.commit(ingest, digest).await;
            if committed.as_ref().is_err_and(StorageError::is_no_space) {
                self.uploads.cancel(&upload).await?;
            }
            committed?;
        }
        upload.give_room_back();
        if let Err(error) = self.catalogue.add_blob(repository.to_string(), digest, size, upload.id).await {
            // Most likely there is no room. Nobody was told of the blob, so it needn't take any.
            if matches!(self.catalogue.stored_blob(digest).await, Ok(None)) {
                self.storage.remove(digest).await?;
            }
            self.uploads.cancel(&upload).await?;
            return Err(error.into());
        }
        self.uploads.finished(&upload);
        if stored {
            self.storage.abandon(upload.id).await?;
        }
        Ok(())
    }

    /// Makes what was fetched from an upstream, and has been verified, a blob of that repository; on the disk when this returns. Its
    /// bytes are gone from where they were, in any case.
    pub async fn keep_fetched(
        &self,
        repository: &RepositoryName,
        id: UploadId,
        ingest: Ingest,
        digest: Digest,
    ) -> Result<(), Refusal> {
        let size = ingest.offset();
        let _lock = self.digests.lock(digest).await;
        let kept = async {
            let stored = self.catalogue.stored_blob(digest).await?.is_some()
                && self.storage.size(digest).await? == Some(size);
            if !stored {
                self.storage.commit(ingest, digest).await?;
            }
            Ok::<_, Refusal>(self.catalogue.add_cached_blob(repository.to_string(), digest, size).await?)
        };
        let kept = kept.await;
        if kept.is_err() && matches!(self.catalogue.stored_blob(digest).await, Ok(None)) {
            self.storage.remove(digest).await?;
        }
        self.storage.abandon(id).await?;
        kept
    }

    /// Keeps a digest from being stored and removed at once.
    pub async fn lock(&self, digest: Digest) -> DigestLock {
        self.digests.lock(digest).await
    }

    /// As `lock`; none when somebody has it.
    pub fn try_lock(&self, digest: Digest) -> Option<DigestLock> {
        self.digests.try_lock(digest)
    }
}

/// Sees that catalogue and storage belong together. Where nothing was said yet, they do from now on.
async fn own(storage: &Storage, catalogue: &Catalogue, settings: &Settings) -> Result<(), Refusal> {
    let known = catalogue.object_store().await?;
    let has_blobs = catalogue.totals().await?.1 > 0;
    let mismatch = |text: &str| Err(Refusal::internal(text));
    let id = match (known, &settings.s3) {
        (None, None) => return Ok(()),
        (Some(_), None) => {
            return mismatch("its blobs are in an object store: say in \"storage\" where that is");
        }
        (None, Some(_)) if has_blobs => {
            return mismatch(
                "its blobs are in this directory, and \"storage\" names an object store: see docs/registry-s3.md for \
                             how to move them",
            );
        }
        (Some(id), Some(_)) => id,
        (None, Some(_)) => {
            let id = UploadId::random().map_err(|_| Refusal::internal("no random numbers"))?.to_string();
            catalogue.set_object_store(id.clone()).await?;
            id
        }
    };
    Ok(storage.claim(&id, has_blobs).await?)
}

/// Digests whose bytes are just being put or removed.
#[derive(Debug, Default)]
struct Digests {
    busy: Mutex<HashSet<Digest>>,
    freed: Notify,
}

impl Digests {
    async fn lock(self: &Arc<Self>, digest: Digest) -> DigestLock {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // Before looking, so that what is freed right after isn't missed.
            freed.as_mut().enable();
            if let Some(lock) = self.try_lock(digest) {
                return lock;
            }
            freed.await;
        }
    }

    fn try_lock(self: &Arc<Self>, digest: Digest) -> Option<DigestLock> {
        let is_ours = self.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(digest);
        is_ours.then(|| DigestLock { digests: self.clone(), digest })
    }
}

/// Given back when it is dropped.
#[derive(Debug)]
pub struct DigestLock {
    digests: Arc<Digests>,
    digest: Digest,
}

impl Drop for DigestLock {
    fn drop(&mut self) {
        self.digests.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.digest);
        self.digests.freed.notify_waiters();
    }
}
