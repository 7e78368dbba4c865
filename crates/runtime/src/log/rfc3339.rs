//! Timestamps as Go writes and reads them (`time.RFC3339Nano`, UTC): trailing zeros of the fraction are left out.

use crate::monitor::protocol::Timestamp;

const SECOND: i64 = 1_000_000_000;

/// `2026-11-21T02:36:30.500000000Z`: all nine digits, as in `docker logs --timestamps`.
pub fn format_rfc3339(time: Timestamp) -> String {
    let mut out = Vec::with_capacity(30);
    seconds(&mut out, time);
    out.push(b'.');
    digits(&mut out, time.0.rem_euclid(SECOND), 9);
    out.push(b'Z');
    String::from_utf8(out).unwrap_or_default()
}

/// `2026-11-21T02:36:30.5Z`, appended to `out`: Go's `RFC3339Nano`.
pub(crate) fn append_rfc3339(time: Timestamp, out: &mut Vec<u8>) {
    seconds(out, time);
    let nanos = time.0.rem_euclid(SECOND);
    if nanos != 0 {
        out.push(b'.');
        digits(out, nanos, 9);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
    out.push(b'Z');
}

fn seconds(out: &mut Vec<u8>, time: Timestamp) {
    let seconds = time.0.div_euclid(SECOND);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    digits(out, year, 4);
    for (sign, value) in
        [(b'-', month), (b'-', day), (b'T', second / 3600), (b':', second / 60 % 60), (b':', second % 60)]
    {
        out.push(sign);
        digits(out, value, 2);
    }
}

/// Reads RFC 3339 with any fraction and zone; `None` when it is something else or out of range.
pub fn parse_rfc3339(text: &[u8]) -> Option<Timestamp> {
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        text.get(range)?.iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
    };
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if separators.iter().any(|&(at, sign)| text.get(at) != Some(&sign))
        || !matches!(text.get(10)?, b'T' | b't' | b' ')
    {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut at = 19;
    let mut nanos = 0;
    if text.get(at) == Some(&b'.') {
        at += 1;
        let mut unit = SECOND / 10;
        while let Some(digit) = text.get(at).filter(|b| b.is_ascii_digit()) {
            nanos += i64::from(digit - b'0') * unit;
            unit /= 10;
            at += 1;
        }
    }
    let zone = match text.get(at)? {
        b'Z' | b'z' if text.len() == at + 1 => 0,
        sign @ (b'+' | b'-') if text.len() == at + 6 && text[at + 3] == b':' => {
            let seconds = number(at + 1..at + 3)? * 3600 + number(at + 4..at + 6)? * 60;
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - zone;
    Some(Timestamp(seconds.checked_mul(SECOND)?.checked_add(nanos)?))
}

fn digits(out: &mut Vec<u8>, value: i64, width: u32) {
    for power in (0..width).rev() {
        out.push(b'0' + (value / 10_i64.pow(power) % 10) as u8);
    }
}

/// Days since 1970-01-01 to the proleptic Gregorian calendar, by eras of 400 years that begin in March.
pub(crate) fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}
