//! What containers are given from the thread's namespace beside their own layers: shared memory for several of them
//! (`--ipc shareable`), whole images, and parts of volumes and images that were looked up safely and are held in place.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

use super::{LayerMounts, MountError, attach, open_in_root, overlay};

impl LayerMounts {
    /// Mounts an empty tmpfs of at most `bytes`; one of that name that is there already is taken.
    pub fn mount_memory(&self, name: &str, bytes: u64) -> Result<PathBuf, MountError> {
        let target = self.memory(name);
        let at = target.clone();
        let mounted = self.run(move || -> io::Result<()> {
            match std::fs::create_dir(&at) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
                made => made?,
            }
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            let options = std::ffi::CString::new(format!("mode=1777,size={bytes}"))?;
            rustix::mount::mount("shm", &at, "tmpfs", flags, Some(options.as_c_str())).map_err(|error| {
                let _ = std::fs::remove_dir(&at);
                error.into()
            })
        })?;
        mounted.map_err(|source| MountError::Memory { target: target.clone(), source })?;
        Ok(target)
    }

    /// Unmounts it; containers that have it keep it. No error when it is not there.
    pub fn unmount_memory(&self, name: &str) -> Result<(), MountError> {
        let target = self.memory(name);
        let at = target.clone();
        match self.run(move || attach::unmount(&at))? {
            Err(error) if !matches!(Errno::from_io_error(&error), Some(Errno::NOENT | Errno::INVAL)) => {
                Err(MountError::Memory { target, source: error })
            }
            _ => Ok(()),
        }
    }

    /// Whether it is mounted, and where.
    pub fn find_memory(&self, name: &str) -> Result<Option<PathBuf>, MountError> {
        let target = self.memory(name);
        self.run(move || target.is_dir().then_some(target))
    }

    /// Mounts an image's layers, top first, as one tree under a name: read-only, or with what is written going into an empty directory.
    pub fn pin_layers(
        &self,
        name: &str,
        layers: &[PathBuf],
        writes: Option<&Path>,
    ) -> Result<PathBuf, MountError> {
        let target = self.directory.join(name);
        let (at, layers, writes) = (target.clone(), layers.to_owned(), writes.map(Path::to_owned));
        let pinned = self.run(move || -> io::Result<()> {
            std::fs::create_dir(&at)?;
            let mounted = match writes {
                None => overlay::mount_layers(layers, &at),
                Some(writes) => overlay::mount_writable(layers, &writes, &at),
            };
            mounted.inspect_err(|_| {
                let _ = std::fs::remove_dir(&at);
            })
        })?;
        pinned.map_err(|source| MountError::Memory { target: target.clone(), source })?;
        Ok(target)
    }

    /// Looks `path` up beneath `directory`, following links only within it, and holds what is found in place under a name.
    pub fn pin(&self, name: &str, directory: &Path, path: &Path) -> Result<PathBuf, MountError> {
        let target = self.directory.join(name);
        let (at, own, inside) = (target.clone(), directory.to_owned(), path.to_owned());
        let pinned = self.run(move || -> io::Result<()> {
            let directory =
                rustix::fs::open(&own, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            let found = open_in_root(&directory, &inside, OFlags::PATH)?;
            let is_directory = found.metadata()?.is_dir();
            let flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_EMPTY_PATH;
            let tree = rustix::mount::open_tree(&found, "", flags)?;
            if is_directory {
                std::fs::create_dir(&at)?
            } else {
                drop(std::fs::File::create_new(&at)?)
            }
            rustix::mount::move_mount(&tree, "", CWD, &at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
            Ok(())
        })?;
        pinned.map_err(|source| MountError::Memory { target: path.to_owned(), source })?;
        Ok(target)
    }

    /// Lets go of what was pinned; containers that have it keep it.
    pub fn unpin(&self, name: &str) -> Result<(), MountError> {
        let target = self.directory.join(name);
        let at = target.clone();
        let unpinned = self.run(move || -> io::Result<()> {
            rustix::mount::unmount(&at, UnmountFlags::DETACH)?;
            if at.is_dir() { std::fs::remove_dir(&at) } else { std::fs::remove_file(&at) }
        })?;
        unpinned.map_err(|source| MountError::Memory { target, source })
    }

    fn memory(&self, name: &str) -> PathBuf {
        self.directory.join(format!("shm-{name}"))
    }
}
