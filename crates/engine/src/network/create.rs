//! `network create`: a request is checked and decided, the kernel's objects are made, and then the record; until that is written
//! there is no network, and the next engine clears away what a killed one has made.

use std::net::IpAddr;

use corten_api::network::{Ipam, IpamConfig, NetworkCreateRequest, NetworkCreateResponse};
use corten_api::{Map, Timestamp};
use corten_network::{BridgeNetwork, Driver, GatewayMode, NetworkRequest};

use super::record::ipam_config;
use super::{NetworkRecord, PREDEFINED, canonical, failed, ipam};
use crate::Engine;
use crate::error::{Error, Result};
use crate::id;

impl Engine {
    pub async fn network_create(&self, request: NetworkCreateRequest) -> Result<NetworkCreateResponse> {
        let turn = self.network_registry.changing.lock().await;
        let record = self.decide_network(request)?;
        let engine = self.clone();
        // A client that hangs up doesn't interrupt what is half done.
        let record = crate::image::blocking(move || engine.make_network(record)).await?;
        drop(turn);
        self.network_event(&record, "create", None);
        Ok(NetworkCreateResponse { id: record.id.clone(), warning: String::new() })
    }

    fn make_network(
        &self,
        plan: (NetworkRecord, Option<NetworkRequest>),
    ) -> Result<std::sync::Arc<NetworkRecord>> {
        let (mut record, request) = plan;
        if let Some(request) = request {
            let bridge = self.networks.create(&request).map_err(failed)?;
            record.ipam.config = shown_ipam(&record.ipam, &bridge).into();
            record.bridge = Some(bridge);
        }
        if let Err(error) = self.store.put_network(&record.id, &record) {
            if let Err(error) = self.networks.remove(&record.id) {
                tracing::warn!(network = record.name, %error, "undoing a network");
            }
            return Err(error);
        }
        Ok(self.network_registry.insert(record))
    }

    /// The record, and what is to be made for it in the kernel.
    fn decide_network(
        &self,
        request: NetworkCreateRequest,
    ) -> Result<(NetworkRecord, Option<NetworkRequest>)> {
        let name = request.name.clone();
        if PREDEFINED.contains(&canonical(&name)) && !name.is_empty() {
            return Err(Error::forbidden(format!(
                "operation is not permitted on predefined {name} network "
            )));
        }
        if name.trim().is_empty() {
            return Err(Error::invalid("invalid name: name is empty"));
        }
        if let Some(other) = self.network_registry.all().iter().find(|other| other.name == name) {
            return Err(Error::conflict(format!("network with name {} already exists", other.name)));
        }
        if request.config_only {
            return Ok((config_only(request)?, None));
        }
        let driver = driver(&request)?;
        check_scope(&request)?;
        let config_from = request.config_from.clone().unwrap_or_default().network;
        let request =
            if config_from.is_empty() { request } else { self.apply_config(request, &config_from)? };
        let mut options = request.options.clone();
        let truth = |given: Option<bool>, options: &mut Map<String>, name: &str, default: bool| match given {
            Some(given) => {
                options.remove(name);
                Ok(given)
            }
            None => match options.get(name) {
                None => Ok(default),
                Some(text) => boolean(text)
                    .ok_or_else(|| Error::invalid(format!("driver-opt \"{name}\" is not a valid bool"))),
            },
        };
        let enable_ipv4 = truth(request.enable_ipv4, &mut options, "com.docker.network.enable_ipv4", true)?;
        let enable_ipv6 = truth(request.enable_ipv6, &mut options, "com.docker.network.enable_ipv6", false)?;
        if !enable_ipv4 && !enable_ipv6 {
            return Err(Error::invalid("IPv4 or IPv6 must be enabled"));
        }
        let mut wish = NetworkRequest {
            ipv4: enable_ipv4,
            ipv6: enable_ipv6,
            subnets: ipam::subnets(request.ipam.as_ref(), enable_ipv6)?,
            internal: request.internal,
            ..NetworkRequest::new(id::random(), &name)
        };
        read_options(&options, &mut wish)?;
        let given = request.ipam.unwrap_or_default();
        let record = NetworkRecord {
            id: wish.id.clone(),
            name,
            created: Timestamp::now(),
            driver,
            enable_ipv4,
            enable_ipv6,
            ipam: Ipam { driver: "default".to_owned(), ..given },
            internal: request.internal,
            attachable: request.attachable,
            config_only: false,
            config_from,
            options: settled(options),
            labels: settled(request.labels),
            bridge: None,
        };
        Ok((record, Some(wish)))
    }

