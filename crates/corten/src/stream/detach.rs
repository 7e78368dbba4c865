//! The key sequence that leaves a container running and gives the terminal back.

/// Watches typed bytes for the sequence and holds back what may be its beginning.
#[derive(Debug)]
pub struct DetachKeys {
    keys: Vec<u8>,
    matched: usize,
}

impl DetachKeys {
    /// Parses `ctrl-p,ctrl-q` or `a,b,DEL`; empty is the default.
    pub fn parse(text: &str) -> Result<DetachKeys, String> {
        let keys = corten_api::stream::detach_keys(text)
            .map_err(|name| format!("{name:?} is no key; expected a letter or ctrl-…"))?;
        Ok(DetachKeys { keys, matched: 0 })
    }

    /// Appends to `out` what is meant for the container; true when the sequence is complete.
    pub fn filter(&mut self, typed: &[u8], out: &mut Vec<u8>) -> bool {
        for &byte in typed {
            if byte != self.keys[self.matched] {
                out.extend_from_slice(&self.keys[..self.matched]);
                self.matched = 0;
                if byte != self.keys[0] {
                    out.push(byte);
                    continue;
                }
            }
            self.matched += 1;
            if self.matched == self.keys.len() {
                self.matched = 0;
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences() {
        let keys = |text: &str| DetachKeys::parse(text).map(|keys| keys.keys);
        assert_eq!(keys(""), Ok(vec![16, 17]));
        assert_eq!(keys("ctrl-a,x,ctrl-@,ctrl-[,DEL"), Ok(vec![1, b'x', 0, 27, 127]));
        assert!(keys("ctrl-").is_err());
        assert!(keys("ctrl-1").is_err());
        assert!(keys("ab").is_err());
    }

    #[test]
    fn a_broken_sequence_is_typed() {
        let mut keys = DetachKeys::parse("ctrl-p,ctrl-q").unwrap();
        let mut out = Vec::new();
        assert!(!keys.filter(b"a\x10", &mut out));
        assert_eq!(out, b"a");
        assert!(!keys.filter(b"b\x10\x10", &mut out));
        assert_eq!(out, b"a\x10b\x10");
        assert!(keys.filter(b"\x11rest", &mut out));
        assert_eq!(out, b"a\x10b\x10");
    }
}
