//! Containers, as older clients know them.

use super::{knows, within};
use crate::http::ApiVersion;
use corten_api::container::{ContainerInspect, ContainerSummary};
use serde_json::{Value, json};

/// What `inspect` told of the default network beside `Networks`, until 1.51.
const BESIDE_NETWORKS: [&str; 14] = [
    "Bridge",
    "HairpinMode",
    "LinkLocalIPv6Address",
    "LinkLocalIPv6PrefixLen",
    "SecondaryIPAddresses",
    "SecondaryIPv6Addresses",
    "EndpointID",
    "Gateway",
    "GlobalIPv6Address",
    "GlobalIPv6PrefixLen",
    "IPAddress",
    "IPPrefixLen",
    "IPv6Gateway",
    "MacAddress",
];

pub fn list(containers: &mut [ContainerSummary], version: ApiVersion) {
    for container in containers {
        if !knows(version, 46) {
            container.host_config.annotations.clear();
        }
        if !knows(version, 48) {
            container.image_manifest_descriptor = None;
        }
        if !knows(version, 52) {
            container.health = None;
        }
    }
}

pub fn inspect(mut container: ContainerInspect, version: ApiVersion) -> Value {
    if !knows(version, 45) {
        add_short_id(&mut container);
    }
    if !knows(version, 48) {
        container.image_manifest_descriptor = None;
    }
    let mut document = json!(container);
    if knows(version, 52) {
        within(&mut document, "NetworkSettings", |settings| {
            BESIDE_NETWORKS.iter().for_each(|name| drop(settings.shift_remove(*name)));
        });
        within(&mut document, "Config", |config| {
            config.shift_remove("MacAddress");
            if config.get("OnBuild").is_some_and(|list| list.as_array().is_none_or(Vec::is_empty)) {
                config.shift_remove("OnBuild");
            }
        });
        within(&mut document, "HostConfig", |host| drop(host.shift_remove("KernelMemoryTCP")));
    }
    document
}

/// Until 1.44 the short id was among the aliases in networks that users made; it is a DNS name there without being an alias.
fn add_short_id(container: &mut ContainerInspect) {
    let short: String = container.id.chars().take(12).collect();
    let hostname = container.config.hostname.clone();
    for (name, endpoint) in container.network_settings.networks.iter_mut() {
        if matches!(name.as_str(), "bridge" | "nat" | "host" | "none") {
            continue;
        }
        let mut aliases = std::mem::take(&mut endpoint.aliases).into_vec();
        for further in [&short, &hostname] {
            if !further.is_empty() && !aliases.contains(further) {
                aliases.push(further.clone());
            }
        }
        endpoint.aliases = aliases.into();
    }
}
