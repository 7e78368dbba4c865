//! What an archive's entries amount to: images, their names, and the content each needs. Decides only; reads
//! nothing but what `intake` took and, through [`Known`], what the store has already.

use std::cell::Cell;
use std::collections::HashMap;

use serde::Deserialize;

use super::intake::{Content, Taken, TakenLayer};
use super::{LoadError, LoadOptions};
use crate::compression::Compression;
use crate::config::ImageConfig;
use crate::digest::{DiffId, Digest, ImageId};
use crate::manifest::{self, Descriptor, Document, Manifest, media};
use crate::metadata::{BlobRow, DocumentRow, ImageRow, LayerRow, NameRow, NewImage};
use crate::reference::Reference;

mod check;
mod platforms;

use check::{check_count, check_size, check_type, missing, parse_config, parse_name};
use platforms::{Candidate, Extras};

/// Links that lead to links, and indexes within indexes.
const DEPTH_MAX: usize = 8;

/// Bytes of documents in a plan. A document may be named any number of times, by itself or by indexes that are named again: what an
/// archive of some kilobytes says could be without end.
const PLANNED_BYTES_MAX: u64 = 256 << 20;
/// What looking at a document costs, however short it is.
const LOOK_BYTES: u64 = 16 << 10;

/// The store's side of the question: an archive may leave out what the store has.
pub(super) trait Known {
    fn document(&self, digest: &Digest) -> Result<Option<DocumentRow>, LoadError>;
    fn blob(&self, digest: &Digest) -> Result<Option<BlobRow>, LoadError>;
    fn layer(&self, diff_id: &DiffId) -> Result<Option<LayerRow>, LoadError>;
    /// The image that has a name already, if the name stands for `target`: what else comes of that is added to it.
    fn named(&self, name: &str, target: &Digest) -> Option<ImageId>;
}

/// The images of an archive, in its order.
pub(super) fn plan(
    taken: &Taken,
    known: &dyn Known,
    options: &LoadOptions,
    now_ns: i64,
) -> Result<Vec<NewImage>, LoadError> {
    let by_digest = taken
        .contents
        .iter()
        .filter_map(|(path, content)| Some((content.digest()?, path.as_str())))
        .collect();
    let planner = Planner { taken, by_digest, known, options, now_ns, planned_bytes: Cell::new(0) };
    let images = if taken.contents.contains_key("index.json") {
        planner.layout()?
    } else if taken.contents.contains_key("manifest.json") {
        planner.docker_archive()?
    } else if taken.contents.contains_key("repositories") {
        return Err(LoadError::Ancient);
    } else {
        return Err(LoadError::NotAnImage);
    };
    if images.is_empty() { Err(LoadError::Empty) } else { Ok(images) }
}

struct Planner<'a> {
    taken: &'a Taken,
    by_digest: HashMap<Digest, &'a str>,
    known: &'a dyn Known,
    options: &'a LoadOptions,
    now_ns: i64,
    planned_bytes: Cell<u64>,
}

/// One entry of docker-save's `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ArchiveItem {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

impl<'a> Planner<'a> {
    // --- docker save, as read by `docker load` of any age

    fn docker_archive(&self) -> Result<Vec<NewImage>, LoadError> {
        let bytes = self.bytes_at("manifest.json")?;
        let items: Vec<ArchiveItem> = serde_json::from_slice(bytes)
            .map_err(|source| LoadError::Json { object: "manifest.json".to_owned(), source })?;
        items.iter().map(|item| self.archive_item(item)).collect()
    }

