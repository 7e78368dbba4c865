//! Images of several platforms under one index, and what is said of each: attestation manifests beside them, in the form that BuildKit
//! gives them (docs/attestations/attestation-storage.md there), or artifacts that refer to them, which registries list by themselves.
//!
//! What is said of an image names its manifest by digest, and so that holds wherever the image goes, its layers are compressed here and
//! not when they are sent.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::sync::Arc;
use std::thread;

use serde_json::json;

use super::{BuildSession, Stack};
use crate::blobs::BlobWriter;
use crate::catalogue::Image;
use crate::compress::{Format, compress};
use crate::compression::Compression;
use crate::config::ImageConfig;
use crate::digest::{DiffId, Digest, ImageId};
use crate::error::Error;
use crate::manifest::{self, Descriptor, Document, media};
use crate::metadata::{BlobRow, CompressedRow, Database, DocumentRow, ImageRow, NameRow, NewImage};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::{Session, Store, now_ns, reach};

/// What BuildKit calls an attestation manifest that is an artifact.
const ATTESTATION: &str = "application/vnd.docker.attestation.manifest.v1+json";
/// What a statement's layer is annotated with.
const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";

/// What the names of images stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// An index, also where there is one image alone.
    pub is_index: bool,
    /// What is said refers to the images (OCI distribution specification, "Listing Referrers") instead of standing in the index: these
    /// have the digests that they have without it.
    pub has_referrers: bool,
    pub transport: Transport,
    /// Of the index.
    pub annotations: BTreeMap<String, String>,
}

/// How layers are sent to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    pub compression: Compression,
    /// Also those that came in another form.
    pub is_forced: bool,
}

impl Default for Transport {
    fn default() -> Transport {
        Transport { compression: Format::default().compression(), is_forced: false }
    }
}

impl Transport {
    /// In which form a layer is to be that is in this one.
    fn of(self, blob: &BlobRow) -> Compression {
        let is_plain = !blob.stored && blob.media_type == media::OCI_LAYER;
        if is_plain || self.is_forced { self.compression } else { form(&blob.media_type) }
    }
}

/// What a layer's media type says of its form: all end with it.
fn form(media_type: &str) -> Compression {
    match media_type {
        gzip if gzip.ends_with("gzip") => Compression::Gzip,
        zstd if zstd.ends_with("zstd") => Compression::Zstd,
        _ => Compression::None,
    }
}

/// One platform's image.
pub struct Part {
    pub stack: Stack,
    /// Its layers are filled in.
    pub config: ImageConfig,
    pub parent: Option<ImageId>,
    /// What it is listed as.
    pub platform: Platform,
    /// Of its manifest, and of what an index says of that.
    pub annotations: BTreeMap<String, String>,
    pub listed_annotations: BTreeMap<String, String>,
}

/// What is said of an image.
pub struct Statement {
    pub predicate_type: String,
    /// An in-toto statement as JSON.
    pub bytes: Vec<u8>,
}

/// An image whose bytes are settled.
struct Settled {
    id: ImageId,
    parent: Option<ImageId>,
    /// With its platform.
    descriptor: Descriptor,
    documents: Vec<DocumentRow>,
    stack: Vec<(DiffId, BlobRow)>,
}

