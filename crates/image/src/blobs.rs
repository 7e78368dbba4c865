//! The content store: blobs in files named by their digest, for layers that came compressed and for whatever else
//! must be given back bit by bit.
//!
//! A blob is written to a temporary name, hashed as it comes, and gets its own when it is whole, so a file under
//! `blobs/sha256` is complete. Temporary files of a process that died go when the store opens. What came of a blob whose digest was
//! known beforehand may stay in `blobs/partial`, so that not all of it has to come again. What a blob means, and whether anyone
//! needs it, is the database's business.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

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

/// How long what came of a blob waits for the rest.
const PARTIAL_AGE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Less than this is sooner fetched than kept.
const PARTIAL_BYTES_MIN: u64 = 1 << 20;

/// The blobs below one directory: `sha256/<hex>`, `ingest/` for what is being written, and `partial/<hex>` for what came of blobs
/// that are not whole.
#[derive(Debug)]
pub struct Blobs {
    finished: PathBuf,
    ingest: PathBuf,
    partial: PathBuf,
    counter: AtomicU64,
}

impl Blobs {
    /// Opens or creates the store and removes what an earlier process left half written.
    pub fn open(directory: &Path) -> Result<Blobs, BlobError> {
        let [finished, ingest, partial] = ["sha256", "ingest", "partial"].map(|name| directory.join(name));
        for path in [&finished, &ingest, &partial] {
            fs::create_dir_all(path).map_err(|source| BlobError::Open { path: path.clone(), source })?;
        }
        let left =
            fs::read_dir(&ingest).map_err(|source| BlobError::Open { path: ingest.clone(), source })?;
        for entry in left.flatten() {
            let path = entry.path();
            fs::remove_file(&path).map_err(|source| BlobError::Open { path, source })?;
        }
        let blobs = Blobs { finished, ingest, partial, counter: AtomicU64::new(0) };
        blobs.discard_partial(PARTIAL_AGE_MAX, &|_| false)?;
        Ok(blobs)
    }

    /// Removes what came of blobs whose rest didn't come for so long, but for those that are `wanted`. Returns the bytes that came
    /// back.
    pub fn discard_partial(
        &self,
        age_min: Duration,
        wanted: &dyn Fn(&Digest) -> bool,
    ) -> Result<u64, BlobError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| BlobError::Open { path, source }
        };
        let mut freed_bytes = 0;
        for entry in fs::read_dir(&self.partial).map_err(failed(&self.partial))?.flatten() {
            let path = entry.path();
            let digest = entry.file_name().to_str().and_then(Digest::from_hex);
            let Ok(metadata) = entry.metadata() else { continue };
            if digest.is_some_and(|digest| wanted(&digest)) {
                continue;
            }
            // A clock that was turned back makes nothing old.
            let age = metadata.modified().ok().and_then(|time| time.elapsed().ok()).unwrap_or_default();
            if age >= age_min {
                fs::remove_file(&path).map_err(failed(&path))?;
                freed_bytes += metadata.len();
            }
        }
        Ok(freed_bytes)
    }

    /// Bytes of blobs that are not whole.
    pub fn partial_bytes(&self) -> u64 {
        let Ok(entries) = fs::read_dir(&self.partial) else { return 0 };
        entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
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
        let temporary = Temporary { path, stays: AtomicBool::new(false) };
        Ok(BlobWriter { file, temporary, hasher: Hasher::new(), size: 0, kept_bytes: 0 })
    }

    /// Starts the blob of a known digest, or goes on where an earlier attempt ended: what came before is to be taken in by
    /// [`BlobWriter::replay`] first. Dropped uncommitted, it leaves what came, unless [`BlobWriter::forget`] was called. One at a
    /// time per digest is the caller's business.
    pub fn resume(&self, digest: &Digest) -> Result<BlobWriter, BlobError> {
        let path = self.partial.join(digest.hex());
        let failed = |source| BlobError::write(path.display().to_string(), source);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        let kept_bytes = file.metadata().map_err(failed)?.len();
        let temporary = Temporary { path, stays: AtomicBool::new(true) };
        Ok(BlobWriter { file, temporary, hasher: Hasher::new(), size: 0, kept_bytes })
    }

    /// Puts a whole blob in its place. Nothing happens when it is there already.
    pub fn commit(&self, blob: &StagedBlob) -> Result<(), BlobError> {
        // Several who wait for one blob commit it, each in its own time: the temporary name goes with the last of them.
        match fs::hard_link(&blob.temporary.path, self.path(&blob.digest)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(BlobError::write(format!("blob {}", blob.digest), error));
            }
            _ => blob.forget(),
        }
        Ok(())
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

/// A file that is removed when this is dropped, unless it is to stay for another attempt and worth that.
#[derive(Debug)]
struct Temporary {
    path: PathBuf,
    stays: AtomicBool,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let is_large = || fs::metadata(&self.path).is_ok_and(|metadata| metadata.len() >= PARTIAL_BYTES_MIN);
        if !self.stays.load(Ordering::Relaxed) || !is_large() {
            // What cannot be removed now goes when the store opens.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A blob being written; hashed on the way.
#[derive(Debug)]
pub struct BlobWriter {
    file: File,
    temporary: Temporary,
    hasher: Hasher,
    size: u64,
    kept_bytes: u64,
}

impl BlobWriter {
    /// Bytes that an earlier attempt left.
    pub fn kept_bytes(&self) -> u64 {
        self.kept_bytes
    }

    /// The next of the bytes that an earlier attempt left; 0 when there are no more.
    pub fn replay(&mut self, buffer: &mut [u8]) -> Result<usize, BlobError> {
        let left = self.kept_bytes.saturating_sub(self.size);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let path = &self.temporary.path;
        let count = self
            .file
            .read(&mut buffer[..wanted])
            .map_err(|source| BlobError::write(path.display().to_string(), source))?;
        self.hasher.update(&buffer[..count]);
        self.size += count as u64;
        Ok(count)
    }

    /// Drops what an earlier attempt left.
    pub fn restart(&mut self) -> Result<(), BlobError> {
        let restart = |file: &mut File| file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0)));
        restart(&mut self.file)
            .map_err(|source| BlobError::write(self.temporary.path.display().to_string(), source))?;
        (self.hasher, self.size, self.kept_bytes) = (Hasher::new(), 0, 0);
        Ok(())
    }

    /// Nothing of it is worth keeping.
    pub fn forget(&self) {
        self.temporary.stays.store(false, Ordering::Relaxed);
    }

    /// The first bytes of what an earlier attempt left.
    pub fn kept_head(&self, buffer: &mut [u8]) -> Result<usize, BlobError> {
        if self.kept_bytes == 0 {
            return Ok(0);
        }
        let path = &self.temporary.path;
        self.file.read_at(buffer, 0).map_err(|source| BlobError::write(path.display().to_string(), source))
    }

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

impl StagedBlob {
    /// Nothing of it is worth keeping.
    pub fn forget(&self) {
        self.temporary.stays.store(false, Ordering::Relaxed);
    }
}
