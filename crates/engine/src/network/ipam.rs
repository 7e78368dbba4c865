//! The address part of a request, checked in Docker's words and brought into the network's.

use std::net::IpAddr;

use corten_api::network::{Ipam, IpamConfig};
use corten_network::SubnetRequest;
use ipnet::IpNet;

use crate::error::{Error, Result};

/// Auxiliary addresses of these names are the containers' way out instead of the bridge.
const DEFAULT_GATEWAYS: [&str; 2] = ["DefaultGatewayIPv4", "DefaultGatewayIPv6"];

/// The subnets that a request names. Those of IPv6 don't count unless it is enabled.
pub fn subnets(ipam: Option<&Ipam>, ipv6: bool) -> Result<Vec<SubnetRequest>> {
    let Some(ipam) = ipam else { return Ok(Vec::new()) };
    if !matches!(ipam.driver.as_str(), "" | "default") {
        let driver = &ipam.driver;
        return Err(Error::not_found(format!(
            "could not resolve IPAM driver \"{driver}\": plugin \"{driver}\" not found"
        )));
    }
    let (mut subnets, mut errors) = (Vec::new(), Vec::new());
    for config in ipam.config.iter().filter(|config| **config != IpamConfig::default()) {
        match subnet(config, ipv6) {
            Ok(found) => subnets.extend(found),
            Err(found) => errors.extend(found),
        }
    }
    if errors.is_empty() {
        return Ok(subnets);
    }
    Err(Error::invalid(format!("invalid network config:\n{}", errors.join("\n"))))
}

fn subnet(config: &IpamConfig, ipv6: bool) -> std::result::Result<Option<SubnetRequest>, Vec<String>> {
    let one = |error: String| vec![error];
    if config.subnet.is_empty() {
        return Err(one("no subnet given: an address, a range and a gateway belong to one".to_owned()));
    }
    let net: IpNet = config
        .subnet
        .parse()
        .map_err(|_| one(format!("invalid subnet {}: invalid CIDR block notation", config.subnet)))?;
    if matches!(net, IpNet::V6(_)) && !ipv6 {
        return Ok(None);
    }
    let mut errors = Vec::new();
    if net != net.trunc() {
        errors.push(format!("invalid subnet {net}: it should be {}", net.trunc()));
    }
    let mut address = |what: &str, text: &str| -> Option<IpAddr> {
        if text.is_empty() {
            return None;
        }
        match within(text, &net) {
            Ok(ip) => Some(ip),
            Err(why) => {
                errors.push(format!("invalid {what}: {why}"));
                None
            }
        }
    };
    let gateway = address(&format!("gateway {}", config.gateway), &config.gateway);
    let mut request = SubnetRequest { gateway, ..SubnetRequest::new(net.trunc()) };
    for (name, text) in &config.aux_address {
        let Some(ip) = address(&format!("auxiliary address {name}"), text) else { continue };
        if DEFAULT_GATEWAYS.contains(&name.as_str()) {
            request.default_gateway = Some(ip);
        }
        request.reserved.push(ip);
    }
    if !config.ip_range.is_empty() {
        match range(&config.ip_range, &net) {
            Ok(range) => request.range = Some(range),
            Err(why) => errors.push(format!("invalid ip-range {}: {why}", config.ip_range)),
        }
    }
    if errors.is_empty() { Ok(Some(request)) } else { Err(errors) }
}

fn within(text: &str, net: &IpNet) -> std::result::Result<IpAddr, String> {
    let ip: IpAddr = text.parse().map_err(|_| "invalid address".to_owned())?;
    if ip.is_ipv4() != net.addr().is_ipv4() {
        return Err(format!("parent subnet is an IPv{} block", version(net)));
    }
    if !net.contains(&ip) {
        return Err(format!("parent subnet {net} doesn't contain this address"));
    }
    Ok(ip)
}

fn range(text: &str, net: &IpNet) -> std::result::Result<IpNet, String> {
    let range: IpNet = text.parse().map_err(|_| "invalid CIDR block notation".to_owned())?;
    if range.addr().is_ipv4() != net.addr().is_ipv4() {
        return Err(format!("parent subnet is an IPv{} block", version(net)));
    }
    if range.prefix_len() < net.prefix_len() {
        return Err(format!("CIDR block is bigger than its parent subnet {net}"));
    }
    if range != range.trunc() {
        return Err(format!("it should be {}", range.trunc()));
    }
    if !net.contains(&range) {
        return Err(format!("parent subnet {net} doesn't contain ip-range"));
    }
    Ok(range)
}

fn version(net: &IpNet) -> u8 {
    if net.addr().is_ipv4() { 4 } else { 6 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(subnet: &str, range: &str, gateway: &str) -> IpamConfig {
        IpamConfig {
            subnet: subnet.into(),
            ip_range: range.into(),
            gateway: gateway.into(),
            ..IpamConfig::default()
        }
    }

    fn read(configs: Vec<IpamConfig>, ipv6: bool) -> Result<Vec<SubnetRequest>> {
        subnets(Some(&Ipam { config: configs.into(), ..Ipam::default() }), ipv6)
    }

    #[test]
    fn every_fault_is_named_as_docker_names_it() {
        let error = |c| read(vec![c], true).unwrap_err().message;
        assert_eq!(
            error(config("10.0.0.5/24", "", "10.1.0.1")),
            "invalid network config:\ninvalid subnet 10.0.0.5/24: it should be 10.0.0.0/24\n\
             invalid gateway 10.1.0.1: parent subnet 10.0.0.5/24 doesn't contain this address"
        );
        let range = error(config("10.0.0.0/24", "10.0.0.0/16", ""));
        assert!(
            range.contains("invalid ip-range 10.0.0.0/16: CIDR block is bigger than its parent"),
            "{range}"
        );
        assert!(error(config("10.0.0.0/24", "", "fd00::1")).contains("parent subnet is an IPv4 block"));
        let mut aux = config("10.0.0.0/24", "", "");
        aux.aux_address = [("host", "10.0.1.1".to_owned())].into_iter().collect();
        assert!(error(aux).contains("invalid auxiliary address host: "));
    }

    #[test]
    fn ipv6_subnets_count_when_enabled_and_a_default_gateway_is_told() {
        let six = config("fd00:7::/64", "", "");
        assert!(read(vec![six.clone()], false).unwrap().is_empty());
        assert_eq!(read(vec![six], true).unwrap().len(), 1);
        let mut four = config("10.0.0.0/24", "10.0.0.128/25", "10.0.0.254");
        four.aux_address = [("DefaultGatewayIPv4", "10.0.0.9".to_owned())].into_iter().collect();
        let read = read(vec![four], false).unwrap();
        assert_eq!(read[0].default_gateway, "10.0.0.9".parse().ok());
        assert_eq!(read[0].gateway, "10.0.0.254".parse().ok());
        assert!(subnets(Some(&Ipam { driver: "dhcp".into(), ..Ipam::default() }), false).is_err());
    }
}
