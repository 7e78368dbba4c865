//! A container's places in its networks: what it may ask for, taking them at the start, giving them back at the end.
//!
//! Coming and going while it runs is in `network/connect.rs`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use corten_api::Map;
use corten_api::container::{ContainerConfig, HostConfig};
use corten_api::network::{EndpointSettings, NetworkingConfig};
use corten_network::{EndpointRequest, Sandbox, SandboxRequest, is_interface_name};

use super::ports::ports;
use super::{Container, EndpointRecord, Record};
use crate::Engine;
use crate::error::{Error, Result};
use crate::id;
use crate::network::{BRIDGE, HOST, NONE, NetworkRecord, canonical, failed};

const INTERFACE_OPTION: &str = "com.docker.network.endpoint.ifname";
const SYSCTLS_OPTION: &str = "com.docker.network.endpoint.sysctls";

/// `--network`, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NetworkMode {
    /// A network, by what the user called it; `bridge` by that name only.
    Network(String),
    None,
    Host,
    /// Another container's namespace.
    Container(String),
}

impl NetworkMode {
    pub fn parse(text: &str) -> Self {
        match canonical(text) {
            NONE => Self::None,
            HOST => Self::Host,
            other => match other.strip_prefix("container:") {
                Some(name) if !name.is_empty() => Self::Container(name.to_owned()),
                _ => Self::Network(other.to_owned()),
            },
        }
    }
}

/// What the start of a container gets of its networks.
pub(super) enum Joined {
    /// A namespace to hand to the monitor.
    Namespace(OwnedFd),
    /// The host's own.
    Host,
    /// Another container's, by its process.
    Of(i32),
}

impl Engine {
    /// Checks what a request says about networks; returns it by network name. A network need not exist yet.
    pub(super) fn check_network(
        &self,
        config: &ContainerConfig,
        host: &HostConfig,
        networking: &NetworkingConfig,
    ) -> Result<Map<EndpointSettings>> {
        let mode = NetworkMode::parse(&host.network_mode);
        if let NetworkMode::Container(partner) = &mode {
            self.containers.find(partner)?;
            check_shared(config, host)?;
        }
        if mode == NetworkMode::Host && !host.links.is_empty() {
            return Err(Error::invalid(
                "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
            ));
        }
        ports(config, host)?;
        let mut networks: Map<EndpointSettings> = Map::empty();
        for (key, settings) in &networking.endpoints_config {
            let network = self.network_registry.find(canonical(key)).ok();
            let name = network.as_ref().map_or(canonical(key), |network| network.name.as_str());
            self.check_endpoint(network.as_deref(), name, settings)
                .map_err(|error| error.within(format!("invalid config for network {key}")))?;
            networks.insert(name.to_owned(), settings.clone());
        }
        if let (NetworkMode::Network(_) | NetworkMode::None | NetworkMode::Host, true) =
            (&mode, networks.is_empty())
        {
            let key = canonical(&host.network_mode);
            let name = self.network_registry.find(key).map_or(key.to_owned(), |network| network.name.clone());
            networks.insert(name, EndpointSettings::default());
        }
        for name in networks.keys() {
            self.check_company(&mode, networks.keys().filter(|other| *other != name), name)?;
        }
        Ok(networks)
    }

    /// The partner is the one that has the name now, whatever it is called later.
    pub(super) fn settle_network_partner(&self, host: &mut HostConfig) -> Result<()> {
        if let NetworkMode::Container(partner) = NetworkMode::parse(&host.network_mode) {
            host.network_mode = format!("container:{}", self.containers.find(&partner)?.id);
        }
        Ok(())
    }

