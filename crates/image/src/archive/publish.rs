//! An image to where content is taken by digest: a registry. The mirror of `fetch`: layers first, side by side, then configurations and
//! manifests, the name last. Layers that are kept unpacked only are compressed on the way, which makes another manifest of them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::directory::PackedDirectory;
use super::pipeline::join;
use super::plan::Known;
use super::{LoadError, SaveError};
use crate::catalogue::Image;
use crate::compress::{Format, compress};
use crate::digest::{DiffId, Digest, Hasher};
use crate::error::Error;
use crate::manifest::{self, Descriptor, Document, Manifest, media};
use crate::metadata::{CompressedRow, DocumentRow};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::Store;

/// Layers that are sent at once.
const WORKERS_MAX: usize = 4;
/// Indexes within indexes.
const DEPTH_MAX: usize = 4;
const BUFFER_BYTES: usize = 256 << 10;
/// How often a blob is sent when the connection breaks.
const TRIES_MAX: u32 = 4;
/// And how long after that; longer each time.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Where content goes. What fails with `ConnectionReset` may go well the next time.
pub trait Target: Sync {
    /// Whether a blob is there, or could be taken from a place that has it.
    fn find(&self, descriptor: &Descriptor) -> io::Result<Option<Place>>;
    /// Whether a manifest is there.
    fn has_manifest(&self, digest: &Digest) -> io::Result<bool>;
    /// Gives the target a file of this host as a blob, if it is where it can take that. Otherwise the bytes are to be sent.
    fn give(&self, digest: &Digest, file: &File) -> io::Result<bool>;
    /// Begins to send a blob.
    fn blob(&self) -> io::Result<Box<dyn Outgoing + '_>>;
    /// Sends a manifest or an index, to be known by its digest and by a tag.
    fn manifest(&self, document: &DocumentRow, tag: Option<&str>) -> io::Result<()>;
    /// Sends a manifest that says something of another one; a target that keeps no account of that has it as any other.
    fn referrer(&self, document: &DocumentRow, _: &Manifest, _: &Digest) -> io::Result<()> {
        self.manifest(document, None)
    }
}

/// A blob on its way; dropped unfinished, nothing of it stays.
pub trait Outgoing: Write + Send {
    fn finish(self: Box<Self>, digest: &Digest) -> io::Result<()>;
}

/// Where a blob was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Here,
    /// In another repository of the same registry.
    Elsewhere(String),
}

/// What is to be sent.
#[derive(Clone, Debug)]
pub struct Publish {
    /// With a tag.
    pub name: Reference,
    /// One of the image's platforms alone.
    pub platform: Option<Platform>,
    /// For layers that are kept unpacked only, when the manifest is of our making.
    pub compression: Format,
}

/// Layers that are no image's, and a configuration that says what they are.
#[derive(Clone, Debug)]
pub struct Artifact {
    pub layers: Vec<ArtifactLayer>,
    /// Media type and bytes.
    pub config: (&'static str, Vec<u8>),
    pub tag: String,
    pub compression: Format,
}

/// A layer of an [`Artifact`].
#[derive(Clone, Debug)]
pub enum ArtifactLayer {
    /// The store has it.
    Here(DiffId),
    /// The target has it, or can take it from where it is.
    There(Box<Descriptor>),
    /// A directory that was packed for it.
    Packed(Box<PackedDirectory>),
}

/// How far a layer has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendStage {
    Waiting,
    Found(Place),
    /// So many of its bytes are read.
    Sent(u64),
    /// The target has the same file.
    Given,
    Done,
}

/// Told of every layer by its digest and the bytes that are read of it, by several threads.
pub type SendWatch<'a> = &'a (dyn Fn(&Descriptor, SendStage) + Sync);

/// What was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// What the name stands for at the target now.
    pub target: Descriptor,
    /// The index that the name stands for here, when not all of it is here and one platform was sent in its place.
    pub instead_of: Option<Digest>,
}

