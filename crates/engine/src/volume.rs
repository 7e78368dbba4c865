//! Volumes of the local driver: directories under the data root that outlive containers.
//!
//! `<name>/_data` is what containers see. Beside it, while a volume is filled, lie `.partial` (half a copy: worth nothing)
//! and `.filled` (a whole one, on its way into `_data`). `.removed-<8 digits>-<name>` is a volume that is gone for
//! everybody, or not there yet: one that takes long to make is made under such a name, so that a crash leaves garbage and
//! no half volume. Knows containers only as the names of users that its callers count.

pub mod limited;
pub mod mounted;
pub mod options;
mod rename;
mod staged;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use corten_api::filters::Filters;
use corten_api::volume::{Volume, VolumeCreateRequest};
use corten_api::{Map, Timestamp};
use corten_sys::tree;
use rustix::fs::{FileType, Stat};
use serde::{Deserialize, Serialize};

use crate::container::lock;
use crate::error::{Error, Result};
use crate::id;
use crate::store::StateStore;

use options::Content;
pub use staged::Staged;

/// Removed volumes wait under this prefix, which no volume's name has, while their files are deleted.
const TRASH_PREFIX: &str = ".removed-";
const TRASH_DIGITS: usize = 8;

/// The longest name for which there is room behind [`TRASH_PREFIX`] in a file's name of 255 bytes.
const NAME_BYTES_MAX: usize = 255 - TRASH_PREFIX.len() - TRASH_DIGITS - 1;

const PARTIAL: &str = ".partial";
const FILLED: &str = ".filled";

/// Who uses the volume of a name.
pub type Users<'a> = &'a dyn Fn(&str) -> Vec<String>;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VolumeRecord {
    pub name: String,
    pub created: Timestamp,
    pub labels: Map<String>,
    /// Made for one container by itself.
    #[serde(default)]
    pub anonymous: bool,
    /// As they were given.
    #[serde(default)]
    pub options: Map<String>,
    /// What its directory is called, unless it has been renamed already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renamed_from: Option<String>,
    /// The number under which the file system counts what it takes, if that is how it is limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<u32>,
}

impl VolumeRecord {
    pub fn content(&self) -> Result<Content> {
        options::content(&self.options)
    }

    /// Refuses what is somebody else's: files can be put into what the engine itself keeps.
    pub fn check_importable(&self) -> Result<()> {
        match self.content()? {
            Content::FileSystem(_) => Err(Error::invalid(format!(
                "volume {}: an archive becomes a volume of its own, with no option but a size",
                self.name
            ))),
            _ => Ok(()),
        }
    }
}

pub struct Volumes {
    root: PathBuf,
    store: Arc<StateStore>,
    records: Mutex<BTreeMap<String, VolumeRecord>>,
    /// Volumes that somebody works on as a whole, and with what: nobody may use, rename or remove them meanwhile.
    busy: Mutex<HashMap<String, &'static str>>,
}

impl Volumes {
    pub fn open(root: PathBuf, store: Arc<StateStore>) -> Result<Self> {
        std::fs::create_dir_all(&root).map_err(|e| Error::io("create", &root, e))?;
        let records = store.volumes::<VolumeRecord>()?.into_iter().map(|v| (v.name.clone(), v)).collect();
        Ok(Self { root, store, records: Mutex::new(records), busy: Mutex::default() })
    }

    /// The directory whose content a container sees.
    pub fn data(&self, name: &str) -> PathBuf {
        self.root.join(name).join("_data")
    }

    /// Makes a volume, or returns the one of that name. The flag tells whether it is new.
    pub fn create(&self, request: &VolumeCreateRequest, anonymous: bool) -> Result<(Volume, bool)> {
        if !matches!(request.driver.as_str(), "" | "local") {
            return Err(Error::not_found(format!(
                "error looking up volume plugin {0}: plugin \"{0}\" not found",
                request.driver
            )));
        }
        let name = if request.name.is_empty() { id::random() } else { request.name.clone() };
        check_name(&name)?;
        let content =
            options::content(&request.driver_opts).map_err(|e| e.within(format!("create {name}")))?;
        let record = VolumeRecord {
            name: name.clone(),
            created: Timestamp::now(),
            labels: if request.labels.is_empty() { Map::default() } else { request.labels.clone() },
            anonymous,
            options: if request.driver_opts.is_empty() {
                Map::default()
            } else {
                request.driver_opts.clone()
            },
            renamed_from: None,
            project: None,
        };
        if let Content::Limited(bytes) = content {
            if let Ok(known) = self.inspect(&name) {
                return Ok((known, false));
            }
            let staged = self.stage(&name)?;
            let project = limited::make(staged.path(), &staged.data(), bytes)?;
            return staged.finish(VolumeRecord { project, ..record }).map(|volume| (volume, true));
        }
        let mut records = lock(&self.records);
        if let Some(known) = records.get(&name) {
            return Ok((self.describe(known), false));
        }
        self.check_idle(&name)?;
        let data = self.data(&name);
        std::fs::create_dir_all(&data).map_err(|e| Error::io("create", &data, e))?;
        if let Err(error) = self.store.put_volume(&name, &record) {
            // Only what is empty goes: files that are there without a record are somebody's.
            let _ = std::fs::remove_dir(&data);
            let _ = std::fs::remove_dir(self.root.join(&name));
            return Err(error);
        }
        let volume = self.describe(&record);
        records.insert(name, record);
        Ok((volume, true))
    }

