//! Which ports a container wants published, read and checked.

use std::net::IpAddr;

use corten_api::container::{ContainerConfig, HostConfig};
use corten_network::{HostPort, PortRequest, Protocol};

use super::Record;
use crate::error::{Error, Result};

/// All that a container is to have published.
pub(crate) fn requested_ports(record: &Record) -> Result<Vec<PortRequest>> {
    ports(&record.config, &record.host_config)
}

/// All that is to be published.
pub(super) fn ports(config: &ContainerConfig, host: &HostConfig) -> Result<Vec<PortRequest>> {
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

#[cfg(test)]
mod tests {
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
}
