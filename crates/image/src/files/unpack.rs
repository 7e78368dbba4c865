//! Files in: a tar archive is unpacked into a directory below a root.
//!
//! The names in the archive are taken lexically first and must not leave the directory. Links that are met on the way are followed
//! as a process below the root would follow them; the last element of a name is never followed. What fails in the middle leaves what
//! was unpacked before.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::lookup::open;
use super::pack::is_packed;
use super::rebase::Rebase;
use crate::layer::{Metadata, dress};
use crate::tar::{Entry, Extent, Kind, Reader, TarError, Time};
use crate::zeros;

/// What directories get that no entry describes.
const IMPLIED_MODE: Mode = Mode::from_raw_mode(0o755);

/// Whose the files become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owner {
    /// Those that the archive names.
    #[default]
    Archive,
    Fixed {
        uid: u32,
        gid: u32,
    },
    /// Nothing is changed: they belong to whoever unpacks.
    Caller,
}

#[derive(Clone, Debug, Default)]
pub struct UnpackOptions {
    pub owner: Owner,
    /// A directory does not take the place of another file, nor another file that of a directory.
    pub keep_kinds: bool,
    pub rebase: Option<Rebase>,
    /// An entry for the destination itself gives it owner, mode, time and attributes.
    pub own_entry: bool,
    /// Attributes that the file system or the caller's rights don't allow are left out.
    pub skip_refused_xattrs: bool,
    /// Pages of zeros take no room on the disk.
    pub leaves_holes: bool,
    /// A stranger has made the archive, and others will use what is in it.
    pub distrust: Option<Distrust>,
}

/// What an archive may hold that nobody vouches for: no devices, and no attributes but capabilities and those that users may set.
#[derive(Clone, Copy, Debug)]
pub struct Distrust {
    pub entries_max: u64,
}

/// Why an archive was not unpacked to its end.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    #[error(transparent)]
    Archive(#[from] TarError),
    #[error("invalid entry name {0:?}: it leaves the directory")]
    Breakout(String),
    #[error("invalid hardlink target {target:?} of {entry:?}")]
    Link { entry: String, target: String },
    #[error("cannot overwrite directory {entry:?} with non-directory {directory:?}")]
    OverDirectory { entry: String, directory: String },
    #[error("cannot overwrite non-directory {entry:?} with directory {directory:?}")]
    OverFile { entry: String, directory: String },
    #[error("{0:?} is a device")]
    Device(String),
    #[error("it has more than {0} entries")]
    Entries(u64),
    #[error("{step} {path}")]
    File {
        step: &'static str,
        path: String,
        #[source]
        source: io::Error,
    },
}

/// Where an archive comes from.
pub trait Input: BufRead {
    /// Copies what comes next, up to `bytes`, into a file at an offset, without anybody seeing it; gives how much that was. 0: it has
    /// to be read.
    fn copy_to(&mut self, file: &File, at: u64, bytes: u64) -> io::Result<u64>;
}

/// Any reader as an [`Input`].
pub struct Plain<R>(pub R);

impl<R: Read> Read for Plain<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: BufRead> BufRead for Plain<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.0.fill_buf()
    }

    fn consume(&mut self, bytes: usize) {
        self.0.consume(bytes);
    }
}

impl<R: BufRead> Input for Plain<R> {
    fn copy_to(&mut self, _file: &File, _at: u64, _bytes: u64) -> io::Result<u64> {
        Ok(0)
    }
}

/// Unpacks into the directory `destination`, which must be there, with all links in its path resolved.
pub fn unpack(
    root: &impl AsFd,
    destination: &[u8],
    archive: impl Input,
    options: &UnpackOptions,
) -> Result<(), UnpackError> {
    let destination = destination.strip_suffix(b"/").unwrap_or(destination);
    let mut unpacking = Unpacking {
        root: root.as_fd().try_clone_to_owned().map_err(|e| failed("open", destination)(e))?,
        destination,
        options,
        parent: None,
        directories: Vec::new(),
    };
    let mut reader = Reader::new(archive);
    let (mut own, mut entries) = (None, 0);
    while let Some(mut entry) = reader.next_entry()? {
        entries += 1;
        if let Some(distrust) = &options.distrust {
            distrust.check(&mut entry, entries)?;
        }
        if let Some(rebase) = &options.rebase {
            entry.path = rebase.apply(&entry.path);
            if entry.kind == Kind::HardLink {
                entry.link = rebase.apply(&entry.link);
            }
        }
        let Some(name) = inside(&entry.path).ok_or_else(|| UnpackError::Breakout(entry.name()))? else {
            own = (entry.kind == Kind::Directory && options.own_entry).then_some(entry);
            continue;
        };
        unpacking.entry(&name, &entry, &mut reader)?;
    }
    unpacking.finish()?;
    own.map_or(Ok(()), |entry| dress_own(root, destination, &entry))
}

