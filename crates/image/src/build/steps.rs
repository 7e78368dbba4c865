//! Steps of builds: what they have made is remembered by a key and found again, until somebody prunes it.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::graft::{Graft, GraftError};
use super::{Stack, Stacked, StepLayer};
use crate::archive::{RemoteLayer, Source, Watch};
use crate::catalogue::Image;
use crate::compression::Compression;
use crate::config::ImageConfig;
use crate::diff::Changes;
use crate::digest::{DiffId, Digest, ImageId};
use crate::error::Error;
use crate::layer::ImportedLayer;
use crate::manifest::Descriptor;
use crate::metadata::{BlobRow, CompressedRow, DatabaseError, LayerRow, StepRow, StepUse};
use crate::mounts::LayerMounts;
use crate::reference::Reference;
use crate::store::{Composition, Rootfs, Store, layer_row, now_ns};

/// A step that is remembered.
#[derive(Clone, Debug)]
pub struct StepInfo {
    pub key: Digest,
    /// None: it changed no file.
    pub layer: Option<StepLayer>,
    /// `RUN make`
    pub description: String,
    /// Unix nanoseconds, both.
    pub created_at: i64,
    pub used_at: i64,
    pub uses: u64,
    /// Whether an image has the layer as well: forgetting the step frees nothing then.
    pub is_shared: bool,
    /// Whether a build that goes on relies on it: it can't be forgotten then.
    pub is_in_use: bool,
}

/// One build at the store. What it has found, made or begun with stays as long as it lives, whoever prunes.
pub struct BuildSession {
    store: Arc<Store>,
    mounts: Arc<LayerMounts>,
    /// By which the store knows it.
    holder: u64,
}

impl Drop for BuildSession {
    fn drop(&mut self) {
        if let Err(error) = self.store.release(self.holder) {
            tracing::warn!(%error, "what a build held is collected later");
        }
    }
}

