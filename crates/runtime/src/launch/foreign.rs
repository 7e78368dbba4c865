//! Pieces of a start for a container that another runtime makes: this process mounts its root and looks up its users.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use corten_sys::mount;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use super::child::mounts::overlay_parameters;
use super::child::users::{Identity, LINE_BYTES_MAX, Unknown};
use crate::monitor::protocol::{Step, StepError};
use crate::plan::{OverlayRoot, UserAction};
use crate::spec::Process;

/// Mounts the overlay at its place in this process's mount namespace.
pub(crate) fn mount_overlay(overlay: &OverlayRoot) -> Result<OwnedFd, Errno> {
    let open = || {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(overlay.mount_point.as_c_str(), flags, Mode::empty())
    };
    let context = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    match overlay_parameters(context.as_fd(), overlay) {
        Ok(()) => {
            fsconfig_create(&context)?;
            let tree = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
            mount::attach(tree.as_fd(), open()?.as_fd())?;
            Ok(tree)
        }
        // As in the child: kernels before 6.7.
        Err(Errno::INVAL) => {
            let (target, options) = (overlay.mount_point.as_c_str(), overlay.legacy_options.as_c_str());
            mount::mount(Some(c"overlay"), target, Some(c"overlay"), 0, Some(options))?;
            open()
        }
        Err(error) => Err(error),
    }
}

/// Puts the user, the groups and `HOME` that `wish` and the container's own files give into `process`. `object`: the user as written.
pub(crate) fn resolve_user(
    process: &mut Process,
    wish: &UserAction,
    root: BorrowedFd<'_>,
    object: &str,
) -> Result<(), StepError> {
    let mut identity = Box::new(Identity::new());
    identity.resolve(root, wish, &mut vec![0; LINE_BYTES_MAX]).map_err(|unknown| {
        let (errno, message) = match unknown {
            Unknown::User => (Errno::NOENT, "no matching entries in passwd file".to_owned()),
            Unknown::Group => (Errno::NOENT, "no matching entries in group file".to_owned()),
            Unknown::Failed(errno) => (errno, std::io::Error::from(errno).to_string()),
        };
        StepError { step: Step::User, object: object.into(), errno: errno.raw_os_error(), message }
    })?;
    (process.user.uid, process.user.gid) = (identity.uid, identity.gid);
    process.user.additional_gids = identity.groups().to_vec();
    if wish.wants_home
        && let Ok(home) = CStr::from_bytes_until_nul(&identity.home)
    {
        process.env.retain(|variable| !variable.starts_with("HOME="));
        process.env.push(home.to_string_lossy().into_owned());
    }
    Ok(())
}
