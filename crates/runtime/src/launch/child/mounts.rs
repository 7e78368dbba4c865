//! The root file system, mounts, devices and protected paths, made from inside the new mount namespace.

use core::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use corten_sys::mount::{self, MountAttr, attr, propagation};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, UnmountFlags, fsconfig_create,
    fsconfig_reconfigure, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, fspick,
};

use super::paths::{self, Missing, PathBuffer};
use super::{Child, Failure, HEADER_BYTES, Reason, copy_up};
use crate::plan::{DeviceAction, MountAction, MountSource, OverlayRoot, Parameter};

const MS_REC: u64 = 0x4000;

impl Child<'_> {
    pub(super) fn root(&self) -> Result<BorrowedFd<'_>, Errno> {
        self.root.as_ref().map(AsFd::as_fd).ok_or(Errno::BADF)
    }

    /// The host's mounts become private, slave or what is asked for, before anything is mounted.
    pub(super) fn propagation(&self, flags: u64) -> Result<(), Errno> {
        mount::mount(None, c"/", None, flags, None)
    }

    /// Goes up from `path` to the root of the mount that holds it.
    pub(super) fn parent_private(&self, path: &CStr) -> Result<(), Errno> {
        let mut buffer = PathBuffer::new();
        buffer.extend(path.to_bytes())?;
        loop {
            match mount::mount(None, buffer.c_str(), None, propagation::PRIVATE, None) {
                Err(Errno::INVAL) if buffer.bytes().len() > 1 => {
                    let (parent, _) = paths::split(buffer.c_str())?;
                    buffer = parent;
                    if buffer.is_empty() {
                        buffer.extend(b"/")?;
                    }
                }
                answer => return answer,
            }
        }
    }

    pub(super) fn bind_root(&mut self, path: &CStr, bind: bool, private: bool) -> Result<(), Errno> {
        let place =
            rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        if !bind {
            self.root = Some(place);
            return Ok(());
        }
        let tree = mount::clone_tree(CWD, path, true)?;
        if private {
            // Else what is mounted on it would be mounted on the directory itself, too.
            let change = MountAttr { propagation: propagation::PRIVATE, ..MountAttr::default() };
            mount::set_attributes(tree.as_fd(), true, &change)?;
        }
        mount::attach(tree.as_fd(), place.as_fd())?;
        self.root = Some(tree);
        Ok(())
    }

    pub(super) fn overlay_root(&mut self, index: usize, overlay: &OverlayRoot) -> Result<(), Failure> {
        let place = rustix::fs::open(
            overlay.mount_point.as_c_str(),
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let tree = match self.take_prepared(index) {
            Some(tree) => tree,
            None => {
                let context = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
                match overlay_parameters(context.as_fd(), overlay) {
                    Ok(()) => {}
                    // Kernels before 6.7 know no `lowerdir+`, and no parameter is longer than 255 bytes.
                    Err(Errno::INVAL) => {
                        let target = overlay.mount_point.as_c_str();
                        let options = overlay.legacy_options.as_c_str();
                        mount::mount(Some(c"overlay"), target, Some(c"overlay"), 0, Some(options))?;
                        self.root = Some(rustix::fs::open(
                            target,
                            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                            Mode::empty(),
                        )?);
                        return Ok(());
                    }
                    Err(error) => return Err(self.explain(error, context.as_fd())),
                }
                let made = fsconfig_create(&context)
                    .and_then(|()| fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()));
                match made {
                    Ok(tree) => tree,
                    Err(error) => return Err(self.explain(error, context.as_fd())),
                }
            }
        };
        mount::attach(tree.as_fd(), place.as_fd())?;
        self.root = Some(tree);
        Ok(())
    }

    pub(super) fn mount(&mut self, index: usize, action: &MountAction) -> Result<(), Failure> {
        match &action.source {
            MountSource::Remount { parameters, superblock } => self.remount(action, parameters, *superblock),
            MountSource::Legacy { kind, source, flags, data } => {
                let target = self.target(action, Missing::Directory)?;
                let mut path = PathBuffer::new();
                path.extend(b"/proc/self/fd/")?;
                path.number(target.as_raw_fd() as u32, 10)?;
                mount::mount(Some(source), path.c_str(), Some(kind), *flags, Some(data))?;
                let mounted = paths::open(self.root()?, &action.target, OFlags::PATH)?;
                Ok(attributes(mounted.as_fd(), action)?)
            }
            MountSource::Bind { path, recursive, .. } => {
                let tree = match self.take_prepared(index) {
                    Some(tree) => tree,
                    None => mount::clone_tree(CWD, path, *recursive)?,
                };
                attributes(tree.as_fd(), action)?;
                let is_dir =
                    FileType::from_raw_mode(rustix::fs::fstat(&tree)?.st_mode) == FileType::Directory;
                let target = self.target(action, if is_dir { Missing::Directory } else { Missing::File })?;
                Ok(mount::attach(tree.as_fd(), target.as_fd())?)
            }
            MountSource::FileSystem { kind, parameters, inherit_mode } => {
                self.file_system(action, kind, parameters, *inherit_mode)
            }
        }
    }

    fn file_system(
        &mut self,
        action: &MountAction,
        kind: &CStr,
        parameters: &[Parameter],
        inherit_mode: bool,
    ) -> Result<(), Failure> {
        // A tmpfs over a directory that is there looks like that directory.
        let existing =
            if inherit_mode { paths::open(self.root()?, &action.target, OFlags::PATH).ok() } else { None };
        let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        let configured = (|| {
            configure(context.as_fd(), parameters)?;
            if let Some(existing) = &existing {
                let mut mode = PathBuffer::new();
                mode.number(rustix::fs::fstat(existing)?.st_mode & 0o7777, 8)?;
                fsconfig_set_string(&context, c"mode", mode.c_str())?;
            }
            fsconfig_create(&context)?;
            let flags = action.attributes.set | action.recursive.set;
            fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::from_bits_retain(flags as u32))
        })();
        let tree = match configured {
            Ok(tree) => tree,
            Err(error) => return Err(self.explain(error, context.as_fd())),
        };
        let target = match existing {
            Some(existing) => existing,
            None => self.target(action, Missing::Directory)?,
        };
        if action.copy_up {
            copy_up::copy(self.root()?, &action.target, tree.as_fd())?;
        }
        mount::attach(tree.as_fd(), target.as_fd())?;
        Ok(set_propagation(tree.as_fd(), action)?)
    }

    fn remount(
        &mut self,
        action: &MountAction,
        parameters: &[Parameter],
        superblock: bool,
    ) -> Result<(), Failure> {
        let target = paths::open(self.root()?, &action.target, OFlags::PATH)?;
        if superblock {
            let context = fspick(&target, c"", FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH)?;
            let done = configure(context.as_fd(), parameters).and_then(|()| fsconfig_reconfigure(&context));
            if let Err(error) = done {
                return Err(self.explain(error, context.as_fd()));
            }
        }
        Ok(attributes(target.as_fd(), action)?)
    }

    /// The place to mount on; made when missing.
    fn target(&self, action: &MountAction, missing: Missing) -> Result<OwnedFd, Errno> {
        let root = self.root()?;
        let found = if action.no_symlinks {
            paths::open_real(root, &action.target, OFlags::PATH)
        } else {
            paths::open(root, &action.target, OFlags::PATH)
        };
        match found {
            Err(Errno::NOENT) => paths::create(root, &action.target, missing),
            found => found,
        }
    }

    /// The directory of `path`, made when missing, and the last component. `/dev` is remembered: most are there.
    fn place<'a>(&mut self, path: &'a CStr) -> Result<(OwnedFd, &'a CStr), Errno> {
        let (dir, name) = paths::split(path)?;
        if dir.bytes() == b"dev" {
            if self.dev.is_none() {
                self.dev = Some(paths::create(self.root()?, c"dev", Missing::Directory)?);
            }
            if let Some(dev) = &self.dev {
                return Ok((rustix::io::fcntl_dupfd_cloexec(dev, 3)?, name));
            }
        }
        Ok((paths::create(self.root()?, dir.c_str(), Missing::Directory)?, name))
    }

    pub(super) fn device(&mut self, device: &DeviceAction) -> Result<(), Failure> {
        if device.bind {
            return Ok(self.bind_device(device)?);
        }
        let (dir, name) = self.place(&device.path)?;
        let kind = FileType::from_raw_mode(device.mode);
        let mode = Mode::from_raw_mode(device.mode & 0o7777);
        let number = rustix::fs::makedev(device.major, device.minor);
        match rustix::fs::mknodat(&dir, name, kind, mode, number) {
            Ok(()) if device.uid != 0 || device.gid != 0 => {
                let owner = Some(rustix::fs::Uid::from_raw(device.uid));
                let group = Some(rustix::fs::Gid::from_raw(device.gid));
                Ok(rustix::fs::chownat(&dir, name, owner, group, AtFlags::SYMLINK_NOFOLLOW)?)
            }
            // It came with the image or with a mount: then that is what was wanted.
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(Errno::PERM) => Ok(self.bind_device(device)?),
            Err(error) => Err(error.into()),
        }
    }

    fn bind_device(&mut self, device: &DeviceAction) -> Result<(), Errno> {
        let mut source = PathBuffer::new();
        source.extend(b"/")?;
        source.extend(device.path.to_bytes())?;
        let tree = mount::clone_tree(CWD, source.c_str(), false)?;
        let target = match paths::open(self.root()?, &device.path, OFlags::PATH) {
            Err(Errno::NOENT) => paths::create(self.root()?, &device.path, Missing::File)?,
            found => found?,
        };
        mount::attach(tree.as_fd(), target.as_fd())
    }

    pub(super) fn link(&mut self, path: &CStr, target: &CStr, replace: bool) -> Result<(), Errno> {
        let (dir, name) = self.place(path)?;
        match rustix::fs::symlinkat(target, &dir, name) {
            Err(Errno::EXIST) if replace => {
                rustix::fs::unlinkat(&dir, name, AtFlags::empty())?;
                rustix::fs::symlinkat(target, &dir, name)
            }
            Err(Errno::EXIST) => Ok(()),
            answer => answer,
        }
    }

    /// Mounts `tree` on the file `path` below the root.
    pub(super) fn mount_on_file(&self, tree: BorrowedFd<'_>, path: &CStr) -> Result<(), Errno> {
        let target = match paths::open(self.root()?, path, OFlags::PATH) {
            Err(Errno::NOENT) => paths::create(self.root()?, path, Missing::File)?,
            found => found?,
        };
        mount::attach(tree, target.as_fd())
    }

    pub(super) fn pivot(&mut self) -> Result<(), Errno> {
        // What will hide files has to be taken while the host's files can be seen. It must be the null device and nothing that was put
        // in its place (CVE-2025-31133).
        let null = mount::clone_tree(CWD, c"/dev/null", false)?;
        let stat = rustix::fs::fstat(&null)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice
            || stat.st_rdev != rustix::fs::makedev(1, 3)
        {
            return Err(Errno::NXIO);
        }
        self.null = Some(null);
        let old = rustix::fs::open(c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::process::fchdir(self.root()?)?;
        rustix::process::pivot_root(c".", c".")?;
        rustix::process::fchdir(&old)?;
        // Where mounts are still shared with the host, it must not see its own go.
        mount::mount(None, c".", None, propagation::SLAVE | MS_REC, None)?;
        rustix::mount::unmount(c".", UnmountFlags::DETACH)?;
        rustix::process::chdir(c"/")
    }

    pub(super) fn change_root(&self) -> Result<(), Errno> {
        rustix::process::fchdir(self.root()?)?;
        rustix::process::chroot(c".")?;
        rustix::process::chdir(c"/")
    }

    pub(super) fn read_only_mount(&self, path: &CStr) -> Result<(), Errno> {
        let target = paths::open(self.root()?, path, OFlags::PATH)?;
        mount::set_attributes(target.as_fd(), false, &MountAttr { set: attr::RDONLY, ..MountAttr::default() })
    }

    pub(super) fn read_only_path(&self, path: &CStr) -> Result<(), Errno> {
        let target = match paths::open(self.root()?, path, OFlags::PATH) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            target => target?,
        };
        let tree = mount::clone_tree(target.as_fd(), c"", true)?;
        mount::set_attributes(tree.as_fd(), true, &MountAttr { set: attr::RDONLY, ..MountAttr::default() })?;
        mount::attach(tree.as_fd(), target.as_fd())
    }

    /// A file is hidden by the null device, a directory by an empty file system: one for all of them.
    pub(super) fn mask(&mut self, path: &CStr) -> Result<(), Errno> {
        let target = match paths::open(self.root()?, path, OFlags::PATH) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            target => target?,
        };
        let is_dir = FileType::from_raw_mode(rustix::fs::fstat(&target)?.st_mode) == FileType::Directory;
        if is_dir && self.empty.is_none() {
            self.empty = Some(empty_file_system()?);
        }
        let (cover, used) = if is_dir {
            (self.empty.as_ref(), &mut self.empty_used)
        } else {
            (self.null.as_ref(), &mut self.null_used)
        };
        let cover = cover.ok_or(Errno::BADF)?;
        if core::mem::replace(used, true) {
            // A detached mount can be attached once only; copies are taken of the attached one.
            let copy = mount::clone_tree(cover.as_fd(), c"", false)?;
            mount::attach(copy.as_fd(), target.as_fd())
        } else {
            mount::attach(cover.as_fd(), target.as_fd())
        }
    }

    /// An error with what the file system itself has to say about it.
    fn explain(&mut self, errno: Errno, context: BorrowedFd<'_>) -> Failure {
        let mut failure = Failure::from(errno);
        // Messages look like `e overlay: No changes allowed`.
        if let Ok(length @ 3..) = rustix::io::read(context, &mut self.given.detail[HEADER_BYTES..]) {
            self.given.detail.copy_within(HEADER_BYTES + 2..HEADER_BYTES + length, HEADER_BYTES);
            failure.reason = Reason::Explained;
            failure.detail = length - 2;
        }
        failure
    }
}

