//! `inspect`: everything about one container, in Docker's shape.

use corten_api::container::{ContainerInspect, ContainerState, GraphDriver};
use corten_api::network::{EndpointSettings, NetworkSettings, PortBinding, PortMap};
use corten_api::{List, Map};

use super::{EndpointRecord, Phase, Record, State};
use crate::Engine;
use crate::error::Result;
use crate::network::dns_names;

impl Engine {
    pub async fn container_inspect(&self, key: &str, size: bool) -> Result<ContainerInspect> {
        let container = self.containers.find(key)?;
        let mut record = container.read().clone();
        record.host_config.links = self.shown_links(&record);
        let places = self.places(&record.id);
        let args = super::config::arguments(&record.config).unwrap_or_default();
        let sizes = match size {
            true => {
                let (engine, id, image_id) = (self.clone(), record.id.clone(), record.image_id.clone());
                Some(crate::image::blocking(move || Ok(engine.sizes(&id, &image_id))).await?)
            }
            false => None,
        };
        let exec_ids = self.exec_ids(&container);
        let has_log = record.host_config.log_config.kind != "none";
        let identity = self.identity_directory(&record);
        let path = |name: &str| identity.join(name).display().to_string();
        Ok(ContainerInspect {
            id: record.id.clone(),
            created: record.created,
            path: args.first().cloned().unwrap_or_default(),
            args: args.into_iter().skip(1).collect(),
            state: state(&record.state),
            restart_count: i64::try_from(record.state.restart_count).unwrap_or(i64::MAX),
            image: record.image_id.clone(),
            resolv_conf_path: path("resolv.conf"),
            hostname_path: path("hostname"),
            hosts_path: path("hosts"),
            log_path: match has_log {
                true => places.log(&record.host_config.log_config.kind, &record.id).display().to_string(),
                false => String::new(),
            },
            name: format!("/{}", record.name),
            driver: self.images.driver().name().to_owned(),
            platform: "linux".to_owned(),
            exec_ids: if exec_ids.is_empty() { List::default() } else { exec_ids.into() },
            graph_driver: GraphDriver {
                name: self.images.driver().name().to_owned(),
                data: ["upper", "work"]
                    .map(|part| (part, self.options.data_root.join("snapshots").join(&record.id).join(part)))
                    .map(|(part, path)| {
                        (if part == "upper" { "UpperDir" } else { "WorkDir" }, path.display().to_string())
                    })
                    .into_iter()
                    .collect(),
            },
            size_rw: sizes.map(|(rw, _)| rw),
            size_root_fs: sizes.map(|(_, all)| all),
            mounts: record.mounts.iter().map(|mount| mount.point()).collect(),
            network_settings: self.network_settings(&record),
            host_config: record.host_config,
            config: record.config,
            ..ContainerInspect::default()
        })
    }

    fn network_settings(&self, record: &Record) -> NetworkSettings {
        let networks = self.endpoint_settings(record, true);
        let mut settings = NetworkSettings {
            sandbox_id: if record.state.phase.is_alive() { record.id.clone() } else { String::new() },
            sandbox_key: if record.state.pid > 0 {
                format!("/proc/{}/ns/net", record.state.pid)
            } else {
                String::new()
            },
            ports: port_map(record),
            networks,
            ..NetworkSettings::default()
        };
        if let Some(endpoint) = record.endpoints.get(&self.networks.nat().id) {
            let mut of_default = EndpointSettings::default();
            fill(&mut of_default, endpoint);
            settings.endpoint_id = of_default.endpoint_id;
            settings.gateway = of_default.gateway;
            settings.ip_address = of_default.ip_address;
            settings.ip_prefix_len = of_default.ip_prefix_len;
            settings.ipv6_gateway = of_default.ipv6_gateway;
            settings.global_ipv6_address = of_default.global_ipv6_address;
            settings.global_ipv6_prefix_len = of_default.global_ipv6_prefix_len;
            settings.mac_address = of_default.mac_address;
        }
        settings
    }

    /// The container's networks by name; the short form is for lists.
    pub(super) fn endpoint_settings(&self, record: &Record, full: bool) -> Map<EndpointSettings> {
        let mut networks = Map::empty();
        for (name, wish) in &record.networks {
            let mut settings = wish.clone();
            let network = self.network_registry.by_name(name);
            settings.network_id = network.as_ref().map(|network| network.id.clone()).unwrap_or_default();
            if let Some(endpoint) = network.as_ref().and_then(|network| record.endpoints.get(&network.id)) {
                fill(&mut settings, endpoint);
            }
            if full && network.is_some_and(|network| network.has_names()) {
                settings.dns_names = dns_names(record, Some(wish)).into();
            }
            networks.insert(name.clone(), settings);
        }
        networks
    }
}

fn fill(settings: &mut EndpointSettings, endpoint: &EndpointRecord) {
    settings.endpoint_id.clone_from(&endpoint.endpoint_id);
    settings.mac_address = endpoint.place.mac.to_string();
    if let Some(ipv4) = endpoint.place.ipv4 {
        settings.gateway = ipv4.gateway.map(|ip| ip.to_string()).unwrap_or_default();
        settings.ip_address = ipv4.ip.to_string();
        settings.ip_prefix_len = ipv4.prefix_len;
    }
    if let Some(ipv6) = endpoint.place.ipv6 {
        settings.ipv6_gateway = ipv6.gateway.map(|ip| ip.to_string()).unwrap_or_default();
        settings.global_ipv6_address = ipv6.ip.to_string();
        settings.global_ipv6_prefix_len = ipv6.prefix_len;
    }
}

/// What is published, and (null) what is only exposed.
fn port_map(record: &Record) -> PortMap {
    let mut map: PortMap = Map::empty();
    if record.endpoints.is_empty() {
        return map;
    }
    for port in record.config.exposed_ports.keys() {
        let full = if port.contains('/') { port.clone() } else { format!("{port}/tcp") };
        map.insert(full, List::default());
    }
    for port in &record.ports {
        let bindings = map.entry(format!("{}/{}", port.container_port, port.protocol)).or_default();
        let mut list = std::mem::take(bindings).into_vec();
        // Open at the container's own address, it has none of the host's.
        let host_port = if port.is_direct() { String::new() } else { port.host_port.to_string() };
        list.push(PortBinding { host_ip: port.host_ip.to_string(), host_port });
        *bindings = list.into();
    }
    map
}

fn state(state: &State) -> ContainerState {
    ContainerState {
        status: state.phase.name().to_owned(),
        running: state.phase.is_up(),
        paused: state.phase == Phase::Paused,
        restarting: state.phase == Phase::Restarting,
        oom_killed: state.oom_killed,
        pid: state.pid,
        exit_code: state.exit_code,
        error: state.error.clone(),
        started_at: state.started,
        finished_at: state.finished,
        health: state.health.clone(),
        exit_reason: state.exit_reason.clone(),
        ..ContainerState::default()
    }
}