    pub fn inspect(&self, name: &str) -> Result<Volume> {
        let records = lock(&self.records);
        records.get(name).map(|record| self.describe(record)).ok_or_else(|| no_such_volume(name))
    }

    /// `users` counts the containers that use a volume.
    pub fn list(&self, filters: &Filters, users: &dyn Fn(&str) -> usize) -> Result<Vec<Volume>> {
        filters
            .validate(&["dangling", "driver", "label", "label!", "name"])
            .map_err(|e| Error::invalid(e.to_string()))?;
        let dangling = filters.boolean("dangling").map_err(|e| Error::invalid(e.to_string()))?;
        let records = lock(&self.records);
        Ok(records
            .values()
            .filter(|volume| {
                filters.any("name", |part| volume.name.contains(part))
                    && filters.exact("driver", "local")
                    && filters.labels(|key| volume.labels.get(key).map(String::as_str))
                    && dangling.is_none_or(|dangling| dangling == (users(&volume.name) == 0))
            })
            .map(|volume| self.describe(volume))
            .collect())
    }

    /// Forgets a volume that nobody uses; gives the directory whose files may be deleted, if there was a volume.
    ///
    /// Users are counted under the lock that [`Volumes::create`] takes: a container names its volumes before it makes them, so
    /// it either is counted here or finds the volume gone and makes it anew.
    pub fn remove(&self, name: &str, force: bool, users: Users<'_>) -> Result<Option<PathBuf>> {
        let mut records = lock(&self.records);
        let users = users(name);
        if !users.is_empty() {
            return Err(Error::conflict(format!("remove {name}: volume is in use - [{}]", users.join(", "))));
        }
        if !records.contains_key(name) {
            return if force { Ok(None) } else { Err(no_such_volume(name)) };
        }
        self.check_idle(name)?;
        // Out of sight first: after a crash in between, the name of what is found tells which record has to go.
        let digits = &id::random()[..TRASH_DIGITS];
        let doomed = self.root.join(format!("{TRASH_PREFIX}{digits}-{name}"));
        let directory = self.root.join(name);
        match std::fs::rename(&directory, &doomed) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove volume", &directory, error));
            }
            _ => {}
        }
        if let Err(error) = self.store.remove_volume(name) {
            let _ = std::fs::rename(&doomed, &directory);
            return Err(error);
        }
        let project = records.remove(name).and_then(|record| record.project);
        if let Some(project) = project {
            limited::forget(&self.root, project);
        }
        Ok(Some(doomed))
    }

    /// Gives an empty volume its first content, all of it or nothing. `copy` makes it in a directory and tells whether there
    /// was any. Takes as long as that takes.
    pub fn fill(&self, name: &str, copy: impl FnOnce(&Path) -> Result<bool>) -> Result<()> {
        let volume = self.root.join(name);
        // Two containers may be made at once.
        let _turn = turn(&volume).map_err(|e| Error::io("lock", &volume, e))?;
        fill(&volume, &self.data(name), copy)
    }

    /// The same for a volume that is mounted: the copy lies in it meanwhile.
    pub fn fill_mounted(
        &self,
        name: &str,
        data: &Path,
        copy: impl FnOnce(&Path) -> Result<bool>,
    ) -> Result<()> {
        let volume = self.root.join(name);
        let _turn = turn(&volume).map_err(|e| Error::io("lock", &volume, e))?;
        fill(data, data, copy)
    }

    pub fn record(&self, name: &str) -> Result<VolumeRecord> {
        lock(&self.records).get(name).cloned().ok_or_else(|| no_such_volume(name))
    }

    /// The directory of a volume and all that belongs to it.
    pub fn directory(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub fn is_anonymous(&self, name: &str) -> bool {
        lock(&self.records).get(name).is_some_and(|volume| volume.anonymous)
    }

    /// Finishes what a killed engine had begun; gives the directories whose files may be deleted.
    pub fn sweep(&self) -> Result<Vec<PathBuf>> {
        let failed = |e| Error::io("read", &self.root, e);
        let mut records = lock(&self.records);
        rename::resume(&self.root, &records);
        let mut doomed = Vec::new();
        for entry in std::fs::read_dir(&self.root).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let file_name = entry.file_name();
            let Some(trash) = file_name.to_str().and_then(|name| name.strip_prefix(TRASH_PREFIX)) else {
                continue;
            };
            let name = trash.get(TRASH_DIGITS + 1..).unwrap_or_default();
            if records.contains_key(name) && !self.root.join(name).exists() {
                self.store.remove_volume(name)?;
                records.remove(name);
            }
            doomed.push(entry.path());
        }
        for name in records.keys() {
            let filled = self.root.join(name).join(FILLED);
            if filled.exists()
                && let Err(error) = settle(&filled, &self.data(name))
            {
                tracing::warn!(volume = name, %error, "a volume that was being filled");
            }
        }
        Ok(doomed)
    }

    fn describe(&self, record: &VolumeRecord) -> Volume {
        Volume {
            created_at: record.created,
            driver: "local".to_owned(),
            labels: record.labels.clone(),
            mountpoint: self.data(&record.name).display().to_string(),
            name: record.name.clone(),
            options: record.options.clone(),
            scope: "local".to_owned(),
            ..Volume::default()
        }
    }
}