    /// Whether a container of that mode can be in a network beside those others.
    pub(crate) fn check_company<'a>(
        &self,
        mode: &NetworkMode,
        others: impl Iterator<Item = &'a String>,
        name: &str,
    ) -> Result<()> {
        const SHARED: &str = "container sharing network namespace with another container or host cannot be connected to any other network";
        if let NetworkMode::Container(_) = mode {
            return Err(Error::invalid(SHARED));
        }
        if name == HOST && *mode != NetworkMode::Host {
            return Err(Error::invalid(
                "cannot connect container to host network - container must be created in host network mode",
            ));
        }
        for other in others {
            if name == HOST || other == HOST {
                return Err(Error::invalid(SHARED));
            }
            if name == NONE || other == NONE {
                return Err(Error::invalid(
                    "container cannot be connected to multiple networks with one of the networks in private (none) mode",
                ));
            }
        }
        Ok(())
    }

    /// Refuses what an endpoint of that network can't have; in Docker's words.
    pub(crate) fn check_endpoint(
        &self,
        network: Option<&NetworkRecord>,
        name: &str,
        settings: &EndpointSettings,
    ) -> Result<()> {
        let mut errors = Vec::new();
        let ipam = settings.ipam_config.clone().unwrap_or_default();
        if matches!(name, BRIDGE | HOST | NONE) {
            // The default network has addresses to give, unlike Docker's.
            let addressed = !ipam.ipv4_address.is_empty() || !ipam.ipv6_address.is_empty();
            if addressed && name != BRIDGE {
                errors
                    .push("user-specified IP address is supported on user-defined networks only".to_owned());
            }
            if !settings.aliases.is_empty() {
                errors.push("network-scoped aliases are only supported for user-defined networks".to_owned());
            }
        }
        match endpoint_request("", settings, None) {
            Err(error) => errors.push(error.message),
            Ok(request) => {
                let wanted: [Option<IpAddr>; 2] =
                    [request.ipv4.map(Into::into), request.ipv6.map(Into::into)];
                for ip in wanted.into_iter().flatten() {
                    let known = network.filter(|network| network.bridge.is_some());
                    if known.is_some_and(|network| !self.networks.contains(&network.id, ip)) {
                        errors.push(format!("no configured subnet contains IP address {ip}"));
                    }
                }
            }
        }
        if errors.is_empty() {
            return Ok(());
        }
        Err(Error::invalid(format!("invalid endpoint settings:\n{}", errors.join("\n"))))
    }

    /// Takes the container's places in its networks.
    pub(super) async fn join_network(&self, container: &Arc<Container>) -> Result<Joined> {
        let record = container.read().clone();
        match NetworkMode::parse(&record.host_config.network_mode) {
            NetworkMode::Container(partner) => return Ok(Joined::Of(self.pid_of(&partner)?)),
            NetworkMode::Host => return Ok(Joined::Host),
            NetworkMode::Network(_) | NetworkMode::None => {}
        }
        let networks = self.networks_of(&record)?;
        if networks.iter().all(|network| network.bridge.is_none()) {
            return self.networks.isolated().map(Joined::Namespace).map_err(failed);
        }
        let request = self.sandbox_request(&record, &networks)?;
        let endpoint_ids: Vec<String> = request.endpoints.iter().map(|_| id::random()).collect();
        let first_id = endpoint_ids.first().cloned().unwrap_or_default();
        let attached = match networks.as_slice() {
            // From the shelf: a tenth of a millisecond.
            [only] if only.name == BRIDGE => self.networks.attach(&request),
            _ => {
                let engine = self.clone();
                crate::image::blocking(move || Ok(engine.networks.attach(&request))).await?
            }
        };
        let Sandbox { netns, endpoints, ports } =
            attached.map_err(|error| self.attach_failed(error, &record.name, &first_id))?;
        {
            let mut record = container.write();
            record.endpoints = endpoints
                .into_iter()
                .zip(endpoint_ids)
                .map(|(place, endpoint_id)| (place.network.clone(), EndpointRecord { endpoint_id, place }))
                .collect();
            record.ports = ports;
        }
        for network in &networks {
            self.names_changed(network);
            self.network_event(network, "connect", Some(&record.id));
        }
        Ok(Joined::Namespace(netns))
    }

    /// Gives the places back; safe to repeat.
    pub(super) fn release_network(&self, container: &Container) {
        let endpoints = {
            let mut record = container.write();
            record.ports.clear();
            std::mem::take(&mut record.endpoints)
        };
        if let Err(error) = self.networks.detach(&container.id) {
            tracing::warn!(container = container.id, %error, "network endpoints");
        }
        for network in endpoints.keys().filter_map(|id| self.network_registry.by_id(id)) {
            self.names_changed(&network);
            self.network_event(&network, "disconnect", Some(&container.id));
        }
    }

    /// The networks of a container in the order of its interfaces: that of its mode first, the others by name.
    fn networks_of(&self, record: &Record) -> Result<Vec<Arc<NetworkRecord>>> {
        let mut networks = Vec::new();
        for name in record.networks.keys() {
            let found = self.network_registry.find(name);
            networks.push(found.map_err(|error| error.within("failed to set up container networking"))?);
        }
        let mode = self.network_registry.find(canonical(&record.host_config.network_mode)).ok();
        networks.sort_by_key(|network| mode.as_ref().is_none_or(|mode| mode.id != network.id));
        Ok(networks)
    }

    fn sandbox_request(&self, record: &Record, networks: &[Arc<NetworkRecord>]) -> Result<SandboxRequest> {
        let settings =
            |network: &NetworkRecord| record.networks.get(&network.name).cloned().unwrap_or_default();
        let endpoints =
            networks.iter().map(|network| self.endpoint_wish(record, network, &settings(network)));
        Ok(SandboxRequest {
            container: record.id.clone(),
            endpoints: endpoints.collect::<Result<_>>()?,
            ports: ports(&record.config, &record.host_config)?,
        })
    }

    /// What a container wants of one of its networks. The MAC address of the container is that of the network of its mode.
    pub(crate) fn endpoint_wish(
        &self,
        record: &Record,
        network: &NetworkRecord,
        settings: &EndpointSettings,
    ) -> Result<EndpointRequest> {
        if network.config_only {
            return Err(Error::forbidden(format!(
                "cannot create endpoint on configuration-only network {}",
                network.name
            )));
        }
        let mode = self.network_registry.find(canonical(&record.host_config.network_mode)).ok();
        let of_container =
            mode.filter(|mode| mode.id == network.id).map(|_| record.config.mac_address.as_str());
        endpoint_request(&network.id, settings, of_container)
    }
}

