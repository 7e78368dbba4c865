//! `network ls` and `inspect`: which networks there are, who is in them, and how full they are.

use std::sync::Arc;

use corten_api::Map;
use corten_api::filters::Filters;
use corten_api::network::{
    ConfigReference, EndpointResource, IpamStatus, NetworkInspect, NetworkStatus, SubnetStatus,
};

use super::NetworkRecord;
use crate::Engine;
use crate::container::Record;
use crate::error::{Error, Result};

const FILTERS: [&str; 8] = ["dangling", "driver", "id", "label", "label!", "name", "scope", "type"];
const SCOPE: &str = "local";

impl Engine {
    pub async fn network_list(&self, filters: &Filters) -> Result<Vec<NetworkInspect>> {
        filters.validate(&FILTERS).map_err(|e| Error::invalid(e.to_string()))?;
        for kind in filters.get("type") {
            if !matches!(kind, "builtin" | "custom") {
                return Err(Error::invalid(format!("invalid filter: 'type'='{kind}'")));
            }
        }
        let dangling = dangling(filters)?;
        let matching = self.network_registry.all().into_iter().filter(|network| {
            matches(network, filters)
                && dangling.is_none_or(|wish| wish == (!network.is_predefined() && !self.is_used(network)))
        });
        Ok(matching.map(|network| self.describe_network(&network)).collect())
    }

    pub async fn network_inspect(&self, key: &str) -> Result<NetworkInspect> {
        let network = self.network_registry.find(key)?;
        let mut described = self.describe_network(&network);
        described.containers = self.members(&network);
        let subnets: Map<SubnetStatus> = self
            .networks
            .usage(&network.id)
            .into_iter()
            .map(|usage| {
                let status =
                    SubnetStatus { ips_in_use: usage.in_use, dynamic_ips_available: usage.available };
                (usage.subnet.to_string(), status)
            })
            .collect();
        described.status = Some(NetworkStatus { ipam: IpamStatus { subnets } });
        Ok(described)
    }

    pub(super) fn describe_network(&self, network: &NetworkRecord) -> NetworkInspect {
        NetworkInspect {
            name: network.name.clone(),
            id: network.id.clone(),
            created: network.created,
            scope: SCOPE.to_owned(),
            driver: network.driver.clone(),
            enable_ipv4: network.enable_ipv4,
            enable_ipv6: network.enable_ipv6,
            ipam: network.ipam.clone(),
            internal: network.internal,
            attachable: network.attachable,
            ingress: false,
            config_from: ConfigReference { network: network.config_from.clone() },
            config_only: network.config_only,
            containers: Map::empty(),
            options: network.options.clone(),
            labels: network.labels.clone(),
            status: None,
        }
    }

    fn members(&self, network: &NetworkRecord) -> Map<EndpointResource> {
        let containers = self.containers.all();
        containers
            .iter()
            .filter_map(|container| {
                let record = container.read();
                Some((record.id.clone(), member(&record, network)?))
            })
            .collect()
    }

    /// Whether a container that runs is in it.
    pub(super) fn is_used(&self, network: &Arc<NetworkRecord>) -> bool {
        self.containers.all().iter().any(|container| member(&container.read(), network).is_some())
    }
}

/// A running container's place in a network.
fn member(record: &Record, network: &NetworkRecord) -> Option<EndpointResource> {
    if !record.state.phase.is_alive() {
        return None;
    }
    let mut member = EndpointResource { name: record.name.clone(), ..EndpointResource::default() };
    let Some(endpoint) = record.endpoints.get(&network.id) else {
        // `host` and `none` have no endpoints.
        let named = network.bridge.is_none() && record.networks.contains_key(&network.name);
        return named.then_some(member);
    };
    member.endpoint_id.clone_from(&endpoint.endpoint_id);
    let place = &endpoint.place;
    member.mac_address = place.mac.to_string();
    member.ipv4_address = place.ipv4.map(|a| format!("{}/{}", a.ip, a.prefix_len)).unwrap_or_default();
    member.ipv6_address = place.ipv6.map(|a| format!("{}/{}", a.ip, a.prefix_len)).unwrap_or_default();
    Some(member)
}

/// The filters that a network alone decides.
pub(super) fn matches(network: &NetworkRecord, filters: &Filters) -> bool {
    let kind = if network.is_predefined() { "builtin" } else { "custom" };
    filters.any("name", |pattern| fits(&network.name, pattern))
        && filters.any("id", |pattern| fits(&network.id, pattern))
        && filters.exact("driver", &network.driver)
        && filters.exact("scope", SCOPE)
        && filters.exact("type", kind)
        && filters.labels(|key| network.labels.get(key).map(String::as_str))
}

fn dangling(filters: &Filters) -> Result<Option<bool>> {
    let mut values = filters.get("dangling");
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(Error::invalid("got more than one value for filter key \"dangling\"")),
        (Some("0" | "false"), None) => Ok(Some(false)),
        (Some("1" | "true"), None) => Ok(Some(true)),
        (Some(_), None) => Err(Error::invalid(
            "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\")",
        )),
    }
}

/// Docker takes a regular expression here; people write a part of a name, at times anchored.
fn fits(text: &str, pattern: &str) -> bool {
    let (start, rest) = pattern.strip_prefix('^').map_or((false, pattern), |rest| (true, rest));
    let (end, core) = rest.strip_suffix('$').map_or((false, rest), |core| (true, core));
    match (start, end) {
        (true, true) => text == core,
        (true, false) => text.starts_with(core),
        (false, true) => text.ends_with(core),
        (false, false) => text.contains(core),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_that_a_network_decides() {
        let labels: Map<String> = [("env", "test".to_owned())].into_iter().collect();
        let network = NetworkRecord {
            id: "abc1".into(),
            name: "web".into(),
            driver: "bridge".into(),
            labels,
            ..NetworkRecord::default()
        };
        let fits = |name: &str, value: &str| matches(&network, &Filters::from_iter([(name, value)]));
        assert!(fits("name", "we") && fits("name", "^web$") && !fits("name", "^eb"));
        assert!(fits("id", "abc") && fits("driver", "bridge") && !fits("driver", "bri"));
        assert!(fits("type", "custom") && !fits("type", "builtin"));
        assert!(fits("label", "env=test") && !fits("label!", "env") && !fits("scope", "swarm"));
    }

    #[test]
    fn dangling_has_one_value() {
        let read = |values: &[&str]| dangling(&values.iter().map(|v| ("dangling", *v)).collect());
        assert_eq!(read(&["1"]).unwrap(), Some(true));
        assert_eq!(read(&[]).unwrap(), None);
        assert!(read(&["1", "0"]).is_err() && read(&["maybe"]).is_err());
    }
}