    /// A request with the settings of a collection in the place of its own.
    fn apply_config(&self, request: NetworkCreateRequest, name: &str) -> Result<NetworkCreateRequest> {
        let own_ipam = request.ipam.as_ref().is_some_and(|ipam| {
            !ipam.config.is_empty()
                || !ipam.options.is_empty()
                || !matches!(ipam.driver.as_str(), "" | "default")
        });
        if own_ipam
            || request.enable_ipv4 == Some(false)
            || request.enable_ipv6 == Some(true)
            || !request.labels.is_empty()
        {
            return Err(Error::forbidden(
                "user-specified configurations are not supported if the network depends on a configuration network",
            ));
        }
        if !request.options.is_empty() {
            return Err(Error::forbidden(
                "network driver options are not supported if the network depends on a configuration network",
            ));
        }
        let found = self.network_registry.by_name(name).filter(|found| found.config_only);
        let config = found
            .ok_or_else(|| Error::not_found(format!("configuration network \"{name}\" does not exist")))?;
        Ok(NetworkCreateRequest {
            ipam: Some(config.ipam.clone()),
            enable_ipv4: Some(config.enable_ipv4),
            enable_ipv6: Some(config.enable_ipv6),
            labels: config.labels.clone(),
            options: config.options.clone(),
            ..request
        })
    }
}

/// Settings for other networks: kept as they are.
fn config_only(request: NetworkCreateRequest) -> Result<NetworkRecord> {
    if request.ingress || request.internal || request.attachable || !request.scope.is_empty() {
        return Err(Error::forbidden(
            "configuration network can only contain network specific fields. Network operator fields like \
             [ ingress | internal | attachable | scope ] are not supported.",
        ));
    }
    if request.config_from.is_some_and(|from| !from.network.is_empty()) {
        return Err(Error::forbidden(
            "a configuration network cannot depend on another configuration network",
        ));
    }
    let enable_ipv6 = request.enable_ipv6.unwrap_or(false);
    ipam::subnets(request.ipam.as_ref(), enable_ipv6)?;
    Ok(NetworkRecord {
        id: id::random(),
        name: request.name,
        created: Timestamp::now(),
        driver: "null".to_owned(),
        enable_ipv4: request.enable_ipv4.unwrap_or(true),
        enable_ipv6,
        ipam: Ipam { driver: "default".to_owned(), ..request.ipam.unwrap_or_default() },
        config_only: true,
        options: settled(request.options),
        labels: settled(request.labels),
        ..NetworkRecord::default()
    })
}

/// The driver's name as inspect shows it.
fn driver(request: &NetworkCreateRequest) -> Result<String> {
    let name = if request.driver.is_empty() { "bridge" } else { request.driver.as_str() };
    match Driver::parse(name) {
        Some(Driver::Bridge) => Ok("bridge".to_owned()),
        Some(Driver::Planned("overlay")) => Err(Error::forbidden(
            "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this \
             node to swarm and try again. (The driver \"overlay\" is not supported yet.)",
        )),
        Some(Driver::Planned(driver)) => {
            Err(Error::unsupported(format!("the network driver \"{driver}\" is not supported yet")))
        }
        None if matches!(name, "host" | "null") => {
            Err(Error::forbidden(format!("only one instance of \"{name}\" network is allowed")))
        }
        None => Err(Error::not_found(format!(
            "could not find plugin {name} in v1 plugin registry: plugin not found"
        ))),
    }
}

fn check_scope(request: &NetworkCreateRequest) -> Result<()> {
    if request.ingress {
        return Err(Error::forbidden("Ingress network can only be global scope network"));
    }
    match request.scope.as_str() {
        "" | "local" => Ok(()),
        "swarm" => Err(Error::forbidden("cannot create a swarm scoped network when swarm is not active")),
        other => Err(Error::forbidden(format!("cannot create a network of the scope \"{other}\""))),
    }
}

