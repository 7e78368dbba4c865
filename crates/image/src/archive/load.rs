//! Loading: the pass over the archive, the plan, and the commit of all its images or none.

use std::collections::HashSet;
use std::io::{self, Read};
use std::thread;

use super::intake::{Content, Intake, Taken, TakenLayer};
use super::plan::{self, Known};
use super::{LoadError, LoadOptions, Loaded, Progress};
use crate::compression::{Compression, peek};
use crate::digest::{DiffId, Digest, ImageId};
use crate::error::Error;
use crate::metadata::{BlobRow, DocumentRow, LayerRow, NewImage};
use crate::reference::Reference;
use crate::store::{Session, Store, now_ns};

impl Store {
    /// Loads all images of an archive: `docker save` of any age, an OCI layout in a tar, plain or compressed.
    pub fn load(
        &self,
        reader: &mut dyn Read,
        options: &LoadOptions,
        progress: &dyn Fn(Progress),
    ) -> Result<Vec<Loaded>, Error> {
        self.load_by(options, progress, |intake| {
            let (head, whole) = peek(reader, 6).map_err(LoadError::Read)?;
            let mut whole = Compression::detect(&head)?.reader(whole).map_err(LoadError::Read)?;
            intake.archive(&mut whole)?;
            // The writer at the other end of a pipe should not be told that nobody reads its padding.
            io::copy(&mut whole, &mut io::sink()).map_err(LoadError::Read)?;
            Ok(())
        })
    }

    /// Runs one load; `feed` puts the entries in.
    pub(super) fn load_by(
        &self,
        options: &LoadOptions,
        progress: &dyn Fn(Progress),
        feed: impl FnOnce(&mut Intake<'_, '_>) -> Result<(), LoadError>,
    ) -> Result<Vec<Loaded>, Error> {
        let session = self.session();
        let mut taken = thread::scope(|scope| {
            let mut intake = Intake::new(scope, self, &session, progress);
            feed(&mut intake)?;
            intake.finish()
        })?;
        let images = plan::plan(&taken, self, options, now_ns())?;
        place_blobs(self, &session, &mut taken, &images)?;
        let loaded = images.iter().flat_map(|new| self.loaded(new)).collect();
        self.add(&images)?;
        Ok(loaded)
    }

    pub(super) fn loaded(&self, new: &NewImage) -> Vec<Loaded> {
        let image = new.image.id;
        let mut loaded: Vec<Loaded> = new
            .names
            .iter()
            .map(|row| {
                let replaced = self.catalogue().named(&row.name).map(|named| named.image);
                let reference = Reference::parse_untagged(&row.name).ok().map(|name| name.familiar());
                Loaded { image, reference, replaced: replaced.filter(|earlier| *earlier != image) }
            })
            .collect();
        if loaded.is_empty() {
            loaded.push(Loaded { image, reference: None, replaced: None });
        }
        loaded
    }
}

/// Moves the blobs that images want to their names.
pub(super) fn place_blobs(
    store: &Store,
    session: &Session<'_>,
    taken: &mut Taken,
    images: &[NewImage],
) -> Result<(), LoadError> {
    let wanted: HashSet<Digest> =
        images.iter().flat_map(|new| &new.blobs).filter(|blob| blob.stored).map(|blob| blob.digest).collect();
    for (_, content) in taken.contents.drain() {
        let staged = match content {
            Content::Layer(TakenLayer { staged: Some(staged), .. }) => staged,
            Content::Opaque { staged, .. } => staged,
            _ => continue,
        };
        if wanted.contains(&staged.digest) {
            session.brought_blob(staged.digest);
            store.blobs.commit(&staged)?;
        }
    }
    Ok(())
}

impl Known for Store {
    fn document(&self, digest: &Digest) -> Result<Option<DocumentRow>, LoadError> {
        Ok(self.writer().document(digest)?)
    }

    fn blob(&self, digest: &Digest) -> Result<Option<BlobRow>, LoadError> {
        Ok(self.writer().blob(digest)?)
    }

    fn named(&self, name: &str, target: &Digest) -> Option<ImageId> {
        self.catalogue().named(name).filter(|named| named.target == *target).map(|named| named.image)
    }

    fn layer(&self, diff_id: &DiffId) -> Result<Option<LayerRow>, LoadError> {
        Ok(self.writer().layer(diff_id)?.filter(|_| self.layers.contains(diff_id)))
    }
}
