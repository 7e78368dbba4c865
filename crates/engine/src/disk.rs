//! Where the disk's bytes are: by kind of object as Docker counts them, and every byte below the data root.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use corten_api::container::ContainerListOptions;
use corten_api::disk::{BuildCache, DataRootPart, DataRootUsage, DiskUsage, DiskUsageOptions, KindUsage};
use corten_api::filters::Filters;
use corten_api::image::ImageListOptions;
use corten_api::volume::VolumeUsage;

use crate::Engine;
use crate::error::{Error, Result};
use crate::image::{blocking, failed};
use crate::volume::options::Content;
use crate::volume::{disk_usage, file_bytes};

impl Engine {
    /// What objects take, with the objects themselves.
    pub async fn disk_usage(&self, asked: DiskUsageOptions) -> Result<DiskUsage> {
        let mut usage = DiskUsage::default();
        if asked.images {
            usage.image_usage = Some(self.images_usage().await?);
        }
        if asked.containers {
            usage.container_usage = Some(self.containers_usage().await?);
        }
        if asked.volumes {
            let engine = self.clone();
            usage.volume_usage = Some(blocking(move || engine.volumes_usage()).await?);
        }
        if asked.build_cache {
            let engine = self.clone();
            let items = blocking(move || engine.build_cache_records()).await?;
            // What an image has as well is counted there.
            let own = |item: &&BuildCache| !item.shared;
            usage.build_cache_usage = Some(KindUsage {
                active_count: items.iter().filter(|item| item.in_use).count() as i64,
                total_count: items.len() as i64,
                total_size: items.iter().filter(own).map(|item| item.size).sum(),
                reclaimable: items.iter().filter(own).filter(|item| !item.in_use).map(|item| item.size).sum(),
                items: items.into(),
            });
        }
        Ok(usage)
    }

    async fn images_usage(&self) -> Result<KindUsage<corten_api::image::ImageSummary>> {
        let items = self.image_list(&ImageListOptions { shared_size: true, ..Default::default() }).await?;
        let engine = self.clone();
        let (total_size, reclaimable) = blocking(move || engine.layer_bytes()).await?;
        Ok(KindUsage {
            active_count: items.iter().filter(|image| image.containers > 0).count() as i64,
            total_count: items.len() as i64,
            total_size,
            reclaimable,
            items: items.into(),
        })
    }

    /// Bytes of all layers, each counted once, and of those that no container's image has.
    fn layer_bytes(&self) -> Result<(i64, i64)> {
        let used: HashSet<String> =
            self.containers.all().iter().map(|container| container.read().image_id.clone()).collect();
        let mut needed = HashSet::new();
        for image in self.images.list().map_err(failed)? {
            if used.contains(&image.id.to_string()) {
                needed.extend(image.layers.iter().copied());
            }
        }
        let layers = self.images.usage().map_err(failed)?.layers;
        let sum = |wanted: &dyn Fn(&corten_image::DiffId) -> bool| {
            let bytes =
                layers.iter().filter(|layer| wanted(&layer.diff_id)).map(|layer| layer.unpacked_bytes);
            signed(bytes.sum())
        };
        Ok((sum(&|_| true), sum(&|layer| !needed.contains(layer))))
    }

    async fn containers_usage(&self) -> Result<KindUsage<corten_api::container::ContainerSummary>> {
        let options = ContainerListOptions { all: true, size: true, ..Default::default() };
        let mut items = self.container_list(&options).await?;
        items.iter_mut().for_each(|container| container.image_manifest_descriptor = None);
        let active = |state: &str| matches!(state, "running" | "paused" | "restarting");
        let idle = items.iter().filter(|container| !active(&container.state));
        Ok(KindUsage {
            reclaimable: idle.clone().map(|container| container.size_rw).sum(),
            active_count: (items.len() - idle.count()) as i64,
            total_count: items.len() as i64,
            total_size: items.iter().map(|container| container.size_rw).sum(),
            items: items.into(),
        })
    }

    fn volumes_usage(&self) -> Result<KindUsage<corten_api::volume::Volume>> {
        let mut users: HashMap<String, HashSet<String>> = HashMap::new();
        for container in self.containers.listed() {
            for mount in container.read().mounts.iter().filter(|mount| !mount.volume.is_empty()) {
                users.entry(mount.volume.clone()).or_default().insert(container.id.clone());
            }
        }
        let mut usage = KindUsage::default();
        let mut items = self.volumes.list(&Filters::new(), &|_| 0)?;
        for volume in &mut items {
            let ref_count = users.get(&volume.name).map_or(0, HashSet::len) as i64;
            let size = self.volume_bytes(&volume.name);
            volume.usage_data = Some(VolumeUsage { ref_count, size });
            usage.total_size += size.max(0);
            match ref_count {
                0 => usage.reclaimable += size.max(0),
                _ => usage.active_count += 1,
            }
        }
        usage.total_count = items.len() as i64;
        usage.items = items.into();
        Ok(usage)
    }

