//! `create`: checks a request, merges it with its image, and makes the container's record and places.

use std::sync::Arc;

use corten_api::Timestamp;
use corten_api::container::{ContainerCreateRequest, ContainerCreateResponse};
use corten_api::volume::VolumeCreateRequest;

use super::{Container, Phase, Record, config};
use crate::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::id;
use crate::mounts::{MountKind, RecursiveReadOnly, ResolvedMount, resolve};
use crate::spec;

impl Engine {
    pub async fn container_create(
        &self,
        name: Option<String>,
        platform: Option<String>,
        request: ContainerCreateRequest,
    ) -> Result<ContainerCreateResponse> {
        let image = self.image_for(&request.config.image, platform.as_deref()).await?;
        self.create_from(&image, name, request, None).await.map_err(|error| match error.kind {
            // Clients take "not found" for a missing image, pull it and try again.
            ErrorKind::NotFound => Error::invalid(error.message),
            _ => error,
        })
    }

    /// A container for a step of a build: with mounts of the builder's, and in no list.
    pub(crate) async fn create_build_step(
        &self,
        image: &corten_image::Image,
        request: ContainerCreateRequest,
        mounts: Vec<ResolvedMount>,
    ) -> Result<String> {
        Ok(self.create_from(image, None, request, Some(mounts)).await?.id)
    }

    async fn create_from(
        &self,
        image: &corten_image::Image,
        name: Option<String>,
        request: ContainerCreateRequest,
        build_mounts: Option<Vec<ResolvedMount>>,
    ) -> Result<ContainerCreateResponse> {
        let ContainerCreateRequest {
            mut config,
            mut host_config,
            networking_config,
            read_only_non_recursive,
        } = request;
        super::check::check_environment(&config)?;
        let image_config = crate::image::api_config(image);
        config::merge(&mut config, &image_config);
        config::arguments(&config)?;
        self.fill_defaults(&mut host_config);
        let mut warnings = Vec::new();
        self.check(&config, &host_config, &mut warnings)?;
        let network = self.check_network(&config, &host_config, &networking_config)?;
        self.settle_network_partner(&mut host_config)?;
        self.settle_links(&mut host_config.links)?;
        let id = id::random();
        let wish = name.filter(|name| !name.is_empty()).map(|name| wished_name(&name)).transpose()?;
        if config.hostname.is_empty() && !host_config.network_mode.eq("host") {
            config.hostname = id::short(&id).to_owned();
        } else if config.hostname.is_empty() {
            config.hostname = self.host.name.clone();
        }
        let inherited = self.inherited_mounts(&host_config.volumes_from)?;
        let mut mounts = resolve(&config, &host_config, inherited)?;
        // Named now, so that the record tells whose they are even before they are made.
        for mount in &mut mounts {
            if read_only_non_recursive && mount.recursive_read_only == RecursiveReadOnly::WherePossible {
                mount.recursive_read_only = RecursiveReadOnly::Never;
            }
            if mount.kind == MountKind::Volume && mount.volume.is_empty() {
                mount.volume = id::random();
            }
            if mount.kind == MountKind::Image && mount.image.is_empty() {
                mount.image = self.find_image_for(&mount.source)?.id.to_string();
            }
        }
        let is_build_step = build_mounts.is_some();
        mounts.extend(build_mounts.into_iter().flatten());
        check_volume_driver(&host_config.volume_driver, &mounts)?;
        let record = Record {
            id: id.clone(),
            created: Timestamp::now(),
            image_id: image.id.to_string(),
            config,
            host_config,
            networks: network,
            network_format: super::NETWORK_FORMAT,
            mounts,
            is_build_step,
            ..Record::default()
        };
        let container = Arc::new(Container::new(record));
        // From the next line on others find it by its name: they may not start or remove what is half-made.
        let turn = container.operation.lock().await;
        self.take_name(&container, wish)?;
        let furnished = self.furnish(&container, image).await;
        if let Err(error) = furnished {
            // Nothing half-made stays: neither the name nor a file.
            container.write().state.phase = Phase::Removing;
            container.progress.send_modify(|progress| progress.removed = true);
            self.containers.remove(&id);
            let _ = self.store.discard_unmade(&id, &container.anonymous_volumes());
            self.remove_anonymous_volumes(&container);
            self.collector().discard(id);
            return Err(error);
        }
        // Within its turn: a start that waits for it is told of later.
        self.container_event(&container, "create", &[]);
        drop(turn);
        Ok(ContainerCreateResponse { id, warnings: warnings.into() })
    }

    /// Makes directories, volumes and the durable record of a container that has its name.
    async fn furnish(&self, container: &Arc<Container>, image: &corten_image::Image) -> Result<()> {
        let places = self.places(&container.id);
        std::fs::create_dir_all(places.directory.join("log"))
            .map_err(|e| Error::io("create", &places.directory, e))?;
        self.images.create_snapshot(&container.id, image).map_err(crate::image::failed)?;
        let (mounts, volumes) = (container.read().mounts.clone(), container.anonymous_volumes());
        if !volumes.is_empty() {
            // An engine that is killed before the record is written leaves nobody else who knows of them.
            self.store.expect_container(&container.id, &volumes)?;
        }
        let mounts = self.make_sources(container, mounts).await?;
        container.write().mounts = mounts;
        self.store.add_container(&container.id, &*container.read())
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
                    let volume = self.make_volume(request, mount.anonymous).await?;
                    mount.volume = volume.name;
                    mount.source = volume.mountpoint;
                    if mount.copy_up {
                        self.copy_up(container, mount).await?;
                    }
                }
            }
        }
        Ok(mounts)
    }

    /// The name that somebody wishes, else a free one. From then on others find the container by it.
    fn take_name(&self, container: &Arc<Container>, wish: Option<String>) -> Result<()> {
        if let Some(name) = wish {
            container.write().name = name;
            return self.containers.insert(container.clone());
        }
        // A free one may have become another's by the time it is taken.
        let taken = (0..64).any(|attempt| {
            container.write().name = id::random_name(attempt);
            self.containers.insert(container.clone()).is_ok()
        });
        taken.then_some(()).ok_or_else(|| Error::internal("no free random container name found"))
    }

    fn fill_defaults(&self, host: &mut corten_api::container::HostConfig) {
        let defaults = &self.options.defaults;
        crate::logging::fill_defaults(&mut host.log_config, &defaults.log_driver, &defaults.log_options);
        if host.memory > 0 && host.memory_swap == 0 {
            host.memory_swap = default_swap(host.memory);
        }
        if !self.host.unified && host.oom_kill_disable.is_none() {
            host.oom_kill_disable = Some(false);
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
            host.runtime = self.options.runtimes.default_name().to_owned();
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

fn wished_name(text: &str) -> Result<String> {
    let name = text.strip_prefix('/').unwrap_or(text);
    id::check_name("container", name)?;
    Ok(name.to_owned())
}

/// A driver of others is of no matter to a container without volumes.
fn check_volume_driver(driver: &str, mounts: &[ResolvedMount]) -> Result<()> {
    if matches!(driver, "" | "local") || mounts.iter().all(|mount| mount.kind != MountKind::Volume) {
        return Ok(());
    }
    Err(Error::not_found(format!("error looking up volume plugin {driver}: plugin \"{driver}\" not found")))
}

/// Memory and swap together, where memory alone is limited: as much swap again.
pub(super) fn default_swap(memory: i64) -> i64 {
    memory.saturating_mul(2)
}
