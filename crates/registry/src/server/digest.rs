//! Digests as the registry knows them: SHA-256 and SHA-512, checked when they are parsed, and computed while bytes stream by.
//! Wider than the image store's own type, which is SHA-256 only.

use std::fmt;
use std::str::FromStr;

use ring::digest::{Context, SHA256, SHA512};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    Sha256,
    Sha512,
}

impl Algorithm {
    pub const ALL: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];

    /// As it stands before the colon, and as its directory is called.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    fn bytes(self) -> usize {
        match self {
            Algorithm::Sha256 => 32,
            Algorithm::Sha512 => 64,
        }
    }
}

impl FromStr for Algorithm {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Algorithm, DigestError> {
        let found = Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == text);
        found.ok_or_else(|| DigestError::Algorithm(text.to_owned()))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    #[error("invalid digest {0:?}: want algorithm:hex in lower case")]
    Format(String),
    #[error("unsupported digest algorithm {0:?}: this registry knows sha256 and sha512")]
    Algorithm(String),
}

/// `sha256:<64 hex digits>` or `sha512:<128 hex digits>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    /// What the algorithm doesn't fill is zero.
    bytes: [u8; 64],
}

impl Digest {
    /// Hashes a whole buffer.
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.digest()
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hex digits without the algorithm: the name of the blob's file.
    pub fn hex(&self) -> String {
        let mut text = String::with_capacity(2 * self.algorithm.bytes());
        self.push_hex(&mut text);
        text
    }

    fn push_hex(&self, text: &mut String) {
        for byte in &self.bytes[..self.algorithm.bytes()] {
            text.push(char::from(HEX[usize::from(byte >> 4)]));
            text.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }

    /// Of the hex digits alone, in lower case: a digest has one spelling.
    pub fn from_hex(algorithm: Algorithm, hex: &str) -> Option<Digest> {
        let digits = hex.as_bytes();
        if digits.len() != 2 * algorithm.bytes() {
            return None;
        }
        let mut bytes = [0; 64];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(Digest { algorithm, bytes })
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(7 + 2 * self.algorithm.bytes());
        text.push_str(self.algorithm.name());
        text.push(':');
        self.push_hex(&mut text);
        f.pad(&text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Digest, DigestError> {
        let format = || DigestError::Format(text.to_owned());
        let (algorithm, hex) = text.split_once(':').ok_or_else(format)?;
        Digest::from_hex(algorithm.parse()?, hex).ok_or_else(format)
    }
}

/// A hash over bytes as they come. A clone goes on by itself.
#[derive(Clone)]
pub struct Hasher {
    algorithm: Algorithm,
    context: Context,
}

impl Hasher {
    pub fn new(algorithm: Algorithm) -> Hasher {
        let of = match algorithm {
            Algorithm::Sha256 => &SHA256,
            Algorithm::Sha512 => &SHA512,
        };
        Hasher { algorithm, context: Context::new(of) }
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
    }

    pub fn digest(self) -> Digest {
        let value = self.context.finish();
        let mut bytes = [0; 64];
        bytes[..self.algorithm.bytes()].copy_from_slice(value.as_ref());
        Digest { algorithm: self.algorithm, bytes }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn both_algorithms_hash_and_print() {
        assert_eq!(Digest::of(Algorithm::Sha256, b"").to_string(), EMPTY);
        let long = Digest::of(Algorithm::Sha512, b"").to_string();
        assert!(long.starts_with("sha512:cf83e1357eefb8bd") && long.len() == 7 + 128);
        for text in [EMPTY, &long] {
            assert_eq!(text.parse::<Digest>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_digest_has_one_spelling() {
        for bad in ["", "sha256", "sha256:", "sha256:abc", &EMPTY.to_uppercase(), &EMPTY[7..], "md5:0123"] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
        assert!(EMPTY.replace('e', "E").parse::<Digest>().is_err());
        assert!(EMPTY.replace("sha256", "sha512").parse::<Digest>().is_err());
        assert!(format!("{EMPTY}00").parse::<Digest>().is_err());
    }

    #[test]
    fn a_clone_goes_on_by_itself() {
        let mut first = Hasher::new(Algorithm::Sha256);
        first.update(b"ab");
        let second = first.clone();
        first.update(b"c");
        assert_eq!(first.digest(), Digest::of(Algorithm::Sha256, b"abc"));
        assert_eq!(second.digest(), Digest::of(Algorithm::Sha256, b"ab"));
    }
}