    /// Its files' bytes; the disk's for one with a limit; -1 for what lies elsewhere, or has just been removed.
    fn volume_bytes(&self, name: &str) -> i64 {
        match self.volumes.record(name).and_then(|record| record.content()) {
            Ok(Content::Directory) => signed(file_bytes(&self.volumes.data(name))),
            Ok(Content::Limited(_)) => signed(disk_usage(&self.volumes.directory(name))),
            Ok(Content::FileSystem(_)) | Err(_) => -1,
        }
    }

    /// Every byte below the data root, by what it is.
    pub async fn data_root_usage(&self) -> Result<DataRootUsage> {
        let engine = self.clone();
        blocking(move || engine.account()).await
    }

    fn account(&self) -> Result<DataRootUsage> {
        let root = &self.options.data_root;
        let entries = std::fs::read_dir(root).map_err(|e| Error::io("read", root, e))?;
        let mut parts: Vec<DataRootPart> = PARTS
            .iter()
            .map(|name| DataRootPart { name: (*name).to_owned(), ..Default::default() })
            .collect();
        let mut add = |name: &str, bytes: u64, path: Option<&Path>| {
            let Some(part) = parts.iter_mut().find(|part| part.name == name) else { return };
            part.bytes += bytes;
            part.paths.extend(path.map(|path| path.display().to_string()));
        };
        for entry in entries.flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            match name.to_string_lossy().as_ref() {
                "image" => {
                    for entry in std::fs::read_dir(&path).into_iter().flatten().flatten() {
                        let part = match entry.file_name().to_string_lossy().as_ref() {
                            "blobs" => "image blobs",
                            "layers" => "image layers",
                            _ => "databases",
                        };
                        add(part, bytes_of(&entry.path()), None);
                    }
                }
                "snapshots" => add("writable layers", disk_usage(&path), None),
                "containers" => {
                    let (all, logs) = (disk_usage(&path), log_bytes(&path));
                    add("container logs", logs, None);
                    add("container files", all.saturating_sub(logs), None);
                }
                "volumes" => add("volumes", disk_usage(&path), None),
                "build" => add("cache mounts and contexts", disk_usage(&path), None),
                "events" => add("events", disk_usage(&path), None),
                "engine.db" | "engine.db-wal" | "engine.db-shm" | "engine.reserve" => {
                    add("databases", bytes_of(&path), None);
                }
                _ => add("other", bytes_of(&path), Some(&path)),
            }
        }
        parts.retain(|part| part.bytes > 0);
        let disk = self.disk_space()?;
        Ok(DataRootUsage {
            path: root.display().to_string(),
            total: parts.iter().map(|part| part.bytes).sum(),
            parts: parts.into(),
            disk_size: disk.total_bytes,
            disk_available: disk.free_bytes,
        })
    }

    /// Of the file system that holds the data root.
    pub(crate) fn disk_space(&self) -> Result<DiskSpace> {
        let root = &self.options.data_root;
        let disk = rustix::fs::statvfs(root.as_path()).map_err(|e| Error::io("stat", root, e))?;
        let total_bytes = disk.f_blocks * disk.f_frsize;
        // What root can still write there.
        Ok(DiskSpace { total_bytes, free_bytes: disk.f_bfree * disk.f_frsize })
    }
}

/// How large a file system is, and what of it is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DiskSpace {
    pub total_bytes: u64,
    pub free_bytes: u64,
}

/// In the order in which they are told.
const PARTS: [&str; 10] = [
    "image layers",
    "image blobs",
    "writable layers",
    "container logs",
    "container files",
    "volumes",
    "cache mounts and contexts",
    "events",
    "databases",
    "other",
];

/// Of a file, or of a directory with all that is in it.
fn bytes_of(path: &Path) -> u64 {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.is_dir() => metadata.blocks() * 512,
        _ => disk_usage(path),
    }
}

/// Each container has its logs in one directory.
fn log_bytes(containers: &Path) -> u64 {
    let directories = std::fs::read_dir(containers).into_iter().flatten().flatten();
    directories.map(|directory| disk_usage(&directory.path().join("log"))).sum()
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
