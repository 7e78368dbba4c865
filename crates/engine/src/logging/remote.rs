//! Receivers elsewhere: from a driver's options to what the monitor is told, but for the addresses' look-up. Pure but for the
//! presence of local sockets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use corten_runtime::monitor::protocol::{
    GelfCompression, RemoteFormat, RemotePolicy, Syslog, SyslogFormat, Transport,
};
use serde_json::json;

use super::address::{self, Url};
use super::options::{binary_bytes, flag, milliseconds, mode};
use super::{Options, Source, attributes};
use crate::error::{Error, Result};
use crate::id;

/// The journal's socket for its native protocol.
const JOURNAL: &str = "/run/systemd/journal/socket";
/// Where a host's own syslog may listen.
const LOCAL_SYSLOGS: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];
const SYSLOG_PORT: u16 = 514;
const FLUENTD_PORT: u16 = 24224;
/// Bytes that asynchronous Fluentd output gets at least.
const FLUENTD_BUFFER: u64 = 1 << 20;
/// The first pause before another attempt to connect, where no option says.
const RETRY_MS: u32 = 500;

const FACILITIES: &[&str] =
    &["kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"];

/// A receiver that is yet to be found.
pub struct Plan {
    pub driver: &'static str,
    pub target: Target,
    pub transport: Transport,
    pub format: RemoteFormat,
    pub policy: RemotePolicy,
    /// The container starts although nobody listens.
    pub lazy: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Network {
        host: String,
        port: u16,
    },
    /// The first that takes a connection.
    Local(Vec<(PathBuf, Transport)>),
}

pub fn option_names(driver: &str) -> &'static [&'static str] {
    match driver {
        "syslog" => &[
            "syslog-address",
            "syslog-facility",
            "syslog-format",
            "syslog-tls-ca-cert",
            "syslog-tls-cert",
            "syslog-tls-key",
            "syslog-tls-skip-verify",
        ],
        "fluentd" => &[
            "fluentd-address",
            "fluentd-async",
            "fluentd-async-reconnect-interval",
            "fluentd-buffer-limit",
            "fluentd-max-retries",
            "fluentd-read-timeout",
            "fluentd-request-ack",
            "fluentd-retry-wait",
            "fluentd-sub-second-precision",
            "fluentd-write-timeout",
        ],
        "gelf" => &[
            "gelf-address",
            "gelf-compression-level",
            "gelf-compression-type",
            "gelf-tcp-max-reconnect",
            "gelf-tcp-reconnect-delay",
        ],
        _ => &[],
    }
}

/// Refuses values that a driver can't take.
pub fn check(driver: &str, options: &Options) -> Result<()> {
    match driver {
        "syslog" => {
            syslog_target(options)?;
            facility(options)?;
            syslog_format(options).map(drop)
        }
        "fluentd" => {
            fluentd_target(options)?;
            fluentd_policy(options).map(drop)
        }
        "gelf" => {
            let url = gelf_url(options)?;
            gelf_options(options, &url).map(drop)
        }
        _ => Ok(()),
    }
}

/// The receiver of a container's output; `None` for a driver that keeps it here.
pub fn plan(source: &Source<'_>) -> Result<Option<Plan>> {
    let log = &source.record.host_config.log_config;
    let options = &*log.config;
    match log.kind.as_str() {
        "syslog" => syslog(source, options).map(Some),
        "journald" => journald(source, options).map(Some),
        "fluentd" => fluentd(source, options).map(Some),
        "gelf" => gelf(source, options).map(Some),
        _ => Ok(None),
    }
}

fn policy(options: &Options) -> Result<RemotePolicy> {
    Ok(RemotePolicy {
        buffer_bytes_max: mode(options)?,
        wait_for_connection: false,
        retry_ms: RETRY_MS,
        retries_max: None,
        write_timeout_ms: 0,
    })
}

fn syslog(source: &Source<'_>, options: &Options) -> Result<Plan> {
    let (target, transport) = syslog_target(options)?;
    let format = RemoteFormat::Syslog(Syslog {
        format: syslog_format(options)?,
        facility: facility(options)?,
        host: source.host.to_owned(),
        tag: attributes::tag(source)?,
    });
    Ok(Plan { driver: "syslog", target, transport, format, policy: policy(options)?, lazy: false })
}

