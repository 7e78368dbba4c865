//! Quotas: how much repositories may hold. Here is what they say, and how much of each is taken, for everybody to see; it is counted
//! where rows change (`catalogue::usage`), and what would be too much is refused there. What is still on its way is counted here: so
//! uploads that nobody has finished don't fill the disk, either.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::access::Pattern;
use super::refusal::{Code, Refusal};
use super::settings::SettingsError;

/// A quota as it is written in the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuotaConfig {
    pub repositories: Vec<String>,
    /// `10GB`, `500MiB`: of blobs, each once, and manifests.
    #[serde(default)]
    pub size: Option<String>,
    #[serde(default)]
    pub tags: Option<u64>,
    #[serde(default)]
    pub per: Per,
}

/// Who shares a quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Per {
    /// All repositories that it is about, together.
    #[default]
    Quota,
    /// Those whose names begin with the same segment.
    Project,
    /// None: each repository has its own.
    Repository,
}

/// The same, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    pub config: QuotaConfig,
    patterns: Vec<Pattern>,
    pub size_max: Option<u64>,
}

impl Quota {
    pub fn read(config: &QuotaConfig) -> Result<Quota, SettingsError> {
        let patterns = repositories("quotas.repositories", &config.repositories)?;
        if config.size.is_none() && config.tags.is_none() {
            let value = config.repositories.join(", ");
            let why = "the quota says neither size nor tags";
            return Err(SettingsError::Meaning { key: "quotas", value, why });
        }
        let size_max = config.size.as_deref().map(|text| size("quotas.size", text)).transpose()?;
        Ok(Quota { config: config.clone(), patterns, size_max })
    }

    /// Who has a share of it, of which a repository's is a part; none where the quota isn't about it.
    pub fn holder(&self, repository: &str) -> Option<String> {
        if !self.patterns.iter().any(|pattern| pattern.matches(repository, None)) {
            return None;
        }
        Some(match self.config.per {
            Per::Quota => self.text(),
            Per::Project => repository.split('/').next().unwrap_or_default().to_owned(),
            Per::Repository => repository.to_owned(),
        })
    }

    /// What it is about.
    pub fn text(&self) -> String {
        self.config.repositories.join(", ")
    }
}

/// Reads patterns of repositories, none of which depends on who asks.
pub fn repositories(key: &'static str, texts: &[String]) -> Result<Vec<Pattern>, SettingsError> {
    if texts.is_empty() {
        let why = "want patterns of repositories, as [\"team/**\"]";
        return Err(SettingsError::Meaning { key, value: "[]".to_owned(), why });
    }
    let read = |text: &String| match Pattern::parse(text) {
        Ok(_) if text.contains('{') => {
            let why = "{user} stands for nobody here";
            Err(SettingsError::Meaning { key, value: text.clone(), why })
        }
        Ok(pattern) => Ok(pattern),
        Err(error) => Err(SettingsError::Pattern { key, value: text.clone(), why: error.to_string() }),
    };
    texts.iter().map(read).collect()
}

/// `500`, `10kB`, `10GB`, `1.5TB` by thousands; `10KiB`, `10GiB` by 1024.
pub fn size(key: &'static str, text: &str) -> Result<u64, SettingsError> {
    let wrong =
        || SettingsError::Value { key, value: text.to_owned(), wanted: "size; write 500MB, 10GB or 2TiB" };
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let (power, base) = match unit.as_str() {
        "" | "b" => (0, 1000_u64),
        "kb" | "k" => (1, 1000),
        "mb" | "m" => (2, 1000),
        "gb" | "g" => (3, 1000),
        "tb" | "t" => (4, 1000),
        "kib" => (1, 1024),
        "mib" => (2, 1024),
        "gib" => (3, 1024),
        "tib" => (4, 1024),
        _ => return Err(wrong()),
    };
    let factor = base.pow(power);
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    // Beyond nine digits nothing is meant.
    let part = part.get(..9).unwrap_or(part);
    let scale = 10_u64.pow(u32::try_from(part.len()).unwrap_or_default());
    let part: u64 = part.parse().map_err(|_| wrong())?;
    let fraction = u128::from(part) * u128::from(factor) / u128::from(scale);
    let bytes = u128::from(whole) * u128::from(factor) + fraction;
    // As far as SQLite counts.
    i64::try_from(bytes).ok().and_then(|bytes| u64::try_from(bytes).ok()).ok_or_else(wrong)
}

/// What is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Bytes,
    Tags,
}

