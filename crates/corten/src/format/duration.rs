//! Durations in rough words for people: `2 minutes`, `About an hour`.

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
}
