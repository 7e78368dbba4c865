//! Points in time: what flags accept (`--since`, `--until`) and what columns show.

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};

/// `2006-01-02 15:04:05 -0700 MST` in local time: the CreatedAt columns.
pub fn created_at(unix_seconds: i64) -> String {
    match Timestamp::from_second(unix_seconds) {
        Ok(time) => time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string(),
        Err(_) => String::new(),
    }
}

/// RFC 3339 in local time: the columns of a history.
pub fn rfc3339(unix_seconds: i64) -> String {
    match Timestamp::from_second(unix_seconds) {
        Ok(time) => with_offset(&time.to_zoned(TimeZone::system()), "%Y-%m-%dT%H:%M:%S"),
        Err(_) => String::new(),
    }
}

/// `2006-01-02 15:04:05.999999999 -0700 MST` in local time, without zeros at the end of the fraction.
pub fn local_time(time: corten_api::Timestamp) -> String {
    let Ok(at) = Timestamp::new(time.unix(), i32::try_from(time.subsec_nanos()).unwrap_or(0)) else {
        return String::new();
    };
    at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S%.f %z %Z").to_string()
}

/// RFC 3339 with nine decimals in local time, as events show it.
pub fn event_time(nanoseconds: i64) -> String {
    match Timestamp::from_nanosecond(i128::from(nanoseconds)) {
        Ok(time) => with_offset(&time.to_zoned(TimeZone::system()), "%Y-%m-%dT%H:%M:%S%.9f"),
        Err(_) => String::new(),
    }
}

/// Go writes the offset of UTC as `Z`.
fn with_offset(time: &jiff::Zoned, format: &str) -> String {
    let offset = time.strftime("%:z").to_string();
    let offset = if offset == "+00:00" { "Z".to_owned() } else { offset };
    format!("{}{offset}", time.strftime(format))
}

/// Seconds between a point in time and now, for "… ago".
pub fn seconds_since(unix_seconds: i64) -> i64 {
    Timestamp::now().as_second().saturating_sub(unix_seconds)
}

/// Reads what people type after `--since` and `--until`: seconds since 1970 (with a fraction), a span back from now
/// (`10m`, `1h30m`), and RFC 3339 with parts left out from the right; without a zone the local one counts.
pub fn parse_bound(text: &str) -> Option<corten_api::Timestamp> {
    parse_bound_at(text, corten_api::Timestamp::now(), &TimeZone::system())
}

fn parse_bound_at(text: &str, now: corten_api::Timestamp, zone: &TimeZone) -> Option<corten_api::Timestamp> {
    if let Some(local) = civil_time(text) {
        let time = local.to_zoned(zone.clone()).ok()?.timestamp();
        return Some(corten_api::Timestamp::from_unix_nanos(i64::try_from(time.as_nanosecond()).ok()?));
    }
    corten_api::Timestamp::parse_bound(text, now)
}

/// A date or a date with a time, without a zone.
fn civil_time(text: &str) -> Option<civil::DateTime> {
    if text.len() < 10 || text.ends_with(['Z', 'z']) {
        return None;
    }
    // An offset behind the time of day makes it a point in time, which isn't ours to interpret.
    if text.get(10..).is_some_and(|rest| rest.contains(['+', '-'])) {
        return None;
    }
    match text.parse::<civil::DateTime>() {
        Ok(time) => Some(time),
        Err(_) => text.parse::<civil::Date>().ok().map(|date| date.at(0, 0, 0, 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds() {
        let now = corten_api::Timestamp::from_unix(1_700_000_000, 0);
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        let parse =
            |text: &str| parse_bound_at(text, now, &zone).map(|time| (time.unix(), time.subsec_nanos()));
        assert_eq!(parse("1600000000"), Some((1_600_000_000, 0)));
        assert_eq!(parse("1600000000.5"), Some((1_600_000_000, 500_000_000)));
        assert_eq!(parse("10m"), Some((1_699_999_400, 0)));
        assert_eq!(parse("2013-01-02T13:23:37Z"), Some((1_357_133_017, 0)));
        assert_eq!(parse("2013-01-02T13:23:37.25+02:00"), Some((1_357_125_817, 250_000_000)));
        assert_eq!(parse("2013-01-02T13:23:37"), Some((1_357_129_417, 0)));
        assert_eq!(parse("2013-01-02T13:23"), Some((1_357_129_380, 0)));
        assert_eq!(parse("2013-01-02"), Some((1_357_081_200, 0)));
        assert_eq!(parse("yesterday"), None);
    }
}