fn syslog_target(options: &Options) -> Result<(Target, Transport)> {
    let Some(text) = options.get("syslog-address").filter(|text| !text.is_empty()) else {
        let both = [Transport::Datagram, Transport::Stream];
        let sockets = both.into_iter().flat_map(|kind| LOCAL_SYSLOGS.map(|path| (PathBuf::from(path), kind)));
        return Ok((Target::Local(sockets.collect()), Transport::Datagram));
    };
    let url = address::parse(text).map_err(Error::invalid)?;
    let local = |transport| {
        let path = PathBuf::from(url.path);
        match std::fs::symlink_metadata(&path) {
            Ok(_) => Ok((Target::Local(vec![(path, transport)]), transport)),
            Err(e) => Err(Error::invalid(format!("stat {}: {}", url.path, plain(&e)))),
        }
    };
    match url.scheme {
        "unix" => local(Transport::Stream),
        "unixgram" => local(Transport::Datagram),
        "udp" => Ok((network(&url, SYSLOG_PORT), Transport::Datagram)),
        "tcp" => Ok((network(&url, SYSLOG_PORT), Transport::Stream)),
        "tcp+tls" => Err(no_tls("syslog-address", text)),
        other => Err(Error::invalid(format!("unsupported scheme: '{other}'"))),
    }
}

fn no_tls(option: &str, text: &str) -> Error {
    Error::invalid(format!(
        "{option} {text}: TLS to a receiver of logs is not supported; send to a relay on this host that speaks it"
    ))
}

fn network(url: &Url<'_>, port: u16) -> Target {
    Target::Network { host: url.host.to_owned(), port: url.port.unwrap_or(port) }
}

fn facility(options: &Options) -> Result<u8> {
    let Some(text) = options.get("syslog-facility").filter(|text| !text.is_empty()) else { return Ok(3) };
    let named = FACILITIES.iter().position(|name| name == text).map(|number| number as u8);
    let local = text.strip_prefix("local").and_then(|n| n.parse::<u8>().ok()).filter(|n| *n < 8);
    let number = text.parse().ok().filter(|number| *number <= 23);
    let found = named.or(local.map(|number| 16 + number)).or(number);
    found.ok_or_else(|| Error::invalid("invalid syslog facility"))
}

fn syslog_format(options: &Options) -> Result<SyslogFormat> {
    match options.get("syslog-format").map_or("", String::as_str) {
        "" => Ok(SyslogFormat::Unix),
        "rfc3164" => Ok(SyslogFormat::Rfc3164),
        "rfc5424" => Ok(SyslogFormat::Rfc5424),
        "rfc5424micro" => Ok(SyslogFormat::Rfc5424Micro),
        _ => Err(Error::invalid("Invalid syslog format")),
    }
}

