//! File systems that volumes consist of, mounted once each in the thread's namespace and given to containers from there.
//!
//! A server that does not answer can hold a mount(2) for minutes, and the mount thread is everybody's: each of these is
//! mounted by a thread of its own, which joins the namespace. A namespace of an engine that was killed lives as long as one of its
//! monitors; what is mounted there is taken over from it rather than mounted a second time, as an empty tmpfs or a second
//! loop device for the same file would be something else.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Duration;

use corten_sys::loopdev::LoopDevice;
use corten_sys::process;
use rustix::fs::{CWD, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

use super::attach::clone_flags;
use super::{LayerMounts, MountError, open_in_root};

/// How long a mount may take: as long as a server's answer.
const MOUNT_DEADLINE: Duration = Duration::from_secs(120);

/// What their mount points' names begin with.
const PREFIX: &str = "volume-";

/// What mount(2) is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystem {
    /// A device, a file with a file system in it, a directory (with `BIND`), or whatever the file system takes for its source.
    pub source: String,
    pub kind: String,
    pub flags: MountFlags,
    pub propagation: MountPropagationFlags,
    pub data: String,
    /// Whether `source` is a file that becomes a loop device.
    pub by_loop: bool,
    /// Directories that a new file system is born with, and that nobody has put there.
    pub strip: bool,
}

impl LayerMounts {
    /// Mounts a volume's file system under its name; gives the directory in the thread's namespace.
    pub fn mount_file_system(&self, name: &str, wanted: &FileSystem) -> Result<PathBuf, MountError> {
        let target = self.file_system_path(name);
        let (at, own) = (target.clone(), wanted.clone());
        self.aside(None, move || mount_at(&own, &at))?
            .map_err(|source| MountError::FileSystem { target: target.clone(), source })?;
        Ok(target)
    }

    /// Takes a volume's mount over from another mount namespace that has it under the same name; false when it has not.
    pub fn adopt_file_system(&self, name: &str, namespace: File) -> Result<bool, MountError> {
        let target = self.file_system_path(name);
        let failed = |source| MountError::FileSystem { target: target.clone(), source };
        if self.is_own(&namespace).map_err(failed)? {
            return Ok(false);
        }
        let at = target.clone();
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        let found = self.aside(Some(namespace), move || match is_mount_point(&at)? {
            true => Ok(Some(rustix::mount::open_tree(CWD, &at, flags)?)),
            false => Ok(None),
        });
        let Some(tree) = found?.map_err(failed)? else { return Ok(false) };
        let at = target.clone();
        let attached = self.aside(None, move || -> io::Result<()> {
            fs::create_dir_all(&at)?;
            rustix::mount::move_mount(&tree, "", CWD, &at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
            Ok(())
        });
        attached?.map_err(failed)?;
        Ok(true)
    }

    /// Unmounts a volume's file system here and in the namespaces that others have left; containers that use it keep it.
    pub fn unmount_file_system(&self, name: &str, others: Vec<File>) -> Result<(), MountError> {
        let target = self.file_system_path(name);
        let failed = |source| MountError::FileSystem { target: target.clone(), source };
        for namespace in others {
            if !self.is_own(&namespace).map_err(failed)? {
                let at = target.clone();
                self.aside(Some(namespace), move || unmount_at(&at))?.map_err(failed)?;
            }
        }
        let at = target.clone();
        self.aside(None, move || unmount_at(&at))?.map_err(failed)
    }

    /// Unmounts in another mount namespace what a killed engine has mounted there for volumes, but for those that are in use.
    pub fn sweep_file_systems(&self, namespace: File, in_use: &[String]) -> Result<(), MountError> {
        let failed = |source| MountError::Namespace { directory: self.directory.clone(), source };
        if self.is_own(&namespace).map_err(failed)? {
            return Ok(());
        }
        let directory = self.directory.clone();
        let keep: Vec<PathBuf> = in_use.iter().map(|name| self.file_system_path(name)).collect();
        let swept = self.aside(Some(namespace), move || {
            for entry in fs::read_dir(&directory)? {
                let path = entry?.path();
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                if name.starts_with(PREFIX) && !keep.contains(&path) {
                    unmount_at(&path)?;
                }
            }
            Ok(())
        });
        swept?.map_err(failed)
    }

    /// Opens a directory below what only the thread's namespace shows, or below any other one.
    pub fn open_directory(&self, path: &Path, inside: &Path) -> Result<File, MountError> {
        let (own, inside, target) = (path.to_owned(), inside.to_owned(), path.to_owned());
        let opened = self.aside(None, move || -> io::Result<File> {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = rustix::fs::open(&own, flags, rustix::fs::Mode::empty())?;
            let inside = if inside.as_os_str().is_empty() { Path::new("/") } else { &inside };
            open_in_root(&root, inside, OFlags::DIRECTORY | OFlags::RDONLY)
        })?;
        opened.map_err(|source| MountError::FileSystem { target, source })
    }

    /// Where a volume's file system is mounted, when it is.
    pub fn file_system_path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{PREFIX}{name}"))
    }

