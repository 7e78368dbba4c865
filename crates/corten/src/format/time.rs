//! Points in time: what flags accept (`--since`, `--until`) and what columns show.

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};

use super::duration::parse_nanoseconds;

/// `2006-01-02 15:04:05 -0700 MST` in local time: the CreatedAt columns.
pub fn created_at(unix_seconds: i64) -> String {
    match Timestamp::from_second(unix_seconds) {
        Ok(time) => time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string(),
        Err(_) => String::new(),
    }
}

/// RFC 3339 with nine decimals in local time, as events show it.
pub fn event_time(nanoseconds: i64) -> String {
    match Timestamp::from_nanosecond(i128::from(nanoseconds)) {
        Ok(time) => {
            let zoned = time.to_zoned(TimeZone::system());
            let offset = zoned.strftime("%:z").to_string();
            let offset = if offset == "+00:00" { "Z".to_owned() } else { offset };
            format!("{}{offset}", zoned.strftime("%Y-%m-%dT%H:%M:%S%.9f"))
        }
        Err(_) => String::new(),
    }
}

/// Seconds between a point in time and now, for "… ago".
pub fn seconds_since(unix_seconds: i64) -> i64 {
    Timestamp::now().as_second().saturating_sub(unix_seconds)
}

/// Seconds since the epoch of an RFC 3339 text.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(|time| time.as_second())
}

/// Turns what people type after `--since` and `--until` into the API's `seconds.nanoseconds`.
///
/// Accepted: seconds since the epoch (with a fraction), a span back from now (`10m`, `1h30m`), and RFC 3339 with parts
/// left out from the right; without a zone the local one counts.
pub fn api_timestamp(text: &str, now: Timestamp) -> Option<String> {
    if let Some(nanoseconds) = parse_nanoseconds(text).filter(|_| !text.bytes().all(|b| b.is_ascii_digit())) {
        return Some(api_form(now.as_nanosecond() - i128::from(nanoseconds)));
    }
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let epoch = match text.split_once('.') {
        Some((seconds, fraction)) => digits(seconds) && digits(fraction),
        None => digits(text),
    };
    if epoch {
        return Some(text.to_owned());
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(api_form(time.as_nanosecond()));
    }
    if let Some(date) = text.strip_suffix('Z') {
        return civil_time(date).and_then(|at| at.to_zoned(TimeZone::UTC).ok()).map(zoned_form);
    }
    civil_time(text).and_then(|at| at.to_zoned(TimeZone::system()).ok()).map(zoned_form)
}

fn civil_time(text: &str) -> Option<civil::DateTime> {
    if let Ok(time) = text.parse::<civil::DateTime>() {
        return Some(time);
    }
    let date: civil::Date = text.parse().ok()?;
    Some(date.at(0, 0, 0, 0))
}

fn zoned_form(time: jiff::Zoned) -> String {
    api_form(time.timestamp().as_nanosecond())
}

fn api_form(nanoseconds: i128) -> String {
    format!("{}.{:09}", nanoseconds.div_euclid(1_000_000_000), nanoseconds.rem_euclid(1_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_become_api_timestamps() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        assert_eq!(api_timestamp("1600000000", now).as_deref(), Some("1600000000"));
        assert_eq!(api_timestamp("1600000000.5", now).as_deref(), Some("1600000000.5"));
        assert_eq!(api_timestamp("10m", now).as_deref(), Some("1699999400.000000000"));
        assert_eq!(api_timestamp("1.5s", now).as_deref(), Some("1699999998.500000000"));
        assert_eq!(api_timestamp("2013-01-02T13:23:37Z", now).as_deref(), Some("1357133017.000000000"));
        assert_eq!(api_timestamp("2013-01-02T13:23:37.25+01:00", now).as_deref(), Some("1357129417.250000000"));
        assert_eq!(api_timestamp("2013-01-02T13:23Z", now).as_deref(), Some("1357132980.000000000"));
        assert_eq!(api_timestamp("2013-01-02Z", now).as_deref(), Some("1357084800.000000000"));
        assert_eq!(api_timestamp("yesterday", now), None);
    }
}
