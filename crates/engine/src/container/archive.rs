//! A container's files taken out and put in: `archive`, `export`.
//!
//! Everything is done below a [`View`], whether the container runs or not; no path is ever resolved in the host's tree.

use std::io::{self, BufRead};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use corten_api::Timestamp;
use corten_api::archive::{ArchivePutOptions, PathStat, file_mode};
use corten_image::files::{
    self, Input, OthersWait, Output, Owner, PackError, Source, UnpackError, UnpackOptions,
};
use corten_image::mounts::View;
use rustix::io::Errno;

use super::attach::Connection;
use super::{Container, Record, users};
use crate::Engine;
use crate::error::{Error, Result};
use crate::image::apart;
use crate::mounts::MountKind;

/// What of a container is on its way out. The files stay within reach until it is written or dropped.
pub struct Archive {
    pub stat: PathStat,
    source: Source,
    _view: View,
}

/// A body that is read while its client sends it, and whose client may stop sending.
pub trait Upload: BufRead + Send + 'static {
    /// From now on a client that sends nothing for a while is given up, if others wait.
    fn give_up_when(&mut self, others_wait: OthersWait);
}

/// All files of a container on their way out.
pub struct Export {
    root: OwnedFd,
    engine: Engine,
    container: Arc<Container>,
}

impl Engine {
    /// What a path of a container is.
    pub async fn container_stat_path(&self, key: &str, path: &str) -> Result<PathStat> {
        let container = self.containers.find(key)?;
        let view = self.reading_view(&container).await?;
        let path = path.to_owned();
        let name = key.to_owned();
        crate::image::blocking(move || {
            let rooted = format!("/{}", path.trim_start_matches('/'));
            let found =
                files::stat(&view, rooted.as_bytes()).map_err(|e| not_found(&path, &name, "lstat", e))?;
            Ok(path_stat(files::base_name(&path), &found))
        })
        .await
    }

    /// A path of a container as an archive.
    pub async fn container_archive(&self, key: &str, path: &str) -> Result<Archive> {
        let container = self.containers.find(key)?;
        let view = self.reading_view(&container).await?;
        let (name, asked) = (key.to_owned(), path.to_owned());
        let archive = crate::image::blocking(move || {
            let path = absolute(&asked);
            let (source, found) =
                Source::find(&view, &path).map_err(|e| not_found(&asked, &name, "lstat", e))?;
            Ok(Archive { stat: path_stat(files::base_name(&path), &found), source, _view: view })
        });
        let archive = archive.await?;
        self.container_event(&container, "archive-path", &[]);
        Ok(archive)
    }

    /// Unpacks an archive in a directory of a container.
    pub async fn container_extract(
        &self,
        key: &str,
        path: &str,
        options: ArchivePutOptions,
        mut body: impl Upload,
    ) -> Result<()> {
        let open = |others_wait| {
            body.give_up_when(others_wait);
            corten_image::compression::decompressed(body).map(files::Plain)
        };
        self.extract(key, path, options, open).await
    }

    /// The same for an archive that comes by [`files::Receiver`].
    pub async fn container_extract_passed(
        &self,
        key: &str,
        path: &str,
        options: ArchivePutOptions,
        connection: Connection,
    ) -> Result<()> {
        let open = |others_wait| {
            let mut receiver = files::Receiver::new(connection.into_blocking()?.0)?;
            receiver.give_up_when(others_wait)?;
            Ok(receiver)
        };
        self.extract(key, path, options, open).await
    }

    async fn extract<I: Input>(
        &self,
        key: &str,
        path: &str,
        options: ArchivePutOptions,
        open: impl FnOnce(OthersWait) -> io::Result<I> + Send + 'static,
    ) -> Result<()> {
        let container = self.containers.find(key)?;
        let (view, turn) = self.writing_view(&container).await?;
        let (held, is_alone) = (container.clone(), turn.is_alone());
        let others_wait: OthersWait = Box::new(move || held.waits_for_writer(is_alone));
        let record = container.read().clone();
        let (name, path) = (key.to_owned(), path.to_owned());
        let unpacked = apart("unpack", move || {
            let archive =
                open(others_wait).map_err(|e| Error::invalid(format!("cannot read the archive: {e}")))?;
            extract(&view, &record, &name, &path, options, archive)
        })
        .await;
        drop(turn);
        unpacked?;
        self.container_event(&container, "extract-to-dir", &[]);
        Ok(())
    }

