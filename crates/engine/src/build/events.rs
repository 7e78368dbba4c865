//! What a build tells, as it goes over the wire and into the history, and back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use corten_api::base64;
use corten_api::build::{BuildEvent, BuildFailed, BuildLog, BuildStatus, BuildVertex, BuildWarning};
use corten_build::{Event, Log, Status, Stream, Vertex, Warning};
use corten_image::Digest;

pub fn told(event: Event) -> BuildEvent {
    match event {
        Event::Vertex(vertex) => BuildEvent::Vertex(BuildVertex {
            digest: vertex.id.to_string(),
            inputs: vertex.inputs.iter().map(ToString::to_string).collect(),
            name: vertex.name,
            started: vertex.started.map(nanoseconds),
            completed: vertex.completed.map(nanoseconds),
            cached: vertex.is_cached,
            error: vertex.error,
        }),
        Event::Log(log) => BuildEvent::Log(BuildLog {
            vertex: log.vertex.to_string(),
            stream: if log.stream == Stream::Stderr { 2 } else { 1 },
            data: base64::encode(&log.bytes),
            timestamp: nanoseconds(log.at),
        }),
        Event::Status(status) => BuildEvent::Status(BuildStatus {
            vertex: status.vertex.to_string(),
            id: status.id,
            current: status.current_bytes,
            total: status.total_bytes,
            started: nanoseconds(status.started),
            completed: status.completed.map(nanoseconds),
        }),
        Event::Warning(warning) => {
            let (first_line, last_line) = warning.lines.unwrap_or_default();
            let (rule, short, detail, url) = (warning.rule, warning.short, warning.detail, warning.url);
            BuildEvent::Warning(BuildWarning { rule, short, detail, url, first_line, last_line })
        }
        Event::Failed(container) => BuildEvent::Failed(BuildFailed { container }),
    }
}

/// What was told; none for what no builder tells.
pub fn heard(event: BuildEvent) -> Option<Event> {
    Some(match event {
        BuildEvent::Vertex(vertex) => Event::Vertex(Vertex {
            id: vertex.digest.parse::<Digest>().ok()?,
            inputs: vertex.inputs.iter().filter_map(|input| input.parse::<Digest>().ok()).collect(),
            name: vertex.name,
            started: vertex.started.map(time),
            completed: vertex.completed.map(time),
            is_cached: vertex.cached,
            error: vertex.error,
        }),
        BuildEvent::Log(log) => Event::Log(Log {
            vertex: log.vertex.parse::<Digest>().ok()?,
            stream: if log.stream == 2 { Stream::Stderr } else { Stream::Stdout },
            bytes: base64::decode(&log.data)?,
            at: time(log.timestamp),
        }),
        BuildEvent::Status(status) => Event::Status(Status {
            vertex: status.vertex.parse::<Digest>().ok()?,
            id: status.id,
            current_bytes: status.current,
            total_bytes: status.total,
            started: time(status.started),
            completed: status.completed.map(time),
        }),
        BuildEvent::Warning(BuildWarning { rule, short, detail, url, first_line, last_line }) => {
            let lines = Some((first_line, last_line)).filter(|(first, _)| *first > 0);
            Event::Warning(Warning { vertex: None, rule, short, detail, url, lines })
        }
        _ => return None,
    })
}

pub fn nanoseconds(time: SystemTime) -> i64 {
    i64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(i64::MAX)
}

fn time(nanoseconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0))
}
