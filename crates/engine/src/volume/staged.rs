//! Volumes that take long to make, and volumes that somebody works on as a whole.
//!
//! A volume in the making has the name of a removed one: should the engine end before it is whole, the next one deletes it. The record is
//! written before the directory gets its name, and a record whose directory is still among the removed ones goes with it.

use std::path::{Path, PathBuf};

use corten_api::volume::Volume;
use corten_sys::tree;

use super::{TRASH_DIGITS, TRASH_PREFIX, VolumeRecord, Volumes, check_name};
use crate::container::lock;
use crate::error::{Error, Result};
use crate::id;

/// A volume in the making; one that is not finished leaves nothing.
pub struct Staged<'a> {
    volumes: &'a Volumes,
    place: PathBuf,
    _busy: Busy<'a>,
}

/// As long as this lives nobody else makes, renames or removes the volume, and no container starts with it.
pub struct Busy<'a> {
    volumes: &'a Volumes,
    name: String,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        lock(&self.volumes.busy).remove(&self.name);
    }
}

impl Volumes {
    /// Takes a volume, or the name of one to be, for a work on the whole of it: "it is being …".
    pub fn occupy(&self, name: &str, doing: &'static str) -> Result<Busy<'_>> {
        let mut busy = lock(&self.busy);
        if let Some(other) = busy.get(name) {
            return Err(is_busy(name, other));
        }
        busy.insert(name.to_owned(), doing);
        Ok(Busy { volumes: self, name: name.to_owned() })
    }

    pub fn check_idle(&self, name: &str) -> Result<()> {
        match lock(&self.busy).get(name) {
            Some(doing) => Err(is_busy(name, doing)),
            None => Ok(()),
        }
    }

    /// Begins a new volume.
    pub fn stage(&self, name: &str) -> Result<Staged<'_>> {
        check_name(name)?;
        let busy = self.occupy(name, "made")?;
        if lock(&self.records).contains_key(name) {
            return Err(Error::conflict(format!("volume {name} already exists")));
        }
        let digits = &id::random()[..TRASH_DIGITS];
        let place = self.root.join(format!("{TRASH_PREFIX}{digits}-{name}"));
        std::fs::create_dir(&place).map_err(|e| Error::io("create", &place, e))?;
        let staged = Staged { volumes: self, place, _busy: busy };
        let data = staged.data();
        std::fs::create_dir(&data).map_err(|e| Error::io("create", &data, e))?;
        Ok(staged)
    }
}

fn is_busy(name: &str, doing: &str) -> Error {
    Error::conflict(format!("volume {name} is being {doing}: try again when that is done"))
}

impl Staged<'_> {
    /// The volume's directory for now.
    pub fn path(&self) -> &Path {
        &self.place
    }

    pub fn data(&self) -> PathBuf {
        self.place.join("_data")
    }

    /// It is whole: everybody may have it.
    pub fn finish(self, record: VolumeRecord) -> Result<Volume> {
        let volumes = self.volumes;
        let name = record.name.clone();
        let target = volumes.root.join(&name);
        // A directory of that name without a record has no user, and goes when it is empty.
        let _ = std::fs::remove_dir(target.join("_data"));
        let mut records = lock(&volumes.records);
        volumes.store.put_volume(&name, &record)?;
        if let Err(error) = std::fs::rename(&self.place, &target) {
            volumes.store.remove_volume(&name)?;
            return Err(Error::io("create", &target, error));
        }
        let volume = volumes.describe(&record);
        records.insert(name, record);
        Ok(volume)
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if self.place.exists()
            && let Err(error) = tree::remove(&self.place)
        {
            tracing::warn!(path = %self.place.display(), %error, "half a volume stays until the next start");
        }
    }
}
