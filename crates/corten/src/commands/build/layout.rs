//! An OCI image layout in a directory of the user's (image specification, "OCI Image Layout"): caches are kept there, and images that
//! builds begin with. The engine never sees the directory: it asks for blobs, and hands some over.
//!
//! No link below the directory is followed. A blob is written beside its place and takes it whole, and the list of what is there is
//! replaced last: who is killed leaves what was there before, and a file that the next one removes.

use std::collections::HashSet;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use corten_build::{Content, ContentPieces, ContentWriter};
use corten_image::Digest;
use corten_image::build::CACHE_CONFIG;
use corten_image::digest::Hasher;
use corten_image::manifest::{Descriptor, Document, Manifest, media};
use futures_util::StreamExt;
use futures_util::stream::unfold;
use rustix::fs::{Access, AtFlags, Dir, FlockOperation, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

const INDEX: &str = "index.json";
const MARK: &str = "oci-layout";
const BLOBS: &str = "blobs/sha256";
/// What the name of an unfinished file begins with.
const UNFINISHED: &str = ".corten-";
/// An unfinished file that is as old as this, and that nobody holds, is one that somebody has left.
const UNFINISHED_AGE: Duration = Duration::from_secs(60);

/// The annotations by which an index names what is in it: a tag, and a whole name.
const TAG: &str = "org.opencontainers.image.ref.name";
const NAME: &str = "io.containerd.image.name";

/// Bytes of a list or a manifest that are read at most.
const DOCUMENT_BYTES_MAX: u64 = 4 << 20;
/// Bytes of all manifests and indexes that are read at most to learn what the directory needs, and what each counts for at least.
const DOCUMENTS_BYTES_MAX: u64 = 64 << 20;
const DOCUMENT_BYTES_MIN: u64 = 4 << 10;
/// What is read of a blob at once.
const PIECE_BYTES: usize = 256 << 10;

#[derive(Clone)]
pub struct Layout {
    root: Arc<OwnedFd>,
    path: PathBuf,
    /// The engine may hand over blobs for it.
    is_writable: bool,
}

impl Layout {
    /// Opens a directory to read from.
    pub fn open(path: &Path) -> io::Result<Layout> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Layout { root: Arc::new(root), path: path.to_owned(), is_writable: false })
    }

    /// Opens a directory to write to, whose list can be replaced if it has one.
    pub fn writable(path: &Path) -> io::Result<Layout> {
        let layout = Layout { is_writable: true, ..Layout::open(path)? };
        rustix::fs::accessat(&*layout.root, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)?;
        layout.index()?;
        Ok(layout)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What a tag stands for; without one what `latest` does, or the only thing that is there.
    pub fn find(&self, tag: Option<&str>) -> io::Result<Option<Digest>> {
        let index = self.index()?;
        let entries = entries(&index);
        let wanted = tag.unwrap_or("latest");
        let named = |key| entries.iter().find(|entry| annotation(entry, key) == Some(wanted));
        let only = || entries.first().filter(|_| tag.is_none() && entries.len() == 1);
        let found = named(NAME).or_else(|| named(TAG)).or_else(only);
        let digest = |entry: &Value| entry["digest"].as_str().unwrap_or_default().parse::<Digest>();
        found.map(|entry| digest(entry).map_err(|error| self.wrong(&error.to_string()))).transpose()
    }

    /// Lists a manifest that is there by a tag, and removes what of the cache that had the tag nobody needs any more. Gives why some of
    /// that stays, where it does.
    pub fn list(&self, tag: &str, manifest: &Descriptor) -> io::Result<Option<io::Error>> {
        // By its digest it always names the same: nobody need wait for that.
        let mut own = Names::new(self);
        own.add(manifest)?;
        // Held until the end of this: whoever else has built lists one after the other.
        let lock = rustix::fs::openat(&*self.root, ".", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
        if let Some(missing) = own.digests.iter().find(|digest| !matches!(self.length(digest), Ok(Some(_)))) {
            let text = format!("{missing} is gone: another build has removed it, try again");
            return Err(io::Error::other(text));
        }
        let mut index = self.index()?;
        let (replaced, mut kept): (Vec<Value>, Vec<Value>) =
            entries(&index).iter().cloned().partition(|entry| annotation(entry, TAG) == Some(tag));
        let others = kept.clone();
        kept.push(json!({
            "mediaType": manifest.media_type,
            "digest": manifest.digest,
            "size": manifest.size,
            "annotations": {TAG: tag},
        }));
        index["manifests"] = Value::from(kept);
        if self.small(MARK)?.is_none() {
            self.replace(MARK, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        // After a crash of the host, too, the list names what is there: the blobs' names are on the disk before it is, and it before
        // others go.
        for directory in [BLOBS, "blobs", "."] {
            sync_directory(&self.open_below(directory, OFlags::DIRECTORY)?)?;
        }
        self.replace(INDEX, index.to_string().as_bytes())?;
        sync_directory(&lock)?;
        // What is too much only takes room.
        Ok(self.sweep(&own, &replaced, &others))
    }

    /// Removes the blobs of caches that are listed no more and that nothing that is listed has, and what others have left unfinished. Goes
    /// on where something fails, and gives the first failure.
    fn sweep(&self, own: &Names, replaced: &[Value], others: &[Value]) -> Option<io::Error> {
        let unfinished = [".", BLOBS].map(|directory| self.sweep_unfinished(directory).err());
        let mut failure = unfinished.into_iter().flatten().next();
        let mut read = Names::new(self);
        let mut gone = HashSet::new();
        for entry in replaced {
            match descriptor(entry).and_then(|top| Ok((top.digest, read.document(&top)?))) {
                // What others have put here is theirs to remove.
                Ok((digest, Some(Document::Manifest(manifest))))
                    if manifest.config.media_type == CACHE_CONFIG =>
                {
                    gone.extend(parts(&manifest).chain([digest]));
                }
                Ok(_) => {}
                Err(error) => drop(failure.get_or_insert(error)),
            }
        }
        gone.retain(|digest| !own.digests.contains(digest));
        if gone.is_empty() {
            return failure;
        }
        let mut needed = Names::new(self);
        for entry in others {
            // It may need anything.
            if let Err(error) = descriptor(entry).and_then(|top| needed.add(&top)) {
                return Some(error);
            }
        }
        let blobs = match self.open_below(BLOBS, OFlags::DIRECTORY) {
            Ok(blobs) => blobs,
            Err(error) => return Some(error.into()),
        };
        for digest in gone.difference(&needed.digests) {
            match rustix::fs::unlinkat(&blobs, digest.hex(), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => drop(failure.get_or_insert(error.into())),
            }
        }
        failure
    }

    /// The first failure, after which it has gone on.
    fn sweep_unfinished(&self, directory: &str) -> io::Result<()> {
        let place = self.open_below(directory, OFlags::DIRECTORY)?;
        let mut outcome = Ok(());
        for entry in Dir::read_from(&place)? {
            let entry = entry?;
            if entry.file_name().to_bytes().starts_with(UNFINISHED.as_bytes()) {
                match remove_left(&place, entry.file_name()) {
                    // Whoever is at it has given it its name, or somebody else has removed it; or it never was a file of ours.
                    Ok(()) | Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => {}
                    Err(error) => outcome = outcome.and(Err(error.into())),
                }
            }
        }
        outcome
    }

    /// A manifest or an index; none where it is not there.
    fn document(&self, descriptor: &Descriptor) -> io::Result<Option<Document>> {
        let digest = descriptor.digest;
        let Some(bytes) = self.small(&blob(&digest))? else { return Ok(None) };
        if Digest::of(&bytes) != digest {
            return Err(self.wrong(&format!("{digest} has other bytes than its name says")));
        }
        let document = Document::parse(&bytes, &descriptor.media_type);
        document.map(Some).map_err(|error| self.wrong(&format!("{digest}: {error}")))
    }

    /// The list of what is there; an empty one where there is none.
    fn index(&self) -> io::Result<Value> {
        let Some(bytes) = self.small(INDEX)? else {
            return Ok(json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": []}));
        };
        let index: Value = serde_json::from_slice(&bytes)
            .map_err(|error| self.wrong(&format!("{INDEX} can't be read: {error}")))?;
        match index["manifests"].is_array() && index["schemaVersion"] == 2 {
            true => Ok(index),
            false => Err(self.wrong(&format!("{INDEX} is no image index"))),
        }
    }

    fn wrong(&self, what: &str) -> io::Error {
        let text = format!("{} is no OCI image layout that can be used: {what}", self.path.display());
        io::Error::new(io::ErrorKind::InvalidData, text)
    }

    /// A small file; none where there is none.
    fn small(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.file(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(DOCUMENT_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        match bytes.len() as u64 > DOCUMENT_BYTES_MAX {
            true => Err(self.wrong(&format!("{name} is larger than {} MiB", DOCUMENT_BYTES_MAX >> 20))),
            false => Ok(Some(bytes)),
        }
    }

    /// A file that is one itself, and reached by no link.
    fn file(&self, name: &str) -> io::Result<Option<File>> {
        // A pipe must not keep us waiting.
        let file = match self.open_below(name, OFlags::NONBLOCK) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::XDEV) => {
                return Err(self.wrong(&format!("{name} is a link, or lies behind one")));
            }
            Err(error) => return Err(error.into()),
        };
        match file.metadata()?.is_file() {
            true => Ok(Some(file)),
            false => Err(self.wrong(&format!("{name} is no file"))),
        }
    }

    fn open_below(&self, name: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::openat2(&*self.root, name, flags, Mode::empty(), resolve)
    }

    fn length(&self, digest: &Digest) -> io::Result<Option<u64>> {
        self.file(&blob(digest))?.map(|file| Ok(file.metadata()?.len())).transpose()
    }

    /// Replaces a file whole.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut unfinished = Unfinished::new(self.root.clone())?;
        unfinished.file.write_all(bytes)?;
        unfinished.finish(name)
    }

    /// Begins a blob.
    fn begin(&self) -> io::Result<Unfinished> {
        for directory in ["blobs", BLOBS] {
            match rustix::fs::mkdirat(&*self.root, directory, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let blobs = self.open_below(BLOBS, OFlags::DIRECTORY).map_err(|error| match error {
            Errno::LOOP | Errno::XDEV => self.wrong(&format!("{BLOBS} is a link, or lies behind one")),
            error => error.into(),
        })?;
        Unfinished::new(Arc::new(blobs))
    }
}

/// What manifests and indexes name. Each is read once, and no more of them than is bounded: who has written them is a stranger.
struct Names<'l> {
    layout: &'l Layout,
    read: HashSet<Digest>,
    /// Bytes that may still be read.
    left: u64,
    digests: HashSet<Digest>,
}

impl<'l> Names<'l> {
    fn new(layout: &'l Layout) -> Names<'l> {
        let (read, digests) = Default::default();
        Names { layout, read, left: DOCUMENTS_BYTES_MAX, digests }
    }

    /// Adds a manifest or an index, and all that it names. One that is not there names nothing.
    fn add(&mut self, top: &Descriptor) -> io::Result<()> {
        let mut waiting = vec![top.clone()];
        while let Some(next) = waiting.pop() {
            self.digests.insert(next.digest);
            match self.document(&next)? {
                Some(Document::Manifest(manifest)) => self.digests.extend(parts(&manifest)),
                Some(Document::Index(index)) => {
                    let new = |below: &Descriptor| !self.read.contains(&below.digest);
                    let mut seen = HashSet::new();
                    waiting.extend(
                        index.manifests.into_iter().filter(|below| new(below) && seen.insert(below.digest)),
                    );
                }
                None => {}
            }
        }
        Ok(())
    }

    /// One that was not read before, and is there.
    fn document(&mut self, descriptor: &Descriptor) -> io::Result<Option<Document>> {
        if !self.read.insert(descriptor.digest) {
            return Ok(None);
        }
        let length = self.layout.length(&descriptor.digest)?.unwrap_or(0).max(DOCUMENT_BYTES_MIN);
        self.left = self.left.checked_sub(length).ok_or_else(|| {
            let (count, mib) = (DOCUMENTS_BYTES_MAX / DOCUMENT_BYTES_MIN, DOCUMENTS_BYTES_MAX >> 20);
            self.layout
                .wrong(&format!("it lists more than {count} manifests, or more than {mib} MiB of them"))
        })?;
        self.layout.document(descriptor)
    }
}

fn parts(manifest: &Manifest) -> impl Iterator<Item = Digest> {
    manifest.layers.iter().chain([&manifest.config]).map(|part| part.digest)
}

fn descriptor(entry: &Value) -> io::Result<Descriptor> {
    Ok(serde_json::from_value(entry.clone())?)
}

/// Removes an unfinished file that somebody has left.
fn remove_left(place: &OwnedFd, name: &CStr) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(place, name, flags, Mode::empty())?;
    let modified = rustix::fs::fstat(&file)?.st_mtime;
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(modified).unwrap_or(0));
    let is_old = SystemTime::now().duration_since(modified).is_ok_and(|age| age > UNFINISHED_AGE);
    match is_old && rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
        true => rustix::fs::unlinkat(place, name, AtFlags::empty()),
        false => Ok(()),
    }
}

fn sync_directory(directory: &OwnedFd) -> io::Result<()> {
    match rustix::fs::fsync(directory) {
        // Some file systems of networks and of programs have nothing to do for it (fsync(2)).
        Ok(()) | Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn blob(digest: &Digest) -> String {
    format!("{BLOBS}/{}", digest.hex())
}

fn entries(index: &Value) -> &[Value] {
    index["manifests"].as_array().map_or(&[], Vec::as_slice)
}

fn annotation<'e>(entry: &'e Value, key: &str) -> Option<&'e str> {
    entry["annotations"][key].as_str()
}

/// A file that is to take its name when it is whole; it is locked until then, and goes when it is dropped before.
struct Unfinished {
    directory: Arc<OwnedFd>,
    /// Empty when it has its own name.
    name: String,
    file: File,
}

impl Unfinished {
    fn new(directory: Arc<OwnedFd>) -> io::Result<Unfinished> {
        let mut number = [0; 8];
        rustix::rand::getrandom(&mut number, rustix::rand::GetRandomFlags::empty())?;
        let name = format!("{UNFINISHED}{:016x}", u64::from_ne_bytes(number));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o644);
        let file = File::from(rustix::fs::openat(&*directory, &name, flags, mode)?);
        let unfinished = Unfinished { directory, name, file };
        rustix::fs::flock(&unfinished.file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(unfinished)
    }

    fn finish(mut self, name: &str) -> io::Result<()> {
        self.file.sync_all()?;
        rustix::fs::renameat(&*self.directory, &self.name, &*self.directory, name)?;
        self.name.clear();
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.name.is_empty() {
            let _ = rustix::fs::unlinkat(&*self.directory, &self.name, AtFlags::empty());
        }
    }
}

#[async_trait]
impl Content for Layout {
    async fn size(&self, digest: &Digest) -> io::Result<Option<u64>> {
        let (layout, digest) = (self.clone(), *digest);
        apart(move || layout.length(&digest)).await
    }

    async fn read(&self, digest: &Digest, offset: u64) -> io::Result<ContentPieces> {
        let (layout, digest) = (self.clone(), *digest);
        let opened = move || {
            let missing = || io::Error::new(io::ErrorKind::NotFound, format!("{digest} is not there"));
            let mut file = layout.file(&blob(&digest))?.ok_or_else(missing)?;
            file.seek(SeekFrom::Start(offset))?;
            Ok(file)
        };
        let file = tokio::fs::File::from_std(apart(opened).await?);
        let pieces = unfold(file, |mut file| async move {
            let mut piece = BytesMut::with_capacity(PIECE_BYTES);
            match file.read_buf(&mut piece).await {
                Ok(0) => None,
                Ok(_) => Some((Ok(piece.freeze()), file)),
                Err(error) => Some((Err(error), file)),
            }
        });
        Ok(pieces.boxed())
    }

    async fn write(&self) -> io::Result<Box<dyn ContentWriter>> {
        if !self.is_writable {
            let text = format!("{} is for reading alone", self.path.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        let layout = self.clone();
        let unfinished = apart(move || layout.begin()).await?;
        Ok(Box::new(BlobWriter(Some((unfinished, Hasher::new())))))
    }
}

/// A blob that is coming; nothing of it is there any more when a write has failed.
struct BlobWriter(Option<(Unfinished, Hasher)>);

#[async_trait]
impl ContentWriter for BlobWriter {
    async fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        let (mut unfinished, mut hasher) = self.0.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let written = apart(move || {
            unfinished.file.write_all(&bytes)?;
            hasher.update(&bytes);
            Ok((unfinished, hasher))
        });
        self.0 = Some(written.await?);
        Ok(())
    }

    async fn finish(mut self: Box<Self>, digest: &Digest) -> io::Result<()> {
        let (unfinished, hasher) = self.0.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let actual = hasher.finish();
        if actual != *digest {
            return Err(io::Error::other(format!("what came is {actual}, and not {digest}")));
        }
        let name = digest.hex();
        apart(move || unfinished.finish(&name)).await
    }
}

/// Runs what waits for the disk away from the event loop.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests;