fn journald(source: &Source<'_>, options: &Options) -> Result<Plan> {
    let record = source.record;
    let tag = attributes::tag(source)?;
    let mut fields: BTreeMap<String, String> = [
        ("CONTAINER_ID", id::short(&record.id)),
        ("CONTAINER_ID_FULL", &record.id),
        ("CONTAINER_LOG_EPOCH", &id::random()),
        ("CONTAINER_NAME", &record.name),
        ("CONTAINER_TAG", &tag),
        ("IMAGE_NAME", &record.config.image),
        ("SYSLOG_IDENTIFIER", &tag),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    // A label may have a name that the journal has nothing left of.
    fields.extend(attributes::extra(source, field_name)?.into_iter().filter(|(name, _)| !name.is_empty()));
    Ok(Plan {
        driver: "journald",
        target: Target::Local(vec![(Path::new(JOURNAL).to_owned(), Transport::Datagram)]),
        transport: Transport::Datagram,
        format: RemoteFormat::Journald { fields: fields.into_iter().collect() },
        policy: policy(options)?,
        lazy: false,
    })
}

/// The journal's field names have capitals, digits and underscores, which they don't begin with.
pub fn field_name(name: &str) -> String {
    let plain = name.chars().map(|c| match c {
        c if c.is_ascii_alphanumeric() => c.to_ascii_uppercase(),
        _ => '_',
    });
    plain.collect::<String>().trim_start_matches('_').to_owned()
}

fn fluentd(source: &Source<'_>, options: &Options) -> Result<Plan> {
    let (target, transport) = fluentd_target(options)?;
    let (policy, lazy) = fluentd_policy(options)?;
    let record = source.record;
    let mut fields = BTreeMap::from([
        ("container_id".to_owned(), record.id.clone()),
        ("container_name".to_owned(), format!("/{}", record.name)),
    ]);
    fields.extend(attributes::extra(source, str::to_owned)?);
    let format = RemoteFormat::Fluentd {
        tag: attributes::tag(source)?,
        record: fields.into_iter().collect(),
        sub_second: flag(options, "fluentd-sub-second-precision")?.unwrap_or(false),
    };
    Ok(Plan { driver: "fluentd", target, transport, format, policy, lazy })
}

fn fluentd_target(options: &Options) -> Result<(Target, Transport)> {
    let text = options.get("fluentd-address").map_or("", String::as_str);
    let invalid = |why: &str| Error::invalid(format!("invalid fluentd-address ({text}): {why}"));
    let full = if text.contains("://") { text.to_owned() } else { format!("tcp://{text}") };
    let url = address::parse(&full).map_err(|why| invalid(&why))?;
    match url.scheme {
        "unix" if url.path.trim_start_matches('/').is_empty() => Err(invalid("path is empty")),
        "unix" => Ok((Target::Local(vec![(url.path.into(), Transport::Stream)]), Transport::Stream)),
        "tls" => Err(no_tls("fluentd-address", text)),
        "tcp" if !url.path.is_empty() => Err(invalid("should not contain a path element")),
        "tcp" => {
            let host = if url.host.is_empty() { "127.0.0.1" } else { url.host };
            Ok((network(&Url { host, ..url }, FLUENTD_PORT), Transport::Stream))
        }
        other => Err(invalid(&format!("unsupported scheme: '{other}'"))),
    }
}

/// The policy, and whether a container starts although nobody listens.
fn fluentd_policy(options: &Options) -> Result<(RemotePolicy, bool)> {
    let given = |name: &str| options.get(name).filter(|value| !value.is_empty());
    let invalid = |name: &str, value: &str| Error::invalid(format!("invalid value for {name}: {value}"));
    let duration = |name: &str| match given(name) {
        None => Ok(None),
        Some(value) => milliseconds(value)
            .and_then(|ms| u32::try_from(ms).ok())
            .map(Some)
            .ok_or_else(|| invalid(name, value)),
    };
    let lazy = flag(options, "fluentd-async")?.unwrap_or(false);
    flag(options, "fluentd-sub-second-precision")?;
    if flag(options, "fluentd-request-ack")?.unwrap_or(false) {
        return Err(Error::invalid("fluentd-request-ack: acknowledgements are not supported"));
    }
    if duration("fluentd-async-reconnect-interval")?.is_some_and(|ms| ms > 0) {
        return Err(Error::invalid(
            "fluentd-async-reconnect-interval is not supported: addresses are looked up when the container starts",
        ));
    }
    // Acknowledgements are all that would be read.
    duration("fluentd-read-timeout")?;
    let limit = match given("fluentd-buffer-limit") {
        Some(size) => binary_bytes(size).ok_or_else(|| Error::invalid(format!("invalid size: '{size}'")))?,
        None => FLUENTD_BUFFER,
    };
    let mut policy = policy(options)?;
    if lazy && policy.buffer_bytes_max.is_none() {
        policy.buffer_bytes_max = Some(limit.max(FLUENTD_BUFFER));
    }
    policy.wait_for_connection = true;
    policy.retry_ms = duration("fluentd-retry-wait")?.unwrap_or(1000).max(1);
    policy.write_timeout_ms = duration("fluentd-write-timeout")?.unwrap_or(0);
    if let Some(value) = given("fluentd-max-retries") {
        policy.retries_max = Some(value.parse().map_err(|_| invalid("fluentd-max-retries", value))?);
    }
    Ok((policy, lazy))
}

fn gelf(source: &Source<'_>, options: &Options) -> Result<Plan> {
    let url = gelf_url(options)?;
    let (compression, policy) = gelf_options(options, &url)?;
    let transport = if url.scheme == "udp" { Transport::Datagram } else { Transport::Stream };
    let record = source.record;
    let mut members: BTreeMap<String, serde_json::Value> = BTreeMap::from([
        ("_command".to_owned(), json!(attributes::command(source))),
        ("_container_id".to_owned(), json!(record.id)),
        ("_container_name".to_owned(), json!(record.name)),
        ("_created".to_owned(), json!(record.created)),
        ("_image_id".to_owned(), json!(record.image_id)),
        ("_image_name".to_owned(), json!(record.config.image)),
        ("_tag".to_owned(), json!(attributes::tag(source)?)),
    ]);
    let extra = attributes::extra(source, |name| match name.strip_prefix('_') {
        Some(_) => name.to_owned(),
        None => format!("_{name}"),
    })?;
    members.extend(extra.into_iter().map(|(name, value)| (name, json!(value))));
    let text = serde_json::to_string(&members).map_err(|e| Error::internal(format!("gelf: members: {e}")))?;
    let members = text[1..text.len() - 1].to_owned();
    let format = RemoteFormat::Gelf { host: source.host.to_owned(), members, compression };
    Ok(Plan { driver: "gelf", target: network(&url, 0), transport, format, policy, lazy: false })
}

fn gelf_url(options: &Options) -> Result<Url<'_>> {
    let text = options.get("gelf-address").map_or("", String::as_str);
    if text.is_empty() {
        return Err(Error::invalid("gelf-address is a required parameter"));
    }
    let url = address::parse(text).map_err(Error::invalid)?;
    if !matches!(url.scheme, "udp" | "tcp") {
        return Err(Error::invalid("gelf: endpoint needs to be TCP or UDP"));
    }
    if url.port.is_none() {
        return Err(Error::invalid("gelf: please provide gelf-address as proto://host:port"));
    }
    Ok(url)
}

