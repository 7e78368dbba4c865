//! The platforms of an image: what lies beside the one that its name runs, and how another one becomes an image of its own.
//!
//! An image whose name stands for an index keeps the documents and blobs of all platforms it came with. One is unpacked; another one is when
//! somebody asks to run it, as a *member*: an image without names, which lives as long as its owner and is not listed.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Store, now_ns};
use crate::archive::LoadError;
use crate::catalogue::Image;
use crate::compression::{Compression, peek};
use crate::config::ImageConfig;
use crate::digest::{Digest, ImageId};
use crate::error::Error;
use crate::layer::ImportOptions;
use crate::manifest::{Descriptor, Document, Manifest, media};
use crate::metadata::{BlobRow, Database, DocumentRow, ImageRow, LayerRow, NewImage};
use crate::platform::Platform;

/// Indexes within indexes.
const DEPTH_MAX: usize = 8;

/// What a manifest below an image's name is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestKind {
    /// Something to run, on a platform.
    Image {
        platform: Platform,
    },
    /// What a builder says of the manifest with this digest.
    Attestation {
        subject: Option<Digest>,
    },
    Unknown,
}

/// One manifest below an image's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestInfo {
    pub descriptor: Descriptor,
    pub kind: ManifestKind,
    /// Whether its configuration and all its layers are here.
    pub available: bool,
    /// Bytes of what is kept here as it is transported.
    pub content_bytes: u64,
    /// Bytes of what would be transported, but is kept unpacked only.
    pub reproduced_bytes: u64,
    /// Bytes of its files, if it is unpacked.
    pub unpacked_bytes: u64,
    /// The image's ID, when the manifest is here.
    pub image: Option<ImageId>,
    /// The layers and the configuration.
    pub content: Vec<Descriptor>,
}

impl ManifestInfo {
    fn platform(&self) -> Option<&Platform> {
        match &self.kind {
            ManifestKind::Image { platform } => Some(platform),
            _ => None,
        }
    }
}

impl Store {
    /// All manifests that an image's name stands for: its own, or those of its index in their order.
    pub fn manifests(&self, image: &Image) -> Result<Vec<ManifestInfo>, Error> {
        let mut found = Vec::new();
        {
            let database = self.writer();
            collect(&database, &image.descriptor, &mut found, 0)?;
        }
        for manifest in &mut found {
            let unpacked = manifest.image.and_then(|id| self.image(&id));
            // Layers that belong to no image as a whole are what it takes.
            manifest.unpacked_bytes = unpacked.map_or(manifest.reproduced_bytes, |image| image.size);
        }
        Ok(found)
    }

    /// One manifest; none where the descriptor is of an index.
    pub(crate) fn described(&self, descriptor: &Descriptor) -> Result<Option<ManifestInfo>, Error> {
        let mut found = Vec::new();
        if media::kind(&descriptor.media_type) == Some(media::Kind::Manifest) {
            collect(&self.writer(), descriptor, &mut found, 0)?;
        }
        Ok(found.pop())
    }

    /// The manifest of an image that suits a platform best.
    pub(crate) fn find_platform(
        &self,
        text: &str,
        image: &Image,
        wanted: &Platform,
    ) -> Result<ManifestInfo, Error> {
        let suits = |manifest: &ManifestInfo| Some((manifest.platform()?.fitness(wanted)?, manifest.clone()));
        let manifests = self.manifests(image)?;
        let best = manifests
            .iter()
            .filter(|manifest| manifest.available)
            .filter_map(suits)
            .min_by_key(|(fitness, _)| *fitness);
        best.map(|(_, manifest)| manifest)
            .ok_or_else(|| Error::NoPlatform { image: text.to_owned(), platform: Box::new(wanted.clone()) })
    }

    /// An image as it is on another platform, to be looked at: it need not be unpacked.
    pub fn on_platform(&self, text: &str, wanted: &Platform) -> Result<Arc<Image>, Error> {
        let image = self.resolve(text)?;
        let manifest = self.find_platform(text, &image, wanted)?;
        if manifest.image == Some(image.id) {
            return Ok(image);
        }
        if let Some(member) = manifest.image.and_then(|id| self.image(&id)) {
            return Ok(self.named_as(&member, &image));
        }
        let (config, bytes) = self.config_of(&manifest)?;
        let view = Image {
            id: Digest::of(&bytes),
            created: config.created.clone(),
            layers: config.rootfs.diff_ids.clone(),
            config,
            config_bytes: bytes.into(),
            manifest: manifest.descriptor.digest,
            size: manifest.content_bytes,
            blobs: Vec::new(),
            parent: None,
            ..(*image).clone()
        };
        Ok(Arc::new(view))
    }

