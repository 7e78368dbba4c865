//! Volumes of the local driver: directories under the data root that outlive containers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use corten_api::filters::Filters;
use corten_api::volume::{Volume, VolumeCreateRequest};
use corten_api::{Map, Timestamp};
use corten_sys::tree;
use serde::{Deserialize, Serialize};

use crate::container::lock;
use crate::error::{Error, Result};
use crate::id;
use crate::store::StateStore;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VolumeRecord {
    pub name: String,
    pub created: Timestamp,
    pub labels: Map<String>,
    /// Made for one container by itself.
    #[serde(default)]
    pub anonymous: bool,
}

pub struct Volumes {
    root: PathBuf,
    store: Arc<StateStore>,
    records: Mutex<BTreeMap<String, VolumeRecord>>,
}

impl Volumes {
    pub fn open(root: PathBuf, store: Arc<StateStore>) -> Result<Self> {
        std::fs::create_dir_all(&root).map_err(|e| Error::io("create", &root, e))?;
        let records = store.volumes::<VolumeRecord>()?.into_iter().map(|v| (v.name.clone(), v)).collect();
        Ok(Self { root, store, records: Mutex::new(records) })
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
        if let Some(option) = request.driver_opts.keys().next() {
            return Err(Error::unsupported(format!(
                "volume option \"{option}\" is not supported: the local driver keeps volumes as plain directories"
            )));
        }
        let name = if request.name.is_empty() { id::random() } else { request.name.clone() };
        id::check_name("volume", &name)?;
        let mut records = lock(&self.records);
        if let Some(known) = records.get(&name) {
            return Ok((self.describe(known), false));
        }
        let data = self.data(&name);
        std::fs::create_dir_all(&data).map_err(|e| Error::io("create", &data, e))?;
        let labels = if request.labels.is_empty() { Map::default() } else { request.labels.clone() };
        let record = VolumeRecord { name: name.clone(), created: Timestamp::now(), labels, anonymous };
        self.store.put_volume(&name, &record)?;
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

    /// The caller knows that no container uses it.
    pub fn remove(&self, name: &str, force: bool) -> Result<bool> {
        let mut records = lock(&self.records);
        if !records.contains_key(name) {
            return if force { Ok(false) } else { Err(no_such_volume(name)) };
        }
        // Out of sight first, so that a crash half-way leaves a directory to be swept and not half a volume.
        let doomed = self.root.join(format!(".{name}.removed"));
        let directory = self.root.join(name);
        match std::fs::rename(&directory, &doomed) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove volume", &directory, error));
            }
            _ => {}
        }
        self.store.remove_volume(name)?;
        records.remove(name);
        drop(records);
        let _ = tree::remove(&doomed);
        Ok(true)
    }

    pub fn is_anonymous(&self, name: &str) -> bool {
        lock(&self.records).get(name).is_some_and(|volume| volume.anonymous)
    }

    /// Deletes what a removal left behind.
    pub fn sweep(&self) {
        let Ok(entries) = std::fs::read_dir(&self.root) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            // No volume's name begins with a dot, but one may well end like this.
            if name.starts_with('.') && name.ends_with(".removed") {
                let _ = tree::remove(&entry.path());
            }
        }
    }

    fn describe(&self, record: &VolumeRecord) -> Volume {
        Volume {
            created_at: record.created,
            driver: "local".to_owned(),
            labels: record.labels.clone(),
            mountpoint: self.data(&record.name).display().to_string(),
            name: record.name.clone(),
            options: Map::default(),
            scope: "local".to_owned(),
            ..Volume::default()
        }
    }
}

fn no_such_volume(name: &str) -> Error {
    Error::not_found(format!("get {name}: no such volume"))
}

/// Bytes of all files below a directory, as the disk counts them.
pub fn disk_usage(path: &Path) -> u64 {
    sum(path, |stat| stat.st_blocks as u64 * 512)
}

/// Bytes of all regular files below a directory, as programs see them.
pub fn file_bytes(path: &Path) -> u64 {
    let is_file = |mode| rustix::fs::FileType::from_raw_mode(mode) == rustix::fs::FileType::RegularFile;
    sum(path, |stat| if is_file(stat.st_mode) { stat.st_size as u64 } else { 0 })
}

fn sum(path: &Path, bytes: impl Fn(&rustix::fs::Stat) -> u64) -> u64 {
    let mut total = 0;
    // What can't be read is not counted.
    let _ = tree::visit(path, &mut |stat| total += bytes(stat));
    total
}