/// Manifests in the order in which they are sent: what is named comes first.
#[derive(Default)]
struct Parcel {
    manifests: Vec<DocumentRow>,
    items: Vec<Item>,
    /// Manifests that an index names, and which are not all here.
    absent: Vec<Digest>,
}

impl Store {
    /// Sends an image.
    ///
    /// # Errors
    /// When there is no such image or platform, or the target fails. What was sent before stays there.
    pub fn publish(
        &self,
        wish: &Publish,
        target: &dyn Target,
        watch: SendWatch<'_>,
    ) -> Result<Published, Error> {
        // Nothing may be deleted while it is being read.
        let _session = self.session();
        let text = wish.name.familiar();
        let (image, named) = self.named(&wish.name).ok_or_else(|| Error::NotFound(text.clone()))?;
        let digest = match &wish.platform {
            None => named,
            Some(platform) => self.find_platform(&text, &image, platform)?.descriptor.digest,
        };
        let sending =
            Sending { store: self, target, watch, format: wish.compression, stop: AtomicBool::new(false) };
        let mut parcel = Parcel::default();
        self.pack(&digest, &mut parcel, 0)?;
        let mut instead_of = None;
        if !sending.has_all(&parcel.absent)? {
            // An index that lacks something is refused by registries; the image that is here is not.
            instead_of = Some(digest);
            parcel = Parcel::default();
            self.pack(&image.manifest, &mut parcel, 0)?;
        }
        let tag = wish.name.tag();
        let top = match sending.is_ours(&parcel) {
            Some(manifest) => sending.compressed(&image, &manifest, tag)?,
            None => sending.as_it_is(&parcel, tag)?,
        };
        let sent: HashSet<Digest> = parcel.manifests.iter().map(|sent| sent.digest).collect();
        for (subject, document, manifest) in self.referrers(&image.id)? {
            if sent.contains(&subject) {
                sending.send_all(items(&manifest))?;
                let sent = target.referrer(&document, &manifest, &subject);
                sent.map_err(|source| failed(&document.digest, source))?;
            }
        }
        let published = Descriptor::new(&top.media_type, top.digest, top.bytes.len() as u64);
        if top.digest != named {
            self.note_published(&image, &wish.name.with_digest(top.digest), top)?;
        }
        Ok(Published { target: published, instead_of })
    }

    /// Sends layers, compressed, with a configuration and a manifest of them; the manifest's descriptor.
    ///
    /// # Errors
    /// When a layer is not where it is said to be, or the target fails. What was sent before stays there.
    pub fn publish_artifact(
        &self,
        artifact: &Artifact,
        target: &dyn Target,
        watch: SendWatch<'_>,
    ) -> Result<Descriptor, Error> {
        // Nothing may be deleted while it is being read.
        let _session = self.session();
        let sending = Sending {
            store: self,
            target,
            watch,
            format: artifact.compression,
            stop: AtomicBool::new(false),
        };
        let mut items = Vec::new();
        for part in &artifact.layers {
            items.push(match part {
                ArtifactLayer::There(descriptor) => Item::Remote(Descriptor::clone(descriptor)),
                ArtifactLayer::Packed(packed) => Item::File(packed.blob.clone(), packed.file.clone()),
                ArtifactLayer::Here(id) => {
                    let row = Known::layer(self, id)?.ok_or(Error::NoContent(*id))?;
                    Item::Plain(Descriptor::new(media::OCI_LAYER, *id, row.tar_bytes))
                }
            });
        }
        let sent = sending.send_all(items.iter().cloned())?;
        let became = |item: &Item| sent.get(&item.descriptor().digest).unwrap_or(item.descriptor()).clone();
        let mut layers: Vec<Descriptor> = items.iter().map(became).collect();
        if layers.is_empty() {
            // Many a registry takes no manifest without layers (OCI image specification, "Guidance for an Empty Descriptor").
            let nothing = (media::OCI_EMPTY, b"{}".to_vec());
            layers.push(sending.send_bytes(&nothing)?);
        }
        let config = sending.send_bytes(&artifact.config)?;
        let bytes = manifest::compose(config, layers);
        let media_type = media::OCI_MANIFEST.to_owned();
        let document = DocumentRow { digest: Digest::of(&bytes), media_type, bytes };
        sending.send_manifest(&document, Some(&artifact.tag))?;
        Ok(Descriptor::of(&document.media_type, &document.bytes))
    }

