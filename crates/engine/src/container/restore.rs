//! The start of the engine: what the database says, what the kernel and the monitors say, and the difference repaired.

use std::sync::Arc;

use corten_network::RestoredEndpoint;
use corten_runtime::monitor::Connection;
use corten_runtime::monitor::protocol::{Event, Request};
use tracing::{info, warn};

use super::{Container, Record, lock};
use crate::Engine;
use crate::error::Result;
use crate::exec::{Exec, ExecPhase};
use crate::link::MonitorLink;

impl Engine {
    /// Brings every container of the database back, and finds out what became of those that ran.
    pub(crate) async fn restore(&self) -> Result<()> {
        self.volumes.sweep();
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

    /// The line to the monitor of a container that should be running.
    async fn reconnect(&self, container: &Arc<Container>) -> Option<MonitorLink> {
        let connection = Connection::open(&self.places(&container.id).run).ok()?;
        let link = MonitorLink::new(connection).ok()?;
        link.send(&Request::Status { seq: 0 }, &[]).await.ok()?;
        let status = tokio::time::timeout(std::time::Duration::from_secs(5), link.receive()).await.ok()??;
        let Event::Status { pid, execs, .. } = status else { return None };
        container.write().state.pid = pid;
        let mut known = lock(&container.execs);
        for exec in execs {
            lock(&self.execs).insert(exec.exec.clone(), container.id.clone());
            let phase = exec.code.map_or(ExecPhase::Running, ExecPhase::Ended);
            known.insert(exec.exec, Exec { request: Default::default(), phase, pid: exec.pid });
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
