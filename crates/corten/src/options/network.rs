//! Where the container is reached: networks, addresses, published ports, name resolution.

use std::net::IpAddr;

use corten_api::container::ContainerCreateRequest;
use corten_api::network::{EndpointIpamConfig, EndpointSettings};
use corten_api::{List, Map};

use super::process::non_empty;
use super::{OptionError, csv, ports};

#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Network")]
pub struct NetworkFlags {
    /// Connect a container to a network
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    pub network: Vec<String>,
    /// Add network-scoped alias for the container
    #[arg(long, alias = "net-alias", value_name = "NAME")]
    pub network_alias: Vec<String>,
    /// Publish a container's port(s) to the host
    #[arg(short, long, value_name = "[[IP:]HOST:]CONTAINER[/PROTO]")]
    pub publish: Vec<String>,
    /// Publish all exposed ports to random ports
    #[arg(short = 'P', long)]
    pub publish_all: bool,
    /// Expose a port or a range of ports
    #[arg(long, value_name = "PORT[-END][/PROTO]")]
    pub expose: Vec<String>,
    /// IPv4 address (e.g., 172.30.100.104)
    #[arg(long, value_name = "ADDRESS")]
    pub ip: Option<String>,
    /// IPv6 address (e.g., 2001:db8::33)
    #[arg(long, value_name = "ADDRESS")]
    pub ip6: Option<String>,
    /// Container IPv4/IPv6 link-local addresses
    #[arg(long, value_name = "ADDRESS")]
    pub link_local_ip: Vec<String>,
    /// Container MAC address (e.g., 92:d0:c6:0a:29:33)
    #[arg(long, value_name = "ADDRESS")]
    pub mac_address: Option<String>,
    /// Add link to another container
    #[arg(long, value_name = "CONTAINER[:ALIAS]")]
    pub link: Vec<String>,
    /// Add a custom host-to-IP mapping (host:ip)
    #[arg(long, value_name = "HOST:IP")]
    pub add_host: Vec<String>,
    /// Set custom DNS servers
    #[arg(long, value_name = "ADDRESS")]
    pub dns: Vec<String>,
    /// Set custom DNS search domains
    #[arg(long, value_name = "DOMAIN")]
    pub dns_search: Vec<String>,
    /// Set DNS options
    #[arg(long, alias = "dns-opt", value_name = "OPTION")]
    pub dns_option: Vec<String>,
}

/// One `--network`, short or long.
#[derive(Clone, Debug, Default)]
struct Wish {
    target: String,
    endpoint: EndpointSettings,
}

impl NetworkFlags {
    pub fn apply(&self, request: &mut ContainerCreateRequest) -> Result<(), OptionError> {
        request.config.exposed_ports = Map::empty();
        request.host_config.port_bindings = Map::empty();
        ports::publish(request, &self.publish)?;
        ports::expose(request, &self.expose)?;
        let host = &mut request.host_config;
        host.publish_all_ports = self.publish_all;
        host.links = non_empty(&self.link);
        host.dns = List::empty();
        for server in &self.dns {
            host.dns.push(address("--dns", server)?.to_string());
        }
        host.dns_search = self.dns_search.clone().into();
        host.dns_options = self.dns_option.clone().into();
        for word in &self.add_host {
            host.extra_hosts.push(extra_host(word)?);
        }
        self.endpoints(request)
    }

    fn endpoints(&self, request: &mut ContainerCreateRequest) -> Result<(), OptionError> {
        let mut wishes = Vec::new();
        for word in &self.network {
            wishes.push(network(word).map_err(|why| OptionError::invalid("--network", word, why))?);
        }
        let unnamed = wishes.is_empty();
        if unnamed {
            wishes.push(Wish { target: "default".to_owned(), ..Wish::default() });
        }
        self.apply_to_first(&mut wishes[0])?;
        request.host_config.network_mode = wishes[0].target.clone();
        let user_defined = |wish: &Wish| {
            !matches!(wish.target.as_str(), "default" | "bridge" | "nat" | "host" | "none")
                && !wish.target.starts_with("container:")
        };
        if wishes.iter().any(user_defined) && !wishes.iter().all(user_defined) {
            let why = "a user-defined network doesn't go with bridge, host, none or container:…";
            return Err(OptionError::Conflict(why.into()));
        }
        let endpoints = &mut request.networking_config.endpoints_config;
        *endpoints = Map::empty();
        let alone = wishes.len() == 1;
        for wish in wishes {
            if endpoints.contains_key(&wish.target) {
                return Err(OptionError::Conflict(format!("--network {} is given twice", wish.target)));
            }
            // A single network without wishes is named by the mode alone.
            if alone && !unnamed && wish.endpoint == EndpointSettings::default() {
                continue;
            }
            endpoints.insert(wish.target, wish.endpoint);
        }
        Ok(())
    }

