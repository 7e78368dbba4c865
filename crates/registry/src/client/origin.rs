//! Where a request goes: the part of a URL that connections are told apart by, and whether who answers there has to prove it.
//! Reads and joins URLs; opens nothing.

use std::fmt;

use hyper::Uri;

use crate::{Error, RegistryAddress, Result};

/// Whether TLS is spoken, and whether the other side has to prove who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Channel {
    Proven,
    Encrypted,
    Plain,
}

impl Channel {
    pub fn scheme(self) -> &'static str {
        if self == Self::Plain { "http" } else { "https" }
    }

    fn default_port(self) -> u16 {
        if self == Self::Plain { 80 } else { 443 }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub channel: Channel,
    /// In lower case, an IPv6 address without brackets.
    pub host: String,
    pub port: u16,
}

impl Origin {
    pub fn of_registry(registry: &RegistryAddress, channel: Channel) -> Self {
        let port = registry.port().unwrap_or(channel.default_port());
        Self { channel, host: registry.bare_host().to_owned(), port }
    }

    /// Of an absolute URL; its scheme has to be the channel's.
    pub fn of_url(url: &Uri, channel: Channel) -> Option<Self> {
        let host = url.host()?.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        Some(Self { channel, host, port: url.port_u16().unwrap_or(channel.default_port()) })
    }

    /// `host[:port]` as requests and people have it.
    pub fn authority(&self) -> String {
        match self.port == self.channel.default_port() {
            true => self.bracketed_host(),
            false => self.authority_with_port(),
        }
    }

    pub fn authority_with_port(&self) -> String {
        format!("{}:{}", self.bracketed_host(), self.port)
    }

    fn bracketed_host(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }

    /// The registry that certificates and permissions are kept for.
    pub fn registry(&self) -> Result<RegistryAddress> {
        RegistryAddress::parse(&self.authority())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.channel.scheme(), self.authority())
    }
}

/// What a `Location` or a `Link` means beside the URL that it came from (RFC 3986, section 5.2, as far as registries use it).
pub(crate) fn join(base: &Uri, reference: &str) -> Result<Uri> {
    let odd = || Error::Protocol {
        url: base.to_string(),
        why: format!("it sends us to {reference:?}, which is no URL"),
    };
    let reference = reference.split('#').next().unwrap_or_default();
    let (scheme, authority) = match (base.scheme_str(), base.authority()) {
        (Some(scheme), Some(authority)) => (scheme, authority.as_str()),
        _ => return Err(odd()),
    };
    let text = if reference.contains("://") && !reference.starts_with(['/', '?']) {
        reference.to_owned()
    } else if reference.starts_with("//") {
        format!("{scheme}:{reference}")
    } else if reference.starts_with('/') {
        format!("{scheme}://{authority}{reference}")
    } else if reference.starts_with('?') {
        format!("{scheme}://{authority}{}{reference}", base.path())
    } else if reference.is_empty() {
        return Err(odd());
    } else {
        let directory = base.path().rsplit_once('/').map_or("", |(directory, _)| directory);
        format!("{scheme}://{authority}{directory}/{reference}")
    };
    let url: Uri = text.parse().map_err(|_| odd())?;
    // Who is named in a URL would be shown to where it leads.
    match url.authority() {
        Some(authority) if !authority.as_str().contains('@') && !authority.host().is_empty() => Ok(url),
        _ => Err(odd()),
    }
}

/// `a=b&c=d`, escaped as `application/x-www-form-urlencoded`.
pub(crate) fn form(fields: &[(&str, &str)]) -> String {
    let fields: Vec<String> =
        fields.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
    fields.join("&")
}

pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte))
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_as_servers_write_them() {
        let base: Uri = "https://a.example.com:5000/v2/x/blobs/uploads/?a=b".parse().unwrap();
        for (reference, joined) in [
            ("https://b.example.com/y", "https://b.example.com/y"),
            ("//b.example.com/y", "https://b.example.com/y"),
            ("/y?z=/#f", "https://a.example.com:5000/y?z=/"),
            ("?c=d", "https://a.example.com:5000/v2/x/blobs/uploads/?c=d"),
            ("id", "https://a.example.com:5000/v2/x/blobs/uploads/id"),
        ] {
            assert_eq!(join(&base, reference).unwrap().to_string(), joined, "{reference}");
        }
        for odd in ["", "#f", "https://", "https://me:pw@b.example.com/", "ht tp://x", "https://a b/"] {
            assert!(join(&base, odd).is_err(), "{odd:?}");
        }
    }

    #[test]
    fn origins_are_told_apart_by_what_matters() {
        let origin = |url: &str, channel| Origin::of_url(&url.parse().unwrap(), channel).unwrap();
        assert_eq!(
            origin("https://A.example.com/x", Channel::Proven),
            origin("https://a.example.com:443/y", Channel::Proven)
        );
        let six = origin("http://[::1]:5000/x", Channel::Plain);
        assert_eq!((six.host.as_str(), six.authority().as_str()), ("::1", "[::1]:5000"));
        assert_eq!(six.to_string(), "http://[::1]:5000");
        assert_ne!(
            origin("https://a.example.com", Channel::Proven),
            origin("https://a.example.com", Channel::Encrypted)
        );
    }
}