impl BuildSession {
    /// Makes an image of all parts, and of what `said` says of each by its number and its manifest. Gives the part that suits this host
    /// best, and what the names stand for: the index, or the manifest of the one part where none is wished for.
    pub fn compose_parts<E: From<Error>>(
        &self,
        parts: Vec<Part>,
        names: &[Reference],
        shape: Shape,
        mut said: impl FnMut(usize, &Descriptor) -> Result<Vec<Statement>, E>,
    ) -> Result<(Arc<Image>, Descriptor), E> {
        let store = self.store();
        let session = store.session();
        let mut settled = Vec::new();
        for part in parts {
            settled.push(store.settle(&session, part, shape.transport)?);
        }
        let mut manifests: Vec<Descriptor> = settled.iter().map(|image| image.descriptor.clone()).collect();
        let mut documents = Vec::new();
        for (number, image) in settled.iter().enumerate() {
            let statements = said(number, &image.descriptor)?;
            match (statements.is_empty(), shape.has_referrers) {
                (true, _) => {}
                (false, true) => documents.extend(referrer(&image.descriptor, statements)),
                (false, false) => {
                    let (descriptor, brought) = attestation(&image.descriptor, statements);
                    manifests.push(descriptor);
                    documents.extend(brought);
                }
            }
        }
        let target = match &manifests[..] {
            [only] if !shape.is_index => Descriptor::new(&only.media_type, only.digest, only.size),
            _ => {
                let index = document(media::OCI_INDEX, manifest::compose_index(manifests, shape.annotations));
                let target = Descriptor::new(&index.media_type, index.digest, index.bytes.len() as u64);
                documents.push(index);
                target
            }
        };
        Ok(store.add_parts(settled, documents, target, names)?)
    }
}

impl Store {
    fn settle(&self, session: &Session<'_>, part: Part, transport: Transport) -> Result<Settled, Error> {
        let Part { stack, mut config, parent, platform, annotations, listed_annotations } = part;
        config.rootfs.kind = "layers".to_owned();
        config.rootfs.diff_ids = stack.ids();
        let stack: Vec<(DiffId, BlobRow)> = stack
            .layers
            .iter()
            .map(|layer| {
                Ok((layer.id, self.transported(session, layer.id, self.blob_of(layer)?, transport)?))
            })
            .collect::<Result<_, Error>>()?;
        let config =
            document(media::OCI_CONFIG, serde_json::to_vec(&config).expect("it has string keys only"));
        let layers =
            stack.iter().map(|(_, blob)| Descriptor::new(&blob.media_type, blob.digest, blob.size)).collect();
        let of_config = Descriptor::of(media::OCI_CONFIG, &config.bytes);
        let bytes = manifest::compose_annotated(of_config, layers, annotations);
        let listed = Some(listed_annotations).filter(|annotations| !annotations.is_empty());
        let own = Descriptor::of(media::OCI_MANIFEST, &bytes);
        let descriptor = Descriptor { platform: Some(platform), annotations: listed, ..own };
        let id = config.digest;
        let documents = vec![config, document(media::OCI_MANIFEST, bytes)];
        Ok(Settled { id, parent, descriptor, documents, stack })
    }

    /// A layer as it is sent to others: in that form, and kept so.
    fn transported(
        &self,
        session: &Session<'_>,
        diff_id: DiffId,
        blob: BlobRow,
        transport: Transport,
    ) -> Result<BlobRow, Error> {
        let wanted = transport.of(&blob);
        if wanted == form(&blob.media_type) {
            return Ok(blob);
        }
        let format = match wanted {
            Compression::None => {
                let row = self.writer().layer(&diff_id)?;
                return Ok(crate::archive::plain_blob(&row.ok_or(Error::NoContent(diff_id))?));
            }
            Compression::Gzip => Format::Gzip,
            Compression::Zstd => Format::Zstd,
        };
        let kept = |digest, size| BlobRow {
            digest,
            media_type: format.layer_media_type().to_owned(),
            size,
            diff_id: Some(diff_id),
            stored: true,
        };
        let known = self.writer().compressed(&diff_id, format.layer_media_type())?;
        if let Some(known) = known
            && self.blobs.contains(&known.digest)
        {
            // Its row may be gone, and the file about to follow it: this session is open, so it stays.
            session.brought_blob(known.digest);
            return Ok(kept(known.digest, known.size));
        }
        let mut writer = Writing(self.blobs.create()?);
        let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut unread = Ok(());
        let compressed = compress(format, threads, &mut writer, |sink| {
            unread = self.write_layer(&diff_id, sink);
            unread.as_ref().map(drop).map_err(|_| io::ErrorKind::BrokenPipe.into())
        });
        if let Err(source) = compressed {
            unread?;
            return Err(Error::Save(crate::archive::SaveError::Write(source)));
        }
        let staged = writer.0.finish();
        session.brought_blob(staged.digest);
        self.blobs.commit(&staged)?;
        let media_type = format.layer_media_type().to_owned();
        let row = CompressedRow { diff_id, media_type, digest: staged.digest, size: staged.size };
        self.writer().change(|change| change.note_compressed(&row))?;
        Ok(kept(staged.digest, staged.size))
    }

