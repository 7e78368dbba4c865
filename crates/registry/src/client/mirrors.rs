//! Where else a registry's content can be had.

use std::collections::BTreeMap;
use std::fmt;

use crate::{Error, RegistryAddress, Result};

/// A place that has a registry's content: `https://mirror.example.com[/prefix]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    pub(crate) registry: RegistryAddress,
    /// Without a slash at the end; mostly nothing.
    pub(crate) prefix: String,
    /// `http://`: without TLS, as whoever wrote it wants it.
    pub(crate) is_plain: bool,
}

/// Mirrors by registry, in the order in which they are asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mirrors {
    by_registry: BTreeMap<String, Vec<Mirror>>,
}

impl Mirrors {
    /// Adds a mirror of a registry behind the others.
    ///
    /// # Errors
    /// When it is no URL of a host with, at most, a path.
    pub fn add(&mut self, registry: &str, url: &str) -> Result<()> {
        let registry = RegistryAddress::parse(registry)?.to_string();
        let mirror = Mirror::parse(url)?;
        let mirrors = self.by_registry.entry(registry).or_default();
        if !mirrors.contains(&mirror) {
            mirrors.push(mirror);
        }
        Ok(())
    }

    pub fn of(&self, registry: &RegistryAddress) -> &[Mirror] {
        self.by_registry.get(&registry.to_string()).map(Vec::as_slice).unwrap_or_default()
    }
}

/// With a slash at the end, as Docker shows it.
impl fmt::Display for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_plain { "http" } else { "https" };
        write!(f, "{scheme}://{}{}/", self.registry, self.prefix)
    }
}

impl Mirror {
    fn parse(url: &str) -> Result<Self> {
        let failed = |why| Error::Address(url.to_owned(), why);
        let (is_plain, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err(failed("a mirror is a URL of https or http")),
        };
        if url.contains(['?', '#', ' ']) {
            return Err(failed("a mirror has neither query nor fragment"));
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.is_empty() {
            return Err(failed("a mirror has a host"));
        }
        let registry = RegistryAddress::parse(authority)?;
        let path = path.trim_end_matches('/');
        let prefix = if path.is_empty() { String::new() } else { format!("/{path}") };
        Ok(Self { registry, prefix, is_plain })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_urls_kept_in_order() {
        let mut mirrors = Mirrors::default();
        for url in ["https://a.example.com", "http://b.example.com:5000/hub/", "https://a.example.com/"] {
            mirrors.add("docker.io", url).unwrap();
        }
        let hub = RegistryAddress::parse("index.docker.io").unwrap();
        let found: Vec<_> = mirrors.of(&hub).iter().map(|m| (m.is_plain, m.prefix.as_str())).collect();
        assert_eq!(found, [(false, ""), (true, "/hub")]);
        assert!(mirrors.of(&RegistryAddress::parse("ghcr.example.com").unwrap()).is_empty());
        for bad in ["", "a.example.com", "ftp://a", "https://", "https://me@a", "https://a?b", "https:///x"] {
            assert!(mirrors.add("docker.io", bad).is_err(), "{bad:?}");
        }
    }
}