pub(in crate::launch) fn overlay_parameters(
    context: BorrowedFd<'_>,
    overlay: &OverlayRoot,
) -> Result<(), Errno> {
    if takes_any_parameter(context) {
        return Err(Errno::INVAL);
    }
    fsconfig_set_string(context, c"source", c"overlay")?;
    for layer in &overlay.lower {
        fsconfig_set_string(context, c"lowerdir+", layer.as_c_str())?;
    }
    fsconfig_set_string(context, c"upperdir", overlay.upper.as_c_str())?;
    fsconfig_set_string(context, c"workdir", overlay.work.as_c_str())?;
    // What a container changes is told from the writable directory alone, whatever this kernel's defaults are.
    fsconfig_set_string(context, c"redirect_dir", c"off")?;
    fsconfig_set_string(context, c"metacopy", c"off")?;
    if overlay.volatile {
        fsconfig_set_flag(context, c"volatile")?;
    }
    Ok(())
}

/// Kernels before 6.5 parse overlay's parameters when it is made, and complain of a strange one in the kernel's log. Here they
/// take any: that tells them without a word in that log.
fn takes_any_parameter(context: BorrowedFd<'_>) -> bool {
    if fsconfig_set_flag(context, c"corten").is_ok() {
        return true;
    }
    // The refusal's message, lest it be taken for that of an error to come.
    let _ = rustix::io::read(context, &mut [0; 128]);
    false
}