/// A change that a quota doesn't allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Whose share it is.
    pub holder: String,
    pub what: What,
    pub limit: u64,
    /// Without the change.
    pub used: u64,
    /// In other uploads, or in earlier bytes of this one.
    pub coming: u64,
    /// By the change; as far as is known of an upload.
    pub wanted: u64,
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Exceeded { holder, limit, used, coming, wanted, .. } = self;
        match self.what {
            What::Bytes => {
                let [used, limit, wanted] = [used, limit, wanted].map(|bytes| Bytes(*bytes));
                write!(f, "quota exceeded: {holder} holds {used} of {limit}, ")?;
                if *coming > 0 {
                    write!(f, "{} are on their way, ", Bytes(*coming))?;
                }
                write!(f, "and {wanted} more do not fit")
            }
            What::Tags => write!(f, "quota exceeded: {holder} has {used} tags of {limit}"),
        }
    }
}

impl From<Exceeded> for Refusal {
    /// The specification has no code of its own for this; clients show the text of this one, and don't try again.
    fn from(exceeded: Exceeded) -> Refusal {
        let unit = match exceeded.what {
            What::Bytes => "bytes",
            What::Tags => "tags",
        };
        let detail = json!({
            "quota": exceeded.holder, "unit": unit, "limit": exceeded.limit, "used": exceeded.used,
            "coming": exceeded.coming, "wanted": exceeded.wanted,
        });
        Refusal::new(StatusCode::FORBIDDEN, Code::Denied, exceeded.to_string()).detail(detail)
    }
}

/// A size as people say it: `9.8 GB`.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bytes(bytes) = *self;
        for (unit, factor) in
            [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000)]
        {
            if bytes >= factor {
                let tenths = u128::from(bytes) * 10 / factor as u128;
                return write!(f, "{}.{} {unit}", tenths / 10, tenths % 10);
            }
        }
        write!(f, "{bytes} bytes")
    }
}

/// A share of a quota.
#[derive(Debug)]
pub struct Holder {
    pub name: String,
    pub size_max: Option<u64>,
    pub tags_max: Option<u64>,
    bytes: AtomicU64,
    tags: AtomicU64,
    /// Of uploads that are not finished.
    coming: AtomicU64,
}

/// One line of what is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Whether it is a quota's, or a repository's.
    pub quota: bool,
    pub name: String,
    pub bytes: u64,
    #[serde(default)]
    pub bytes_max: Option<u64>,
    pub tags: u64,
    #[serde(default)]
    pub tags_max: Option<u64>,
    /// Of uploads that are not finished.
    #[serde(default)]
    pub coming: u64,
}

/// All quotas, and what is taken of each as of the last commit.
#[derive(Debug, Default)]
pub struct Ledger {
    quotas: Vec<Quota>,
    holders: Mutex<BTreeMap<(usize, String), Arc<Holder>>>,
}

impl Ledger {
    pub fn new(quotas: Vec<Quota>) -> Ledger {
        Ledger { quotas, holders: Mutex::default() }
    }

    pub fn quotas(&self) -> &[Quota] {
        &self.quotas
    }

    fn holder(&self, quota: usize, name: &str) -> Option<Arc<Holder>> {
        let about = self.quotas.get(quota)?;
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        let holder = holders.entry((quota, name.to_owned())).or_insert_with(|| {
            Arc::new(Holder {
                name: name.to_owned(),
                size_max: about.size_max,
                tags_max: about.config.tags,
                bytes: AtomicU64::new(0),
                tags: AtomicU64::new(0),
                coming: AtomicU64::new(0),
            })
        });
        Some(holder.clone())
    }

    /// What the catalogue has counted.
    pub fn publish(&self, quota: usize, name: &str, bytes: u64, tags: u64) {
        if let Some(holder) = self.holder(quota, name) {
            holder.bytes.store(bytes, Ordering::Relaxed);
            holder.tags.store(tags, Ordering::Relaxed);
        }
    }

    /// For what comes to a repository.
    pub fn coming(&self, repository: &str) -> Coming {
        let named = self.quotas.iter().enumerate();
        let holders = named.filter_map(|(at, quota)| self.holder(at, &quota.holder(repository)?));
        Coming { holders: holders.collect(), bytes: 0 }
    }

    pub fn usage(&self) -> Vec<Usage> {
        let holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        let line = |holder: &Arc<Holder>| Usage {
            quota: true,
            name: holder.name.clone(),
            bytes: holder.bytes.load(Ordering::Relaxed),
            bytes_max: holder.size_max,
            tags: holder.tags.load(Ordering::Relaxed),
            tags_max: holder.tags_max,
            coming: holder.coming.load(Ordering::Relaxed),
        };
        holders.values().map(line).collect()
    }
}

/// Bytes of an upload that count though they are nobody's yet. Given back when it is dropped.
#[derive(Debug, Default)]
pub struct Coming {
    holders: Vec<Arc<Holder>>,
    bytes: u64,
}

