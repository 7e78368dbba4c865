//! Which containers `ps` shows: its filters, understood once and applied to every record.

use std::collections::BTreeSet;

use corten_api::Timestamp;
use corten_api::filters::Filters;
use regex_lite::Regex;

use super::{Phase, Record, list};
use crate::Engine;
use crate::error::{Error, Result};

const FILTERS: [&str; 15] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];

const STATES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];

const HEALTHS: [&str; 4] = ["none", "starting", "healthy", "unhealthy"];

/// The filters of a list, with everything looked up that they refer to.
pub(super) struct Matcher<'a> {
    filters: &'a Filters,
    names: Patterns,
    ids: Patterns,
    exited: Vec<i32>,
    /// Ids of the images and of those that are built on them.
    ancestors: Option<BTreeSet<String>>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    /// As they were called, and by their names.
    networks: Vec<String>,
    published: Vec<Ports>,
    exposed: Vec<Ports>,
}

impl<'a> Matcher<'a> {
    pub fn new(engine: &Engine, filters: &'a Filters) -> Result<Self> {
        filters.validate(&FILTERS).map_err(|e| Error::invalid(e.to_string()))?;
        one_of(filters, "status", "container state", &STATES)?;
        one_of(filters, "health", "health", &HEALTHS)?;
        filters.boolean("is-task").map_err(|e| Error::invalid(e.to_string()))?;
        let exited = |code: &str| {
            code.parse().map_err(|_| {
                Error::invalid(format!(
                    "invalid filter 'exited={code}': strconv.Atoi: parsing \"{code}\": invalid syntax"
                ))
            })
        };
        // Of several the last one counts, as with Docker.
        let created = |name: &str| -> Result<Option<Timestamp>> {
            filters.get(name).last().map(|key| Ok(engine.containers.find(key)?.read().created)).transpose()
        };
        let network = |key: &str| {
            engine.network_registry.find(key).map_or(key.to_owned(), |network| network.name.clone())
        };
        Ok(Self {
            filters,
            names: Patterns::new(filters.get("name")),
            ids: Patterns::new(filters.get("id")),
            exited: filters.get("exited").map(exited).collect::<Result<_>>()?,
            ancestors: filters.contains("ancestor").then(|| engine.descendants(filters.get("ancestor"))),
            before: created("before")?,
            since: created("since")?,
            networks: filters.get("network").map(network).collect(),
            published: filters
                .get("publish")
                .map(|wish| Ports::parse("publish", wish))
                .collect::<Result<_>>()?,
            exposed: filters.get("expose").map(|wish| Ports::parse("expose", wish)).collect::<Result<_>>()?,
        })
    }

    /// A state is asked for, which may be that of a stopped container.
    pub fn asks_for_stopped(&self) -> bool {
        self.filters.contains("status")
    }

    pub fn matches(&self, record: &Record) -> bool {
        let filters = self.filters;
        let labels = &record.config.labels;
        self.ids.matches(&record.id)
            && (self.names.matches(&record.name) || self.names.matches(&format!("/{}", record.name)))
            && filters.any("status", |state| record.state.phase.name() == state)
            && (self.exited.is_empty()
                || record.state.phase == Phase::Exited && self.exited.contains(&record.state.exit_code))
            && filters.any("health", |wish| wish == list::health(&record.state))
            && filters.any("isolation", |wish| matches!(wish, "default" | "process"))
            && filters.boolean("is-task") != Ok(Some(true))
            && (self.networks.is_empty() || self.networks.iter().any(|name| is_in(record, name)))
            && self.has_ports(record)
            && filters.labels(|key| labels.get(key).map(String::as_str))
            && self.ancestors.as_ref().is_none_or(|ids| ids.contains(&record.image_id))
            && self.before.is_none_or(|time| record.created < time)
            && self.since.is_none_or(|time| record.created > time)
            && filters.any("volume", |wish| {
                let mut mounts = record.mounts.iter();
                mounts.any(|m| {
                    wish == m.volume || wish == m.destination || m.volume.is_empty() && wish == m.source
                })
            })
    }

    /// One of the ports that are asked for, whether as a published or as an exposed one.
    fn has_ports(&self, record: &Record) -> bool {
        let (published, exposed) = (&self.published, &self.exposed);
        published.is_empty() && exposed.is_empty()
            || list::ports(record).iter().any(|port| {
                published.iter().any(|wish| wish.has(port.public_port, &port.kind))
                    || exposed.iter().any(|wish| wish.has(port.private_port, &port.kind))
            })
    }
}

