//! All images in memory: what the store answers reads from, without touching the disk.
//!
//! The database is the truth and this follows it, change by change. Resolving a name costs one lookup.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::config::ImageConfig;
use crate::digest::{DiffId, Digest, ImageId};
use crate::manifest::Descriptor;
use crate::metadata::{BlobRow, NameRow};
use crate::reference::Reference;

/// An image in the store.
#[derive(Clone, Debug)]
pub struct Image {
    pub id: ImageId,
    pub config: ImageConfig,
    /// The configuration as it came; its digest is the ID.
    pub config_bytes: Arc<[u8]>,
    /// The digest of the manifest.
    pub manifest: Digest,
    /// The index that a build made with it, whatever its names point to.
    pub made_as: Option<Digest>,
    /// What the image's names point to: its manifest, or the index that the manifest was chosen from.
    pub descriptor: Descriptor,
    /// Bottom first.
    pub layers: Vec<DiffId>,
    /// The layers as they are transported, bottom first.
    pub blobs: Vec<BlobRow>,
    /// Bytes of all files of all layers.
    pub size: u64,
    /// RFC 3339, as in the configuration.
    pub created: Option<String>,
    /// Familiar names with tags, sorted: `busybox:latest`.
    pub repo_tags: Vec<String>,
    /// Familiar names with digests, sorted.
    pub repo_digests: Vec<String>,
    pub parent: Option<ImageId>,
    /// The image of whose platforms this is another one, made to be run.
    pub owner: Option<ImageId>,
    /// When the image came into the store, Unix nanoseconds.
    pub stored_at: i64,
    /// When it last got a name, Unix nanoseconds.
    pub tagged_at: Option<i64>,
}

impl Image {
    /// Whether nothing but the ID leads to it.
    pub fn is_dangling(&self) -> bool {
        self.repo_tags.is_empty()
    }

    /// Whether it is there for the sake of another image only.
    pub fn is_hidden(&self) -> bool {
        self.owner.is_some() && self.repo_tags.is_empty()
    }
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    pub image: ImageId,
    pub target: Digest,
}

/// How a text given by a user can fail to name one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unresolved {
    None,
    Ambiguous,
}

#[derive(Debug, Default)]
pub struct Catalogue {
    /// Ordered, so that an ID's prefix is a range.
    images: BTreeMap<ImageId, Arc<Image>>,
    names: HashMap<String, Named>,
    /// Manifests and indexes, for `name@digest`.
    targets: HashMap<Digest, ImageId>,
}

impl Catalogue {
    pub fn images(&self) -> impl Iterator<Item = &Arc<Image>> {
        self.images.values()
    }

    pub fn image(&self, id: &ImageId) -> Option<&Arc<Image>> {
        self.images.get(id)
    }

    pub fn named(&self, canonical: &str) -> Option<Named> {
        self.names.get(canonical).copied()
    }

    /// All canonical names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// Puts an image in, or its newer state in place of the older.
    pub fn put(&mut self, mut image: Image, names: &[NameRow]) {
        self.take(&image.id);
        let mut tags = Vec::new();
        let mut digests = Vec::new();
        for row in names {
            self.names.insert(row.name.clone(), Named { image: image.id, target: row.target });
            self.targets.insert(row.target, image.id);
            let Ok(reference) = Reference::parse_untagged(&row.name) else { continue };
            if reference.tag().is_some() {
                tags.push(reference.without_digest().familiar());
            }
            digests.push(format!("{}@{}", reference.familiar_name(), row.target));
        }
        for list in [&mut tags, &mut digests] {
            list.sort();
            list.dedup();
        }
        for digest in [image.manifest].into_iter().chain(image.made_as) {
            self.targets.insert(digest, image.id);
        }
        (image.repo_tags, image.repo_digests) = (tags, digests);
        image.tagged_at = names.iter().map(|row| row.tagged_at).max();
        self.images.insert(image.id, Arc::new(image));
    }

    /// Takes an image out, with its names.
    pub fn take(&mut self, id: &ImageId) -> Option<Arc<Image>> {
        let image = self.images.remove(id)?;
        self.names.retain(|_, named| named.image != *id);
        self.targets.retain(|_, owner| owner != id);
        Some(image)
    }

    /// Finds by canonical name, by `name@digest`, by ID.
    pub fn find_reference(&self, reference: &Reference) -> Option<(&Arc<Image>, Digest)> {
        let Some(digest) = reference.digest() else {
            let named = self.names.get(&reference.to_string())?;
            return Some((self.images.get(&named.image)?, named.target));
        };
        // With a digest the tag is for the reader only, as everywhere in Docker.
        let image = self.images.get(self.targets.get(&digest)?)?;
        let wanted = format!("{}@", reference.familiar_name());
        image.repo_digests.iter().any(|known| known.starts_with(&wanted)).then_some((image, digest))
    }

    /// Finds by the hex digits of an ID or the beginning of one.
    pub fn find_prefix(&self, prefix: &str) -> Result<&Arc<Image>, Unresolved> {
        let valid = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if prefix.is_empty() || prefix.len() > 64 || !prefix.bytes().all(valid) {
            return Err(Unresolved::None);
        }
        let Some(first) = Digest::from_hex(&format!("{prefix:0<64}")) else { return Err(Unresolved::None) };
        let mut matches = self
            .images
            .range(first..)
            .take_while(|(id, _)| id.hex().starts_with(prefix))
            .map(|(_, image)| image);
        match (matches.next(), matches.next()) {
            (Some(image), None) => Ok(image),
            (Some(_), Some(_)) => Err(Unresolved::Ambiguous),
            _ => {
                let whole = Digest::from_hex(prefix).and_then(|digest| self.targets.get(&digest));
                whole.and_then(|id| self.images.get(id)).ok_or(Unresolved::None)
            }
        }
    }
}
