//! Where clients' directories are kept: one folder per directory of a client below the root. A folder is held by one build at a time; a second
//! build of the same directory gets a folder of its own (`KEY.1` and so on), and so keeps from changing what the first one reads.

use super::SyncError;
use super::entry::Entry;
use super::index;
use ring::digest::{SHA256, digest};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use std::{fs, io};

/// The name of a folder that serves one build only.
const ONCE: &str = "once";
/// How long a folder is kept that no build uses.
const KEPT_UNUSED: Duration = Duration::from_secs(7 * 24 * 3600);

/// All folders below a root.
#[derive(Clone)]
pub struct Store {
    root: PathBuf,
    held: Arc<Mutex<HashSet<String>>>,
}

impl Store {
    /// Below a directory that nobody else writes to; made when it is needed.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), held: Arc::default() }
    }

    /// The folder of a client's directory, which `names` tell apart from all others; without a name one that nobody gets again, as what
    /// it holds could be taken for somebody else's. Works on the disk.
    pub fn hold(&self, names: Option<&[&str]>) -> Result<Place, SyncError> {
        let swept = |source| SyncError::Disk { step: "sweep", path: self.root.display().to_string(), source };
        self.sweep().map_err(swept)?;
        let key = names.map_or_else(|| ONCE.to_owned(), key);
        let name = {
            let mut held = self.held();
            let name = (0..)
                .map(|copy: u32| if copy == 0 { key.clone() } else { format!("{key}.{copy}") })
                .find(|name| !held.contains(name))
                .unwrap_or(key);
            held.insert(name.clone());
            name
        };
        let mut place =
            Place { path: self.root.join(&name), name, held: self.held.clone(), entries: Vec::new() };
        place.open().map_err(|source| SyncError::Disk {
            step: "open",
            path: place.path.display().to_string(),
            source,
        })?;
        Ok(place)
    }

    /// Removes the folders that nobody holds, of those that `is_unwanted` picks by their name and last use; how many bytes that
    /// gives back.
    pub fn forget(&self, is_unwanted: impl Fn(&str, SystemTime) -> bool) -> io::Result<u64> {
        let mut bytes = 0;
        for (name, folder, used) in self.folders()? {
            // Held while it is removed, so that no build takes it in the middle.
            if !is_unwanted(&name, used) || !self.held().insert(name.clone()) {
                continue;
            }
            let _place = Place { path: folder.clone(), name, held: self.held.clone(), entries: Vec::new() };
            bytes += size(&folder);
            remove(&folder)?;
        }
        Ok(bytes)
    }

    /// Removes what an engine that was killed left for one use, and what has not been used for long.
    fn sweep(&self) -> io::Result<()> {
        let old = SystemTime::now().checked_sub(KEPT_UNUSED).unwrap_or(SystemTime::UNIX_EPOCH);
        self.forget(|name, used| is_for_once(name) || used < old).map(drop)
    }

    /// What is kept: an identity, its bytes, when it was used last, whether a build holds it.
    pub fn usage(&self) -> io::Result<Vec<KeptContext>> {
        let folders = self.folders()?;
        let held = self.held().clone();
        let usage = |(name, folder, used): (String, PathBuf, SystemTime)| KeptContext {
            bytes: size(&folder),
            in_use: held.contains(&name),
            used,
            name,
        };
        Ok(folders.into_iter().map(usage).collect())
    }

    fn folders(&self) -> io::Result<Vec<(String, PathBuf, SystemTime)>> {
        let list = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            list => list?,
        };
        let mut folders = Vec::new();
        for folder in list {
            let folder = folder?;
            let used = folder.metadata().and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            folders.push((folder.file_name().to_string_lossy().into_owned(), folder.path(), used));
        }
        Ok(folders)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one folder takes.
#[derive(Clone, Debug)]
pub struct KeptContext {
    pub name: String,
    pub bytes: u64,
    pub used: SystemTime,
    pub in_use: bool,
}

impl KeptContext {
    pub fn unused_for(&self) -> Duration {
        self.used.elapsed().unwrap_or_default()
    }
}

/// A folder that is held; given free when it is dropped.
pub struct Place {
    path: PathBuf,
    name: String,
    held: Arc<Mutex<HashSet<String>>>,
    entries: Vec<Entry>,
}

impl Place {
    /// The directory that holds the client's files.
    pub fn files(&self) -> PathBuf {
        self.path.join("files")
    }

    /// What it holds, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn take_entries(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.entries)
    }

    pub(super) fn keep(&mut self, entries: Vec<Entry>) {
        self.entries = entries;
    }

    /// From here on the files are not what the index says.
    pub(super) fn unsettle(&self) -> Result<(), SyncError> {
        remove_if_there(&self.index()).map_err(|source| self.failed("remove", source))
    }

    /// The files are these now.
    pub(super) fn settle(&mut self, entries: Vec<Entry>) -> Result<(), SyncError> {
        index::write(&self.index(), &entries).map_err(|source| self.failed("write", source))?;
        self.entries = entries;
        Ok(())
    }

    fn open(&mut self) -> io::Result<()> {
        if let Some(entries) = index::read(&self.index())? {
            self.entries = entries;
            // The folder's time says when it was used last.
            let now = fs::FileTimes::new().set_modified(SystemTime::now());
            return fs::File::open(&self.path)?.set_times(now);
        }
        remove(&self.path)?;
        fs::create_dir_all(self.files())?;
        // Other people's sources, secrets among them perhaps.
        fs::set_permissions(&self.path, std::os::unix::fs::PermissionsExt::from_mode(0o700))
    }

    fn index(&self) -> PathBuf {
        self.path.join("index")
    }

    fn failed(&self, step: &'static str, source: io::Error) -> SyncError {
        SyncError::Disk { step, path: self.index().display().to_string(), source }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let once = is_for_once(&self.name);
        let (name, path, held) =
            (std::mem::take(&mut self.name), std::mem::take(&mut self.path), self.held.clone());
        let release = move || {
            if is_for_once(&name)
                && let Err(error) = remove(&path)
            {
                // The next sweep tries again.
                tracing::warn!(%error, path = %path.display(), "remove a build's context");
            }
            held.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
        };
        // A build ends on a thread that must not wait for the disk.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if once => drop(runtime.spawn_blocking(release)),
            _ => release(),
        }
    }
}

fn is_for_once(name: &str) -> bool {
    name == ONCE || name.strip_prefix(ONCE).is_some_and(|rest| rest.starts_with('.'))
}

/// Removes a folder; its index first, so that what is half removed doesn't pass for whole.
fn remove(folder: &Path) -> io::Result<()> {
    remove_if_there(&folder.join("index"))?;
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn key(names: &[&str]) -> String {
    let joined: Vec<u8> = names.iter().flat_map(|name| [name.as_bytes(), b"\0"].concat()).collect();
    digest(&SHA256, &joined).as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The bytes of a tree on the disk; what vanishes meanwhile counts as nothing.
fn size(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let own = fs::symlink_metadata(path).map_or(0, |metadata| metadata.blocks() * 512);
    let below = fs::read_dir(path).into_iter().flatten().flatten();
    own + below
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => size(&entry.path()),
            _ => entry.metadata().map_or(0, |metadata| metadata.blocks() * 512),
        })
        .sum::<u64>()
}
