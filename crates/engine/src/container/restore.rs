//! The start of the engine: what the database says, what the kernel and the monitors say, and the difference repaired.

use std::sync::Arc;

use corten_api::container::RemoveOptions;
use corten_network::RestoredSandbox;
use corten_runtime::monitor::Connection;
use corten_runtime::monitor::protocol::{Event, Request};
use tracing::{info, warn};

use super::{Container, Phase, Record, lock};
use crate::Engine;
use crate::error::Result;
use crate::id;
use crate::link::MonitorLink;

/// How long a monitor may take to say what it has.
const STATUS_DEADLINE: std::time::Duration = std::time::Duration::from_secs(10);

impl Engine {
    /// Brings every container of the database back, and finds out what became of those that ran.
    pub(crate) async fn restore(&self) -> Result<()> {
        for directory in self.volumes.sweep()? {
            self.collector().discard_directory(directory);
        }
        let (mut living, mut resting) = (Vec::new(), Vec::new());
        self.restore_networks()?;
        for mut record in self.store.containers::<Record>()? {
            record.settle_former(&self.networks.nat().id);
            let container = Arc::new(Container::new(record));
            self.take_back(&container)?;
            match container.phase() {
                phase if phase.is_alive() => living.push(container),
                _ => resting.push(container),
            }
        }
        for (id, volumes) in self.store.garbage()? {
            // Of those somebody may have another use by now.
            self.drop_volumes(&volumes);
            self.collector().discard(id);
        }
        for container in &resting {
            self.undo_start(container).await;
            self.finish_removal(container).await;
        }
        self.sweep_directories();
        self.sweep_unpacked_archives();
        self.sweep_build_history();
        let endpoints: Vec<RestoredSandbox> = living.iter().map(|c| restored(&c.read())).collect();
        let mut found = Vec::new();
        for container in living {
            match self.reconnect(&container).await {
                Some(link) => found.push((container, link)),
                None => self.settle_ended(&container).await,
            }
        }
        let alive: Vec<RestoredSandbox> = endpoints
            .into_iter()
            .filter(|endpoint| found.iter().any(|(container, _)| container.id == endpoint.container))
            .collect();
        for (container, error) in self.networks.restore(&alive) {
            warn!(container, %error, "the network of a running container");
        }
        let unsure: Vec<Arc<Container>> =
            found.iter().filter(|(c, _)| self.may_misname(c)).map(|(c, _)| c.clone()).collect();
        for (container, _) in &found {
            self.adopt_volumes(container).await;
            self.finish_rewiring(container).await;
        }
        self.restore_names();
        if !found.is_empty() {
            self.sweep_mounted().await;
        }
        if !found.is_empty() {
            info!(containers = found.len(), "running containers found again");
        }
        self.sweep_groups().await;
        for container in self.containers.all() {
            self.settle_update(&container);
        }
        // Before their ends are heard of, or one would be started twice.
        self.begin_restarts();
        for (container, link) in found {
            *lock(&container.link) = Some(link.clone());
            self.watch(container, link, None);
        }
        self.restore_name_servers(unsure).await;
        self.end_build_steps().await;
        Ok(())
    }

    /// Ends the steps of builds that have ended with an engine: the one before, or this one.
    pub(crate) async fn end_build_steps(&self) {
        for container in self.containers.all() {
            if !container.read().is_build_step {
                continue;
            }
            let options = RemoveOptions { force: true, volumes: true, ..RemoveOptions::default() };
            if let Err(error) = self.container_remove(&container.id, options).await {
                warn!(container = container.id, %error, "the container of a build's step");
            }
        }
    }

    /// Puts a container into the registry. Should another one bear its name, it gets one of its own: what is unknown here counts as
    /// garbage, and so do its files.
    fn take_back(&self, container: &Arc<Container>) -> Result<()> {
        let Err(error) = self.containers.insert(container.clone()) else { return Ok(()) };
        let name = format!("{}-{}", container.name(), id::short(&container.id));
        warn!(container = container.id, %error, name, "a container gets another name");
        container.write().name = name;
        self.containers.insert(container.clone())?;
        self.save(container);
        Ok(())
    }

    /// A line to the monitor of a container that should be running; `None` only when nobody listens there.
    pub(super) async fn reconnect(&self, container: &Arc<Container>) -> Option<MonitorLink> {
        let connection = Connection::open(&self.places(&container.id).run).ok()?;
        let link = MonitorLink::new(connection).ok()?;
        link.send(&Request::Status { seq: 0 }, &[]).await.ok()?;
        let mut ended = Vec::new();
        let status = async {
            loop {
                match link.receive().await? {
                    Event::Status { pid, execs, .. } => return Some((pid, execs)),
                    Event::ExecExited { exec, code } => ended.push((exec, code)),
                    // The watcher finds the exit record when the line ends behind this.
                    _ => {}
                }
            }
        };
        let (pid, execs) = match tokio::time::timeout(STATUS_DEADLINE, status).await {
            Ok(answer) => answer?,
            Err(_) => {
                // Slow is not dead: the container goes on, and what its monitor says is heard when it comes.
                warn!(container = container.id, "the monitor of a running container does not answer yet");
                return Some(link);
            }
        };
        // An engine that was killed while it paused or unpaused has not written down which it came to.
        let group = self.cgroup(container).ok();
        let mut frozen = group.as_ref().and_then(|group| group.is_frozen().ok()).unwrap_or(false);
        if frozen && container.read().state.committing {
            // It stood still for a commit that was killed.
            frozen = group.is_none_or(|group| group.thaw().is_err());
        }
        {
            let mut record = container.write();
            record.state.pid = pid;
            record.state.committing = false;
            record.state.phase = if frozen { Phase::Paused } else { Phase::Running };
        }
        for exec in execs {
            lock(&self.execs).insert(exec.exec.clone(), container.id.clone());
            lock(&container.execs).find_again(exec.exec, exec.pid, exec.code);
        }
        for (exec, code) in ended {
            self.exec_ended(container, &exec, code);
        }
        Some(link)
    }
}

fn restored(record: &Record) -> RestoredSandbox {
    RestoredSandbox {
        container: record.id.clone(),
        endpoints: record.endpoints.values().map(|endpoint| endpoint.place.clone()).collect(),
        ports: record.ports.clone(),
    }
}