/// The bridge's options; what is none of them is kept and means nothing, as in Docker.
fn read_options(options: &Map<String>, wish: &mut NetworkRequest) -> Result<()> {
    for (name, value) in options {
        let unparsable = |why: &str| Error::invalid(format!("failed to parse {name} value: {value} ({why})"));
        let truth = || {
            boolean(value)
                .ok_or_else(|| unparsable(&format!("strconv.ParseBool: parsing \"{value}\": invalid syntax")))
        };
        let unsupported =
            || Err(Error::unsupported(format!("the network option {name}={value} is not supported yet")));
        match name.as_str() {
            "com.docker.network.bridge.name" if !value.is_empty() => wish.bridge = Some(value.clone()),
            "com.docker.network.bridge.enable_icc" => wish.inter_container = truth()?,
            "com.docker.network.bridge.enable_ip_masquerade" => wish.masquerade = truth()?,
            "com.docker.network.bridge.inhibit_ipv4" => wish.bridge_address = !truth()?,
            "com.docker.network.bridge.host_binding_ipv4" => {
                wish.host_ip = Some(value.parse::<IpAddr>().map_err(|_| unparsable("nil ip"))?);
            }
            "com.docker.network.driver.mtu" => {
                let mtu: i64 = value
                    .parse()
                    .map_err(|_| unparsable(&format!("strconv.Atoi: parsing \"{value}\": invalid syntax")))?;
                let mtu = u32::try_from(mtu).ok().filter(|mtu| *mtu <= 65_535);
                let mtu = mtu.ok_or_else(|| Error::invalid(format!("invalid MTU number: {value}")))?;
                wish.mtu = Some(mtu).filter(|mtu| *mtu != 0);
            }
            "com.docker.network.container_iface_prefix" if !value.is_empty() => {
                // Two digits behind it must fit.
                if !corten_network::is_interface_name(&format!("{value}00")) {
                    return Err(Error::invalid(format!(
                        "{name}: \"{value}\" can't begin an interface's name"
                    )));
                }
                wish.interface_prefix = Some(value.clone());
            }
            "com.docker.network.bridge.gateway_mode_ipv4" | "com.docker.network.bridge.gateway_mode_ipv6" => {
                let mode = GatewayMode::parse(value)
                    .ok_or_else(|| unparsable(&format!("unknown gateway mode {value}")))?;
                *(if name.ends_with('4') { &mut wish.ipv4_mode } else { &mut wish.ipv6_mode }) = mode;
            }
            "com.docker.network.bridge.trusted_host_interfaces"
            | "com.docker.network.host_ipv4"
            | "com.docker.network.host_ipv6"
                if !value.is_empty() =>
            {
                return unsupported();
            }
            _ => {}
        }
    }
    Ok(())
}

/// The subnets as they were asked for, with what was chosen.
fn shown_ipam(given: &Ipam, bridge: &BridgeNetwork) -> Vec<IpamConfig> {
    let mut shown = ipam_config(bridge);
    for config in &mut shown {
        let asked = given.config.iter().find(|asked| asked.subnet == config.subnet);
        if let Some(asked) = asked {
            config.aux_address = asked.aux_address.clone();
        }
    }
    shown
}

/// Go's words for truth.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Shown as `{}` when there are none.
fn settled(map: Map<String>) -> Map<String> {
    if map.is_empty() { Map::empty() } else { map }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, value: &str) -> Result<NetworkRequest> {
        let mut wish = NetworkRequest::new("1", "web");
        let options = [(name, value.to_owned())].into_iter().collect();
        read_options(&options, &mut wish).map(|()| wish)
    }

    #[test]
    fn options_are_read_refused_or_kept() {
        assert!(!read("com.docker.network.bridge.enable_icc", "false").unwrap().inter_container);
        assert_eq!(read("com.docker.network.driver.mtu", "1400").unwrap().mtu, Some(1400));
        let wrong = read("com.docker.network.bridge.enable_icc", "no").unwrap_err();
        assert!(
            wrong.message.starts_with("failed to parse com.docker.network.bridge.enable_icc value: no (")
        );
        assert!(read("com.docker.network.driver.mtu", "-1").is_err());
        let routed = read("com.docker.network.bridge.gateway_mode_ipv6", "routed").unwrap();
        assert_eq!((routed.ipv4_mode, routed.ipv6_mode), (GatewayMode::Nat, GatewayMode::Routed));
        let unknown = read("com.docker.network.bridge.gateway_mode_ipv4", "open").unwrap_err();
        assert!(unknown.message.contains("unknown gateway mode open"), "{unknown}");
        assert!(read("com.example.unknown", "x").is_ok());
        assert!(read("com.docker.network.container_iface_prefix", "a-long-prefix").is_ok());
        assert!(read("com.docker.network.container_iface_prefix", "a-longer-prefix").is_err());
    }

    #[test]
    fn drivers_that_are_to_come_say_so_by_name() {
        let driver = |name: &str| driver(&NetworkCreateRequest { driver: name.into(), ..Default::default() });
        assert_eq!(driver("").unwrap(), "bridge");
        assert_eq!(driver("nat").unwrap(), "bridge");
        let planned = driver("macvlan").unwrap_err();
        assert_eq!(planned.message, "the network driver \"macvlan\" is not supported yet");
        assert!(driver("weave").unwrap_err().message.contains("plugin not found"));
    }
}
