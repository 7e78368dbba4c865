//! The section `cache` of the registry's configuration, as it is written; and what it means, checked. Reads no file.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::RegistryAddress;
use crate::client::Mirrors;
use crate::server::access::Pattern;
use crate::server::name::RepositoryName;
use crate::server::settings::{SettingsError, address, duration, size};

/// For how long a tag is served without asking.
const FRESH: Duration = Duration::from_secs(10 * 60);
/// How long an upstream may take where there is something older to serve.
const PATIENCE: Duration = Duration::from_secs(5);
const SIZE: u64 = 50_000_000_000;
const FETCHES: usize = 32;
/// Each has two descriptors, and some memory for what it has just got.
const FETCHES_MAX: usize = 512;
/// First components of paths that are not for repositories, but for pages.
const RESERVED: [&str; 3] = ["v2", "r", "assets"];

/// As it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheConfig {
    /// By the first component of their repositories' names here: `docker.io`.
    pub upstreams: BTreeMap<String, UpstreamConfig>,
    /// How many bytes may be kept of what is not also in a repository of one's own: `50GB`.
    pub size: Option<String>,
    /// How long a tag is served without asking the upstream.
    pub fresh: Option<String>,
    /// How long an upstream may take to answer where there is something older to serve.
    pub patience: Option<String>,
    /// Blobs that are fetched at once.
    pub fetches: Option<usize>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamConfig {
    /// Its `host[:port]`, where that isn't its name here.
    pub registry: Option<String>,
    /// URLs of what is asked before it.
    pub mirrors: Vec<String>,
    pub user: Option<String>,
    pub password_file: Option<PathBuf>,
    /// A `config.json` of docker's that has its credentials.
    pub docker_config: Option<PathBuf>,
    /// Authorities that it may be certified by, beside those of the host.
    pub ca: Option<PathBuf>,
    /// What it is shown when it asks for a certificate.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// Spoken to without proof of who it is, or without TLS.
    pub insecure: bool,
    /// Patterns of its repositories that may be had; all, where there are none.
    pub allow: Vec<String>,
    /// `address:port` where this registry is a mirror of that one, without its name before the others.
    pub listen: Vec<String>,
}

/// What it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    pub upstreams: BTreeMap<String, UpstreamSettings>,
    pub size: u64,
    pub fresh: Duration,
    pub patience: Duration,
    pub fetches: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSettings {
    pub registry: RegistryAddress,
    /// URLs that were understood.
    pub mirrors: Vec<String>,
    pub credentials: CredentialFiles,
    pub ca: Option<PathBuf>,
    pub identity: Option<(PathBuf, PathBuf)>,
    pub insecure: bool,
    pub allow: Vec<Pattern>,
    pub listen: Vec<SocketAddr>,
}

impl UpstreamSettings {
    /// What counts for all that are at the same address.
    fn way(&self) -> impl PartialEq {
        (&self.mirrors, &self.ca, &self.identity, self.insecure)
    }
}

/// Where it stands who we are to an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialFiles {
    Nobody,
    Password { user: String, file: PathBuf },
    Docker(PathBuf),
}

impl CacheConfig {
    pub fn settings(&self) -> Result<CacheSettings, SettingsError> {
        let time = |key, text: &Option<String>, default| {
            text.as_ref().map_or(Ok(default), |text| duration(key, text))
        };
        let fetches = self.fetches.unwrap_or(FETCHES);
        if !(1..=FETCHES_MAX).contains(&fetches) {
            let value = fetches.to_string();
            return Err(SettingsError::Value { key: "cache.fetches", value, wanted: "number from 1 to 512" });
        }
        let upstreams = self.upstreams.iter().map(|(name, upstream)| {
            let settings = upstream.settings(name);
            let settings = settings.map_err(|why| SettingsError::Upstream { upstream: name.clone(), why })?;
            Ok((name.clone(), settings))
        });
        let upstreams: BTreeMap<String, UpstreamSettings> = upstreams.collect::<Result<_, _>>()?;
        for (name, one) in &upstreams {
            let other = upstreams
                .iter()
                .find(|(_, other)| one.registry == other.registry && one.way() != other.way());
            if let Some((other, _)) = other {
                let why =
                    format!("it is at the same address as {other}, and is to be reached in another way");
                return Err(SettingsError::Upstream { upstream: name.clone(), why });
            }
        }
        Ok(CacheSettings {
            upstreams,
            size: self.size.as_ref().map_or(Ok(SIZE), |text| size("cache.size", text))?,
            fresh: time("cache.fresh", &self.fresh, FRESH)?,
            patience: time("cache.patience", &self.patience, PATIENCE)?,
            fetches,
        })
    }
}