    fn archive_item(&self, item: &ArchiveItem) -> Result<NewImage, LoadError> {
        let bytes = self.bytes_at(&item.config)?;
        let id = Digest::of(bytes);
        let stem = item.config.rsplit('/').next().map(|name| name.strip_suffix(".json").unwrap_or(name));
        if let Some(expected) = stem.and_then(Digest::from_hex)
            && expected != id
        {
            return Err(LoadError::Mismatch { object: item.config.clone(), expected, actual: id });
        }
        let config = parse_config(&item.config, bytes)?;
        let names =
            item.repo_tags.iter().flatten().map(|tag| parse_name(tag)).collect::<Result<Vec<_>, _>>()?;
        let wanted = &self.options.platforms;
        if let Some(first) = wanted.first()
            && wanted.iter().all(|wanted| config.platform().fitness(wanted).is_none())
        {
            let image = names.first().map_or_else(|| id.to_string(), Reference::familiar);
            return Err(LoadError::Platform { image, platform: Box::new(first.clone()) });
        }
        let (paths, diff_ids) = (item.layers.as_deref().unwrap_or_default(), &config.rootfs.diff_ids);
        check_count(id, diff_ids.len(), paths.len())?;
        let mut new = self.start(id, bytes, media::OCI_CONFIG)?;
        let mut layers = Vec::with_capacity(paths.len());
        for (path, diff_id) in paths.iter().zip(diff_ids) {
            let (blob, layer) = self.archive_layer(path, diff_id)?;
            layers.push(Descriptor::new(&blob.media_type, blob.digest, blob.size));
            push_layer(&mut new, blob, layer);
        }
        // The archive has no manifest; ours has the same bytes each time.
        let config = Descriptor::new(media::OCI_CONFIG, id, bytes.len() as u64);
        let manifest = manifest::compose(config, layers);
        new.image.manifest = Digest::of(&manifest);
        new.documents.push(document(media::OCI_MANIFEST, manifest));
        let target = new.image.manifest;
        new.names = names.iter().map(|name| self.name_row(name, id, target)).collect();
        Ok(new)
    }

    fn archive_layer(&self, path: &str, diff_id: &DiffId) -> Result<(BlobRow, LayerRow), LoadError> {
        match self.at(path)? {
            Some(content) => {
                let taken = layer_of(path, content)?;
                if taken.layer.diff_id != *diff_id {
                    let (expected, actual) = (*diff_id, taken.layer.diff_id);
                    return Err(LoadError::Mismatch { object: path.to_owned(), expected, actual });
                }
                Ok((blob_row(taken, taken.compression.layer_media_type()), taken.layer))
            }
            None => {
                let missing = || LoadError::Missing { object: path.to_owned() };
                let layer = self.known.layer(diff_id)?.ok_or_else(missing)?;
                Ok((plain_blob(&layer), layer))
            }
        }
    }

    // --- OCI image layout, as in `docker save` since 25, podman, buildah, skopeo, BuildKit

    fn layout(&self) -> Result<Vec<NewImage>, LoadError> {
        let bytes = self.bytes_at("index.json")?;
        let Document::Index(index) = Document::parse(bytes, media::OCI_INDEX)? else {
            return Err(LoadError::NotAnImage);
        };
        // Descriptors of one name with different platforms are one image's platforms, side by side.
        let mut groups: Vec<(Option<Reference>, Vec<&Descriptor>)> = Vec::new();
        for descriptor in &index.manifests {
            let name = descriptor_name(descriptor)?;
            match groups.iter_mut().find(|(known, group)| *known == name && are_platforms(group, descriptor))
            {
                Some((_, group)) => group.push(descriptor),
                None => groups.push((name, vec![descriptor])),
            }
        }
        groups.iter().map(|(name, group)| self.layout_image(name.as_ref(), group)).collect()
    }

    fn layout_image(&self, name: Option<&Reference>, group: &[&Descriptor]) -> Result<NewImage, LoadError> {
        let mut candidates = Vec::new();
        let mut extras = Extras::default();
        for descriptor in group {
            self.candidates(descriptor, &mut candidates, &mut extras, 0)?;
        }
        let shown = match name {
            Some(name) => name.familiar(),
            None => group.first().map_or_else(String::new, |descriptor| descriptor.digest.to_string()),
        };
        self.keep_wanted(&shown, &mut candidates, &mut extras)?;
        let known = match (name, group) {
            (Some(name), [single]) => self.known.named(&name.to_string(), &single.digest),
            _ => None,
        };
        let chosen = self.choose(&shown, &candidates, known)?;
        let mut new = self.manifest_image(chosen)?;
        let target = match group {
            [single] => single.digest,
            _ => chosen.descriptor.digest,
        };
        for other in candidates.iter().filter(|other| other.descriptor.digest != chosen.descriptor.digest) {
            self.keep_platform(other, &mut new)?;
        }
        self.keep_extras(extras, &mut new)?;
        let id = new.image.id;
        new.names = name.iter().map(|name| self.name_row(name, id, target)).collect();
        Ok(new)
    }

