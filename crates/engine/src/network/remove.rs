//! `network rm` and `prune`.

use std::sync::Arc;

use corten_api::Timestamp;
use corten_api::filters::Filters;
use corten_api::network::NetworksPruneReport;

use super::list::matches;
use super::{NetworkRecord, failed};
use crate::Engine;
use crate::error::{Error, Result};
use crate::id::short;

impl Engine {
    pub async fn network_remove(&self, key: &str) -> Result<()> {
        let turn = self.network_registry.changing.lock().await;
        let network = self.network_registry.find(key)?;
        if network.is_predefined() {
            return Err(Error::forbidden(format!(
                "{} is a pre-defined network and cannot be removed",
                network.name
            )));
        }
        self.drop_network(&network).await?;
        drop(turn);
        if !network.config_only {
            self.network_event(&network, "destroy", None);
        }
        Ok(())
    }

    /// Removes the networks that no running container is in.
    pub async fn network_prune(&self, filters: &Filters) -> Result<NetworksPruneReport> {
        filters.validate(&["label", "label!", "until"]).map_err(|e| Error::invalid(e.to_string()))?;
        let mut untils = filters.get("until");
        let until = match (untils.next(), untils.next()) {
            (None, _) => None,
            (Some(_), Some(_)) => return Err(Error::invalid("more than one until filter specified")),
            (Some(text), None) => {
                Some(Timestamp::parse_bound(text, Timestamp::now()).ok_or_else(|| {
                    Error::invalid(format!("invalid filter 'until={text}': it is not a time"))
                })?)
            }
        };
        let mut deleted = Vec::new();
        for network in self.network_registry.all() {
            let wanted = !network.is_predefined()
                && matches(&network, filters)
                && until.is_none_or(|until| network.created <= until)
                && !self.is_used(&network);
            if !wanted {
                continue;
            }
            let turn = self.network_registry.changing.lock().await;
            // Somebody may have been faster: to remove it, or to use it.
            if self.network_registry.by_id(&network.id).is_none() {
                continue;
            }
            if let Err(error) = self.drop_network(&network).await {
                tracing::warn!(network = network.name, %error, "prune");
                continue;
            }
            drop(turn);
            self.network_event(&network, "destroy", None);
            deleted.push(network.name.clone());
        }
        self.prune_event("network", 0);
        let networks_deleted = if deleted.is_empty() { corten_api::List::default() } else { deleted.into() };
        Ok(NetworksPruneReport { networks_deleted })
    }

    /// The kernel's objects first, because they tell whether the network is in use; the record last. A network whose record can't be
    /// removed stays as it was.
    async fn drop_network(&self, network: &Arc<NetworkRecord>) -> Result<()> {
        if network.config_only {
            let used = self.network_registry.all().iter().any(|other| other.config_from == network.name);
            if used {
                let name = &network.name;
                return Err(Error::forbidden(format!("configuration network \"{name}\" is in use")));
            }
        }
        let (engine, removed) = (self.clone(), network.clone());
        crate::image::blocking(move || {
            engine.networks.remove(&removed.id).map_err(|error| match error {
                corten_network::Error::NetworkInUse(name) => {
                    let endpoints = engine.endpoints_of(&removed.id).join(", ");
                    Error::forbidden(format!(
                        "error while removing network: network {name} has active endpoints ({endpoints})"
                    ))
                }
                other => failed(other),
            })?;
            let forgotten = engine.store.remove_network(&removed.id);
            if let (Err(_), Some(bridge)) = (&forgotten, &removed.bridge)
                && let Err(error) = engine.networks.add(bridge)
            {
                tracing::warn!(network = removed.name, %error, "keeping a network that could not be removed");
            }
            forgotten
        })
        .await?;
        self.network_registry.remove(&network.id);
        self.forget_names(&network.id);
        Ok(())
    }

    /// Who is in a network, as Docker names them in its refusal.
    fn endpoints_of(&self, network: &str) -> Vec<String> {
        let containers = self.containers.all();
        containers
            .iter()
            .filter_map(|container| {
                let record = container.read();
                let endpoint = record.endpoints.get(network)?;
                Some(format!("name:\"{}\" id:\"{}\"", record.name, short(&endpoint.endpoint_id)))
            })
            .collect()
    }
}