/// Who shares a network with another container has no say in it.
fn check_shared(config: &ContainerConfig, host: &HostConfig) -> Result<()> {
    let published = !host.port_bindings.is_empty() || host.publish_all_ports;
    for (given, what) in [
        (published, "port publishing and the container type network mode"),
        (
            !config.exposed_ports.is_empty() && !host.port_bindings.is_empty(),
            "port exposing and the container type network mode",
        ),
        (!host.dns.is_empty(), "dns and the network mode"),
        (!host.extra_hosts.is_empty(), "custom host-to-IP mapping and the network mode"),
        (!config.mac_address.is_empty(), "mac-address and the network mode"),
        (
            !host.links.is_empty(),
            "container type network can't be used with links. This would result in undefined behavior",
        ),
    ] {
        if given {
            return Err(Error::invalid(format!("conflicting options: {what}")));
        }
    }
    Ok(())
}

/// An endpoint's settings in the network's terms.
fn endpoint_request(
    network: &str,
    settings: &EndpointSettings,
    mac_of_container: Option<&str>,
) -> Result<EndpointRequest> {
    let ipam = settings.ipam_config.clone().unwrap_or_default();
    let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let ipv4 = given(&ipam.ipv4_address)
        .map(|text| {
            let parsed = text.parse::<Ipv4Addr>().ok().filter(|ip| !ip.is_unspecified());
            parsed.ok_or_else(|| Error::invalid(format!("invalid IPv4 address: {text}")))
        })
        .transpose()?;
    let ipv6 = given(&ipam.ipv6_address)
        .map(|text| {
            let parsed = text.parse::<Ipv6Addr>().ok().filter(|ip| !ip.is_unspecified());
            parsed.ok_or_else(|| Error::invalid(format!("invalid IPv6 address: {text}")))
        })
        .transpose()?;
    let link_local = ipam
        .link_local_ips
        .iter()
        .map(|text| {
            let parsed = text.parse::<IpAddr>().ok().filter(|ip| !ip.is_unspecified());
            parsed.ok_or_else(|| Error::invalid(format!("invalid link-local IP address: {text}")))
        })
        .collect::<Result<_>>()?;
    let mac = given(&settings.mac_address)
        .or_else(|| given(mac_of_container.unwrap_or_default()))
        .map(|text| text.parse().map_err(|_| Error::invalid(format!("invalid MAC address: {text}"))))
        .transpose()?;
    let interface = settings.driver_opts.get(INTERFACE_OPTION).cloned();
    if let Some(name) = interface.as_ref().filter(|name| !is_interface_name(name)) {
        return Err(Error::invalid(format!("invalid interface name \"{name}\"")));
    }
    let sysctls = settings.driver_opts.get(SYSCTLS_OPTION).map(|text| sysctls(text)).transpose()?;
    Ok(EndpointRequest {
        network: network.to_owned(),
        ipv4,
        ipv6,
        mac,
        interface,
        sysctls: sysctls.unwrap_or_default(),
        link_local,
        gateway_priority: settings.gw_priority,
    })
}

