//! The content store: blobs in files named by their digest, for layers that came compressed and for whatever else
//! must be given back bit by bit.
//!
//! A blob is written to a temporary name, hashed as it comes, and renamed when it is whole, so a file under
//! `blobs/sha256` is complete. Temporary files of a process that died go when the store opens. What a blob means,
//! and whether anyone needs it, is the database's business.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::digest::{Digest, Hasher};

#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    #[error("cannot open the content store {path}")]
    Open { path: PathBuf, source: io::Error },
    #[error("cannot write {object}: no space left on the device (nothing of it is kept)")]
    NoSpace { object: String },
    #[error("cannot write {object}")]
    Write { object: String, source: io::Error },
    #[error("cannot read blob {digest}")]
    Read { digest: Digest, source: io::Error },
    #[error("cannot remove blob {digest}")]
    Remove { digest: Digest, source: io::Error },
}

impl BlobError {
    fn write(object: impl Into<String>, source: io::Error) -> BlobError {
        let object = object.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => BlobError::NoSpace { object },
            _ => BlobError::Write { object, source },
        }
    }
}

/// The blobs below one directory: `sha256/<hex>` and `ingest/` for what is being written.
#[derive(Debug)]
pub struct Blobs {
    finished: PathBuf,
    ingest: PathBuf,
    counter: AtomicU64,
}

impl Blobs {
    /// Opens or creates the store and removes what an earlier process left half written.
    pub fn open(directory: &Path) -> Result<Blobs, BlobError> {
        let (finished, ingest) = (directory.join("sha256"), directory.join("ingest"));
        for path in [&finished, &ingest] {
            fs::create_dir_all(path).map_err(|source| BlobError::Open { path: path.clone(), source })?;
        }
        let left =
            fs::read_dir(&ingest).map_err(|source| BlobError::Open { path: ingest.clone(), source })?;
        for entry in left.flatten() {
            let path = entry.path();
            fs::remove_file(&path).map_err(|source| BlobError::Open { path, source })?;
        }
        Ok(Blobs { finished, ingest, counter: AtomicU64::new(0) })
    }

    /// Starts a blob. Dropped unfinished or uncommitted, it leaves nothing.
    pub fn create(&self) -> Result<BlobWriter, BlobError> {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let path = self.ingest.join(format!("{}-{number}", std::process::id()));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|source| BlobError::write(path.display().to_string(), source))?;
        Ok(BlobWriter { file, temporary: Temporary { path }, hasher: Hasher::new(), size: 0 })
    }

    /// Puts a whole blob in its place. Nothing happens when it is there already.
    pub fn commit(&self, blob: StagedBlob) -> Result<(), BlobError> {
        let target = self.path(&blob.digest);
        fs::rename(&blob.temporary.path, &target)
            .map_err(|source| BlobError::write(format!("blob {}", blob.digest), source))
    }

    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.finished.join(digest.hex())
    }

    pub fn contains(&self, digest: &Digest) -> bool {
        self.path(digest).exists()
    }

    pub fn reader(&self, digest: &Digest) -> Result<File, BlobError> {
        File::open(self.path(digest)).map_err(|source| BlobError::Read { digest: *digest, source })
    }

    /// Removes a blob; one that is gone already is no error.
    pub fn remove(&self, digest: &Digest) -> Result<(), BlobError> {
        match fs::remove_file(self.path(digest)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(BlobError::Remove { digest: *digest, source })
            }
            _ => Ok(()),
        }
    }

    /// The digests of all finished blobs.
    pub fn list(&self) -> Result<Vec<Digest>, BlobError> {
        let open = |source| BlobError::Open { path: self.finished.clone(), source };
        let mut digests = Vec::new();
        for entry in fs::read_dir(&self.finished).map_err(open)? {
            let name = entry.map_err(open)?.file_name();
            digests.extend(name.to_str().and_then(Digest::from_hex));
        }
        Ok(digests)
    }

    /// Waits until a blob and its name are on the disk.
    pub fn sync(&self, digest: &Digest) -> Result<(), BlobError> {
        let wait = || -> io::Result<()> {
            File::open(self.path(digest))?.sync_data()?;
            File::open(&self.finished)?.sync_all()
        };
        wait().map_err(|source| BlobError::write(format!("blob {digest}"), source))
    }
}

/// A file that is removed unless it was renamed away.
#[derive(Debug)]
struct Temporary {
    path: PathBuf,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Gone already after a commit. What cannot be removed now goes when the store opens.
        let _ = fs::remove_file(&self.path);
    }
}

/// A blob being written; hashed on the way.
#[derive(Debug)]
pub struct BlobWriter {
    file: File,
    temporary: Temporary,
    hasher: Hasher,
    size: u64,
}

impl BlobWriter {
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.file
            .write_all(bytes)
            .map_err(|source| BlobError::write(self.temporary.path.display().to_string(), source))
    }

    pub fn finish(self) -> StagedBlob {
        StagedBlob { temporary: self.temporary, digest: self.hasher.finish(), size: self.size }
    }
}

/// A whole blob under a temporary name.
#[derive(Debug)]
pub struct StagedBlob {
    temporary: Temporary,
    pub digest: Digest,
    pub size: u64,
}
