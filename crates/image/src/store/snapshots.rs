//! Snapshots: the writable directory of a container on top of its image's layers.
//!
//! `<snapshots>/<id>/upper` and `work` for overlayfs, and a row that keeps the layers alive as long as the
//! snapshot lives, whatever happens to the image.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use super::{Store, file_error};
use crate::catalogue::Image;
use crate::digest::{DiffId, ImageId};
use crate::error::Error;
use crate::metadata::SnapshotRow;
use crate::mounts::LayerMounts;

/// Removed snapshots wait under this prefix while their files are deleted.
pub(super) const TRASH_PREFIX: &str = ".removed-";

/// What overlayfs is mounted from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rootfs {
    /// Top layer first; at least one directory.
    pub lower: Vec<PathBuf>,
    pub upper: PathBuf,
    pub work: PathBuf,
}

impl Store {
    /// Makes the writable layer of a container on top of an image.
    pub fn create_snapshot(&self, id: &str, image: &Image) -> Result<(), Error> {
        check_name(id)?;
        let directory = self.snapshots.join(id);
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o700);
        builder.create(&directory).map_err(file_error("create", &directory))?;
        let undo = |error: Error| {
            let _ = fs::remove_dir_all(&directory);
            error
        };
        for part in ["upper", "work"] {
            let path = directory.join(part);
            fs::create_dir(&path).map_err(file_error("create", &path)).map_err(undo)?;
        }
        // The root of a container is what everybody in it sees, whatever this process' umask is.
        let upper = directory.join("upper");
        fs::set_permissions(&upper, fs::Permissions::from_mode(0o755))
            .map_err(file_error("open up", &upper))
            .map_err(undo)?;
        let layers = self.visible(&image.layers).map_err(undo)?;
        let row = SnapshotRow { id: id.to_owned(), image: image.id, layers };
        let mut database = self.writer();
        for layer in &row.layers {
            // Removed since the image was resolved.
            if database.layer(layer)?.is_none() {
                drop(database);
                return Err(undo(Error::NotFound(image.id.to_string())));
            }
        }
        database.change(|change| change.add_snapshot(&row)).map_err(|error| undo(error.into()))?;
        drop(database);
        self.snapshot_rows.write().unwrap_or_else(PoisonError::into_inner).insert(row.id.clone(), row);
        Ok(())
    }

    /// The layers that can be seen: the topmost one that hides all below it, and what lies above.
    fn visible(&self, layers: &[DiffId]) -> Result<Vec<DiffId>, Error> {
        for (at, layer) in layers.iter().enumerate().skip(1).rev() {
            if self.layers.is_opaque(layer)? {
                return Ok(layers[at..].to_vec());
            }
        }
        Ok(layers.to_vec())
    }

    /// What to mount for a container; layers that are not mounted yet are.
    pub fn rootfs(&self, id: &str, mounts: &LayerMounts) -> Result<Rootfs, Error> {
        let lower = self.mount_all(&self.snapshot_layers(id)?, mounts)?;
        let directory = self.snapshots.join(id);
        Ok(Rootfs { lower, upper: directory.join("upper"), work: directory.join("work") })
    }

    /// The layers of an image that can be seen, each mounted, top first; at least one directory.
    pub fn mounted_layers(&self, image: &Image, mounts: &LayerMounts) -> Result<Vec<PathBuf>, Error> {
        self.mounted_stack(&image.layers, mounts)
    }

    /// The layers that can be seen of a stack, each mounted, top first; at least one directory.
    pub fn mounted_stack(&self, layers: &[DiffId], mounts: &LayerMounts) -> Result<Vec<PathBuf>, Error> {
        self.mount_all(&self.visible(layers)?, mounts)
    }

    fn mount_all(&self, layers: &[DiffId], mounts: &LayerMounts) -> Result<Vec<PathBuf>, Error> {
        let mut mounted = Vec::with_capacity(layers.len().max(1));
        let mut seen = HashSet::new();
        // Overlayfs takes no directory twice. A layer hides all that it has further down again, so that its topmost place is enough.
        for layer in layers.iter().rev().filter(|layer| seen.insert(**layer)) {
            mounted.push(mounts.mount(*layer, &self.layers.mount_source(layer)?)?);
        }
        if mounted.is_empty() {
            // An image without layers (`FROM scratch` and metadata only): overlayfs wants one lower directory.
            let empty = self.root.join("empty");
            fs::create_dir_all(&empty).map_err(file_error("create", &empty))?;
            mounted.push(empty);
        }
        Ok(mounted)
    }

    /// The layers beneath a snapshot, bottom first.
    pub fn snapshot_layers(&self, id: &str) -> Result<Vec<DiffId>, Error> {
        let rows = self.snapshot_rows.read().unwrap_or_else(PoisonError::into_inner);
        rows.get(id).map(|row| row.layers.clone()).ok_or_else(|| Error::NoSnapshot(id.to_owned()))
    }

    /// All snapshots with the image each was made from.
    pub fn snapshots(&self) -> Vec<(String, ImageId)> {
        let rows = self.snapshot_rows.read().unwrap_or_else(PoisonError::into_inner);
        rows.values().map(|row| (row.id.clone(), row.image)).collect()
    }

    /// Removes a container's writable layer; one that is gone already is no error.
    pub fn remove_snapshot(&self, id: &str) -> Result<(), Error> {
        check_name(id)?;
        let row = self.snapshot_rows.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        let Some(row) = row else { return Ok(()) };
        let orphaned = self.image(&row.image).is_none();
        let garbage = {
            let mut database = self.writer();
            database.remove(|change| {
                change.remove_snapshot(id)?;
                // Asking what has no owner reads whole tables; only an image that is gone makes owners scarce.
                if orphaned {
                    change.collect().map(Some)
                } else {
                    Ok::<_, crate::metadata::DatabaseError>(None)
                }
            })?
        };
        // Known until here: what failed can be tried again.
        self.snapshot_rows.write().unwrap_or_else(PoisonError::into_inner).remove(id);
        if let Some(garbage) = garbage {
            self.discard(garbage);
        }
        discard_directory(&self.snapshots, id)
    }
}

/// Takes the directory's name away first, so that a crash leaves what the next start knows as garbage.
fn discard_directory(snapshots: &Path, id: &str) -> Result<(), Error> {
    let (directory, trash) = (snapshots.join(id), snapshots.join(format!("{TRASH_PREFIX}{id}")));
    match fs::rename(&directory, &trash) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        renamed => renamed.map_err(file_error("remove", &directory))?,
    }
    corten_sys::tree::remove(&trash).map_err(file_error("remove", &trash))
}

/// A snapshot's name becomes a directory's name.
fn check_name(id: &str) -> Result<(), Error> {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if id.is_empty() || id.len() > 128 || !id.bytes().all(valid) {
        return Err(Error::SnapshotName(id.to_owned()));
    }
    Ok(())
}
