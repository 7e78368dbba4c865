//! Layers on the disk: importing an uncompressed tar stream, reading files back without a mount, giving the
//! very same tar stream back, and removing.
//!
//! Two drivers stand behind [`Driver`]: `erofs` keeps a layer as one EROFS file, `dir` as a directory tree.
//! Both are fed by one importer (`import`), which parses, resolves every name in a tree in memory and so
//! decides what goes where; a driver only stores. A layer is known by its diff ID, the SHA-256 of the tar
//! stream. `docs/layer-format.md` has the formats. Knows nothing of images, compression and mounts (the
//! latter: [`crate::mounts`]).

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::digest::DiffId;
use crate::tar::{Device, TarError, Time, Xattrs};

mod chunks;
mod directory;
mod directory_files;
mod erofs;
mod files;
mod import;
mod recipe;
mod sink;
mod tree;

pub(crate) use directory::{dress, dress_name, open_beneath};
pub(crate) use directory_files::inspect;
pub use files::{FileKind, Found, LayerFiles, Stack};
pub use recipe::{Recipe, RecipeError};

use chunks::Source;
use directory::DirectoryDriver;
use erofs::ErofsDriver;

#[cfg(test)]
mod tests;

/// How layers lie on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DriverKind {
    /// One EROFS file per layer.
    Erofs,
    /// One directory tree per layer.
    Directory,
}

impl DriverKind {
    pub fn name(self) -> &'static str {
        match self {
            DriverKind::Erofs => "erofs",
            DriverKind::Directory => "dir",
        }
    }
}

impl FromStr for DriverKind {
    type Err = String;

    fn from_str(text: &str) -> Result<DriverKind, String> {
        match text {
            "erofs" => Ok(DriverKind::Erofs),
            "dir" => Ok(DriverKind::Directory),
            _ => Err(format!("unknown layer driver {text:?}: use erofs or dir")),
        }
    }
}

/// What one layer may cost; an archive that wants more is refused.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the uncompressed tar stream.
    pub tar_bytes_max: u64,
    /// Bytes that are not pages of zeros, which take no room.
    pub data_bytes_max: u64,
    /// Entries, and directories made because an entry needs them.
    pub entries_max: u64,
    /// The size of one file as programs see it (sparse files may be larger than their data).
    pub file_bytes_max: u64,
    /// Bytes of names, PAX records and sparse maps of one entry.
    pub metadata_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            tar_bytes_max: 1 << 40,
            data_bytes_max: u64::MAX,
            entries_max: 10_000_000,
            file_bytes_max: 1 << 43,
            metadata_bytes_max: 1 << 20,
        }
    }
}

/// However small a layer comes, it may hold so much data.
const DATA_BYTES: u64 = 4 << 30;
/// And so many times what it came in. Programs and texts have 3 to 20.
const DATA_RATIO: u64 = 400;
/// The same for entries, of which each takes some 230 bytes of memory: a name alone has more bytes than this.
const ENTRIES: u64 = 100_000;
const BYTES_PER_ENTRY: u64 = 16;

impl Limits {
    /// The same for a layer that comes in so many bytes: a few of them can't fill a disk or the memory.
    pub fn of_compressed(self, bytes: u64) -> Limits {
        let data = bytes.saturating_mul(DATA_RATIO).max(DATA_BYTES);
        let entries = (bytes / BYTES_PER_ENTRY).max(ENTRIES);
        Limits {
            data_bytes_max: self.data_bytes_max.min(data),
            entries_max: self.entries_max.min(entries),
            ..self
        }
    }
}

/// What to check while importing.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImportOptions {
    pub limits: Limits,
    /// The diff ID that the image's configuration promises; another one is an error and leaves nothing.
    pub expected: Option<DiffId>,
}

/// A layer that lies safely on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportedLayer {
    pub id: DiffId,
    /// The length of the tar stream.
    pub tar_bytes: u64,
    /// The sum of the file sizes, hard links counted once.
    pub unpacked_bytes: u64,
    /// Bytes of disk the layer takes.
    pub disk_bytes: u64,
    pub entries: u64,
    /// The layer hides everything below it. Overlayfs takes no notice of such a mark at the root: whoever stacks
    /// layers leaves those below out.
    pub opaque_root: bool,
    /// Whether the layer was there before.
    pub existed: bool,
}

