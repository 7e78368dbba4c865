//! `network connect` and `network disconnect`.

use corten_api::Map;
use corten_api::network::{
    EndpointIpamConfig, EndpointSettings, NetworkConnectRequest, NetworkDisconnectRequest,
};

use crate::cli::{Context, Failure, Outcome, Verb};
use crate::options::{OptionError, network_address, values};

#[derive(Clone, Debug, clap::Args)]
pub struct Connect {
    /// Add network-scoped alias for the container
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    alias: Vec<String>,
    /// Driver options for the network
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',')]
    driver_opt: Vec<String>,
    /// Highest gw-priority provides the default gateway. Accepts positive and negative values
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    gw_priority: Option<i64>,
    /// IPv4 address (e.g., "172.30.100.104")
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
    /// IPv6 address (e.g., "2001:db8::33")
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<String>,
    /// Add link to another container
    #[arg(long, value_name = "CONTAINER[:ALIAS]")]
    link: Vec<String>,
    /// Add a link-local address for the container
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    link_local_ip: Vec<String>,
    #[arg(value_name = "NETWORK")]
    network: String,
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Connect {
    fn request(&self) -> Result<NetworkConnectRequest, OptionError> {
        let mut ipam = EndpointIpamConfig::default();
        if let Some(ip) = &self.ip {
            ipam.ipv4_address = network_address("--ip", ip)?.to_string();
        }
        if let Some(ip) = &self.ip6 {
            ipam.ipv6_address = network_address("--ip6", ip)?.to_string();
        }
        for ip in &self.link_local_ip {
            ipam.link_local_ips.push(network_address("--link-local-ip", ip)?.to_string());
        }
        let mut driver_opts = Map::default();
        for word in &self.driver_opt {
            let (key, value) = values::strict_key_value("--driver-opt", word)?;
            driver_opts.insert(key, value);
        }
        let endpoint = EndpointSettings {
            ipam_config: Some(ipam),
            links: self.link.clone().into(),
            aliases: self.alias.clone().into(),
            driver_opts,
            gw_priority: self.gw_priority.unwrap_or_default(),
            ..EndpointSettings::default()
        };
        Ok(NetworkConnectRequest { container: self.container.clone(), endpoint_config: Some(endpoint) })
    }
}

impl Verb for Connect {
    const ABOUT: &'static str = "Connect a container to a network";
    const USAGE: &'static str = "[OPTIONS] NETWORK CONTAINER";

    fn run(self, context: &Context) -> Outcome {
        let request = self.request().map_err(|error| Failure::from(error).exit(1))?;
        let client = context.client()?;
        context.block_on(client.network_connect(&self.network, &request))??;
        Ok(0)
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct Disconnect {
    /// Force the container to disconnect from a network
    #[arg(short, long)]
    force: bool,
    #[arg(value_name = "NETWORK")]
    network: String,
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Verb for Disconnect {
    const ABOUT: &'static str = "Disconnect a container from a network";
    const USAGE: &'static str = "[OPTIONS] NETWORK CONTAINER";

    fn run(self, context: &Context) -> Outcome {
        let request = NetworkDisconnectRequest { container: self.container, force: self.force };
        let client = context.client()?;
        context.block_on(client.network_disconnect(&self.network, &request))??;
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command, FromArgMatches};
    use serde_json::json;

    use super::*;

    fn connect(line: &str) -> Connect {
        let command = Connect::augment_args(Command::new("connect").no_binary_name(true));
        let matches = command.try_get_matches_from(line.split_whitespace()).unwrap();
        Connect::from_arg_matches(&matches).unwrap()
    }

    #[test]
    fn every_flag_is_sent() {
        let line = "--alias a,b --alias c --driver-opt x=y --gw-priority -5 --ip 10.0.0.9 --ip6 fd00::9 --link db:store \
                    --link web --link-local-ip 169.254.3.4 net box";
        let sent = serde_json::to_value(connect(line).request().unwrap()).unwrap();
        assert_eq!(sent["Container"], "box");
        let endpoint = &sent["EndpointConfig"];
        assert_eq!(endpoint["Aliases"], json!(["a", "b", "c"]));
        assert_eq!(endpoint["DriverOpts"], json!({"x": "y"}));
        assert_eq!(endpoint["GwPriority"], json!(-5));
        assert_eq!(endpoint["Links"], json!(["db:store", "web"]));
        assert_eq!(
            endpoint["IPAMConfig"],
            json!({"IPv4Address": "10.0.0.9", "IPv6Address": "fd00::9", "LinkLocalIPs": ["169.254.3.4"]})
        );
        assert!(connect("--ip x net box").request().unwrap_err().to_string().contains("no IP address"));
        assert!(connect("--driver-opt x net box").request().is_err());
    }
}
