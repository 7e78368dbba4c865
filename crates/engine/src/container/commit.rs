//! What a container has changed, and an image made of it: `diff`, `commit`.

use std::sync::Arc;

use corten_api::archive::{CommitOptions, FilesystemChange};
use corten_api::container::ContainerConfig;
use corten_api::{List, json};
use corten_image::ChangeKind;
use corten_image::config::{Empty, Healthcheck, RunConfig};

use super::{Container, Phase};
use crate::Engine;
use crate::error::{Error, Result};
use crate::image::failed;

impl Engine {
    /// The files that differ from the image.
    pub async fn container_changes(&self, key: &str) -> Result<List<FilesystemChange>> {
        let container = self.containers.find(key)?;
        let (engine, id) = (self.clone(), container.id.clone());
        let changes =
            crate::image::blocking(move || engine.images.diff(&id, &engine.layers).map_err(failed)).await?;
        let kind = |kind| match kind {
            ChangeKind::Modified => 0,
            ChangeKind::Added => 1,
            ChangeKind::Deleted => 2,
        };
        // No changes are `null`.
        Ok(match changes.is_empty() {
            true => List::default(),
            false => changes
                .into_iter()
                .map(|change| FilesystemChange {
                    path: String::from_utf8_lossy(&change.path).into_owned(),
                    kind: kind(change.kind),
                })
                .collect(),
        })
    }

    /// An image of the container's files and settings; gives its id.
    pub async fn container_commit(
        &self,
        options: CommitOptions,
        config: Option<ContainerConfig>,
    ) -> Result<String> {
        let container = self.containers.find(&options.container)?;
        if container.phase() == Phase::Removing {
            return Err(Error::conflict(format!(
                "You cannot commit container {} which is being removed",
                container.id
            )));
        }
        let reference = match (options.repo.as_str(), options.tag.as_str()) {
            ("", _) => None,
            (repo, "") => Some(repo.to_owned()),
            (repo, tag) => Some(format!("{repo}:{tag}")),
        };
        let wish = {
            let record = container.read();
            let own = run_config(&record.config);
            corten_image::CommitOptions {
                parent: record
                    .image_id
                    .parse()
                    .map_err(|_| Error::internal("the container's image has no valid id"))?,
                config: config.as_ref().map_or_else(|| own.clone(), run_config),
                container: own,
                changes: options.changes,
                author: options.author,
                comment: options.comment.clone(),
                reference: reference.clone(),
            }
        };
        let frozen = options.pause && self.freeze_for_commit(&container).await;
        let (engine, committed) = (self.clone(), container.clone());
        let image = crate::image::blocking(move || {
            let is_there = || !committed.progress.borrow().removed;
            engine.images.commit(&committed.id, &engine.layers, &wish, &is_there).map_err(failed)
        })
        .await;
        if frozen {
            self.thaw_after_commit(&container).await;
        }
        self.collector().tidy();
        let image = image?;
        let id = image.id.to_string();
        self.image_event(&id, "create", &id);
        let name = image.repo_tags.iter().find(|_| reference.is_some()).cloned();
        if let Some(name) = &reference {
            self.image_event(&id, "tag", name);
        }
        let reference = reference.and(name).unwrap_or_default();
        self.container_event(
            &container,
            "commit",
            &[("comment", &options.comment), ("imageID", &id), ("imageRef", &reference)],
        );
        Ok(id)
    }

    /// Makes a running container stand still; whether it does. As in Docker one that can't is committed as it runs.
    async fn freeze_for_commit(&self, container: &Arc<Container>) -> bool {
        let _turn = container.operation.lock().await;
        if container.phase() != Phase::Running {
            return false;
        }
        let Ok(group) = self.cgroup(container) else { return false };
        // Written down first: should this engine be killed, the next one lets it go on.
        container.write().state.committing = true;
        self.save(container);
        let frozen = crate::image::blocking(move || {
            group.freeze().map_err(|error| {
                // Not all of it stood still in time: none of it shall.
                let _ = group.thaw();
                Error::internal(error.to_string())
            })
        });
        if let Err(error) = frozen.await {
            tracing::warn!(container = container.id, %error, "committed while it runs");
            container.write().state.committing = false;
            return false;
        }
        container.write().state.phase = Phase::Paused;
        self.container_event(container, "pause", &[]);
        true
    }

    async fn thaw_after_commit(&self, container: &Arc<Container>) {
        let _turn = container.operation.lock().await;
        if container.phase() == Phase::Paused {
            if let Err(error) = self.thaw(container).await {
                tracing::error!(container = container.id, %error, "a container stands still after its commit");
                return;
            }
            self.container_event(container, "unpause", &[]);
        }
        container.write().state.committing = false;
        if !container.progress.borrow().removed {
            self.save(container);
        }
    }
}

/// What of a container's settings an image keeps.
fn run_config(config: &ContainerConfig) -> RunConfig {
    let words = |list: &List<String>| (!list.is_nil()).then(|| list.to_vec());
    let names =
        |map: &corten_api::Map<json::Empty>| map.keys().map(|name| (name.clone(), Empty {})).collect();
    RunConfig {
        user: config.user.clone(),
        exposed_ports: names(&config.exposed_ports),
        env: config.env.to_vec(),
        entrypoint: words(&config.entrypoint),
        cmd: words(&config.cmd),
        healthcheck: config.healthcheck.as_ref().map(|health| Healthcheck {
            test: health.test.to_vec(),
            interval: health.interval,
            timeout: health.timeout,
            start_period: health.start_period,
            start_interval: health.start_interval,
            retries: health.retries,
        }),
        args_escaped: config.args_escaped,
        volumes: names(&config.volumes),
        working_dir: config.working_dir.clone(),
        on_build: config.on_build.to_vec(),
        labels: config.labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        stop_signal: config.stop_signal.clone(),
        stop_timeout: config.stop_timeout,
        shell: words(&config.shell).filter(|shell| !shell.is_empty()),
    }
}
