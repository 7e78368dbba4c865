//! Addresses of registries: what users and clients write, and who may be spoken to without proof of identity.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::{Error, Result};

/// How clients of old call Docker's hub.
const HUB_NAMES: [&str; 4] =
    ["docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];

/// `host[:port]` of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryAddress {
    host: String,
    port: Option<u16>,
}

impl RegistryAddress {
    /// Reads a host or the URL of anything there; nothing is Docker's hub.
    ///
    /// # Errors
    /// When it is no host, or has a user's name before it.
    pub fn parse(text: &str) -> Result<Self> {
        let failed = |why| Error::Address(text.to_owned(), why);
        let rest = text.trim();
        let rest = rest.strip_prefix("https://").or_else(|| rest.strip_prefix("http://")).unwrap_or(rest);
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if text.trim().is_empty() {
            return Ok(Self { host: HUB_NAMES[0].to_owned(), port: None });
        }
        let (host, port) = match authority.rsplit_once(':') {
            // The colons of an IPv6 address stand in brackets.
            Some((host, port)) if !port.ends_with(']') => {
                let port = port.parse().ok().filter(|port| *port > 0);
                (host, Some(port.ok_or_else(|| failed("its port is no number from 1 to 65535"))?))
            }
            _ => (authority, None),
        };
        let six = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_host = match six {
            Some(six) => six.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
                !host.is_empty() && !host.starts_with('.') && !host.contains("..") && host.chars().all(known)
            }
        };
        if !is_host {
            return Err(failed("it is no host, with a port or without"));
        }
        let host = host.to_ascii_lowercase();
        let host = if HUB_NAMES.contains(&host.as_str()) { HUB_NAMES[0].to_owned() } else { host };
        Ok(Self { host, port })
    }

    /// Whether it is Docker's hub.
    pub fn is_hub(&self) -> bool {
        self.host == HUB_NAMES[0]
    }

    /// The host that answers, an IPv6 address in brackets.
    pub(crate) fn host(&self) -> &str {
        if self.is_hub() { HUB_NAMES[2] } else { &self.host }
    }

    /// The host as names and certificates have it.
    pub(crate) fn bare_host(&self) -> &str {
        self.host().trim_start_matches('[').trim_end_matches(']')
    }

    pub(crate) fn port(&self) -> Option<u16> {
        self.port
    }
}

impl fmt::Display for RegistryAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// Registries that may be spoken to without TLS, or without proof of who they are: this host's own, and those that the operator
/// names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Insecure {
    pub networks: Vec<IpNet>,
    pub registries: Vec<RegistryAddress>,
}

impl Default for Insecure {
    fn default() -> Self {
        let own = |ip: [u8; 4]| IpNet::new(IpAddr::from(ip), 8).ok();
        let six = IpNet::new(IpAddr::from(std::net::Ipv6Addr::LOCALHOST), 128).ok();
        Self { networks: [six, own([127, 0, 0, 0])].into_iter().flatten().collect(), registries: Vec::new() }
    }
}

impl Insecure {
    /// This host's own and those of `insecure-registries`: hosts with a port or without, or networks.
    ///
    /// # Errors
    /// When one is neither.
    pub fn parse(list: &[String]) -> Result<Self> {
        let mut all = Self::default();
        for text in list {
            match text.parse::<IpNet>() {
                Ok(network) => all.networks.push(network),
                Err(_) if text.trim().is_empty() => return Err(Error::Address(text.clone(), "it is empty")),
                Err(_) => all.registries.push(RegistryAddress::parse(text)?),
            }
        }
        Ok(all)
    }

    /// Whether a registry with these addresses is one of them.
    pub(crate) fn covers(&self, registry: &RegistryAddress, addresses: &[IpAddr]) -> bool {
        self.registries.contains(registry)
            || addresses.iter().any(|ip| self.networks.iter().any(|network| network.contains(ip)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_users_and_clients_write_them() {
        for (text, shown) in [
            ("", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("registry.example.com", "registry.example.com"),
            ("https://Registry.example.com:5000/v2/", "registry.example.com:5000"),
            ("http://[::1]:5000", "[::1]:5000"),
            ("[2001:db8::1]", "[2001:db8::1]"),
            ("localhost:5000/group/image", "localhost:5000"),
        ] {
            assert_eq!(RegistryAddress::parse(text).unwrap().to_string(), shown, "{text}");
        }
        assert_eq!(RegistryAddress::parse("docker.io").unwrap().host(), "registry-1.docker.io");
        assert_eq!(RegistryAddress::parse("[::1]:5000").unwrap().bare_host(), "::1");
        for bad in
            ["https://", "user@host", "host:0", "host:port", "host:70000", "a b", "..", "[::g]", "::1", "/"]
        {
            assert!(RegistryAddress::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn who_may_be_spoken_to_without_proof() {
        let list = ["10.1.0.0/16", "plain.example.com:5000", "http://other.example.com"].map(str::to_owned);
        let insecure = Insecure::parse(&list).unwrap();
        let covers = |text: &str, ip: &str| {
            let addresses: Vec<IpAddr> = ip.parse().into_iter().collect();
            insecure.covers(&RegistryAddress::parse(text).unwrap(), &addresses)
        };
        assert!(covers("localhost:5000", "127.0.0.1") && covers("[::1]:5000", "::1"));
        assert!(covers("a.example.com", "10.1.2.3") && !covers("a.example.com", "10.2.0.1"));
        assert!(covers("plain.example.com:5000", "") && !covers("plain.example.com", ""));
        assert!(covers("other.example.com", "192.0.2.1"));
        assert!(
            Insecure::parse(&["user@host".to_owned()]).is_err() && Insecure::parse(&[String::new()]).is_err()
        );
    }
}
