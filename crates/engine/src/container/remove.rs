//! Removing: out of every list at once, off the disk in the background.

use std::sync::Arc;

use corten_api::container::RemoveOptions;

use super::{Change, Container};
use crate::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::id;
use crate::mounts::MountKind;

impl Engine {
    pub async fn container_remove(&self, key: &str, options: RemoveOptions) -> Result<()> {
        if options.link {
            return self.remove_link(key).await;
        }
        let container = self.containers.find(key)?;
        loop {
            if container.phase().is_up() {
                self.end_for_removal(&container, key, options.force).await?;
            }
            match self.discard(&container, options.volumes).await {
                // A start was on its way.
                Err(_) if options.force && container.phase().is_up() => {}
                outcome => return outcome,
            }
        }
    }

    async fn end_for_removal(&self, container: &Arc<Container>, key: &str, force: bool) -> Result<()> {
        if !force {
            let state = container.phase().name();
            return Err(Error::conflict(format!(
                "cannot remove container \"{key}\": container is {state}: stop the container before removing or force remove"
            )));
        }
        container.note_asked(super::reason::By::Kill, super::stop::SIGKILL);
        self.note_stop(container);
        if self.call_off_restart(container).await {
            return Ok(());
        }
        self.signal(container, super::stop::SIGKILL).await?;
        if super::stop::wait_end(container, Some(std::time::Duration::from_secs(20))).await {
            return Ok(());
        }
        Err(Error::internal(format!("cannot remove container \"{key}\": it did not end after SIGKILL")))
    }

    /// Forgets a container that has ended; its files go to the collector.
    pub(super) async fn discard(&self, container: &Arc<Container>, anonymous_volumes: bool) -> Result<()> {
        let _turn = container.operation.lock().await;
        if container.progress.borrow().removed {
            // Somebody else was faster: an automatic removal, say.
            return Ok(());
        }
        let phase = container.phase();
        container.write().state.phase = phase.after(Change::Remove).ok_or_else(|| {
            Error::conflict(format!(
                "cannot remove container {}: it is {}",
                id::short(&container.id),
                phase.name()
            ))
        })?;
        let volumes = if anonymous_volumes { container.anonymous_volumes() } else { Vec::new() };
        if let Err(error) = self.store.discard_container(&container.id, &volumes) {
            container.write().state.phase = phase;
            return Err(error);
        }
        self.containers.remove(&container.id);
        if anonymous_volumes {
            self.remove_anonymous_volumes(container);
        }
        self.container_event(container, "destroy", &[]);
        container.progress.send_modify(|progress| progress.removed = true);
        self.forget_execs(container);
        self.collector().discard(container.id.clone());
        Ok(())
    }

    /// Removes what was made for this container alone, unless others use it too.
    pub(super) fn remove_anonymous_volumes(&self, container: &Container) {
        self.drop_volumes(&container.anonymous_volumes());
    }

    pub(super) fn drop_volumes(&self, names: &[String]) {
        for name in names {
            match self.drop_volume(name, true) {
                Err(error) if error.kind != ErrorKind::Conflict => {
                    tracing::warn!(volume = name, %error, "anonymous volume");
                }
                _ => {}
            }
        }
    }
}

impl Container {
    /// The volumes that were made for it alone.
    pub(super) fn anonymous_volumes(&self) -> Vec<String> {
        let record = self.read();
        let own = record.mounts.iter().filter(|mount| mount.kind == MountKind::Volume && mount.anonymous);
        own.map(|mount| mount.volume.clone()).collect()
    }
}
