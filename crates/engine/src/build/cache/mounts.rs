//! Directories that `RUN --mount=type=cache` keeps from one build to the next: `<data-root>/build/caches/<digest of the id>`, and a record
//! of each in the engine's database. What they begin as is `origin`'s.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_api::Timestamp;
use corten_image::manifest::Descriptor;
use corten_image::{DiffId, Digest};
use serde::{Deserialize, Serialize};

use super::uses::{Alone, Use, Uses, private};
use super::{CacheEntry, CacheKind, CachePart, CacheRemoval};
use crate::error::{Error, Result};
use crate::store::StateStore;
use crate::volume::disk_usage;

/// What is being made or on its way out begins so; it is nobody's when an engine starts.
const HIDDEN: &str = ".";
const TRASH_PREFIX: &str = ".removed-";
/// What an imported directory is known to have been; older ones are forgotten.
const LAYERS_MAX: usize = 16;

pub struct CacheMounts {
    root: PathBuf,
    store: Arc<StateStore>,
    uses: Uses,
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
    /// One that came from a cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    import: Option<Import>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    packed: Option<Packed>,
}

/// Where a directory comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// The cache, for people.
    pub from: String,
    /// In the place of which directory it stands for those who name the cache.
    pub slot: String,
    /// What it was when it came, and whenever it was packed.
    pub layers: Vec<DiffId>,
}

/// What a directory was when it was packed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    pub layer: DiffId,
    pub tar_bytes: u64,
    pub blob: Descriptor,
    /// After so many uses: after more it may be something else.
    uses: u64,
}

