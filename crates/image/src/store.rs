//! The image store: opening it, finding images, giving and taking names, and who may delete what when.
//!
//! Truth is the database (one writer at a time); reads are answered by the [`Catalogue`] in memory. Files are
//! added before the rows that name them and deleted after those rows are gone, so a crash leaves files too many,
//! never too few, and opening the store deletes what no row names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, flock};

use crate::archive::LoadLimits;
use crate::blobs::Blobs;
use crate::catalogue::{Catalogue, Image, Unresolved};
use crate::config::ImageConfig;
use crate::digest::{Digest, ImageId};
use crate::error::Error;
use crate::layer::{DriverKind, ImportedLayer, Layers};
use crate::manifest::Descriptor;
use crate::metadata::{Database, DocumentRow, ImageRow, LayerRow, NameRow, NewImage, SnapshotRow};
use crate::mounts::LayerMounts;
use crate::reference::Reference;

mod arrivals;
mod compose;
mod history;
mod platforms;
mod recover;
mod remove;
mod session;
mod snapshots;
mod usage;
mod writeout;

pub use history::HistoryEntry;
pub use platforms::{ManifestInfo, ManifestKind};
pub use remove::{Removal, RemoveOptions, Removed, User};
pub use usage::{ImageUsage, LayerUsage, Usage};

pub use snapshots::Rootfs;

pub(crate) use arrivals::{Arrivals, Claim};
pub(crate) use compose::Composition;
pub(crate) use platforms::reach;
pub(crate) use session::Session;

#[cfg(test)]
mod tests;

/// How a store is opened.
#[derive(Clone, Debug, Default)]
pub struct StoreOptions {
    /// How layers are kept; by default what the store was made with, else the best this kernel can mount.
    pub driver: Option<DriverKind>,
    /// What an archive may cost.
    pub limits: LoadLimits,
}

