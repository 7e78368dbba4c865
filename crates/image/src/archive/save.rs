//! Saving: one archive that `docker load` (20.10 and later) and OCI tools read.
//!
//! All sizes are known beforehand, so the archive streams: documents from memory, compressed layers from their
//! blobs, plain ones reproduced from their unpacked form. The same images give the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, Read, Write};
use std::sync::Arc;

use serde::Serialize;

use crate::catalogue::Image;
use crate::digest::Digest;
use crate::error::Error;
use crate::layer::LayerError;
use crate::manifest::{Descriptor, Index, media};
use crate::metadata::{BlobRow, DocumentRow};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::{ManifestInfo, ManifestKind, Store, reach};
use crate::tar::{Entry, Kind, Writer};

const BUFFER_BYTES: usize = 1 << 20;

/// Why an archive could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    #[error("cannot write the image archive")]
    Write(#[source] io::Error),
    #[error("cannot read layer {digest}")]
    Layer { digest: Digest, source: Box<LayerError> },
}

/// An image, and the name that it was asked for by.
type Selected = (Arc<Image>, Option<Reference>);

/// An image and the names it is saved under.
struct Saved {
    image: Arc<Image>,
    /// With the manifest or index each name stands for.
    names: Vec<(Reference, Digest)>,
    /// What it is saved as where it has no name: the index that was asked for by its digest.
    unnamed: Digest,
    /// Those of its platforms that are wished for; empty: all.
    platforms: Vec<ManifestInfo>,
}

