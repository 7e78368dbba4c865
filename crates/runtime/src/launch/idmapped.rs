//! Mounts that the parent prepares because the child has not the rights: id-mapped trees, and an overlay of id-mapped layers.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use corten_sys::mount::{self, MountAttr, attr};
use corten_sys::{caps, process};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_fd, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

use super::prepare::errno_error;
use super::user_namespace::with_mappings;
use crate::monitor::protocol::{Rootfs, Step, StepError};
use crate::plan::{Mappings, MountSource, OverlayRoot};
use crate::spec::IdMapping;

/// The container's own mapping as a namespace for id-mapped mounts, made when first needed.
pub(super) struct Idmapped<'a> {
    mappings: Option<&'a Mappings>,
    namespace: std::cell::OnceCell<OwnedFd>,
}

impl<'a> Idmapped<'a> {
    pub(super) fn new(mappings: Option<&'a Mappings>) -> Self {
        Self { mappings, namespace: std::cell::OnceCell::new() }
    }

    fn apply(
        &self,
        tree: &OwnedFd,
        object: &str,
        mappings: &Mappings,
        recursive: bool,
    ) -> Result<(), StepError> {
        use std::os::fd::AsRawFd;
        let own;
        let namespace = if self.mappings == Some(mappings) {
            match self.namespace.get() {
                Some(namespace) => namespace,
                None => {
                    let made = with_mappings(mappings)?;
                    self.namespace.get_or_init(|| made)
                }
            }
        } else {
            own = with_mappings(mappings)?;
            &own
        };
        let change = MountAttr {
            set: attr::IDMAP,
            user_namespace: namespace.as_raw_fd() as u64,
            ..MountAttr::default()
        };
        mount::set_attributes(tree.as_fd(), recursive, &change).map_err(|errno| {
            let mut error = errno_error(Step::Mount, object, errno);
            if errno == rustix::io::Errno::INVAL {
                error.message = "its file system does not support id-mapped mounts".into();
            }
            error
        })
    }
}

/// Opens the tree of a bind mount where the child could not.
pub(super) fn prepare_mount(
    object: &str,
    source: &MountSource,
    inherited: &Idmapped<'_>,
) -> Result<Option<OwnedFd>, StepError> {
    let MountSource::Bind { path, recursive, prepared: true, idmap } = source else { return Ok(None) };
    let tree = mount::clone_tree(CWD, path, *recursive).map_err(|errno| {
        let source = format!("{object}: source {}", path.to_string_lossy());
        errno_error(Step::Mount, source, errno)
    })?;
    if let Some((mappings, deep)) = idmap {
        inherited.apply(&tree, object, mappings, *deep)?;
    }
    Ok(Some(tree))
}

/// An overlay whose layers are id-mapped, so that files keep their owners on disk. The child has not the rights to mount it.
pub(super) fn prepare_overlay(
    overlay: &OverlayRoot,
    rootfs: &Rootfs,
    inherited: &Idmapped<'_>,
) -> Result<OwnedFd, StepError> {
    let Rootfs::Overlay { upper, work, .. } = rootfs else {
        return Err(errno_error(Step::Rootfs, "overlay", rustix::io::Errno::INVAL));
    };
    let mappings = inherited.mappings.cloned().unwrap_or_default();
    let object = upper.display().to_string();
    let error = |errno| errno_error(Step::Rootfs, object.as_str(), errno);
    let tree = |path: &std::ffi::CStr| -> Result<OwnedFd, StepError> {
        let tree = mount::clone_tree(CWD, path, false).map_err(error)?;
        inherited.apply(&tree, &object, &mappings, false)?;
        Ok(tree)
    };
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(error)?;
    fsconfig_set_string(&context, "source", "overlay").map_err(error)?;
    // A detached mount lives as long as its descriptor: until the overlay has taken it.
    let layers = overlay.lower.iter().map(|layer| tree(layer)).collect::<Result<Vec<_>, _>>()?;
    for layer in &layers {
        fsconfig_set_fd(&context, "lowerdir+", layer).map_err(error)?;
    }
    // Upper and work directory have to be on one mount.
    let (Some(parent), Some(upper), Some(work)) = (upper.parent(), upper.file_name(), work.file_name())
    else {
        return Err(error(rustix::io::Errno::INVAL));
    };
    let parent = std::ffi::CString::new(parent.as_os_str().as_encoded_bytes())
        .map_err(|_| error(rustix::io::Errno::INVAL))?;
    let base = tree(&parent)?;
    for (key, name) in [("upperdir", upper), ("workdir", work)] {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(&base, Path::new(name), flags, Mode::empty()).map_err(error)?;
        fsconfig_set_fd(&context, key, dir).map_err(error)?;
    }
    for key in ["redirect_dir", "metacopy"] {
        fsconfig_set_string(&context, key, "off").map_err(error)?;
    }
    if overlay.volatile {
        fsconfig_set_flag(&context, "volatile").map_err(error)?;
    }
    let made = as_mapped_root(&mappings, || fsconfig_create(&context))
        .and_then(|()| fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()));
    made.map_err(|errno| {
        let mut error = error(errno);
        let mut words = [0; 512];
        // Messages look like `e overlay: …`.
        if let Ok(length @ 3..) = rustix::io::read(&context, &mut words[..]) {
            error.message += ": ";
            error.message += String::from_utf8_lossy(&words[2..length]).trim();
        }
        error
    })
}

/// An overlay works on its layers as who has mounted it; the host's root has no place in the mapping and could write nothing there. So the
/// mapped root mounts it, with all capabilities kept.
fn as_mapped_root(
    mappings: &Mappings,
    mount: impl FnOnce() -> Result<(), rustix::io::Errno>,
) -> Result<(), rustix::io::Errno> {
    let root = |list: &[IdMapping]| list.iter().find(|m| m.container_id == 0).map_or(0, |m| m.host_id);
    let sets = caps::get()?;
    process::set_file_system_ids(root(&mappings.uid), root(&mappings.gid))?;
    let mounted = caps::set(sets).and_then(|()| mount());
    process::set_file_system_ids(0, 0)?;
    caps::set(sets)?;
    mounted
}
