//! `ps`: which containers, in which order, with what people want to know of them.

use corten_api::container::{
    ContainerListOptions, ContainerSummary, HostConfigSummary, NetworkSettingsSummary, Port,
};
use corten_api::filters::Filters;
use corten_api::{List, Timestamp};

use super::{Phase, Record, State};
use crate::Engine;
use crate::error::{Error, Result};
use crate::mounts::MountKind;

const FILTERS: [&str; 18] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "label!",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
    "all",
    "limit",
];

const STATES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];

impl Engine {
    pub async fn container_list(&self, options: &ContainerListOptions) -> Result<Vec<ContainerSummary>> {
        let matcher = Matcher::new(self, &options.filters)?;
        let mut containers = self.containers.all();
        containers.sort_by_cached_key(|container| std::cmp::Reverse(container.read().created));
        // Asking for a state, or for the last n, asks for the stopped ones too.
        let all = options.all || options.limit.is_some() || matcher.asks_for_stopped();
        let limit =
            options.limit.filter(|&n| n > 0).map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let mut list = Vec::new();
        for container in containers {
            let record = container.read();
            if !all && !record.state.phase.is_alive() || !matcher.matches(&record) {
                continue;
            }
            if list.len() == limit {
                break;
            }
            list.push(self.summary(&record));
        }
        if !options.size {
            return Ok(list);
        }
        let engine = self.clone();
        crate::image::blocking(move || {
            for summary in &mut list {
                (summary.size_rw, summary.size_root_fs) = engine.sizes(&summary.id, &summary.image_id);
            }
            Ok(list)
        })
        .await
    }

    fn summary(&self, record: &Record) -> ContainerSummary {
        let args = super::config::arguments(&record.config).unwrap_or_default();
        ContainerSummary {
            id: record.id.clone(),
            names: vec![format!("/{}", record.name)].into(),
            image: self.image_label(record),
            image_id: record.image_id.clone(),
            command: args.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" "),
            created: record.created.unix(),
            ports: ports(record),
            labels: record.config.labels.clone(),
            state: record.state.phase.name().to_owned(),
            status: status(&record.state, Timestamp::now()),
            host_config: HostConfigSummary {
                network_mode: record.host_config.network_mode.clone(),
                annotations: record.host_config.annotations.clone(),
            },
            network_settings: NetworkSettingsSummary { networks: self.endpoint_settings(record, false) },
            mounts: record.mounts.iter().filter(|m| m.kind != MountKind::Tmpfs).map(|m| m.point()).collect(),
            ..ContainerSummary::default()
        }
    }

    /// Bytes of the writable layer, and of all layers together. Reads the whole writable layer.
    pub(super) fn sizes(&self, id: &str, image_id: &str) -> (i64, i64) {
        let upper = self.options.data_root.join("snapshots").join(id).join("upper");
        let rw = crate::volume::file_bytes(&upper);
        let image = self.images.resolve(image_id).map_or(0, |image| image.size);
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        (signed(rw), signed(rw + image))
    }

    /// The image as it was asked for; its id once that name means another image.
    fn image_label(&self, record: &Record) -> String {
        match self.images.resolve(&record.config.image) {
            Ok(image) if image.id.to_string() == record.image_id => record.config.image.clone(),
            _ => record.image_id.clone(),
        }
    }
}

/// Docker writes an argument with blanks in quotes.
fn quote(word: &str) -> String {
    if word.contains(' ') { format!("'{word}'") } else { word.to_owned() }
}

/// Published ports with where, the others without; sorted as Docker does.
pub(super) fn ports(record: &Record) -> List<Port> {
    let published = record.endpoint.iter().flat_map(|endpoint| &endpoint.ports);
    let mut list: Vec<Port> = published
        .map(|port| Port {
            ip: port.host_ip.to_string(),
            private_port: port.container_port,
            public_port: port.host_port,
            kind: port.protocol.to_string(),
        })
        .collect();
    if record.state.phase.is_alive() {
        for text in record.config.exposed_ports.keys() {
            let Ok((port, protocol)) = super::network::parse_port(text) else { continue };
            let kind = protocol.to_string();
            if !list.iter().any(|known| known.private_port == port && known.kind == kind) {
                list.push(Port { private_port: port, kind, ..Port::default() });
            }
        }
    }
    list.sort_by(|a, b| (a.private_port, &a.kind, &a.ip).cmp(&(b.private_port, &b.kind, &b.ip)));
    list.into()
}

/// "Up 2 minutes (Paused)", "Exited (0) 3 hours ago", "Created".
fn status(state: &State, now: Timestamp) -> String {
    let up = || human_duration(now.since(state.started).as_secs());
    match state.phase {
        Phase::Created => "Created".to_owned(),
        Phase::Running => format!("Up {}", up()),
        Phase::Paused => format!("Up {} (Paused)", up()),
        Phase::Removing => "Removal In Progress".to_owned(),
        Phase::Exited => {
            let ago = human_duration(now.since(state.finished).as_secs());
            format!("Exited ({}) {ago} ago", state.exit_code)
        }
    }
}