impl UpstreamConfig {
    fn settings(&self, name: &str) -> Result<UpstreamSettings, String> {
        let is_name = !name.contains('/') && name.parse::<RepositoryName>().is_ok();
        if !is_name || RESERVED.contains(&name) {
            return Err("an upstream is called like the first component of a repository's name; say where it is with \
                        \"registry\""
                .to_owned());
        }
        let registry = self.registry.as_deref().unwrap_or(name);
        let registry = RegistryAddress::parse(registry).map_err(|error| error.to_string())?;
        let mirrors = self.mirrors.clone();
        for url in &mirrors {
            Mirrors::default().add(&registry.to_string(), url).map_err(|error| error.to_string())?;
        }
        let credentials = match (&self.user, &self.password_file, &self.docker_config) {
            (None, None, None) => CredentialFiles::Nobody,
            (Some(user), Some(file), None) => {
                CredentialFiles::Password { user: user.clone(), file: file.clone() }
            }
            (None, None, Some(file)) => CredentialFiles::Docker(file.clone()),
            _ => return Err("want user and password_file, or docker_config, or none of them".to_owned()),
        };
        let identity = match (&self.certificate, &self.key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            _ => return Err("want certificate and key, or none of them".to_owned()),
        };
        let pattern = |text: &String| match Pattern::parse(text) {
            Ok(pattern) if !text.contains("{user}") => Ok(pattern),
            Ok(_) => Err(format!("allow: {text:?}: an upstream knows no {{user}}")),
            Err(error) => Err(format!("allow: {text:?} {error}")),
        };
        let allow = self.allow.iter().map(pattern).collect::<Result<_, _>>()?;
        let listen = self.listen.iter().map(|text| address("listen", text)).collect::<Result<_, _>>();
        let listen = listen.map_err(|error| error.to_string())?;
        let (ca, insecure) = (self.ca.clone(), self.insecure);
        Ok(UpstreamSettings { registry, mirrors, credentials, ca, identity, insecure, allow, listen })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<CacheSettings, String> {
        let config: CacheConfig = serde_json::from_str(text).map_err(|error| error.to_string())?;
        config.settings().map_err(|error| error.to_string())
    }

    #[test]
    fn upstreams_are_the_first_components_of_names() {
        let cache = settings(
            r#"{"upstreams": {"docker.io": {"user": "me", "password_file": "/p", "allow": ["library/*"]},
                "local": {"registry": "127.0.0.1:5000", "insecure": true}}, "size": "2GiB", "fresh": "1h"}"#,
        )
        .unwrap();
        assert_eq!((cache.size, cache.fresh.as_secs(), cache.fetches), (2 << 30, 3600, FETCHES));
        assert!(cache.upstreams["docker.io"].registry.is_hub());
        assert!(cache.upstreams["docker.io"].allow[0].matches("library/nginx", None));
        assert_eq!(cache.upstreams["local"].registry.to_string(), "127.0.0.1:5000");
        assert_eq!(settings("{}").unwrap().size, SIZE);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, word) in [
            (r#"{"upstream": {}}"#, "upstream"),
            (r#"{"upstreams": {"docker.io": {"url": ""}}}"#, "url"),
            (r#"{"upstreams": {"a/b": {}}}"#, "a/b"),
            (r#"{"upstreams": {"v2": {}}}"#, "first component"),
            (r#"{"upstreams": {"A": {}}}"#, "first component"),
            (r#"{"upstreams": {"a": {"registry": "me@x"}}}"#, "me@x"),
            (r#"{"upstreams": {"a": {"mirrors": ["b"]}}}"#, "mirror"),
            (r#"{"upstreams": {"a": {"user": "b"}}}"#, "password_file"),
            (r#"{"upstreams": {"a": {"key": "b"}}}"#, "certificate"),
            (r#"{"upstreams": {"a": {"allow": ["X"]}}}"#, "allow"),
            (r#"{"upstreams": {"a": {"allow": ["home/{user}"]}}}"#, "{user}"),
            (
                r#"{"upstreams": {"a": {"registry": "c", "insecure": true}, "b": {"registry": "c"}}}"#,
                "another way",
            ),
            (r#"{"upstreams": {"a": {"listen": ["nowhere"]}}}"#, "nowhere"),
            (r#"{"size": "much"}"#, "cache.size"),
            (r#"{"fresh": "10"}"#, "cache.fresh"),
            (r#"{"fetches": 0}"#, "cache.fetches"),
        ] {
            let error = settings(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