    /// Gets at all files of a container, without what is mounted in it.
    pub async fn container_export(&self, key: &str) -> Result<Export> {
        let container = self.containers.find(key)?;
        let root = self.bare_view(&container).await?.into_root();
        Ok(Export { root, engine: self.clone(), container })
    }
}

impl Archive {
    pub async fn write_to(self, output: impl Output + Send + 'static) -> Result<()> {
        self.write(|| Ok(output), |mut output| output.flush()).await
    }

    /// The same for a client with a [`files::Receiver`].
    pub async fn pass_to(self, connection: Connection) -> Result<()> {
        let open =
            || connection.into_blocking().and_then(|(socket, begun)| files::Sender::new(socket, &begun));
        self.write(open, |sender| sender.finish().map(drop)).await
    }

    async fn write<O: Output>(
        self,
        open: impl FnOnce() -> io::Result<O> + Send + 'static,
        finish: impl FnOnce(O) -> io::Result<()> + Send + 'static,
    ) -> Result<()> {
        let Archive { source, _view, .. } = self;
        apart("archive", move || {
            let packed = open().map_err(PackError::Write).and_then(|mut output| {
                files::pack(source, &mut output)?;
                finish(output).map_err(PackError::Write)
            });
            // The mounts go when the last byte is out.
            drop(_view);
            packed.map_err(pack_failed)
        })
        .await
    }
}

impl Export {
    pub async fn write_to(self, mut output: impl Output + Send + 'static) -> Result<()> {
        let Export { root, engine, container } = self;
        let packed = apart("export", move || {
            let packed = files::pack_contents(root, &mut output)
                .and_then(|()| output.flush().map_err(PackError::Write));
            packed.map_err(pack_failed)
        });
        packed.await.map_err(|error| error.within(format!("Error exporting container {}", container.id)))?;
        engine.container_event(&container, "export", &[]);
        Ok(())
    }
}

fn extract(
    view: &View,
    record: &Record,
    name: &str,
    path: &str,
    options: ArchivePutOptions,
    archive: impl Input,
) -> Result<()> {
    let rooted = absolute(path);
    let directory = files::resolve_existing(view, rooted.as_bytes());
    let directory = directory.map_err(|e| not_found(path, name, "lstat", e))?;
    let found = files::stat(view, &directory).map_err(|e| not_found(path, name, "lstat", e))?;
    if !found.is_directory() {
        return Err(Error::invalid("extraction point is not a directory"));
    }
    check_writable(record, &String::from_utf8_lossy(&directory))?;
    let owner = match options.copy_uid_gid && !record.config.user.is_empty() {
        true => {
            let (uid, gid) = users::ids(view, &record.config.user)?;
            Owner::Fixed { uid, gid }
        }
        false => Owner::Archive,
    };
    let options =
        UnpackOptions { owner, keep_kinds: options.no_overwrite_dir_non_dir, ..UnpackOptions::default() };
    files::unpack(view, &directory, archive, &options).map_err(unpack_failed)
}

/// Whether the container could write there: the innermost mount says, else the root.
fn check_writable(record: &Record, path: &str) -> Result<()> {
    let holds = |destination: &str| {
        path == destination || path.strip_prefix(destination).is_some_and(|rest| rest.starts_with('/'))
    };
    let mounts = record.mounts.iter().filter(|mount| holds(&mount.destination));
    match mounts.max_by_key(|mount| mount.destination.len()) {
        Some(mount) if !mount.read_only && mount.kind != MountKind::Image => Ok(()),
        Some(_) => Err(Error::invalid("mounted volume is marked read-only")),
        None if record.host_config.readonly_rootfs => {
            Err(Error::invalid("container rootfs is marked read-only"))
        }
        None => Ok(()),
    }
}