    fn config_of(&self, manifest: &Manifest) -> Result<Option<(Vec<u8>, ImageConfig)>, LoadError> {
        let Some(bytes) = self.document_bytes(&manifest.config)? else { return Ok(None) };
        let config = parse_config(&manifest.config.digest.to_string(), &bytes)?;
        Ok(Some((bytes, config)))
    }

    fn manifest_image(&self, chosen: &Candidate) -> Result<NewImage, LoadError> {
        let manifest = &chosen.manifest;
        check_type(&manifest.config, media::Kind::Config)?;
        let Some((bytes, config)) = self.config_of(manifest)? else { return Err(missing(&manifest.config)) };
        let id = manifest.config.digest;
        check_count(id, config.rootfs.diff_ids.len(), manifest.layers.len())?;
        let mut new = self.start(id, &bytes, or(&manifest.config.media_type, media::OCI_CONFIG))?;
        for (descriptor, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            check_type(descriptor, media::Kind::Layer)?;
            let (blob, layer) = self.manifest_layer(descriptor, diff_id)?;
            push_layer(&mut new, blob, layer);
        }
        new.image.manifest = chosen.descriptor.digest;
        let media_type = or(&chosen.descriptor.media_type, media::OCI_MANIFEST);
        new.documents.push(document(media_type, chosen.bytes.clone()));
        Ok(new)
    }

    fn manifest_layer(
        &self,
        descriptor: &Descriptor,
        diff_id: &DiffId,
    ) -> Result<(BlobRow, LayerRow), LoadError> {
        let object = descriptor.digest.to_string();
        let (blob, layer) = match self.content(&descriptor.digest) {
            Some(content) => {
                let taken = layer_of(&object, content)?;
                (blob_row(taken, &descriptor.media_type), taken.layer)
            }
            None => self.known_layer(descriptor, diff_id)?,
        };
        check_size(descriptor, blob.size)?;
        if layer.diff_id != *diff_id {
            return Err(LoadError::Mismatch { object, expected: *diff_id, actual: layer.diff_id });
        }
        Ok((blob, layer))
    }

    /// A layer that the archive leaves out because the store has it.
    fn known_layer(
        &self,
        descriptor: &Descriptor,
        diff_id: &DiffId,
    ) -> Result<(BlobRow, LayerRow), LoadError> {
        let layer = self.known.layer(diff_id)?.ok_or_else(|| missing(descriptor))?;
        if descriptor.digest == *diff_id {
            return Ok((plain_blob(&layer), layer));
        }
        let blob = self.known.blob(&descriptor.digest)?.filter(|blob| blob.diff_id == Some(*diff_id));
        Ok((blob.ok_or_else(|| missing(descriptor))?, layer))
    }

    // --- both

    fn start(&self, id: Digest, config: &[u8], media_type: &str) -> Result<NewImage, LoadError> {
        self.charge(config.len())?;
        Ok(NewImage {
            image: ImageRow { id, manifest: id, parent: None, made_as: None, stored_at: self.now_ns },
            documents: vec![document(media_type, config.to_vec())],
            blobs: Vec::new(),
            layers: Vec::new(),
            stack: Vec::new(),
            names: Vec::new(),
        })
    }

    /// Counts a document of the plan.
    fn charge(&self, bytes: usize) -> Result<(), LoadError> {
        let planned = self.planned_bytes.get() + bytes as u64 + LOOK_BYTES;
        self.planned_bytes.set(planned);
        if planned > PLANNED_BYTES_MAX {
            let what = "bytes of manifests and configurations, each counted as often as it is named";
            return Err(LoadError::Limit { what, max: PLANNED_BYTES_MAX });
        }
        Ok(())
    }

    fn name_row(&self, name: &Reference, image: Digest, target: Digest) -> NameRow {
        NameRow { name: name.to_string(), image, target, tagged_at: self.now_ns }
    }

