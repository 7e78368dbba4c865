//! Numbers and times as people read them. Pure.

/// Bytes with three digits that count, in powers of 1000 as docker shows them: `12.4 MB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    // What would be shown as 1000 is 1 of the next unit.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match value {
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// A number in groups of three digits: `12 345`, with narrow spaces that don't break.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 2);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) && digits.len() > 4 {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A number with what there are so many of.
pub fn several(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// How long ago a time is; both in seconds since 1970.
pub fn age(then: i64, now: i64) -> String {
    let seconds = now.saturating_sub(then).max(0) as u64;
    const STEPS: [(u64, u64, &str, &str); 6] = [
        // From so many seconds on, in units of so many.
        (2 * 365 * 86400, 365 * 86400, "year", "years"),
        (60 * 86400, 30 * 86400, "month", "months"),
        (14 * 86400, 7 * 86400, "week", "weeks"),
        (2 * 86400, 86400, "day", "days"),
        (2 * 3600, 3600, "hour", "hours"),
        (60, 60, "minute", "minutes"),
    ];
    for (from, unit, one, many) in STEPS {
        if seconds >= from {
            return format!("{} ago", several(seconds / unit, one, many));
        }
    }
    "just now".to_owned()
}

/// A time for programs: RFC 3339.
pub fn stamp(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

/// A time for people, in UTC.
pub fn moment(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap_or_default().strftime("%-d %B %Y, %H:%M:%S UTC").to_string()
}

/// A part of a whole in hundredths, for bars.
pub fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64).min(1.0) * 100.0 }
}

/// The same for people: `<1%`, `37%`.
pub fn percent(part: u64, whole: u64) -> String {
    match share(part, whole) {
        0.0 => "0%".to_owned(),
        share if share < 1.0 => "<1%".to_owned(),
        share => format!("{share:.0}%"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (number, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (12_345, "12.3 kB"),
            (999_499, "999 kB"),
            (999_500, "1.00 MB"),
            (9_994_999, "9.99 MB"),
            (9_996_000, "10.0 MB"),
            (99_960_000, "100 MB"),
            (3_200_000_000, "3.20 GB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(bytes(number), expected);
        }
    }

    #[test]
    fn numbers_and_ages() {
        assert_eq!(
            (count(999), count(9876), count(12_345)),
            ("999".into(), "9876".into(), "12\u{202f}345".into())
        );
        assert_eq!((several(1, "tag", "tags"), several(0, "tag", "tags")), ("1 tag".into(), "0 tags".into()));
        let ago = |seconds: i64| age(1_000_000_000 - seconds, 1_000_000_000);
        for (seconds, expected) in [
            (-5, "just now"),
            (59, "just now"),
            (60, "1 minute ago"),
            (7199, "119 minutes ago"),
            (7200, "2 hours ago"),
            (86400, "24 hours ago"),
            (3 * 86400, "3 days ago"),
            (20 * 86400, "2 weeks ago"),
            (90 * 86400, "3 months ago"),
            (800 * 86400, "2 years ago"),
        ] {
            assert_eq!(ago(seconds), expected);
        }
        assert_eq!(moment(0), "1 January 1970, 00:00:00 UTC");
        assert_eq!(stamp(i64::MAX), stamp(0));
        assert_eq!(
            (percent(1, 1000), percent(0, 0), percent(1, 3)),
            ("<1%".into(), "0%".into(), "33%".into())
        );
    }
}