impl BuildSession {
    pub fn new(store: Arc<Store>, mounts: Arc<LayerMounts>) -> BuildSession {
        let holder = store.new_holder();
        BuildSession { store, mounts, holder }
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Keeps what an image is made of for this build, even when the image is removed.
    pub fn hold_image(&self, image: &Image) -> Result<(), Error> {
        let mut database = self.store.writer();
        if database.image(&image.id)?.is_none() {
            return Err(Error::NotFound(image.id.to_string()));
        }
        let blobs = image.blobs.iter().map(|blob| &blob.digest);
        let mut content = image.layers.iter().chain(blobs);
        database.change(|change| content.try_for_each(|digest| change.hold(self.holder, digest)))?;
        Ok(())
    }

    /// What the step with that key made: `None` when it is not remembered, `Some(None)` when it changed no file.
    pub fn find(&self, key: &Digest) -> Result<Option<Option<StepLayer>>, Error> {
        // Under one lock with those who prune: what was found stays.
        let mut database = self.store.writer();
        let Some(row) = database.step(key)? else { return Ok(None) };
        if let Some(layer) = &row.layer {
            database.change(|change| change.hold(self.holder, &layer.diff_id))?;
        }
        Ok(Some(row.layer.map(StepLayer::here)))
    }

    /// A layer, if it is here; then it stays.
    pub fn find_layer(&self, id: &DiffId) -> Result<Option<StepLayer>, Error> {
        let mut database = self.store.writer();
        let Some(row) = database.layer(id)? else { return Ok(None) };
        database.change(|change| change.hold(self.holder, id))?;
        Ok(Some(StepLayer::here(row)))
    }

    /// Brings a layer here from elsewhere, and remembers it as what the step with that key made.
    ///
    /// # Errors
    /// When it doesn't come, or isn't what it is said to be.
    pub fn fetch(
        &self,
        key: &Digest,
        description: &str,
        layer: &RemoteLayer,
        source: &dyn Source,
        watch: Watch<'_>,
    ) -> Result<(), Error> {
        self.store().fetch_layer(layer, source, watch, |row, compression| {
            let step = step_row(key, Some(row), description);
            self.store().writer().change(|change| {
                change.add_step(&step)?;
                // Who sends it on need not compress it again.
                if compression != Compression::None {
                    let media_type = compression.layer_media_type().to_owned();
                    let Descriptor { digest, size, .. } = layer.blob;
                    change.note_compressed(&CompressedRow {
                        diff_id: row.diff_id,
                        media_type,
                        digest,
                        size,
                    })?;
                }
                change.hold(self.holder, &row.diff_id)
            })?;
            Ok(())
        })
    }

    /// Remembers a layer that is here as what the step with that key made, too.
    pub fn keep(&self, key: &Digest, layer: &StepLayer, description: &str) -> Result<(), Error> {
        let Some(row) = layer.row else { return Ok(()) };
        let step = step_row(key, Some(row), description);
        self.store().writer().change(|change| change.add_step(&step))?;
        Ok(())
    }

    /// Notes that steps were found and used.
    pub fn note_used(&self, keys: &[Digest]) -> Result<(), Error> {
        let now = now_ns();
        let mut database = self.store().writer();
        database.change(|change| keys.iter().try_for_each(|key| change.use_step(key, now)))?;
        Ok(())
    }

    /// The layers merged, read-only; vanishes with the descriptor.
    pub fn merged(&self, stack: &Stack) -> Result<OwnedFd, Error> {
        let lower = self.store().mounted_stack(&stack.ids(), &self.mounts)?;
        let rootfs = Rootfs { lower, upper: Default::default(), work: Default::default() };
        Ok(self.mounts.lower_root(&rootfs)?)
    }

    /// Makes a layer of files and remembers it.
    pub fn graft(&self, key: &Digest, graft: Graft, description: &str) -> Result<Option<StepLayer>, Error> {
        let session = self.store().session();
        let imported = self.store().import_fed(&session, |feed| match graft.write(&mut feed.writer()) {
            Ok(0) => Err(GraftError::Nothing),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        });
        match imported {
            Ok(layer) => self.remember(key, Some(&layer), description),
            Err(GraftError::Nothing) => self.remember(key, None, description),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a layer of what a container has changed, and remembers it.
    pub fn commit(
        &self,
        key: &Digest,
        snapshot: &str,
        changes: &Changes,
        description: &str,
    ) -> Result<Option<StepLayer>, Error> {
        let (rootfs, session) = (self.store().rootfs(snapshot, &self.mounts)?, self.store().session());
        let layer = self.store().import_changes(&session, &rootfs, &self.mounts, changes)?;
        self.remember(key, layer.as_ref(), description)
    }

    fn remember(
        &self,
        key: &Digest,
        layer: Option<&ImportedLayer>,
        description: &str,
    ) -> Result<Option<StepLayer>, Error> {
        let layer = layer.map(layer_row);
        let row = step_row(key, layer, description);
        self.store().writer().change(|change| {
            change.add_step(&row)?;
            row.layer.iter().try_for_each(|layer| change.hold(self.holder, &layer.diff_id))
        })?;
        Ok(layer.map(StepLayer::here))
    }

    /// The manifest of an image itself, whatever its names stand for.
    pub fn manifest(&self, image: &Image) -> Result<Descriptor, Error> {
        let document = self.store().document(&image.manifest)?;
        Ok(Descriptor::new(&document.media_type, document.digest, document.bytes.len() as u64))
    }

    /// Makes an image of layers and a configuration, whose layers are filled in. Gives the manifest that its names stand for, too.
    pub fn compose(
        &self,
        stack: &Stack,
        config: ImageConfig,
        parent: Option<ImageId>,
        names: &[Reference],
    ) -> Result<(Arc<Image>, Descriptor), Error> {
        self.store().compose(Composition {
            config,
            stack: stack
                .layers
                .iter()
                .map(|layer| Ok((layer.id, self.store().blob_of(layer)?)))
                .collect::<Result<_, Error>>()?,
            // They are there: this session holds them.
            layers: Vec::new(),
            parent,
            names,
        })
    }
}

fn step_row(key: &Digest, layer: Option<LayerRow>, description: &str) -> StepRow {
    let now = now_ns();
    let description = description.to_owned();
    StepRow { key: *key, layer, description, created_at: now, used_at: now, uses: 1 }
}

impl Store {
    /// How a layer is transported; one that was not here before must be by now.
    pub(super) fn blob_of(&self, layer: &Stacked) -> Result<BlobRow, Error> {
        match &layer.blob {
            Some(blob) => Ok(blob.clone()),
            None => {
                let row = self.writer().layer(&layer.id)?;
                Ok(crate::archive::plain_blob(&row.ok_or(Error::NoContent(layer.id))?))
            }
        }
    }

    /// The steps that are remembered, the one that was used longest ago first.
    pub fn steps(&self) -> Result<Vec<StepInfo>, Error> {
        let rows = self.writer().steps()?;
        let info = |(row, users): (StepRow, StepUse)| StepInfo {
            key: row.key,
            layer: row.layer.map(StepLayer::here),
            description: row.description,
            created_at: row.created_at,
            used_at: row.used_at,
            uses: row.uses,
            is_shared: users.is_shared,
            is_in_use: users.is_held,
        };
        Ok(rows.into_iter().map(info).collect())
    }

    /// Forgets steps, but those that a build relies on, and frees their layers that nothing else has. Gives what was forgotten and the
    /// bytes that became free.
    pub fn forget_steps(&self, keys: &[Digest]) -> Result<(Vec<Digest>, u64), Error> {
        let forgotten = self.writer().remove_synced(|change| {
            let mut gone = Vec::new();
            for key in keys {
                if change.remove_step(key)? {
                    gone.push(*key);
                }
            }
            Ok((gone, change.collect()?))
        });
        let (gone, garbage) = forgotten.map_err(|error: DatabaseError| Error::from(error))?;
        let bytes = garbage.bytes;
        self.discard(garbage);
        Ok((gone, bytes))
    }

    /// A build is over: what it held goes if nobody else has it.
    fn release(&self, holder: u64) -> Result<(), Error> {
        let mut database = self.writer();
        if !database.change(|change| change.release(holder))? {
            return Ok(());
        }
        let garbage = database.remove_synced(|change| change.collect())?;
        drop(database);
        self.discard(garbage);
        Ok(())
    }
}

impl From<GraftError> for Error {
    fn from(error: GraftError) -> Error {
        Error::Graft(error)
    }
}