impl Coming {
    /// Counts what has come in any case.
    pub fn count(&mut self, bytes: u64) {
        for holder in &self.holders {
            holder.coming.fetch_add(bytes, Ordering::Relaxed);
        }
        self.bytes += bytes;
    }

    /// Counts so many bytes more, if there is room for them.
    pub fn take(&mut self, bytes: u64) -> Result<(), Exceeded> {
        // First counted and then looked at: of two who take the last bytes at least one sees it.
        self.count(bytes);
        match self.exceeded(0) {
            None => Ok(()),
            Some(exceeded) => {
                self.give_back(bytes);
                Err(Exceeded { coming: exceeded.coming.saturating_sub(bytes), wanted: bytes, ..exceeded })
            }
        }
    }

    /// Whether so many bytes more would fit, which nobody has counted yet.
    pub fn fits(&self, bytes: u64) -> Result<(), Exceeded> {
        self.exceeded(bytes).map_or(Ok(()), |exceeded| Err(Exceeded { wanted: bytes, ..exceeded }))
    }

    fn exceeded(&self, more: u64) -> Option<Exceeded> {
        self.holders.iter().find_map(|holder| {
            let limit = holder.size_max?;
            let used = holder.bytes.load(Ordering::Relaxed);
            let coming = holder.coming.load(Ordering::Relaxed);
            let over = used.saturating_add(coming).saturating_add(more) > limit;
            over.then(|| Exceeded {
                holder: holder.name.clone(),
                what: What::Bytes,
                limit,
                used,
                coming,
                wanted: more,
            })
        })
    }

    fn give_back(&mut self, bytes: u64) {
        for holder in &self.holders {
            holder.coming.fetch_sub(bytes, Ordering::Relaxed);
        }
        self.bytes -= bytes;
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(text: &str) -> Result<Quota, String> {
        let config: QuotaConfig = serde_json::from_str(text).map_err(|error| error.to_string())?;
        Quota::read(&config).map_err(|error| error.to_string())
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("500", 500),
            ("10kB", 10_000),
            ("1.5GB", 1_500_000_000),
            ("2 TiB", 2 << 40),
            ("0.5KiB", 512),
            ("10MB", 10_000_000),
        ] {
            assert_eq!(size("size", text).unwrap(), bytes, "{text}");
        }
        for text in ["", "GB", "-1", "1XB", "1.2.3", ".", "9999999999999TB", "1e3"] {
            assert!(size("size", text).is_err(), "{text}");
        }
    }

    #[test]
    fn shares() {
        let holder = |per: &str| {
            let text = format!(r#"{{"repositories": ["team/**", "other"], "size": "1GB", "per": "{per}"}}"#);
            quota(&text).unwrap().holder("team/a/b")
        };
        assert_eq!(holder("quota").unwrap(), "team/**, other");
        assert_eq!(holder("project").unwrap(), "team");
        assert_eq!(holder("repository").unwrap(), "team/a/b");
        assert_eq!(quota(r#"{"repositories": ["a/*"], "tags": 1}"#).unwrap().holder("b/a"), None);
        for (text, why) in [
            (r#"{"repositories": [], "tags": 1}"#, "quotas.repositories"),
            (r#"{"repositories": ["A"], "tags": 1}"#, "\"A\""),
            (r#"{"repositories": ["home/{user}"], "tags": 1}"#, "stands for nobody here"),
            (r#"{"repositories": ["a"]}"#, "neither size nor tags"),
            (r#"{"repositories": ["a"], "size": "1GB", "per": "team"}"#, "team"),
            (r#"{"repositories": ["a"], "siez": "1GB"}"#, "siez"),
        ] {
            let error = quota(text).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn what_comes_is_counted_until_it_is_there() {
        let ledger = Ledger::new(vec![quota(r#"{"repositories": ["a/**"], "size": "100"}"#).unwrap()]);
        ledger.publish(0, "a/**", 40, 2);
        let (mut one, mut other) = (ledger.coming("a/one"), ledger.coming("a/other"));
        one.take(50).unwrap();
        let exceeded = other.take(20).unwrap_err();
        assert_eq!(
            exceeded.to_string(),
            "quota exceeded: a/** holds 40 bytes of 100 bytes, 50 bytes are on their way, and 20 bytes more do not fit"
        );
        other.take(10).unwrap();
        assert!(other.fits(1).is_err() && ledger.coming("b").fits(1 << 40).is_ok());
        drop(one);
        other.fits(50).unwrap();
        assert_eq!((ledger.usage()[0].coming, ledger.usage()[0].tags), (10, 2));
        drop(other);
        assert_eq!(ledger.usage()[0].coming, 0);
    }
}
