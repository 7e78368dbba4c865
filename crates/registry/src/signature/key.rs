//! Public keys from files: PEM with a SubjectPublicKeyInfo (RFC 5280, section 4.1), of the kinds that cosign makes and takes.

use std::path::Path;

use corten_api::base64;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};

/// A key file is some hundred bytes.
const FILE_BYTES_MAX: usize = 64 << 10;

const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const ED: &[u8] = &[0x2b, 0x65, 0x70];
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("read the public key {0}: {1}")]
    Read(String, #[source] std::io::Error),
    #[error("{0} is no public key in PEM (BEGIN PUBLIC KEY)")]
    Format(String),
    #[error(
        "{0} has a public key of a kind that is not known here: use ECDSA P-256 or P-384, Ed25519 or RSA"
    )]
    Kind(String),
}

/// A public key.
pub struct Key {
    algorithm: &'static dyn VerificationAlgorithm,
    bytes: Vec<u8>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl Key {
    /// Reads a file with one key.
    ///
    /// # Errors
    /// Each names the file.
    pub fn read(path: &Path) -> Result<Key, KeyError> {
        let shown = || path.display().to_string();
        let bytes = std::fs::read(path).map_err(|source| KeyError::Read(shown(), source))?;
        let text = std::str::from_utf8(&bytes).ok().filter(|text| text.len() <= FILE_BYTES_MAX);
        let der = text.and_then(pem).ok_or_else(|| KeyError::Format(shown()))?;
        let KeyInfo { kind, curve, key } = key_info(&der).ok_or_else(|| KeyError::Format(shown()))?;
        let algorithm: &'static dyn VerificationAlgorithm = match (kind, curve) {
            (EC, Some(P256)) => &ECDSA_P256_SHA256_ASN1,
            (EC, Some(P384)) => &ECDSA_P384_SHA384_ASN1,
            (ED, _) => &ED25519,
            (RSA, _) => &RSA_PKCS1_2048_8192_SHA256,
            _ => return Err(KeyError::Kind(shown())),
        };
        Ok(Key { algorithm, bytes: key.to_vec() })
    }

    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(self.algorithm, &self.bytes).verify(message, signature).is_ok()
    }
}

fn pem(text: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once("-----BEGIN PUBLIC KEY-----")?;
    let (body, _) = rest.split_once("-----END PUBLIC KEY-----")?;
    base64::decode(&body.split_whitespace().collect::<String>())
}

/// SubjectPublicKeyInfo; names as they are encoded.
struct KeyInfo<'a> {
    kind: &'a [u8],
    /// The algorithm's parameter, if that is a name.
    curve: Option<&'a [u8]>,
    key: &'a [u8],
}

fn key_info(der: &[u8]) -> Option<KeyInfo<'_>> {
    const SEQUENCE: u8 = 0x30;
    const NAME: u8 = 0x06;
    const BITS: u8 = 0x03;
    let (whole, _) = element(der, SEQUENCE)?;
    let (algorithm, rest) = element(whole, SEQUENCE)?;
    let (kind, parameters) = element(algorithm, NAME)?;
    let (bits, _) = element(rest, BITS)?;
    // The first byte tells how many bits of the last one don't count.
    let key = bits.strip_prefix(&[0])?;
    Some(KeyInfo { kind, curve: element(parameters, NAME).map(|(name, _)| name), key })
}

/// The content of the first element, when it has the tag; and what follows it (X.690, section 8.1).
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        length @ 0..=0x7f => (usize::from(*length), rest),
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => (usize::from(*rest.first()?) << 8 | usize::from(*rest.get(1)?), &rest[2..]),
        _ => return None,
    };
    (*found == tag && rest.len() >= length).then(|| rest.split_at(length))
}
