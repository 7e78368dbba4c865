//! The options of the drivers: which each knows, what values they take. The texts are Docker's. Pure.

use std::collections::BTreeMap;

use corten_api::container::LogConfig;
use corten_runtime::monitor::protocol::LogDriver;

use super::{Options, remote};
use crate::error::{Error, Result};

/// Bounds of a `json-file` when nobody sets others: old output goes, the disk does not fill up.
const JSON_BYTES_MAX: u64 = 100 << 20;
const JSON_FILES_MAX: u32 = 2;
/// Those of `local`, and of the copy of what goes elsewhere.
const LOCAL_BYTES_MAX: u64 = 20_000_000;
const LOCAL_FILES_MAX: u32 = 5;

/// Every driver knows them.
const COMMON: &[&str] = &["env", "env-regex", "labels", "labels-regex", "tag"];
const MODE: &[&str] = &["mode", "max-buffer-size"];
const FILE: &[&str] = &["compress", "max-file", "max-size"];
const CACHE: &str = "cache-";
const CACHE_DISABLED: &str = "cache-disabled";

/// How a log file is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileOptions {
    pub driver: LogDriver,
    /// 0: no bound.
    pub bytes_max: u64,
    pub files_max: u32,
    pub compress: bool,
}

/// The engine's defaults, where a container does not say.
pub fn fill_defaults(log: &mut LogConfig, driver: &str, defaults: &[(String, String)]) {
    if log.kind.is_empty() {
        driver.clone_into(&mut log.kind);
    }
    let same = log.kind == driver;
    let mut config: BTreeMap<String, String> = std::mem::take(&mut *log.config);
    for (name, value) in defaults.iter().filter(|(name, _)| same || is_cache(name)) {
        config.entry(name.clone()).or_insert_with(|| value.clone());
    }
    log.config = config.into();
}

/// Refuses what no log of ours can do.
pub fn check(log: &LogConfig) -> Result<()> {
    let (driver, options) = (log.kind.as_str(), &*log.config);
    if driver == "none" {
        return Ok(());
    }
    mode(options)?;
    if !matches!(driver, "" | "local" | "json-file") && !super::DRIVERS.contains(&driver) {
        return Err(Error::invalid(format!("logger: no log driver named '{driver}' is registered")));
    }
    let own: &[&str] = match driver {
        "" | "json-file" | "local" => FILE,
        other => remote::option_names(other),
    };
    for name in options.keys().map(String::as_str) {
        if ![COMMON, MODE, own].iter().any(|known| known.contains(&name)) && !is_cache(name) {
            return Err(Error::invalid(match driver {
                "local" => format!("unknown log opt '{name}' for log driver local"),
                "gelf" => format!("unknown log opt \"{name}\" for gelf log driver"),
                "" => format!("unknown log opt '{name}' for json-file log driver"),
                other => format!("unknown log opt '{name}' for {other} log driver"),
            }));
        }
    }
    super::attributes::check(options)?;
    remote::check(driver, options)?;
    file(log).map(drop)
}

/// The file of a driver, or of the copy of what goes elsewhere: none when that is not wanted.
pub fn file(log: &LogConfig) -> Result<FileOptions> {
    let options = &*log.config;
    let none = FileOptions { driver: LogDriver::None, bytes_max: 0, files_max: 1, compress: false };
    match log.kind.as_str() {
        "none" => Ok(none),
        "" | "json-file" => {
            let base = FileOptions {
                driver: LogDriver::JsonFile,
                bytes_max: JSON_BYTES_MAX,
                files_max: JSON_FILES_MAX,
                compress: false,
            };
            bounds(options, "", base)
        }
        kind => {
            let prefix = if kind == "local" { "" } else { CACHE };
            if !prefix.is_empty() && flag(options, CACHE_DISABLED)?.unwrap_or(false) {
                return Ok(none);
            }
            let base = FileOptions {
                driver: LogDriver::Local,
                bytes_max: LOCAL_BYTES_MAX,
                files_max: LOCAL_FILES_MAX,
                compress: true,
            };
            bounds(options, prefix, base)
        }
    }
}