    fn add_parts(
        &self,
        settled: Vec<Settled>,
        mut documents: Vec<DocumentRow>,
        target: Descriptor,
        names: &[Reference],
    ) -> Result<(Arc<Image>, Descriptor), Error> {
        let (host, now) = (Platform::host(), now_ns());
        let unfit = |image: &&Settled| {
            let platform = image.descriptor.platform.as_ref();
            platform.and_then(|platform| platform.fitness(&host)).unwrap_or(u32::MAX)
        };
        // Of several that are as good it is the first.
        let Some(first) = settled.iter().min_by_key(unfit) else {
            return Err(Error::Conflict("an index of no images was asked for".to_owned()));
        };
        let id = first.id;
        let own: Vec<Digest> = documents.iter().map(|document| document.digest).collect();
        let image = ImageRow {
            id,
            manifest: first.descriptor.digest,
            parent: first.parent,
            made_as: Some(target.digest),
            stored_at: now,
        };
        let name = |name: &Reference| NameRow {
            name: name.to_string(),
            image: id,
            target: target.digest,
            tagged_at: now,
        };
        let stack = first.stack.iter().map(|(layer, blob)| (*layer, blob.digest)).collect();
        let mut blobs = BTreeMap::new();
        for part in settled {
            documents.extend(part.documents);
            blobs.extend(part.stack.into_iter().map(|(_, blob)| (blob.digest, blob)));
        }
        let new = NewImage {
            image,
            documents,
            blobs: blobs.into_values().collect(),
            layers: Vec::new(),
            stack,
            names: names.iter().map(name).collect(),
        };
        let image = self.add_one(&new)?;
        self.trim(&id, own, names)?;
        // It may have been removed by now.
        Ok((self.image(&id).unwrap_or(image), target))
    }

    /// Lets go of what earlier indexes of an image have brought that none leads to any more, and that is not its own now: its other
    /// platforms, and what was said. What refers to what other names than these lead to stays, unless the same is said anew.
    fn trim(&self, image: &ImageId, own: Vec<Digest>, names: &[Reference]) -> Result<(), Error> {
        let mut database = self.writer();
        let Some(row) = database.image(image)? else { return Ok(()) };
        let names: BTreeSet<String> = names.iter().map(ToString::to_string).collect();
        let (now, others): (Vec<NameRow>, Vec<NameRow>) =
            database.names(Some(image))?.into_iter().partition(|row| names.contains(&row.name));
        let named = reach(&database, others.iter().map(|row| row.target))?;
        let mut reached = named.clone();
        let tops = now.iter().map(|row| row.target).chain([row.manifest]).chain(row.made_as);
        reached.extend(reach(&database, tops)?);
        reached.extend(database.stack(image)?.into_iter().map(|(_, blob)| blob));
        reached.insert(*image);
        let mut anew = BTreeSet::new();
        for digest in &own {
            anew.extend(said(&database, digest)?.map(|said| (said.subject, said.kinds)));
        }
        reached.extend(own);
        let mut left = database.content(image)?;
        for digest in &left {
            if let Some(said) = said(&database, digest)?
                && !reached.contains(digest)
                && named.contains(&said.subject)
                && !anew.contains(&(said.subject, said.kinds))
            {
                reached.insert(*digest);
                reached.extend(said.parts);
            }
        }
        left.retain(|digest| !reached.contains(digest));
        if left.is_empty() {
            return Ok(());
        }
        let garbage = database.remove_synced(|change| {
            left.iter().try_for_each(|digest| change.disown_content(image, digest))?;
            change.collect()
        });
        let garbage = garbage.map_err(|error: crate::metadata::DatabaseError| Error::from(error))?;
        drop(database);
        self.discard(garbage);
        Ok(())
    }
}