impl Distrust {
    /// Takes attributes away; anything else that must not be is an error.
    fn check(self, entry: &mut Entry, number: u64) -> Result<(), UnpackError> {
        if number > self.entries_max {
            return Err(UnpackError::Entries(self.entries_max));
        }
        if matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice) {
            return Err(UnpackError::Device(entry.name()));
        }
        entry.xattrs.retain(|(name, _)| is_packed(name));
        Ok(())
    }
}

/// Gives the destination what the archive says of itself.
fn dress_own(root: &impl AsFd, destination: &[u8], entry: &Entry) -> Result<(), UnpackError> {
    let metadata = Metadata {
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime,
        xattrs: entry.xattrs.clone(),
    };
    let directory = open(
        root,
        if destination.is_empty() { b"." } else { destination },
        OFlags::DIRECTORY | OFlags::RDONLY,
    );
    let directory = directory.map_err(|e| failed("open", destination)(e.into()))?;
    dress(&File::from(directory), &metadata).map_err(failed("set the attributes of", destination))
}

struct Unpacking<'a> {
    root: OwnedFd,
    destination: &'a [u8],
    options: &'a UnpackOptions,
    /// The directory of the last entry: the next one is usually a neighbour.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// Directories with their times, which change as long as files come in.
    directories: Vec<(Vec<u8>, Time)>,
}