/// From the root, without `.` and `..`; an ending that means something stays.
fn absolute(path: &str) -> String {
    files::keep_ending(files::clean(&format!("/{path}")), path)
}

fn path_stat(name: &str, found: &files::PathStat) -> PathStat {
    PathStat {
        name: name.to_owned(),
        size: found.size,
        mode: file_mode::from_unix(found.mode),
        mtime: Timestamp::from_unix(found.mtime.seconds, found.mtime.nanoseconds),
        link_target: found.link_target.as_deref().map(lossy).unwrap_or_default(),
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn not_found(path: &str, container: &str, step: &str, error: io::Error) -> Error {
    match Errno::from_io_error(&error) {
        Some(Errno::NOENT) => {
            Error::not_found(format!("Could not find the file {path} in container {container}"))
        }
        _ => Error::internal(format!("{step} {path}: {}", words(&error))),
    }
}

fn pack_failed(error: PackError) -> Error {
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Error::internal(format!("{error}{cause}"))
}

fn unpack_failed(error: UnpackError) -> Error {
    match &error {
        UnpackError::Archive(archive) => {
            let cause =
                std::error::Error::source(archive).map(|cause| format!(": {cause}")).unwrap_or_default();
            Error::invalid(format!("cannot read the archive: {archive}{cause}"))
        }
        UnpackError::Breakout(_)
        | UnpackError::Link { .. }
        | UnpackError::Device(_)
        | UnpackError::Entries(_) => Error::invalid(error.to_string()),
        // Not the kernel's word, but the upload's: it broke off, or stood still.
        UnpackError::File { source, .. } if source.raw_os_error().is_none() => {
            Error::invalid(format!("{error}: {source}"))
        }
        UnpackError::File { source, .. } => Error::internal(format!("{error}: {}", words(source))),
        UnpackError::OverDirectory { .. } | UnpackError::OverFile { .. } => {
            Error::internal(error.to_string())
        }
    }
}

/// The kernel's refusals in the words that Docker's users know.
fn words(error: &io::Error) -> String {
    let text = match Errno::from_io_error(error) {
        Some(Errno::NOSPC) => "no space left on device",
        Some(Errno::DQUOT) => "disk quota exceeded",
        Some(Errno::BUSY) => "device or resource busy",
        Some(Errno::ROFS) => "read-only file system",
        Some(Errno::PERM) => "operation not permitted",
        Some(Errno::ACCESS) => "permission denied",
        Some(Errno::EXIST) => "file exists",
        Some(Errno::NOENT) => "no such file or directory",
        Some(Errno::NOTDIR) => "not a directory",
        Some(Errno::LOOP) => "too many links",
        _ => return error.to_string(),
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mounts::ResolvedMount;

    #[test]
    fn the_innermost_mount_says_who_may_write() {
        let mount = |destination: &str, read_only| ResolvedMount {
            destination: destination.to_owned(),
            read_only,
            ..ResolvedMount::default()
        };
        let mut record =
            Record { mounts: vec![mount("/a", true), mount("/a/b", false)], ..Record::default() };
        for (path, writable) in [("/a", false), ("/a/x", false), ("/a/b/c", true), ("/ab", true), ("/", true)]
        {
            assert_eq!(check_writable(&record, path).is_ok(), writable, "{path}");
        }
        record.host_config.readonly_rootfs = true;
        assert!(check_writable(&record, "/ab").is_err() && check_writable(&record, "/a/b").is_ok());
    }

    #[test]
    fn paths_keep_what_their_ending_means() {
        for (path, clean) in [("a/../b/", "/b/"), ("/a/.", "/a/."), ("/", "/"), (".", "/."), ("../..", "/")] {
            assert_eq!(absolute(path), clean);
        }
    }
}