/// Docker's words for a stretch of time.
fn human_duration(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        s if s < 60 => format!("{s} seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours <= 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// The filters of a list, with everything looked up that they refer to.
struct Matcher<'a> {
    filters: &'a Filters,
    ancestors: Option<Vec<String>>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    volumes: Vec<String>,
}

impl<'a> Matcher<'a> {
    fn new(engine: &Engine, filters: &'a Filters) -> Result<Self> {
        filters.validate(&FILTERS).map_err(|e| Error::invalid(e.to_string()))?;
        for state in filters.get("status") {
            if !STATES.contains(&state) {
                return Err(Error::invalid(format!("invalid filter 'status={state}'")));
            }
        }
        for code in filters.get("exited") {
            code.parse::<i32>().map_err(|_| Error::invalid(format!("invalid filter 'exited={code}'")))?;
        }
        let created = |name: &str| -> Result<Option<Timestamp>> {
            filters.get(name).next().map(|key| Ok(engine.containers.find(key)?.read().created)).transpose()
        };
        let ancestors = filters.contains("ancestor").then(|| {
            filters
                .get("ancestor")
                .filter_map(|name| engine.images.resolve(name).ok())
                .map(|image| image.id.to_string())
                .collect()
        });
        Ok(Self {
            filters,
            ancestors,
            before: created("before")?,
            since: created("since")?,
            volumes: filters.get("volume").map(str::to_owned).collect(),
        })
    }

    fn asks_for_stopped(&self) -> bool {
        self.filters.contains("status") || self.filters.contains("exited")
    }

    fn matches(&self, record: &Record) -> bool {
        let filters = self.filters;
        let labels = &record.config.labels;
        filters.any("id", |part| record.id.starts_with(part))
            && filters.any("name", |part| matches_name(&record.name, part))
            && filters.any("status", |state| record.state.phase.name() == state)
            && filters.any("exited", |code| {
                record.state.phase == Phase::Exited && code.parse() == Ok(record.state.exit_code)
            })
            && filters.any("health", |wish| wish == "none")
            && filters.any("isolation", |wish| matches!(wish, "default" | "process"))
            && filters.any("is-task", |wish| matches!(wish, "0" | "false"))
            && filters.any("network", |name| in_network(record, name))
            && filters.any("publish", |wish| has_port(record, wish, true))
            && filters.any("expose", |wish| has_port(record, wish, false))
            && filters.labels(|key| labels.get(key).map(String::as_str))
            && self.ancestors.as_ref().is_none_or(|ids| ids.contains(&record.image_id))
            && self.before.is_none_or(|time| record.created < time)
            && self.since.is_none_or(|time| record.created > time)
            && (self.volumes.is_empty()
                || record.mounts.iter().any(|mount| {
                    self.volumes.iter().any(|wish| {
                        *wish == mount.volume || *wish == mount.destination || *wish == mount.source
                    })
                }))
    }
}

/// Docker takes a regular expression here; people write a part of the name, at times anchored.
fn matches_name(name: &str, wish: &str) -> bool {
    let slashed = format!("/{name}");
    let (start, rest) = match wish.strip_prefix('^') {
        Some(rest) => (true, rest),
        None => (false, wish),
    };
    let (end, core) = match rest.strip_suffix('$') {
        Some(core) => (true, core),
        None => (false, rest),
    };
    [name, slashed.as_str()].iter().any(|name| match (start, end) {
        (true, true) => *name == core,
        (true, false) => name.starts_with(core),
        (false, true) => name.ends_with(core),
        (false, false) => name.contains(core),
    })
}

fn in_network(record: &Record, wish: &str) -> bool {
    let mode = record.host_config.network_mode.as_str();
    mode == wish || mode == "bridge" && wish == "nat" || record.networks.contains_key(wish)
}

/// `80`, `80/tcp`, `80-90/udp`.
fn has_port(record: &Record, wish: &str, published: bool) -> bool {
    let (range, protocol) = wish.split_once('/').unwrap_or((wish, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else { return false };
    ports(record).iter().any(|port| {
        let number = if published { port.public_port } else { port.private_port };
        number != 0 && (first..=last).contains(&number) && port.kind == protocol
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_of_time_in_words() {
        let words: Vec<String> =
            [0, 1, 59, 60, 119, 120, 3599, 3600, 5400, 172_800, 1_209_600].map(human_duration).into();
        assert_eq!(
            words,
            [
                "Less than a second",
                "1 second",
                "59 seconds",
                "About a minute",
                "About a minute",
                "2 minutes",
                "59 minutes",
                "About an hour",
                "2 hours",
                "2 days",
                "2 weeks"
            ]
        );
    }

    #[test]
    fn names_match_in_part_or_anchored() {
        assert!(
            matches_name("web-1", "web")
                && matches_name("web-1", "^/web-1$")
                && matches_name("web-1", "^web")
        );
        assert!(!matches_name("web-1", "^eb") && !matches_name("web-10", "^web-1$"));
    }
}
