//! Access tokens: what one says, and whether it still holds. Knows nothing of how people ask for one (`service`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ring::hmac;
use ring::rand::SystemRandom;
use serde::{Deserialize, Serialize};

use super::policy::Identity;
use super::scope::{AccessEntry, Scope};
use super::secret::{self, Fingerprint};
use super::signature::Keys;

/// By how much the clock may have been set back since.
const CLOCK_SLACK_S: u64 = 30;

/// The claims (RFC 7519, section 4.1; `access` is of Docker's "Token Authentication Implementation").
#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: String,
    exp: u64,
    nbf: u64,
    iat: u64,
    jti: String,
    access: Vec<AccessEntry>,
    /// What the owner's password was: the hash of its hash. Of whom has none it is empty.
    account: String,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub identity: Identity,
    pub account: Option<Fingerprint>,
    pub scope: Arc<Scope>,
}

/// Tokens whose signatures were verified lately, by a keyed hash: a client shows the same one with every request of a pull, and verifying takes
/// as long as the rest of a small answer does.
pub struct Verified {
    key: hmac::Key,
    tokens: Mutex<HashMap<[u8; 32], Remembered>>,
}

struct Remembered {
    token: Token,
    /// What signed it: it may be forgotten meanwhile.
    key_id: String,
    not_before_s: u64,
    expires_s: u64,
}

const REMEMBERED_MAX: usize = 1024;
/// Longer ones, for very many repositories, are verified each time: so what is remembered is some MiB at most.
const REMEMBERED_BYTES_MAX: usize = 2048;

impl Verified {
    /// `None`: there are no random numbers.
    pub fn new() -> Option<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok()?;
        Some(Self { key, tokens: Mutex::default() })
    }

    /// Reads a token that is shown; the error is for whoever shows it.
    pub fn verify(&self, text: &str, keys: &Keys, service: &str, now_s: u64) -> Result<Token, &'static str> {
        let mut tag = [0; 32];
        tag.copy_from_slice(hmac::sign(&self.key, text.as_bytes()).as_ref());
        let lock = || self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(&tag).filter(|known| keys.has(&known.key_id)) {
            return known.at(now_s);
        }
        let verified = Remembered::verify(text, keys, service)?;
        let token = verified.at(now_s)?;
        if text.len() <= REMEMBERED_BYTES_MAX {
            let mut tokens = lock();
            if tokens.len() >= REMEMBERED_MAX {
                tokens.retain(|_, known| known.expires_s > now_s);
            }
            if tokens.len() >= REMEMBERED_MAX {
                tokens.clear();
            }
            tokens.insert(tag, verified);
        }
        Ok(token)
    }
}

impl Remembered {
    fn verify(text: &str, keys: &Keys, service: &str) -> Result<Self, &'static str> {
        let (claims, key_id): (Claims, _) =
            keys.verify(text).ok_or("the token is not one of this registry's")?;
        if claims.aud != service || claims.iss != service {
            return Err("the token is for another service");
        }
        let account = match claims.account.as_str() {
            "" => None,
            text => {
                let bytes = secret::decode_url(text).and_then(|bytes| bytes.try_into().ok());
                Some(Fingerprint(bytes.ok_or("the token can't be read")?))
            }
        };
        let identity = Identity::parse(&claims.sub).ok_or("the token can't be read")?;
        let token = Token { identity, account, scope: Arc::new(Scope::of(&claims.access)) };
        Ok(Self { token, key_id, not_before_s: claims.nbf, expires_s: claims.exp })
    }

    fn at(&self, now_s: u64) -> Result<Token, &'static str> {
        match now_s {
            _ if self.expires_s <= now_s => Err("the token has expired"),
            _ if self.not_before_s > now_s => Err("the token is not valid yet"),
            _ => Ok(self.token.clone()),
        }
    }
}