fn check_name(name: &str) -> Result<()> {
    if id::check_name("volume", name).is_err() {
        // Most often meant as a directory: `-v data/x:/y`.
        return Err(Error::invalid(format!(
            "create {name}: \"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
        )));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(Error::invalid(format!(
            "volume name is too long: {} bytes, at most {NAME_BYTES_MAX}",
            name.len()
        )));
    }
    Ok(())
}

/// Fills `data`; the copy lies `beside` it meanwhile, which may be the same directory.
fn fill(beside: &Path, data: &Path, copy: impl FnOnce(&Path) -> Result<bool>) -> Result<()> {
    let (partial, filled) = (beside.join(PARTIAL), beside.join(FILLED));
    if !filled.exists() {
        if !is_empty(data).map_err(|e| Error::io("read", data, e))? {
            return Ok(());
        }
        if !on_one_mount(beside, data).map_err(|e| Error::io("look at", data, e))? {
            // Somebody has mounted a file system there, into which nothing can be moved.
            return copy(data).map(drop);
        }
        tree::remove(&partial).map_err(|e| Error::io("remove", &partial, e))?;
        std::fs::create_dir(&partial).map_err(|e| Error::io("create", &partial, e))?;
        if !copy(&partial).inspect_err(|_| drop(tree::remove(&partial)))? {
            return tree::remove(&partial).map_err(|e| Error::io("remove", &partial, e));
        }
        std::fs::rename(&partial, &filled).map_err(|e| Error::io("rename", &partial, e))?;
    }
    settle(&filled, data).map_err(|e| Error::io("fill", data, e))
}

/// Whether nothing but the beginning of a copy is there.
fn is_empty(data: &Path) -> std::io::Result<bool> {
    for entry in std::fs::read_dir(data)? {
        if entry?.file_name() != PARTIAL {
            return Ok(false);
        }
    }
    Ok(true)
}

fn no_such_volume(name: &str) -> Error {
    Error::not_found(format!("get {name}: no such volume"))
}

/// Waits until nobody else fills this volume, as long as the answer lives.
fn turn(volume: &Path) -> std::io::Result<std::fs::File> {
    let directory = std::fs::File::open(volume)?;
    rustix::fs::flock(&directory, rustix::fs::FlockOperation::LockExclusive)?;
    Ok(directory)
}

fn on_one_mount(one: &Path, other: &Path) -> std::io::Result<bool> {
    Ok(std::fs::metadata(one)?.dev() == std::fs::metadata(other)?.dev())
}

/// Moves a whole copy's content to where containers see it. What they have written there meanwhile stays.
fn settle(filled: &Path, data: &Path) -> std::io::Result<()> {
    corten_image::mounts::move_contents(filled, data)?;
    tree::remove(filled)
}

/// Bytes of all files below a directory, as the disk counts them.
pub fn disk_usage(path: &Path) -> u64 {
    sum(path, |stat| stat.st_blocks as u64 * 512)
}

/// Bytes of all regular files below a directory, as programs see them.
pub fn file_bytes(path: &Path) -> u64 {
    let is_file = |mode| FileType::from_raw_mode(mode) == FileType::RegularFile;
    sum(path, |stat| if is_file(stat.st_mode) { stat.st_size as u64 } else { 0 })
}

/// A file with several names counts once.
fn sum(path: &Path, bytes: impl Fn(&Stat) -> u64) -> u64 {
    let (mut total, mut linked) = (0, HashSet::new());
    // What can't be read is not counted.
    let _ = tree::visit(path, &mut |stat| {
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if directory || stat.st_nlink == 1 || linked.insert((stat.st_dev, stat.st_ino)) {
            total += bytes(stat);
        }
    });
    total
}

#[cfg(test)]
mod tests;
