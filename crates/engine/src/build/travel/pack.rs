//! Directories of cache mounts on their way out: each is packed while nobody uses it, and sent like a layer. One that is at the target as
//! it is now is not packed again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use corten_build::{Built, CacheTarget, CacheWish, Event, Log, Stream, Teller};
use corten_image::build::CachedMount;
use corten_image::files::PackError;
use corten_image::manifest::Descriptor;
use corten_image::{
    ArtifactLayer, CompressionFormat, DiffId, Digest, PackedDirectory, explain, measure_directory,
    pack_directory,
};
use futures_util::future::FutureExt;

use super::super::cache::{CacheMounts, mount_key};
use super::super::context::Scratch;
use super::{MOUNT_BYTES_MAX, MOUNT_ENTRIES_MAX, warn};
use crate::{Engine, Error, Result};

/// How long a step of another build is waited for that uses a directory.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// A cache mount that is to go along.
pub(super) struct WantedMount {
    key: Digest,
    wish: CacheWish,
    /// The name of its directory, where this host has one.
    directory: Option<String>,
    /// What it is known to be, and how that is transported: its directory as it was packed last, else what a cache has.
    known: Option<(CachedMount, Descriptor)>,
}

/// One that goes.
pub(super) struct TravellingMount {
    pub listed: CachedMount,
    pub part: ArtifactLayer,
}

impl WantedMount {
    /// A blob that the target may have.
    pub fn known(&self) -> Option<(DiffId, Descriptor)> {
        self.known.as_ref().map(|(listed, blob)| (listed.layer, blob.clone()))
    }

    /// What no directory here has: another cache does.
    pub fn elsewhere(&self) -> Option<DiffId> {
        self.known.as_ref().filter(|_| self.directory.is_none()).map(|(listed, _)| listed.layer)
    }
}

impl Engine {
    /// The cache mounts that a target wants of a build.
    ///
    /// # Errors
    /// When it names one that no step has.
    pub(super) fn wanted_mounts(&self, built: &Built, target: &CacheTarget) -> Result<Vec<WantedMount>> {
        let used = built.outcomes.iter().flat_map(|outcome| &outcome.mounts);
        let ids: BTreeSet<&str> = used.clone().map(|mount| mount.wish.id.as_str()).collect();
        if let Some(id) = target.mounts.unknown(&ids) {
            let there = match ids.is_empty() {
                true => "they have none".to_owned(),
                false => format!("there are {}", ids.into_iter().collect::<Vec<_>>().join(", ")),
            };
            return Err(Error::invalid(format!(
                "no step of this build has the cache mount {id}, which mounts= names: {there}"
            )));
        }
        let mut wanted: BTreeMap<Digest, WantedMount> = BTreeMap::new();
        for mount in used.filter(|mount| target.mounts.has(&mount.wish.id)) {
            let key = mount_key(&mount.wish);
            let new = || WantedMount { key, wish: mount.wish.clone(), directory: None, known: None };
            let wanted = wanted.entry(key).or_insert_with(new);
            // What was used last, where a step was done; several are of those that only one step uses.
            let name = mount.directory.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
            wanted.directory = name.map(str::to_owned).or(wanted.directory.take());
        }
        wanted.into_values().map(|mount| self.located(built, target.mount_compression, mount)).collect()
    }

    /// With what is here of it, or else elsewhere.
    fn located(
        &self,
        built: &Built,
        format: CompressionFormat,
        mut mount: WantedMount,
    ) -> Result<WantedMount> {
        let mounts = &self.builds.mounts;
        let imported = built.worker.imported_mount(&mount.wish);
        if mount.directory.is_none() {
            // No step was done: what one would have used.
            let slot = CacheMounts::first(&mount.key.hex(), mount.wish.is_private);
            let brought = imported.as_ref().map(|there| mounts.imported(&slot, &there.layer)).transpose()?;
            mount.directory = match mounts.has_files(&slot) {
                true => Some(slot),
                false => brought.filter(|name| mounts.path(name).is_dir()),
            };
        }
        mount.known = match (&mount.directory, imported) {
            (Some(name), _) => mounts
                .packed(name)?
                .filter(|packed| packed.blob.media_type == format.layer_media_type())
                .map(|packed| (mount.listed(packed.layer, packed.tar_bytes), packed.blob)),
            (None, Some(there)) => {
                let blob = built.worker.elsewhere(&there.layer).map(|elsewhere| elsewhere.blob);
                blob.map(|blob| (mount.listed(there.layer, there.size), blob))
            }
            (None, None) => None,
        };
        Ok(mount)
    }

    /// Makes ready what is not at the target. One that has nothing in it, or can't go, is left out.
    pub(super) async fn travelling_mounts(
        &self,
        wanted: Vec<WantedMount>,
        there: &HashMap<DiffId, Descriptor>,
        format: CompressionFormat,
        built: &Built,
        teller: &Teller,
        vertex: Digest,
    ) -> Result<Vec<TravellingMount>> {
        let mut travelling = Vec::new();
        for mount in wanted {
            if let Some((listed, blob)) = &mount.known
                && there.contains_key(&listed.layer)
            {
                let part = ArtifactLayer::There(Box::new(blob.clone()));
                travelling.push(TravellingMount { listed: listed.clone(), part });
                continue;
            }
            let directory = match (&mount.directory, &mount.known) {
                (Some(name), _) => Some(name.clone()),
                (None, Some(_)) => brought(built, &mount.wish, teller, vertex).await?,
                (None, None) => None,
            };
            let Some(directory) = directory else { continue };
            let Some(packed) = self.packed_mount(&mount.wish.id, directory, format, teller, vertex).await?
            else {
                continue;
            };
            let listed = mount.listed(packed.diff_id, packed.tar_bytes);
            travelling.push(TravellingMount { listed, part: ArtifactLayer::Packed(packed) });
        }
        Ok(travelling)
    }

