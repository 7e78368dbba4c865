//! Volumes in use: mounted before a container starts, let go of at its end, taken over from killed engines, and opened for works on
//! their files from outside.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use corten_image::mounts::FileSystem;
use corten_runtime::monitor::read_state;

use crate::Engine;
use crate::container::{Container, Record};
use crate::error::{Error, Result};
use crate::id;
use crate::image::blocking;
use crate::mounts::{MountKind, ResolvedMount};
use crate::volume::limited;
use crate::volume::options::Content;

/// A volume's files, held open and mounted where that is needed. Dropping it may wait for the disk.
pub struct OpenVolume {
    engine: Engine,
    name: String,
    /// Whose use is to be ended; none for a directory.
    user: Option<String>,
    directory: File,
}

impl OpenVolume {
    /// A way to the root of the volume that works in every namespace, as long as this lives.
    pub fn path(&self) -> PathBuf {
        descriptor_path(self.directory.as_fd())
    }
}

/// A name for an open directory that means it in every mount namespace. Behind the dot it is the directory and no link.
pub(super) fn descriptor_path(directory: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/.", directory.as_raw_fd()))
}

impl AsFd for OpenVolume {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

impl Drop for OpenVolume {
    fn drop(&mut self) {
        if let Some(user) = &self.user {
            self.engine.release_volume(&self.name, user);
        }
    }
}

impl Engine {
    /// Opens a volume's root directory. Waits for disks and servers.
    pub fn open_volume(&self, name: &str) -> Result<OpenVolume> {
        let failed = |error: corten_image::MountError| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            Error::internal(format!("open volume {name}: {error}{}", cause.unwrap_or_default()))
        };
        let mut open = OpenVolume {
            engine: self.clone(),
            name: name.to_owned(),
            user: None,
            directory: File::open("/").map_err(|e| Error::io("open", Path::new("/"), e))?,
        };
        let mut path = self.volumes.data(name);
        if let Some(wanted) = self.file_system_of(name)? {
            let user = format!("open-{}", id::random());
            path = self.mounted.acquire(name, &user, &wanted, &path)?;
            open.user = Some(user);
        }
        open.directory = self.layers.open_directory(&path, Path::new("")).map_err(failed)?;
        Ok(open)
    }

    /// What has to be mounted for a volume; nothing for a directory.
    pub(super) fn file_system_of(&self, name: &str) -> Result<Option<FileSystem>> {
        let record = self.volumes.record(name)?;
        Ok(match record.content()? {
            Content::Directory => None,
            Content::Limited(_) if record.project.is_some() => None,
            Content::Limited(_) => Some(limited::file_system(&self.volumes.directory(name))),
            Content::FileSystem(wanted) => Some(wanted),
        })
    }

    /// Mounts what a container's volumes want mounted, and makes that the sources of its mounts.
    pub(crate) async fn mount_volumes(&self, container: &Arc<Container>, record: &mut Record) -> Result<()> {
        if record.mounts.iter().all(|mount| mount.kind != MountKind::Volume) {
            return Ok(());
        }
        let mut wanted = Vec::new();
        // Counted before it is asked whether somebody works on a volume: who begins to work on one asks the other way round.
        container.has_volumes.store(true, Ordering::SeqCst);
        for (number, mount) in record.mounts.iter().enumerate().filter(|(_, mount)| is_volume(mount)) {
            if let Err(error) = self.volumes.check_idle(&mount.volume) {
                container.has_volumes.store(false, Ordering::SeqCst);
                return Err(error);
            }
            if let Some(file_system) = self.file_system_of(&mount.volume)? {
                wanted.push((number, mount.volume.clone(), file_system));
            }
        }
        if !wanted.is_empty() {
            let (engine, user) = (self.clone(), container.id.clone());
            let paths = blocking(move || {
                let mount = |(number, name, wanted): &(usize, String, FileSystem)| {
                    let shown = engine.volumes.data(name);
                    Ok((*number, engine.mounted.acquire(name, &user, wanted, &shown)?))
                };
                wanted.iter().map(mount).collect::<Result<Vec<_>>>()
            });
            for (number, path) in paths.await? {
                record.mounts[number].source = path.display().to_string();
            }
        }
        Ok(())
    }

    /// A container's use of its volumes is over.
    pub(crate) async fn release_volumes(&self, container: &Arc<Container>) {
        if !container.has_volumes.swap(false, Ordering::SeqCst) {
            return;
        }
        let volumes: Vec<String> = container
            .read()
            .mounts
            .iter()
            .filter(|mount| is_volume(mount))
            .map(|mount| mount.volume.clone())
            .collect();
        let is_mounted = |name: &&String| self.file_system_of(name).is_ok_and(|wanted| wanted.is_some());
        let mounted: HashSet<String> = volumes.iter().filter(is_mounted).cloned().collect();
        if !mounted.is_empty() {
            let (engine, user) = (self.clone(), container.id.clone());
            let released = blocking(move || {
                mounted.iter().for_each(|name| engine.release_volume(name, &user));
                Ok(())
            });
            if let Err(error) = released.await {
                tracing::warn!(container = container.id, %error, "its volumes");
            }
        }
    }

    pub(super) fn release_volume(&self, name: &str, user: &str) {
        if let Err(error) = self.mounted.release(name, user, || self.monitors_namespaces()) {
            tracing::warn!(volume = name, %error, "a volume stays mounted");
        }
    }

    /// Counts the volumes of a container that has outlived its engine.
    pub(crate) async fn adopt_volumes(&self, container: &Arc<Container>) {
        let volumes: Vec<String> = container
            .read()
            .mounts
            .iter()
            .filter(|mount| is_volume(mount))
            .map(|mount| mount.volume.clone())
            .collect();
        if volumes.is_empty() {
            return;
        }
        container.has_volumes.store(true, Ordering::SeqCst);
        let (engine, id) = (self.clone(), container.id.clone());
        let adopted = blocking(move || {
            for name in volumes {
                if engine.file_system_of(&name)?.is_some()
                    && let Some(namespace) = engine.monitor_namespace(&id)
                {
                    engine.mounted.adopt(&name, &id, namespace)?;
                }
            }
            Ok(())
        });
        if let Err(error) = adopted.await {
            tracing::warn!(container = container.id, %error, "the volumes of a running container");
        }
    }

    /// Unmounts what a killed engine has mounted for works that ended with it, and for containers that have ended since.
    pub(crate) async fn sweep_mounted(&self) {
        let engine = self.clone();
        let swept = blocking(move || {
            for namespace in engine.monitors_namespaces() {
                if let Err(error) = engine.layers.sweep_file_systems(namespace, &engine.mounted.names()) {
                    tracing::warn!(%error, "volumes that an earlier engine has mounted");
                }
            }
            Ok(())
        });
        // It can only have panicked.
        let _ = swept.await;
    }

    /// The mount namespace of a container's monitor: the one that its engine had.
    fn monitor_namespace(&self, id: &str) -> Option<File> {
        let state = read_state(&self.places(id).run).ok()?;
        File::open(format!("/proc/{}/ns/mnt", state.monitor_pid)).ok()
    }

    fn monitors_namespaces(&self) -> Vec<File> {
        let alive = self.containers.all().into_iter().filter(|container| container.phase().is_alive());
        alive.filter_map(|container| self.monitor_namespace(&container.id)).collect()
    }
}

fn is_volume(mount: &ResolvedMount) -> bool {
    mount.kind == MountKind::Volume
}
