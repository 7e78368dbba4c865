//! Steps of builds: what they have made is remembered by a key and found again, until somebody prunes it.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::graft::{Graft, GraftError};
use super::{Stack, StepLayer};
use crate::catalogue::Image;
use crate::config::ImageConfig;
use crate::diff::Changes;
use crate::digest::{Digest, ImageId};
use crate::error::Error;
use crate::layer::ImportedLayer;
use crate::metadata::{DatabaseError, StepRow};
use crate::mounts::LayerMounts;
use crate::reference::Reference;
use crate::store::{Composition, OwnedSession, Rootfs, Store, layer_row, now_ns};

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
}

/// One build at the store. As long as it lives no layer is deleted, whoever prunes.
pub struct BuildSession {
    session: OwnedSession,
    mounts: Arc<LayerMounts>,
}

impl BuildSession {
    pub fn new(store: Arc<Store>, mounts: Arc<LayerMounts>) -> BuildSession {
        BuildSession { session: OwnedSession::new(store), mounts }
    }

    fn store(&self) -> &Store {
        self.session.store()
    }

    /// What the step with that key made: `None` when it is not remembered, `Some(None)` when it changed no file.
    pub fn find(&self, key: &Digest) -> Result<Option<Option<StepLayer>>, Error> {
        let row = self.store().writer().step(key)?;
        Ok(row.map(|row| row.layer.map(StepLayer)))
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
        let (now, layer) = (now_ns(), layer.map(layer_row));
        let row = StepRow {
            key: *key,
            layer,
            description: description.to_owned(),
            created_at: now,
            used_at: now,
            uses: 1,
        };
        self.store().writer().change(|change| change.add_step(&row))?;
        Ok(layer.map(StepLayer))
    }

    /// Makes an image of layers and a configuration, whose layers are filled in.
    pub fn compose(
        &self,
        stack: &Stack,
        config: ImageConfig,
        parent: Option<ImageId>,
        names: &[Reference],
    ) -> Result<Arc<Image>, Error> {
        self.store().compose(Composition {
            config,
            stack: stack.layers.iter().map(|layer| (layer.id, layer.blob.clone())).collect(),
            layers: stack.layers.iter().filter_map(|layer| layer.row).collect(),
            parent,
            names,
        })
    }
}

impl Store {
    /// The steps that are remembered, the one that was used longest ago first.
    pub fn steps(&self) -> Result<Vec<StepInfo>, Error> {
        let rows = self.writer().steps()?;
        let mut steps = Vec::with_capacity(rows.len());
        for row in rows {
            let is_shared = match row.layer {
                Some(layer) => !self.writer().users(&layer.diff_id)?.is_empty(),
                None => false,
            };
            let StepRow { key, layer, description, created_at, used_at, uses } = row;
            let layer = layer.map(StepLayer);
            steps.push(StepInfo { key, layer, description, created_at, used_at, uses, is_shared });
        }
        Ok(steps)
    }

    /// Forgets steps, and frees their layers that nothing else has. Gives the bytes that become free.
    pub fn forget_steps(&self, keys: &[Digest]) -> Result<u64, Error> {
        let garbage = self.writer().remove_synced(|change| {
            keys.iter().try_for_each(|key| change.remove_step(key))?;
            change.collect()
        });
        let garbage = garbage.map_err(|error: DatabaseError| Error::from(error))?;
        let bytes = garbage.bytes;
        self.discard(garbage);
        Ok(bytes)
    }
}

impl From<GraftError> for Error {
    fn from(error: GraftError) -> Error {
        Error::Graft(error)
    }
}