/// Where a mount of the layer comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountSource {
    /// An EROFS image in a file.
    Erofs(PathBuf),
    /// A directory that is the layer.
    Directory(PathBuf),
}

/// Why a layer could not be stored, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    #[error("cannot open the layer store {path}")]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Tar(#[from] TarError),
    #[error("{entry:?}: the path leaves the layer")]
    Breakout { entry: String },
    #[error("{entry:?}: {reason}")]
    Entry { entry: String, reason: &'static str },
    #[error("{entry:?}: hard link to {target:?}, which is not in the layer")]
    HardLinkTarget { entry: String, target: String },
    #[error("the layer has more than {max} {what}")]
    Limit { what: &'static str, max: u64 },
    #[error("layer is {actual}, but the image wants {expected}")]
    Digest { expected: DiffId, actual: DiffId },
    #[error("cannot store {object}: no space left on the device (nothing of the layer is kept)")]
    NoSpace { object: String },
    #[error("cannot write {object}")]
    Write {
        object: String,
        #[source]
        source: io::Error,
    },
    #[error("no such layer: {0}")]
    Missing(DiffId),
    #[error("cannot read layer {id}")]
    Read {
        id: DiffId,
        #[source]
        source: io::Error,
    },
    #[error("layer {id} is damaged: {reason}")]
    Damaged { id: DiffId, reason: String },
    #[error("cannot write the layer's tar stream")]
    Output(#[source] io::Error),
}

impl LayerError {
    /// Names what was being written; a full disk gets its own words.
    pub(crate) fn write(object: impl Into<String>, source: io::Error) -> LayerError {
        let object = object.into();
        match source.raw_os_error() {
            // ENOSPC and EDQUOT.
            Some(28 | 122) => LayerError::NoSpace { object },
            _ => LayerError::Write { object, source },
        }
    }
}

/// The owner, mode, time and attributes of a file in a layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// 12 bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Time,
    /// By full name, sorted; only namespaces that every layer driver can keep.
    pub xattrs: Xattrs,
}

/// A file that is neither regular nor a directory nor a symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    CharDevice(Device),
    BlockDevice(Device),
    Fifo,
}

/// What a way of keeping layers must do. One instance serves all threads.
trait Driver: Send + Sync {
    fn kind(&self) -> DriverKind;
    /// Starts a layer in `directory`, a new and empty one.
    fn sink(&self, directory: &Path) -> Result<Box<dyn sink::Sink>, LayerError>;
    fn mount_source(&self, directory: &Path) -> MountSource;
    fn files(&self, id: DiffId, directory: &Path) -> Result<Box<dyn LayerFiles>, LayerError>;
    /// What a recipe's copies refer to.
    fn data(&self, id: DiffId, directory: &Path) -> Result<Box<dyn recipe::Data>, LayerError>;
}

/// The layers under one directory: `<dir>/<64 hex digits>/…`.
pub struct Layers {
    directory: PathBuf,
    driver: Box<dyn Driver>,
}

const RECIPE: &str = "tar.recipe";
/// What a crash may leave; swept when the store is opened.
const TEMPORARY: &str = "tmp-";

impl Layers {
    /// The driver that suits this host: `erofs` where the kernel has it.
    pub fn default_driver() -> DriverKind {
        // Opening the file system type loads its module; without the right to, what is loaded counts.
        let opened = rustix::mount::fsopen("erofs", rustix::mount::FsOpenFlags::FSOPEN_CLOEXEC).is_ok();
        let known = || fs::read_to_string("/proc/filesystems").is_ok_and(|list| list.contains("\terofs\n"));
        if opened || known() { DriverKind::Erofs } else { DriverKind::Directory }
    }

