//! GELF 1.1: a JSON object per message; as datagrams compressed, and in chunks when too large for one.

use std::io::Write;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

use super::{Message, text};
use crate::log::Stream;
use crate::monitor::protocol::GelfCompression;

/// Longest packet, for any network between here and the receiver.
const PACKET: usize = 1420;
const CHUNK_HEADER: usize = 12;
const CHUNKS_MAX: usize = 128;

/// The object, without the zero byte that ends it in a stream.
pub(super) fn encode(host: &str, members: &str, message: &Message<'_>, out: &mut Vec<u8>) {
    let level = if message.stream == Stream::Stderr { 3 } else { 6 };
    let millis = message.time.0.div_euclid(1_000_000);
    // Into memory: cannot fail. Seconds with a fraction of three digits.
    let _ = write!(out, "{{\"version\":\"1.1\",\"host\":");
    string(out, host);
    out.extend_from_slice(b",\"short_message\":");
    string(out, &text(message.line));
    let _ = write!(
        out,
        ",\"timestamp\":{}.{:03},\"level\":{level}",
        millis.div_euclid(1000),
        millis.rem_euclid(1000)
    );
    if !members.is_empty() {
        out.push(b',');
        out.extend_from_slice(members.as_bytes());
    }
    out.push(b'}');
}

fn string(out: &mut Vec<u8>, text: &str) {
    // A string into memory: cannot fail.
    let _ = serde_json::to_writer(out, text);
}

/// The compressor, as long as there is something to compress.
#[derive(Default)]
pub(super) struct Scratch {
    deflate: Option<Compress>,
    packed: Vec<u8>,
}

impl Scratch {
    /// Turns the object that begins at `start` into packets. One that is too large even in chunks is dropped: the protocol has no
    /// way to send it.
    pub(super) fn packets(
        &mut self,
        compression: GelfCompression,
        start: usize,
        out: &mut Vec<u8>,
        ends: &mut Vec<usize>,
    ) {
        if self.pack(compression, &out[start..]) {
            out.truncate(start);
            out.extend_from_slice(&self.packed);
        }
        let len = out.len() - start;
        if len <= PACKET {
            return ends.push(out.len());
        }
        self.packed.clear();
        self.packed.extend_from_slice(&out[start..]);
        out.truncate(start);
        let count = len.div_ceil(PACKET - CHUNK_HEADER);
        if count > CHUNKS_MAX {
            return;
        }
        let mut id = [0_u8; 8];
        // Only has to differ from those of the last seconds.
        let _ = rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty());
        for (number, chunk) in self.packed.chunks(PACKET - CHUNK_HEADER).enumerate() {
            out.extend_from_slice(&[0x1e, 0x0f]);
            out.extend_from_slice(&id);
            out.extend_from_slice(&[number as u8, count as u8]);
            out.extend_from_slice(chunk);
            ends.push(out.len());
        }
    }

    /// Compresses into `packed`; false when it is to stay as it is.
    fn pack(&mut self, compression: GelfCompression, bytes: &[u8]) -> bool {
        let (level, zlib) = match compression {
            GelfCompression::None => return false,
            GelfCompression::Gzip(level) => (level, false),
            GelfCompression::Zlib(level) => (level, true),
        };
        let level = if level < 0 { Compression::default() } else { Compression::new(level as u32) };
        let deflate = self.deflate.get_or_insert_with(|| Compress::new(level, zlib));
        deflate.reset();
        self.packed.clear();
        // What deflate adds to bytes that it can't compress, and the frame.
        self.packed.reserve(bytes.len() + bytes.len() / 1000 + 64);
        if !zlib {
            self.packed.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
        }
        if !matches!(
            deflate.compress_vec(bytes, &mut self.packed, FlushCompress::Finish),
            Ok(Status::StreamEnd)
        ) {
            return false;
        }
        if !zlib {
            let mut crc = Crc::new();
            crc.update(bytes);
            self.packed.extend_from_slice(&crc.sum().to_le_bytes());
            self.packed.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        }
        true
    }
}
