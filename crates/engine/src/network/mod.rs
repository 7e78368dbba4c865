//! Networks: which there are, and who is in them. What they are in the kernel is `corten_network`'s matter.
//!
//! Every engine has the default NAT network (`bridge`, also called `nat`), `host` and `none`; further ones are records in the
//! database. A network's id is what endpoints and the kernel's objects refer to.

mod connect;
mod create;
mod ipam;
mod list;
mod names;
mod record;
mod registry;
mod remove;

use corten_network::{AddressPool, Networks, Settings};

pub use names::dns_names;
pub use record::NetworkRecord;
pub use registry::NetworkRegistry;

use crate::Engine;
use crate::error::{Error, Result};
use crate::id::hex;
use crate::options::NetworkOptions;

pub const BRIDGE: &str = "bridge";
pub const HOST: &str = "host";
pub const NONE: &str = "none";
/// Those that every engine has; nobody makes or removes them.
pub const PREDEFINED: [&str; 3] = [BRIDGE, HOST, NONE];

/// The id of a network that every engine has: the same at every start of an engine, and another for each instance.
pub fn predefined_id(instance: &str, name: &str) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, format!("network {instance} {name}").as_bytes()).as_ref())
}

/// `bridge` by all its names; other names as they are.
pub fn canonical(name: &str) -> &str {
    if matches!(name, "" | "default" | "nat") { BRIDGE } else { name }
}

/// Brings the instance's bridge and rules up, or finds them again.
pub fn open(instance: &str, options: &NetworkOptions) -> Result<Networks> {
    let failed = |e: corten_network::Error| Error::internal(format!("network: {e}"));
    let mut settings = Settings::new(instance.parse().map_err(failed)?);
    settings.network_id = predefined_id(instance, BRIDGE);
    settings.bridge = options.bridge.clone();
    let (net, net6) = ("an IPv4 address with a prefix length", "an IPv6 address with a prefix length");
    settings.bip = parsed("bip", &options.bip, net)?;
    settings.fixed_cidr = parsed("fixed-cidr", &options.fixed_cidr, net)?;
    settings.gateway = parsed("default-gateway", &options.default_gateway, "an IPv4 address")?;
    settings.ipv6 = options.ipv6;
    let only_with_ipv6 = [
        ("bip6", &options.bip6),
        ("fixed-cidr-v6", &options.fixed_cidr_v6),
        ("default-gateway-v6", &options.default_gateway_v6),
    ];
    for (name, _) in only_with_ipv6.iter().filter(|(_, given)| given.is_some() && !options.ipv6) {
        tracing::warn!("{name} has no effect: the default network has no IPv6 without \"ipv6\": true");
    }
    settings.bip6 = parsed("bip6", &options.bip6, net6)?;
    settings.fixed_cidr_v6 = parsed("fixed-cidr-v6", &options.fixed_cidr_v6, net6)?;
    settings.gateway_v6 = parsed("default-gateway-v6", &options.default_gateway_v6, "an IPv6 address")?;
    settings.icc = options.icc.unwrap_or(settings.icc);
    settings.ip_masq = options.ip_masq.unwrap_or(settings.ip_masq);
    settings.ip_forward = options.ip_forward.unwrap_or(settings.ip_forward);
    settings.mtu = options.mtu;
    settings.default_host_ip = options.host_ip.unwrap_or(settings.default_host_ip);
    settings.address_pools =
        options.address_pools.iter().map(|(base, size)| AddressPool { base: *base, size: *size }).collect();
    Networks::open(settings).map_err(failed)
}

fn parsed<T: std::str::FromStr>(name: &str, text: &Option<String>, what: &str) -> Result<Option<T>> {
    let Some(text) = text.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| Error::invalid(format!("{name}: \"{text}\" is not {what}")))
}

/// An error of the network's with the status that Docker answers.
pub(crate) fn failed(error: corten_network::Error) -> Error {
    use corten_network::Error as Cause;
    let message = error.to_string();
    match &error {
        Cause::NoNetwork(_) => Error::not_found(message),
        Cause::PoolOverlaps | Cause::NetworkInUse(_) | Cause::AddressInUse(_) => Error::forbidden(message),
        Cause::PoolsExhausted => Error::invalid(message),
        // As Docker answers.
        Cause::IsolatedNotInternal => Error::internal(message),
        error if error.is_conflict() => Error::conflict(message),
        error if error.is_invalid() => Error::invalid(message),
        _ => Error::internal(message),
    }
}

impl Engine {
    /// Takes the recorded networks back; one that can't be is told of, and its containers do without.
    pub(crate) fn restore_networks(&self) -> Result<()> {
        for record in self.store.networks::<NetworkRecord>()? {
            if let Some(bridge) = &record.bridge
                && let Err(error) = self.networks.add(bridge)
            {
                tracing::warn!(network = record.name, %error, "a network could not be made again");
            }
            self.network_registry.insert(record);
        }
        Ok(())
    }
}