/// A manifest that refers to another.
struct Said {
    subject: Digest,
    /// The types of its predicates.
    kinds: Vec<Option<String>>,
    parts: Vec<Digest>,
}

fn said(database: &Database, digest: &Digest) -> Result<Option<Said>, Error> {
    let row = database.document(digest)?.filter(|row| row.media_type == media::OCI_MANIFEST);
    let Some(Ok(Document::Manifest(manifest))) = row.map(|row| Document::parse(&row.bytes, &row.media_type))
    else {
        return Ok(None);
    };
    let kind = |layer: &Descriptor| layer.annotation(PREDICATE_TYPE).map(str::to_owned);
    Ok(manifest.subject.as_ref().map(|subject| Said {
        subject: subject.digest,
        kinds: manifest.layers.iter().map(kind).collect(),
        parts: manifest.layers.iter().chain([&manifest.config]).map(|part| part.digest).collect(),
    }))
}

/// Statements, as they are listed and as they are kept.
fn statements_of(statements: Vec<Statement>) -> (Vec<Descriptor>, Vec<DocumentRow>) {
    let listed = |Statement { predicate_type, bytes }| {
        let annotations = BTreeMap::from([(PREDICATE_TYPE.to_owned(), predicate_type)]);
        let descriptor =
            Descriptor { annotations: Some(annotations), ..Descriptor::of(media::IN_TOTO, &bytes) };
        (descriptor, document(media::IN_TOTO, bytes))
    };
    statements.into_iter().map(listed).unzip()
}

/// The artifact of what is said of an image, with the documents that it is made of.
fn referrer(subject: &Descriptor, statements: Vec<Statement>) -> Vec<DocumentRow> {
    let (layers, mut documents) = statements_of(statements);
    let bytes = manifest::compose_referrer(ATTESTATION, layers, subject);
    documents.extend([document(media::OCI_EMPTY, b"{}".to_vec()), document(media::OCI_MANIFEST, bytes)]);
    documents
}

/// The manifest of what is said of an image, and the documents that it is made of.
fn attestation(subject: &Descriptor, statements: Vec<Statement>) -> (Descriptor, Vec<DocumentRow>) {
    let (layers, mut documents) = statements_of(statements);
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.digest).collect();
    let config = json!({
        "architecture": "unknown",
        "os": "unknown",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = document(media::OCI_CONFIG, config.to_string().into_bytes());
    let bytes = manifest::compose(Descriptor::of(media::OCI_CONFIG, &config.bytes), layers);
    let unknown = Platform { architecture: "unknown".into(), os: "unknown".into(), ..Platform::default() };
    let annotation = |name: &str, value: String| (format!("vnd.docker.reference.{name}"), value);
    let descriptor = Descriptor {
        platform: Some(unknown),
        annotations: Some(BTreeMap::from([
            annotation("type", "attestation-manifest".to_owned()),
            annotation("digest", subject.digest.to_string()),
        ])),
        ..Descriptor::of(media::OCI_MANIFEST, &bytes)
    };
    documents.extend([config, document(media::OCI_MANIFEST, bytes)]);
    (descriptor, documents)
}

fn document(media_type: &str, bytes: Vec<u8>) -> DocumentRow {
    DocumentRow { digest: Digest::of(&bytes), media_type: media_type.to_owned(), bytes }
}

/// A blob that is being written, for who writes to files.
struct Writing(BlobWriter);

impl Write for Writing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