    /// Opens the store, making its directory, and removes what a crash left half-made. New layers are kept by
    /// the given driver; those that are there are read whichever made them.
    pub fn open(directory: &Path, driver: DriverKind) -> Result<Layers, LayerError> {
        let open = || -> io::Result<()> {
            fs::create_dir_all(directory)?;
            for entry in fs::read_dir(directory)? {
                let entry = entry?;
                if entry.file_name().as_encoded_bytes().starts_with(TEMPORARY.as_bytes()) {
                    corten_sys::tree::remove(&entry.path())?;
                }
            }
            Ok(())
        };
        open().map_err(|source| LayerError::Open { path: directory.to_owned(), source })?;
        let driver: Box<dyn Driver> = match driver {
            DriverKind::Erofs => Box::new(ErofsDriver),
            DriverKind::Directory => Box::new(DirectoryDriver),
        };
        Ok(Layers { directory: directory.to_owned(), driver })
    }

    pub fn driver(&self) -> DriverKind {
        self.driver.kind()
    }

    /// Stores the layer whose uncompressed tar stream `input` gives, to its end. `progress` gets the bytes read
    /// so far. On any error nothing stays on the disk; on success the layer survives a crash of the machine.
    pub fn import(
        &self,
        input: &mut dyn Read,
        options: &ImportOptions,
        progress: &dyn Fn(u64),
    ) -> Result<ImportedLayer, LayerError> {
        let temporary = Temporary::new(&self.directory)?;
        let path = &temporary.0;
        let recipe = File::create(path.join(RECIPE)).and_then(recipe::Writer::new);
        let mut recipe = recipe.map_err(|error| LayerError::write(RECIPE, error))?;
        let mut sink = self.driver.sink(path)?;
        let facts = std::thread::scope(|scope| {
            let mut source = Source::start(scope, input, progress, &options.limits);
            let parsed = import::import(&mut source, &mut *sink, &mut recipe, &options.limits)?;
            let (id, tar_bytes) = source.finish();
            if let Some(expected) = options.expected.filter(|expected| *expected != id) {
                return Err(LayerError::Digest { expected, actual: id });
            }
            let facts = Recipe {
                id,
                tar_bytes,
                unpacked_bytes: parsed.unpacked_bytes,
                entries: parsed.tree.entries(),
                opaque_root: parsed.tree.is_root_opaque(),
            };
            // The two wait for the disk, so they wait together.
            let recipe_done = scope.spawn(move || recipe.finish(&facts));
            let sink_done = sink.finish(&parsed.tree, id);
            let recipe_done = recipe_done.join().expect("writing a file does not panic");
            sink_done?;
            recipe_done.map_err(|error| LayerError::write(RECIPE, error))?;
            Ok(facts)
        })?;
        let existed = self.commit(temporary, &facts.id)?;
        self.describe(&facts, existed)
    }

    pub fn contains(&self, id: &DiffId) -> bool {
        self.path(id).join(RECIPE).exists()
    }

    /// All layers, in no particular order.
    pub fn list(&self) -> Result<Vec<DiffId>, LayerError> {
        let open = |source| LayerError::Open { path: self.directory.clone(), source };
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(open)? {
            let name = entry.map_err(open)?.file_name();
            ids.extend(name.to_str().and_then(DiffId::from_hex));
        }
        Ok(ids)
    }

    /// Sizes and counts of a layer.
    pub fn info(&self, id: &DiffId) -> Result<ImportedLayer, LayerError> {
        let recipe = Recipe::read(&mut self.recipe(id)?).map_err(|error| recipe_failed(*id, error))?;
        self.describe(&recipe, true)
    }

    /// Whether a layer hides everything below it. Overlayfs has no word for that: it merges the roots of all layers.
    pub fn is_opaque(&self, id: &DiffId) -> Result<bool, LayerError> {
        let recipe = Recipe::read(&mut self.recipe(id)?).map_err(|error| recipe_failed(*id, error))?;
        Ok(recipe.opaque_root)
    }

    /// Removes a layer at once. It must not be mounted.
    pub fn remove(&self, id: &DiffId) -> Result<(), LayerError> {
        let path = self.path(id);
        if !path.exists() {
            return Err(LayerError::Missing(*id));
        }
        // Renamed first: a crash leaves no half layer under its name.
        let temporary = Temporary::new(&self.directory)?;
        fs::rename(&path, temporary.0.join("layer"))
            .and_then(|()| corten_sys::tree::remove(&temporary.0))
            .map_err(|error| LayerError::write(path.display().to_string(), error))
    }

