//! Events, as older clients know them, and the ways to write a stream of them.

use super::knows;
use crate::http::ApiVersion;
use crate::http::body::json_bytes;
use corten_api::event::EventMessage;

/// How documents follow each other in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// One to a line.
    Lines,
    /// Each after a record separator (RFC 7464).
    Sequence,
}

/// The type of an event stream: one of those that `Accept` names, else the version's own. Ranges (`*/*`) name none.
pub fn content_type(accept: &str, version: ApiVersion) -> (&'static str, Framing) {
    const TYPES: [(&str, Framing); 3] = [
        ("application/jsonl", Framing::Lines),
        ("application/x-ndjson", Framing::Lines),
        ("application/json-seq", Framing::Sequence),
    ];
    let mut best: Option<(f32, (&'static str, Framing))> = None;
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
        let Some(known) = TYPES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) else { continue };
        if weight > 0.0 && best.is_none_or(|(most, _)| weight > most) {
            best = Some((weight, *known));
        }
    }
    match best {
        Some((_, chosen)) => chosen,
        None if knows(version, 52) => TYPES[0],
        None => ("application/json", Framing::Lines),
    }
}

/// One event as it goes over the wire; nothing for what a client of that version doesn't know.
pub fn line(
    mut event: EventMessage,
    framing: Framing,
    version: ApiVersion,
) -> Option<serde_json::Result<Vec<u8>>> {
    if event.kind == "image" && event.action == "create" && !knows(version, 46) {
        return None;
    }
    // Fields of API 1.21, which clients until 1.51 read still.
    if !knows(version, 52) && matches!(event.kind.as_str(), "container" | "image") {
        event.status.clone_from(&event.action);
        event.id.clone_from(&event.actor.id);
        if event.kind == "container" {
            event.from = event.actor.attributes.get("image").cloned().unwrap_or_default();
        }
    }
    let bytes = match json_bytes(&event) {
        Ok(bytes) => bytes,
        Err(error) => return Some(Err(error)),
    };
    Some(Ok(match framing {
        Framing::Lines => bytes,
        Framing::Sequence => [&[0x1e], bytes.as_slice()].concat(),
    }))
}