/// Images, their content and their snapshots under one directory. Shared by all threads of one process.
pub struct Store {
    pub(crate) root: PathBuf,
    pub(crate) snapshots: PathBuf,
    pub(crate) limits: LoadLimits,
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) layers: Arc<Layers>,
    driver: DriverKind,
    /// A mutex, because SQLite has one writer anyway; held for one transaction, never while files are written.
    writer: Arc<Mutex<Database>>,
    /// Many readers, and a writer for the instant after a transaction. Taken after `writer`, never before.
    catalogue: RwLock<Catalogue>,
    snapshot_rows: RwLock<BTreeMap<String, SnapshotRow>>,
    sessions: Mutex<session::Sessions>,
    /// How many builds there were: each holds content under a number of its own.
    holders: AtomicU64,
    pub(crate) arrivals: Arrivals,
    writeout: writeout::Writeout,
    mounts: RwLock<Option<Weak<LayerMounts>>>,
    boot: String,
    /// Keeps other processes out as long as the store lives.
    _lock: File,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("root", &self.root)
            .field("driver", &self.driver)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens or creates the store under `root`; containers' writable layers go under `snapshots`.
    ///
    /// Whatever an interrupted process left half-made is deleted here.
    pub fn open(root: &Path, snapshots: &Path, options: StoreOptions) -> Result<Store, Error> {
        // What images and containers hold is for who may talk to the engine, not for every user of the host.
        for path in [root, snapshots] {
            corten_sys::private::directory(path, 0o700).map_err(file_error("create", path))?;
        }
        let lock_path = root.join("lock");
        let lock = File::create(&lock_path).map_err(file_error("open", &lock_path))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| Error::Locked(root.to_owned()))?;
        let boot_path = Path::new("/proc/sys/kernel/random/boot_id");
        let boot = fs::read_to_string(boot_path).map_err(file_error("read", boot_path))?.trim().to_owned();
        let driver = recover::settle_driver(root, options.driver)?;
        let blobs = Arc::new(Blobs::open(&root.join("blobs"))?);
        let layers = Arc::new(Layers::open(&root.join("layers"), driver)?);
        let database_path = root.join("images.db");
        corten_sys::private::file(&database_path).map_err(file_error("open", &database_path))?;
        let mut database = Database::open(&database_path)?;
        recover::sweep(&mut database, &blobs, &layers, snapshots, &boot)?;
        let (catalogue, rows) = (read_catalogue(&database)?, database.snapshots()?);
        let unsynced = database.pending_sync()?;
        let writer = Arc::new(Mutex::new(database));
        let writeout = writeout::Writeout::start(blobs.clone(), writer.clone());
        writeout.push(unsynced);
        Ok(Store {
            root: root.to_owned(),
            snapshots: snapshots.to_owned(),
            limits: options.limits,
            blobs,
            layers,
            driver,
            writer,
            catalogue: RwLock::new(catalogue),
            snapshot_rows: RwLock::new(rows.into_iter().map(|row| (row.id.clone(), row)).collect()),
            sessions: Mutex::default(),
            holders: AtomicU64::new(0),
            arrivals: Arrivals::default(),
            writeout,
            mounts: RwLock::new(None),
            boot,
            _lock: lock,
        })
    }

    /// How this store keeps layers.
    pub fn driver(&self) -> DriverKind {
        self.driver
    }

    /// Tells the store who mounts its layers, so that a deleted layer is unmounted before its file goes:
    /// the bytes of a file that is still mounted don't come back.
    pub fn use_mounts(&self, mounts: &Arc<LayerMounts>) {
        *self.mounts.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::downgrade(mounts));
    }

    /// Finds the image that a user means: a name, `name@digest`, an ID or the beginning of one.
    pub fn resolve(&self, text: &str) -> Result<Arc<Image>, Error> {
        self.resolve_target(text).map(|(image, _)| image)
    }

    /// As [`Store::resolve`], with the canonical name if it was found by name.
    pub(crate) fn resolve_target(&self, text: &str) -> Result<(Arc<Image>, Option<Reference>), Error> {
        let catalogue = self.catalogue();
        let by_id = text.strip_prefix("sha256:").or_else(|| (text.len() == 64).then_some(text));
        if let Some(hex) = by_id
            && let Ok(image) = catalogue.find_prefix(hex)
        {
            return Ok((image.clone(), None));
        }
        let reference = match Reference::parse(text) {
            Ok(reference) => reference,
            Err(_) if by_id.is_some() => return Err(Error::NotFound(text.to_owned())),
            Err(error) => return Err(error.into()),
        };
        if let Some((image, _)) = catalogue.find_reference(&reference) {
            return Ok((image.clone(), Some(reference)));
        }
        match catalogue.find_prefix(text) {
            Ok(image) => Ok((image.clone(), None)),
            Err(Unresolved::Ambiguous) => Err(Error::Ambiguous(text.to_owned())),
            Err(Unresolved::None) => Err(Error::NotFound(reference.familiar())),
        }
    }

    /// The image that has a name, and the digest of the manifest or index that the name was given to.
    pub fn named(&self, name: &Reference) -> Option<(Arc<Image>, Digest)> {
        self.catalogue().find_reference(name).map(|(image, target)| (image.clone(), target))
    }

    /// All names with tags in a name's repository, sorted.
    pub fn tags_of(&self, repository: &Reference) -> Vec<Reference> {
        let prefix = format!("{}:", repository.name());
        let catalogue = self.catalogue();
        let names = catalogue.names().filter(|name| name.starts_with(&prefix));
        let mut names: Vec<Reference> =
            names.filter_map(|name| Reference::parse_untagged(name).ok()).collect();
        names.sort();
        names
    }

    /// The image with exactly this ID.
    pub fn image(&self, id: &ImageId) -> Option<Arc<Image>> {
        self.catalogue().image(id).cloned()
    }

    /// All images, the newest first; not those that are other platforms of one.
    pub fn list(&self) -> Result<Vec<Arc<Image>>, Error> {
        let mut images: Vec<Arc<Image>> =
            self.catalogue().images().filter(|image| !image.is_hidden()).cloned().collect();
        images.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        Ok(images)
    }

    /// Gives an image another name; the name's earlier image keeps living without it.
    pub fn tag(&self, source: &str, target: &str) -> Result<Arc<Image>, Error> {
        let name = Reference::parse(target)?;
        if name.digest().is_some() {
            return Err(Error::TagByDigest);
        }
        let (image, found_as) = self.resolve_target(source)?;
        let descriptor = match &found_as {
            Some(reference) => self.catalogue().find_reference(reference).map(|(_, digest)| digest),
            None => None,
        };
        let row = NameRow {
            name: name.to_string(),
            image: image.id,
            target: descriptor.unwrap_or(image.descriptor.digest),
            tagged_at: now_ns(),
        };
        let mut database = self.writer();
        // The image may have been removed since it was resolved; the foreign key says so.
        if database.image(&image.id)?.is_none() {
            return Err(Error::NotFound(source.to_owned()));
        }
        let previous = self.catalogue().named(&row.name).map(|named| named.image);
        database.change(|change| change.set_name(&row))?;
        self.refresh(&database, previous.into_iter().chain([image.id]))?;
        self.image(&image.id).ok_or_else(|| Error::NotFound(source.to_owned()))
    }

    /// The bytes of a manifest, index or configuration.
    pub fn document(&self, digest: &Digest) -> Result<DocumentRow, Error> {
        self.writer().document(digest)?.ok_or(Error::NoContent(*digest))
    }

    /// A number under which nobody else holds content.
    pub(crate) fn new_holder(&self) -> u64 {
        self.holders.fetch_add(1, Ordering::Relaxed)
    }

    /// Waits until everything that was loaded is on the disk, power cut or not.
    pub fn sync(&self) {
        self.writeout.wait();
    }

    pub(crate) fn writer(&self) -> MutexGuard<'_, Database> {
        // A panic inside a transaction rolled it back; the database is whole.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn catalogue(&self) -> RwLockReadGuard<'_, Catalogue> {
        self.catalogue.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn catalogue_mut(&self) -> RwLockWriteGuard<'_, Catalogue> {
        self.catalogue.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds images in one transaction; what they bring must be in its place already.
    pub(crate) fn add(&self, images: &[NewImage]) -> Result<(), Error> {
        self.add_all(images, None).map(drop)
    }

    /// Adds one image; gives it even when somebody removes it right away.
    pub(crate) fn add_one(&self, new: &NewImage) -> Result<Arc<Image>, Error> {
        let added = self.add_all(std::slice::from_ref(new), None)?.pop();
        added.ok_or_else(|| Error::NotFound(new.image.id.to_string()))
    }

    /// The same of another platform of an image.
    fn add_member(&self, new: &NewImage, owner: ImageId) -> Result<Arc<Image>, Error> {
        let added = self.add_all(std::slice::from_ref(new), Some(owner))?.pop();
        added.ok_or(Error::NoContent(new.image.id))
    }

    fn add_all(&self, images: &[NewImage], owner: Option<ImageId>) -> Result<Vec<Arc<Image>>, Error> {
        let mut database = self.writer();
        let mut touched: BTreeSet<ImageId> = images.iter().map(|new| new.image.id).collect();
        for name in images.iter().flat_map(|new| &new.names) {
            touched.extend(self.catalogue().named(&name.name).map(|named| named.image));
        }
        let mut fresh = Vec::new();
        for new in images {
            for blob in new.blobs.iter().filter(|blob| blob.stored) {
                if database.blob(&blob.digest)?.is_none() {
                    fresh.push(blob.digest);
                }
            }
        }
        database.change(|change| -> Result<(), Error> {
            images.iter().try_for_each(|new| change.add_image(new))?;
            if let Some(owner) = &owner {
                images.iter().try_for_each(|new| change.add_member(&new.image.id, owner))?;
            }
            Ok(fresh.iter().try_for_each(|content| change.mark_unsynced(content, &self.boot))?)
        })?;
        self.refresh(&database, touched)?;
        // Under the lock of those who remove.
        let added = images.iter().filter_map(|new| self.image(&new.image.id)).collect();
        drop(database);
        self.writeout.push(fresh);
        Ok(added)
    }

    /// Notes that an image is known elsewhere by another manifest than here: by its name with the digest of that.
    pub(crate) fn note_published(
        &self,
        image: &Image,
        name: &Reference,
        top: DocumentRow,
    ) -> Result<(), Error> {
        let name = NameRow { name: name.to_string(), image: image.id, target: top.digest, tagged_at: 0 };
        let row = ImageRow {
            id: image.id,
            manifest: image.manifest,
            parent: image.parent,
            made_as: None,
            stored_at: image.stored_at,
        };
        let documents = vec![top];
        let (blobs, layers, stack) = (Vec::new(), Vec::new(), Vec::new());
        self.add(&[NewImage { image: row, documents, blobs, layers, stack, names: vec![name] }])
    }

    /// Brings the catalogue up to the database for the images that a change touched.
    fn refresh(&self, database: &Database, touched: impl IntoIterator<Item = ImageId>) -> Result<(), Error> {
        for id in touched {
            match database.image(&id)? {
                Some(row) => {
                    let (image, names) = read_image(database, &row)?;
                    self.catalogue_mut().put(image, &names);
                }
                None => drop(self.catalogue_mut().take(&id)),
            }
        }
        Ok(())
    }
}

