//! Volumes as the API has them, and their ties to containers.

use corten_api::Map;
use corten_api::filters::Filters;
use corten_api::volume::{Volume, VolumeCreateRequest, VolumeList, VolumesPruneReport};

use crate::Engine;
use crate::container::Container;
use crate::error::{Error, Result};
use crate::mounts::{MountKind, ResolvedMount};
use crate::volume::{disk_usage, options};

mod archive;
mod copies;
mod use_by;

pub use archive::VolumeExport;
pub use use_by::OpenVolume;

impl Engine {
    pub async fn volume_create(&self, request: VolumeCreateRequest) -> Result<Volume> {
        let anonymous = request.name.is_empty();
        self.make_volume(request, anonymous).await
    }

    /// Makes a volume, or gives the one of that name.
    pub(crate) async fn make_volume(&self, request: VolumeCreateRequest, anonymous: bool) -> Result<Volume> {
        let (volume, new) = if request.driver_opts.is_empty() {
            self.volumes.create(&request, anonymous)?
        } else {
            let engine = self.clone();
            crate::image::blocking(move || engine.volumes.create(&request, anonymous)).await?
        };
        if new {
            self.volume_event(&volume.name, "create", &[("driver", "local")]);
        }
        Ok(volume)
    }

    pub async fn volume_list(&self, filters: &Filters) -> Result<VolumeList> {
        let volumes = self.volumes.list(filters, &|name| self.volume_users(name).len())?;
        Ok(VolumeList { volumes: volumes.into(), ..VolumeList::default() })
    }

    pub async fn volume_inspect(&self, name: &str) -> Result<Volume> {
        let mut volume = self.volumes.inspect(name)?;
        if !volume.options.is_empty() {
            // Counting users waits for a mount that is being made.
            let (engine, name) = (self.clone(), name.to_owned());
            volume.status = crate::image::blocking(move || engine.volume_status(&name)).await?;
        }
        Ok(volume)
    }

    /// What is to be said of a volume that is more than a directory.
    fn volume_status(&self, name: &str) -> Result<Map<serde_json::Value>> {
        let record = self.volumes.record(name)?;
        let content = record.content()?;
        if content == options::Content::Directory {
            return Ok(Map::default());
        }
        let mut status = vec![("Users".to_owned(), self.mounted.users(name).into())];
        if let options::Content::Limited(bytes) = content {
            status.push(("QuotaBytes".to_owned(), bytes.into()));
            let storage = if record.project.is_some() { "project quota" } else { "ext4 in a file" };
            status.push(("Storage".to_owned(), storage.into()));
        }
        Ok(status.into_iter().collect())
    }

    pub async fn volume_remove(&self, name: &str, force: bool) -> Result<()> {
        self.drop_volume(name, force).map(drop)
    }

    /// Removes a volume that no container uses; false when there was none. Its files go to the collector.
    pub(crate) fn drop_volume(&self, name: &str, force: bool) -> Result<bool> {
        let Some(directory) = self.volumes.remove(name, force, &|name| self.volume_users(name))? else {
            return Ok(false);
        };
        self.collector().discard_directory(directory);
        self.volume_event(name, "destroy", &[("driver", "local")]);
        Ok(true)
    }

    /// Removes what no container uses: anonymous volumes, with the filter `all` named ones too.
    pub async fn volume_prune(&self, filters: &Filters) -> Result<VolumesPruneReport> {
        filters.validate(&["all", "label", "label!"]).map_err(|e| Error::invalid(e.to_string()))?;
        let all = filters.boolean("all").map_err(|e| Error::invalid(e.to_string()))?.unwrap_or(false);
        let labels: Filters = ["label", "label!"]
            .iter()
            .flat_map(|name| filters.get(name).map(move |value| (*name, value.to_owned())))
            .collect();
        let mut report = VolumesPruneReport::default();
        let mut deleted = Vec::new();
        for volume in self.volumes.list(&labels, &|_| 0)? {
            let wanted = all || self.volumes.is_anonymous(&volume.name);
            if !wanted || !self.volume_users(&volume.name).is_empty() {
                continue;
            }
            let bytes = self.volume_disk_bytes(&volume.name).await?;
            match self.drop_volume(&volume.name, true) {
                Ok(true) => {
                    report.space_reclaimed += bytes;
                    deleted.push(volume.name);
                }
                // Somebody was faster with it: to remove it, or to use it.
                Ok(false) => {}
                Err(error) if error.kind == crate::ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        report.volumes_deleted = deleted.into();
        self.prune_event("volume", report.space_reclaimed);
        Ok(report)
    }

    /// Ids of the containers that use a volume.
    pub(crate) fn volume_users(&self, name: &str) -> Vec<String> {
        let uses = |mount: &ResolvedMount| mount.kind == MountKind::Volume && mount.volume == name;
        self.containers
            .all()
            .iter()
            .filter(|container| container.read().mounts.iter().any(uses))
            .map(|container| container.id.clone())
            .collect()
    }

    /// What a volume takes of the data root's disk; nothing for what is mounted from elsewhere.
    pub async fn volume_disk_bytes(&self, name: &str) -> Result<u64> {
        let directory = self.volumes.directory(name);
        crate::image::blocking(move || Ok(disk_usage(&directory))).await
    }

    /// How many containers use a volume, running or not.
    pub fn volume_references(&self, name: &str) -> usize {
        self.volume_users(name).len()
    }

    /// Fills an empty volume with what the image has at its place, as its first container sees it.
    pub(crate) async fn copy_up(&self, container: &Container, mount: &ResolvedMount) -> Result<()> {
        let rootfs = self.images.rootfs(&container.id, &self.layers).map_err(crate::image::failed)?;
        let (engine, id) = (self.clone(), container.id.clone());
        let (name, inside) = (mount.volume.clone(), mount.destination.clone());
        crate::image::blocking(move || {
            let inside = std::path::Path::new(&inside);
            let look = || {
                engine
                    .layers
                    .detached_root(&rootfs, true)
                    .map_err(|e| Error::internal(format!("look into the image of container {id}: {e}")))
            };
            let copy = |target: &std::path::Path| {
                corten_image::mounts::copy_tree(&look()?, inside, target).map_err(|e| {
                    Error::internal(format!(
                        "copy {} of the image into the volume {name}: {e}",
                        inside.display()
                    ))
                })
            };
            match engine.file_system_of(&name)? {
                None => engine.volumes.fill(&name, copy),
                // It would be gone before the container starts.
                Some(wanted) if wanted.kind == "tmpfs" => Ok(()),
                // Nothing is mounted for nothing; what can't be mounted is told at the start.
                Some(_) if !corten_image::mounts::has_files(&look()?, inside) => Ok(()),
                Some(_) => {
                    let open = engine.open_volume(&name)?;
                    engine.volumes.fill_mounted(&name, &open.path(), copy)
                }
            }
        })
        .await
    }
}