    fn is_own(&self, namespace: &File) -> io::Result<bool> {
        let (own, other) = (rustix::fs::fstat(&self.namespace)?, namespace.metadata()?);
        Ok((own.st_dev, own.st_ino) == (other.dev(), other.ino()))
    }

    /// Runs a job in the thread's namespace or another one, on a thread of its own. One that is too late is undone by nobody: its
    /// mount goes with the namespace.
    fn aside<T: Send + 'static>(
        &self,
        namespace: Option<File>,
        job: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<io::Result<T>, MountError> {
        let failed = |source| MountError::Namespace { directory: self.directory.clone(), source };
        let namespace = match namespace {
            Some(other) => other.into(),
            None => self.namespace.try_clone().map_err(failed)?,
        };
        let (answer, is_answered) = channel();
        let work = move || -> io::Result<T> {
            // setns(2): a thread that shares its root and working directory can't change its mount namespace.
            process::unshare(clone_flags::FS)?;
            process::setns(namespace.as_fd(), clone_flags::NEWNS)?;
            job()
        };
        let thread = std::thread::Builder::new().name("mount".into()).stack_size(256 << 10);
        // Whoever asked may have given up.
        thread.spawn(move || drop(answer.send(work()))).map_err(failed)?;
        Ok(is_answered
            .recv_timeout(MOUNT_DEADLINE)
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer within two minutes"))))
    }
}

fn is_mount_point(path: &Path) -> io::Result<bool> {
    let own = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        own => own?,
    };
    let parent = fs::metadata(path.parent().unwrap_or(Path::new("/")))?;
    Ok(own.dev() != parent.dev())
}

fn unmount_at(target: &Path) -> io::Result<()> {
    loop {
        match rustix::mount::unmount(target, UnmountFlags::DETACH) {
            // One that came too late may lie below.
            Ok(()) => {}
            // Not mounted, or never was.
            Err(Errno::INVAL | Errno::NOENT) => break,
            Err(error) => return Err(error.into()),
        }
    }
    match fs::remove_dir(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn mount_at(wanted: &FileSystem, target: &Path) -> io::Result<()> {
    fs::create_dir_all(target)?;
    let mounted = mount(wanted, target);
    if mounted.is_err() {
        let _ = unmount_at(target);
    }
    mounted
}

fn mount(wanted: &FileSystem, target: &Path) -> io::Result<()> {
    let data = CString::new(wanted.data.as_str())?;
    let data = Some(data.as_c_str()).filter(|data| !data.is_empty());
    if wanted.flags.intersects(MountFlags::BIND | MountFlags::REC) {
        let binding = wanted.flags & (MountFlags::BIND | MountFlags::REC);
        rustix::mount::mount(&wanted.source, target, "none", binding, data)?;
        let more = wanted.flags - binding;
        if !more.is_empty() {
            // mount(2): a bind mount takes no other flags at once.
            rustix::mount::mount_remount(target, more | MountFlags::BIND, c"")?;
        }
    } else if wanted.by_loop {
        let read_only = wanted.flags.contains(MountFlags::RDONLY);
        let file = File::options().read(true).write(!read_only).open(&wanted.source)?;
        let device = match LoopDevice::of(&file)? {
            // A second one would be a second file system that knows nothing of the first one's writes.
            Some(known) => known,
            None => LoopDevice::attach_for(file.as_fd(), 512, read_only)?,
        };
        // The mount keeps the device from here on.
        rustix::mount::mount(device.path(), target, &wanted.kind, wanted.flags, data)?;
    } else {
        rustix::mount::mount(&wanted.source, target, &wanted.kind, wanted.flags, data)?;
    }
    if !wanted.propagation.is_empty() {
        rustix::mount::mount_change(target, wanted.propagation)?;
    }
    if wanted.strip {
        // What mkfs makes for itself; a program that wants an empty directory would not start. One with something in it stays.
        let _ = fs::remove_dir(target.join("lost+found"));
    }
    Ok(())
}
