//! `network create`.

use corten_api::network::{ConfigReference, NetworkCreateRequest};

use super::ipam::IpamFlags;
use crate::cli::{Context, Failure, Outcome, Verb};
use crate::options::{OptionError, key_values, values};
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct Create {
    /// Enable manual container attachment
    #[arg(long)]
    attachable: bool,
    #[command(flatten)]
    ipam: IpamFlags,
    /// The network from which to copy the configuration
    #[arg(long, value_name = "NETWORK")]
    config_from: Option<String>,
    /// Create a configuration only network
    #[arg(long)]
    config_only: bool,
    /// Driver to manage the network
    #[arg(short, long, default_value = "bridge")]
    driver: String,
    /// Create swarm routing-mesh network
    #[arg(long)]
    ingress: bool,
    /// Restrict external access to the network
    #[arg(long)]
    internal: bool,
    /// Enable or disable IPv4 address assignment (on unless said otherwise)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = values::boolean,
        value_name = "BOOL")]
    ipv4: Option<bool>,
    /// Enable or disable IPv6 address assignment
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = values::boolean,
        value_name = "BOOL")]
    ipv6: Option<bool>,
    /// Set metadata on a network
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Set driver specific options
    #[arg(short, long, value_name = "KEY=VALUE")]
    opt: Vec<String>,
    /// Control the network's scope
    #[arg(long, value_name = "SCOPE")]
    scope: Option<String>,
    #[arg(value_name = "NETWORK")]
    name: String,
}

impl Create {
    fn request(self) -> Result<NetworkCreateRequest, OptionError> {
        Ok(NetworkCreateRequest {
            ipam: Some(self.ipam.ipam()?),
            options: key_values("--opt", &self.opt)?,
            labels: key_values("--label", &self.label)?,
            name: self.name,
            driver: self.driver,
            scope: self.scope.unwrap_or_default(),
            enable_ipv4: self.ipv4,
            enable_ipv6: self.ipv6,
            internal: self.internal,
            attachable: self.attachable,
            ingress: self.ingress,
            config_only: self.config_only,
            config_from: self.config_from.map(|network| ConfigReference { network }),
            ..NetworkCreateRequest::default()
        })
    }
}

impl Verb for Create {
    const ABOUT: &'static str = "Create a network";
    const USAGE: &'static str = "[OPTIONS] NETWORK";

    fn run(self, context: &Context) -> Outcome {
        let request = self.request().map_err(|error| Failure::from(error).exit(1))?;
        let client = context.client()?;
        let created = context.block_on(client.network_create(&request))??;
        if !created.warning.is_empty() {
            output::say!("WARNING: {}", created.warning);
        }
        output::line(&created.id)?;
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command, FromArgMatches};
    use serde_json::{Value, json};

    use super::*;

    fn request(line: &str) -> Result<Value, String> {
        let command = Create::augment_args(Command::new("create").no_binary_name(true));
        let matches = command.try_get_matches_from(line.split_whitespace()).map_err(|e| e.to_string())?;
        let create = Create::from_arg_matches(&matches).map_err(|e| e.to_string())?;
        create.request().map(|request| serde_json::to_value(request).unwrap()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_name_is_enough() {
        let sent = request("shop").unwrap();
        assert_eq!(sent["Name"], "shop");
        assert_eq!(sent["Driver"], "bridge");
        assert_eq!(sent["IPAM"], json!({"Driver": "default", "Options": {}, "Config": []}));
        assert!(sent.get("EnableIPv4").is_none() && sent.get("EnableIPv6").is_none());
    }

    #[test]
    fn every_flag_is_sent() {
        let sent = request(
            "--attachable --internal --ipv6 --ipv4=false --ingress --scope local -d macvlan -o a=b --opt c=d --label l=1 --label m \
             --config-only --config-from other --ipam-driver mine --ipam-opt x=y shop",
        )
        .unwrap();
        for (field, value) in [
            ("Attachable", json!(true)),
            ("Internal", json!(true)),
            ("EnableIPv6", json!(true)),
            ("EnableIPv4", json!(false)),
            ("Ingress", json!(true)),
            ("Scope", json!("local")),
            ("Driver", json!("macvlan")),
            ("Options", json!({"a": "b", "c": "d"})),
            ("Labels", json!({"l": "1", "m": ""})),
            ("ConfigOnly", json!(true)),
            ("ConfigFrom", json!({"Network": "other"})),
            ("IPAM", json!({"Driver": "mine", "Options": {"x": "y"}, "Config": []})),
        ] {
            assert_eq!(sent[field], value, "{field}");
        }
    }

    #[test]
    fn ranges_gateways_and_reserved_addresses_find_their_subnet() {
        let sent = request(
            "--subnet 10.1.0.0/16,fd00:1::/64 --subnet 10.2.0.0/16 --ip-range 10.2.1.0/24 --gateway 10.1.0.254 --gateway fd00:1::ff \
             --aux-address router=10.1.0.9 --aux-address six=fd00:1::9 shop",
        )
        .unwrap();
        assert_eq!(
            sent["IPAM"]["Config"],
            json!([
                {"Subnet": "10.1.0.0/16", "Gateway": "10.1.0.254", "AuxiliaryAddresses": {"router": "10.1.0.9"}},
                {"Subnet": "fd00:1::/64", "Gateway": "fd00:1::ff", "AuxiliaryAddresses": {"six": "fd00:1::9"}},
                {"Subnet": "10.2.0.0/16", "IPRange": "10.2.1.0/24"},
            ])
        );
    }

    #[test]
    fn what_fits_no_subnet_is_refused() {
        let subnet = "--subnet 10.1.0.0/16";
        for (line, why) in [
            ("--gateway 10.1.0.1 n".to_owned(), "every ip-range or gateway must have a corresponding subnet"),
            (
                "--ip-range 10.1.0.0/24 n".to_owned(),
                "every ip-range or gateway must have a corresponding subnet",
            ),
            (format!("{subnet} --gateway 10.2.0.1 n"), "no matching subnet for gateway 10.2.0.1"),
            (format!("{subnet} --ip-range 10.2.0.0/24 n"), "no matching subnet for range 10.2.0.0/24"),
            (format!("{subnet} --aux-address a=10.2.0.1 n"), "no matching subnet for aux-address 10.2.0.1"),
            (
                format!("{subnet} --subnet 10.1.2.0/24 n"),
                "multiple overlapping subnet configuration is not supported",
            ),
            (
                format!("{subnet} --subnet 10.2.0.0/16 --gateway 10.1.0.1 --gateway 10.1.0.2 n"),
                "cannot configure multiple gateways",
            ),
            (
                format!("{subnet} --subnet 10.2.0.0/16 --ip-range 10.1.1.0/24 --ip-range 10.1.2.0/24 n"),
                "cannot configure multiple ranges",
            ),
            ("--subnet 10.1.0.0 n".to_owned(), "expected a subnet such as 172.20.0.0/16"),
            (format!("{subnet} --gateway x n"), "this is no IP address"),
            (format!("{subnet} --aux-address 10.1.0.5 n"), "expected key=value"),
            ("--ipv6=maybe n".to_owned(), "true or false"),
        ] {
            let refusal = request(&line).unwrap_err();
            assert!(refusal.contains(why), "{line}: {refusal}");
        }
    }
}