fn read_catalogue(database: &Database) -> Result<Catalogue, Error> {
    let mut catalogue = Catalogue::default();
    for row in database.images()? {
        let (image, names) = read_image(database, &row)?;
        catalogue.put(image, &names);
    }
    Ok(catalogue)
}

fn read_image(database: &Database, row: &ImageRow) -> Result<(Image, Vec<NameRow>), Error> {
    let document = database.document(&row.id)?.ok_or(Error::NoContent(row.id))?;
    let config: ImageConfig =
        serde_json::from_slice(&document.bytes).map_err(|source| Error::Config { name: row.id, source })?;
    let names = database.names(Some(&row.id))?;
    let stack = database.stack(&row.id)?;
    let mut size = 0;
    let mut blobs = Vec::with_capacity(stack.len());
    for (diff_id, blob) in &stack {
        size += database.layer(diff_id)?.ok_or(Error::NoContent(*diff_id))?.unpacked_bytes;
        blobs.push(database.blob(blob)?.ok_or(Error::NoContent(*blob))?);
    }
    // What was pushed from here under a digest of its own is not what the image is here.
    let given = names.iter().filter(|name| name.tagged_at > 0);
    let target = given
        .max_by_key(|name| name.tagged_at)
        .map_or(row.made_as.unwrap_or(row.manifest), |name| name.target);
    let target = database.document(&target)?.ok_or(Error::NoContent(target))?;
    let image = Image {
        id: row.id,
        created: config.created.clone(),
        config,
        config_bytes: document.bytes.into(),
        manifest: row.manifest,
        made_as: row.made_as,
        descriptor: Descriptor::new(&target.media_type, target.digest, target.bytes.len() as u64),
        layers: stack.into_iter().map(|(diff_id, _)| diff_id).collect(),
        blobs,
        size,
        repo_tags: Vec::new(),
        repo_digests: Vec::new(),
        parent: row.parent,
        owner: database.owner(&row.id)?,
        stored_at: row.stored_at,
        tagged_at: None,
    };
    Ok((image, names))
}

/// The row of a layer that was just imported.
pub(crate) fn layer_row(layer: &ImportedLayer) -> LayerRow {
    LayerRow {
        diff_id: layer.id,
        tar_bytes: layer.tar_bytes,
        unpacked_bytes: layer.unpacked_bytes,
        disk_bytes: layer.disk_bytes,
    }
}

/// Unix nanoseconds.
pub(crate) fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

pub(crate) fn file_error(step: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { step, path, source }
}
