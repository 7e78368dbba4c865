//! `inspect`: everything about one container, in Docker's shape.

use corten_api::container::{ContainerInspect, ContainerState, GraphDriver};
use corten_api::network::{EndpointSettings, NetworkSettings, PortBinding, PortMap};
use corten_api::{List, Map};

use super::{EndpointRecord, Phase, Record, State};
use crate::Engine;
use crate::error::Result;
use crate::network;

impl Engine {
    pub async fn container_inspect(&self, key: &str, size: bool) -> Result<ContainerInspect> {
        let container = self.containers.find(key)?;
        let record = container.read().clone();
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
        let path = |name: &str| places.directory.join(name).display().to_string();
        Ok(ContainerInspect {
            id: record.id.clone(),
            created: record.created,
            path: args.first().cloned().unwrap_or_default(),
            args: args.into_iter().skip(1).collect(),
            state: state(&record.state),
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
        if let Some(endpoint) = &record.endpoint {
            settings.endpoint_id.clone_from(&endpoint.endpoint_id);
            settings.gateway = endpoint.gateway.to_string();
            settings.ip_address = endpoint.ip.to_string();
            settings.ip_prefix_len = endpoint.prefix_len;
            settings.mac_address.clone_from(&endpoint.mac);
        }
        settings
    }

    /// The container's networks by name; the short form is for lists.
    pub(super) fn endpoint_settings(&self, record: &Record, full: bool) -> Map<EndpointSettings> {
        let name = match record.host_config.network_mode.as_str() {
            mode if mode.starts_with("container:") => return Map::empty(),
            "nat" | "default" | "" => "bridge",
            mode => mode,
        };
        let mut settings = record.networks.get(name).cloned().unwrap_or_default();
        settings.network_id = network::id(&self.instance, name);
        if let Some(endpoint) = &record.endpoint {
            fill(&mut settings, endpoint);
        }
        if !full {
            settings.dns_names = List::default();
        }
        [(name.to_owned(), settings)].into_iter().collect()
    }
}

fn fill(settings: &mut EndpointSettings, endpoint: &EndpointRecord) {
    settings.endpoint_id.clone_from(&endpoint.endpoint_id);
    settings.gateway = endpoint.gateway.to_string();
    settings.ip_address = endpoint.ip.to_string();
    settings.ip_prefix_len = endpoint.prefix_len;
    settings.mac_address.clone_from(&endpoint.mac);
}

/// What is published, and (null) what is only exposed.
fn port_map(record: &Record) -> PortMap {
    let mut map: PortMap = Map::empty();
    let Some(endpoint) = &record.endpoint else { return map };
    for port in record.config.exposed_ports.keys() {
        let full = if port.contains('/') { port.clone() } else { format!("{port}/tcp") };
        map.insert(full, List::default());
    }
    for port in &endpoint.ports {
        let bindings = map.entry(format!("{}/{}", port.container_port, port.protocol)).or_default();
        let mut list = std::mem::take(bindings).into_vec();
        list.push(PortBinding { host_ip: port.host_ip.to_string(), host_port: port.host_port.to_string() });
        *bindings = list.into();
    }
    map
}

fn state(state: &State) -> ContainerState {
    ContainerState {
        status: state.phase.name().to_owned(),
        running: state.phase.is_alive(),
        paused: state.phase == Phase::Paused,
        oom_killed: state.oom_killed,
        pid: state.pid,
        exit_code: state.exit_code,
        error: state.error.clone(),
        started_at: state.started,
        finished_at: state.finished,
        ..ContainerState::default()
    }
}