    /// Collects what a manifest or an index is made of.
    fn pack(&self, digest: &Digest, parcel: &mut Parcel, depth: usize) -> Result<(), Error> {
        let document = Known::document(self, digest)?;
        let Some(document) = document.filter(|_| depth <= DEPTH_MAX) else {
            parcel.absent.push(*digest);
            return Ok(());
        };
        match Document::parse(&document.bytes, &document.media_type).map_err(LoadError::from)? {
            Document::Index(index) => {
                for below in &index.manifests {
                    self.pack(&below.digest, parcel, depth + 1)?;
                }
            }
            Document::Manifest(manifest) => {
                let items: Vec<Item> = items(&manifest).collect();
                for item in &items {
                    let part = item.descriptor().digest;
                    if Known::document(self, &part)?.is_none() && Known::blob(self, &part)?.is_none() {
                        parcel.absent.push(*digest);
                        return Ok(());
                    }
                }
                parcel.items.extend(items);
            }
        }
        parcel.manifests.push(document);
        Ok(())
    }

    /// The file of a blob that is kept as it is transported.
    fn blob_file(&self, digest: &Digest) -> Result<Option<File>, Error> {
        match Known::document(self, digest)? {
            None if Known::blob(self, digest)?.is_some_and(|row| row.stored) => {
                Ok(Some(self.blobs.reader(digest)?))
            }
            _ => Ok(None),
        }
    }

    /// Writes a blob as it is transported.
    fn write_blob(&self, digest: &Digest, output: &mut dyn Write) -> Result<(), Error> {
        let failed = |source| Error::Save(SaveError::Write(source));
        if let Some(document) = Known::document(self, digest)? {
            return output.write_all(&document.bytes).map_err(failed);
        }
        let row = Known::blob(self, digest)?.ok_or(Error::NoContent(*digest))?;
        match row.diff_id.filter(|_| !row.stored) {
            Some(diff_id) => self.write_layer(&diff_id, output),
            None => {
                let mut file = self.blobs.reader(digest)?;
                let mut buffer = vec![0; BUFFER_BYTES];
                loop {
                    match file.read(&mut buffer).map_err(failed)? {
                        0 => return Ok(()),
                        count => output.write_all(&buffer[..count]).map_err(failed)?,
                    }
                }
            }
        }
    }

    pub(crate) fn write_layer(&self, diff_id: &DiffId, output: &mut dyn Write) -> Result<(), Error> {
        let failed = |source| SaveError::Layer { digest: *diff_id, source: Box::new(source) };
        self.layers.reproduce(diff_id, output).map(drop).map_err(|error| failed(error).into())
    }
}

/// What goes with a manifest; layers that are had from elsewhere stay there.
fn items(manifest: &Manifest) -> impl Iterator<Item = Item> {
    let is_foreign = |layer: &&Descriptor| layer.urls.as_ref().is_some_and(|urls| !urls.is_empty());
    let layers = manifest.layers.iter().filter(move |layer| !is_foreign(layer)).cloned().map(Item::Layer);
    layers.chain([Item::Config(manifest.config.clone())])
}

struct Sending<'a> {
    store: &'a Store,
    target: &'a dyn Target,
    watch: SendWatch<'a>,
    format: Format,
    /// Something failed: what else is under way isn't wanted any more.
    stop: AtomicBool,
}

