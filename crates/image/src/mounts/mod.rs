//! Mounted layers. A thread of its own lives in a private mount namespace: layers are mounted there once and
//! shared by all containers; whatever is started from that thread (the zygote) sees them, the host does not,
//! and they vanish with the last process of the namespace.
//!
//! Here are also the ways to a container's files from outside: a detached overlay mount that belongs to a
//! descriptor and nobody else, and opening below it without ever leaving it.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::digest::DiffId;
use crate::layer::MountSource;
use crate::store::Rootfs;

mod attach;
mod copy;
mod file_systems;
mod memory;
mod overlay;
mod root;
mod view;

pub use attach::Via;
pub use copy::{copy_tree, has_files, move_contents};
pub use file_systems::FileSystem;
pub(crate) use root::open_by;
pub use root::open_in_root;
pub(crate) use view::without_devices;
pub use view::{RunningRoot, View, ViewMount, missing_places};

#[cfg(test)]
mod tests;

/// Why a layer or root could not be mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("cannot make a private mount namespace with {directory} (this takes CAP_SYS_ADMIN)")]
    Namespace {
        directory: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the mount thread has ended")]
    Ended,
    #[error("cannot mount layer {id} at {target}")]
    Layer {
        id: DiffId,
        target: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot mount or unmount {target}")]
    Memory {
        target: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot mount or unmount {target}")]
    FileSystem {
        target: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot unmount layer {id}")]
    Unmount {
        id: DiffId,
        #[source]
        source: io::Error,
    },
    #[error("cannot mount what the container has mounted")]
    View {
        #[source]
        source: io::Error,
    },
    #[error("cannot look into the layers below {upper}")]
    Lower {
        upper: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot mount the container's root from {upper}")]
    Root {
        upper: PathBuf,
        #[source]
        source: io::Error,
    },
}

type Job = Box<dyn FnOnce() + Send>;

/// The mount thread and what is mounted there.
pub struct LayerMounts {
    directory: PathBuf,
    via: Via,
    /// The thread's namespace, for others that work in it.
    namespace: OwnedFd,
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// Held while mounting: two containers that want a layer at the same time get one mount.
    mounted: Mutex<HashMap<DiffId, PathBuf>>,
}

impl LayerMounts {
    /// Starts the thread. `directory` is made; in the thread's namespace it holds the mount points.
    pub fn start(directory: &Path) -> Result<LayerMounts, MountError> {
        LayerMounts::start_via(directory, Via::Auto)
    }

    /// The same, with a choice of how EROFS files are mounted.
    pub fn start_via(directory: &Path, via: Via) -> Result<LayerMounts, MountError> {
        let failed = |source| MountError::Namespace { directory: directory.to_owned(), source };
        std::fs::create_dir_all(directory).map_err(failed)?;
        let (jobs, inbox) = channel::<Job>();
        let (ready, is_ready) = channel();
        let own = directory.to_owned();
        let thread = std::thread::Builder::new().name("mounts".into()).spawn(move || {
            let entered = attach::enter_namespace(&own).and_then(|()| attach::namespace());
            let go = entered.is_ok();
            // The starter waits for this.
            let _ = ready.send(entered);
            if go {
                inbox.into_iter().for_each(|job| job());
            }
        });
        let thread = thread.map_err(failed)?;
        let namespace = is_ready.recv().map_err(|_| MountError::Ended)?.map_err(failed)?;
        Ok(LayerMounts {
            directory: directory.to_owned(),
            via,
            namespace,
            jobs: Some(jobs),
            thread: Some(thread),
            mounted: Mutex::default(),
        })
    }

    /// Runs a closure on the mount thread, one at a time, and waits for its result.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, MountError> {
        let (answer, is_answered) = channel();
        let job: Job = Box::new(move || {
            // Whoever asked waits below.
            let _ = answer.send(job());
        });
        self.jobs.as_ref().ok_or(MountError::Ended)?.send(job).map_err(|_| MountError::Ended)?;
        is_answered.recv().map_err(|_| MountError::Ended)
    }

    /// The directory where a layer is mounted, in the thread's namespace; mounts it if it is not.
    pub fn mount(&self, id: DiffId, source: &MountSource) -> Result<PathBuf, MountError> {
        let mut mounted = self.mounted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(target) = mounted.get(&id) {
            return Ok(target.clone());
        }
        let target = self.target(&id, &mounted);
        let (source, at, via) = (source.clone(), target.clone(), self.via);
        self.run(move || attach::mount_layer(&source, &at, via))?.map_err(|source| MountError::Layer {
            id,
            target: target.clone(),
            source,
        })?;
        mounted.insert(id, target.clone());
        Ok(target)
    }

    /// Unmounts a layer; containers that use it keep it. No error when it is not mounted.
    pub fn unmount(&self, id: &DiffId) -> Result<(), MountError> {
        let mut mounted = self.mounted.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(target) = mounted.get(id).cloned() else {
            return Ok(());
        };
        self.run(move || attach::unmount(&target))?
            .map_err(|source| MountError::Unmount { id: *id, source })?;
        mounted.remove(id);
        Ok(())
    }

    /// A container's root file system as a mount that nobody sees and that vanishes with the descriptor.
    ///
    /// Read-only, it may be taken of a running container: the writable directory is then only read, as the top
    /// layer. Otherwise the container must not run, as overlayfs wants a writable directory for itself.
    pub fn detached_root(&self, rootfs: &Rootfs, read_only: bool) -> Result<OwnedFd, MountError> {
        let (own, directory) = (rootfs.clone(), self.directory.clone());
        self.run(move || overlay::mount_detached(&own, read_only, &directory))?
            .map_err(|source| MountError::Root { upper: rootfs.upper.clone(), source })
    }

    /// The layers beneath a container, without its writable directory, as a read-only mount that vanishes with the descriptor.
    pub fn lower_root(&self, rootfs: &Rootfs) -> Result<OwnedFd, MountError> {
        let (own, directory) = (rootfs.clone(), self.directory.clone());
        self.run(move || overlay::mount_lower(&own, &directory))?
            .map_err(|source| MountError::Lower { upper: rootfs.upper.clone(), source })
    }

    /// A short name: overlayfs's options have to fit into a page where the old mount call is needed.
    fn target(&self, id: &DiffId, mounted: &HashMap<DiffId, PathBuf>) -> PathBuf {
        let hex = id.hex();
        let names = [12, 16, 64].map(|digits| self.directory.join(&hex[..digits]));
        let free = names.iter().find(|name| !mounted.values().any(|taken| taken == *name));
        free.unwrap_or(&names[2]).clone()
    }
}

impl Drop for LayerMounts {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}