    /// Packs a directory while nobody uses it; none where it is empty or can't be.
    async fn packed_mount(
        &self,
        id: &str,
        name: String,
        format: CompressionFormat,
        teller: &Teller,
        vertex: Digest,
    ) -> Result<Option<Box<PackedDirectory>>> {
        let mounts = self.builds.mounts.clone();
        let alone = match mounts.alone(&name).now_or_never() {
            Some(alone) => alone,
            None => {
                say(teller, vertex, format!("waiting for the cache mount {id}, which a step uses")).await;
                let Ok(alone) = tokio::time::timeout(PATIENCE, mounts.alone(&name)).await else {
                    let minutes = PATIENCE.as_secs() / 60;
                    let why = format!("for {minutes} minutes steps of other builds have used it");
                    warn(teller, vertex, format!("the cache mount {id} is not in the cache: {why}")).await;
                    return Ok(None);
                };
                alone
            }
        };
        let engine = self.clone();
        let packed = self.heavily(move || {
            let packed = engine.pack_mount(&name, format);
            drop(alone);
            packed
        });
        match packed.await? {
            Outcome::Packed(packed) => {
                say(teller, vertex, format!("packed the cache mount {id}: {}", size(packed.tar_bytes))).await;
                Ok(Some(packed))
            }
            Outcome::Empty => Ok(None),
            Outcome::Unreadable(why) => {
                warn(teller, vertex, format!("the cache mount {id} is not in the cache: {why}")).await;
                Ok(None)
            }
            Outcome::TooLarge { bytes, entries } => {
                let text = format!(
                    "the cache mount {id} is not in the cache: it has {} in {entries} files and directories, and at most {} and \
                     {MOUNT_ENTRIES_MAX} travel",
                    size(bytes),
                    size(MOUNT_BYTES_MAX)
                );
                warn(teller, vertex, text).await;
                Ok(None)
            }
        }
    }

    /// The caller sees to it that nobody uses the directory.
    fn pack_mount(&self, name: &str, format: CompressionFormat) -> Result<Outcome> {
        let mounts = &self.builds.mounts;
        let path = mounts.path(name);
        let directory = match File::open(&path) {
            // It was pruned meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Outcome::Empty),
            Err(error) => return Ok(Outcome::Unreadable(error.to_string())),
            Ok(directory) => directory,
        };
        let (entries, bytes) = match measure_directory(&directory) {
            Ok(measured) => measured,
            Err(error) => return Ok(Outcome::Unreadable(error.to_string())),
        };
        if entries == 0 {
            return Ok(Outcome::Empty);
        }
        if bytes > MOUNT_BYTES_MAX || entries > MOUNT_ENTRIES_MAX {
            return Ok(Outcome::TooLarge { bytes, entries });
        }
        // The file lives as long as it is open.
        let scratch = self.mount_scratch()?;
        let at = scratch.path().join("blob");
        let file = File::options().read(true).write(true).create_new(true).open(&at);
        let file = file.map_err(|error| Error::io("create", &at, error))?;
        let packed = match pack_directory(&directory, format, file) {
            Ok(packed) => packed,
            Err(error @ PackError::Read { .. }) => return Ok(Outcome::Unreadable(explain(&error))),
            // There is no room for it.
            Err(error @ PackError::Write(_)) => return Err(Error::internal(explain(&error))),
        };
        mounts.note_packed(name, packed.diff_id, packed.tar_bytes, packed.blob.clone())?;
        Ok(Outcome::Packed(Box::new(packed)))
    }

    /// A place for what is to become a directory of a cache mount, or is made of one.
    pub(super) fn mount_scratch(&self) -> Result<Scratch> {
        let path = self.builds.mounts.hidden_path();
        super::super::cache::make_mount_parent(&path)?;
        self.build_scratch_at(path)
    }
}

enum Outcome {
    Packed(Box<PackedDirectory>),
    Empty,
    /// For people: why.
    Unreadable(String),
    TooLarge {
        bytes: u64,
        entries: u64,
    },
}

impl WantedMount {
    fn listed(&self, layer: DiffId, size: u64) -> CachedMount {
        CachedMount { id: self.wish.id.clone(), key: self.key, layer, size }
    }
}

/// The name of the directory that a cache brings here, since the target can't take what it has.
async fn brought(built: &Built, wish: &CacheWish, teller: &Teller, vertex: Digest) -> Result<Option<String>> {
    let directory = built.worker.cache_directory(wish.clone(), teller, vertex).await;
    let directory = directory.map_err(|error| Error::internal(error.to_string()))?;
    Ok(directory.path.file_name().and_then(|name| name.to_str()).map(str::to_owned))
}

async fn say(teller: &Teller, vertex: Digest, text: String) {
    let bytes = format!("{text}\n").into_bytes();
    let log = Log { vertex, stream: Stream::Stderr, bytes, at: std::time::SystemTime::now() };
    // Nobody listens any more: the build is about to end.
    let _ = teller.send(Event::Log(log)).await;
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes.div_ceil(1 << 10)),
        _ => format!("{} MiB", bytes.div_ceil(1 << 20)),
    }
}
