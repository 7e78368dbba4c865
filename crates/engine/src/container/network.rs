//! A container's place in a network: what it may ask for, taking it at the start, giving it back at the end.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;

use corten_api::Map;
use corten_api::container::{ContainerConfig, HostConfig};
use corten_api::network::{EndpointSettings, NetworkingConfig};
use corten_network::{AttachRequest, HostPort, PortRequest, Protocol};

use super::{Container, EndpointRecord};
use crate::Engine;
use crate::error::{Error, Result};
use crate::id;

/// `--network`, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NetworkMode {
    /// The default NAT network.
    Nat,
    None,
    Host,
    /// Another container's namespace.
    Container(String),
}

impl NetworkMode {
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "" | "default" | "bridge" | "nat" => Ok(Self::Nat),
            "none" => Ok(Self::None),
            "host" => Ok(Self::Host),
            other => match other.strip_prefix("container:") {
                Some(name) if !name.is_empty() => Ok(Self::Container(name.to_owned())),
                _ => Err(Error::not_found(format!("network {other} not found"))),
            },
        }
    }
}

/// What the start of a container gets of its network.
pub(super) enum Joined {
    /// A namespace to hand to the monitor.
    Namespace(OwnedFd),
    /// The host's own.
    Host,
    /// Another container's, by its process.
    Of(i32),
}

impl Engine {
    /// Checks what a request says about networks; returns it by network name.
    pub(super) fn check_network(
        &self,
        config: &ContainerConfig,
        host: &HostConfig,
        networking: &NetworkingConfig,
    ) -> Result<Map<EndpointSettings>> {
        let mode = NetworkMode::parse(&host.network_mode)?;
        let mut networks: Map<EndpointSettings> = Map::empty();
        for (name, settings) in &networking.endpoints_config {
            let known = NetworkMode::parse(name)?;
            if known != mode {
                return Err(Error::unsupported(format!(
                    "a container can be in one network only with this engine: --network {} and \"{name}\"",
                    host.network_mode
                )));
            }
            check_endpoint(name, settings)?;
            networks.insert(name.clone(), settings.clone());
        }
        let published = !host.port_bindings.is_empty() || host.publish_all_ports;
        if let NetworkMode::Container(partner) = &mode {
            self.containers.find(partner)?;
            for (given, what) in [
                (published, "port publishing and the container type network mode"),
                (
                    !config.exposed_ports.is_empty() && !host.port_bindings.is_empty(),
                    "port exposing and the container type network mode",
                ),
                (!host.dns.is_empty(), "dns and the network mode"),
                (!host.extra_hosts.is_empty(), "custom host-to-IP mapping and the network mode"),
                (!config.mac_address.is_empty(), "mac-address and the network mode"),
            ] {
                if given {
                    return Err(Error::invalid(format!("conflicting options: {what}")));
                }
            }
        }
        ports(config, host)?;
        let settings = networks.values().next();
        self.attach_request("", config, host, settings)?;
        Ok(networks)
    }

    /// The partner is the one that has the name now, whatever it is called later.
    pub(super) fn settle_network_partner(&self, host: &mut HostConfig) -> Result<()> {
        if let NetworkMode::Container(partner) = NetworkMode::parse(&host.network_mode)? {
            host.network_mode = format!("container:{}", self.containers.find(&partner)?.id);
        }
        Ok(())
    }