    /// Writes the layer's uncompressed tar stream, byte by byte as it was imported; gives its length.
    pub fn reproduce(&self, id: &DiffId, output: &mut dyn Write) -> Result<u64, LayerError> {
        let mut data = self.driver_of(id)?.data(*id, &self.path(id))?;
        recipe::reproduce(self.recipe(id)?, &mut *data, output).map_err(|error| recipe_failed(*id, error))
    }

    /// Opens a layer for reading single files.
    pub fn files(&self, id: &DiffId) -> Result<Box<dyn LayerFiles>, LayerError> {
        self.driver_of(id)?.files(*id, &self.path(id))
    }

    /// What to mount.
    pub fn mount_source(&self, id: &DiffId) -> Result<MountSource, LayerError> {
        Ok(self.driver_of(id)?.mount_source(&self.path(id)))
    }

    fn path(&self, id: &DiffId) -> PathBuf {
        self.directory.join(id.hex())
    }

    fn recipe(&self, id: &DiffId) -> Result<File, LayerError> {
        File::open(self.path(id).join(RECIPE)).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => LayerError::Missing(*id),
            _ => LayerError::Read { id: *id, source },
        })
    }

    /// The driver that made a layer.
    fn driver_of(&self, id: &DiffId) -> Result<&'static dyn Driver, LayerError> {
        let path = self.path(id);
        if path.join(directory::ROOT).is_dir() {
            return Ok(&DirectoryDriver);
        }
        if self.contains(id) { Ok(&ErofsDriver) } else { Err(LayerError::Missing(*id)) }
    }

    /// Gives a complete layer its name; true when it was there already.
    fn commit(&self, temporary: Temporary, id: &DiffId) -> Result<bool, LayerError> {
        let sync = |path: &Path| File::open(path)?.sync_all();
        let rename = || -> io::Result<bool> {
            sync(&temporary.0)?;
            match fs::rename(&temporary.0, self.path(id)) {
                Ok(()) => sync(&self.directory).map(|()| false),
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(true),
                Err(error) => Err(error),
            }
        };
        rename().map_err(|error| LayerError::write(format!("layer {id}"), error))
    }

    fn describe(&self, recipe: &Recipe, existed: bool) -> Result<ImportedLayer, LayerError> {
        let id = recipe.id;
        let disk_bytes = disk_usage(&self.path(&id)).map_err(|source| LayerError::Read { id, source })?;
        let Recipe { tar_bytes, unpacked_bytes, entries, opaque_root, .. } = *recipe;
        Ok(ImportedLayer { id, tar_bytes, unpacked_bytes, disk_bytes, entries, opaque_root, existed })
    }
}

fn recipe_failed(id: DiffId, error: RecipeError) -> LayerError {
    match error {
        RecipeError::Read(source) | RecipeError::Data(source) => LayerError::Read { id, source },
        RecipeError::Damaged(reason) => LayerError::Damaged { id, reason: reason.to_owned() },
        RecipeError::Output(source) => LayerError::Output(source),
    }
}

/// The bytes of disk below a directory; hard links count once.
fn disk_usage(path: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let (mut bytes, mut linked) = (0, std::collections::HashSet::new());
    let mut pending = vec![path.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.nlink() == 1 || metadata.is_dir() || linked.insert(metadata.ino()) {
                bytes += metadata.blocks() * 512;
            }
            if metadata.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    Ok(bytes)
}

/// A directory that is removed unless it was renamed.
struct Temporary(PathBuf);

impl Temporary {
    fn new(parent: &Path) -> Result<Temporary, LayerError> {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("{TEMPORARY}{}-{number}", std::process::id()));
        let made = fs::create_dir(&path);
        made.map_err(|error| LayerError::write(path.display().to_string(), error))?;
        Ok(Temporary(path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = corten_sys::tree::remove(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove a half-made layer");
        }
    }
}
