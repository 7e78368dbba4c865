//! What a killed engine left half-done: starts nobody was told of, directories nobody has a record of, control groups
//! without a container.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use corten_runtime::cgroup::Cgroup;
use corten_runtime::monitor::protocol::Request;
use corten_runtime::monitor::{Connection, SOCKET};
use tracing::warn;

use super::{Container, Phase};
use crate::Engine;
use crate::error::{Error, Result};
use crate::link::MonitorLink;

/// How long a monitor may take to end a container that it has been asked to kill.
const END_DEADLINE: Duration = Duration::from_secs(10);

impl Engine {
    /// Takes back the start of a container that is recorded as not running: the engine was killed before it could write the start
    /// down, and nobody has had an answer. Without its record the container has no address and no ports.
    pub(super) async fn undo_start(&self, container: &Container) {
        let places = self.places(&container.id);
        if places.run.join(SOCKET).exists() {
            self.end_monitor(container, &places.run).await;
        }
        if !container.read().host_config.cgroup_parent.is_empty() {
            // Where the sweep of this instance's groups does not look.
            let group = self.cgroups_path(&container.read());
            if let Err(error) = crate::image::blocking(move || end_group(&group)).await {
                warn!(container = container.id, %error, "control group of an interrupted start");
            }
        }
    }

    async fn end_monitor(&self, container: &Container, run: &Path) {
        if let Ok(link) =
            Connection::open(run).map_err(|e| Error::internal(e.to_string())).and_then(MonitorLink::new)
        {
            warn!(container = container.id, "a start that was interrupted is undone");
            // The line's end says that all is gone; the sweep of the control groups gets what does not listen.
            if link.send(&Request::Signal { seq: 0, signal: super::stop::SIGKILL }, &[]).await.is_ok() {
                let gone = async { while link.receive().await.is_some() {} };
                let _ = tokio::time::timeout(END_DEADLINE, gone).await;
            }
        }
        let _ = std::fs::remove_file(run.join(SOCKET));
    }

    /// Containers that were to go with their end, and have ended or never begun, go now.
    pub(super) async fn finish_removal(&self, container: &Arc<Container>) {
        let unwanted = container.read().host_config.auto_remove || container.phase() == Phase::Removing;
        if unwanted && let Err(error) = self.discard(container, true).await {
            warn!(container = container.id, %error, "interrupted removal");
        }
    }

    /// Hands directories to the collector whose container was never recorded.
    pub(super) fn sweep_directories(&self) {
        for parent in [self.options.data_root.join("containers"), self.options.exec_root.join("containers")] {
            for id in unknown(&parent, |id| self.containers.knows(id)) {
                self.collector().discard(id);
            }
        }
    }

    /// Ends what runs in control groups of this instance that belong to no running container.
    pub(super) async fn sweep_groups(&self) {
        let parent = format!("/corten-{}", self.instance);
        let alive: Vec<String> =
            self.containers.all().iter().filter(|c| c.phase().is_alive()).map(|c| c.id.clone()).collect();
        let swept = crate::image::blocking(move || {
            let Ok(group) = Cgroup::open(Path::new(&parent)) else { return Ok(()) };
            let children = group.children().map_err(|e| Error::internal(e.to_string()))?;
            for id in children.into_iter().filter(|id| !alive.contains(id)) {
                end_group(&format!("{parent}/{id}"))?;
            }
            Ok(())
        });
        if let Err(error) = swept.await {
            warn!(%error, "control groups of an earlier run");
        }
    }
}

/// Kills what is in a group and removes it; one that is not there is no error.
pub(super) fn end_group(path: &str) -> Result<()> {
    let Ok(group) = Cgroup::open(Path::new(path)) else { return Ok(()) };
    group.kill_all().and_then(|()| group.remove()).map_err(|e| Error::internal(e.to_string()))
}

/// Entries that look like a container's id and are none.
fn unknown(parent: &Path, known: impl Fn(&str) -> bool) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(parent) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit()) && !known(name))
        .collect()
}