    /// An image as it is on a platform, unpacked and ready to run.
    pub fn resolve_platform(&self, text: &str, wanted: &Platform) -> Result<Arc<Image>, Error> {
        let image = self.resolve(text)?;
        if image.config.platform().fitness(wanted) == Some(0) {
            return Ok(image);
        }
        let manifest = self.find_platform(text, &image, wanted)?;
        if manifest.image == Some(image.id) {
            return Ok(image);
        }
        self.unpack_member(&image, &manifest)
    }

    fn named_as(&self, member: &Image, owner: &Image) -> Arc<Image> {
        Arc::new(Image {
            repo_tags: owner.repo_tags.clone(),
            repo_digests: owner.repo_digests.clone(),
            descriptor: owner.descriptor.clone(),
            tagged_at: owner.tagged_at,
            ..member.clone()
        })
    }

    fn config_of(&self, manifest: &ManifestInfo) -> Result<(ImageConfig, Vec<u8>), Error> {
        let digest = manifest.image.ok_or(Error::NoContent(manifest.descriptor.digest))?;
        let bytes = self.document(&digest)?.bytes;
        let config =
            serde_json::from_slice(&bytes).map_err(|source| Error::Config { name: digest, source })?;
        Ok((config, bytes))
    }

    /// Makes a platform's image of what came with its index. Two at a time do the same work twice and end as one.
    pub(super) fn unpack_member(&self, owner: &Image, manifest: &ManifestInfo) -> Result<Arc<Image>, Error> {
        let id = manifest.image.ok_or(Error::NoContent(manifest.descriptor.digest))?;
        if let Some(known) = self.image(&id) {
            return Ok(known);
        }
        let session = self.session();
        let (config, bytes) = self.config_of(manifest)?;
        let layers: Vec<&Descriptor> =
            manifest.content.iter().filter(|content| content.digest != id).collect();
        if layers.len() != config.rootfs.diff_ids.len() {
            let (diff_ids, layers) = (config.rootfs.diff_ids.len(), layers.len());
            return Err(LoadError::LayerCount { image: id, diff_ids, layers }.into());
        }
        let manifest_row = self.document(&manifest.descriptor.digest)?;
        let config_row = DocumentRow { digest: id, media_type: media::OCI_CONFIG.to_owned(), bytes };
        let mut new = NewImage {
            image: ImageRow {
                id,
                manifest: manifest_row.digest,
                parent: None,
                made_as: None,
                stored_at: now_ns(),
            },
            documents: vec![config_row, manifest_row],
            blobs: Vec::new(),
            layers: Vec::new(),
            stack: Vec::new(),
            names: Vec::new(),
        };
        for (descriptor, diff_id) in layers.into_iter().zip(&config.rootfs.diff_ids) {
            let (blob, layer) = self.unpack_blob(&session, descriptor, diff_id)?;
            new.stack.push((*diff_id, blob.digest));
            new.layers.push(layer);
            new.blobs.push(blob);
        }
        self.add_member(&new, owner.id)
    }

    fn unpack_blob(
        &self,
        session: &super::Session<'_>,
        descriptor: &Descriptor,
        diff_id: &Digest,
    ) -> Result<(BlobRow, LayerRow), Error> {
        let blob = self.writer().blob(&descriptor.digest)?.ok_or(Error::NoContent(descriptor.digest))?;
        let blob = BlobRow { diff_id: Some(*diff_id), ..blob };
        let known = self.writer().layer(diff_id)?;
        if let Some(layer) = known.filter(|_| self.layers.contains(diff_id)) {
            return Ok((blob, layer));
        }
        let file = self.blobs.reader(&descriptor.digest)?;
        let failed = |source| Error::from(LoadError::Read(source));
        let (head, whole) = peek(file, 6).map_err(failed)?;
        let compression = Compression::detect(&head).map_err(LoadError::from)?;
        let mut tar = compression.reader(whole).map_err(failed)?;
        let options = ImportOptions { limits: self.limits.layer, expected: Some(*diff_id) };
        let layer = self.layers.import(&mut *tar, &options, &|_| {}).map_err(|source| LoadError::Layer {
            object: descriptor.digest.to_string(),
            source: Box::new(source),
        })?;
        session.brought_layer(layer.id);
        Ok((blob, super::layer_row(&layer)))
    }

    /// The attestations of an image on a platform: each statement's descriptor, with its bytes when they are wished for.
    pub fn attestations(&self, text: &str, wanted: &Platform) -> Result<Vec<(Descriptor, Vec<u8>)>, Error> {
        let image = self.resolve(text)?;
        let subject = self.find_platform(text, &image, wanted)?.descriptor.digest;
        let mut content = Vec::new();
        for manifest in self.manifests(&image)? {
            if manifest.kind == (ManifestKind::Attestation { subject: Some(subject) }) {
                content.extend(manifest.content);
            }
        }
        let referrers = self.referrers(&image.id)?.into_iter().filter(|(of, ..)| *of == subject);
        content.extend(referrers.flat_map(|(.., said)| said.layers));
        content.retain(|content| content.media_type == media::IN_TOTO);
        let with_bytes = |content: Descriptor| {
            let bytes = self.content_bytes(&content.digest)?;
            Ok((content, bytes))
        };
        content.into_iter().map(with_bytes).collect()
    }

