//! Directories that `RUN --mount=type=cache` keeps from one build to the next: `<data-root>/build/caches/<digest of the id>`.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use corten_build::MountSource;
use corten_image::Digest;
use tokio::sync::OwnedMutexGuard;

use crate::error::{Error, Result};

#[derive(Default)]
pub struct Caches {
    /// Turns of those that only one step may use at a time.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Private directories that are in use.
    taken: Arc<Mutex<HashSet<PathBuf>>>,
}

/// A private directory in use.
struct Taken {
    path: PathBuf,
    all: Arc<Mutex<HashSet<PathBuf>>>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.path);
    }
}

impl Caches {
    pub fn directory(
        &self,
        root: &Path,
        id: &str,
        mode: u32,
        owner: (u32, u32),
        private: bool,
    ) -> Result<MountSource> {
        let name = Digest::of(id.as_bytes()).hex();
        let base = root.join("caches");
        if !private {
            let path = base.join(&name);
            make(&path, mode, owner)?;
            return Ok(MountSource::Path { path, keep: None });
        }
        for number in 0.. {
            let path = base.join(format!("{name}-{number}"));
            let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            if taken.insert(path.clone()) {
                drop(taken);
                let keep = Taken { path: path.clone(), all: self.taken.clone() };
                make(&path, mode, owner)?;
                return Ok(MountSource::Path { path, keep: Some(Arc::new(keep)) });
            }
        }
        Err(Error::internal("no private cache directory is free"))
    }

    pub async fn turn(&self, id: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            turns.entry(id.to_owned()).or_default().clone()
        };
        turn.lock_owned().await
    }
}

fn make(path: &Path, mode: u32, (uid, gid): (u32, u32)) -> Result<()> {
    let failed = |error| Error::io("create", path, error);
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
    }
    match fs::create_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
        made => made.map_err(failed)?,
    }
    std::os::unix::fs::chown(path, Some(uid), Some(gid)).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)
}
