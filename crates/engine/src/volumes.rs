//! Volumes as the API has them, and their ties to containers.

use corten_api::filters::Filters;
use corten_api::volume::{Volume, VolumeCreateRequest, VolumeList, VolumesPruneReport};

use crate::Engine;
use crate::container::Container;
use crate::error::{Error, Result};
use crate::mounts::{MountKind, ResolvedMount};
use crate::volume::disk_usage;

impl Engine {
    pub async fn volume_create(&self, request: VolumeCreateRequest) -> Result<Volume> {
        let (volume, new) = self.volumes.create(&request, request.name.is_empty())?;
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
        self.volumes.inspect(name)
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
            let data = self.volumes.data(&volume.name);
            let bytes = crate::image::blocking(move || Ok(disk_usage(&data))).await?;
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

    /// Fills an empty volume with what the image has at its place, as its first container sees it.
    pub(crate) async fn copy_up(&self, container: &Container, mount: &ResolvedMount) -> Result<()> {
        let rootfs = self.images.rootfs(&container.id, &self.layers).map_err(crate::image::failed)?;
        let (engine, id) = (self.clone(), container.id.clone());
        let (name, inside) = (mount.volume.clone(), mount.destination.clone());
        crate::image::blocking(move || {
            engine.volumes.fill(&name, |target| {
                let root = engine
                    .layers
                    .detached_root(&rootfs, true)
                    .map_err(|e| Error::internal(format!("look into the image of container {id}: {e}")))?;
                corten_image::mounts::copy_tree(&root, std::path::Path::new(&inside), target).map_err(|e| {
                    Error::internal(format!("copy {inside} of the image into the volume {name}: {e}"))
                })
            })
        })
        .await
    }
}
