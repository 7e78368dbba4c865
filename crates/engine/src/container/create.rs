//! `create`: checks a request, merges it with its image, and makes the container's record and places.

use std::sync::Arc;

use corten_api::Timestamp;
use corten_api::container::{ContainerCreateRequest, ContainerCreateResponse};
use corten_api::volume::VolumeCreateRequest;

use super::{Container, Phase, Record, config};
use crate::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::id;
use crate::mounts::{MountKind, ResolvedMount, resolve};
use crate::spec;

impl Engine {
    pub async fn container_create(
        &self,
        name: Option<String>,
        platform: Option<String>,
        request: ContainerCreateRequest,
    ) -> Result<ContainerCreateResponse> {
        let image = self.find_image_for(&request.config.image, platform.as_deref())?;
        self.create_from(&image, name, request).await.map_err(|error| match error.kind {
            // Clients take "not found" for a missing image, pull it and try again.
            ErrorKind::NotFound => Error::invalid(error.message),
            _ => error,
        })
    }

    async fn create_from(
        &self,
        image: &corten_image::Image,
        name: Option<String>,
        request: ContainerCreateRequest,
    ) -> Result<ContainerCreateResponse> {
        let ContainerCreateRequest { mut config, mut host_config, networking_config } = request;
        let image_config = crate::image::api_config(image);
        config::merge(&mut config, &image_config);
        config::arguments(&config)?;
        self.fill_defaults(&mut host_config);
        let mut warnings = Vec::new();
        self.check(&config, &host_config, &mut warnings)?;
        let network = self.check_network(&config, &host_config, &networking_config)?;
        self.settle_network_partner(&mut host_config)?;
        let id = id::random();
        let name = self.choose_name(name)?;
        if config.hostname.is_empty() && !host_config.network_mode.eq("host") {
            config.hostname = id::short(&id).to_owned();
        } else if config.hostname.is_empty() {
            config.hostname = self.host.name.clone();
        }
        let inherited = self.inherited_mounts(&host_config.volumes_from)?;
        let mut mounts = resolve(&config, &host_config, inherited)?;
        // Named now, so that the record tells whose they are even before they are made.
        for mount in &mut mounts {
            if mount.kind == MountKind::Volume && mount.volume.is_empty() {
                mount.volume = id::random();
            }
            if mount.kind == MountKind::Image && mount.image.is_empty() {
                mount.image = self.find_image_for(&mount.source, None)?.id.to_string();
            }
        }
        check_volume_driver(&host_config.volume_driver, &mounts)?;
        let record = Record {
            id: id.clone(),
            name,
            created: Timestamp::now(),
            image_id: image.id.to_string(),
            config,
            host_config,
            networks: network,
            mounts,
            ..Record::default()
        };
        let container = Arc::new(Container::new(record));
        // From the next line on others find it by its name: they may not start or remove what is half-made.
        let turn = container.operation.lock().await;
        self.containers.insert(container.clone())?;
        let furnished = self.furnish(&container, image).await;
        if let Err(error) = furnished {
            // Nothing half-made stays: neither the name nor a file.
            container.write().state.phase = Phase::Removing;
            container.progress.send_modify(|progress| progress.removed = true);
            self.containers.remove(&id);
            self.remove_anonymous_volumes(&container);
            let _ = self.store.discard_container(&id);
            self.collector().discard(id);
            return Err(error);
        }
        drop(turn);
        self.container_event(&container, "create", &[]);
        Ok(ContainerCreateResponse { id, warnings: warnings.into() })
    }

    /// Makes directories, volumes and the durable record of a container that has its name.
    async fn furnish(&self, container: &Arc<Container>, image: &corten_image::Image) -> Result<()> {
        let places = self.places(&container.id);
        std::fs::create_dir_all(places.directory.join("log"))
            .map_err(|e| Error::io("create", &places.directory, e))?;
        self.images.create_snapshot(&container.id, image).map_err(crate::image::failed)?;
        let mounts = container.read().mounts.clone();
        let mounts = self.make_sources(container, mounts).await?;
        container.write().mounts = mounts;
        self.store.put_container(&container.id, &*container.read())
    }

