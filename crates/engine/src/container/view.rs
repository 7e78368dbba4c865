//! Getting at a container's tree: that of its processes where it runs, else its layers and mounts put together for the purpose.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use corten_image::Rootfs;
use corten_image::mounts::{MountError, RunningRoot, View, ViewMount, missing_places};
use rustix::fs::{Mode, OFlags};
use tokio::sync::{MutexGuard, watch};

use super::{Container, Record};
use crate::Engine;
use crate::error::{Error, Result};
use crate::mounts::MountKind;

/// What the engine makes for every container, and mounts unless something else is mounted there.
const IDENTITY: [(&str, &str); 3] =
    [("hosts", "/etc/hosts"), ("hostname", "/etc/hostname"), ("resolv.conf", "/etc/resolv.conf")];

/// Held as long as files are written into a container: no start comes in between, as it would mount the same writable directory.
pub(super) struct WritingTurn<'a> {
    _writer: Option<MutexGuard<'a, ()>>,
    _count: Copying,
}

impl WritingTurn<'_> {
    /// Nobody else can write meanwhile, or start the container.
    pub(super) fn is_alone(&self) -> bool {
        self._writer.is_some()
    }
}

/// Who wants a container's files for changing them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Copies {
    /// Those who write into it from outside, or wait to.
    writers: usize,
    /// A start that waits for them.
    start: bool,
}

/// Counts somebody who writes into a container from outside.
struct Copying(watch::Sender<Copies>);

impl Copying {
    fn new(container: &Container) -> Self {
        container.copies.send_modify(|copies| copies.writers += 1);
        Self(container.copies.clone())
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        self.0.send_modify(|copies| copies.writers -= 1);
    }
}

impl Container {
    /// Waits until nobody writes into it from outside; false when somebody goes on.
    pub(super) async fn uncopied(&self, patience: Duration) -> bool {
        let mut copies = self.copies.subscribe();
        if copies.borrow().writers == 0 {
            return true;
        }
        self.copies.send_modify(|copies| copies.start = true);
        let free = copies.wait_for(|copies| copies.writers == 0);
        // What it yields keeps the channel locked.
        let free = tokio::time::timeout(patience, free).await.is_ok_and(|ended| ended.is_ok());
        self.copies.send_modify(|copies| copies.start = false);
        free
    }

    /// Somebody waits for the end of a writer: a start does for each of them, another writer for one that is alone, and who has
    /// removed the container wants none.
    pub(super) fn waits_for_writer(&self, is_alone: bool) -> bool {
        let copies = *self.copies.borrow();
        copies.start || is_alone && copies.writers > 1 || self.progress.borrow().removed
    }
}

impl Engine {
    /// The tree as the container sees it, for reading only.
    pub(super) async fn reading_view(&self, container: &Arc<Container>) -> Result<View> {
        if let Some(view) = self.running_view(container, true).await? {
            return Ok(view);
        }
        let rootfs = self.rootfs_of(container)?;
        let no_mounts = self.clone().settle_places(container, &rootfs).await?;
        let (engine, record) = (self.clone(), container.read().clone());
        crate::image::blocking(move || {
            let root = engine.layers.detached_root(&rootfs, true).map_err(failed)?;
            if no_mounts {
                return Ok(View::plain(root));
            }
            engine.with_sources(&record, |mounts| engine.layers.view(root, mounts))
        })
        .await
    }

