//! A volume as a whole: another one with the same files, and another name.
//!
//! What is half made when the engine ends is nobody's and goes; what is renamed is renamed entirely, in the volume and in all containers that
//! name it.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use corten_api::Timestamp;
use corten_api::volume::Volume;
use corten_image::mounts::copy_tree;

use crate::Engine;
use crate::container::{Container, Phase, Record};
use crate::error::{Error, Result};
use crate::id;
use crate::image::blocking;
use crate::mounts::{MountKind, ResolvedMount};
use crate::volume::options::Content;
use crate::volume::{Staged, VolumeRecord, limited};

impl Engine {
    /// Makes a volume with the files, labels and limit of another one. `live`: also while a container may write to it.
    pub async fn volume_clone(&self, source: &str, target: &str, live: bool) -> Result<Volume> {
        let (engine, source, target) = (self.clone(), source.to_owned(), target.to_owned());
        let cloned = blocking(move || engine.clone_volume(&source, &target, live)).await?;
        self.volume_event(&cloned.name, "create", &[("driver", "local")]);
        Ok(cloned)
    }

    fn clone_volume(&self, source: &str, target: &str, live: bool) -> Result<Volume> {
        let record = self.volumes.record(source)?;
        let staged = self.volumes.stage(target)?;
        let _quiet = if live { None } else { Some(self.volumes.occupy(source, "cloned")?) };
        if !live && let Some(writer) = self.volume_writer(source) {
            return Err(Error::conflict(format!(
                "volume {source} is in use by running container {}, which may write to it: stop or pause the container first, or clone the volume as it is at the moment (live)",
                id::short(&writer)
            )));
        }
        let open = self.open_volume(source)?;
        let own_kind = !matches!(record.content()?, Content::FileSystem(_));
        let record = VolumeRecord {
            name: target.to_owned(),
            created: Timestamp::now(),
            labels: record.labels,
            anonymous: false,
            // What is mounted from elsewhere is there already: the copy is a directory.
            options: if own_kind { record.options } else { Default::default() },
            renamed_from: None,
            project: None,
        };
        let failed = |e: std::io::Error| Error::internal(format!("clone volume {source} to {target}: {e}"));
        let project = self.fill_staged(&staged, &record, &|into| {
            copy_tree(&open, Path::new("/"), into).map(drop).map_err(failed)
        })?;
        staged.finish(VolumeRecord { project, ..record })
    }

    /// Puts files into a volume in the making; they are on the disk when it returns. Gives the project of its quota, if it has one.
    pub(super) fn fill_staged(
        &self,
        staged: &Staged<'_>,
        record: &VolumeRecord,
        fill: &dyn Fn(&Path) -> Result<()>,
    ) -> Result<Option<u32>> {
        let project = match record.content()? {
            Content::Limited(bytes) => Some(limited::make(staged.path(), &staged.data(), bytes)?),
            _ => None,
        };
        // A directory, limited or not.
        if project != Some(None) {
            let data = staged.data();
            fill(&data)?;
            return sync(&data).map(|()| project.flatten());
        }
        let user = format!("stage-{}", id::random());
        let wanted = limited::file_system(staged.path());
        let path = self.mounted.acquire(&record.name, &user, &wanted, &staged.data())?;
        let filled = self
            .layers
            .open_directory(&path, Path::new(""))
            .map_err(|e| Error::io("open", &path, e))
            .and_then(|directory| {
                let into = super::use_by::descriptor_path(directory.as_fd());
                fill(&into)?;
                sync(&into)
            });
        self.release_volume(&record.name, &user);
        filled.map(|()| None)
    }

    /// A running container that can write to a volume.
    fn volume_writer(&self, name: &str) -> Option<String> {
        let writes = |mount: &ResolvedMount| uses(mount, name) && !mount.read_only;
        let found = self.containers.all().into_iter().find(|container| {
            let record = container.read();
            let active = record.state.phase != Phase::Paused
                && (record.state.phase.is_alive() || container.has_volumes.load(Ordering::SeqCst));
            active && record.mounts.iter().any(writes)
        });
        found.map(|container| container.id.clone())
    }

    /// Gives a volume another name, in the containers that use it too.
    pub async fn volume_rename(&self, old: &str, new: &str) -> Result<Volume> {
        let (engine, from, to) = (self.clone(), old.to_owned(), new.to_owned());
        let renamed = blocking(move || engine.rename_volume(&from, &to)).await?;
        self.volume_event(new, "rename", &[("driver", "local"), ("oldName", old)]);
        Ok(renamed)
    }

    fn rename_volume(&self, old: &str, new: &str) -> Result<Volume> {
        let rename = self.volumes.begin_rename(old, new)?;
        let users: Vec<Arc<Container>> = self
            .containers
            .all()
            .into_iter()
            .filter(|container| container.read().mounts.iter().any(|mount| uses(mount, old)))
            .collect();
        let mut turns = Vec::with_capacity(users.len());
        for container in &users {
            let in_use = |state: &str| {
                let id = id::short(&container.id);
                Error::conflict(format!(
                    "volume {old} is in use by {state} container {id}: stop the container first"
                ))
            };
            // A container that starts, ends or is being made has its turn just now.
            turns.push(container.operation.try_lock().map_err(|_| in_use("a busy"))?);
            if container.phase().is_alive() {
                return Err(in_use("running"));
            }
        }
        let data = self.volumes.data(new).display().to_string();
        let renamed: Vec<Record> = users
            .iter()
            .map(|container| {
                let mut record = container.read().clone();
                follow(&mut record, old, new, &data);
                record
            })
            .collect();
        let volume = rename.finish(&renamed)?;
        for (container, record) in users.iter().zip(renamed) {
            *container.write() = record;
        }
        Ok(volume)
    }
}

fn uses(mount: &ResolvedMount, name: &str) -> bool {
    mount.kind == MountKind::Volume && mount.volume == name
}

/// Makes a container's record name a volume by its new name wherever it named it by its old one.
fn follow(record: &mut Record, old: &str, new: &str, data: &str) {
    for mount in record.mounts.iter_mut().filter(|mount| uses(mount, old)) {
        new.clone_into(&mut mount.volume);
        data.clone_into(&mut mount.source);
    }
    let host = &mut record.host_config;
    let renamed = host.binds.iter().map(|bind| match bind.split_once(':') {
        Some((source, rest)) if source == old => format!("{new}:{rest}"),
        _ => bind.clone(),
    });
    if !host.binds.is_empty() {
        host.binds = renamed.collect();
    }
    if !host.mounts.is_empty() {
        let mut mounts = host.mounts.to_vec();
        for mount in mounts.iter_mut().filter(|mount| mount.kind == "volume" && mount.source == old) {
            new.clone_into(&mut mount.source);
        }
        host.mounts = mounts.into();
    }
}

/// Waits until everything below is on the disk: a record must not outlive a power cut that its files don't.
fn sync(directory: &Path) -> Result<()> {
    let open = std::fs::File::open(directory).map_err(|e| Error::io("open", directory, e))?;
    rustix::fs::syncfs(&open).map_err(|e| Error::io("write out", directory, e))
}
