//! Names in requests: repositories, tags, references, uploads. Each is checked when it is parsed, so that nothing else of a
//! request's path ever reaches the disk or the catalogue.

use std::fmt;
use std::str::FromStr;

use super::digest::{Digest, DigestError};

/// Longer names reach the 255 of a reference with the shortest of hosts.
const REPOSITORY_LENGTH_MAX: usize = 255;
const TAG_LENGTH_MAX: usize = 128;

/// A repository's name: `team/app`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryName(String);

/// What is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("invalid repository name {0:?}")]
    Repository(String),
    #[error("invalid tag {0:?}")]
    Tag(String),
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl RepositoryName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RepositoryName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<RepositoryName, NameError> {
        let fits = text.len() <= REPOSITORY_LENGTH_MAX && text.split('/').all(is_component);
        if fits {
            Ok(RepositoryName(text.to_owned()))
        } else {
            Err(NameError::Repository(text.chars().take(REPOSITORY_LENGTH_MAX).collect()))
        }
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Runs of `[a-z0-9]` joined by one of `.`, `_`, `__` or any number of `-`.
fn is_component(component: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    plain(*first)
        && plain(*last)
        && bytes.split(|byte| plain(*byte)).filter(|separator| !separator.is_empty()).all(|separator| {
            matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|byte| *byte == b'-')
        })
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

impl Tag {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Tag, NameError> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let fits = text.len() <= TAG_LENGTH_MAX
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-');
        if fits {
            Ok(Tag(text.to_owned()))
        } else {
            Err(NameError::Tag(text.chars().take(TAG_LENGTH_MAX).collect()))
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a manifest is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    Tag(Tag),
    Digest(Digest),
}

impl FromStr for Reference {
    type Err = NameError;

    /// No tag has a colon, every digest does.
    fn from_str(text: &str) -> Result<Reference, NameError> {
        if text.contains(':') {
            Ok(Reference::Digest(text.parse()?))
        } else {
            Ok(Reference::Tag(text.parse()?))
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Tag(tag) => tag.fmt(f),
            Reference::Digest(digest) => digest.fmt(f),
        }
    }
}

/// An upload's own name, which nobody can guess: whoever knows it and may write to its repository can go on with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadId(u128);

impl UploadId {
    pub fn random() -> Result<UploadId, ring::error::Unspecified> {
        let random: [u8; 16] = ring::rand::generate(&ring::rand::SystemRandom::new())?.expose();
        // Version 4, variant 1 (RFC 9562): the specification wants a UUID.
        let number = u128::from_be_bytes(random) & !(0xf << 76) & !(0x3 << 62);
        Ok(UploadId(number | 0x4 << 76 | 0x2 << 62))
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
        f.write_str(&parts.join("-"))
    }
}

impl FromStr for UploadId {
    type Err = ();

    fn from_str(text: &str) -> Result<UploadId, ()> {
        let hex: String = text.split('-').collect();
        let number = if hex.len() == 32 { u128::from_str_radix(&hex, 16).ok() } else { None };
        // One spelling only.
        number.map(UploadId).filter(|id| id.to_string() == text).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories() {
        for good in ["a", "library/busybox", "a.b/c_d/e__f/g---h", "0/1", &"a".repeat(255)] {
            assert_eq!(good.parse::<RepositoryName>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "A",
            "a/../b",
            "..",
            ".",
            "a.",
            "-a",
            "a___b",
            "a..b",
            "a._b",
            "a b",
            "a%2fb",
            "\u{e4}",
            "a\0",
            &"a".repeat(256),
        ] {
            assert!(bad.parse::<RepositoryName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn references() {
        for good in ["latest", "_", "1.0-rc_1", &"a".repeat(128)] {
            assert_eq!(good.parse(), Ok(Reference::Tag(Tag(good.to_owned()))));
        }
        for bad in ["", ".a", "-a", "a/b", "a b", "..", &"a".repeat(129), "sha256:12", "a:b"] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?}");
        }
        let digest = format!("sha256:{}", "0".repeat(64));
        assert!(matches!(digest.parse(), Ok(Reference::Digest(_))));
    }

    #[test]
    fn uploads() {
        let id = UploadId::random().unwrap();
        let text = id.to_string();
        assert_eq!((text.len(), text.parse()), (36, Ok(id)));
        assert_eq!(&text[14..15], "4");
        for bad in ["", "..", &text.to_uppercase(), &text.replace('-', ""), &format!("{text}0"), "+1"] {
            assert!(bad.parse::<UploadId>().is_err() || *bad == text, "{bad}");
        }
    }
}
