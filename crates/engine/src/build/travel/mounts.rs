//! Directories of cache mounts that come from a cache, when a step that is done needs one and this host has none of its own.
//!
//! Such a directory has a name of its own: whoever doesn't name the cache never sees it. It stays in the place of the host's own one for
//! those who do, as long as their cache says what it is or has been.

use std::fs::File;
use std::sync::Arc;

use corten_build::{CacheDirectory, CacheWish, Error, Result, Teller};
use corten_image::build::CachedMount;
use corten_image::manifest::Descriptor;
use corten_image::{Digest, LayerLimits, RemoteLayer, explain, fetch_directory};

use super::super::cache::{Import, Use, dress_mount, make_mount, mount_key};
use super::super::{progress, told};
use super::import::{Cache, Imports};
use super::{MOUNT_BYTES_MAX, MOUNT_ENTRIES_MAX, warn};
use crate::image::{Report, tell_received};

impl Cache {
    /// What it has of a cache mount, and how that comes.
    fn mount(&self, key: &Digest) -> Option<(&CachedMount, &Descriptor)> {
        let mount = self.content.mounts.get(key)?;
        Some((mount, self.blob(&mount.layer)?))
    }
}

impl Imports {
    /// What the first cache says that has such a mount.
    pub fn find_mount(&self, wish: &CacheWish) -> Option<CachedMount> {
        let key = mount_key(wish);
        self.caches.iter().find_map(|cache| Some(cache.mount(&key)?.0.clone()))
    }

    /// The directory that a cache brings in the place of `slot`, which is empty or not there; none where that is to be used itself. One
    /// that can't be had is a warning.
    pub async fn mount(
        &self,
        wish: &CacheWish,
        slot: &Arc<Use>,
        teller: &Teller,
        vertex: Digest,
    ) -> Result<Option<CacheDirectory>> {
        let (key, mounts) = (mount_key(wish), &self.engine.builds.mounts);
        let offered: Vec<_> =
            self.caches.iter().filter_map(|cache| Some((cache, cache.mount(&key)?))).collect();
        if offered.is_empty() || mounts.has_files(slot.name()) {
            return Ok(None);
        }
        for (cache, (mount, blob)) in offered {
            if self.useless().contains(&mount.layer) {
                continue;
            }
            let name = mounts.imported(slot.name(), &mount.layer).map_err(told)?;
            let used = mounts.enter(&name, false).await;
            let turn = self.engine.builds.import_turns.take(&name).await;
            if !mounts.path(&name).is_dir()
                && let Err(error) =
                    self.bring_mount(cache, mount, blob, (&name, slot, wish), teller, vertex).await
            {
                if teller.is_closed() {
                    return Err(Error::Canceled);
                }
                self.useless().insert(mount.layer);
                let (id, from) = (&wish.id, &cache.name);
                let text = format!("the cache mount {id} does not come from {from}: {}", error.message);
                warn(teller, vertex, text).await;
                continue;
            }
            drop(turn);
            mounts.note_used(&name, &wish.id).map_err(told)?;
            let keep = Arc::new((slot.clone(), used));
            return Ok(Some(CacheDirectory { path: mounts.path(&name), keep, imported: Some(mount.layer) }));
        }
        Ok(None)
    }

    /// Complete or not there.
    async fn bring_mount(
        &self,
        cache: &Cache,
        mount: &CachedMount,
        blob: &Descriptor,
        (name, slot, wish): (&str, &Use, &CacheWish),
        teller: &Teller,
        vertex: Digest,
    ) -> crate::Result<()> {
        let messages = progress::statuses(teller.clone(), vertex);
        let source = cache.origin.source(messages.clone());
        let source = source.ok_or_else(|| crate::Error::internal("a cache without layers"))?;
        let wanted = RemoteLayer { blob: blob.clone(), diff_id: mount.layer };
        let import =
            Import { from: cache.name.clone(), slot: slot.name().to_owned(), layers: vec![mount.layer] };
        // Each client calls directories as it likes: what came from another one's is not there by the same name.
        let replaces_earlier = cache.origin.reference().is_some();
        let (engine, name, wish) = (self.engine.clone(), name.to_owned(), wish.clone());
        let brought = self.engine.heavily(move || {
            let mounts = &engine.builds.mounts;
            let scratch = engine.mount_scratch()?;
            let made = scratch.path().join("mount");
            make_mount(&made, 0o700, (0, 0))?;
            let root = File::open(&made).map_err(|error| crate::Error::io("open", &made, error))?;
            let report = Report::new(messages);
            let watch = |layer: &Descriptor, stage| tell_received(&report, layer, stage);
            let limits = LayerLimits {
                tar_bytes_max: MOUNT_BYTES_MAX,
                entries_max: MOUNT_ENTRIES_MAX,
                ..LayerLimits::default()
            };
            fetch_directory(&wanted, source.as_ref(), &limits, &root, &watch)
                .map_err(|error| crate::Error::internal(explain(&error)))?;
            dress_mount(&made, wish.mode, wish.owner)?;
            mounts.import(&made, &name, &wish.id, import, replaces_earlier)
        });
        brought.await
    }
}
