//! Progress for programs: a JSON document per line, each a `SolveStatus` as buildx prints it.

use corten_api::base64;
use corten_api::build::{BuildEvent, BuildLog, BuildStatus, BuildVertex, BuildWarning};
use jiff::Timestamp;
use serde_json::{Value, json};

/// The document of an event, for those that have one.
pub fn document(event: &BuildEvent, dockerfile: &str) -> Option<Value> {
    Some(match event {
        BuildEvent::Vertex(step) => json!({ "vertexes": [vertex(step)] }),
        BuildEvent::Status(part) => json!({ "statuses": [status(part)] }),
        BuildEvent::Log(log) => json!({ "logs": [printed(log)] }),
        BuildEvent::Warning(found) => json!({ "warnings": [warning(found, dockerfile)] }),
        // The others are for whoever drives the build.
        _ => return None,
    })
}

fn vertex(step: &BuildVertex) -> Value {
    let mut value = json!({ "digest": step.digest, "name": step.name });
    let fields = [
        ("inputs", (!step.inputs.is_empty()).then(|| json!(step.inputs))),
        ("started", step.started.map(time)),
        ("completed", step.completed.map(time)),
        ("cached", step.cached.then_some(Value::Bool(true))),
        ("error", step.error.clone().map(Value::String)),
    ];
    add(&mut value, fields);
    value
}

fn status(part: &BuildStatus) -> Value {
    let mut value = json!({
        "id": part.id,
        "vertex": part.vertex,
        "current": part.current,
        "timestamp": Timestamp::now().to_string(),
        "started": time(part.started),
    });
    let total = (part.total > 0).then(|| json!(part.total));
    add(&mut value, [("total", total), ("completed", part.completed.map(time))]);
    value
}

fn printed(log: &BuildLog) -> Value {
    json!({ "vertex": log.vertex, "stream": log.stream, "data": log.data, "timestamp": time(log.timestamp) })
}

fn warning(found: &BuildWarning, dockerfile: &str) -> Value {
    let bytes = |text: &String| base64::encode(text.as_bytes());
    json!({
        "level": 1,
        "short": bytes(&format!("{}: {}", found.rule, found.short)),
        "detail": found.detail.iter().map(bytes).collect::<Vec<_>>(),
        "url": found.url,
        "sourceInfo": { "filename": dockerfile, "language": "Dockerfile" },
        "range": [{ "start": { "line": found.first_line }, "end": { "line": found.last_line } }],
    })
}

fn add<const COUNT: usize>(value: &mut Value, fields: [(&str, Option<Value>); COUNT]) {
    for (name, field) in fields {
        if let Some(field) = field {
            value[name] = field;
        }
    }
}

fn time(nanoseconds: i64) -> Value {
    Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or_default().to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_as_buildx_tells_them() {
        let step = BuildVertex {
            digest: "sha256:a".to_owned(),
            name: "[1/1] RUN x".to_owned(),
            started: Some(1_500_000_000),
            cached: true,
            ..BuildVertex::default()
        };
        let told = document(&BuildEvent::Vertex(step), "Dockerfile").unwrap();
        let step = json!({
            "digest": "sha256:a", "name": "[1/1] RUN x", "started": "1970-01-01T00:00:01.5Z", "cached": true,
        });
        assert_eq!(told, json!({ "vertexes": [step] }));
    }
}