fn gelf_options(options: &Options, url: &Url<'_>) -> Result<(GelfCompression, RemotePolicy)> {
    let unknown = |name: &str, value: &str| {
        Error::invalid(format!("unknown value \"{value}\" for log opt \"{name}\" for gelf log driver"))
    };
    let packs = ["gelf-compression-level", "gelf-compression-type"];
    if url.scheme != "udp" && packs.iter().any(|name| options.contains_key(*name)) {
        return Err(Error::invalid("compression is only supported on UDP"));
    }
    let level: i8 = match options.get("gelf-compression-level") {
        None => 1,
        Some(text) => text
            .parse()
            .ok()
            .filter(|level| (-1..=9).contains(level))
            .ok_or_else(|| unknown("gelf-compression-level", text))?,
    };
    let compression = match options.get("gelf-compression-type").map(String::as_str) {
        None | Some("gzip") => GelfCompression::Gzip(level),
        Some("zlib") => GelfCompression::Zlib(level),
        Some("none") => GelfCompression::None,
        Some(other) => return Err(unknown("gelf-compression-type", other)),
    };
    let mut policy = policy(options)?;
    for name in ["gelf-tcp-max-reconnect", "gelf-tcp-reconnect-delay"] {
        let Some(text) = options.get(name) else { continue };
        if url.scheme != "tcp" {
            return Err(Error::invalid(format!("\"{name}\" is only valid for TCP")));
        }
        let Ok(number) = text.parse::<u32>() else {
            return Err(Error::invalid(format!("\"{name}\" must be a positive integer")));
        };
        if name == "gelf-tcp-max-reconnect" {
            policy.retries_max = Some(number);
        } else {
            policy.retry_ms = number.saturating_mul(1000).max(1);
        }
    }
    Ok((compression, policy))
}

/// An error of the system as Go writes it, without its number.
pub fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}