    /// The content at a path, links followed.
    fn at(&self, path: &str) -> Result<Option<&'a Content>, LoadError> {
        let mut current = path.strip_prefix("./").unwrap_or(path);
        for _ in 0..DEPTH_MAX {
            if let Some(content) = self.taken.contents.get(current) {
                return Ok(Some(content));
            }
            match self.taken.links.get(current) {
                Some(target) => current = target,
                None => return Ok(None),
            }
        }
        Err(LoadError::Link { object: path.to_owned() })
    }

    fn bytes_at(&self, path: &str) -> Result<&'a [u8], LoadError> {
        match self.at(path)? {
            Some(Content::Bytes { bytes, .. }) => Ok(bytes),
            Some(_) => {
                Err(LoadError::MediaType { object: path.to_owned(), media_type: "not a document".to_owned() })
            }
            None => Err(LoadError::Missing { object: path.to_owned() }),
        }
    }

    fn content(&self, digest: &Digest) -> Option<&'a Content> {
        self.taken.contents.get(*self.by_digest.get(digest)?)
    }

    /// A document of the archive or, failing that, of the store.
    fn document_bytes(&self, descriptor: &Descriptor) -> Result<Option<Vec<u8>>, LoadError> {
        let bytes = match self.content(&descriptor.digest) {
            Some(Content::Bytes { bytes, .. }) => {
                self.charge(bytes.len())?;
                bytes.to_vec()
            }
            Some(_) => {
                let media_type = descriptor.media_type.clone();
                return Err(LoadError::MediaType { object: descriptor.digest.to_string(), media_type });
            }
            None => match self.known.document(&descriptor.digest)? {
                Some(row) => {
                    self.charge(row.bytes.len())?;
                    row.bytes
                }
                None => return Ok(None),
            },
        };
        check_size(descriptor, bytes.len() as u64)?;
        Ok(Some(bytes))
    }
}

/// The name that a descriptor in an `index.json` bears. A reference name that is a mere tag names nothing.
fn descriptor_name(descriptor: &Descriptor) -> Result<Option<Reference>, LoadError> {
    if let Some(name) = descriptor.annotation("io.containerd.image.name") {
        return parse_name(name).map(Some);
    }
    match descriptor.annotation("org.opencontainers.image.ref.name") {
        Some(name) if name.contains(['/', ':']) => parse_name(name).map(Some),
        _ => Ok(None),
    }
}

fn are_platforms(group: &[&Descriptor], next: &Descriptor) -> bool {
    let differs = |known: &&Descriptor| known.platform.is_some() && known.platform != next.platform;
    next.is_attestation() || (next.platform.is_some() && group.iter().all(differs))
}

fn layer_of<'c>(object: &str, content: &'c Content) -> Result<&'c TakenLayer, LoadError> {
    let reason = match content {
        Content::Layer(taken) => return Ok(taken),
        Content::Bytes { .. } => "it is not a tar archive".to_owned(),
        Content::Opaque { reason, .. } => reason.clone(),
        Content::Broken { error: LoadError::Layer { source, .. } } => source.to_string(),
        Content::Broken { error } => error.to_string(),
    };
    Err(LoadError::NotALayer { object: object.to_owned(), reason })
}

fn blob_row(taken: &TakenLayer, media_type: &str) -> BlobRow {
    BlobRow {
        digest: taken.blob,
        media_type: media_type.to_owned(),
        size: taken.blob_bytes,
        diff_id: Some(taken.layer.diff_id),
        stored: taken.compression != Compression::None,
    }
}

/// The blob of a layer that is transported as it is.
pub(crate) fn plain_blob(layer: &LayerRow) -> BlobRow {
    BlobRow {
        digest: layer.diff_id,
        media_type: media::OCI_LAYER.to_owned(),
        size: layer.tar_bytes,
        diff_id: Some(layer.diff_id),
        stored: false,
    }
}

fn push_layer(new: &mut NewImage, blob: BlobRow, layer: LayerRow) {
    new.stack.push((layer.diff_id, blob.digest));
    new.layers.push(layer);
    new.blobs.push(blob);
}

fn document(media_type: &str, bytes: Vec<u8>) -> DocumentRow {
    DocumentRow { digest: Digest::of(&bytes), media_type: media_type.to_owned(), bytes }
}

fn or<'t>(text: &'t str, default: &'t str) -> &'t str {
    if text.is_empty() { default } else { text }
}
