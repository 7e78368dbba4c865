//! Retention: which tags go by themselves. Pure: rules, tags and the time go in, a verdict for each tag comes out. What becomes of a
//! manifest whose tag has gone is the collection's business.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::access::{Pattern, is_like};
use super::collect::Span;
use super::quota;
use super::settings::{SettingsError, duration};

/// A rule as it is written in the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionConfig {
    pub repositories: Vec<String>,
    /// All, if it isn't said.
    #[serde(default = "all")]
    pub tags: Vec<String>,
    /// Of these, tags that stay whatever else is said.
    #[serde(default)]
    pub protect: Vec<String>,
    /// The newest so many stay.
    #[serde(default)]
    pub keep_last: Option<u64>,
    #[serde(default)]
    pub pushed_within: Option<String>,
    #[serde(default)]
    pub pulled_within: Option<String>,
}

fn all() -> Vec<String> {
    vec!["*".to_owned()]
}

/// The same, understood. A tag stays that one of the conditions holds for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    repositories: Vec<Pattern>,
    tags: Vec<String>,
    protect: Vec<String>,
    keep_last: Option<u64>,
    pushed_within: Option<Duration>,
    pulled_within: Option<Duration>,
}

impl Rule {
    pub fn read(config: &RetentionConfig) -> Result<Rule, SettingsError> {
        let time = |key, text: &Option<String>| text.as_deref().map(|text| duration(key, text)).transpose();
        let pushed_within = time("retention.pushed_within", &config.pushed_within)?;
        let pulled_within = time("retention.pulled_within", &config.pulled_within)?;
        if config.keep_last.is_none() && pushed_within.is_none() && pulled_within.is_none() {
            return Err(SettingsError::Meaning {
                key: "retention",
                value: config.repositories.join(", "),
                why: "the rule says none of keep_last, pushed_within and pulled_within; \"keep_last\": 0 keeps no tag",
            });
        }
        Ok(Rule {
            repositories: quota::repositories("retention.repositories", &config.repositories)?,
            tags: tags("retention.tags", &config.tags)?,
            protect: tags("retention.protect", &config.protect)?,
            keep_last: config.keep_last,
            pushed_within,
            pulled_within,
        })
    }

    pub fn is_about(&self, repository: &str) -> bool {
        self.repositories.iter().any(|pattern| pattern.matches(repository, None))
    }

    fn matches(&self, tag: &str) -> bool {
        self.tags.iter().any(|pattern| is_like(tag, pattern))
    }
}

/// Checks patterns of tags, where `*` is any text.
fn tags(key: &'static str, patterns: &[String]) -> Result<Vec<String>, SettingsError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_.-*".contains(c);
    match patterns.iter().find(|pattern| pattern.is_empty() || !pattern.chars().all(fits)) {
        Some(odd) => {
            let wanted = "pattern of tags; write v1.*, pr-* or latest";
            Err(SettingsError::Value { key, value: odd.clone(), wanted })
        }
        None => Ok(patterns.to_vec()),
    }
}

/// What is known of a tag; times in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagFacts {
    pub name: String,
    /// Of the manifest that it stands for.
    pub digest: String,
    pub tagged_at: i64,
    /// When what it stands for was last pulled.
    pub pulled_at: Option<i64>,
}

/// A tag that was taken away, and can be put back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    pub repository: String,
    pub tag: String,
    pub digest: String,
    /// When it went.
    pub retired_s: u64,
}

/// What becomes of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub keep: bool,
    pub why: String,
}

/// A verdict for each tag of a repository, in their order. The first rule that is about a tag decides.
pub fn judge(rules: &[Rule], repository: &str, tags: &[TagFacts], now: i64) -> Vec<Verdict> {
    let mut verdicts: Vec<Option<Verdict>> = vec![None; tags.len()];
    let about = rules.iter().enumerate().filter(|(_, rule)| rule.is_about(repository));
    for (number, rule) in about {
        let mut own: Vec<usize> =
            (0..tags.len()).filter(|at| verdicts[*at].is_none() && rule.matches(&tags[*at].name)).collect();
        // Protected ones stay and don't count. The newest first; of those of one second, by name, so that it is always the same.
        own.retain(|at| {
            let protector = rule.protect.iter().find(|pattern| is_like(&tags[*at].name, pattern));
            if let Some(pattern) = protector {
                let why = format!("rule {number} protects {pattern}");
                verdicts[*at] = Some(Verdict { keep: true, why });
            }
            protector.is_none()
        });
        own.sort_by(|one, other| {
            let key = |at: &usize| (tags[*at].tagged_at, &tags[*at].name);
            key(other).cmp(&key(one))
        });
        for (rank, at) in own.into_iter().enumerate() {
            verdicts[at] = Some(rule.judge(number, &tags[at], rank as u64, now));
        }
    }
    let stays = || Verdict { keep: true, why: "no rule is about it".to_owned() };
    verdicts.into_iter().map(|verdict| verdict.unwrap_or_else(stays)).collect()
}

impl Rule {
    /// `rank`: how many newer ones there are.
    fn judge(&self, number: usize, tag: &TagFacts, rank: u64, now: i64) -> Verdict {
        let within = |since: i64, time: Duration| {
            now.saturating_sub(since) <= i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
        };
        let last = self.keep_last.is_some_and(|count| rank < count);
        let pushed = self.pushed_within.is_some_and(|time| within(tag.tagged_at, time));
        let pulled =
            self.pulled_within.is_some_and(|time| tag.pulled_at.is_some_and(|since| within(since, time)));
        let ago = |since: i64| Span(Duration::from_secs(now.saturating_sub(since).max(0) as u64).rounded());
        let mut facts = Vec::new();
        if let Some(count) = self.keep_last {
            facts.push(format!("number {} of the last {count}", rank + 1));
        }
        if let Some(time) = self.pushed_within {
            facts.push(format!("pushed {} ago, of {}", ago(tag.tagged_at), Span(time)));
        }
        if let Some(time) = self.pulled_within {
            facts.push(match tag.pulled_at {
                Some(since) => format!("pulled {} ago, of {}", ago(since), Span(time)),
                None => format!("never pulled, of {}", Span(time)),
            });
        }
        let keep = last || pushed || pulled;
        Verdict { keep, why: format!("rule {number}: {}", facts.join("; ")) }
    }
}

/// Cut to what one wants to know.
trait Rounded {
    fn rounded(self) -> Self;
}

impl Rounded for Duration {
    fn rounded(self) -> Duration {
        let seconds = self.as_secs();
        let unit = [24 * 3600, 3600, 60].into_iter().find(|unit| seconds >= *unit).unwrap_or(1);
        Duration::from_secs(seconds - seconds % unit)
    }
}

#[cfg(test)]
mod tests;
