//! What filters may say of things in the cache, and of builds that were.

use super::Filtered;
use crate::builder::{Past, Usage};
use corten_api::Timestamp;
use corten_api::time::parse_duration;
use std::time::{SystemTime, UNIX_EPOCH};

impl Filtered for Usage {
    const TEXTS: &'static [&'static str] =
        &["id", "type", "description", "inuse", "mutable", "immutable", "shared", "private"];

    fn text(&self, field: &str) -> Option<String> {
        let flag = |is_set: bool| is_set.then(|| "true".to_owned());
        match field {
            "id" => Some(self.id.clone()),
            "type" => Some(self.kind.clone()),
            "description" => Some(self.description.clone()),
            "inuse" => flag(self.is_in_use),
            "mutable" => flag(self.is_mutable),
            "immutable" => flag(!self.is_mutable),
            "shared" => flag(self.is_shared),
            _ => flag(!self.is_shared),
        }
    }
}

impl Filtered for Past {
    const TEXTS: &'static [&'static str] = &["ref", "repository", "status"];
    const NUMBERS: &'static [&'static str] = &["startedAt", "completedAt", "duration"];

    fn text(&self, field: &str) -> Option<String> {
        let status = match self.completed {
            None => "running",
            Some(_) if self.is_canceled => "canceled",
            Some(_) if self.error.is_empty() => "completed",
            Some(_) => "error",
        };
        let text = match field {
            "ref" => &self.reference,
            "repository" => &self.repository,
            _ => status,
        };
        Some(text.to_owned())
    }

    /// Seconds since 1970, and nanoseconds of a duration; 0 of what is not over.
    fn number(&self, field: &str) -> i64 {
        let since = |from: SystemTime, to: Option<SystemTime>| to.and_then(|to| to.duration_since(from).ok());
        let duration = match field {
            "startedAt" => since(UNIX_EPOCH, self.started),
            "completedAt" => since(UNIX_EPOCH, self.completed),
            _ => self.started.and_then(|started| since(started, self.completed)),
        };
        let duration = duration.unwrap_or_default();
        match field {
            "duration" => i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX),
            _ => i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        }
    }

    /// A time, or how long ago one was.
    fn bound(field: &str, value: &str) -> Option<i64> {
        let duration = parse_duration(value);
        match field {
            "duration" => duration,
            _ => match duration {
                Some(ago) => {
                    Some(Timestamp::now().unix_nanos().saturating_sub(ago).div_euclid(1_000_000_000))
                }
                None => value.parse::<Timestamp>().ok().map(|time| time.unix()),
            },
        }
    }
}