    /// Fills in volumes' directories; makes volumes and, for `-v`, missing host directories.
    async fn make_sources(
        &self,
        container: &Arc<Container>,
        mut mounts: Vec<ResolvedMount>,
    ) -> Result<Vec<ResolvedMount>> {
        for mount in &mut mounts {
            match mount.kind {
                MountKind::Tmpfs | MountKind::Image => {}
                MountKind::Bind => {
                    if mount.create_source && !std::path::Path::new(&mount.source).exists() {
                        std::fs::create_dir_all(&mount.source).map_err(|e| {
                            Error::internal(format!(
                                "error while creating mount source path '{}': {e}",
                                mount.source
                            ))
                        })?;
                    }
                }
                MountKind::Volume => {
                    let request = VolumeCreateRequest {
                        name: mount.volume.clone(),
                        labels: mount.labels.iter().cloned().collect(),
                        driver_opts: mount.driver_options.iter().cloned().collect(),
                        ..VolumeCreateRequest::default()
                    };
                    let (volume, new) = self.volumes.create(&request, mount.anonymous)?;
                    mount.volume = volume.name;
                    mount.source = volume.mountpoint;
                    if new {
                        self.volume_event(&mount.volume, "create", &[("driver", "local")]);
                    }
                    if mount.copy_up {
                        self.copy_up(container, mount).await?;
                    }
                }
            }
        }
        Ok(mounts)
    }

    fn choose_name(&self, wish: Option<String>) -> Result<String> {
        if let Some(name) = wish.filter(|name| !name.is_empty()) {
            let name = name.strip_prefix('/').unwrap_or(&name).to_owned();
            id::check_name("container", &name)?;
            return Ok(name);
        }
        (0..64)
            .map(id::random_name)
            .find(|name| self.containers.is_name_free(name))
            .ok_or_else(|| Error::internal("no free random container name found"))
    }

    fn fill_defaults(&self, host: &mut corten_api::container::HostConfig) {
        let defaults = &self.options.defaults;
        if host.log_config.kind.is_empty() {
            host.log_config.kind.clone_from(&defaults.log_driver);
            if host.log_config.config.is_empty() {
                host.log_config.config = defaults.log_options.iter().cloned().collect();
            }
        }
        if host.memory > 0 && host.memory_swap == 0 {
            // As much swap again as memory.
            host.memory_swap = host.memory.saturating_mul(2);
        }
        host.memory_swappiness = host.memory_swappiness.filter(|&swappiness| swappiness != -1);
        host.pids_limit = host.pids_limit.filter(|&limit| limit > 0);
        if host.shm_size == 0 {
            host.shm_size = defaults.shm_size;
        }
        if host.network_mode.is_empty() || host.network_mode == "default" {
            host.network_mode = "bridge".to_owned();
        }
        if host.restart_policy.name.is_empty() {
            host.restart_policy.name = "no".to_owned();
        }
        if host.runtime.is_empty() {
            host.runtime = "corten".to_owned();
        }
        if host.cgroupns_mode.is_empty() {
            host.cgroupns_mode =
                if self.host.unified && !host.privileged { "private" } else { "host" }.to_owned();
        }
        if host.ipc_mode.is_empty() {
            host.ipc_mode = "private".to_owned();
        }
        if host.masked_paths.is_nil() && !host.privileged {
            host.masked_paths = spec::default_masked_paths().into();
        }
        if host.readonly_paths.is_nil() && !host.privileged {
            host.readonly_paths = spec::default_readonly_paths().into();
        }
    }

    fn inherited_mounts(&self, from: &[String]) -> Result<Vec<ResolvedMount>> {
        let mut inherited = Vec::new();
        for text in from {
            let (name, mode) = text.split_once(':').unwrap_or((text, "rw"));
            let read_only = match mode {
                "ro" => true,
                "rw" | "z" | "Z" => false,
                _ => return Err(Error::invalid(format!("invalid mode for volumes-from: {mode}"))),
            };
            let source = self.containers.find(name)?;
            let mounts = source.read().mounts.clone();
            inherited.extend(mounts.into_iter().filter(|mount| mount.kind != MountKind::Tmpfs).map(
                |mut mount| {
                    mount.read_only |= read_only;
                    mount.anonymous = false;
                    mount.copy_up = false;
                    mount
                },
            ));
        }
        Ok(inherited)
    }
}

/// A driver of others is of no matter to a container without volumes.
fn check_volume_driver(driver: &str, mounts: &[ResolvedMount]) -> Result<()> {
    if matches!(driver, "" | "local") || mounts.iter().all(|mount| mount.kind != MountKind::Volume) {
        return Ok(());
    }
    Err(Error::not_found(format!("error looking up volume plugin {driver}: plugin \"{driver}\" not found")))
}
