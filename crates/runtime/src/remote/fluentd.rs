//! Fluentd's forward protocol, message mode: `[tag, time, record, option]` in MessagePack.

use super::{Message, text};
use crate::monitor::protocol::Timestamp;

const SECOND: i64 = 1_000_000_000;

pub(super) fn encode(
    tag: &str,
    record: &[(String, String)],
    sub_second: bool,
    message: &Message<'_>,
    out: &mut Vec<u8>,
) {
    out.push(0x94);
    string(out, tag);
    if sub_second {
        event_time(out, message.time)
    } else {
        seconds(out, message.time)
    }
    map(out, record.len() + 2 + if message.partial.is_some() { 4 } else { 0 });
    for (name, value) in record {
        pair(out, name, value);
    }
    pair(out, "source", message.stream.name());
    pair(out, "log", &text(message.line));
    if let Some(partial) = &message.partial {
        pair(out, "partial_message", "true");
        pair(out, "partial_id", partial.id);
        pair(out, "partial_ordinal", &partial.ordinal.to_string());
        pair(out, "partial_last", if partial.last { "true" } else { "false" });
    }
    map(out, 0);
}

fn pair(out: &mut Vec<u8>, name: &str, value: &str) {
    string(out, name);
    string(out, value);
}

fn map(out: &mut Vec<u8>, len: usize) {
    match len {
        0..16 => out.push(0x80 | len as u8),
        _ => {
            out.push(0xde);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    match text.len() {
        len @ 0..32 => out.push(0xa0 | len as u8),
        len @ 32..256 => out.extend_from_slice(&[0xd9, len as u8]),
        len @ 256..65_536 => {
            out.push(0xda);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0xdb);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(text.as_bytes());
}

/// A whole number of seconds.
fn seconds(out: &mut Vec<u8>, time: Timestamp) {
    out.push(0xd3);
    out.extend_from_slice(&time.0.div_euclid(SECOND).to_be_bytes());
}

/// The protocol's EventTime: extension type 0, seconds and nanoseconds with 32 bits each.
fn event_time(out: &mut Vec<u8>, time: Timestamp) {
    out.extend_from_slice(&[0xd7, 0x00]);
    out.extend_from_slice(&(time.0.div_euclid(SECOND) as u32).to_be_bytes());
    out.extend_from_slice(&(time.0.rem_euclid(SECOND) as u32).to_be_bytes());
}
