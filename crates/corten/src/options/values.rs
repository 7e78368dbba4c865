//! Notations that several options share: sizes, CPUs, key=value, true/false.

use super::OptionError;

/// Parses a size in bytes with an optional binary unit: `512m`, `1.5g`, `64KiB`, `100b`.
pub fn bytes(text: &str) -> Option<i64> {
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    if number.is_empty() || number.starts_with('.') || number.ends_with('.') {
        return None;
    }
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let power = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return None,
    };
    let scale = 1024f64.powi(power);
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(scale as i64);
    }
    let value = number.parse::<f64>().ok()? * scale;
    (value < i64::MAX as f64).then_some(value as i64)
}

/// Parses an optional size for `flag`; nothing is 0.
pub fn bytes_of(flag: &'static str, text: Option<&str>) -> Result<i64, OptionError> {
    let Some(text) = text else { return Ok(0) };
    bytes(text).ok_or_else(|| OptionError::invalid(flag, text, "expected a size such as 512m or 1.5g"))
}

/// Parses `--memory-swap`: -1 is without limit.
pub fn swap_of(text: Option<&str>) -> Result<i64, OptionError> {
    match text {
        Some("-1") => Ok(-1),
        given => bytes_of("--memory-swap", given),
    }
}

/// Parses a number of CPUs (`1.5`) into units of 1e-9, exactly.
pub fn nano_cpus(text: &str) -> Result<i64, &'static str> {
    const FORM: &str = "expected a number of CPUs such as 1.5";
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return Err(FORM);
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 9 {
        return Err("this is too precise: nine decimals at most");
    }
    let nanos: i64 = format!("{fraction:0<9}").parse().map_err(|_| FORM)?;
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| FORM)? };
    whole.checked_mul(1_000_000_000).and_then(|units| units.checked_add(nanos)).ok_or(FORM)
}

/// Splits `key=value`; a key alone has an empty value.
pub fn key_value(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.to_owned(), value.to_owned())
}

/// Splits `key=value` where the value is required.
pub fn strict_key_value(flag: &'static str, text: &str) -> Result<(String, String), OptionError> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(OptionError::invalid(flag, text, "expected key=value")),
    }
}

/// The spellings of truth that Go's flags accept.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

/// Parses a duration flag (`30s`, `1m30s`) into nanoseconds.
pub fn nanoseconds(text: &str) -> Result<i64, String> {
    corten_api::time::parse_duration(text)
        .ok_or_else(|| "expected a duration such as 30s or 1m30s".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let cases = [
            ("0", 0),
            ("100", 100),
            ("100b", 100),
            ("4k", 4096),
            ("4KB", 4096),
            ("4KiB", 4096),
            ("512m", 536_870_912),
            ("1.5g", 1_610_612_736),
            ("2 GB", 2_147_483_648),
            ("1t", 1_099_511_627_776),
        ];
        for (text, size) in cases {
            assert_eq!(bytes(text), Some(size), "{text}");
        }
        for bad in ["", "m", "1x", "-1", "1..5", ".5m", "5.", "1mm", "99999999999p"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn cpus() {
        assert_eq!(nano_cpus("1"), Ok(1_000_000_000));
        assert_eq!(nano_cpus("1.5"), Ok(1_500_000_000));
        assert_eq!(nano_cpus(".25"), Ok(250_000_000));
        assert_eq!(nano_cpus("0.000000001"), Ok(1));
        assert!(nano_cpus("0.0000000001").is_err());
        for bad in ["", ".", "x", "-1", "1.x"] {
            assert!(nano_cpus(bad).is_err(), "{bad}");
        }
    }
}