    /// The plain flags (`--ip`, `--network-alias` …) speak of the first network.
    fn apply_to_first(&self, wish: &mut Wish) -> Result<(), OptionError> {
        let endpoint = &mut wish.endpoint;
        let conflict = |flag: &str, key: &str| {
            Err(OptionError::Conflict(format!("{flag} and --network …,{key}=… exclude each other")))
        };
        if !self.network_alias.is_empty() {
            if !endpoint.aliases.is_empty() {
                return conflict("--network-alias", "alias");
            }
            endpoint.aliases = non_empty(&self.network_alias);
        }
        if !self.link.is_empty() {
            endpoint.links = non_empty(&self.link);
        }
        if let Some(mac) = &self.mac_address {
            if !endpoint.mac_address.is_empty() {
                return conflict("--mac-address", "mac-address");
            }
            endpoint.mac_address =
                mac_address(mac).map_err(|why| OptionError::invalid("--mac-address", mac, why))?;
        }
        if let Some(ip) = &self.ip {
            let ipam = endpoint.ipam_config.get_or_insert_with(EndpointIpamConfig::default);
            if !ipam.ipv4_address.is_empty() {
                return conflict("--ip", "ip");
            }
            ipam.ipv4_address = address("--ip", ip)?.to_string();
        }
        if let Some(ip) = &self.ip6 {
            let ipam = endpoint.ipam_config.get_or_insert_with(EndpointIpamConfig::default);
            if !ipam.ipv6_address.is_empty() {
                return conflict("--ip6", "ip6");
            }
            ipam.ipv6_address = address("--ip6", ip)?.to_string();
        }
        for ip in &self.link_local_ip {
            let ipam = endpoint.ipam_config.get_or_insert_with(EndpointIpamConfig::default);
            ipam.link_local_ips.push(address("--link-local-ip", ip)?.to_string());
        }
        Ok(())
    }
}

/// Parses `NAME` or `name=NAME,alias=…,ip=…,mac-address=…,driver-opt=k=v`.
fn network(text: &str) -> Result<Wish, String> {
    if text.is_empty() {
        return Err("the name is empty".to_owned());
    }
    if !text.contains('=') {
        return Ok(Wish { target: text.to_owned(), ..Wish::default() });
    }
    let mut wish = Wish::default();
    for field in csv::fields(text)? {
        let (key, value) = field.split_once('=').ok_or_else(|| format!("{field:?} is not key=value"))?;
        let endpoint = &mut wish.endpoint;
        let ip = || value.parse::<IpAddr>().map_err(|_| format!("{value:?} is no IP address"));
        match key.trim().to_ascii_lowercase().as_str() {
            "name" => wish.target = value.to_owned(),
            "alias" => endpoint.aliases.push(value.to_owned()),
            "ip" => ipam(endpoint).ipv4_address = ip()?.to_string(),
            "ip6" => ipam(endpoint).ipv6_address = ip()?.to_string(),
            "link-local-ip" => {
                let address = ip()?.to_string();
                ipam(endpoint).link_local_ips.push(address);
            }
            "mac-address" => endpoint.mac_address = mac_address(value)?,
            "driver-opt" => {
                let (option, value) = value.split_once('=').ok_or("expected driver-opt=KEY=VALUE")?;
                endpoint.driver_opts.insert(option.to_ascii_lowercase(), value.to_owned());
            }
            "gw-priority" => {
                endpoint.gw_priority = value.parse().map_err(|_| format!("{value:?} is no number"))?;
            }
            key => return Err(format!("there is no key {key:?}")),
        }
    }
    if wish.target.is_empty() {
        return Err("name=… is required".to_owned());
    }
    Ok(wish)
}

fn ipam(endpoint: &mut EndpointSettings) -> &mut EndpointIpamConfig {
    endpoint.ipam_config.get_or_insert_with(EndpointIpamConfig::default)
}

pub fn address(flag: &'static str, text: &str) -> Result<IpAddr, OptionError> {
    text.trim().parse().map_err(|_| OptionError::invalid(flag, text, "this is no IP address"))
}

/// Checks `xx:xx:xx:xx:xx:xx` (or with dashes) and writes it with colons in lower case.
fn mac_address(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    let octet = |part: &&str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    if parts.len() != 6 || !parts.iter().all(octet) {
        return Err(format!("{text:?} is no MAC address"));
    }
    Ok(parts.join(":").to_ascii_lowercase())
}

/// `host:ip`, `host=ip` or `host:[ip6]`; `host-gateway` is left to the engine.
fn extra_host(word: &str) -> Result<String, OptionError> {
    let bad = |why: &str| OptionError::invalid("--add-host", word, why);
    let split = word.split_once('=').or_else(|| word.split_once(':'));
    let (host, ip) = split.ok_or_else(|| bad("expected HOST:IP"))?;
    if host.is_empty() {
        return Err(bad("the host's name is empty"));
    }
    let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
    if bare != "host-gateway" && bare.parse::<IpAddr>().is_err() {
        return Err(bad("expected an IP address or host-gateway behind the name"));
    }
    Ok(format!("{host}:{bare}"))
}
