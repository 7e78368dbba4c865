//! An image of layers that are there and a configuration: what `import`, `commit` and `build` end with.

use std::sync::Arc;

use super::{Store, now_ns};
use crate::catalogue::Image;
use crate::config::ImageConfig;
use crate::digest::{DiffId, Digest, ImageId};
use crate::error::Error;
use crate::manifest::{self, Descriptor, media};
use crate::metadata::{BlobRow, DocumentRow, ImageRow, LayerRow, NameRow, NewImage};
use crate::reference::Reference;

/// What an image is made of.
pub(crate) struct Composition<'a> {
    /// Its layers are filled in.
    pub config: ImageConfig,
    /// Bottom first: each layer and how it is transported.
    pub stack: Vec<(DiffId, BlobRow)>,
    /// What is known of layers that may have no row yet.
    pub layers: Vec<LayerRow>,
    pub parent: Option<ImageId>,
    pub names: &'a [Reference],
}

impl Store {
    /// Gives the image, and the manifest that its names stand for.
    pub(crate) fn compose(&self, composition: Composition<'_>) -> Result<(Arc<Image>, Descriptor), Error> {
        let Composition { mut config, stack, layers, parent, names } = composition;
        config.rootfs.kind = "layers".to_owned();
        config.rootfs.diff_ids = stack.iter().map(|(layer, _)| *layer).collect();
        let config = serde_json::to_vec(&config).expect("a configuration has string keys only");
        let id = Digest::of(&config);
        let descriptors =
            stack.iter().map(|(_, blob)| Descriptor::new(&blob.media_type, blob.digest, blob.size));
        let manifest = manifest::compose(Descriptor::of(media::OCI_CONFIG, &config), descriptors.collect());
        let descriptor = Descriptor::of(media::OCI_MANIFEST, &manifest);
        let (target, now) = (descriptor.digest, now_ns());
        let document = |digest, media_type: &str, bytes| DocumentRow {
            digest,
            media_type: media_type.to_owned(),
            bytes,
        };
        let name = |name: &Reference| NameRow { name: name.to_string(), image: id, target, tagged_at: now };
        let new = NewImage {
            image: ImageRow { id, manifest: target, parent, made_as: None, stored_at: now },
            documents: vec![
                document(id, media::OCI_CONFIG, config),
                document(target, media::OCI_MANIFEST, manifest),
            ],
            stack: stack.iter().map(|(layer, blob)| (*layer, blob.digest)).collect(),
            blobs: stack.into_iter().map(|(_, blob)| blob).collect(),
            layers,
            names: names.iter().map(name).collect(),
        };
        Ok((self.add_one(&new)?, descriptor))
    }
}
