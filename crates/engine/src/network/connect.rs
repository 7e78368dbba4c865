//! `network connect` and `disconnect`: of a container that runs, at once; of one that does not, at its next start.
//!
//! A running container's record says that its networks are being changed before anything is; an engine that was killed meanwhile
//! leaves an interface that its successor removes, or a record without one, and routes that its successor sets again.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use corten_api::network::EndpointSettings;

use super::{NetworkRecord, failed};
use crate::Engine;
use crate::container::{Container, EndpointRecord, NetworkMode, Record, requested_ports};
use crate::error::{Error, Result};
use crate::id;

impl Engine {
    pub async fn network_connect(
        &self,
        network: &str,
        container: &str,
        settings: Option<EndpointSettings>,
    ) -> Result<()> {
        let container = self.containers.find(container)?;
        let _turn = container.operation.lock().await;
        if container.progress.borrow().removed {
            return Err(Error::no_such_container(&container.id));
        }
        let network = self.network_registry.find(network)?;
        let settings = wishes(settings.unwrap_or_default());
        self.check_connect(&container.read(), &network, &settings)?;
        if container.phase().is_alive() {
            return self.connect_running(&container, &network, settings).await;
        }
        let before = container.write().networks.insert(network.name.clone(), settings);
        let saved = self.store.put_container(&container.id, &*container.read());
        if saved.is_err() {
            let mut record = container.write();
            match before {
                Some(before) => record.networks.insert(network.name.clone(), before),
                None => record.networks.remove(&network.name),
            };
        }
        saved
    }

    pub async fn network_disconnect(&self, network: &str, container: &str, force: bool) -> Result<()> {
        let key = network;
        let found = self.network_registry.find(key);
        let container = self.containers.find(container)?;
        let _turn = container.operation.lock().await;
        if container.progress.borrow().removed {
            return Err(Error::no_such_container(&container.id));
        }
        let name = found.as_ref().map_or(key, |network| network.name.as_str()).to_owned();
        let alive = container.phase().is_alive();
        if alive && !force {
            found.as_ref().map_err(Clone::clone)?;
        }
        if alive && name == super::HOST {
            return Err(Error::invalid(
                "cannot disconnect container from host network - container was created in host network mode",
            ));
        }
        if !container.read().networks.contains_key(&name) {
            let id = &container.id;
            return Err(match alive {
                true => Error::internal(format!("container {id} is not connected to network {name}")),
                false => Error::internal(format!("container {id} is not connected to the network {name}")),
            });
        }
        match found {
            Ok(network) if alive => self.disconnect_running(&container, &network).await,
            _ => {
                let before = container.read().clone();
                container.write().networks.remove(&name);
                let saved = self.store.put_container(&container.id, &*container.read());
                if saved.is_err() {
                    container.write().networks = before.networks;
                }
                saved
            }
        }
    }

    fn check_connect(
        &self,
        record: &Record,
        network: &Arc<NetworkRecord>,
        settings: &EndpointSettings,
    ) -> Result<()> {
        let mode = NetworkMode::parse(&record.host_config.network_mode);
        let others = record.networks.keys().filter(|other| **other != network.name);
        self.check_company(&mode, others, &network.name)?;
        if network.config_only {
            return Err(Error::forbidden(format!(
                "cannot create endpoint on configuration-only network {}",
                network.name
            )));
        }
        self.check_endpoint(Some(network), &network.name, settings)?;
        if record.state.phase.is_alive() && record.endpoints.contains_key(&network.id) {
            return Err(Error::forbidden(format!(
                "endpoint with name {} already exists in network {}",
                record.name, network.name
            )));
        }
        Ok(())
    }