/// A blob to be sent.
#[derive(Clone, Debug)]
enum Item {
    Layer(Descriptor),
    /// A layer's tar, by its diff ID, to be compressed.
    Plain(Descriptor),
    /// Small, and nobody's business.
    Config(Descriptor),
    /// A layer that the target has.
    Remote(Descriptor),
    /// What a file has.
    File(Descriptor, Arc<File>),
}

impl Item {
    fn descriptor(&self) -> &Descriptor {
        match self {
            Item::Layer(descriptor)
            | Item::Plain(descriptor)
            | Item::Config(descriptor)
            | Item::Remote(descriptor)
            | Item::File(descriptor, _) => descriptor,
        }
    }
}

impl Sending<'_> {
    fn has_all(&self, manifests: &[Digest]) -> Result<bool, Error> {
        for digest in manifests {
            if !self.target.has_manifest(digest).map_err(|source| failed(digest, source))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The one manifest of an image with plain layers, when it is as we write them: another one is as good.
    fn is_ours(&self, parcel: &Parcel) -> Option<Manifest> {
        let [document] = &parcel.manifests[..] else { return None };
        let manifest = match Document::parse(&document.bytes, &document.media_type) {
            Ok(Document::Manifest(manifest)) => *manifest,
            _ => return None,
        };
        let is_plain = manifest.layers.iter().any(|layer| layer.media_type == media::OCI_LAYER);
        let ours = manifest::compose(manifest.config.clone(), manifest.layers.clone());
        (is_plain && ours == document.bytes).then_some(manifest)
    }

    fn as_it_is(&self, parcel: &Parcel, tag: Option<&str>) -> Result<DocumentRow, Error> {
        self.send_all(parcel.items.iter().cloned())?;
        let (top, below) = parcel.manifests.split_last().ok_or(LoadError::Empty)?;
        for document in below {
            self.send_manifest(document, None)?;
        }
        self.send_manifest(top, tag)?;
        Ok(top.clone())
    }

    /// Sends an image with its plain layers compressed, and the manifest that comes of it.
    fn compressed(
        &self,
        image: &Image,
        manifest: &Manifest,
        tag: Option<&str>,
    ) -> Result<DocumentRow, Error> {
        let plain = |item: Item| match item {
            Item::Layer(layer) if layer.media_type == media::OCI_LAYER => Item::Plain(layer),
            item => item,
        };
        let sent = self.send_all(items(manifest).map(plain))?;
        let layers = manifest.layers.iter().map(|layer| sent.get(&layer.digest).unwrap_or(layer).clone());
        let bytes = manifest::compose(manifest.config.clone(), layers.collect());
        let media_type = media::OCI_MANIFEST.to_owned();
        let document = DocumentRow { digest: Digest::of(&bytes), media_type, bytes };
        tracing::debug!(image = %image.id, manifest = %document.digest, format = %self.format, "layers were compressed");
        self.send_manifest(&document, tag)?;
        Ok(document)
    }

    fn send_manifest(&self, document: &DocumentRow, tag: Option<&str>) -> Result<(), Error> {
        self.target.manifest(document, tag).map_err(|source| failed(&document.digest, source))
    }

    /// Sends blobs, several at once; tells what each has become at the target, by its digest here.
    fn send_all(&self, items: impl Iterator<Item = Item>) -> Result<HashMap<Digest, Descriptor>, Error> {
        let mut seen = HashSet::new();
        let mut items: VecDeque<Item> = items.filter(|item| seen.insert(item.descriptor().digest)).collect();
        items.iter().for_each(|item| self.tell(item, SendStage::Waiting));
        // The largest first: nobody waits for it alone at the end.
        items.make_contiguous().sort_by_key(|item| std::cmp::Reverse(item.descriptor().size));
        let workers = WORKERS_MAX.min(items.len());
        let queue = Mutex::new(items);
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let work = || -> Result<Vec<(Digest, Descriptor)>, Error> {
            let mut sent = Vec::new();
            while let Some(item) = next().filter(|_| !self.stop.load(Ordering::Relaxed)) {
                match self.try_item(&item) {
                    Ok(became) => sent.push((item.descriptor().digest, became)),
                    Err(error) if !self.stop.swap(true, Ordering::Relaxed) => return Err(error),
                    // What was told to stop has nothing to tell.
                    Err(_) => break,
                }
            }
            Ok(sent)
        };
        thread::scope(|scope| {
            let spawn = |_| thread::Builder::new().name("push".to_owned()).spawn_scoped(scope, work);
            let workers: Vec<_> =
                (0..workers).map(spawn).collect::<Result<_, _>>().map_err(LoadError::Thread)?;
            let mut outcome = Ok(HashMap::new());
            for worker in workers {
                match (join(worker), &mut outcome) {
                    (Ok(sent), Ok(all)) => all.extend(sent),
                    (Err(error), Ok(_)) => outcome = Err(error),
                    (_, Err(_)) => {}
                }
            }
            outcome
        })
    }

    /// Sends a blob, once more where the way to the target broke.
    fn try_item(&self, item: &Item) -> Result<Descriptor, Error> {
        again(|| match item {
            Item::Plain(descriptor) => self.send_plain(item, descriptor),
            Item::Layer(descriptor) | Item::Config(descriptor) => {
                self.send(item, descriptor).map(|()| descriptor.clone())
            }
            Item::Remote(descriptor) => match self.is_there(item, descriptor)? {
                true => Ok(descriptor.clone()),
                false => Err(Error::NoContent(descriptor.digest)),
            },
            Item::File(descriptor, file) => {
                self.send_file(item, descriptor, file).map(|()| descriptor.clone())
            }
        })
    }

    /// Sends a small blob that is in memory.
    fn send_bytes(&self, (media_type, bytes): &(&str, Vec<u8>)) -> Result<Descriptor, Error> {
        let descriptor = Descriptor::of(media_type, bytes);
        let failed = |source| failed(&descriptor.digest, source);
        again(|| {
            if self.target.find(&descriptor).map_err(failed)?.is_none() {
                let mut outgoing = self.target.blob().map_err(failed)?;
                outgoing.write_all(bytes).map_err(failed)?;
                outgoing.finish(&descriptor.digest).map_err(failed)?;
            }
            Ok(())
        })?;
        Ok(descriptor)
    }

    /// Whether the target has a blob already.
    fn is_there(&self, item: &Item, descriptor: &Descriptor) -> Result<bool, Error> {
        let place = self.target.find(descriptor).map_err(|source| failed(&descriptor.digest, source))?;
        let found = place.is_some();
        if let Some(place) = place {
            self.tell(item, SendStage::Found(place));
        }
        Ok(found)
    }

    fn send(&self, item: &Item, descriptor: &Descriptor) -> Result<(), Error> {
        if self.is_there(item, descriptor)? {
            return Ok(());
        }
        let failed = |source| failed(&descriptor.digest, source);
        if let Some(file) = self.store.blob_file(&descriptor.digest)?
            && self.target.give(&descriptor.digest, &file).map_err(failed)?
        {
            self.tell(item, SendStage::Given);
            return Ok(());
        }
        let mut outgoing = self.target.blob().map_err(failed)?;
        let written = self.store.write_blob(&descriptor.digest, &mut self.counted(item, &mut *outgoing));
        written.map_err(|error| match error {
            Error::Save(SaveError::Write(source)) => failed(source),
            error => error,
        })?;
        outgoing.finish(&descriptor.digest).map_err(failed)?;
        self.tell(item, SendStage::Done);
        Ok(())
    }

    fn send_file(&self, item: &Item, descriptor: &Descriptor, file: &File) -> Result<(), Error> {
        if self.is_there(item, descriptor)? {
            return Ok(());
        }
        let failed = |source| failed(&descriptor.digest, source);
        let mut outgoing = self.target.blob().map_err(failed)?;
        let mut output = self.counted(item, &mut *outgoing);
        let (mut buffer, mut at) = (vec![0; BUFFER_BYTES], 0);
        loop {
            match file.read_at(&mut buffer, at).map_err(failed)? {
                0 => break,
                count => output.write_all(&buffer[..count]).map_err(failed)?,
            }
            at = output.sent;
        }
        outgoing.finish(&descriptor.digest).map_err(failed)?;
        self.tell(item, SendStage::Done);
        Ok(())
    }

    /// Sends a plain layer compressed, unless its compressed form is known and there.
    fn send_plain(&self, item: &Item, plain: &Descriptor) -> Result<Descriptor, Error> {
        let media_type = self.format.layer_media_type();
        let known = self.store.writer().compressed(&plain.digest, media_type)?;
        if let Some(known) = known {
            let descriptor = Descriptor::new(media_type, known.digest, known.size);
            if self.is_there(item, &descriptor)? {
                return Ok(descriptor);
            }
        }
        let failed = |source| failed(&plain.digest, source);
        let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut outgoing = self.target.blob().map_err(failed)?;
        let mut hashed = Hashed { output: &mut *outgoing, hasher: Hasher::new(), size: 0 };
        let mut unread = Ok(());
        let compressed = compress(self.format, threads, &mut hashed, |sink| {
            unread = self.store.write_layer(&plain.digest, &mut self.counted(item, sink));
            unread.as_ref().map(drop).map_err(|_| io::ErrorKind::BrokenPipe.into())
        });
        match (compressed, unread) {
            // What was read was fine until nobody took it.
            (Err(source), unread) if unread.is_ok() || source.kind() != io::ErrorKind::BrokenPipe => {
                return Err(failed(source));
            }
            (_, unread) => unread?,
        }
        let (digest, size) = (hashed.hasher.finish(), hashed.size);
        outgoing.finish(&digest).map_err(failed)?;
        let diff_id = plain.digest;
        let media_type = media_type.to_owned();
        let row = CompressedRow { diff_id, media_type: media_type.clone(), digest, size };
        self.store.writer().change(|change| change.note_compressed(&row))?;
        self.tell(item, SendStage::Done);
        Ok(Descriptor::new(&media_type, digest, size))
    }

    fn tell(&self, item: &Item, stage: SendStage) {
        if !matches!(item, Item::Config(_)) {
            (self.watch)(item.descriptor(), stage);
        }
    }

    fn counted<'w>(&'w self, item: &'w Item, output: &'w mut dyn Write) -> Counted<'w> {
        Counted { output, sending: self, item, sent: 0 }
    }
}

/// Tries once more where the way to the target broke.
fn again<T>(mut attempt: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    let mut tries = 0;
    loop {
        tries += 1;
        match attempt() {
            Err(Error::Load(LoadError::Send { object, source }))
                if source.kind() == io::ErrorKind::ConnectionReset && tries < TRIES_MAX =>
            {
                tracing::debug!(object, error = %source, "a blob is sent again");
                thread::sleep(RETRY_AFTER * tries);
            }
            outcome => return outcome,
        }
    }
}

fn failed(digest: &Digest, source: io::Error) -> Error {
    LoadError::Send { object: digest.to_string(), source }.into()
}

/// Counts what goes through, and stops when something else failed.
struct Counted<'a> {
    output: &'a mut dyn Write,
    sending: &'a Sending<'a>,
    item: &'a Item,
    sent: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.sending.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("given up because another part of the image failed"));
        }
        let count = self.output.write(bytes)?;
        self.sent += count as u64;
        self.sending.tell(self.item, SendStage::Sent(self.sent));
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// Hashes and measures what goes through.
struct Hashed<'a> {
    output: &'a mut dyn Outgoing,
    hasher: Hasher,
    size: u64,
}

impl Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.output.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}
