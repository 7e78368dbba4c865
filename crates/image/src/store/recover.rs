//! Opening the store after whatever happened: half-made files go, images that lost content go.
//!
//! A crash leaves files without rows (deleted here) and never rows without files, with one exception: blobs of
//! a load that ended seconds before a power cut may not have reached the disk. Such content is known
//! (`unsynced` rows of another boot) and goes with the images that use it, rather than being believed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::file_error;
use super::snapshots::TRASH_PREFIX;
use crate::blobs::Blobs;
use crate::digest::{Digest, ImageId};
use crate::error::Error;
use crate::layer::{DriverKind, Layers};
use crate::metadata::Database;

/// The driver the store was made with, or the wanted or best one for a new store.
pub(super) fn settle_driver(root: &Path, wanted: Option<DriverKind>) -> Result<DriverKind, Error> {
    let path = root.join("driver");
    match fs::read_to_string(&path) {
        Ok(text) => {
            let found: Result<DriverKind, String> = text.trim().parse();
            match (found, wanted) {
                (Ok(found), None) => Ok(found),
                (Ok(found), Some(wanted)) if found == wanted => Ok(found),
                (_, wanted) => Err(Error::Driver {
                    path: root.to_owned(),
                    found: text.trim().to_owned(),
                    wanted: wanted.map_or("erofs or dir", DriverKind::name),
                }),
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let driver = wanted.unwrap_or_else(best_driver);
            fs::write(&path, driver.name()).map_err(file_error("write", &path))?;
            Ok(driver)
        }
        Err(error) => Err(file_error("read", &path)(error)),
    }
}

/// EROFS where the kernel has it, built in or as a module that can be loaded.
fn best_driver() -> DriverKind {
    let listed = fs::read_to_string("/proc/filesystems")
        .is_ok_and(|text| text.lines().any(|line| line.trim_start_matches("nodev").trim() == "erofs"));
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let modules = Path::new("/lib/modules").join(release.trim()).join("kernel/fs/erofs");
    if listed || modules.exists() { DriverKind::Erofs } else { DriverKind::Directory }
}

/// Makes the disk and the database agree.
pub(super) fn sweep(
    database: &mut Database,
    blobs: &Blobs,
    layers: &Layers,
    snapshots: &Path,
    boot: &str,
) -> Result<(), Error> {
    let on_disk: BTreeSet<Digest> = blobs.list()?.into_iter().collect();
    let unpacked: BTreeSet<Digest> = layers.list()?.into_iter().collect();
    let mut suspect: BTreeSet<Digest> = database.unsynced(boot)?.into_iter().collect();
    suspect.extend(
        database
            .blobs()?
            .iter()
            .filter(|row| row.stored)
            .map(|row| row.digest)
            .filter(|digest| !on_disk.contains(digest)),
    );
    suspect.extend(database.layers()?.iter().map(|row| row.diff_id).filter(|id| !unpacked.contains(id)));
    drop_images(database, &suspect)?;
    let owned: BTreeSet<Digest> =
        database.blobs()?.iter().filter(|row| row.stored).map(|row| row.digest).collect();
    for digest in on_disk.difference(&owned) {
        blobs.remove(digest)?;
    }
    let owned: BTreeSet<Digest> = database.layers()?.iter().map(|row| row.diff_id).collect();
    for id in unpacked.difference(&owned) {
        layers.remove(id)?;
    }
    sweep_snapshots(database, snapshots)
}

/// Removes the images that use content which is gone or can't be believed.
fn drop_images(database: &mut Database, suspect: &BTreeSet<Digest>) -> Result<(), Error> {
    let mut victims: BTreeSet<ImageId> = BTreeSet::new();
    for content in suspect {
        victims.extend(database.users(content)?);
    }
    if suspect.is_empty() {
        return Ok(());
    }
    for image in &victims {
        tracing::warn!(%image, "an image lost content in a crash of the machine and is removed: load it again");
    }
    database.remove_synced(|change| -> Result<(), Error> {
        victims.iter().try_for_each(|image| change.remove_image(image))?;
        suspect.iter().try_for_each(|layer| change.remove_steps_of(layer))?;
        change.collect()?;
        suspect.iter().try_for_each(|content| change.mark_synced(content))?;
        Ok(())
    })
}

/// Deletes directories that no row names, and finishes interrupted removals.
fn sweep_snapshots(database: &mut Database, snapshots: &Path) -> Result<(), Error> {
    let rows = database.snapshots()?;
    for entry in fs::read_dir(snapshots).map_err(file_error("read", snapshots))? {
        let entry = entry.map_err(file_error("read", snapshots))?;
        let name = entry.file_name();
        let known = rows.iter().any(|row| name == row.id.as_str());
        if !known && (name.to_string_lossy().starts_with(TRASH_PREFIX) || is_snapshot(&entry.path())) {
            corten_sys::tree::remove(&entry.path()).map_err(file_error("remove", &entry.path()))?;
        }
    }
    let lost: Vec<_> = rows.into_iter().filter(|row| !snapshots.join(&row.id).is_dir()).collect();
    for row in &lost {
        tracing::warn!(snapshot = row.id, "the files of a snapshot are gone; so is its record");
    }
    database.change(|change| lost.iter().try_for_each(|row| change.remove_snapshot(&row.id)))?;
    Ok(())
}

/// Whether a directory is a snapshot's, however far its making or its removal came: nothing is in it but our two parts.
fn is_snapshot(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut parts| {
        parts
            .all(|part| part.is_ok_and(|part| ["upper", "work"].iter().any(|name| part.file_name() == *name)))
    })
}