    async fn connect_running(
        &self,
        container: &Arc<Container>,
        network: &Arc<NetworkRecord>,
        settings: EndpointSettings,
    ) -> Result<()> {
        let netns = self.network_namespace(container)?;
        let (wish, ports, name) = {
            let record = container.read();
            let wish = self.endpoint_wish(&record, network, &settings)?;
            (wish, requested_ports(&record)?, record.name.clone())
        };
        self.rewire(container, true)?;
        let endpoint_id = id::random();
        let engine = self.clone();
        let (id, ports_wanted) = (container.id.clone(), ports.clone());
        let connected = crate::image::blocking(move || {
            Ok(engine.networks.connect(&id, netns.as_fd(), &wish, &ports_wanted))
        })
        .await?;
        let (place, published) = match connected {
            Ok(connected) => connected,
            Err(error) => {
                let _ = self.rewire(container, false);
                return Err(self.attach_failed(error, &name, &endpoint_id));
            }
        };
        let (former_settings, former_ports) = {
            let mut record = container.write();
            let endpoint = EndpointRecord { endpoint_id, place: place.clone() };
            record.endpoints.insert(network.id.clone(), endpoint);
            let former = record.networks.insert(network.name.clone(), settings);
            (former, std::mem::replace(&mut record.ports, published))
        };
        if let Err(error) = self.rewire(container, false) {
            // Not written down, the interface would be the next engine's to remove: rather now, and with an answer.
            let (engine, id, network_id) = (self.clone(), container.id.clone(), network.id.clone());
            let netns = self.network_namespace(container).ok();
            let undone = crate::image::blocking(move || {
                let netns = netns.as_ref().map(AsFd::as_fd);
                engine.networks.disconnect(&id, &network_id, netns, &ports).map_err(failed)
            });
            if let Err(error) = undone.await {
                tracing::warn!(container = container.id, %error, "undoing a connection");
            }
            let mut record = container.write();
            record.endpoints.remove(&network.id);
            match former_settings {
                Some(former) => record.networks.insert(network.name.clone(), former),
                None => record.networks.remove(&network.name),
            };
            record.ports = former_ports;
            return Err(error);
        }
        self.hosts_gained(container, &place);
        self.names_changed(network);
        self.update_name_server(container).await;
        self.network_event(network, "connect", Some(&container.id));
        Ok(())
    }

    /// The record first: from then on the container is not in the network, whatever happens to this engine.
    async fn disconnect_running(
        &self,
        container: &Arc<Container>,
        network: &Arc<NetworkRecord>,
    ) -> Result<()> {
        let before = container.read().clone();
        let ports = requested_ports(&before)?;
        let turn_back = || {
            let mut record = container.write();
            (record.networks, record.endpoints) = (before.networks.clone(), before.endpoints.clone());
        };
        let endpoint = {
            let mut record = container.write();
            record.networks.remove(&network.name);
            record.endpoints.remove(&network.id)
        };
        if let Err(error) = self.rewire(container, true) {
            turn_back();
            return Err(error);
        }
        let netns = self.network_namespace(container).ok();
        if let Some(endpoint) = endpoint {
            let (engine, id, network_id) = (self.clone(), container.id.clone(), network.id.clone());
            let published = crate::image::blocking(move || {
                let netns = netns.as_ref().map(AsFd::as_fd);
                engine.networks.disconnect(&id, &network_id, netns, &ports).map_err(failed)
            });
            match published.await {
                Ok(published) => container.write().ports = published,
                // Its ports can't be led another way: it stays in the network.
                Err(error) => {
                    turn_back();
                    let _ = self.rewire(container, false);
                    return Err(error);
                }
            }
            self.hosts_lost(container, &endpoint.place);
        }
        self.update_name_server(container).await;
        self.rewire(container, false)?;
        self.names_changed(network);
        self.network_event(network, "disconnect", Some(&container.id));
        Ok(())
    }

    /// Writes the record down, with or without the note that its networks are being changed.
    fn rewire(&self, container: &Arc<Container>, rewiring: bool) -> Result<()> {
        container.write().rewiring = rewiring;
        self.store.put_container(&container.id, &*container.read())
    }

    /// A running container's network namespace; of nobody who has its process's number by now.
    pub(crate) fn network_namespace(&self, container: &Container) -> Result<OwnedFd> {
        let pid = self.pid_of(&container.id)?;
        let path = format!("/proc/{pid}/ns/net");
        let netns = File::open(&path).map_err(|e| Error::io("open", path.as_ref(), e))?;
        if self.pid_of(&container.id)? != pid {
            return Err(Error::conflict(format!("container {} has just ended", container.id)));
        }
        Ok(netns.into())
    }

    /// After a kill in the middle of a change: the routes that the endpoints call for.
    pub(crate) async fn finish_rewiring(&self, container: &Arc<Container>) {
        if !container.read().rewiring {
            return;
        }
        let result = match self.network_namespace(container) {
            Ok(netns) => {
                let (engine, id) = (self.clone(), container.id.clone());
                crate::image::blocking(move || engine.networks.reroute(&id, netns.as_fd()).map_err(failed))
                    .await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = result.and_then(|()| self.rewire(container, false)) {
            tracing::warn!(container = container.id, %error, "finishing an interrupted change of networks");
        }
    }
}

/// What may be asked for; facts that a client has read in inspect and sends back are none of its business.
fn wishes(settings: EndpointSettings) -> EndpointSettings {
    EndpointSettings {
        ipam_config: settings.ipam_config,
        links: settings.links,
        aliases: settings.aliases,
        mac_address: settings.mac_address,
        driver_opts: settings.driver_opts,
        gw_priority: settings.gw_priority,
        ..EndpointSettings::default()
    }
}
