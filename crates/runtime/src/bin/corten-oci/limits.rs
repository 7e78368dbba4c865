//! Numbers with units, as flags give them.

use std::time::Duration;

use crate::failure::{Failure, Outcome};

/// `512m`, `1.5g`, `4096`, `-1`; units are powers of 1024.
pub fn bytes(name: &str, text: &str) -> Outcome<i64> {
    let wrong = || Failure::new(format!("--{name}: {text:?} is no size; write it like 512m"));
    if let Ok(plain) = text.parse::<i64>() {
        return if plain >= -1 { Ok(plain) } else { Err(wrong()) };
    }
    let lower = text.to_ascii_lowercase();
    let lower = lower.strip_suffix("ib").or(lower.strip_suffix('b')).unwrap_or(&lower);
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &lower[digits.len()..] {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return Err(wrong()),
    };
    let number: f64 = digits.trim().parse().map_err(|_| wrong())?;
    let bytes = number * (1_i64 << shift) as f64;
    if (0.0..9e18).contains(&bytes) { Ok(bytes as i64) } else { Err(wrong()) }
}

/// A duration as Go writes it: `5s`, `1m30s`, `500ms`.
pub fn duration(name: &str, text: &str) -> Outcome<Duration> {
    let wrong = || Failure::new(format!("--{name}: {text:?} is no duration; write it like 5s"));
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let units = [("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];
        let (unit, seconds) = units.into_iter().find(|(u, _)| rest.starts_with(u)).ok_or_else(wrong)?;
        rest = &rest[unit.len()..];
        total += Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
    }
    if total.is_zero() { Err(wrong()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations() {
        assert_eq!(bytes("memory", "512m").unwrap(), 512 << 20);
        assert_eq!(bytes("memory", "1.5g").unwrap(), 3 << 29);
        assert_eq!(bytes("memory", "2GiB").unwrap(), 2 << 30);
        assert_eq!(bytes("memory", "-1").unwrap(), -1);
        assert_eq!(duration("interval", "1m30s").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("interval", "500ms").unwrap(), Duration::from_millis(500));
        for wrong in ["", "m", "-2", "1x", "1..2g"] {
            assert!(bytes("memory", wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "5", "s", "0s", "1y"] {
            assert!(duration("interval", wrong).is_err(), "{wrong}");
        }
    }
}
