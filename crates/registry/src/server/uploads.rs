//! Uploads under way: who goes on with one, how far it is, when it is given up. An upload belongs to one request at a time; what
//! has come is noted outside of requests, so that a broken one costs nothing that had arrived.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::catalogue::Catalogue;
use super::digest::Algorithm;
use super::name::{RepositoryName, UploadId};
use super::quota::{Coming, Exceeded};
use super::refusal::{Code, Refusal};
use super::storage::{Ingest, Progress, Storage, StorageError};

/// How long a request waits for another one of the same upload: as a rule that one's connection has broken and nobody has noticed.
const TURN: Duration = Duration::from_secs(10);
/// Uploads under way at once. More are somebody's mistake, or worse.
const UPLOADS_MAX: usize = 10_000;

#[derive(Debug)]
struct Session {
    repository: String,
    algorithm: Algorithm,
    turn: Arc<Semaphore>,
    progress: Arc<Mutex<Progress>>,
    active: Mutex<Instant>,
    /// What has come of it, for quotas.
    coming: Mutex<Coming>,
}

/// All of them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Uploads {
    sessions: Arc<Mutex<HashMap<UploadId, Arc<Session>>>>,
    storage: Storage,
    catalogue: Catalogue,
}

/// An upload in the hands of one request.
#[derive(Debug)]
pub struct Upload {
    pub id: UploadId,
    pub algorithm: Algorithm,
    session: Arc<Session>,
    turn: Arc<OwnedSemaphorePermit>,
}

impl Uploads {
    /// Takes up what an earlier process was told of; what it wasn't told of goes.
    pub async fn open(storage: Storage, catalogue: Catalogue) -> Result<Uploads, Refusal> {
        let mut sessions = HashMap::new();
        let known = catalogue.uploads().await?;
        for row in &known {
            let Some(offset) = storage.ingested(row.id)? else {
                catalogue.forget_upload(row.id).await?;
                continue;
            };
            let progress = Progress { offset, ..Progress::default() };
            sessions.insert(row.id, Arc::new(Session::new(row.repository.clone(), row.algorithm, progress)));
        }
        for id in storage.uploads()? {
            if !sessions.contains_key(&id) {
                storage.abandon(id).await?;
            }
        }
        Ok(Uploads { sessions: Arc::new(Mutex::new(sessions)), storage, catalogue })
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<UploadId, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins one.
    pub async fn begin(&self, repository: &RepositoryName, algorithm: Algorithm) -> Result<Upload, Refusal> {
        if self.sessions().len() >= UPLOADS_MAX {
            let text = "too many uploads are under way: try again later";
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, text));
        }
        let id = UploadId::random().map_err(|_| Refusal::internal("no random numbers"))?;
        self.storage.begin(id).await?;
        let noted = self.catalogue.add_upload(id, repository.to_string(), algorithm).await;
        if let Err(error) = noted {
            self.storage.abandon(id).await?;
            return Err(error.into());
        }
        let session = Session::new(repository.to_string(), algorithm, Progress::default());
        *session.coming() = self.catalogue.ledger().coming(repository.as_str());
        let session = Arc::new(session);
        self.sessions().insert(id, session.clone());
        Upload::take(id, session).await
    }

    /// Goes on with one.
    pub async fn take(&self, repository: &RepositoryName, id: UploadId) -> Result<Upload, Refusal> {
        let session = self.sessions().get(&id).cloned();
        let session =
            session.filter(|session| session.repository == repository.as_str()).ok_or_else(unknown)?;
        let upload = Upload::take(id, session).await?;
        // Who had it before may have finished it.
        if self.sessions().contains_key(&id) { Ok(upload) } else { Err(unknown()) }
    }

    /// Gives one that nothing has come of yet the bytes of a file of this host, without copying them. Whether that could be.
    pub async fn adopt(
        &self,
        repository: &RepositoryName,
        id: UploadId,
        file: File,
    ) -> Result<bool, Refusal> {
        let upload = self.take(repository, id).await?;
        let size = file.metadata().map_err(Refusal::internal)?.len();
        // By the usual way whoever pushes is told what is too much.
        if upload.offset() > 0 || upload.take_room(size).is_err() {
            return Ok(false);
        }
        let (progress, turn) = (upload.session.progress.clone(), upload.turn.clone());
        Ok(self.storage.adopt(id, file, progress, turn).await?)
    }

    /// Opens its bytes to write more of them.
    pub async fn open_ingest(&self, upload: &Upload) -> Result<Ingest, Refusal> {
        let opened = self
            .storage
            .resume(upload.id, upload.algorithm, upload.session.progress.clone(), upload.turn.clone())
            .await;
        match opened {
            Err(StorageError::Gone) => Err(unknown()),
            other => Ok(other?),
        }
    }

    /// Counts what has come for the quotas that are set now.
    pub fn recount(&self) {
        let ledger = self.catalogue.ledger();
        for session in self.sessions().values() {
            let mut coming = ledger.coming(&session.repository);
            coming.count(session.progress.lock().unwrap_or_else(PoisonError::into_inner).offset);
            *session.coming() = coming;
        }
    }

    /// Forgets one whose bytes have become a blob, and whose row is gone.
    pub fn finished(&self, upload: &Upload) {
        self.sessions().remove(&upload.id);
    }

    /// Gives one up.
    pub async fn cancel(&self, upload: &Upload) -> Result<(), Refusal> {
        self.sessions().remove(&upload.id);
        // The bytes first: they are what makes room for the rest. A row without bytes goes at the next start.
        self.storage.abandon(upload.id).await?;
        Ok(self.catalogue.forget_upload(upload.id).await?)
    }

    /// Gives up those that nothing has come of for so long; how many these were.
    pub async fn expire(&self, after: Duration) -> Result<usize, Refusal> {
        let idle = |session: &Session| session.active().elapsed() >= after;
        let stale: Vec<_> = self
            .sessions()
            .iter()
            .filter(|(_, session)| idle(session))
            .map(|(id, session)| (*id, session.clone()))
            .collect();
        let mut count = 0;
        for (id, session) in stale {
            // Somebody has it in hand: it isn't idle.
            let Ok(turn) = session.turn.clone().try_acquire_owned() else { continue };
            if idle(&session) {
                let algorithm = session.algorithm;
                self.cancel(&Upload { id, algorithm, session, turn: Arc::new(turn) }).await?;
                count += 1;
            }
        }
        Ok(count)
    }

    pub fn count(&self) -> usize {
        self.sessions().len()
    }
}

