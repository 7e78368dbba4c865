//! Another name for a volume: one transaction for the volume and its users, then the directory.
//!
//! The record says what the directory was called before; should the engine end between the two, the next one moves it.

use std::collections::BTreeMap;
use std::path::Path;

use corten_api::volume::Volume;

use super::staged::Busy;
use super::{VolumeRecord, Volumes, check_name, no_such_volume};
use crate::container::{Record, lock};
use crate::error::{Error, Result};

/// Both names, kept from everybody else.
pub struct Rename<'a> {
    volumes: &'a Volumes,
    old: VolumeRecord,
    new: String,
    _busy: [Busy<'a>; 2],
}

impl Volumes {
    pub fn begin_rename(&self, old: &str, new: &str) -> Result<Rename<'_>> {
        check_name(new)?;
        let record = self.record(old)?;
        if old == new {
            return Err(Error::invalid("the new name is the old one"));
        }
        let busy = [self.occupy(old, "renamed")?, self.occupy(new, "made")?];
        let records = lock(&self.records);
        if !records.contains_key(old) {
            return Err(no_such_volume(old));
        }
        if records.contains_key(new) {
            return Err(Error::conflict(format!("volume {new} already exists")));
        }
        drop(records);
        Ok(Rename { volumes: self, old: record, new: new.to_owned(), _busy: busy })
    }
}

impl Rename<'_> {
    /// Renames, with the records of all containers that name the volume as they will be.
    pub fn finish(self, users: &[Record]) -> Result<Volume> {
        let volumes = self.volumes;
        let old = self.old.name.clone();
        let mut record = VolumeRecord {
            name: self.new.clone(),
            renamed_from: Some(old.clone()),
            anonymous: false,
            ..self.old
        };
        // A directory without a record has no user, and goes when it is empty.
        let _ = std::fs::remove_dir(volumes.data(&self.new));
        let _ = std::fs::remove_dir(volumes.directory(&self.new));
        if volumes.directory(&self.new).exists() {
            let place = volumes.directory(&self.new);
            return Err(Error::conflict(format!(
                "{} is not empty, though there is no volume {}",
                place.display(),
                self.new
            )));
        }
        volumes.store.rename_volume(&old, &self.new, &record, users)?;
        let mut records = lock(&volumes.records);
        records.remove(&old);
        records.insert(self.new.clone(), record.clone());
        let moved = move_directory(&volumes.root, &old, &self.new);
        drop(records);
        // The records are the truth, and the next start tries again.
        moved.map_err(|e| Error::io("rename", &volumes.directory(&old), e))?;
        record.renamed_from = None;
        volumes.store.put_volume(&self.new, &record)?;
        let volume = volumes.describe(&record);
        lock(&volumes.records).insert(self.new, record);
        Ok(volume)
    }
}

/// Finishes what a killed engine has begun.
pub(super) fn resume(root: &Path, records: &BTreeMap<String, VolumeRecord>) {
    for record in records.values() {
        let Some(old) = record.renamed_from.as_deref().filter(|old| !records.contains_key(*old)) else {
            continue;
        };
        if !root.join(&record.name).exists()
            && let Err(error) = move_directory(root, old, &record.name)
        {
            tracing::warn!(volume = record.name, old, %error, "a volume that was being renamed");
        }
    }
}

fn move_directory(root: &Path, old: &str, new: &str) -> std::io::Result<()> {
    std::fs::rename(root.join(old), root.join(new))
}
