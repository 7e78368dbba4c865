//! How the registry is set up: one JSON file, which flags override. Unknown keys are errors.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::access::AccessConfig;
use super::access::tls::TlsConfig;
use super::cache::{CacheConfig, CacheSettings};
use super::quota::{Quota, QuotaConfig};
use super::retention::{RetentionConfig, Rule};
use super::storage::{S3Settings, StorageConfig};
use super::webhooks::{Hook, WebhookConfig};

pub const DEFAULT_CONFIG: &str = "/etc/corten/registry.json";
pub const DEFAULT_DATA: &str = "/var/lib/corten-registry";
const DEFAULT_LISTEN: &str = "127.0.0.1:5000";

#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("read the configuration file {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("configuration file {path}: {source}")]
    Syntax { path: PathBuf, source: serde_json::Error },
    #[error("{key}: {value:?} {why}")]
    Pattern { key: &'static str, value: String, why: String },
    #[error("{key}: {value:?}: {why}")]
    Meaning { key: &'static str, value: String, why: &'static str },
    #[error("{key}: {value:?} is no {wanted}")]
    Value { key: &'static str, value: String, wanted: &'static str },
    #[error("cache.upstreams: {upstream}: {why}")]
    Upstream { upstream: String, why: String },
    #[error("storage.s3.{0}")]
    S3(String),
}

/// The configuration as it is written; flags come in the same form.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where everything is kept.
    pub data: Option<PathBuf>,
    /// `address:port`, one or more.
    pub listen: Vec<String>,
    /// Where blobs lie, if not below `data`.
    pub storage: StorageConfig,
    /// Where metrics for Prometheus are served, to everybody who can reach it.
    pub metrics: Option<String>,
    /// Listen on more than loopback though anybody may do anything.
    pub insecure_anonymous: bool,
    /// Listen on more than loopback without TLS though passwords are shown: something else encrypts.
    pub insecure_plain: bool,
    pub tls: Option<TlsConfig>,
    /// Who may do what; without it, anybody anything.
    pub access: Option<AccessConfig>,
    /// What of a manifest may be missing when it is pushed.
    pub sparse: Sparse,
    /// After how long an upload is given up that nothing comes of.
    pub upload_expiry: Option<String>,
    pub collection: CollectionConfig,
    /// Other registries whose repositories can be had here.
    pub cache: Option<CacheConfig>,
    /// Whether there are pages to look at; there are if it isn't said.
    pub web: Option<bool>,
    /// How much repositories may hold.
    pub quotas: Vec<QuotaConfig>,
    /// Which tags go by themselves.
    pub retention: Vec<RetentionConfig>,
    /// Who is to be told of pushes and deletions.
    pub webhooks: Vec<WebhookConfig>,
    pub log_level: Option<String>,
    pub log_format: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct CollectionConfig {
    /// How often; `0` for never.
    pub every: Option<String>,
    /// For how long what nobody needs is kept nevertheless.
    pub undo: Option<String>,
    /// After how long manifests without a tag go; never if it isn't said.
    pub untagged: Option<String>,
}

/// What of a manifest may be missing in its repository when it is pushed.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Sparse {
    #[default]
    Refuse,
    /// Manifests that an index lists.
    Indexes,
    /// Blobs, too.
    All,
}

impl Config {
    /// Reads the file. The default one may be missing.
    pub fn read(path: Option<&Path>) -> Result<Config, SettingsError> {
        let (path, needed) = match path {
            Some(path) => (path, true),
            None => (Path::new(DEFAULT_CONFIG), false),
        };
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|source| SettingsError::Syntax { path: path.to_owned(), source }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !needed => Ok(Config::default()),
            Err(source) => Err(SettingsError::Read { path: path.to_owned(), source }),
        }
    }

    /// What it means, checked.
    pub fn settings(&self) -> Result<Settings, SettingsError> {
        let listen =
            if self.listen.is_empty() { vec![DEFAULT_LISTEN.to_owned()] } else { self.listen.clone() };
        let collection = &self.collection;
        let defaults = Settings::default();
        let time = |key, value: &Option<String>, default| match value {
            Some(text) => duration(key, text),
            None => Ok(default),
        };
        Ok(Settings {
            data: self.data.clone().unwrap_or_else(|| DEFAULT_DATA.into()),
            listen: listen.iter().map(|text| address("listen", text)).collect::<Result<_, _>>()?,
            s3: self.storage.s3.as_ref().map(|s3| s3.settings().map_err(SettingsError::S3)).transpose()?,
            metrics: self.metrics.as_ref().map(|text| address("metrics", text)).transpose()?,
            insecure_anonymous: self.insecure_anonymous,
            insecure_plain: self.insecure_plain,
            tls: self.tls.clone(),
            access: self.access.clone(),
            sparse: self.sparse,
            upload_expiry: time("upload_expiry", &self.upload_expiry, defaults.upload_expiry)?,
            collect_every: Some(time("collection.every", &collection.every, Duration::from_secs(3600))?)
                .filter(|every| !every.is_zero()),
            undo: time("collection.undo", &collection.undo, defaults.undo)?,
            quotas: self.quotas.iter().map(Quota::read).collect::<Result<_, _>>()?,
            retention: self.retention.iter().map(Rule::read).collect::<Result<_, _>>()?,
            webhooks: Hook::read_all(&self.webhooks)?,
            log_level: level(self.log_level.as_deref())?,
            log_format: self.log_format.clone(),
            untagged: collection
                .untagged
                .as_ref()
                .map(|text| duration("collection.untagged", text))
                .transpose()?,
            cache: self.cache.as_ref().map(CacheConfig::settings).transpose()?,
            web: self.web.unwrap_or(defaults.web),
        })
    }
}

