//! The `local` format's record: header, payload, trailer. Pure; docs/log-format.md has the byte table.

use crate::log::Stream;
use crate::monitor::protocol::Timestamp;

/// First bytes of a file: name and version of the format.
pub(super) const MAGIC: &[u8; 8] = b"cortlog\x01";
pub(super) const HEADER_LEN: usize = 16;
pub(super) const TRAILER_LEN: usize = 4;
/// Larger lengths are taken for damage.
pub(super) const PAYLOAD_MAX: usize = 1 << 20;

/// The payload's first byte goes on with a line that the stream's previous record left open.
const FLAG_CONTINUES: u8 = 1;
/// The payload's last line has no newline.
const FLAG_PARTIAL: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub len: usize,
    pub stream: Stream,
    pub continues: bool,
    pub partial: bool,
    pub time: Timestamp,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[0..4].copy_from_slice(&(self.len as u32).to_le_bytes());
        out[4] = self.stream as u8;
        out[5] = u8::from(self.continues) * FLAG_CONTINUES + u8::from(self.partial) * FLAG_PARTIAL;
        out[8..16].copy_from_slice(&self.time.0.to_le_bytes());
        let check = check(&out);
        out[6..8].copy_from_slice(&check.to_le_bytes());
        out
    }

    /// `None` when these bytes are no header of ours.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER_LEN] = bytes.first_chunk()?;
        let [l0, l1, l2, l3, stream, flags, c0, c1, time @ ..] = *bytes;
        let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let stream = match stream {
            1 => Stream::Stdout,
            2 => Stream::Stderr,
            _ => return None,
        };
        if len == 0 || len > PAYLOAD_MAX || u16::from_le_bytes([c0, c1]) != check(bytes) {
            return None;
        }
        Some(Self {
            len,
            stream,
            continues: flags & FLAG_CONTINUES != 0,
            partial: flags & FLAG_PARTIAL != 0,
            time: Timestamp(i64::from_le_bytes(time)),
        })
    }

    /// Bytes of the whole record.
    pub(super) fn record_len(&self) -> usize {
        HEADER_LEN + self.len + TRAILER_LEN
    }
}

pub(super) fn trailer(len: usize) -> [u8; TRAILER_LEN] {
    (len as u32).to_le_bytes()
}

/// Sixteen-bit sum with end-around carry over the header without the check itself: enough to tell a header from torn or
/// zeroed bytes, together with the trailer.
fn check(header: &[u8; HEADER_LEN]) -> u16 {
    let mut sum: u32 = 0x5EAD;
    for (i, pair) in header.chunks_exact(2).enumerate() {
        if i != 3 {
            sum += u32::from(u16::from_le_bytes([pair[0], pair[1]])) * (i as u32 + 1);
        }
    }
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    sum as u16
}
