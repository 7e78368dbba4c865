//! The addresses of a new network: subnets, and what belongs to each.

use std::net::IpAddr;

use corten_api::network::{Ipam, IpamConfig};
use corten_api::{List, Map};
use ipnet::IpNet;

use crate::options::{OptionError, key_values, values};

#[derive(Clone, Debug, clap::Args)]
pub struct IpamFlags {
    /// Auxiliary IPv4 or IPv6 addresses used by the network's driver
    #[arg(long, value_name = "NAME=ADDRESS")]
    aux_address: Vec<String>,
    /// IPv4 or IPv6 gateway for the master subnet
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    gateway: Vec<String>,
    /// Allocate container addresses from a sub-range
    #[arg(long, value_name = "RANGE", value_delimiter = ',')]
    ip_range: Vec<String>,
    /// IP address management driver
    #[arg(long, value_name = "DRIVER", default_value = "default")]
    ipam_driver: String,
    /// Set options of the IP address management driver
    #[arg(long, value_name = "KEY=VALUE")]
    ipam_opt: Vec<String>,
    /// Subnet in CIDR format that represents a network segment
    #[arg(long, value_name = "SUBNET", value_delimiter = ',')]
    subnet: Vec<String>,
}

/// A subnet as it was written, and as it is compared.
struct Segment {
    net: IpNet,
    config: IpamConfig,
}

impl IpamFlags {
    /// Gives every range, gateway and reserved address to the subnet that has it.
    pub fn ipam(&self) -> Result<Ipam, OptionError> {
        let conflict = |why: String| Err(OptionError::Conflict(why));
        if self.subnet.len() < self.ip_range.len() || self.subnet.len() < self.gateway.len() {
            return conflict("every ip-range or gateway must have a corresponding subnet".to_owned());
        }
        let mut segments: Vec<Segment> = Vec::new();
        for text in &self.subnet {
            let net = net("--subnet", text)?;
            if segments.iter().any(|other| other.net.contains(&net) || net.contains(&other.net)) {
                return conflict("multiple overlapping subnet configuration is not supported".to_owned());
            }
            segments
                .push(Segment { net, config: IpamConfig { subnet: text.clone(), ..IpamConfig::default() } });
        }
        for text in &self.ip_range {
            let range = net("--ip-range", text)?;
            let segment = find(&mut segments, range.addr(), "range", text)?;
            let Segment { config: IpamConfig { ip_range, subnet, .. }, .. } = segment;
            if !ip_range.is_empty() {
                return conflict(format!(
                    "cannot configure multiple ranges ({text}, {ip_range}) on the same subnet ({subnet})"
                ));
            }
            ip_range.clone_from(text);
        }
        for text in &self.gateway {
            let address = address("--gateway", text)?;
            let segment = find(&mut segments, address, "gateway", text)?;
            let IpamConfig { gateway, subnet, .. } = &mut segment.config;
            if !gateway.is_empty() {
                return conflict(format!(
                    "cannot configure multiple gateways ({text}, {gateway}) for the same subnet ({subnet})"
                ));
            }
            *gateway = address.to_string();
        }
        for word in &self.aux_address {
            let (name, text) = values::strict_key_value("--aux-address", word)?;
            let address = address("--aux-address", &text)?;
            let segment = find(&mut segments, address, "aux-address", &text)?;
            segment.config.aux_address.insert(name, address.to_string());
        }
        let options =
            if self.ipam_opt.is_empty() { Map::empty() } else { key_values("--ipam-opt", &self.ipam_opt)? };
        let mut config = List::empty();
        segments.into_iter().for_each(|segment| config.push(segment.config));
        Ok(Ipam { driver: self.ipam_driver.clone(), options, config })
    }
}

fn find<'a>(
    segments: &'a mut [Segment],
    address: IpAddr,
    what: &str,
    text: &str,
) -> Result<&'a mut Segment, OptionError> {
    let found = segments.iter_mut().find(|segment| segment.net.contains(&address));
    found.ok_or_else(|| OptionError::Conflict(format!("no matching subnet for {what} {text}")))
}

fn net(flag: &'static str, text: &str) -> Result<IpNet, OptionError> {
    text.parse().map_err(|_| {
        OptionError::invalid(flag, text, "expected a subnet such as 172.20.0.0/16 or fd00:20::/64")
    })
}

fn address(flag: &'static str, text: &str) -> Result<IpAddr, OptionError> {
    text.parse().map_err(|_| OptionError::invalid(flag, text, "this is no IP address"))
}