impl Session {
    fn new(repository: String, algorithm: Algorithm, progress: Progress) -> Session {
        Session {
            repository,
            algorithm,
            turn: Arc::new(Semaphore::new(1)),
            progress: Arc::new(Mutex::new(progress)),
            active: Mutex::new(Instant::now()),
            coming: Mutex::default(),
        }
    }

    fn coming(&self) -> MutexGuard<'_, Coming> {
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn active(&self) -> Instant {
        *self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upload {
    async fn take(id: UploadId, session: Arc<Session>) -> Result<Upload, Refusal> {
        let busy = || {
            let text = "another request is busy with this upload";
            Refusal::new(StatusCode::CONFLICT, Code::BlobUploadInvalid, text)
        };
        let turn = tokio::time::timeout(TURN, session.turn.clone().acquire_owned()).await;
        let turn = turn.ok().and_then(Result::ok).ok_or_else(busy)?;
        Ok(Upload { id, algorithm: session.algorithm, session, turn: Arc::new(turn) })
    }

    /// Whether a quota has room for so many bytes more.
    pub fn has_room(&self, bytes: u64) -> Result<(), Exceeded> {
        self.session.coming().fits(bytes)
    }

    /// Takes that room, until the upload has become a blob, which counts itself, or is given up.
    pub fn take_room(&self, bytes: u64) -> Result<(), Exceeded> {
        self.session.coming().take(bytes)
    }

    pub fn give_room_back(&self) {
        *self.session.coming() = Coming::default();
    }

    /// How many bytes have come.
    pub fn offset(&self) -> u64 {
        self.session.progress.lock().unwrap_or_else(PoisonError::into_inner).offset
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        *self.session.active.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

fn unknown() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, Code::BlobUploadUnknown, "blob upload unknown to registry")
}
