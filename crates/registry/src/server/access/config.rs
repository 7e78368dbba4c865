//! The section `access` of the registry's configuration, as it is written; and what it means, checked. Reads no file.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::Deserialize;

use super::pattern::Pattern;
use super::policy::{Action, Actions, Grant, Identity, Policy, Rule, Who};
use crate::server::settings;

/// As it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessConfig {
    /// Users and their passwords, one a line; bcrypt only.
    pub htpasswd: Option<PathBuf>,
    /// Members by group: `user:NAME`, `robot:NAME`, `certificate:NAME`.
    pub groups: BTreeMap<String, Vec<String>>,
    pub rules: Vec<RuleConfig>,
    pub challenge: Challenge,
    pub token: TokenConfig,
    pub audit: Option<AuditConfig>,
    /// Who may say on whose behalf they ask (`X-Forwarded-For`, `-Proto`): proxies, as networks or addresses.
    pub proxies: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    pub repositories: Vec<String>,
    pub who: Vec<String>,
    pub may: Vec<String>,
}

/// What strangers are asked to show. Whatever it is, passwords and tokens are both taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Challenge {
    #[default]
    Bearer,
    Basic,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenConfig {
    /// Whom tokens are for; another registry with the same keys doesn't take them.
    pub service: String,
    /// Where clients get tokens; `/token` at the address that they asked if it isn't said.
    pub realm: Option<String>,
    /// `90s`, `15m`, as everywhere in the file.
    pub lifetime: String,
    /// How long a login lasts that isn't used.
    pub login: String,
}

impl Default for TokenConfig {
    fn default() -> Self {
        Self {
            service: "corten-registry".to_owned(),
            realm: None,
            lifetime: "5m".to_owned(),
            login: "90d".to_owned(),
        }
    }
}

/// The same, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSettings {
    pub service: String,
    pub realm: Option<String>,
    pub lifetime_s: u64,
    pub login_s: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditConfig {
    /// Standard error if it isn't said.
    pub file: Option<PathBuf>,
    /// Whether pulls are written down, too.
    pub pulls: bool,
    /// The size at which another file is begun.
    pub file_mib_max: u64,
    /// How many old ones are kept.
    pub files_max: u32,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self { file: None, pulls: false, file_mib_max: 64, files_max: 8 }
    }
}

/// A value that can't be: where it stands, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {value:?}: {why}")]
pub struct ConfigError {
    pub key: String,
    pub value: String,
    pub why: String,
}

fn wrong(key: impl Into<String>, value: impl ToString, why: impl ToString) -> ConfigError {
    ConfigError { key: key.into(), value: value.to_string(), why: why.to_string() }
}

const WHO: &str = "want anonymous, authenticated, user:NAME, group:NAME, robot:NAME or certificate:NAME";

impl AccessConfig {
    /// What the rules mean.
    pub fn policy(&self) -> Result<Policy, ConfigError> {
        let mut policy = Policy::default();
        for (name, members) in &self.groups {
            let key = format!("access.groups.{name}");
            if name.is_empty() {
                return Err(wrong("access.groups", name, "a group needs a name"));
            }
            let members = members.iter().map(|member| match Identity::parse(member) {
                Some(Identity::Anonymous) | None => {
                    Err(wrong(&key, member, "want user:NAME, robot:NAME or certificate:NAME"))
                }
                Some(identity) => Ok(identity),
            });
            policy.groups.insert(name.clone(), members.collect::<Result<_, _>>()?);
        }
        for (at, rule) in self.rules.iter().enumerate() {
            let rule = rule.read(&format!("access.rules[{at}]"))?;
            for who in &rule.who {
                if let Who::Group(name) = who
                    && !policy.groups.contains_key(name)
                {
                    let key = format!("access.rules[{at}].who");
                    return Err(wrong(
                        key,
                        format!("group:{name}"),
                        "there is no such group in access.groups",
                    ));
                }
            }
            policy.rules.push(rule);
        }
        Ok(policy)
    }

