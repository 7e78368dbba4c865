//! `ps`: which containers, in which order, with what people want to know of them.

use std::collections::HashMap;

use corten_api::container::{
    ContainerListOptions, ContainerSummary, HealthSummary, HostConfigSummary, NetworkSettingsSummary, Port,
};
use corten_api::{List, Timestamp};

use super::filter::Matcher;
use super::{Phase, Record, State};
use crate::Engine;
use crate::error::Result;
use crate::mounts::MountKind;

impl Engine {
    pub async fn container_list(&self, options: &ContainerListOptions) -> Result<Vec<ContainerSummary>> {
        let matcher = Matcher::new(self, &options.filters)?;
        let mut containers = self.containers.listed();
        containers.sort_by_cached_key(|container| std::cmp::Reverse(container.read().created));
        // Asking for a state, or for the last n, asks for the stopped ones too.
        let all = options.all || options.limit.is_some() || matcher.asks_for_stopped();
        let limit =
            options.limit.filter(|&n| n > 0).map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let (mut list, mut images, now) = (Vec::new(), Images::new(), Timestamp::now());
        for container in containers {
            let record = container.read();
            if !all && !record.state.phase.is_up() || !matcher.matches(&record) {
                continue;
            }
            if list.len() == limit {
                break;
            }
            list.push(self.summary(&record, options.brief, &mut images, now));
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

    fn summary(&self, record: &Record, brief: bool, images: &mut Images, now: Timestamp) -> ContainerSummary {
        let args = super::config::arguments(&record.config).unwrap_or_default();
        let summary = ContainerSummary {
            id: record.id.clone(),
            names: vec![format!("/{}", record.name)].into(),
            image: self.image_label(record, images),
            image_id: record.image_id.clone(),
            command: args.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" "),
            created: record.created.unix(),
            ports: ports(record),
            state: record.state.phase.name().to_owned(),
            status: status(&record.state, now),
            health: Some(HealthSummary {
                status: health(&record.state).to_owned(),
                failing_streak: record.state.health.as_ref().map_or(0, |health| health.failing_streak),
            }),
            exit_reason: record
                .state
                .exit_reason
                .as_ref()
                .map(|reason| reason.kind.clone())
                .unwrap_or_default(),
            host_config: HostConfigSummary {
                network_mode: record.host_config.network_mode.clone(),
                annotations: record.host_config.annotations.clone(),
            },
            ..ContainerSummary::default()
        };
        if brief {
            return summary;
        }
        ContainerSummary {
            labels: record.config.labels.clone(),
            network_settings: NetworkSettingsSummary { networks: self.endpoint_settings(record, false) },
            mounts: record.mounts.iter().filter(|m| m.kind != MountKind::Tmpfs).map(|m| m.point()).collect(),
            ..summary
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
    fn image_label(&self, record: &Record, images: &mut Images) -> String {
        let name = &record.config.image;
        if !images.contains_key(name) {
            let id = self.images.resolve(name).ok().map(|image| image.id.to_string());
            images.insert(name.clone(), id);
        }
        match images.get(name) {
            Some(Some(id)) if *id == record.image_id => name.clone(),
            _ => record.image_id.clone(),
        }
    }
}

/// Which image each name means at the moment, looked up once for the whole list.
type Images = HashMap<String, Option<String>>;

/// Docker writes an argument with blanks in quotes.
fn quote(word: &str) -> String {
    if word.contains(' ') { format!("'{word}'") } else { word.to_owned() }
}

/// Published ports with where, the others without; sorted as Docker does.
pub(super) fn ports(record: &Record) -> List<Port> {
    let mut list: Vec<Port> = record
        .ports
        .iter()
        .filter(|port| !port.is_direct())
        .map(|port| Port {
            ip: port.host_ip.to_string(),
            private_port: port.container_port,
            public_port: port.host_port,
            kind: port.protocol.to_string(),
        })
        .collect();
    for port in record.ports.iter().filter(|port| port.is_direct()) {
        let kind = port.protocol.to_string();
        if !list.iter().any(|known| known.private_port == port.container_port && known.kind == kind) {
            list.push(Port { private_port: port.container_port, kind, ..Port::default() });
        }
    }
    if record.state.phase.is_alive() {
        for text in record.config.exposed_ports.keys() {
            let Ok((port, protocol)) = super::ports::parse_port(text) else { continue };
            let kind = protocol.to_string();
            if !list.iter().any(|known| known.private_port == port && known.kind == kind) {
                list.push(Port { private_port: port, kind, ..Port::default() });
            }
        }
    }
    list.sort_by(|a, b| (a.private_port, &a.kind, &a.ip).cmp(&(b.private_port, &b.kind, &b.ip)));
    list.into()
}

pub(super) fn health(state: &State) -> &str {
    state.health.as_ref().map_or("none", |health| health.status.as_str())
}

/// "Up 2 minutes (Paused)", "Exited (0) 3 hours ago", "Created".
fn status(state: &State, now: Timestamp) -> String {
    let up = || human_duration(now.since(state.started).as_secs());
    match state.phase {
        Phase::Created => "Created".to_owned(),
        Phase::Running => match state.health.as_ref().map(|health| health.status.as_str()) {
            None => format!("Up {}", up()),
            Some("starting") => format!("Up {} (health: starting)", up()),
            Some(health) => format!("Up {} ({health})", up()),
        },
        Phase::Paused => format!("Up {} (Paused)", up()),
        Phase::Restarting => {
            let ago = human_duration(now.since(state.finished).as_secs());
            format!("Restarting ({}) {ago} ago", state.exit_code)
        }
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
}
