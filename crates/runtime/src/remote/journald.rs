//! The journal's native protocol: `NAME=value` lines; values with newlines in them with their length instead.

use super::{Message, text};
use crate::log::{Stream, append_rfc3339};

pub(super) fn encode(fields: &[(String, String)], ordinal: u64, message: &Message<'_>, out: &mut Vec<u8>) {
    let priority: &[u8] = if message.stream == Stream::Stderr { b"3" } else { b"6" };
    field(out, "PRIORITY", priority);
    field(out, "MESSAGE", text(message.line).as_bytes());
    for (name, value) in fields {
        field(out, name, value.as_bytes());
    }
    out.extend_from_slice(b"SYSLOG_TIMESTAMP=");
    append_rfc3339(message.time, out);
    out.push(b'\n');
    if let Some(partial) = &message.partial {
        field(out, "CONTAINER_PARTIAL_ID", partial.id.as_bytes());
        field(out, "CONTAINER_PARTIAL_ORDINAL", partial.ordinal.to_string().as_bytes());
        field(out, "CONTAINER_PARTIAL_LAST", if partial.last { b"true" } else { b"false" });
        if !partial.last {
            field(out, "CONTAINER_PARTIAL_MESSAGE", b"true");
        }
    }
    field(out, "CONTAINER_LOG_ORDINAL", ordinal.to_string().as_bytes());
}

fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    if memchr::memchr(b'\n', value).is_some() {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}
