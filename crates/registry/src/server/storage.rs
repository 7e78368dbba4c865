//! Where blobs' bytes lie: whole in a directory, or in an object store; and what is on its way in, as files `ingest/<upload>`.
//!
//! Nobody else sees a file, a path or an object. What a blob is for, and whether anybody needs it, is the catalogue's business;
//! that a blob isn't put and removed at once is the caller's.

mod directory;
mod ingest;
mod s3;
mod stream;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use directory::Directory;
pub use ingest::{Ingest, Progress};
use s3::S3;
pub use s3::{S3Settings, StorageConfig, Traffic};
pub use stream::BlobStream;
use tokio::sync::OwnedSemaphorePermit;

use super::digest::{Algorithm, Digest};
use super::name::UploadId;

/// How the name of a file ends that was offered for an upload.
const LINKED: &str = ".linked";

#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("cannot {step} {object}")]
    Io { step: &'static str, object: String, source: io::Error },
    /// The object store doesn't answer, or can't for now.
    #[error("cannot {step} {object}: {why}")]
    Away { step: &'static str, object: String, why: String },
    /// The object store takes no more.
    #[error("cannot {step} {object}: {why}")]
    Full { step: &'static str, object: String, why: String },
    /// Somebody has to set something right.
    #[error("cannot {step} {object}: {why}")]
    Refused { step: &'static str, object: String, why: String },
    #[error("the upload is gone")]
    Gone,
    #[error("the upload was given a file: there is nothing to add to it")]
    Whole,
    #[error("a task of the storage was given up")]
    GivenUp,
}

impl StorageError {
    pub fn is_no_space(&self) -> bool {
        match self {
            StorageError::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            StorageError::Full { .. } => true,
            _ => false,
        }
    }

    /// With the cause, on one line.
    pub fn explain(&self) -> String {
        match self {
            StorageError::Io { source, .. } => format!("{self}: {source}"),
            _ => self.to_string(),
        }
    }
}

/// Adds step and object to an error of the system's.
fn failed(step: &'static str, object: impl ToString) -> impl FnOnce(io::Error) -> StorageError {
    move |source| StorageError::Io { step, object: object.to_string(), source }
}

/// Runs what may wait for the disk where it may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(StorageError::GivenUp))
}

/// All that has bytes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Storage(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    ingest: PathBuf,
    blobs: Blobs,
}

#[derive(Debug)]
enum Blobs {
    Directory(Directory),
    S3(Arc<S3>),
}

/// Blobs on their way to being told of, page by page.
pub struct Listing {
    storage: Storage,
    on: On,
}

enum On {
    Directory(Option<directory::Listing>),
    S3(Option<s3::Place>),
}

impl Parts {
    fn ingest(&self, id: UploadId) -> PathBuf {
        self.ingest.join(id.to_string())
    }

    /// Another name of a file that was offered for an upload. Unlike the upload's own it is never written to.
    fn linked(&self, id: UploadId) -> PathBuf {
        self.ingest.join(format!("{id}{LINKED}"))
    }

    fn ingested(&self) -> Result<Vec<PathBuf>, StorageError> {
        let listed =
            fs::read_dir(&self.ingest).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
        listed.map_err(failed("list", self.ingest.display()))
    }

    /// Removes what there is of an upload.
    fn discard(&self, id: UploadId) -> io::Result<()> {
        remove(&self.linked(id)).and_then(|()| remove(&self.ingest(id)))
    }
}

impl Storage {
    /// Opens or creates what is in the registry's directory, and gets ready to ask the object store if there is one. What an
    /// earlier process has left is the caller's to look at.
    pub fn open(directory: &Path, s3: Option<&S3Settings>) -> Result<Storage, StorageError> {
        let ingest = directory.join("ingest");
        fs::create_dir_all(&ingest).map_err(failed("create", ingest.display()))?;
        let blobs = match s3 {
            None => Blobs::Directory(Directory::open(directory)?),
            Some(settings) => Blobs::S3(Arc::new(S3::new(settings, directory)?)),
        };
        let parts = Parts { ingest, blobs };
        // Who offered a file that wasn't made a blob offers it again, or sends it.
        for path in parts.ingested()?.into_iter().filter(|path| is_linked(path)) {
            remove(&path).map_err(failed("remove", path.display()))?;
        }
        Ok(Storage(Arc::new(parts)))
    }

    /// Sees that an object store is this registry's own. A directory is: it lies beside the catalogue.
    pub async fn claim(&self, registry: &str, has_blobs: bool) -> Result<(), StorageError> {
        match &self.0.blobs {
            Blobs::Directory(_) => Ok(()),
            Blobs::S3(s3) => s3.claim(registry, has_blobs).await,
        }
    }

    async fn with<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Directory) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let parts = self.0.clone();
        blocking(move || match &parts.blobs {
            Blobs::Directory(directory) => ask(directory),
            Blobs::S3(_) => Err(StorageError::GivenUp),
        })
        .await
    }

    /// How many bytes a blob has; none when there is no such blob.
    pub async fn size(&self, digest: Digest) -> Result<Option<u64>, StorageError> {
        match &self.0.blobs {
            Blobs::Directory(_) => {
                self.with(move |directory| Ok(directory.read(digest)?.map(|(_, size)| size))).await
            }
            Blobs::S3(s3) => s3.size(digest).await,
        }
    }

    /// Bytes of a blob that has `size` of them; none when there is no such blob.
    pub async fn read(
        &self,
        digest: Digest,
        size: u64,
        range: Range<u64>,
    ) -> Result<Option<BlobStream>, StorageError> {
        match &self.0.blobs {
            Blobs::Directory(_) => {
                let found = self.with(move |directory| directory.read(digest)).await?;
                let found = found.filter(|(_, found)| *found == size);
                Ok(found.map(|(file, _)| BlobStream::file(Arc::new(file), range)))
            }
            Blobs::S3(s3) => {
                let length = range.end - range.start;
                let found = s3.read(digest, size, range).await?;
                Ok(found.map(|pieces| BlobStream::pieces(pieces, length)))
            }
        }
    }

    /// Where else a client is to get a blob, if it is.
    pub async fn link(&self, digest: Digest) -> Result<Option<String>, StorageError> {
        match &self.0.blobs {
            Blobs::Directory(_) => Ok(None),
            Blobs::S3(s3) => s3.link(digest).await,
        }
    }

    /// Makes a place for an upload's bytes.
    pub async fn begin(&self, id: UploadId) -> Result<(), StorageError> {
        let path = self.0.ingest(id);
        blocking(move || {
            let created = OpenOptions::new().write(true).create_new(true).open(path);
            created.map(drop).map_err(failed("create upload", id))
        })
        .await
    }

    /// Opens an upload to go on with it. Where it isn't known what has come so far, its bytes are read again.
    pub async fn resume(
        &self,
        id: UploadId,
        algorithm: Algorithm,
        progress: Arc<Mutex<Progress>>,
        turn: Arc<OwnedSemaphorePermit>,
    ) -> Result<Ingest, StorageError> {
        let parts = self.0.clone();
        blocking(move || {
            let paths = (&*parts.ingest(id), &*parts.linked(id));
            Ingest::open(paths, id, algorithm, progress, Some(turn))
        })
        .await
    }

    /// Gives an empty upload the bytes of a file without copying them: as a clone where the file system has such, else as one more
    /// name of the file, if it is this user's own. False where neither can be. Whoever offers it writes to it no more.
    pub async fn adopt(
        &self,
        id: UploadId,
        file: File,
        progress: Arc<Mutex<Progress>>,
        turn: Arc<OwnedSemaphorePermit>,
    ) -> Result<bool, StorageError> {
        let parts = self.0.clone();
        blocking(move || {
            let adopted = ingest::adopt(&parts.ingest(id), &parts.linked(id), &file, &progress);
            drop(turn);
            adopted.map_err(failed("take a file for upload", id))
        })
        .await
    }

    /// How many bytes of an upload there are; none when there is no such upload.
    pub fn ingested(&self, id: UploadId) -> Result<Option<u64>, StorageError> {
        match fs::metadata(self.0.ingest(id)) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("look at upload", id)(error)),
        }
    }

    /// Forgets an upload. One that is gone already is no error.
    pub async fn abandon(&self, id: UploadId) -> Result<(), StorageError> {
        let parts = self.0.clone();
        blocking(move || parts.discard(id).map_err(failed("remove upload", id))).await
    }

    /// Makes a finished upload the blob of that digest, which was checked. It outlasts a power failure when this returns.
    /// An upload that an object store didn't take is there still.
    pub async fn commit(&self, ingest: Ingest, digest: Digest) -> Result<(), StorageError> {
        let id = ingest.id();
        let parts = self.0.clone();
        match &self.0.blobs {
            Blobs::Directory(_) => {
                self.with(move |directory| {
                    ingest.sync()?;
                    let path = if ingest.is_linked() { parts.linked(id) } else { parts.ingest(id) };
                    directory.take(&path, digest, || parts.discard(id).map_err(failed("remove upload", id)))
                })
                .await
            }
            Blobs::S3(s3) => {
                s3.put(ingest.reader(), ingest.offset(), digest).await?;
                self.abandon(id).await
            }
        }
    }

    /// Removes a blob; one that is gone already is no error.
    pub async fn remove(&self, digest: Digest) -> Result<(), StorageError> {
        match &self.0.blobs {
            Blobs::Directory(_) => self.with(move |directory| directory.remove(digest)).await,
            Blobs::S3(s3) => s3.remove(digest).await,
        }
    }

    /// Whether something may have been left that nobody needs, without a crash.
    pub fn is_untidy(&self) -> bool {
        match &self.0.blobs {
            Blobs::Directory(_) => false,
            Blobs::S3(s3) => s3.is_untidy(),
        }
    }

    pub fn set_untidy(&self, is_untidy: bool) {
        if let Blobs::S3(s3) = &self.0.blobs {
            s3.set_untidy(is_untidy);
        }
    }

    /// Blobs that were begun to be put and may not be whole.
    pub async fn unfinished(&self) -> Result<Vec<Digest>, StorageError> {
        match &self.0.blobs {
            Blobs::Directory(_) => Ok(Vec::new()),
            Blobs::S3(s3) => s3.unfinished().await,
        }
    }

    /// Has nothing left of the attempts to put a blob that is just put by nobody. True if there was something.
    pub async fn give_up(&self, digest: Digest) -> Result<bool, StorageError> {
        match &self.0.blobs {
            Blobs::Directory(_) => Ok(false),
            Blobs::S3(s3) => s3.give_up(digest).await,
        }
    }

    /// What was asked of an object store, where there is one.
    pub fn traffic(&self) -> Option<Traffic> {
        match &self.0.blobs {
            Blobs::Directory(_) => None,
            Blobs::S3(s3) => Some(s3.traffic()),
        }
    }

    /// All blobs that lie there.
    pub fn list(&self) -> Listing {
        let on = match &self.0.blobs {
            Blobs::Directory(directory) => On::Directory(Some(directory.list())),
            Blobs::S3(_) => On::S3(Some(s3::Place::default())),
        };
        Listing { storage: self.clone(), on }
    }

    /// The uploads that there are bytes of, for a start. What isn't one of ours is left alone.
    pub fn uploads(&self) -> Result<Vec<UploadId>, StorageError> {
        let id = |path: &PathBuf| path.file_name()?.to_str()?.parse::<UploadId>().ok();
        Ok(self.0.ingested()?.iter().filter_map(id).collect())
    }
}

impl Listing {
    /// The next blobs; none at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<Digest>>, StorageError> {
        match (&mut self.on, &self.storage.0.blobs) {
            (On::Directory(listing), _) => {
                let Some(mut at) = listing.take() else { return Ok(None) };
                let (at, found) = blocking(move || at.next().map(|found| (at, found))).await?;
                *listing = Some(at);
                Ok(found)
            }
            (On::S3(place), Blobs::S3(s3)) => {
                let Some(at) = place.take() else { return Ok(None) };
                let (found, next) = s3.page(at).await?;
                *place = next;
                Ok(Some(found))
            }
            (On::S3(_), Blobs::Directory(_)) => Ok(None),
        }
    }
}

fn is_linked(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.ends_with(LINKED))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
