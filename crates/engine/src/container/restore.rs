//! The start of the engine: what the database says, what the kernel and the monitors say, and the difference repaired.

use std::sync::Arc;

use corten_network::RestoredEndpoint;
use corten_runtime::monitor::Connection;
use corten_runtime::monitor::protocol::{Event, Request};
use tracing::{info, warn};

use super::{Container, Phase, Record, lock};
use crate::Engine;
use crate::error::Result;
use crate::exec::{Exec, ExecPhase};
use crate::link::MonitorLink;

/// How long a monitor may take to say what it has.
const STATUS_DEADLINE: std::time::Duration = std::time::Duration::from_secs(10);

impl Engine {
    /// Brings every container of the database back, and finds out what became of those that ran.
    pub(crate) async fn restore(&self) -> Result<()> {
        for directory in self.volumes.sweep()? {
            self.collector().discard_directory(directory);
        }
        for id in self.store.garbage()? {
            self.collector().discard(id);
        }
        let (mut living, mut resting) = (Vec::new(), Vec::new());
        for record in self.store.containers::<Record>()? {
            let container = Arc::new(Container::new(record));
            if let Err(error) = self.containers.insert(container.clone()) {
                warn!(container = container.id, %error, "a container could not be taken back");
                continue;
            }
            match container.phase() {
                phase if phase.is_alive() => living.push(container),
                _ => resting.push(container),
            }
        }
        for container in &resting {
            self.undo_start(container).await;
            self.finish_removal(container).await;
        }
        self.sweep_directories();
        let endpoints: Vec<RestoredEndpoint> = living.iter().filter_map(|c| restored(&c.read())).collect();
        let mut found = Vec::new();
        for container in living {
            match self.reconnect(&container).await {
                Some(link) => found.push((container, link)),
                None => self.settle_ended(&container).await,
            }
        }
        let alive: Vec<RestoredEndpoint> = endpoints
            .into_iter()
            .filter(|endpoint| found.iter().any(|(container, _)| container.id == endpoint.container))
            .collect();
        for (container, error) in self.networks.restore(&alive) {
            warn!(container, %error, "the network of a running container");
        }
        if !found.is_empty() {
            info!(containers = found.len(), "running containers found again");
        }
        self.sweep_groups().await;
        for (container, link) in found {
            *lock(&container.link) = Some(link.clone());
            self.watch(container, link, None);
        }
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
        let frozen = self.cgroup(container).ok().and_then(|group| group.is_frozen().ok()).unwrap_or(false);
        {
            let mut record = container.write();
            record.state.pid = pid;
            record.state.phase = if frozen { Phase::Paused } else { Phase::Running };
        }
        let mut known = lock(&container.execs);
        for exec in execs {
            lock(&self.execs).insert(exec.exec.clone(), container.id.clone());
            let phase = exec.code.map_or(ExecPhase::Running, ExecPhase::Ended);
            known.entry(exec.exec).or_insert_with(|| Exec::found(exec.pid)).set_phase(phase);
        }
        drop(known);
        for (exec, code) in ended {
            self.exec_ended(container, &exec, code);
        }
        Some(link)
    }
}

fn restored(record: &Record) -> Option<RestoredEndpoint> {
    let endpoint = record.endpoint.as_ref()?;
    Some(RestoredEndpoint {
        container: record.id.clone(),
        ip: endpoint.ip,
        mac: endpoint.mac.parse().ok()?,
        host_interface: endpoint.host_interface.clone(),
        ports: endpoint.ports.clone(),
    })
}