impl Token {
    /// Writes and signs it. `None`: there are no random numbers.
    pub fn sign(&self, keys: &Keys, service: &str, now_s: u64, lifetime_s: u64) -> Option<String> {
        let claims = Claims {
            iss: service.to_owned(),
            sub: self.identity.to_string(),
            aud: service.to_owned(),
            exp: now_s + lifetime_s,
            nbf: now_s.saturating_sub(CLOCK_SLACK_S),
            iat: now_s,
            jti: secret::generate("")?,
            access: self.scope.entries(),
            account: self.account.map(|account| secret::encode_url(&account.0)).unwrap_or_default(),
        };
        keys.sign(&claims).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::signature::SigningKey;
    use super::*;

    fn token(identity: Identity, scope: &str) -> Token {
        let account = (identity != Identity::Anonymous).then(|| Fingerprint::of(b"hash"));
        Token { identity, account, scope: Arc::new(Scope::parse([scope])) }
    }

    fn key() -> (SigningKey, Vec<u8>) {
        SigningKey::generate().unwrap()
    }

    #[test]
    fn a_token_holds_for_its_time_and_its_service() {
        let keys = Keys::new(vec![key().0]).unwrap();
        for identity in [Identity::Anonymous, Identity::User("alice".into()), Identity::Robot("ci".into())] {
            let token = token(identity, "repository:a:pull");
            let text = token.sign(&keys, "hub", 1000, 300).unwrap();
            let verified = Verified::new().unwrap();
            assert_eq!(verified.verify(&text, &keys, "other", 1000), Err("the token is for another service"));
            // Remembered or not, it is the same.
            for _ in 0..2 {
                let at = |now| verified.verify(&text, &keys, "hub", now);
                assert_eq!(at(1000), Ok(token.clone()));
                assert_eq!(at(1299), Ok(token.clone()));
                assert_eq!(at(980), Ok(token.clone()));
                assert_eq!(at(1300), Err("the token has expired"));
                assert_eq!(at(900), Err("the token is not valid yet"));
            }
            assert_ne!(text, token.sign(&keys, "hub", 1000, 300).unwrap());
        }
    }

    #[test]
    fn a_key_that_is_forgotten_ends_its_tokens_remembered_or_not() {
        let (old, pkcs8) = key();
        let (before, verified) = (Keys::new(vec![old]).unwrap(), Verified::new().unwrap());
        let text = token(Identity::Anonymous, "").sign(&before, "hub", 0, 100).unwrap();
        assert!(verified.verify(&text, &before, "hub", 1).is_ok());
        let both = Keys::new(vec![SigningKey::read(&pkcs8).unwrap(), key().0]).unwrap();
        assert!(verified.verify(&text, &both, "hub", 1).is_ok());
        let after = Keys::new(vec![key().0]).unwrap();
        assert_eq!(verified.verify(&text, &after, "hub", 1), Err("the token is not one of this registry's"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (keys, verified) = (Keys::new(vec![key().0]).unwrap(), Verified::new().unwrap());
        for n in 0..REMEMBERED_MAX as u64 + 10 {
            let text = token(Identity::Anonymous, "").sign(&keys, "hub", n, 100).unwrap();
            verified.verify(&text, &keys, "hub", n).unwrap();
        }
        assert!(verified.tokens.lock().unwrap().len() <= REMEMBERED_MAX);
        let many: String = (0..30).map(|n| format!("repository:{}{n}:pull ", "r".repeat(100))).collect();
        let (long, fresh) = (token(Identity::Anonymous, &many), Verified::new().unwrap());
        let text = long.sign(&keys, "hub", 0, 100).unwrap();
        assert_eq!(fresh.verify(&text, &keys, "hub", 0), Ok(long));
        assert!(fresh.tokens.lock().unwrap().is_empty());
    }

    #[test]
    fn what_is_signed_but_no_token_is_refused() {
        let keys = Keys::new(vec![key().0]).unwrap();
        let text = keys.sign(&serde_json::json!({"sub": "user:alice"})).unwrap();
        let refused = Verified::new().unwrap().verify(&text, &keys, "hub", 0);
        assert_eq!(refused, Err("the token is not one of this registry's"));
    }
}
