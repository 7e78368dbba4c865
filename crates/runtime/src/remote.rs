//! Log messages for receivers elsewhere: syslog, the journal, Fluentd, GELF.
//!
//! Owns what waits to be sent ([`Backlog`]), how output is cut into messages ([`Messages`]), and how each receiver wants a
//! message written ([`Encoder`]). Opens no connection: the monitor does (`monitor/shipping.rs`).
//!
//! What waits is kept as the container wrote it and is encoded when it is sent: its bound holds whatever a message grows to.

mod backlog;
mod fluentd;
mod gelf;
mod journald;
mod messages;
mod syslog;

#[cfg(test)]
mod tests;

pub(crate) use backlog::{Backlog, Chunk};
pub(crate) use messages::Messages;

use crate::log::Stream;
use crate::monitor::protocol::{RemoteFormat, Timestamp, Transport};

/// One line of output, or a piece of a long one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub time: Timestamp,
    pub stream: Stream,
    /// Without its newline.
    pub line: &'a [u8],
    pub partial: Option<Partial<'a>>,
}

/// Which piece of which long line a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Partial<'a> {
    /// 64 hexadecimal digits.
    pub id: &'a str,
    /// From 1.
    pub ordinal: u32,
    pub last: bool,
}

/// Writes messages as one receiver wants them.
pub(crate) struct Encoder {
    format: RemoteFormat,
    transport: Transport,
    /// Of this monitor's messages; the journal gets it.
    ordinal: u64,
    gelf: gelf::Scratch,
}

impl Encoder {
    pub(crate) fn new(format: RemoteFormat, transport: Transport) -> Self {
        Self { format, transport, ordinal: 0, gelf: gelf::Scratch::default() }
    }

    /// Appends a message to `out`, and to `ends` where each packet (of a stream: each message) ends. A message that the receiver
    /// has no use for leaves no trace.
    pub(crate) fn encode(&mut self, message: &Message<'_>, out: &mut Vec<u8>, ends: &mut Vec<usize>) {
        match &self.format {
            // Neither has a form for nothing.
            RemoteFormat::Syslog(_) | RemoteFormat::Gelf { .. } if message.line.is_empty() => return,
            RemoteFormat::Syslog(config) => syslog::encode(config, message, out),
            RemoteFormat::Journald { fields } => {
                self.ordinal += 1;
                journald::encode(fields, self.ordinal, message, out);
            }
            RemoteFormat::Fluentd { tag, record, sub_second } => {
                fluentd::encode(tag, record, *sub_second, message, out);
            }
            RemoteFormat::Gelf { host, members, compression } => {
                let start = out.len();
                gelf::encode(host, members, message, out);
                if self.transport == Transport::Datagram {
                    return self.gelf.packets(*compression, start, out, ends);
                }
                out.push(0);
            }
        }
        ends.push(out.len());
    }

    /// Gives memory back while nothing is sent.
    pub(crate) fn trim(&mut self) {
        self.gelf = gelf::Scratch::default();
    }
}

/// Bytes as text; each that is not UTF-8 becomes U+FFFD.
fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
