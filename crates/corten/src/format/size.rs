//! Sizes as people read them: decimal (`7.8MB`) and binary (`1.5GiB`).
//!
//! The digits are those of Go's `%.3g` and `%.4g`, so that columns equal Docker's byte by byte.

use super::template::general;

const DECIMAL: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
const BINARY: [&str; 9] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];

/// Decimal units, three significant digits: the SIZE columns.
pub fn decimal(bytes: i64) -> String {
    with_units(bytes as f64, 1000.0, 3, &DECIMAL)
}

/// Decimal units, four significant digits: totals such as reclaimed space.
pub fn decimal_fine(bytes: f64) -> String {
    with_units(bytes, 1000.0, 4, &DECIMAL)
}

/// Binary units, four significant digits: memory.
pub fn binary(bytes: f64) -> String {
    with_units(bytes, 1024.0, 4, &BINARY)
}

fn with_units(mut size: f64, base: f64, digits: usize, units: &[&str]) -> String {
    let mut unit = 0;
    while size >= base && unit + 1 < units.len() {
        size /= base;
        unit += 1;
    }
    format!("{}{}", general(size, digits), units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_sizes_have_three_digits() {
        let cases = [
            (0, "0B"),
            (1, "1B"),
            (999, "999B"),
            (1000, "1kB"),
            (1234, "1.23kB"),
            (12_345, "12.3kB"),
            (123_456, "123kB"),
            (7_800_000, "7.8MB"),
            (116_500_000, "116MB"),
            (100_000_000, "100MB"),
            (1_090_000_000, "1.09GB"),
            // %.3g of 999.9 is 1e+03 in Go, and so it is in Docker's columns.
            (999_900, "1e+03kB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(decimal(bytes), text);
        }
    }

    #[test]
    fn other_units() {
        assert_eq!(decimal_fine(1_234_567.0), "1.235MB");
        assert_eq!(decimal_fine(0.0), "0B");
        assert_eq!(binary(25_110_000_000.0), "23.39GiB");
        assert_eq!(binary(1024.0), "1KiB");
        assert_eq!(binary(1_073_741_824.0), "1GiB");
        assert_eq!(binary(1023.0), "1023B");
    }

    #[test]
    fn general_form() {
        assert_eq!(general(100.0, 3), "100");
        assert_eq!(general(0.5, 3), "0.5");
        assert_eq!(general(1234.0, 3), "1.23e+03");
        assert_eq!(general(0.00001234, 3), "1.23e-05");
        assert_eq!(general(1e21, 3), "1e+21");
    }
}