impl Engine {
    /// The ids of images and of all that have their layers at the bottom, or name them as parents.
    fn descendants<'n>(&self, names: impl Iterator<Item = &'n str>) -> BTreeSet<String> {
        let all = self.images.list().unwrap_or_default();
        let mut found = BTreeSet::new();
        // A name that means nothing has no descendants.
        for ancestor in names.filter_map(|name| self.images.resolve(name).ok()) {
            let is_below = |image: &corten_image::Image| {
                image.id == ancestor.id
                    || image.parent.as_ref() == Some(&ancestor.id)
                    || !ancestor.layers.is_empty() && image.layers.starts_with(&ancestor.layers)
            };
            found.extend(all.iter().filter(|image| is_below(image)).map(|image| image.id.to_string()));
        }
        found
    }
}

fn one_of(filters: &Filters, name: &str, what: &str, known: &[&str]) -> Result<()> {
    match filters.get(name).find(|value| !known.contains(value)) {
        None => Ok(()),
        Some(value) => Err(Error::invalid(format!(
            "invalid filter '{name}={value}': invalid value for {what} ({value}): must be one of {}",
            known.join(", ")
        ))),
    }
}

fn is_in(record: &Record, network: &str) -> bool {
    record.networks.contains_key(network) || record.host_config.network_mode == network
}

/// Regular expressions, of which one has to match; what is none has to be the whole text.
struct Patterns(Vec<(String, Option<Regex>)>);

impl Patterns {
    fn new<'v>(values: impl Iterator<Item = &'v str>) -> Self {
        Self(values.map(|value| (value.to_owned(), Regex::new(value).ok())).collect())
    }

    fn matches(&self, text: &str) -> bool {
        let matching = |(whole, pattern): &(String, Option<Regex>)| {
            whole == text || pattern.as_ref().is_some_and(|pattern| pattern.is_match(text))
        };
        self.0.is_empty() || self.0.iter().any(matching)
    }
}

/// `80`, `80/tcp`, `80-90/udp`.
#[derive(Debug, PartialEq, Eq)]
struct Ports {
    first: u16,
    last: u16,
    protocol: String,
}

impl Ports {
    fn parse(filter: &str, wish: &str) -> Result<Self> {
        if wish.contains(':') {
            return Err(Error::invalid(format!("filter for '{filter}' should not contain ':': {wish}")));
        }
        let (range, protocol) = wish.split_once('/').unwrap_or((wish, "tcp"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let bad =
            || Error::invalid(format!("error while looking up for {filter} {wish}: invalid port range"));
        let (first, last) = (first.parse().map_err(|_| bad())?, last.parse().map_err(|_| bad())?);
        if first > last || !matches!(protocol, "tcp" | "udp" | "sctp") {
            return Err(bad());
        }
        Ok(Self { first, last, protocol: protocol.to_owned() })
    }

    fn has(&self, port: u16, protocol: &str) -> bool {
        port != 0 && (self.first..=self.last).contains(&port) && self.protocol == protocol
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_patterns() {
        let matches = |pattern: &str, text: &str| Patterns::new([pattern].into_iter()).matches(text);
        assert!(matches("web", "web-1") && matches("^/web-1$", "/web-1") && matches("w.b|db", "db"));
        assert!(!matches("^eb", "web-1") && !matches("^web-1$", "web-10"));
        // No pattern, but the whole name of something.
        assert!(matches("a[", "a[") && !matches("a[", "ab"));
        assert!(Patterns::new([].into_iter()).matches("anything"));
    }

    #[test]
    fn ports_and_ranges() {
        let ports = Ports::parse("publish", "80-90/udp").unwrap();
        assert!(ports.has(85, "udp") && !ports.has(85, "tcp") && !ports.has(91, "udp"));
        assert!(Ports::parse("expose", "80").unwrap().has(80, "tcp"));
        assert!(!Ports::parse("expose", "0-9").unwrap().has(0, "tcp"));
        for bad in ["x", "90-80", "80/icmp", "1.2.3.4:80"] {
            assert!(Ports::parse("publish", bad).is_err(), "{bad}");
        }
    }
}