impl CacheMounts {
    pub fn new(root: PathBuf, store: Arc<StateStore>) -> CacheMounts {
        CacheMounts { root, store, uses: Uses::default() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Where a directory is made before it has its name: in the same place, which nobody else can look into.
    pub fn hidden_path(&self) -> PathBuf {
        self.root.join(format!("{HIDDEN}{}", crate::id::random()))
    }

    pub fn has_files(&self, name: &str) -> bool {
        fs::read_dir(self.path(name)).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Uses a directory, or one of a row that nobody else uses. It is not pruned as long as the use lives.
    pub async fn enter(&self, name: &str, is_private: bool) -> Use {
        match is_private {
            false => self.uses.enter(name).await,
            true => self.uses.enter_private(name).await,
        }
    }

    /// Waits until nobody uses a directory; nobody does then until this is dropped.
    pub async fn alone(&self, name: &str) -> Alone {
        self.uses.alone(name).await
    }

    /// The directory that a step gets when it needs none of its own.
    pub fn first(name: &str, is_private: bool) -> String {
        if is_private { private(name, 0) } else { name.to_owned() }
    }

    /// The name of the directory that has, or is to have, what a cache says of one.
    pub fn imported(&self, slot: &str, layer: &DiffId) -> Result<String> {
        let records: Vec<Record> = self.store.cache_mounts()?;
        let is_it = |record: &Record| {
            let import = record.import.as_ref();
            import.is_some_and(|import| import.slot == slot && import.layers.contains(layer))
                && self.path(&record.name).is_dir()
        };
        let name = || Digest::of(&[b"imported mount ", slot.as_bytes(), layer.as_bytes()].concat()).hex();
        Ok(records.into_iter().find(is_it).map_or_else(name, |record| record.name))
    }

    /// Puts a directory that is complete where nothing is yet; and, where the cache's name means the same whoever says it, in the place of
    /// others that came from there before.
    pub fn import(
        &self,
        made: &Path,
        name: &str,
        id: &str,
        import: Import,
        replaces_earlier: bool,
    ) -> Result<()> {
        let path = self.path(name);
        match fs::rename(made, &path) {
            Err(error) if !path.is_dir() => return Err(Error::io("create", &path, error)),
            _ => {}
        }
        let records: Vec<Record> = self.store.cache_mounts()?;
        let is_older = |record: &Record| {
            let other = record.import.as_ref();
            replaces_earlier
                && record.name != name
                && other.is_some_and(|other| other.slot == import.slot && other.from == import.from)
        };
        let older: Vec<String> = records.into_iter().filter(is_older).map(|record| record.name).collect();
        self.change(name, id, |record| record.import = Some(import))?;
        self.remove(&older).map(drop)
    }

    pub fn note_used(&self, name: &str, id: &str) -> Result<()> {
        self.change(name, id, |record| {
            (record.used_at, record.uses) = (Timestamp::now().unix_nanos(), record.uses + 1);
        })
    }

    /// Remembers what a directory is, of which nobody else knows meanwhile.
    pub fn note_packed(&self, name: &str, layer: DiffId, tar_bytes: u64, blob: Descriptor) -> Result<()> {
        let Some(record) = self.store.cache_mount::<Record>(name)? else { return Ok(()) };
        self.change(name, &record.id, |record| {
            record.packed = Some(Packed { layer, tar_bytes, blob, uses: record.uses });
            if let Some(import) = &mut record.import
                && !import.layers.contains(&layer)
            {
                import.layers.push(layer);
                let past = import.layers.len().saturating_sub(LAYERS_MAX);
                import.layers.drain(..past);
            }
        })
    }

    /// What a directory is, if it was packed since somebody has used it.
    pub fn packed(&self, name: &str) -> Result<Option<Packed>> {
        let record = self.store.cache_mount::<Record>(name)?;
        Ok(record.and_then(|record| record.packed.filter(|packed| packed.uses == record.uses)))
    }

    fn change(&self, name: &str, id: &str, change: impl FnOnce(&mut Record)) -> Result<()> {
        let now = Timestamp::now().unix_nanos();
        let known = self.store.cache_mount::<Record>(name)?;
        let mut record = known.unwrap_or_else(|| Record {
            name: name.to_owned(),
            id: id.to_owned(),
            created_at: now,
            used_at: now,
            uses: 0,
            import: None,
            packed: None,
        });
        change(&mut record);
        self.store.put_cache_mount(name, &record)
    }

    /// What an engine that was killed has left half made, or half removed.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        let names = names(&self.root).into_iter().filter(|name| name.starts_with(HIDDEN));
        names.map(|name| self.root.join(name)).collect()
    }
}

impl Record {
    fn description(&self) -> String {
        match &self.import {
            None => format!("cache mount {}", self.id),
            Some(import) => format!("cache mount {} from {}", self.id, import.from),
        }
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
                description: record.map_or_else(|| "cache mount".to_owned(), |record| record.description()),
                bytes: self.uses.bytes(&name, || disk_usage(&self.path(&name))),
                created: time(|record| record.created_at),
                used: time(|record| record.used_at),
                uses: record.map_or(0, |record| record.uses),
                is_in_use: self.uses.is_used(&name),
                is_shared: false,
                id: name,
            }
        };
        let names = names(&self.root).into_iter().filter(|name| !name.starts_with(HIDDEN));
        Ok(names.map(entry).collect())
    }

    fn remove(&self, ids: &[String]) -> Result<CacheRemoval> {
        let mut removal = CacheRemoval::default();
        for name in ids {
            let (path, trash) =
                (self.root.join(name), self.root.join(format!("{TRASH_PREFIX}{}", crate::id::random())));
            // Its name goes first: a build that comes now makes another one.
            let renamed = self.uses.unless_used(name, || {
                fs::rename(&path, &trash).map(|()| self.store.remove_cache_mount(name))
            });
            match renamed {
                // It is used.
                None => continue,
                // Somebody else prunes, too.
                Some(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Some(Err(error)) => return Err(Error::io("remove", &path, error)),
                Some(Ok(forgotten)) => forgotten?,
            }
            let bytes = disk_usage(&trash);
            corten_sys::tree::remove(&trash).map_err(|error| Error::io("remove", &trash, error))?;
            removal.bytes += bytes;
            removal.ids.push(name.clone());
        }
        Ok(removal)
    }
}

fn names(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
