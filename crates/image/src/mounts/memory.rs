//! Shared memory: a tmpfs in the thread's namespace that several containers can be given (`--ipc shareable`).

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::mount::MountFlags;

use super::{LayerMounts, MountError, attach};

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

    fn memory(&self, name: &str) -> PathBuf {
        self.directory.join(format!("shm-{name}"))
    }
}
