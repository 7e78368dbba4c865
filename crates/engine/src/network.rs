//! The networks that every engine has: the default NAT network, `host`, and `none`.

use corten_api::filters::Filters;
use corten_api::network::{ConfigReference, EndpointResource, Ipam, IpamConfig, NetworkInspect};
use corten_api::{List, Map};
use corten_network::{Networks, Settings};

use crate::Engine;
use crate::error::{Error, Result};
use crate::id::hex;
use crate::options::NetworkOptions;

const NAMES: [&str; 3] = ["bridge", "host", "none"];

/// A network's id: the same at every start of an engine, and another for each instance.
pub fn id(instance: &str, name: &str) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, format!("network {instance} {name}").as_bytes()).as_ref())
}

/// Brings the instance's bridge and rules up, or finds them again.
pub fn open(instance: &str, options: &NetworkOptions) -> Result<Networks> {
    let failed = |e: corten_network::Error| Error::internal(format!("network: {e}"));
    let net = |name: &str, text: &Option<String>| {
        text.as_deref()
            .map(|text| {
                text.parse().map_err(|_| {
                    Error::invalid(format!("{name}: \"{text}\" is not an IPv4 address with a prefix length"))
                })
            })
            .transpose()
    };
    let mut settings = Settings::new(instance.parse().map_err(failed)?);
    settings.bridge = options.bridge.clone();
    settings.bip = net("bip", &options.bip)?;
    settings.fixed_cidr = net("fixed-cidr", &options.fixed_cidr)?;
    settings.mtu = options.mtu;
    if let Some(ip) = options.host_ip {
        settings.default_host_ip = match ip {
            std::net::IpAddr::V4(ip) => ip,
            std::net::IpAddr::V6(_) => {
                return Err(Error::unsupported("publishing on IPv6 addresses is not supported"));
            }
        };
    }
    Networks::open(settings).map_err(failed)
}

impl Engine {
    pub async fn network_list(&self, filters: &Filters) -> Result<Vec<NetworkInspect>> {
        filters
            .validate(&["dangling", "driver", "id", "label", "label!", "name", "scope", "type"])
            .map_err(|e| Error::invalid(e.to_string()))?;
        for kind in filters.get("type") {
            if !matches!(kind, "builtin" | "custom") {
                return Err(Error::invalid(format!("invalid filter: 'type'='{kind}'")));
            }
        }
        let dangling = filters.boolean("dangling").map_err(|e| Error::invalid(e.to_string()))?;
        Ok(NAMES
            .iter()
            .map(|name| self.describe_network(name, false))
            .filter(|network| {
                filters.any("name", |part| network.name.contains(part))
                    && filters.any("id", |part| network.id.starts_with(part))
                    && filters.any("driver", |driver| network.driver == driver)
                    && filters.any("scope", |scope| network.scope == scope)
                    && filters.any("type", |kind| kind == "builtin")
                    && filters.labels(|_| None)
                    && dangling != Some(true)
            })
            .collect())
    }

    pub async fn network_inspect(&self, key: &str) -> Result<NetworkInspect> {
        let key = if key == "nat" { "bridge" } else { key };
        NAMES
            .iter()
            .find(|name| **name == key || key.len() >= 3 && id(&self.instance, name).starts_with(key))
            .map(|name| self.describe_network(name, true))
            .ok_or_else(|| Error::not_found(format!("network {key} not found")))
    }

    fn describe_network(&self, name: &str, with_containers: bool) -> NetworkInspect {
        let nat = self.networks.nat();
        let bridge = name == "bridge";
        let mut network = NetworkInspect {
            name: name.to_owned(),
            id: id(&self.instance, name),
            created: self.created,
            scope: "local".to_owned(),
            driver: if name == "none" { "null" } else { name }.to_owned(),
            enable_ipv4: true,
            ipam: Ipam { driver: "default".to_owned(), options: Map::default(), config: List::default() },
            config_from: ConfigReference::default(),
            containers: Map::empty(),
            options: Map::empty(),
            labels: Map::empty(),
            ..NetworkInspect::default()
        };
        if bridge {
            network.ipam.config = vec![IpamConfig {
                subnet: nat.subnet.to_string(),
                gateway: nat.gateway.to_string(),
                ..IpamConfig::default()
            }]
            .into();
            network.options = [
                ("com.docker.network.bridge.default_bridge", "true".to_owned()),
                ("com.docker.network.bridge.enable_icc", "true".to_owned()),
                ("com.docker.network.bridge.enable_ip_masquerade", "true".to_owned()),
                ("com.docker.network.bridge.host_binding_ipv4", "0.0.0.0".to_owned()),
                ("com.docker.network.bridge.name", nat.bridge.clone()),
                ("com.docker.network.driver.mtu", nat.mtu.to_string()),
            ]
            .into_iter()
            .collect();
        }
        if with_containers {
            network.containers = self.members(name);
        }
        network
    }

    fn members(&self, name: &str) -> Map<EndpointResource> {
        self.containers
            .all()
            .into_iter()
            .filter_map(|container| {
                let record = container.read();
                let mode = match record.host_config.network_mode.as_str() {
                    "nat" | "default" | "" => "bridge",
                    mode => mode,
                };
                if mode != name || !record.state.phase.is_alive() {
                    return None;
                }
                let mut member =
                    EndpointResource { name: record.name.clone(), ..EndpointResource::default() };
                if let Some(endpoint) = &record.endpoint {
                    member.endpoint_id.clone_from(&endpoint.endpoint_id);
                    member.mac_address.clone_from(&endpoint.mac);
                    member.ipv4_address = format!("{}/{}", endpoint.ip, endpoint.prefix_len);
                }
                Some((record.id.clone(), member))
            })
            .collect()
    }
}
