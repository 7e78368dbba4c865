//! Further networks: made, found again, removed.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use tracing::debug;

use super::{Networks, State, lock};
use crate::apply::{Kernel, delete_link_if_there};
use crate::bring_up;
use crate::error::{Error, Result};
use crate::firewall;
use crate::network::BridgeNetwork;
use crate::prepare::base36;
use crate::request::NetworkRequest;
use crate::rtnl;
use crate::settings::is_interface_name;

impl Networks {
    /// Decides what a network looks like and makes it; nothing stays of one that fails. The caller records it: what a killed
    /// engine has not recorded, [`Networks::restore`] removes.
    pub fn create(&self, request: &NetworkRequest) -> Result<BridgeNetwork> {
        // Two engines must not choose the same subnet at once.
        let _lock = lock::acquire();
        let mut state = self.inner.lock();
        let bridge = self.bridge_name(&state, request)?;
        let survey = bring_up::survey(&state.route, &bridge)?;
        let others: Vec<IpNet> = state
            .networks
            .values()
            .flat_map(|network| network.subnets.iter().map(|subnet| subnet.net))
            .collect();
        let settings = &self.inner.workshop.settings;
        let network = bring_up::decide_network(settings, request, bridge, &survey, &others)?;
        if network.has_ipv6() && !survey.ipv6 {
            return Err(Error::NoIpv6);
        }
        self.bring_up(&mut state, &network, &survey)?;
        Ok(network)
    }

    /// Makes a recorded network again, or takes over what a former process left of it.
    pub fn add(&self, network: &BridgeNetwork) -> Result<()> {
        let mut state = self.inner.lock();
        let survey = bring_up::survey(&state.route, &network.bridge)?;
        self.bring_up(&mut state, network, &survey)
    }

    /// Takes a network without endpoints away; one that is not there is no error.
    pub fn remove(&self, id: &str) -> Result<()> {
        let mut state = self.inner.lock();
        let Some(network) = state.networks.get(id).cloned() else { return Ok(()) };
        let mut endpoints = state.sandboxes.values().flat_map(|attached| &attached.endpoints);
        if endpoints.any(|endpoint| endpoint.network == id) {
            return Err(Error::NetworkInUse(network.name.clone()));
        }
        if network.own_bridge {
            delete_link_if_there(&state.route, &network.bridge)
                .map_err(Error::netlink(format!("delete the bridge {}", network.bridge)))?;
        }
        state.networks.remove(id);
        self.warm.remove_network(id);
        let elements = firewall::network_elements(&network);
        self.inner.change(&mut state, |transaction, table| {
            transaction.delete_elements(table, &elements);
        })?;
        self.inner.open_foreign(&state)
    }

    fn bring_up(&self, state: &mut State, network: &BridgeNetwork, survey: &bring_up::Survey) -> Result<()> {
        let plan = bring_up::plan(&self.inner.workshop.settings, survey, network);
        plan.iter().for_each(|step| debug!(%step, "bringing up a network"));
        Kernel { host: &state.route, container: None }.apply(&plan)?;
        let entered = self.enter(state, network);
        if entered.is_err() {
            state.networks.remove(&network.id);
            self.warm.remove_network(&network.id);
            if survey.bridge.is_none() {
                let _ = delete_link_if_there(&state.route, &network.bridge);
            }
        }
        entered
    }

    fn enter(&self, state: &mut State, network: &BridgeNetwork) -> Result<()> {
        self.warm.add_network(network)?;
        state.networks.insert(network.id.clone(), Arc::new(network.clone()));
        if state.adopted {
            // The table is written when the containers are known.
            return Ok(());
        }
        let elements = firewall::network_elements(network);
        self.inner.change(state, |transaction, table| {
            transaction.add_elements(table, &elements);
        })?;
        self.inner.open_foreign(state)
    }

    /// The wished name, or one of ours that is free.
    fn bridge_name(&self, state: &State, request: &NetworkRequest) -> Result<String> {
        if let Some(name) = &request.bridge {
            if !is_interface_name(name) {
                return Err(Error::InvalidBridgeName(name.clone()));
            }
            return match state.networks.values().find(|network| network.bridge == *name) {
                Some(other) => Err(Error::BridgeInUse { bridge: name.clone(), id: other.id.clone() }),
                None => Ok(name.clone()),
            };
        }
        let prefix = self.inner.workshop.settings.instance.bridge_prefix();
        let first = u32::from_str_radix(request.id.get(..5).unwrap_or("0"), 16).unwrap_or(0);
        for number in first.. {
            let name = format!("{prefix}{}", base36(number));
            let found = rtnl::link(&state.route, &name).map_err(Error::netlink("look up the bridge"))?;
            if found.is_none() {
                return Ok(name);
            }
        }
        Err(Error::InvalidBridgeName(prefix))
    }

    /// Whether an address lies in one of the network's subnets.
    pub fn contains(&self, network: &str, ip: IpAddr) -> bool {
        self.inner.lock().networks.get(network).is_some_and(|network| network.subnet_of(ip).is_some())
    }
}