    /// The tree as the container sees it, for changing it.
    pub(super) async fn writing_view<'a>(
        &self,
        container: &'a Arc<Container>,
    ) -> Result<(View, WritingTurn<'a>)> {
        let count = {
            // Counted under the lock that a start holds: either it waits for us, or we see it running.
            let _turn = container.operation.lock().await;
            if container.progress.borrow().removed {
                return Err(Error::no_such_container(&container.id));
            }
            Copying::new(container)
        };
        if let Some(view) = self.running_view(container, true).await? {
            return Ok((view, WritingTurn { _writer: None, _count: count }));
        }
        let writer = container.writing.lock().await;
        let rootfs = self.rootfs_of(container)?;
        let (engine, record) = (self.clone(), container.read().clone());
        let view = crate::image::blocking(move || {
            let root = engine.writable_root(&record, &rootfs)?;
            engine.with_sources(&record, |mounts| {
                engine.layers.make_places(&root, &mounts)?;
                engine.layers.view(root, mounts)
            })
        });
        Ok((view.await?, WritingTurn { _writer: Some(writer), _count: count }))
    }

    /// The container's root alone, for reading.
    pub(super) async fn bare_view(&self, container: &Arc<Container>) -> Result<View> {
        if let Some(view) = self.running_view(container, false).await? {
            return Ok(view);
        }
        let (engine, rootfs) = (self.clone(), self.rootfs_of(container)?);
        let root = crate::image::blocking(move || engine.layers.detached_root(&rootfs, true).map_err(failed));
        Ok(View::plain(root.await?))
    }

    /// `None` where no process of the container is alive.
    async fn running_view(&self, container: &Arc<Container>, with_mounts: bool) -> Result<Option<View>> {
        if !container.phase().is_alive() {
            return Ok(None);
        }
        let (engine, container) = (self.clone(), container.clone());
        crate::image::blocking(move || {
            let Some(root) = engine.running_root(&container) else { return Ok(None) };
            let record = container.read().clone();
            let destinations = if with_mounts { destinations(&record) } else { Vec::new() };
            let view = View::of_running(root, destinations, &engine.root_mount_point());
            view.map(Some).map_err(|source| failed(MountError::View { source }))
        })
        .await
    }

    /// The root directory of a container's first process, if that is alive and surely its own.
    fn running_root(&self, container: &Container) -> Option<RunningRoot> {
        let pid = self.pid_of(&container.id).ok()?;
        let open = |name: &str, flags: OFlags| {
            rustix::fs::open(format!("/proc/{pid}/{name}"), flags | OFlags::CLOEXEC, Mode::empty()).ok()
        };
        let namespace = open("ns/mnt", OFlags::RDONLY)?;
        let root = open("root", OFlags::PATH | OFlags::DIRECTORY)?;
        // The number may have become another process's before it was opened, but not back again.
        (self.pid_of(&container.id).ok()? == pid).then_some(RunningRoot { namespace, root })
    }

    fn rootfs_of(&self, container: &Container) -> Result<Rootfs> {
        self.images.rootfs(&container.id, &self.layers).map_err(crate::image::failed)
    }

    /// Makes the places for its mounts that are missing; whether it has no mounts at all.
    async fn settle_places(self, container: &Arc<Container>, rootfs: &Rootfs) -> Result<bool> {
        let record = container.read().clone();
        let mounts = self.view_mounts(&record);
        if mounts.is_empty() {
            return Ok(true);
        }
        let (engine, looked) = (self.clone(), rootfs.clone());
        let missing = crate::image::blocking(move || {
            let root = engine.layers.detached_root(&looked, true).map_err(failed)?;
            Ok(missing_places(&root, &mounts))
        });
        if missing.await? {
            // A client that goes away must not let others in before it is done.
            let (container, rootfs) = (container.clone(), rootfs.clone());
            let making = tokio::spawn(async move { self.make_places(&container, rootfs).await });
            making.await.map_err(|error| Error::internal(format!("make mount points: {error}")))??;
        }
        Ok(false)
    }

    async fn make_places(self, container: &Container, rootfs: Rootfs) -> Result<()> {
        let _turn = container.operation.lock().await;
        // Who writes may be waited for here, and a start waits behind this.
        let _count = Copying::new(container);
        let _writer = container.writing.lock().await;
        if container.phase().is_alive() {
            return Ok(());
        }
        let (engine, record) = (self.clone(), container.read().clone());
        crate::image::blocking(move || {
            let root = engine.writable_root(&record, &rootfs)?;
            engine.with_sources(&record, |mounts| engine.layers.make_places(&root, &mounts))
        })
        .await
    }

    fn writable_root(&self, record: &Record, rootfs: &Rootfs) -> Result<OwnedFd> {
        if !record.state.started.is_zero() {
            // As before a start: a volatile overlay refuses to be mounted a second time until this mark is gone.
            let _ = std::fs::remove_dir_all(rootfs.work.join("work/incompat/volatile"));
        }
        self.layers.detached_root(rootfs, false).map_err(failed)
    }

    /// What a container that does not run has mounted, outer ones first. A tmpfs is empty, and gone with the last process.
    fn view_mounts(&self, record: &Record) -> Vec<ViewMount> {
        let directory = self.identity_directory(record);
        let own =
            record.mounts.iter().filter(|mount| mount.kind != MountKind::Tmpfs).map(|mount| ViewMount {
                source: PathBuf::from(&mount.source),
                destination: PathBuf::from(&mount.destination),
                recursive: !mount.non_recursive,
                read_only: mount.read_only || mount.kind == MountKind::Image,
            });
        let identity = IDENTITY
            .iter()
            .filter(|(_, destination)| !record.mounts.iter().any(|own| own.destination == *destination))
            .map(|(name, destination)| ViewMount {
                source: directory.join(name),
                destination: PathBuf::from(destination),
                recursive: false,
                read_only: false,
            })
            .filter(|mount| mount.source.exists());
        let mut mounts: Vec<ViewMount> = own.chain(identity).collect();
        mounts.sort_by_key(|mount| mount.destination.components().count());
        mounts
    }

    /// Lets `work` have the mounts while each of their sources is there: volumes are mounted, images and parts of volumes held in place.
    fn with_sources<T>(
        &self,
        record: &Record,
        work: impl FnOnce(Vec<ViewMount>) -> std::result::Result<T, MountError>,
    ) -> Result<T> {
        let mut pinned = record.clone();
        let mut volumes = Vec::new();
        for mount in pinned.mounts.iter_mut().filter(|mount| mount.kind == MountKind::Volume) {
            let volume = self.open_volume(&mount.volume)?;
            mount.source = volume.path().display().to_string();
            volumes.push(volume);
        }
        let _pins = self.pin_sources(&mut pinned)?;
        work(self.view_mounts(&pinned)).map_err(failed)
    }
}

/// Where a running container has something mounted that a view shows, outer ones first.
fn destinations(record: &Record) -> Vec<PathBuf> {
    let own = record.mounts.iter().map(|mount| PathBuf::from(&mount.destination));
    let identity = IDENTITY.iter().map(|(_, destination)| PathBuf::from(destination));
    let mut all: Vec<PathBuf> = own.chain(identity).collect();
    all.sort_by_key(|path| path.components().count());
    all.dedup();
    all
}

fn failed(error: MountError) -> Error {
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Error::internal(format!("look into the container: {error}{cause}"))
}
