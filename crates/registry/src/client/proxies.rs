//! Which requests go by a proxy: `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` as Go's programs read them, and daemon.json's `proxies`.
//! Decides; `transport` and `connect` do it.

use std::fmt;
use std::net::IpAddr;

use corten_api::base64;
use hyper::Uri;
use ipnet::IpNet;

use super::origin::Origin;
use crate::{Error, Result};

/// Proxies for unencrypted and for encrypted requests, and who is spoken to without.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    exceptions: Vec<Exception>,
}

/// A proxy, with what it is shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    pub is_encrypted: bool,
    pub host: String,
    pub port: u16,
    /// The value of `Proxy-Authorization`.
    pub authorization: Option<String>,
    /// The name and the password, as they were written.
    user: Option<String>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_encrypted { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

/// One entry of `NO_PROXY`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    Everybody,
    Network(IpNet),
    /// A host and what is below it; a leading dot means the latter only.
    Name {
        name: String,
        only_below: bool,
        port: Option<u16>,
    },
}

impl Proxies {
    /// From the values of the variables: empty ones are none.
    ///
    /// # Errors
    /// When one is no proxy that can be used.
    pub fn new(http: Option<&str>, https: Option<&str>, none_for: Option<&str>) -> Result<Self> {
        let proxy = |text: Option<&str>| {
            text.map(str::trim).filter(|text| !text.is_empty()).map(Proxy::parse).transpose()
        };
        let entries =
            none_for.unwrap_or_default().split(',').map(str::trim).filter(|entry| !entry.is_empty());
        Ok(Self {
            http: proxy(http)?,
            https: proxy(https)?,
            exceptions: entries.map(Exception::parse).collect(),
        })
    }

    /// The proxy for a place; this host itself has none.
    pub(crate) fn of(&self, origin: &Origin) -> Option<&Proxy> {
        let proxy = if origin.channel.scheme() == "https" { &self.https } else { &self.http };
        let proxy = proxy.as_ref()?;
        let address: Option<IpAddr> = origin.host.parse().ok();
        if origin.host == "localhost" || address.is_some_and(|ip| ip.is_loopback()) {
            return None;
        }
        let is_excepted = self.exceptions.iter().any(|exception| exception.covers(origin, address));
        (!is_excepted).then_some(proxy)
    }

    /// The variables by which programs know the same, passwords included.
    pub fn variables(&self) -> Vec<(String, String)> {
        let proxies = [("http_proxy", &self.http), ("https_proxy", &self.https)];
        let known = proxies.into_iter().filter_map(|(name, proxy)| Some((name, proxy.as_ref()?.url())));
        let own = ["localhost", "127.0.0.0/8", "127.0.0.1", "::1"].map(str::to_owned);
        let exceptions: Vec<String> = self.exceptions.iter().map(ToString::to_string).chain(own).collect();
        known
            .chain([("no_proxy", exceptions.join(","))])
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    /// For people, without passwords: HTTP, HTTPS, and who is excepted.
    pub fn shown(&self) -> (String, String, String) {
        let proxy = |proxy: &Option<Proxy>| proxy.as_ref().map(ToString::to_string).unwrap_or_default();
        let exceptions: Vec<String> = self.exceptions.iter().map(ToString::to_string).collect();
        (proxy(&self.http), proxy(&self.https), exceptions.join(","))
    }
}

impl Proxy {
    /// `[http[s]://][name:password@]host[:port]`
    fn parse(text: &str) -> Result<Self> {
        let failed = |why| Error::Address(without_password(text), why);
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let url: Uri = with_scheme.parse().map_err(|_| failed("it is no URL of a proxy"))?;
        let is_encrypted = match url.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(failed("proxies of http and https can be used only")),
        };
        let authority = url.authority().ok_or_else(|| failed("it has no host"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if host.is_empty() {
            return Err(failed("it has no host"));
        }
        let user = authority.as_str().rsplit_once('@').map(|(user, _)| user.to_owned());
        let authorization = user.as_deref().map(|user| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            let user = [unescaped(name), b":".to_vec(), unescaped(password)].concat();
            format!("Basic {}", base64::encode(&user))
        });
        // As Go's and curl's: proxies are not looked for where web servers are.
        let port = authority.port_u16().unwrap_or(if is_encrypted { 443 } else { 80 });
        Ok(Self { is_encrypted, host, port, authorization, user })
    }

    /// With the password.
    fn url(&self) -> String {
        match (self.to_string().split_once("://"), &self.user) {
            (Some((scheme, host)), Some(user)) => format!("{scheme}://{user}@{host}"),
            _ => self.to_string(),
        }
    }
}

fn without_password(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((before, host)) => {
            let scheme =
                before.split_once("://").map(|(scheme, _)| format!("{scheme}://")).unwrap_or_default();
            format!("{scheme}…@{host}")
        }
        None => text.to_owned(),
    }
}

/// What stands in a URL as `%40`.
pub(super) fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

