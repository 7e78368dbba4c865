//! Directories that `RUN --mount=type=cache` keeps from one build to the next: `<data-root>/build/caches/<digest of the id>`, and a record
//! of each in the engine's database. What they begin as is `origin`'s.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use corten_api::Timestamp;
use corten_build::{CacheWish, MountSource};
use serde::{Deserialize, Serialize};

use super::{CacheEntry, CacheKind, CachePart, CacheRemoval};
use crate::error::{Error, Result};
use crate::store::StateStore;
use crate::volume::disk_usage;

/// Directories on their way out begin so.
const TRASH_PREFIX: &str = ".removed-";

pub struct CacheMounts {
    root: PathBuf,
    store: Arc<StateStore>,
    state: Arc<Mutex<State>>,
}

/// By the directories' names.
#[derive(Default)]
struct State {
    /// How many steps use a directory.
    users: HashMap<String, usize>,
    /// What a directory takes of the disk, as long as nobody has used it since.
    measured: HashMap<String, u64>,
}

/// What is written down of a directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    name: String,
    /// As the Dockerfile calls it.
    id: String,
    /// Unix nanoseconds, both.
    created_at: i64,
    used_at: i64,
    uses: u64,
}

/// A directory in use.
struct Use {
    name: String,
    state: Arc<Mutex<State>>,
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.measured.remove(&self.name);
        if let Some(users) = state.users.get_mut(&self.name) {
            *users -= 1;
            if *users == 0 {
                state.users.remove(&self.name);
            }
        }
    }
}

impl CacheMounts {
    pub fn new(root: PathBuf, store: Arc<StateStore>) -> CacheMounts {
        CacheMounts { root, store, state: Arc::default() }
    }

    /// The directory of that name, or one that begins so; made when there is none. It is not pruned as long as the source lives, and a
    /// private one is nobody else's.
    pub fn directory(
        &self,
        name: String,
        wish: &CacheWish,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<MountSource> {
        let mut state = lock(&self.state);
        let name = match wish.is_private {
            false => name,
            true => (0u32..)
                .map(|number| format!("{name}-{number}"))
                .find(|name| !state.users.contains_key(name))
                .ok_or_else(|| Error::internal("no private cache directory is free"))?,
        };
        // Before it is made: who prunes sees that it is wanted.
        *state.users.entry(name.clone()).or_default() += 1;
        drop(state);
        let keep = Use { name: name.clone(), state: self.state.clone() };
        let path = self.root.join(&name);
        if !path.is_dir() {
            make(&path)?;
        }
        self.note_used(&name, &wish.id)?;
        Ok(MountSource::Path { path, keep: Some(Arc::new(keep)) })
    }

    /// What an engine that was killed while it pruned has left.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        let names = names(&self.root).into_iter().filter(|name| name.starts_with(TRASH_PREFIX));
        names.map(|name| self.root.join(name)).collect()
    }

    fn note_used(&self, name: &str, id: &str) -> Result<()> {
        let now = Timestamp::now().unix_nanos();
        let known = self.store.cache_mount::<Record>(name)?;
        let mut record = known.unwrap_or_else(|| Record {
            name: name.to_owned(),
            id: id.to_owned(),
            created_at: now,
            used_at: now,
            uses: 0,
        });
        (record.used_at, record.uses) = (now, record.uses + 1);
        self.store.put_cache_mount(name, &record)
    }

    /// Bytes on the disk; not counted again as long as nobody uses it.
    fn bytes(&self, name: &str) -> u64 {
        if let Some(bytes) = lock(&self.state).measured.get(name) {
            return *bytes;
        }
        let bytes = disk_usage(&self.root.join(name));
        let mut state = lock(&self.state);
        if !state.users.contains_key(name) {
            state.measured.insert(name.to_owned(), bytes);
        }
        bytes
    }
}

impl CachePart for CacheMounts {
    fn kind(&self) -> CacheKind {
        CacheKind::Mount
    }

    fn entries(&self) -> Result<Vec<CacheEntry>> {
        let records: Vec<Record> = self.store.cache_mounts()?;
        let records: HashMap<&str, &Record> =
            records.iter().map(|record| (record.name.as_str(), record)).collect();
        let entry = |name: String| {
            // One of an engine that kept no records: its own times are all that is known.
            let changed = fs::metadata(self.root.join(&name)).and_then(|metadata| metadata.modified());
            let changed = changed.map_or(Timestamp::ZERO, Timestamp::from);
            let record = records.get(name.as_str());
            let time = |of: fn(&Record) -> i64| {
                record.map_or(changed, |record| Timestamp::from_unix_nanos(of(record)))
            };
            CacheEntry {
                kind: CacheKind::Mount,
                description: record
                    .map_or_else(|| "cache mount".to_owned(), |record| format!("cache mount {}", record.id)),
                bytes: self.bytes(&name),
                created: time(|record| record.created_at),
                used: time(|record| record.used_at),
                uses: record.map_or(0, |record| record.uses),
                is_in_use: lock(&self.state).users.contains_key(&name),
                is_shared: false,
                id: name,
            }
        };
        let names = names(&self.root).into_iter().filter(|name| !name.starts_with(TRASH_PREFIX));
        Ok(names.map(entry).collect())
    }

    fn remove(&self, ids: &[String]) -> Result<CacheRemoval> {
        let mut removal = CacheRemoval::default();
        for name in ids {
            let (path, trash) =
                (self.root.join(name), self.root.join(format!("{TRASH_PREFIX}{}", crate::id::random())));
            {
                let mut state = lock(&self.state);
                if state.users.contains_key(name) {
                    continue;
                }
                // Its name goes first: a build that comes now makes another one.
                match fs::rename(&path, &trash) {
                    // Somebody else prunes, too.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                    renamed => renamed.map_err(|error| Error::io("remove", &path, error))?,
                }
                state.measured.remove(name);
                self.store.remove_cache_mount(name)?;
            }
            let bytes = disk_usage(&trash);
            corten_sys::tree::remove(&trash).map_err(|error| Error::io("remove", &trash, error))?;
            removal.bytes += bytes;
            removal.ids.push(name.clone());
        }
        Ok(removal)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn names(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
