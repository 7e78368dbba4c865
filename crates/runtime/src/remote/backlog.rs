//! Output that waits to be sent: chunks as they were read, with stream and time, in a ring of bounded size.

use std::collections::VecDeque;

use crate::log::Stream;
use crate::monitor::protocol::Timestamp;

/// Length, stream, gap before it, time.
const HEADER: usize = 4 + 1 + 1 + 8;

/// What waits, oldest first.
pub(crate) struct Backlog {
    ring: VecDeque<u8>,
    bytes_max: usize,
    /// Of each stream: what was lost behind what is kept.
    gap: [Gap; 2],
    lost: u64,
}

/// What is missing before a chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Gap {
    #[default]
    None,
    /// Whole lines: the next one begins here.
    Lines,
    /// Lines and the beginning of one that goes on here.
    Middle,
}

/// The oldest chunk.
pub(crate) struct Chunk {
    pub stream: Stream,
    pub time: Timestamp,
    pub gap: Gap,
    pub bytes: Vec<u8>,
}

impl Backlog {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { ring: VecDeque::new(), bytes_max, gap: [Gap::None; 2], lost: 0 }
    }

    /// Takes what fits, in whole lines; the rest is lost. With `anyway` everything fits.
    pub(crate) fn push(&mut self, stream: Stream, time: Timestamp, bytes: &[u8], anyway: bool) {
        let room = self.bytes_max.saturating_sub(self.ring.len() + HEADER);
        let kept = if anyway || bytes.len() <= room {
            bytes
        } else {
            &bytes[..memchr::memrchr(b'\n', &bytes[..room]).map_or(0, |at| at + 1)]
        };
        let behind = match bytes[kept.len()..].last() {
            None => Gap::None,
            Some(b'\n') => Gap::Lines,
            Some(_) => Gap::Middle,
        };
        if !kept.is_empty() {
            let before = std::mem::replace(&mut self.gap[stream.index()], behind);
            self.append(stream, time, before, kept);
        } else if behind != Gap::None {
            self.gap[stream.index()] = behind;
        }
        self.lost += (bytes.len() - kept.len()) as u64;
    }

    fn append(&mut self, stream: Stream, time: Timestamp, gap: Gap, bytes: &[u8]) {
        let len = self.ring.len() + HEADER + bytes.len();
        if len > self.ring.capacity() {
            // A ring would double, and beyond its bound.
            let wanted = (self.ring.capacity() * 2).min(self.bytes_max).max(len);
            self.ring.reserve_exact(wanted - self.ring.len());
        }
        self.ring.extend((bytes.len() as u32).to_le_bytes());
        self.ring.extend([stream as u8, gap as u8]);
        self.ring.extend(time.0.to_le_bytes());
        self.ring.extend(bytes);
    }

    /// Takes the oldest chunk out.
    pub(crate) fn pop(&mut self, mut bytes: Vec<u8>) -> Option<Chunk> {
        if self.ring.is_empty() {
            return None;
        }
        let mut header = [0; HEADER];
        for (to, from) in header.iter_mut().zip(self.ring.drain(..HEADER)) {
            *to = from;
        }
        let [l0, l1, l2, l3, stream, gap, time @ ..] = header;
        let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        bytes.clear();
        let (first, second) = self.ring.as_slices();
        bytes.extend_from_slice(&first[..len.min(first.len())]);
        bytes.extend_from_slice(&second[..len - bytes.len()]);
        self.ring.drain(..len);
        if self.ring.is_empty() {
            // Back to the beginning of the memory, so that little of it is ever touched.
            self.ring.clear();
        }
        let stream = if stream == Stream::Stderr as u8 { Stream::Stderr } else { Stream::Stdout };
        let gap = match gap {
            1 => Gap::Lines,
            2 => Gap::Middle,
            _ => Gap::None,
        };
        Some(Chunk { stream, time: Timestamp(i64::from_le_bytes(time)), gap, bytes })
    }

    pub(crate) fn len(&self) -> usize {
        self.ring.len()
    }

    /// Bytes lost since this was asked last.
    pub(crate) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.lost += self.ring.len() as u64;
        self.ring = VecDeque::new();
    }

    /// Gives memory back that is not used.
    pub(crate) fn trim(&mut self) {
        if self.ring.is_empty() {
            self.ring = VecDeque::new();
        }
    }
}