    /// The manifests that an image keeps beside it because they refer to one of its own; each with what it refers to.
    pub(crate) fn referrers(&self, image: &ImageId) -> Result<Vec<(Digest, DocumentRow, Manifest)>, Error> {
        let database = self.writer();
        let mut found = Vec::new();
        for digest in database.content(image)? {
            let Some(row) = database.document(&digest)?.filter(|row| row.media_type == media::OCI_MANIFEST)
            else {
                continue;
            };
            if let Ok(Document::Manifest(manifest)) = Document::parse(&row.bytes, &row.media_type)
                && let Some(subject) = manifest.subject.as_ref().map(|subject| subject.digest)
            {
                found.push((subject, row, *manifest));
            }
        }
        Ok(found)
    }

    /// The bytes of a document or of a small blob.
    fn content_bytes(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        if let Some(document) = self.writer().document(digest)? {
            return Ok(document.bytes);
        }
        let mut bytes = Vec::new();
        let file = self.blobs.reader(digest)?;
        let limit = self.limits.documents_bytes_max;
        std::io::Read::read_to_end(&mut std::io::Read::take(file, limit), &mut bytes)
            .map_err(LoadError::Read)?;
        Ok(bytes)
    }
}

/// The manifests below a descriptor, those of indexes too.
fn collect(
    database: &Database,
    descriptor: &Descriptor,
    found: &mut Vec<ManifestInfo>,
    depth: usize,
) -> Result<(), Error> {
    let document = database.document(&descriptor.digest)?;
    let parsed = document.as_ref().map(|row| Document::parse(&row.bytes, &descriptor.media_type));
    let manifest = match parsed {
        Some(Ok(Document::Index(index))) if depth < DEPTH_MAX => {
            return index.manifests.iter().try_for_each(|below| collect(database, below, found, depth + 1));
        }
        Some(Ok(Document::Manifest(manifest))) => Some(manifest),
        _ => None,
    };
    found.push(describe(database, descriptor, manifest.as_deref())?);
    Ok(())
}

fn describe(
    database: &Database,
    descriptor: &Descriptor,
    manifest: Option<&Manifest>,
) -> Result<ManifestInfo, Error> {
    let content: Vec<Descriptor> = manifest
        .iter()
        .flat_map(|manifest| manifest.layers.iter().chain([&manifest.config]))
        .cloned()
        .collect();
    let mut content_bytes = if manifest.is_some() { descriptor.size } else { 0 };
    let mut reproduced_bytes = 0;
    let mut available = manifest.is_some();
    let mut counted = BTreeSet::new();
    for part in &content {
        let blob = database.blob(&part.digest)?;
        let is_here = blob.is_some() || database.document(&part.digest)?.is_some();
        available &= is_here;
        if is_here && counted.insert(part.digest) {
            // A blob that is reproduced from its layer takes no room of its own.
            let reproduced = blob.is_some_and(|blob| !blob.stored);
            *(if reproduced { &mut reproduced_bytes } else { &mut content_bytes }) += part.size;
        }
    }
    let platform = match (&descriptor.platform, manifest) {
        (Some(platform), _) => Some(platform.clone()),
        (None, Some(manifest)) => database
            .document(&manifest.config.digest)?
            .and_then(|row| serde_json::from_slice::<ImageConfig>(&row.bytes).ok())
            .map(|config| config.platform()),
        (None, None) => None,
    };
    let kind = if descriptor.is_attestation() {
        ManifestKind::Attestation { subject: descriptor.attestation_subject() }
    } else {
        platform.map_or(ManifestKind::Unknown, |platform| ManifestKind::Image { platform })
    };
    let image = manifest.map(|manifest| manifest.config.digest).filter(|_| available);
    Ok(ManifestInfo {
        descriptor: descriptor.clone(),
        kind,
        available,
        content_bytes,
        reproduced_bytes,
        unpacked_bytes: 0,
        image,
        content,
    })
}

/// All that manifests and indexes lead to, these with them.
pub(crate) fn reach(
    database: &Database,
    tops: impl Iterator<Item = Digest>,
) -> Result<BTreeSet<Digest>, Error> {
    let mut reached = BTreeSet::new();
    let mut ahead: Vec<Digest> = tops.collect();
    while let Some(digest) = ahead.pop() {
        if !reached.insert(digest) {
            continue;
        }
        let Some(found) = database.document(&digest)? else { continue };
        match Document::parse(&found.bytes, &found.media_type) {
            Ok(Document::Index(index)) => ahead.extend(index.manifests.iter().map(|below| below.digest)),
            Ok(Document::Manifest(manifest)) => {
                reached.extend(manifest.layers.iter().chain([&manifest.config]).map(|part| part.digest));
            }
            Err(_) => {}
        }
    }
    Ok(reached)
}