impl Unpacking<'_> {
    fn entry(
        &mut self,
        name: &[u8],
        entry: &Entry,
        data: &mut Reader<impl Input>,
    ) -> Result<(), UnpackError> {
        let target = (entry.kind == Kind::HardLink).then(|| self.link_target(entry)).transpose()?;
        let (parent, last) = self.parent_of(name)?;
        self.make_room(&parent, last, entry, name)?;
        let fail = |step| move |error: Errno| failed(step, name)(error.into());
        match entry.kind {
            Kind::Directory => {
                match rustix::fs::mkdirat(&parent, last, Mode::from_raw_mode(entry.mode & 0o777)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(fail("mkdir")(error)),
                }
            }
            Kind::File => {
                let file = self.file(&parent, last, entry, data, name)?;
                return self.dress_open(&file, entry, name);
            }
            Kind::Symlink => {
                rustix::fs::symlinkat(entry.link.as_slice(), &parent, last).map_err(fail("symlink"))?;
            }
            Kind::HardLink => {
                if let Some((from, source)) = &target {
                    rustix::fs::linkat(from, source.as_slice(), &parent, last, AtFlags::empty())
                        .map_err(fail("link"))?;
                }
                // It is the file it links to, and dressed as that.
                return Ok(());
            }
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => {
                let kind = match entry.kind {
                    Kind::CharDevice => FileType::CharacterDevice,
                    Kind::BlockDevice => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                let device = rustix::fs::makedev(entry.device.major, entry.device.minor);
                rustix::fs::mknodat(&parent, last, kind, Mode::from_raw_mode(entry.mode & 0o777), device)
                    .map_err(fail("mknod"))?;
            }
        }
        if entry.kind == Kind::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let directory = rustix::fs::openat(&parent, last, flags, Mode::empty()).map_err(fail("open"))?;
            self.dress_open(&File::from(directory), entry, name)?;
            self.directories.push((name.to_vec(), entry.mtime));
            return Ok(());
        }
        self.dress_name(&parent, last, entry, name)
    }

    /// Takes away what has the name, unless it is a directory and shall be one.
    fn make_room(
        &mut self,
        parent: &OwnedFd,
        last: &[u8],
        entry: &Entry,
        name: &[u8],
    ) -> Result<(), UnpackError> {
        let found = match rustix::fs::statat(parent, last, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(failed("lstat", name)(error.into())),
        };
        let wanted = entry.kind == Kind::Directory;
        if self.options.keep_kinds && found != wanted {
            let entry = String::from_utf8_lossy(name).into_owned();
            let directory = match self.destination {
                b"" => "/".to_owned(),
                path => String::from_utf8_lossy(path).into_owned(),
            };
            return Err(if found {
                UnpackError::OverDirectory { entry, directory }
            } else {
                UnpackError::OverFile { entry, directory }
            });
        }
        if found && wanted {
            return Ok(());
        }
        // The directory that is remembered may be one of those that go.
        self.parent = None;
        corten_sys::tree::remove_at(parent, last).map_err(failed("unlinkat", name))
    }

    fn file(
        &mut self,
        parent: &OwnedFd,
        last: &[u8],
        entry: &Entry,
        data: &mut Reader<impl Input>,
        name: &[u8],
    ) -> Result<File, UnpackError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(parent, last, flags, Mode::from_raw_mode(entry.mode & 0o777))
            .map_err(|e| failed("open", name)(e.into()))?;
        let file = File::from(file);
        if entry.size == 0 {
            return Ok(file);
        }
        let whole = [Extent { offset: 0, bytes: entry.size }];
        for run in entry.sparse.as_deref().unwrap_or(&whole) {
            let (mut at, end) = (run.offset, run.offset + run.bytes);
            while at < end {
                let copied = data.data_by(end - at, |input, room| input.copy_to(&file, at, room));
                match copied.map_err(failed("write", name))? {
                    0 => {}
                    copied => {
                        at += copied;
                        continue;
                    }
                }
                let piece = data.data().map_err(|error| broken(error, name))?;
                let mut now = usize::try_from(end - at).unwrap_or(usize::MAX).min(piece.len());
                let mut is_data = true;
                if self.options.leaves_holes {
                    (now, is_data) = zeros::run(&piece[..now]);
                }
                if is_data {
                    file.write_all_at(&piece[..now], at).map_err(failed("write", name))?;
                }
                data.used(now);
                at += now as u64;
            }
        }
        if entry.sparse.is_some() || self.options.leaves_holes {
            file.set_len(entry.size).map_err(failed("truncate", name))?;
        }
        Ok(file)
    }

    /// Owner first (it clears set-user-ID bits and capabilities), then attributes, mode and times.
    fn dress_open(&self, file: &File, entry: &Entry, name: &[u8]) -> Result<(), UnpackError> {
        if let Some((uid, gid)) = self.owner(entry) {
            rustix::fs::fchown(file, Some(uid), Some(gid)).map_err(|e| failed("lchown", name)(e.into()))?;
        }
        self.xattrs(entry, name, |attribute, value| {
            rustix::fs::fsetxattr(file, attribute, value, XattrFlags::empty())
        })?;
        rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode))
            .map_err(|e| failed("chmod", name)(e.into()))?;
        rustix::fs::futimens(file, &times(entry.mtime)).map_err(|e| failed("chtimes", name)(e.into()))
    }

    /// The same for what can't be opened.
    fn dress_name(
        &self,
        parent: &OwnedFd,
        last: &[u8],
        entry: &Entry,
        name: &[u8],
    ) -> Result<(), UnpackError> {
        if let Some((uid, gid)) = self.owner(entry) {
            rustix::fs::chownat(parent, last, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|e| failed("lchown", name)(e.into()))?;
        }
        if entry.kind != Kind::Symlink {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let node = rustix::fs::openat(parent, last, flags, Mode::empty())
                .map_err(|e| failed("open", name)(e.into()))?;
            // A link that was put in its place is not followed: the descriptor is what is changed.
            let own = format!("/proc/self/fd/{}", node.as_raw_fd());
            let is_link = rustix::fs::fstat(&node)
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink);
            if !is_link {
                rustix::fs::chmod(&own, Mode::from_raw_mode(entry.mode))
                    .map_err(|e| failed("chmod", name)(e.into()))?;
                self.xattrs(entry, name, |attribute, value| {
                    rustix::fs::setxattr(&own, attribute, value, XattrFlags::empty())
                })?;
            }
        }
        rustix::fs::utimensat(parent, last, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| failed("chtimes", name)(e.into()))
    }

    fn owner(&self, entry: &Entry) -> Option<(Uid, Gid)> {
        match self.options.owner {
            Owner::Archive => Some((Uid::from_raw(entry.uid), Gid::from_raw(entry.gid))),
            Owner::Fixed { uid, gid } => Some((Uid::from_raw(uid), Gid::from_raw(gid))),
            Owner::Caller => None,
        }
    }

    fn xattrs(
        &self,
        entry: &Entry,
        name: &[u8],
        set: impl Fn(&[u8], &[u8]) -> rustix::io::Result<()>,
    ) -> Result<(), UnpackError> {
        for (attribute, value) in entry.xattrs.iter().filter(|(attribute, _)| !steers_overlay(attribute)) {
            match set(attribute, value) {
                Err(Errno::PERM) => {}
                Err(Errno::NOTSUP | Errno::ACCESS) if self.options.skip_refused_xattrs => {}
                set => set.map_err(|e| failed("lsetxattr", name)(e.into()))?,
            }
        }
        Ok(())
    }

    /// The open directory of a hard link's target, and the target's name in it.
    fn link_target(&mut self, entry: &Entry) -> Result<(OwnedFd, Vec<u8>), UnpackError> {
        let refused = || UnpackError::Link {
            entry: entry.name(),
            target: String::from_utf8_lossy(&entry.link).into_owned(),
        };
        let target = inside(&entry.link).flatten().ok_or_else(refused)?;
        let (parent, last) = self.parent_of(&target)?;
        Ok((parent, last.to_vec()))
    }

    /// The open directory that a name is in, made where it is missing, and the last element of the name.
    fn parent_of<'n>(&mut self, name: &'n [u8]) -> Result<(OwnedFd, &'n [u8]), UnpackError> {
        let (parent, last) = match name.iter().rposition(|&byte| byte == b'/') {
            Some(at) => (&name[..at], &name[at + 1..]),
            None => (&b""[..], name),
        };
        let clone = |fd: &OwnedFd| fd.try_clone().map_err(failed("open", name));
        if let Some((known, fd)) = &self.parent
            && known == parent
        {
            return Ok((clone(fd)?, last));
        }
        let fd = match self.open_directory(parent) {
            Err(Errno::NOENT) => self.make_directories(parent)?,
            opened => opened.map_err(|e| failed("open", parent)(e.into()))?,
        };
        let answer = clone(&fd)?;
        self.parent = Some((parent.to_vec(), fd));
        Ok((answer, last))
    }

    fn open_directory(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
        let full = [self.destination, separator, path].concat();
        let full: &[u8] = if full.is_empty() { b"/" } else { &full };
        open(&self.root, full, OFlags::PATH | OFlags::DIRECTORY)
    }

    fn make_directories(&self, path: &[u8]) -> Result<OwnedFd, UnpackError> {
        let fail = |error: Errno| failed("mkdir", path)(error.into());
        let mut directory = self.open_directory(b"").map_err(fail)?;
        let ends =
            path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).chain([path.len()]);
        let mut start = 0;
        for end in ends {
            match rustix::fs::mkdirat(&directory, &path[start..end], IMPLIED_MODE) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(fail(error)),
            }
            directory = self.open_directory(&path[..end]).map_err(fail)?;
            start = end + 1;
        }
        Ok(directory)
    }

    /// The directories get their times, when nothing comes into them any more.
    fn finish(self) -> Result<(), UnpackError> {
        for (path, mtime) in &self.directories {
            match self.open_directory(path) {
                Ok(directory) => rustix::fs::utimensat(&directory, "", &times(*mtime), AtFlags::EMPTY_PATH)
                    .map_err(|e| failed("chtimes", path)(e.into()))?,
                // Replaced by a later entry.
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => return Err(failed("chtimes", path)(error.into())),
            }
        }
        Ok(())
    }
}

/// A name relative to the directory, cleaned; `None` within for the directory itself, `None` for what lies outside.
fn inside(name: &[u8]) -> Option<Option<Vec<u8>>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(if parts.is_empty() { None } else { Some(parts.join(&b'/')) })
}

/// Attributes by which overlayfs would take a file for something else.
fn steers_overlay(attribute: &[u8]) -> bool {
    attribute.starts_with(b"trusted.overlay.") || attribute.starts_with(b"user.overlay.")
}

/// The archive ended, or could not be read, within a file.
fn broken(error: io::Error, name: &[u8]) -> UnpackError {
    match error.downcast::<TarError>() {
        Ok(error) => UnpackError::Archive(error),
        Err(error) => failed("read the archive's data of", name)(error),
    }
}

fn times(time: Time) -> Timestamps {
    let time = Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanoseconds) };
    Timestamps { last_access: time, last_modification: time }
}

fn failed(step: &'static str, path: &[u8]) -> impl FnOnce(io::Error) -> UnpackError + use<> {
    let path = format!("/{}", String::from_utf8_lossy(path).trim_start_matches('/'));
    move |source| UnpackError::File { step, path, source }
}
