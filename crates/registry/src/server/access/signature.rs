//! Signed statements: JSON Web Tokens as far as we need them (RFC 7519, RFC 7515 in its compact form, RFC 8037), signed with Ed25519.
//! There is one algorithm, and the token has no say in that; a key is chosen among ours by its name. Knows nothing of what is claimed.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use ring::digest;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::secret::{decode_url, encode_url};

/// More than any token of ours has.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// A key that tokens are signed with. Not shown by `Debug`.
pub struct SigningKey {
    id: String,
    pair: Ed25519KeyPair,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.id)
    }
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
}

impl SigningKey {
    /// A new key, and how to keep it (PKCS #8). `None` when there are no random numbers.
    pub fn generate() -> Option<(Self, Vec<u8>)> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).ok()?;
        Some((Self::read(document.as_ref())?, document.as_ref().to_vec()))
    }

    pub fn read(pkcs8: &[u8]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).ok()?;
        let hash = digest::digest(&digest::SHA256, pair.public_key().as_ref());
        Some(Self { id: encode_url(&hash.as_ref()[..12]), pair })
    }

    /// Follows from the public half.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// The keys there are: one to sign with, all to verify with.
#[derive(Clone, Debug)]
pub struct Keys {
    current: Arc<SigningKey>,
    all: HashMap<String, Arc<SigningKey>>,
}

impl Keys {
    /// The last one signs.
    pub fn new(keys: Vec<SigningKey>) -> Option<Self> {
        let keys: Vec<Arc<SigningKey>> = keys.into_iter().map(Arc::new).collect();
        let current = keys.last()?.clone();
        Some(Self { current, all: keys.into_iter().map(|key| (key.id.clone(), key)).collect() })
    }

    pub fn sign(&self, claims: &impl Serialize) -> Result<String, serde_json::Error> {
        let header = Header { alg: "EdDSA".into(), typ: "JWT".into(), kid: self.current.id.clone() };
        let mut token = encode_url(&serde_json::to_vec(&header)?);
        token.push('.');
        token.push_str(&encode_url(&serde_json::to_vec(claims)?));
        let signature = self.current.pair.sign(token.as_bytes());
        token.push('.');
        token.push_str(&encode_url(signature.as_ref()));
        Ok(token)
    }

    /// Whether a key is still known.
    pub fn has(&self, id: &str) -> bool {
        self.all.contains_key(id)
    }

    /// What a token claims, if one of our keys has signed it, and which. Nothing of it is looked at before but the key's name.
    pub fn verify<C: DeserializeOwned>(&self, token: &str) -> Option<(C, String)> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let (message, signature) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let header: Header = serde_json::from_slice(&decode_url(header)?).ok()?;
        if header.alg != "EdDSA" || header.typ != "JWT" {
            return None;
        }
        let key = self.all.get(&header.kid)?;
        let public = UnparsedPublicKey::new(&ED25519, key.pair.public_key().as_ref());
        public.verify(message.as_bytes(), &decode_url(signature)?).ok()?;
        Some((serde_json::from_slice(&decode_url(claims)?).ok()?, header.kid))
    }
}

#[cfg(test)]
mod tests;