fn bounds(options: &Options, prefix: &str, base: FileOptions) -> Result<FileOptions> {
    let mut bounds = base;
    let of = |name: &str| options.get(&format!("{prefix}{name}"));
    let invalid = |name: &str, value: &str, why: &str| {
        Error::invalid(format!("invalid value for {prefix}{name}: {value}: {why}"))
    };
    match of("max-size").map(String::as_str) {
        None => {}
        Some("-1") => bounds.bytes_max = 0,
        Some(size) => {
            let bytes = decimal_bytes(size).ok_or_else(|| invalid("max-size", size, "it is no size"))?;
            if bytes == 0 {
                return Err(Error::invalid(format!("{prefix}max-size must be a positive number")));
            }
            bounds.bytes_max = bytes;
        }
    }
    if let Some(files) = of("max-file") {
        bounds.files_max = files.parse().map_err(|_| invalid("max-file", files, "it is no number"))?;
        if bounds.files_max < 1 {
            return Err(Error::invalid(format!("{prefix}max-file cannot be less than 1")));
        }
    }
    let wish = flag(options, &format!("{prefix}compress"))?;
    bounds.compress = wish.unwrap_or(base.compress) && bounds.files_max > 1 && bounds.bytes_max > 0;
    if wish == Some(true) && !bounds.compress {
        return Err(Error::invalid(
            "compress cannot be true when max-file is less than 2 or max-size is not set",
        ));
    }
    Ok(bounds)
}

/// How much output may wait for a receiver that does not take it; `None`: the container waits.
pub fn mode(options: &Options) -> Result<Option<u64>> {
    let mode = options.get("mode").map_or("", String::as_str);
    if !matches!(mode, "" | "blocking" | "non-blocking") {
        return Err(Error::invalid(format!("logger: logging mode not supported: {mode}")));
    }
    let Some(size) = options.get("max-buffer-size") else {
        return Ok((mode == "non-blocking").then_some(1 << 20));
    };
    if mode != "non-blocking" {
        return Err(Error::invalid(
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
        ));
    }
    let bytes = binary_bytes(size).filter(|&bytes| bytes > 0);
    bytes.map(Some).ok_or_else(|| {
        Error::invalid(format!("error parsing option max-buffer-size: invalid size: '{size}'"))
    })
}

/// A switch, as Go reads one.
pub fn flag(options: &Options, name: &str) -> Result<Option<bool>> {
    match options.get(name).map(String::as_str) {
        None | Some("") => Ok(None),
        Some("1" | "t" | "T" | "TRUE" | "true" | "True") => Ok(Some(true)),
        Some("0" | "f" | "F" | "FALSE" | "false" | "False") => Ok(Some(false)),
        Some(other) => Err(Error::invalid(format!("invalid value for option {name}: {other}"))),
    }
}

fn is_cache(name: &str) -> bool {
    name == CACHE_DISABLED
        || name.strip_prefix(CACHE).is_some_and(|name| FILE.contains(&name) || COMMON.contains(&name))
}

/// `10m`, `1g`, `4096`: units are powers of 1000.
pub fn decimal_bytes(text: &str) -> Option<u64> {
    bytes(text, 1000.0)
}

/// The same with powers of 1024.
pub fn binary_bytes(text: &str) -> Option<u64> {
    bytes(text, 1024.0)
}

fn bytes(text: &str, base: f64) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = lower[digits.len()..].trim_end_matches("ib").trim_end_matches('b');
    let power = ["", "k", "m", "g", "t", "p"].iter().position(|known| *known == unit)?;
    let number: f64 = digits.trim().parse().ok().filter(|number| *number >= 0.0)?;
    let bytes = number * base.powi(power as i32);
    (bytes < 9e18).then_some(bytes as u64)
}

/// `1.5s`, `1m30s`, `250ms`, `0`: Go's durations, in milliseconds.
pub fn milliseconds(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1e-6,
            "us" | "µs" => 1e-3,
            "ms" => 1.0,
            "s" => 1e3,
            "m" => 6e4,
            "h" => 3.6e6,
            _ => return None,
        };
        total += number * unit;
        rest = &rest[end..];
    }
    (!text.is_empty() && total < 9e15).then_some(if negative { -total } else { total } as i64)
}