/// `net.ipv4.conf.IFNAME.log_martians=1,…` as paths below /proc/sys; only of the endpoint's own interface.
fn sysctls(text: &str) -> Result<Vec<(String, String)>> {
    let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    text.split(',')
        .map(|sysctl| {
            let unknown = || {
                Error::invalid(format!(
                    "unrecognised network interface sysctl '{sysctl}'; represent 'net.X.Y.ethN.Z=V' as \
                     'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'"
                ))
            };
            let (key, value) = sysctl.split_once('=').ok_or_else(unknown)?;
            let parts: Vec<&str> = key.split('.').collect();
            match parts.as_slice() {
                ["net", family @ ("ipv4" | "ipv6" | "mpls"), kind, "IFNAME" | "ifname", name]
                    if word(kind) && word(name) =>
                {
                    Ok((format!("net/{family}/{kind}/IFNAME/{name}"), value.to_owned()))
                }
                _ => Err(unknown()),
            }
        })
        .collect()
}

impl Engine {
    /// A refusal with Docker's words around it; tools look for them, and for status 500.
    pub(crate) fn attach_failed(&self, error: corten_network::Error, name: &str, endpoint: &str) -> Error {
        use corten_network::Error as Cause;
        let owner = match &error {
            Cause::PortAllocated { container, .. } => self.containers.find(container).ok(),
            Cause::PortInUse { .. } | Cause::PortsExhausted { .. } | Cause::HoldPort { .. } => None,
            _ => return failed(error),
        };
        let owner = owner.map(|owner| format!(" (by container {})", owner.read().name)).unwrap_or_default();
        Error::internal(format!(
            "driver failed programming external connectivity on endpoint {name} ({endpoint}): {error}{owner}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use corten_api::network::EndpointIpamConfig;

    use super::*;

    #[test]
    fn an_endpoints_settings_are_read_or_refused() {
        let ipam = EndpointIpamConfig {
            ipv4_address: "10.0.0.7".into(),
            ipv6_address: "fd00::7".into(),
            ..Default::default()
        };
        let options = [
            (INTERFACE_OPTION, "wan0".to_owned()),
            (
                SYSCTLS_OPTION,
                "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.ifname.forwarding=0".to_owned(),
            ),
        ];
        let settings = EndpointSettings {
            ipam_config: Some(ipam),
            driver_opts: options.into_iter().collect(),
            gw_priority: 3,
            ..Default::default()
        };
        let read = endpoint_request("n", &settings, Some("02:00:00:00:00:05")).unwrap();
        assert_eq!((read.ipv4, read.ipv6), ("10.0.0.7".parse().ok(), "fd00::7".parse().ok()));
        assert_eq!(read.mac, "02:00:00:00:00:05".parse().ok());
        assert_eq!(read.sysctls[1], ("net/ipv6/conf/IFNAME/forwarding".into(), "0".into()));
        for bad in ["net.ipv4.ip_forward=1", "net.ipv4.conf.IFNAME.../x=1", "net.ipv4.conf.IFNAME.x"] {
            assert!(sysctls(bad).is_err(), "{bad}");
        }
        let wrong = EndpointSettings { mac_address: "nonsense".into(), ..Default::default() };
        assert!(endpoint_request("n", &wrong, None).unwrap_err().message.contains("invalid MAC address"));
    }

    #[test]
    fn network_modes() {
        assert_eq!(NetworkMode::parse("nat"), NetworkMode::Network("bridge".into()));
        assert_eq!(NetworkMode::parse("container:db"), NetworkMode::Container("db".into()));
        assert_eq!(NetworkMode::parse("mynet"), NetworkMode::Network("mynet".into()));
        assert_eq!(NetworkMode::parse("none"), NetworkMode::None);
    }
}
