//! Times and sizes as Docker writes them: `1m30s`, `64MiB`.

const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Go's duration syntax, to nanoseconds: a sign, then numbers with units, or a bare 0.
pub(super) fn duration_ns(text: &str) -> Result<i64, String> {
    let quoted = || corten_template::quote(text);
    let invalid = || format!("time: invalid duration {}", quoted());
    let (negative, mut rest) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let end = |text: &str| text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
        let (whole, behind) = rest.split_at(end(rest));
        let (fraction, behind) = match behind.strip_prefix('.') {
            Some(behind) => behind.split_at(end(behind)),
            None => ("", behind),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let unit_end = behind.find(|letter: char| letter == '.' || letter.is_ascii_digit());
        let (unit, behind) = behind.split_at(unit_end.unwrap_or(behind.len()));
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {}", quoted()));
        }
        let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(format!(
                "time: unknown unit {} in duration {}",
                corten_template::quote(unit),
                quoted()
            ));
        };
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
        let digits = &fraction[..fraction.len().min(18)];
        let part = match digits.parse::<u64>() {
            Ok(part) => u128::from(part) * u128::from(*scale) / 10u128.pow(digits.len() as u32),
            Err(_) => 0,
        };
        total = whole
            .checked_mul(*scale)
            .and_then(|whole| total.checked_add(whole)?.checked_add(u64::try_from(part).ok()?))
            .filter(|total| *total <= 1 << 63)
            .ok_or_else(invalid)?;
        rest = behind;
    }
    match negative {
        true => Ok(0i64.wrapping_sub_unsigned(total)),
        false => i64::try_from(total).map_err(|_| invalid()),
    }
}

/// A size with an optional unit of 1024s: `64m`, `64MB`, `64MiB`, `1.5 g`.
pub(super) fn bytes(text: &str) -> Option<i64> {
    let digits = text.rfind(|letter: char| letter.is_ascii_digit() || letter == '.')? + 1;
    let (number, unit) = text.split_at(digits);
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let number: f64 = number.parse().ok().filter(|number| *number >= 0.0)?;
    let unit = unit.to_ascii_lowercase();
    let exponent = match unit.chars().next() {
        None => 0,
        Some('b') if unit == "b" => 0,
        Some(first) => {
            let exponent = "kmgtp".find(first)? as i32 + 1;
            if !matches!(&unit[1..], "" | "b" | "ib") {
                return None;
            }
            exponent
        }
    };
    let size = number * 1024f64.powi(exponent);
    (size < i64::MAX as f64).then_some(size as i64)
}
