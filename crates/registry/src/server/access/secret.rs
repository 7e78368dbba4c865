//! Secrets that we make: 256 random bits, so that a plain hash of them is kept and nobody needs bcrypt to be safe from guessing.

use std::fmt;

use corten_api::base64;
use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};

/// A secret's hash, which is all that is kept. Also that of a stored password's hash: what tells that it has changed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    pub fn of(secret: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, secret).as_ref());
        Self(hash)
    }

    /// Whether it is that of a secret; takes as long for each.
    pub fn is_of(&self, secret: &str) -> bool {
        let other = Self::of(secret.as_bytes());
        let difference = self.0.iter().zip(other.0).fold(0, |all, (a, b)| all | (a ^ b));
        std::hint::black_box(difference) == 0
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint")
    }
}

/// A new secret. `mark` stands before it: whoever finds one in a log or a repository can tell what it is.
pub fn generate(mark: &str) -> Option<String> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(format!("{mark}{}", encode_url(&bytes)))
}

/// Base64 for URLs, without padding (RFC 4648, section 5).
pub fn encode_url(bytes: &[u8]) -> String {
    base64::encode(bytes).trim_end_matches('=').replace('+', "-").replace('/', "_")
}

pub fn decode_url(text: &str) -> Option<Vec<u8>> {
    // Only what we would write: no other alphabet, no padding, and of what means the same bytes one text.
    let bytes = base64::decode(&text.replace('-', "+").replace('_', "/"))?;
    (encode_url(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_random_and_known_by_their_hash() {
        let (one, other) = (generate("crt_").unwrap(), generate("crt_").unwrap());
        assert!(one != other && one.starts_with("crt_") && one.len() == 47, "{one}");
        let kept = Fingerprint::of(one.as_bytes());
        assert!(kept.is_of(&one) && !kept.is_of(&other) && !kept.is_of(""));
        assert_eq!(format!("{kept:?}"), "Fingerprint");
    }

    #[test]
    fn the_alphabet_is_that_of_urls() {
        for bytes in [&b""[..], b"\xfb\xff\xfe", b"a", b"ab", &[0; 33]] {
            assert_eq!(decode_url(&encode_url(bytes)).unwrap(), bytes);
        }
        assert_eq!(encode_url(b"\xfb\xff\xfe"), "-__-");
        for odd in ["+//+", "YQ==", "YR", "Y Q", "\u{e9}", "a"] {
            assert_eq!(decode_url(odd), None, "{odd}");
        }
    }
}
