//! What is kept of a network.

use corten_api::network::{Ipam, IpamConfig};
use corten_api::{Map, Timestamp};
use corten_network::BridgeNetwork;
use serde::{Deserialize, Serialize};

use super::{BRIDGE, NONE, PREDEFINED, predefined_id};

/// What is written to the database: all that inspect shows, and what the kernel's objects follow from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NetworkRecord {
    pub id: String,
    pub name: String,
    pub created: Timestamp,
    pub driver: String,
    pub enable_ipv4: bool,
    pub enable_ipv6: bool,
    /// With what was chosen for its maker.
    pub ipam: Ipam,
    pub internal: bool,
    pub attachable: bool,
    /// A collection of settings that other networks are made from, and no network itself.
    pub config_only: bool,
    /// The name of the one that this is made from.
    pub config_from: String,
    pub options: Map<String>,
    pub labels: Map<String>,
    /// What it is in the kernel: nothing for `host`, `none` and collections of settings.
    #[serde(default)]
    pub bridge: Option<BridgeNetwork>,
}

impl NetworkRecord {
    /// One of those that every engine has.
    pub fn predefined(instance: &str, created: Timestamp, name: &str, nat: &BridgeNetwork) -> Self {
        let bridge = (name == BRIDGE).then(|| nat.clone());
        Self {
            id: predefined_id(instance, name),
            name: name.to_owned(),
            created,
            driver: if name == NONE { "null" } else { name }.to_owned(),
            enable_ipv4: true,
            enable_ipv6: bridge.as_ref().is_some_and(BridgeNetwork::has_ipv6),
            ipam: Ipam {
                driver: "default".to_owned(),
                config: bridge.as_ref().map(|bridge| ipam_config(bridge).into()).unwrap_or_default(),
                ..Ipam::default()
            },
            options: bridge.as_ref().map_or_else(Map::empty, default_options),
            labels: Map::empty(),
            bridge,
            ..Self::default()
        }
    }

    pub fn is_predefined(&self) -> bool {
        PREDEFINED.contains(&self.name.as_str())
    }

    /// Containers find each other by name in it.
    pub fn has_names(&self) -> bool {
        !self.is_predefined() && self.bridge.is_some()
    }
}

/// A bridge's subnets in the API's words.
pub fn ipam_config(bridge: &BridgeNetwork) -> Vec<IpamConfig> {
    let text = |ip: Option<std::net::IpAddr>| ip.map(|ip| ip.to_string()).unwrap_or_default();
    bridge
        .subnets
        .iter()
        .map(|subnet| IpamConfig {
            subnet: subnet.net.to_string(),
            ip_range: subnet.range.map(|range| range.to_string()).unwrap_or_default(),
            gateway: text(subnet.bridge_ip.or(subnet.gateway)),
            ..IpamConfig::default()
        })
        .collect()
}

fn default_options(nat: &BridgeNetwork) -> Map<String> {
    [
        ("com.docker.network.bridge.default_bridge", "true".to_owned()),
        ("com.docker.network.bridge.enable_icc", nat.inter_container.to_string()),
        ("com.docker.network.bridge.enable_ip_masquerade", nat.masquerade.to_string()),
        ("com.docker.network.bridge.host_binding_ipv4", nat.host_ip.to_string()),
        ("com.docker.network.bridge.name", nat.bridge.clone()),
        ("com.docker.network.driver.mtu", nat.mtu.to_string()),
    ]
    .into_iter()
    .collect()
}