fn configure(context: BorrowedFd<'_>, parameters: &[Parameter]) -> Result<(), Errno> {
    for parameter in parameters {
        match parameter {
            Parameter::Flag(key) => fsconfig_set_flag(context, key.as_c_str())?,
            Parameter::String(key, value) => fsconfig_set_string(context, key.as_c_str(), value.as_c_str())?,
        }
    }
    Ok(())
}

/// Attributes and propagation, in as few calls as possible: the first propagation goes along with attributes of the same reach.
fn attributes(tree: BorrowedFd<'_>, action: &MountAction) -> Result<(), Errno> {
    let mut flat = action.attributes;
    let mut deep = action.recursive;
    let mut rest = &action.propagation[..];
    if let Some(((kind, recursive), others)) = rest.split_first() {
        if *recursive {
            deep.propagation = *kind;
        } else {
            flat.propagation = *kind;
        }
        rest = others;
    }
    if !flat.is_empty() {
        mount::set_attributes(tree, false, &flat)?;
    }
    if !deep.is_empty() {
        mount::set_attributes(tree, true, &deep)?;
    }
    for (kind, recursive) in rest {
        mount::set_attributes(tree, *recursive, &MountAttr { propagation: *kind, ..MountAttr::default() })?;
    }
    Ok(())
}

fn set_propagation(tree: BorrowedFd<'_>, action: &MountAction) -> Result<(), Errno> {
    for (kind, recursive) in &action.propagation {
        mount::set_attributes(tree, *recursive, &MountAttr { propagation: *kind, ..MountAttr::default() })?;
    }
    Ok(())
}

fn empty_file_system() -> Result<OwnedFd, Errno> {
    let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, c"source", c"tmpfs")?;
    fsconfig_set_flag(&context, c"ro")?;
    fsconfig_create(&context)?;
    let flags = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::from_bits_retain(flags as u32))
}