    /// Takes the container's place in its network.
    pub(super) fn join_network(&self, container: &Container) -> Result<Joined> {
        let record = container.read().clone();
        let mode = NetworkMode::parse(&record.host_config.network_mode)?;
        match mode {
            NetworkMode::Host => Ok(Joined::Host),
            NetworkMode::None => self.networks.isolated().map(Joined::Namespace).map_err(failed),
            NetworkMode::Container(partner) => Ok(Joined::Of(self.pid_of(&partner)?)),
            NetworkMode::Nat => {
                let request = self.attach_request(
                    &record.id,
                    &record.config,
                    &record.host_config,
                    record.networks.values().next(),
                )?;
                let endpoint_id = id::random();
                let endpoint = self
                    .networks
                    .attach(&request)
                    .map_err(|error| attach_failed(error, &record.name, &endpoint_id))?;
                container.write().endpoint = Some(EndpointRecord {
                    endpoint_id,
                    ip: endpoint.ip,
                    prefix_len: endpoint.prefix_len,
                    gateway: endpoint.gateway,
                    mac: endpoint.mac.to_string(),
                    host_interface: endpoint.host_interface.clone(),
                    ports: endpoint.ports.clone(),
                });
                self.network_event("bridge", "connect", &record.id);
                Ok(Joined::Namespace(endpoint.netns))
            }
        }
    }

    /// Gives the place back; safe to repeat.
    pub(super) fn release_network(&self, container: &Container) {
        if container.write().endpoint.take().is_none() {
            return;
        }
        if let Err(error) = self.networks.detach(&container.id) {
            tracing::warn!(container = container.id, %error, "network endpoint");
        }
        self.network_event("bridge", "disconnect", &container.id);
    }

    fn attach_request(
        &self,
        id: &str,
        config: &ContainerConfig,
        host: &HostConfig,
        settings: Option<&EndpointSettings>,
    ) -> Result<AttachRequest> {
        let wish = settings.and_then(|s| s.ipam_config.as_ref()).map(|ipam| ipam.ipv4_address.as_str());
        let ip = match wish {
            None | Some("") => None,
            Some(text) => Some(
                text.parse::<Ipv4Addr>()
                    .map_err(|_| Error::invalid(format!("invalid IPv4 address: {text}")))?,
            ),
        };
        let mac = settings.map(|s| s.mac_address.as_str()).filter(|mac| !mac.is_empty());
        let mac = mac.or(Some(config.mac_address.as_str())).filter(|mac| !mac.is_empty());
        let mac = match mac {
            None => None,
            Some(text) => {
                Some(text.parse().map_err(|_| Error::invalid(format!("invalid MAC address: {text}")))?)
            }
        };
        Ok(AttachRequest { container: id.to_owned(), ip, mac, ports: ports(config, host)? })
    }
}

/// Refuses what an endpoint of the networks that every engine has can't do.
fn check_endpoint(network: &str, settings: &EndpointSettings) -> Result<()> {
    let ipam = settings.ipam_config.clone().unwrap_or_default();
    for (given, what) in [
        (!ipam.ipv6_address.is_empty(), "IPv6 addresses (--ip6)"),
        (!ipam.link_local_ips.is_empty(), "link-local addresses (--link-local-ip)"),
        (!settings.aliases.is_empty(), "network-scoped aliases (--network-alias)"),
        (!settings.links.is_empty(), "links"),
        (!settings.driver_opts.is_empty(), "driver options of an endpoint"),
    ] {
        if given {
            return Err(Error::invalid(format!("{what} are not supported in the network \"{network}\"")));
        }
    }
    Ok(())
}

/// All that is to be published.
fn ports(config: &ContainerConfig, host: &HostConfig) -> Result<Vec<PortRequest>> {
    let mut requests = Vec::new();
    for (port, bindings) in &host.port_bindings {
        let (container_port, protocol) = parse_port(port)?;
        if bindings.is_empty() {
            requests.push(PortRequest { container_port, protocol, ..PortRequest::default() });
        }
        for binding in bindings {
            let host_ip = match binding.host_ip.as_str() {
                "" => None,
                text => Some(text.parse::<IpAddr>().map_err(|_| {
                    Error::invalid(format!("invalid IP address for a published port: {text}"))
                })?),
            };
            let host_port = parse_host_port(&binding.host_port)?;
            requests.push(PortRequest { container_port, protocol, host_ip, host_port });
        }
    }
    if host.publish_all_ports {
        for port in config.exposed_ports.keys() {
            let (container_port, protocol) = parse_port(port)?;
            let taken = requests.iter().any(|r| (r.container_port, r.protocol) == (container_port, protocol));
            if !taken {
                requests.push(PortRequest { container_port, protocol, ..PortRequest::default() });
            }
        }
    }
    Ok(requests)
}