    /// The proxies.
    pub fn networks(&self) -> Result<Vec<IpNet>, ConfigError> {
        let read = |text: &String| {
            let network = text.parse::<IpNet>().ok();
            let network = network.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
            network.ok_or_else(|| wrong("access.proxies", text, "want an address or a network"))
        };
        self.proxies.iter().map(read).collect()
    }

    /// What is said of the audit log.
    pub fn audit(&self) -> Result<Option<&AuditConfig>, ConfigError> {
        let Some(audit) = &self.audit else { return Ok(None) };
        if !(1..=1 << 20).contains(&audit.file_mib_max) {
            return Err(wrong("access.audit.file_mib_max", audit.file_mib_max, "want 1 to 1048576"));
        }
        if audit.files_max > 1000 {
            return Err(wrong("access.audit.files_max", audit.files_max, "want 1000 at most"));
        }
        Ok(Some(audit))
    }
}

impl TokenConfig {
    pub fn settings(&self) -> Result<TokenSettings, ConfigError> {
        // It stands in a quoted string of a header, and in lists set off by blanks.
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte));
        if self.service.is_empty() || !plain(&self.service) {
            let why = "want letters, digits and signs, but no blanks or quotes";
            return Err(wrong("access.token.service", &self.service, why));
        }
        if let Some(realm) = &self.realm
            && (!(realm.starts_with("https://") || realm.starts_with("http://")) || !plain(realm))
        {
            return Err(wrong("access.token.realm", realm, "want a URL, as https://hub.example/token"));
        }
        let seconds = |key: &'static str, text: &String, range: RangeInclusive<u64>, why: &str| {
            let seconds = settings::duration(key, text).map(|time| time.as_secs());
            seconds.ok().filter(|seconds| range.contains(seconds)).ok_or_else(|| wrong(key, text, why))
        };
        const DAY: u64 = 86_400;
        Ok(TokenSettings {
            service: self.service.clone(),
            realm: self.realm.clone(),
            // Clients take a lifetime of less than a minute for a minute (Docker's token specification).
            lifetime_s: seconds(
                "access.token.lifetime",
                &self.lifetime,
                60..=DAY,
                "want a time from 1m to 24h",
            )?,
            login_s: seconds(
                "access.token.login",
                &self.login,
                DAY..=3650 * DAY,
                "want a time from 1d to 3650d",
            )?,
        })
    }
}

impl RuleConfig {
    fn read(&self, key: &str) -> Result<Rule, ConfigError> {
        for (name, list) in [("repositories", &self.repositories), ("who", &self.who), ("may", &self.may)] {
            if list.is_empty() {
                return Err(wrong(
                    format!("{key}.{name}"),
                    "[]",
                    "the list is empty, so the rule means nothing",
                ));
            }
        }
        let who =
            self.who.iter().map(|who| Who::parse(who).ok_or_else(|| wrong(format!("{key}.who"), who, WHO)));
        let who = who.collect::<Result<_, _>>()?;
        Ok(Rule { who, grant: grant(key, &self.repositories, &self.may)? })
    }
}

/// Reads what a grant allows; `key` is where it stands.
pub fn grant(key: &str, repositories: &[String], may: &[String]) -> Result<Grant, ConfigError> {
    let repositories = repositories.iter().map(|pattern| {
        Pattern::parse(pattern)
            .map_err(|why| wrong(format!("{key}.repositories"), pattern, format!("it {why}")))
    });
    let may = may.iter().map(|name| {
        Action::parse(name)
            .ok_or_else(|| wrong(format!("{key}.may"), name, "want read, write, delete or admin"))
    });
    Ok(Grant {
        repositories: repositories.collect::<Result<_, _>>()?,
        may: Actions::of(may.collect::<Result<Vec<_>, _>>()?),
    })
}

#[cfg(test)]
mod tests;
