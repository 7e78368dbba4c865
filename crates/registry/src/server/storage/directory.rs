//! Blobs as files of a directory: `blobs/<algorithm>/<hex>`, each whole.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::{StorageError, failed};
use crate::server::digest::{Algorithm, Digest};

/// Names told of at once.
const PAGE: usize = 1000;

#[derive(Debug)]
pub struct Directory {
    blobs: PathBuf,
}

/// A list on its way.
#[derive(Debug)]
pub struct Listing {
    waiting: Vec<(Algorithm, PathBuf)>,
    open: Option<(Algorithm, PathBuf, fs::ReadDir)>,
}

impl Directory {
    pub fn open(data: &Path) -> Result<Directory, StorageError> {
        let blobs = data.join("blobs");
        for path in Algorithm::ALL.map(|algorithm| blobs.join(algorithm.name())) {
            fs::create_dir_all(&path).map_err(failed("create", path.display()))?;
        }
        Ok(Directory { blobs })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(digest.algorithm().name()).join(digest.hex())
    }

    /// A blob to read, with its size; none when there is no such blob. Who has it can read it also while it is removed.
    pub fn read(&self, digest: Digest) -> Result<Option<(File, u64)>, StorageError> {
        let file = match File::open(self.path(&digest)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("open blob", digest)(error)),
        };
        let size = file.metadata().map_err(failed("look at blob", digest))?.len();
        Ok(Some((file, size)))
    }

    /// Takes a file that is on the disk already; its name is there, too, when this returns. `then` comes between.
    pub fn take(
        &self,
        file: &Path,
        digest: Digest,
        then: impl FnOnce() -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        fs::rename(file, self.path(&digest)).map_err(failed("name blob", digest))?;
        then()?;
        let path = self.blobs.join(digest.algorithm().name());
        File::open(&path).and_then(|names| names.sync_all()).map_err(failed("sync", path.display()))
    }

    pub fn remove(&self, digest: Digest) -> Result<(), StorageError> {
        super::remove(&self.path(&digest)).map_err(failed("remove blob", digest))
    }

    pub fn list(&self) -> Listing {
        let waiting = Algorithm::ALL.map(|algorithm| (algorithm, self.blobs.join(algorithm.name())));
        Listing { waiting: waiting.into(), open: None }
    }
}

impl Listing {
    /// The next names; none at the end. What isn't one of ours is left alone.
    pub fn next(&mut self) -> Result<Option<Vec<Digest>>, StorageError> {
        let mut found = Vec::new();
        while found.len() < PAGE {
            if self.open.is_none() {
                let Some((algorithm, path)) = self.waiting.pop() else { break };
                let entries = fs::read_dir(&path).map_err(failed("list", path.display()))?;
                self.open = Some((algorithm, path, entries));
            }
            let Some((algorithm, path, entries)) = &mut self.open else { break };
            match entries.next() {
                None => self.open = None,
                Some(entry) => {
                    let name = entry.map_err(failed("list", path.display()))?.file_name();
                    found.extend(name.to_str().and_then(|name| Digest::from_hex(*algorithm, name)));
                }
            }
        }
        Ok((!found.is_empty()).then_some(found))
    }
}