/// The configuration, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub data: PathBuf,
    pub listen: Vec<SocketAddr>,
    /// Blobs lie below `data` without it.
    pub s3: Option<S3Settings>,
    pub metrics: Option<SocketAddr>,
    pub insecure_anonymous: bool,
    pub insecure_plain: bool,
    pub tls: Option<TlsConfig>,
    pub access: Option<AccessConfig>,
    pub sparse: Sparse,
    pub upload_expiry: Duration,
    pub collect_every: Option<Duration>,
    pub undo: Duration,
    pub untagged: Option<Duration>,
    pub web: bool,
    pub quotas: Vec<Quota>,
    pub retention: Vec<Rule>,
    pub webhooks: Vec<Hook>,
    pub log_level: tracing::Level,
    pub log_format: Option<String>,
    pub cache: Option<CacheSettings>,
}

/// Keys whose values differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// These only a start can change.
    pub fixed: Vec<&'static str>,
    pub live: Vec<&'static str>,
}

impl Settings {
    /// What another configuration would change.
    pub fn changes(&self, other: &Settings) -> Changes {
        // All are named: a new one has to say here whether it can change while the registry runs.
        let Settings {
            data,
            listen,
            s3,
            metrics,
            insecure_anonymous,
            insecure_plain,
            tls,
            access,
            sparse,
            upload_expiry,
            collect_every,
            undo,
            untagged,
            web,
            quotas,
            retention,
            webhooks,
            log_level,
            log_format,
            cache,
        } = self;
        let fixed = [
            ("data", *data != other.data),
            ("listen", *listen != other.listen),
            ("storage", *s3 != other.s3),
            ("metrics", *metrics != other.metrics),
            ("tls", *tls != other.tls),
            ("log_format", *log_format != other.log_format),
            ("cache", *cache != other.cache),
        ];
        let live = [
            ("access", *access != other.access),
            ("insecure_anonymous", *insecure_anonymous != other.insecure_anonymous),
            ("insecure_plain", *insecure_plain != other.insecure_plain),
            ("sparse", *sparse != other.sparse),
            ("upload_expiry", *upload_expiry != other.upload_expiry),
            ("collection.every", *collect_every != other.collect_every),
            ("collection.undo", *undo != other.undo),
            ("collection.untagged", *untagged != other.untagged),
            ("web", *web != other.web),
            ("quotas", *quotas != other.quotas),
            ("retention", *retention != other.retention),
            ("webhooks", *webhooks != other.webhooks),
            ("log_level", *log_level != other.log_level),
        ];
        let named = |keys: &[(&'static str, bool)]| {
            keys.iter().filter(|(_, differs)| *differs).map(|(key, _)| *key).collect()
        };
        Changes { fixed: named(&fixed), live: named(&live) }
    }
}

impl Default for Settings {
    fn default() -> Settings {
        let day = Duration::from_secs(24 * 3600);
        Settings {
            data: DEFAULT_DATA.into(),
            listen: Vec::new(),
            s3: None,
            metrics: None,
            insecure_anonymous: false,
            insecure_plain: false,
            tls: None,
            access: None,
            sparse: Sparse::Refuse,
            upload_expiry: day,
            collect_every: None,
            undo: day,
            untagged: None,
            web: true,
            quotas: Vec::new(),
            retention: Vec::new(),
            webhooks: Vec::new(),
            log_level: tracing::Level::INFO,
            log_format: None,
            cache: None,
        }
    }
}

fn level(text: Option<&str>) -> Result<tracing::Level, SettingsError> {
    match text {
        None | Some("info") => Ok(tracing::Level::INFO),
        Some("debug") => Ok(tracing::Level::DEBUG),
        Some("warn") => Ok(tracing::Level::WARN),
        Some("error" | "fatal") => Ok(tracing::Level::ERROR),
        Some(other) => Err(SettingsError::Value {
            key: "log_level",
            value: other.to_owned(),
            wanted: "level; write debug, info, warn or error",
        }),
    }
}

pub fn address(key: &'static str, text: &str) -> Result<SocketAddr, SettingsError> {
    // Without an address: this host's own.
    let whole = if text.starts_with(':') { format!("127.0.0.1{text}") } else { text.to_owned() };
    whole.parse().map_err(|_| SettingsError::Value { key, value: text.to_owned(), wanted: "ADDRESS:PORT" })
}

/// `90s`, `15m`, `24h`, `7d`, and sums of such (`1h30m`); `0`.
pub fn duration(key: &'static str, text: &str) -> Result<Duration, SettingsError> {
    let wrong = || SettingsError::Value {
        key,
        value: text.to_owned(),
        wanted: "duration; write 90s, 15m, 24h, 7d or 0",
    };
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut seconds: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = match rest.as_bytes().get(digits) {
            Some(b's') => 1,
            Some(b'm') => 60,
            Some(b'h') => 3600,
            Some(b'd') => 24 * 3600,
            _ => return Err(wrong()),
        };
        let more = number.checked_mul(unit).and_then(|more| seconds.checked_add(more));
        // A century is as good as for ever, and keeps sums with times in range.
        seconds = more.filter(|seconds| *seconds <= 100 * 366 * 24 * 3600).ok_or_else(wrong)?;
        rest = &rest[digits + 1..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(Duration::from_secs(seconds)) }
}

/// `500MB`, `50GB`, `1.5TB`, also with `KiB` and so on; or bytes.
pub fn size(key: &'static str, text: &str) -> Result<u64, SettingsError> {
    let wrong = || SettingsError::Value { key, value: text.to_owned(), wanted: "size; write 500MB or 50GiB" };
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let (number, unit) = text.split_at(digits);
    let unit: f64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => f64::powi(1024.0, 2),
        "gib" => f64::powi(1024.0, 3),
        "tib" => f64::powi(1024.0, 4),
        _ => return Err(wrong()),
    };
    let bytes = number.parse::<f64>().map_err(|_| wrong())? * unit;
    if bytes < 1e18 { Ok(bytes as u64) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<Config, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn a_file_says_what_it_wants() {
        let text = r#"{"data": "/srv/hub", "listen": ["[::1]:5000", ":5001"], "sparse": "indexes",
            "collection": {"every": "0", "undo": "1h30m", "untagged": "7d"}}"#;
        let settings = config(text).unwrap().settings().unwrap();
        assert_eq!(settings.listen[1], "127.0.0.1:5001".parse().unwrap());
        assert_eq!((settings.collect_every, settings.undo.as_secs()), (None, 5400));
        assert_eq!(settings.untagged.unwrap().as_secs(), 7 * 24 * 3600);
        let settings = Config::default().settings().unwrap();
        assert_eq!(settings.listen, [DEFAULT_LISTEN.parse().unwrap()]);
        assert_eq!(settings.collect_every, Some(Duration::from_secs(3600)));
    }

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("0", 0), ("50GB", 50_000_000_000), ("1.5k", 1500), ("2GiB", 2 << 30), ("7b", 7)]
        {
            assert_eq!(size("x", text).unwrap(), bytes, "{text}");
        }
        for text in ["", "GB", "-1", "1 GB", "1e9", "1.2.3", "9999999TB", "inf"] {
            assert!(size("x", text).is_err(), "{text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        assert!(config(r#"{"listne": []}"#).unwrap_err().to_string().contains("listne"));
        assert!(config(r#"{"collection": {"undoo": "1h"}}"#).unwrap_err().to_string().contains("undoo"));
        assert!(config(r#"{"sparse": "some"}"#).is_err());
        for text in ["", "5", "h", "1x", "-1h", "1h ", "99999999999999999999d", "1000000d", "1 h"] {
            let error = duration("collection.undo", text).unwrap_err().to_string();
            assert!(error.contains("collection.undo"), "{error}");
        }
        let config = Config { listen: vec!["nowhere".to_owned()], ..Config::default() };
        assert_eq!(config.settings().unwrap_err().to_string(), "listen: \"nowhere\" is no ADDRESS:PORT");
    }

    #[test]
    fn what_has_changed_is_named() {
        let settings = |text: &str| config(text).unwrap().settings().unwrap();
        let before = settings(r#"{"data": "/a"}"#);
        assert_eq!(
            before.changes(&settings(r#"{"data": "/a", "listen": ["127.0.0.1:5000"]}"#)),
            Changes::default()
        );
        let after = settings(
            r#"{"data": "/b", "tls": {"certificate": "/c", "key": "/k"}, "log_level": "debug",
            "collection": {"undo": "1h"}, "access": {}}"#,
        );
        let changes = before.changes(&after);
        assert_eq!(changes.fixed, ["data", "tls"]);
        assert_eq!(changes.live, ["access", "collection.undo", "log_level"]);
    }
}
