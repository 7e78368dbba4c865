//! The builds that are under way, by the reference that their client chose. The calls about one build come on several streams in any
//! order: whoever asks for a build that isn't there yet waits for it a while.

use crate::board::Board;
use crate::bridge::Bridge;
use corten_build::Tree;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tonic::Status;

/// Builds at the same time, those included whose progress is still asked for.
const JOBS_MAX: usize = 256;
const REFERENCE_BYTES_MAX: usize = 256;
/// How long to wait for a build to begin.
const BEGINNING: Duration = Duration::from_secs(15);
/// How long a build's progress can be asked for when it has ended.
const AFTERWARDS: Duration = Duration::from_secs(10);

#[derive(Default)]
pub struct Jobs {
    known: Mutex<HashMap<String, Arc<Job>>>,
    begun: watch::Sender<u64>,
}

/// What streams share of one build.
#[derive(Default)]
pub struct Job {
    /// The session of its client.
    pub session: String,
    /// The files that it is made from, or a place for those that are on their way; none where the client or others have them.
    pub files: Option<watch::Sender<Option<Tree>>>,
    /// Whether somebody wants it to end.
    pub canceled: watch::Sender<bool>,
    pub board: Arc<Board>,
    pub bridge: Bridge,
}

impl Job {
    /// The files that came, or come, by themselves.
    pub async fn files(&self) -> Option<Tree> {
        let mut files = self.files.as_ref()?.subscribe();
        // The sender lives as long as this does.
        files.wait_for(Option::is_some).await.ok()?.clone()
    }

    /// Resolves when somebody wants it to end.
    pub async fn canceled(&self) {
        let _ = self.canceled.subscribe().wait_for(|canceled| *canceled).await;
    }
}

impl Jobs {
    /// A new build; it ends when the value is dropped.
    pub fn begin(self: &Arc<Self>, reference: &str, job: Job) -> Result<Running, Status> {
        if reference.is_empty() || reference.len() > REFERENCE_BYTES_MAX {
            return Err(Status::invalid_argument("a build needs a reference"));
        }
        let mut known = self.known();
        if known.contains_key(reference) {
            return Err(Status::already_exists(format!("job ID {reference} exists")));
        }
        if known.len() >= JOBS_MAX {
            return Err(Status::resource_exhausted(format!("there are {JOBS_MAX} builds already")));
        }
        let job = Arc::new(Job { board: Arc::new(Board::of(reference)), ..job });
        known.insert(reference.to_owned(), job.clone());
        drop(known);
        self.begun.send_modify(|count| *count = count.wrapping_add(1));
        Ok(Running { jobs: self.clone(), reference: reference.to_owned(), job })
    }

    /// The build with that reference, if it has begun.
    pub fn known_now(&self, reference: &str) -> Option<Arc<Job>> {
        self.known().get(reference).cloned()
    }

    /// The build with that reference.
    pub async fn find(&self, reference: &str) -> Result<Arc<Job>, Status> {
        let mut begun = self.begun.subscribe();
        let found = async {
            loop {
                begun.mark_unchanged();
                if let Some(job) = self.known().get(reference) {
                    return job.clone();
                }
                // The sender lives as long as this does.
                let _ = begun.changed().await;
            }
        };
        let found = tokio::time::timeout(BEGINNING, found).await;
        found.map_err(|_| Status::not_found(format!("no such job {reference}")))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Arc<Job>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A build that is under way.
pub struct Running {
    jobs: Arc<Jobs>,
    reference: String,
    pub job: Arc<Job>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.job.board.close();
        self.job.bridge.close();
        let (jobs, reference) = (self.jobs.clone(), std::mem::take(&mut self.reference));
        let forget = move || drop(jobs.known().remove(&reference));
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move {
                tokio::time::sleep(AFTERWARDS).await;
                forget();
            })),
            Err(_) => forget(),
        }
    }
}