/// `80/tcp`, `80`.
pub(crate) fn parse_port(text: &str) -> Result<(u16, Protocol)> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let port = port.parse::<u16>().ok().filter(|&port| port != 0);
    let port = port.ok_or_else(|| Error::invalid(format!("invalid port specification: \"{text}\"")))?;
    let protocol = protocol.parse().map_err(|e: String| Error::invalid(format!("{e} in port \"{text}\"")))?;
    Ok((port, protocol))
}

/// Nothing, a number, or `first-last`.
fn parse_host_port(text: &str) -> Result<HostPort> {
    let number = |part: &str| {
        part.parse::<u16>().map_err(|_| Error::invalid(format!("invalid port specification: \"{text}\"")))
    };
    match text.split_once('-') {
        _ if text.is_empty() || text == "0" => Ok(HostPort::Any),
        None => Ok(HostPort::Fixed(number(text)?)),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(Error::invalid(format!("invalid range specified for port: {text}")));
            }
            Ok(HostPort::Range(first, last))
        }
    }
}

/// A refusal with Docker's words around it; tools look for them, and for status 500.
fn attach_failed(error: corten_network::Error, name: &str, endpoint: &str) -> Error {
    use corten_network::Error as Cause;
    match error {
        Cause::PortAllocated { .. }
        | Cause::PortInUse { .. }
        | Cause::PortsExhausted { .. }
        | Cause::HoldPort { .. } => Error::internal(format!(
            "driver failed programming external connectivity on endpoint {name} ({endpoint}): {error}"
        )),
        other => failed(other),
    }
}

fn failed(error: corten_network::Error) -> Error {
    let message = error.to_string();
    match error {
        error if error.is_conflict() => Error::conflict(message),
        error if error.is_invalid() => Error::invalid(message),
        _ => Error::internal(message),
    }
}

#[cfg(test)]
mod tests {
    use corten_api::network::EndpointIpamConfig;

    use super::*;

    #[test]
    fn ports_are_parsed_or_refused() {
        assert_eq!(parse_port("80/udp").unwrap(), (80, Protocol::Udp));
        assert_eq!(parse_port("443").unwrap(), (443, Protocol::Tcp));
        assert_eq!(parse_host_port("8000-8010").unwrap(), HostPort::Range(8000, 8010));
        assert_eq!(parse_host_port("").unwrap(), HostPort::Any);
        for text in ["0/tcp", "80/icmp", "x", "70000"] {
            assert!(parse_port(text).is_err(), "{text}");
        }
        assert!(parse_host_port("10-5").is_err());
    }

    #[test]
    fn what_an_endpoint_cannot_do_is_refused() {
        let refused = |settings| check_endpoint("bridge", &settings).unwrap_err().message;
        assert!(check_endpoint("bridge", &EndpointSettings::default()).is_ok());
        let alias = EndpointSettings { aliases: vec!["db".to_owned()].into(), ..Default::default() };
        assert!(refused(alias).contains("aliases"));
        let ipam = EndpointIpamConfig { ipv6_address: "fd00::2".into(), ..Default::default() };
        let ip6 = EndpointSettings { ipam_config: Some(ipam), ..Default::default() };
        assert!(refused(ip6).contains("IPv6"));
    }

    #[test]
    fn network_modes() {
        assert_eq!(NetworkMode::parse("nat").unwrap(), NetworkMode::Nat);
        assert_eq!(NetworkMode::parse("container:db").unwrap(), NetworkMode::Container("db".into()));
        assert!(NetworkMode::parse("mynet").unwrap_err().message.contains("network mynet not found"));
    }
}
