//! The tree of a container as the container sees it, for looking at and writing into from outside.
//!
//! A view is the container's root with the container's own mounts on it, in a mount namespace that holds nothing else of interest and
//! that no process lives in: it goes with the last descriptor. The root of a running container is its own overlay mount, cloned in
//! its namespace: an overlay's writable directory must not be changed behind its back. What the kernel shows it (`/proc`, `/sys`,
//! `/dev`) is not in a view.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use corten_sys::mount::{self, MountAttr, attr, propagation};
use corten_sys::process;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::MountPropagationFlags;

use super::{LayerMounts, MountError, open_by};

/// `CLONE_*` of <linux/sched.h>.
const CLONE_NEWNS: u64 = 0x0002_0000;
const CLONE_FS: u64 = 0x0000_0200;

/// A container's tree. Everything in it goes when it is dropped.
#[derive(Debug)]
pub struct View {
    root: OwnedFd,
    /// Holds the mounts on the root together.
    _namespace: Option<OwnedFd>,
}

/// A running container, held by descriptors that were opened while it was known to be the one that is meant.
#[derive(Debug)]
pub struct RunningRoot {
    pub namespace: OwnedFd,
    pub root: OwnedFd,
}

/// A file or directory that a container that does not run has mounted.
#[derive(Clone, Debug)]
pub struct ViewMount {
    pub source: PathBuf,
    pub destination: PathBuf,
    pub recursive: bool,
    pub read_only: bool,
}

impl AsFd for View {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

impl View {
    /// A root without mounts on it.
    pub fn plain(root: OwnedFd) -> View {
        View { root, _namespace: None }
    }

    pub fn into_root(self) -> OwnedFd {
        self.root
    }

    /// The root of a running container with what it has mounted on `destinations`, outer ones first. `place` is any directory.
    pub fn of_running(container: RunningRoot, destinations: Vec<PathBuf>, place: &Path) -> io::Result<View> {
        let place = place.to_owned();
        in_namespace(move |own| {
            process::setns(container.namespace.as_fd(), CLONE_NEWNS)?;
            let root = without_devices(&container.root, false)?;
            let mut mounts = Vec::new();
            for destination in destinations {
                match lookup(&container.root, &destination) {
                    Ok(found) => mounts.push((destination, without_devices(&found, true)?)),
                    // Taken away by the container itself.
                    Err(Errno::NOENT | Errno::NOTDIR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            drop(container);
            process::setns(own.as_fd(), CLONE_NEWNS)?;
            assemble(root, mounts, &place)
        })
    }
}

impl LayerMounts {
    /// Makes the places of mounts below a root, as the container's start would: each a directory or an empty file, as its source is.
    pub fn make_places(&self, root: &OwnedFd, mounts: &[ViewMount]) -> Result<(), MountError> {
        let failed = |source| MountError::View { source };
        let (root, mounts) = (root.try_clone().map_err(failed)?, mounts.to_vec());
        let made = self.run(move || {
            mounts.iter().try_for_each(|mount| {
                let found = std::fs::metadata(&mount.source).map_err(|error| named(&mount.source, &error))?;
                make_place(&root, &mount.destination, found.is_dir())
            })
        })?;
        made.map_err(failed)
    }

    /// A root with mounts on it, for each of which there must be a place; their sources are paths in the thread's namespace.
    pub fn view(&self, root: OwnedFd, mounts: Vec<ViewMount>) -> Result<View, MountError> {
        if mounts.is_empty() {
            return Ok(View::plain(root));
        }
        let failed = |source| MountError::View { source };
        let prepared = self.run(move || -> io::Result<_> {
            mounts
                .iter()
                .map(|mount| Ok((mount.destination.clone(), source(mount)?)))
                .collect::<io::Result<Vec<_>>>()
        })?;
        let (prepared, place) = (prepared.map_err(failed)?, self.directory.clone());
        in_namespace(move |_| assemble(root, prepared, &place)).map_err(failed)
    }
}

/// Which of these mounts have no place below a root yet.
pub fn missing_places(root: &impl AsFd, mounts: &[ViewMount]) -> bool {
    mounts.iter().any(|mount| matches!(lookup(root, &mount.destination), Err(Errno::NOENT)))
}

/// Runs `make` on a thread of its own in a mount namespace of its own, which it is given.
fn in_namespace<F>(make: F) -> io::Result<View>
where
    F: FnOnce(&OwnedFd) -> io::Result<OwnedFd> + Send + 'static,
{
    let thread = std::thread::Builder::new().name("view".into()).spawn(move || -> io::Result<View> {
        process::unshare(CLONE_NEWNS | CLONE_FS)?;
        rustix::mount::mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM)?;
        let own =
            rustix::fs::open("/proc/thread-self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let root = make(&own)?;
        Ok(View { root, _namespace: Some(own) })
    })?;
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Puts detached mounts together on a place of the thread's own namespace.
fn assemble(root: OwnedFd, mounts: Vec<(PathBuf, OwnedFd)>, place: &Path) -> io::Result<OwnedFd> {
    let place = rustix::fs::open(place, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    mount::attach(root.as_fd(), place.as_fd())?;
    for (destination, tree) in mounts {
        let target = lookup(&root, &destination)?;
        mount::attach(tree.as_fd(), target.as_fd())?;
    }
    Ok(root)
}

fn source(mount: &ViewMount) -> io::Result<OwnedFd> {
    let source = rustix::fs::openat(CWD, &mount.source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| named(&mount.source, &error.into()))?;
    let tree = without_devices(&source, mount.recursive)?;
    if mount.read_only {
        mount::set_attributes(tree.as_fd(), true, &MountAttr { set: attr::RDONLY, ..MountAttr::default() })?;
    }
    Ok(tree)
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}

/// A detached copy of a mount: what happens to it is nobody else's business. No device in it can be opened.
pub(crate) fn without_devices(of: &OwnedFd, recursive: bool) -> io::Result<OwnedFd> {
    let tree = mount::clone_tree(of.as_fd(), c"", recursive)?;
    let change = MountAttr { set: attr::NODEV, propagation: propagation::PRIVATE, ..MountAttr::default() };
    mount::set_attributes(tree.as_fd(), recursive, &change)?;
    Ok(tree)
}

fn lookup(root: &impl AsFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    open_by(root, path, OFlags::PATH, resolve)
}

/// Makes a directory, or an empty file, with the directories above it.
fn make_place(root: &impl AsFd, path: &Path, directory: bool) -> io::Result<()> {
    if lookup(root, path).is_ok() {
        return Ok(());
    }
    let mode = Mode::from_raw_mode(0o755);
    let mut above = PathBuf::from("/");
    let mut parent = lookup(root, &above)?;
    let mut parts = path.components().filter_map(|part| match part {
        std::path::Component::Normal(name) => Some(name),
        _ => None,
    });
    let mut next = parts.next();
    while let Some(name) = next {
        next = parts.next();
        let made = if next.is_some() || directory {
            rustix::fs::mkdirat(&parent, name, mode)
        } else {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(&parent, name, flags, mode).map(drop)
        };
        match made {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        above.push(name);
        parent = lookup(root, &above)?;
    }
    Ok(())
}
