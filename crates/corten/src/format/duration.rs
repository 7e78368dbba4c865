//! Durations: rough words for people (`2 minutes ago`), and Go's notation (`1m30s`) in flags.

/// Words for a span of seconds, coarser the longer it is.
pub fn words(seconds: i64) -> String {
    let minutes = seconds / 60;
    // Half an hour rounds up, as in Docker.
    let hours = (seconds + 1800) / 3600;
    match seconds {
        ..1 => return "Less than a second".to_owned(),
        1 => return "1 second".to_owned(),
        2..60 => return format!("{seconds} seconds"),
        60..120 => return "About a minute".to_owned(),
        120..3600 => return format!("{minutes} minutes"),
        _ => {}
    }
    match hours {
        ..2 => "About an hour".to_owned(),
        2..48 => format!("{hours} hours"),
        48..336 => format!("{} days", hours / 24),
        336..1440 => format!("{} weeks", hours / 24 / 7),
        1440..17520 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// Parses Go's notation (`300ms`, `1h15m30.5s`, `-2s`) into nanoseconds.
pub fn parse_nanoseconds(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0.0;
    let mut any = false;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let (unit, scale) = UNITS.iter().find(|(unit, _)| rest.starts_with(unit))?;
        total += number * scale;
        rest = &rest[unit.len()..];
        any = true;
    }
    let nanoseconds = (sign * total).round();
    (any && nanoseconds.abs() < i64::MAX as f64).then_some(nanoseconds as i64)
}

/// Longer names first where one begins with another.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("μs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3600e9),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_follow_docker() {
        let cases = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5399, "About an hour"),
            (5400, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (13 * 86400, "13 days"),
            (14 * 86400, "2 weeks"),
            (59 * 86400, "8 weeks"),
            (60 * 86400, "2 months"),
            (729 * 86400, "24 months"),
            (730 * 86400, "2 years"),
            (20_000 * 86400, "54 years"),
        ];
        for (seconds, text) in cases {
            assert_eq!(words(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn go_notation() {
        assert_eq!(parse_nanoseconds("300ms"), Some(300_000_000));
        assert_eq!(parse_nanoseconds("1h15m30.5s"), Some(4_530_500_000_000));
        assert_eq!(parse_nanoseconds("-2s"), Some(-2_000_000_000));
        assert_eq!(parse_nanoseconds("1.5us"), Some(1500));
        assert_eq!(parse_nanoseconds("0"), Some(0));
        for bad in ["", "5", "s", "1x", "1m5", ".s", "--1s"] {
            assert_eq!(parse_nanoseconds(bad), None, "{bad}");
        }
    }
}
