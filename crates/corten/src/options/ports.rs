//! `--publish` and `--expose`: port notations.
//!
//! `[[ip:]host-port[-end]:]container-port[-end][/proto]`, an empty host port meaning any; or `published=…,target=…`.

use std::net::{Ipv4Addr, Ipv6Addr};

use corten_api::container::ContainerCreateRequest;
use corten_api::json::Empty;
use corten_api::network::PortBinding;

use super::{OptionError, csv};

/// Ports from the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
}

impl Range {
    fn parse(text: &str) -> Option<Range> {
        let port =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u16>().ok())?;
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (port(first)?, port(last)?),
            None => (port(text)?, port(text)?),
        };
        (first <= last).then_some(Range { first, last })
    }

    fn len(self) -> usize {
        usize::from(self.last - self.first) + 1
    }

    fn text(self) -> String {
        if self.first == self.last { self.first.to_string() } else { format!("{}-{}", self.first, self.last) }
    }
}

/// Adds what `--publish` asks for.
pub fn publish(request: &mut ContainerCreateRequest, words: &[String]) -> Result<(), OptionError> {
    for word in words {
        let bad = |why: String| OptionError::invalid("--publish", word, why);
        let spec = if word.contains('=') { long_form(word).map_err(bad)? } else { word.clone() };
        for (port, binding) in mappings(&spec).map_err(bad)? {
            request.config.exposed_ports.insert(port.clone(), Empty::default());
            let bindings = request.host_config.port_bindings.entry(port).or_default();
            bindings.push(binding);
        }
    }
    Ok(())
}

/// Adds what `--expose` asks for.
pub fn expose(request: &mut ContainerCreateRequest, words: &[String]) -> Result<(), OptionError> {
    for word in words {
        let bad = |why: &str| OptionError::invalid("--expose", word, why);
        let (range, protocol) = with_protocol(word).map_err(|why| bad(&why))?;
        let range = Range::parse(range).ok_or_else(|| bad("expected PORT[-END][/PROTO]"))?;
        for port in range.first..=range.last {
            request.config.exposed_ports.insert(format!("{port}/{protocol}"), Empty::default());
        }
    }
    Ok(())
}

/// Turns `published=8080,target=80,protocol=udp` into the short notation.
fn long_form(text: &str) -> Result<String, String> {
    let (mut published, mut target, mut protocol) = (String::new(), String::new(), "tcp".to_owned());
    for field in csv::fields(text)? {
        let (key, value) = field.split_once('=').ok_or_else(|| format!("{field:?} is not key=value"))?;
        match key.trim().to_ascii_lowercase().as_str() {
            "published" => published = value.to_owned(),
            "target" => target = value.to_owned(),
            "protocol" => protocol = value.to_ascii_lowercase(),
            "mode" => {}
            key => return Err(format!("there is no key {key:?}")),
        }
    }
    if target.is_empty() {
        return Err("target is required".to_owned());
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

/// The pairs of container port and host address that one word stands for.
fn mappings(spec: &str) -> Result<Vec<(String, PortBinding)>, String> {
    let (ip, host, container) = split(spec)?;
    if !ip.is_empty() && ip.parse::<Ipv4Addr>().is_err() && ip.parse::<Ipv6Addr>().is_err() {
        return Err(format!("{ip:?} is no IP address"));
    }
    let (container, protocol) = with_protocol(container)?;
    if container.is_empty() {
        return Err("the container's port is missing".to_owned());
    }
    let targets =
        Range::parse(container).ok_or_else(|| format!("{container:?} is no port or range of ports"))?;
    let sources = match host {
        "" => None,
        host => Some(Range::parse(host).ok_or_else(|| format!("{host:?} is no port or range of ports"))?),
    };
    // Several host ports for one container port: any free one of them.
    if let Some(sources) = sources
        && sources.len() != targets.len()
        && targets.len() != 1
    {
        return Err(format!("the ranges {} and {} differ in length", sources.text(), targets.text()));
    }
    let mut mappings = Vec::with_capacity(targets.len());
    for (offset, port) in (targets.first..=targets.last).enumerate() {
        let host_port = match sources {
            None => String::new(),
            Some(sources) if targets.len() == 1 => sources.text(),
            Some(sources) => (usize::from(sources.first) + offset).to_string(),
        };
        let binding = PortBinding { host_ip: ip.to_owned(), host_port };
        mappings.push((format!("{port}/{protocol}"), binding));
    }
    Ok(mappings)
}

/// Cuts `ip:host:container`; an IPv6 address stands in brackets.
fn split(spec: &str) -> Result<(&str, &str, &str), String> {
    if let Some(rest) = spec.strip_prefix('[') {
        let (ip, rest) = rest.split_once("]:").ok_or("the address's bracket is not closed by ]:")?;
        let (host, container) = rest.split_once(':').unwrap_or(("", rest));
        return Ok((ip, host, container));
    }
    let parts: Vec<&str> = spec.split(':').collect();
    match parts.as_slice() {
        [container] => Ok(("", "", container)),
        [host, container] => Ok(("", host, container)),
        [ip, host, container] => Ok((ip, host, container)),
        // Without brackets, everything before the last two colons is the address.
        [.., host, container] => {
            Ok((&spec[..spec.len() - host.len() - container.len() - 2], host, container))
        }
        [] => Err("it is empty".to_owned()),
    }
}

fn with_protocol(text: &str) -> Result<(&str, String), String> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    match protocol.as_str() {
        "tcp" | "udp" | "sctp" => Ok((port, protocol)),
        _ => Err(format!("there is no protocol {protocol:?}; there are: tcp, udp, sctp")),
    }
}
