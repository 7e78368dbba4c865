//! What is kept of what a build's steps print: the beginning, and a note that there was more.

use std::collections::HashMap;

use corten_image::Digest;

/// Of a step, as BuildKit has it; and of all steps.
const STEP_BYTES_MAX: usize = 2 << 20;
const BUILD_BYTES_MAX: usize = 32 << 20;
const CLIPPED: &[u8] = b"\n[output clipped, log limit reached]\n";

/// One build's.
#[derive(Debug, Default)]
pub struct Clip {
    printed: HashMap<Digest, usize>,
    printed_bytes: usize,
}

impl Clip {
    /// What is kept of a piece.
    pub fn keep(&mut self, step: Digest, mut bytes: Vec<u8>) -> Option<Vec<u8>> {
        let printed = self.printed.entry(step).or_default();
        let room =
            STEP_BYTES_MAX.saturating_sub(*printed).min(BUILD_BYTES_MAX.saturating_sub(self.printed_bytes));
        if room == 0 {
            return None;
        }
        if bytes.len() > room {
            bytes.truncate(room);
            bytes.extend_from_slice(CLIPPED);
            *printed = STEP_BYTES_MAX;
        }
        *printed += bytes.len();
        self.printed_bytes += bytes.len();
        Some(bytes)
    }
}
