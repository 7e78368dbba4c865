//! Recognises the keys by which a client leaves a container without ending it.

/// Looks for a sequence in a stream that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct DetachKeys {
    keys: Vec<u8>,
    /// How many of them were typed in a row; they are held back until it is clear what they mean.
    matched: usize,
}

impl DetachKeys {
    pub(super) fn new(keys: Vec<u8>) -> Self {
        Self { keys, matched: 0 }
    }

    /// Whether input passes through unseen.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Appends what is no part of the sequence to `out`; true once the sequence is complete (what follows it is dropped).
    pub(super) fn filter(&mut self, input: &[u8], out: &mut Vec<u8>) -> bool {
        if self.keys.is_empty() {
            out.extend_from_slice(input);
            return false;
        }
        for &byte in input {
            while self.matched > 0 && self.keys[self.matched] != byte {
                self.fall_back(out);
            }
            if self.keys[self.matched] != byte {
                out.push(byte);
                continue;
            }
            self.matched += 1;
            if self.matched == self.keys.len() {
                self.matched = 0;
                return true;
            }
        }
        false
    }

    /// The next byte does not go on with the sequence: lets go of as many bytes as needed for the rest to be its beginning again.
    fn fall_back(&mut self, out: &mut Vec<u8>) {
        let held = &self.keys[..self.matched];
        let kept = (0..self.matched).rev().find(|&n| held[self.matched - n..] == self.keys[..n]).unwrap_or(0);
        out.extend_from_slice(&held[..self.matched - kept]);
        self.matched = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(keys: &[u8], pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut detach = DetachKeys::new(keys.to_vec());
        let mut out = Vec::new();
        let detached = pieces.iter().any(|piece| detach.filter(piece, &mut out));
        (out, detached)
    }

    #[test]
    fn the_sequence_detaches_also_when_it_comes_in_pieces() {
        assert_eq!(run(b"\x10\x11", &[b"ls\n\x10\x11rest"]), (b"ls\n".to_vec(), true));
        assert_eq!(run(b"\x10\x11", &[b"\x10", b"\x11"]), (vec![], true));
    }

    #[test]
    fn half_a_sequence_is_handed_on() {
        assert_eq!(run(b"\x10\x11", &[b"\x10", b"x"]), (b"\x10x".to_vec(), false));
        assert_eq!(run(b"\x10\x11", &[b"\x10\x10\x11"]), (b"\x10".to_vec(), true));
        assert_eq!(run(b"aab", &[b"aaab"]), (b"a".to_vec(), true));
        assert_eq!(run(b"abac", &[b"ababac"]), (b"ab".to_vec(), true));
    }

    #[test]
    fn without_keys_everything_passes() {
        assert_eq!(run(b"", &[b"\x10\x11"]), (b"\x10\x11".to_vec(), false));
    }
}
