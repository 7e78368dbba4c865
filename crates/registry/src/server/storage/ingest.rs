//! An upload's bytes on their way in: written behind what is there, and hashed.
//!
//! Writing goes on where it is when the request that brought the bytes is given up; what has been written and hashed is noted
//! in one place, so that the next request can go on from there.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use rustix::fs::{AtFlags, CWD, linkat};
use rustix::process::geteuid;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

use super::{StorageError, failed};
use crate::server::digest::{Algorithm, Digest, Hasher};
use crate::server::name::UploadId;

/// Bytes read at once to hash them again.
const PIECE: usize = 256 << 10;
/// After so many bytes the kernel is told to begin writing them to the disk: the sync at the end then has little to wait for.
const WRITEBACK: u64 = 8 << 20;

/// What has come of an upload.
#[derive(Debug, Default)]
pub struct Progress {
    pub offset: u64,
    /// The hash of it all; none after a start of the server.
    pub hasher: Option<Hasher>,
    /// The bytes are those of a file that was offered, under one more name: nothing may be added.
    pub linked: bool,
}

/// Makes the bytes of `file` those of the empty upload at `path`, or gives the file the name `link`.
pub(super) fn adopt(path: &Path, link: &Path, file: &File, progress: &Mutex<Progress>) -> io::Result<bool> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(false);
    }
    let mut progress = lock(progress);
    let upload = OpenOptions::new().write(true).open(path)?;
    let cloned = rustix::fs::ioctl_ficlone(&upload, file).is_ok();
    // Another user's could be changed by them, or not be read by us.
    let linked = !cloned && metadata.uid() == geteuid().as_raw() && {
        let file = format!("/proc/self/fd/{}", file.as_raw_fd());
        linkat(CWD, file, CWD, link, AtFlags::SYMLINK_FOLLOW).is_ok()
    };
    if cloned || linked {
        *progress = Progress { offset: metadata.len(), hasher: None, linked };
    }
    Ok(cloned || linked)
}

/// An open upload. Its caller sees to it that there is one at a time.
#[derive(Debug)]
pub struct Ingest {
    id: UploadId,
    file: Arc<File>,
    progress: Arc<Mutex<Progress>>,
    /// Whose turn it is. Each write holds it, too: one whose request is gone must be over before the next request's turn.
    turn: Option<Arc<OwnedSemaphorePermit>>,
}

impl Ingest {
    /// Of the file at one of the paths: the upload's own, or that of a file that was offered.
    pub(super) fn open(
        (path, link): (&Path, &Path),
        id: UploadId,
        algorithm: Algorithm,
        progress: Arc<Mutex<Progress>>,
        turn: Option<Arc<OwnedSemaphorePermit>>,
    ) -> Result<Ingest, StorageError> {
        let linked = lock(&progress).linked;
        let path = if linked { link } else { path };
        let file = OpenOptions::new().read(true).write(!linked).open(path).map_err(|source| match source
            .kind()
        {
            io::ErrorKind::NotFound => StorageError::Gone,
            _ => failed("open upload", id)(source),
        })?;
        let ingest = Ingest { id, file: Arc::new(file), progress, turn };
        ingest.settle(algorithm).map_err(failed("read upload", id))?;
        Ok(ingest)
    }

    pub(super) fn id(&self) -> UploadId {
        self.id
    }

    /// What has been written, to be read while more comes, and whatever becomes of it.
    pub fn reader(&self) -> Arc<File> {
        self.file.clone()
    }

    pub fn offset(&self) -> u64 {
        lock(&self.progress).offset
    }

    /// Makes the file, its end and its hash agree: a write that has failed may have left more in the file than was hashed.
    fn settle(&self, algorithm: Algorithm) -> io::Result<()> {
        let mut progress = lock(&self.progress);
        let mut file = &*self.file;
        let known = progress.hasher.as_ref().is_some_and(|hasher| hasher.algorithm() == algorithm);
        if !known {
            let mut hasher = Hasher::new(algorithm);
            let mut piece = vec![0; PIECE];
            progress.offset = 0;
            file.seek(SeekFrom::Start(0))?;
            loop {
                match file.read(&mut piece) {
                    Ok(0) => break,
                    Ok(count) => {
                        hasher.update(&piece[..count]);
                        progress.offset += count as u64;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            progress.hasher = Some(hasher);
        }
        if !progress.linked {
            file.set_len(progress.offset)?;
        }
        file.seek(SeekFrom::Start(progress.offset)).map(drop)
    }

    pub(super) fn is_linked(&self) -> bool {
        lock(&self.progress).linked
    }

    /// Appends pieces. Goes on when the handle is dropped; one write at a time.
    pub fn write(&self, pieces: Vec<Bytes>) -> JoinHandle<Result<(), StorageError>> {
        let (id, file, progress, turn) =
            (self.id, self.file.clone(), self.progress.clone(), self.turn.clone());
        tokio::task::spawn_blocking(move || {
            if lock(&progress).linked {
                return Err(StorageError::Whole);
            }
            let written = append(&file, &progress, &pieces).map_err(failed("write upload", id));
            drop(turn);
            written
        })
    }

    /// The digest of all that has come, by that algorithm. Waits for the disk where it isn't the upload's own.
    pub async fn digest(&self, algorithm: Algorithm) -> Result<Digest, StorageError> {
        let hashed = lock(&self.progress).hasher.clone().filter(|hasher| hasher.algorithm() == algorithm);
        if let Some(hasher) = hashed {
            return Ok(hasher.digest());
        }
        let progress = Arc::new(Mutex::new(Progress { linked: self.is_linked(), ..Progress::default() }));
        let again = Ingest { id: self.id, file: self.file.clone(), progress, turn: None };
        super::blocking(move || {
            again.settle(algorithm).map_err(failed("read upload", again.id))?;
            let hasher = lock(&again.progress).hasher.take();
            hasher.map(Hasher::digest).ok_or(StorageError::GivenUp)
        })
        .await
    }

    pub(super) fn sync(&self) -> Result<(), StorageError> {
        self.file.sync_data().map_err(failed("sync upload", self.id))
    }
}

fn append(mut file: &File, progress: &Mutex<Progress>, pieces: &[Bytes]) -> io::Result<()> {
    let mut progress = lock(progress);
    let before = progress.offset;
    for piece in pieces {
        if let Err(error) = file.write_all(piece) {
            // What has been hashed is what counts.
            file.set_len(progress.offset)?;
            file.seek(SeekFrom::Start(progress.offset))?;
            return Err(error);
        }
        if let Some(hasher) = &mut progress.hasher {
            hasher.update(piece);
        }
        progress.offset += piece.len() as u64;
    }
    let written = |offset: u64| offset - offset % WRITEBACK;
    if written(progress.offset) > written(before) {
        let start = written(before);
        // A hint: the sync at the end is what counts.
        let _ = corten_sys::writeback::start(file.as_fd(), start, written(progress.offset) - start);
    }
    Ok(())
}

/// A panic while it was held has left nothing half done that `settle` wouldn't mend.
fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
