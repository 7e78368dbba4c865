//! What of a container's mounts is made for its start: images, and parts of volumes and images. They are held in place in the
//! engine's mount namespace until the container has them mounted.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use corten_image::{LayerMounts, MountError};

use super::Record;
use crate::Engine;
use crate::error::{Error, Result};
use crate::mounts::{MountKind, ResolvedMount};

/// Makes the names of pins differ.
static TURN: AtomicU64 = AtomicU64::new(0);

/// Lets go of everything when dropped; containers that have it mounted keep it.
pub(super) struct Pins<'a> {
    layers: &'a LayerMounts,
    names: Vec<String>,
}

impl Engine {
    /// Makes every mount's source a path. Subpaths were not looked up before, as volumes change; links in them lead nowhere else.
    pub(super) fn pin_sources(&self, record: &mut Record) -> Result<Pins<'_>> {
        let mut pins = Pins { layers: &self.layers, names: Vec::new() };
        for (number, mount) in record.mounts.iter_mut().enumerate() {
            // Several may look at a container at once, each with pins of its own.
            let turn = TURN.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}-{number}-{turn}", record.id);
            if mount.kind == MountKind::Image {
                self.pin_image(&mut pins, format!("image-{name}"), mount)?;
            }
            if !mount.subpath.is_empty() {
                pins.subpath(format!("subpath-{name}"), mount)?;
            }
        }
        Ok(pins)
    }

    fn pin_image(&self, pins: &mut Pins<'_>, name: String, mount: &mut ResolvedMount) -> Result<()> {
        let layers = if mount.layers.is_empty() {
            self.images.mounted_layers(&*self.find_image_for(&mount.image)?, &self.layers)
        } else {
            let ids = mount.layers.iter().map(|id| id.parse()).collect::<std::result::Result<Vec<_>, _>>();
            let ids = ids.map_err(|_| Error::internal("a layer that is to be mounted has no valid id"))?;
            self.images.mounted_stack(&ids, &self.layers)
        };
        let layers = layers.map_err(crate::image::failed)?;
        let writes = Some(Path::new(&mount.writes)).filter(|_| !mount.writes.is_empty());
        let pinned = self.layers.pin_layers(&name, &layers, writes);
        let pinned = pinned
            .map_err(|e| Error::internal(format!("cannot mount image {}: {}", mount.source, in_full(&e))))?;
        pins.names.push(name);
        mount.source = pinned.display().to_string();
        Ok(())
    }
}

impl Pins<'_> {
    fn subpath(&mut self, name: String, mount: &mut ResolvedMount) -> Result<()> {
        let (kind, owner) = match mount.kind {
            MountKind::Image => ("image", &mount.image),
            _ => ("volume", &mount.volume),
        };
        let pinned = self.layers.pin(&name, Path::new(&mount.source), Path::new(&mount.subpath));
        let pinned = pinned.map_err(|e| {
            // The step that failed says nothing that these words don't say.
            let cause = std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string);
            Error::invalid(format!("cannot access path {} of {kind} {owner}: {cause}", mount.subpath))
        })?;
        self.names.push(name);
        mount.source = pinned.display().to_string();
        Ok(())
    }
}

impl Drop for Pins<'_> {
    fn drop(&mut self) {
        for name in self.names.iter().rev() {
            if let Err(error) = self.layers.unpin(name) {
                tracing::warn!(name, %error, "a mount made for a container's start");
            }
        }
    }
}

fn in_full(error: &MountError) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    format!("{error}{}", cause.unwrap_or_default())
}