impl Saved {
    /// The configuration and the layers of each image, as Docker's listing has them.
    fn items(&self) -> Vec<(Digest, Vec<Digest>)> {
        if self.platforms.is_empty() {
            return vec![(self.image.id, self.image.blobs.iter().map(|blob| blob.digest).collect())];
        }
        let item = |manifest: &ManifestInfo| {
            let config = manifest.image.unwrap_or(self.image.id);
            let layers = manifest.content.iter().map(|part| part.digest).filter(|digest| *digest != config);
            (config, layers.collect())
        };
        self.platforms.iter().map(item).collect()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ArchiveItem {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Store {
    /// Writes images as one archive. A repository's name without tag means all its tags; an ID comes without names.
    ///
    /// With `platforms`, those images alone (of several, below their index); else a multi-platform index is written whole, as far
    /// as its content is here.
    pub fn save(
        &self,
        names: &[String],
        output: &mut dyn Write,
        platforms: &[Platform],
    ) -> Result<(), Error> {
        // Nothing may be deleted while it is being read.
        let _session = self.session();
        let saved = self.select(names, platforms)?;
        let mut documents: BTreeMap<Digest, DocumentRow> = BTreeMap::new();
        let mut blobs: BTreeMap<Digest, BlobRow> = BTreeMap::new();
        for one in &saved {
            let Saved { image, names, unnamed, platforms } = one;
            let own = image.blobs.iter().map(|blob| blob.digest).chain([image.id, image.manifest]);
            let mut wanted: Vec<Digest> = match platforms.is_empty() {
                true => own.collect(),
                false => self.content_of(image, platforms)?,
            };
            let database = self.writer();
            let targets: Vec<Digest> = names.iter().map(|(_, target)| *target).chain([*unnamed]).collect();
            if platforms.is_empty() && targets.iter().any(|target| *target != image.manifest) {
                // Not what came by other names, nor what refers to the image: nothing in the archive would lead there.
                wanted.extend(reach(&database, targets.into_iter())?);
            }
            for digest in wanted {
                if let Some(document) = database.document(&digest)? {
                    documents.insert(digest, document);
                } else if let Some(blob) = database.blob(&digest)? {
                    blobs.insert(digest, blob);
                }
            }
        }
        let mut archive = Writer::new(BufWriter::with_capacity(BUFFER_BYTES, output));
        let write = |source| Error::Save(SaveError::Write(source));
        for directory in ["blobs/", "blobs/sha256/"] {
            archive
                .append(&Entry::new(Kind::Directory, directory, 0o755), &mut io::empty())
                .map_err(write)?;
        }
        let digests: BTreeSet<Digest> = documents.keys().chain(blobs.keys()).copied().collect();
        for digest in digests {
            match documents.get(&digest) {
                Some(document) => put(&mut archive, &blob_path(&digest), &document.bytes).map_err(write)?,
                None => self.put_blob(&mut archive, &blobs[&digest])?,
            }
        }
        for (path, bytes) in listings(&saved, &documents) {
            put(&mut archive, path, &bytes).map_err(write)?;
        }
        archive.finish().and_then(|mut output| output.flush()).map_err(write)
    }

    /// What some platforms of an image are made of: their manifests, what these name and what is said of them, and the index when there
    /// are several.
    fn content_of(&self, image: &Image, platforms: &[ManifestInfo]) -> Result<Vec<Digest>, Error> {
        let mut wanted: Vec<Digest> =
            if platforms.len() > 1 { vec![image.descriptor.digest] } else { Vec::new() };
        let said_of = |manifest: &ManifestInfo| match manifest.kind {
            ManifestKind::Attestation { subject: Some(subject) } => {
                platforms.len() > 1 && platforms.iter().any(|platform| platform.descriptor.digest == subject)
            }
            _ => false,
        };
        let attestations: Vec<ManifestInfo> = self.manifests(image)?.into_iter().filter(said_of).collect();
        for manifest in platforms.iter().chain(&attestations) {
            wanted.push(manifest.descriptor.digest);
            wanted.extend(manifest.content.iter().map(|part| part.digest));
        }
        Ok(wanted)
    }

    fn select(&self, names: &[String], platforms: &[Platform]) -> Result<Vec<Saved>, Error> {
        let mut saved: Vec<Saved> = Vec::new();
        for name in names {
            for (image, reference) in self.select_one(name)? {
                let mut chosen: Vec<ManifestInfo> = Vec::new();
                for platform in platforms {
                    let manifest = self.find_platform(name, &image, platform)?;
                    if !chosen.contains(&manifest) {
                        chosen.push(manifest);
                    }
                }
                let index = name.parse().ok().filter(|digest| image.made_as == Some(*digest));
                let unnamed = index.unwrap_or(image.manifest);
                let target = match (&reference, &chosen[..]) {
                    (_, [only]) => only.descriptor.digest,
                    (Some(reference), _) => {
                        let named = self.catalogue().named(&reference.to_string());
                        named.map_or(image.manifest, |named| named.target)
                    }
                    (None, []) => unnamed,
                    (None, _) => image.descriptor.digest,
                };
                if chosen.is_empty() && target != image.manifest {
                    chosen.extend(self.other_form(&image, &target)?);
                }
                let is_same = |known: &Saved| known.image.id == image.id && known.platforms == chosen;
                let at = match saved.iter().position(is_same) {
                    Some(at) => at,
                    None => {
                        saved.push(Saved { image, names: Vec::new(), unnamed, platforms: chosen });
                        saved.len() - 1
                    }
                };
                let names = &mut saved[at].names;
                if let Some(reference) = reference
                    && !names.iter().any(|(known, _)| *known == reference)
                {
                    names.push((reference, target));
                }
            }
        }
        Ok(saved)
    }

    /// An image's manifest besides its own, of the same files: with layers in another form, or annotated.
    fn other_form(&self, image: &Image, target: &Digest) -> Result<Option<ManifestInfo>, Error> {
        let Some(document) = self.writer().document(target)? else { return Ok(None) };
        let descriptor = Descriptor::of(&document.media_type, &document.bytes);
        let manifest = self.described(&descriptor)?;
        Ok(manifest.filter(|manifest| manifest.image == Some(image.id)))
    }

    fn select_one(&self, name: &str) -> Result<Vec<Selected>, Error> {
        if let Ok(bare) = Reference::parse_untagged(name)
            && bare.tag().is_none()
            && bare.digest().is_none()
        {
            let repository = bare.name();
            let mut tagged = Vec::new();
            for image in self.list()? {
                for row in self.writer().names(Some(&image.id))? {
                    let reference = Reference::parse_untagged(&row.name)?;
                    if reference.name() == repository && reference.tag().is_some() {
                        tagged.push((image.clone(), Some(reference)));
                    }
                }
            }
            if !tagged.is_empty() {
                tagged.sort_by(|(_, a), (_, b)| a.cmp(b));
                return Ok(tagged);
            }
        }
        let (image, reference) = self.resolve_target(name)?;
        Ok(vec![(
            image,
            reference.filter(|reference| reference.tag().is_some()).map(|name| name.without_digest()),
        )])
    }

    fn put_blob<W: Write>(&self, archive: &mut Writer<W>, blob: &BlobRow) -> Result<(), Error> {
        let write = |source| Error::Save(SaveError::Write(source));
        let mut entry = Entry::new(Kind::File, blob_path(&blob.digest), 0o644);
        entry.size = blob.size;
        match blob.diff_id.filter(|_| !blob.stored) {
            Some(diff_id) => {
                archive.append_header(&entry).map_err(write)?;
                self.layers
                    .reproduce(&diff_id, archive)
                    .map_err(|source| SaveError::Layer { digest: diff_id, source: Box::new(source) }.into())
                    .map(drop)
            }
            None => {
                let mut file = self.blobs.reader(&blob.digest)?;
                archive.append_header(&entry).map_err(write)?;
                copy(&mut file, archive).map_err(write)
            }
        }
    }
}

/// As `io::copy`, with a buffer worth the system calls.
fn copy(input: &mut dyn Read, output: &mut dyn Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match input.read(&mut buffer)? {
            0 => return Ok(()),
            count => output.write_all(&buffer[..count])?,
        }
    }
}

fn put<W: Write>(archive: &mut Writer<W>, path: &str, mut bytes: &[u8]) -> io::Result<()> {
    let mut entry = Entry::new(Kind::File, path, 0o644);
    entry.size = bytes.len() as u64;
    archive.append(&entry, &mut bytes)
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The files that say what the blobs are: for OCI tools, for Docker, for very old Docker.
fn listings(saved: &[Saved], documents: &BTreeMap<Digest, DocumentRow>) -> Vec<(&'static str, Vec<u8>)> {
    let describe = |digest: &Digest| {
        let (media_type, size) = documents
            .get(digest)
            .map_or((media::OCI_MANIFEST, 0), |row| (row.media_type.as_str(), row.bytes.len() as u64));
        Descriptor::new(media_type, *digest, size)
    };
    let mut manifests = Vec::new();
    let mut items = Vec::new();
    let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for one in saved {
        let Saved { image, names, unnamed, platforms } = one;
        let items_of = one.items();
        for (name, target) in names {
            let tag = name.tag().unwrap_or("latest").to_owned();
            let annotations = BTreeMap::from([
                ("io.containerd.image.name".to_owned(), name.to_string()),
                ("org.opencontainers.image.ref.name".to_owned(), tag.clone()),
            ]);
            manifests.push(Descriptor { annotations: Some(annotations), ..describe(target) });
            let top = items_of.first().and_then(|(_, layers)| layers.last().copied()).unwrap_or(image.id);
            repositories.entry(name.familiar_name()).or_default().insert(tag, top.hex());
        }
        if names.is_empty() {
            let target = match &platforms[..] {
                [] => *unnamed,
                [only] => only.descriptor.digest,
                _ => image.descriptor.digest,
            };
            manifests.push(describe(&target));
        }
        let tags: Vec<String> = names.iter().map(|(name, _)| name.familiar()).collect();
        let mut tags = Some(tags).filter(|tags| !tags.is_empty());
        for (config, layers) in &items_of {
            // A name is one image's there: the first platform's.
            let repo_tags = tags.take();
            items.push(ArchiveItem {
                config: blob_path(config),
                repo_tags,
                layers: layers.iter().map(blob_path).collect(),
            });
        }
    }
    let index = Index {
        schema_version: 2,
        media_type: Some(media::OCI_INDEX.to_owned()),
        manifests,
        annotations: None,
    };
    let mut files = vec![
        ("index.json", json(&index)),
        ("manifest.json", json(&items)),
        ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
    ];
    if !repositories.is_empty() {
        files.push(("repositories", json(&repositories)));
    }
    files
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("listings have string keys only")
}