impl Exception {
    fn parse(entry: &str) -> Self {
        if entry == "*" {
            return Self::Everybody;
        }
        let bare = entry.trim_start_matches('[').trim_end_matches(']');
        if let Some(network) = bare.parse().ok().or_else(|| bare.parse::<IpAddr>().ok().map(IpNet::from)) {
            return Self::Network(network);
        }
        let (name, port) = match entry.rsplit_once(':') {
            Some((name, port)) if port.parse::<u16>().is_ok() => (name, port.parse().ok()),
            _ => (entry, None),
        };
        let name = name.trim_start_matches('*').to_ascii_lowercase();
        match name.strip_prefix('.') {
            Some(below) => Self::Name { name: below.to_owned(), only_below: true, port },
            None => {
                let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
                Self::Name { name, only_below: false, port }
            }
        }
    }

    fn covers(&self, origin: &Origin, address: Option<IpAddr>) -> bool {
        match self {
            Self::Everybody => true,
            Self::Network(network) => address.is_some_and(|ip| network.contains(&ip)),
            Self::Name { name, only_below, port } => {
                let is_it = !only_below && origin.host == *name;
                let is_below =
                    origin.host.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.'));
                port.is_none_or(|port| port == origin.port) && (is_it || is_below)
            }
        }
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everybody => f.write_str("*"),
            Self::Network(network) if network.prefix_len() == network.max_prefix_len() => {
                write!(f, "{}", network.addr())
            }
            Self::Network(network) => write!(f, "{network}"),
            Self::Name { name, only_below, port } => {
                write!(f, "{}{name}", if *only_below { "." } else { "" })?;
                port.map_or(Ok(()), |port| write!(f, ":{port}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::origin::Channel;
    use super::*;

    fn proxied(proxies: &Proxies, url: &str) -> Option<String> {
        let channel = if url.starts_with("https") { Channel::Proven } else { Channel::Plain };
        proxies.of(&Origin::of_url(&url.parse().unwrap(), channel).unwrap()).map(ToString::to_string)
    }

    #[test]
    fn other_programs_are_told_of_proxies() {
        let proxies =
            Proxies::new(Some("proxy:3128"), Some("https://me:p%40ss@secure"), Some("a,10.0.0.0/8"));
        let variables = proxies.unwrap().variables();
        let value = |name: &str| variables.iter().find(|(known, _)| known == name).unwrap().1.as_str();
        assert_eq!(
            (value("http_proxy"), value("https_proxy")),
            ("http://proxy:3128", "https://me:p%40ss@secure:443")
        );
        assert!(value("no_proxy").starts_with("a,10.0.0.0/8,localhost,"));
    }

    #[test]
    fn who_goes_by_a_proxy() {
        let none_for = "a.example.com,.b.example.com, 10.1.0.0/16,192.0.2.7,c.example.com:5000,[2001:db8::1],*.d.example.com";
        let proxies =
            Proxies::new(Some("proxy:3128"), Some("https://me:p%40ss@secure.example.com"), Some(none_for))
                .unwrap();
        assert_eq!(proxied(&proxies, "http://x.example.com/").as_deref(), Some("http://proxy:3128"));
        assert_eq!(
            proxied(&proxies, "https://x.example.com/").as_deref(),
            Some("https://secure.example.com:443")
        );
        for direct in [
            "http://a.example.com/",
            "https://x.A.example.com:99/",
            "http://x.b.example.com/",
            "http://10.1.2.3/",
            "http://192.0.2.7:80/",
            "http://c.example.com:5000/",
            "http://[2001:db8::1]:5000/",
            "http://localhost:5000/",
            "http://127.9.9.9/",
            "http://[::1]/",
            "http://x.d.example.com/",
        ] {
            assert_eq!(proxied(&proxies, direct), None, "{direct}");
        }
        for by in
            ["http://b.example.com/", "http://xa.example.com/", "http://c.example.com/", "http://10.2.0.1/"]
        {
            assert!(proxied(&proxies, by).is_some(), "{by}");
        }
        let everybody = Proxies::new(Some("proxy"), None, Some("*")).unwrap();
        assert_eq!(proxied(&everybody, "http://x.example.com/"), None);
        assert_eq!(proxied(&Proxies::default(), "http://x.example.com/"), None);
    }

    #[test]
    fn what_a_proxy_is_shown_is_not_shown_to_others() {
        let proxies = Proxies::new(Some("http://me:p%40ss@proxy:1"), None, None).unwrap();
        let expected = format!("Basic {}", base64::encode(b"me:p@ss"));
        assert_eq!(proxies.http.as_ref().unwrap().authorization, Some(expected));
        assert!(!format!("{proxies:?} {:?}", proxies.shown()).contains("p@ss"));
        for odd in ["socks5://me:secret@proxy", "http://", "http://a b", "ftp://x"] {
            let error = Proxies::new(Some(odd), None, None).unwrap_err().to_string();
            assert!(error.contains("invalid") && !error.contains("secret"), "{error}");
        }
        assert_eq!(Proxies::new(Some(""), Some(" "), Some(",,")).unwrap(), Proxies::default());
    }
}
