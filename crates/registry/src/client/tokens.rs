//! What is shown to registries: passwords, or tokens that their token servers give for one; each asked for once, however many wait
//! for it, and again before it is too old. The distribution project's "Token Authentication" and "OAuth2 Token Authentication".

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use corten_api::base64;
use corten_image::Digest;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode, Uri};
use serde::Deserialize;
use tokio::time::Instant;

use super::Shared;
use super::origin::{Channel, Origin, form};
use super::payload::Payload;
use super::refusal::said;
use super::transport::{Answer, Request};
use super::visit::{Ask, Endpoint};
use crate::challenge::Challenge;
use crate::{Credentials, Error, RegistryAddress, Result};

/// What we call ourselves to token servers.
pub(crate) const CLIENT_ID: &str = "corten";
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Headers are bounded at the other side, too: mostly to 8 KiB, sometimes to 64.
const TOKEN_BYTES_MAX: usize = 64 << 10;
/// Of a token that doesn't say how long it is good for; and the least ("Token Authentication", `expires_in`).
const LIFE_DEFAULT: Duration = Duration::from_secs(60);
const LIFE_MAX: Duration = Duration::from_secs(3600);
/// How long before its end a token isn't shown any more.
const MARGIN: Duration = Duration::from_secs(10);
/// A token server that has just refused isn't asked by those who waited with the one that it refused.
const REFUSAL_FOR: Duration = Duration::from_secs(2);
const KEPT_MAX: usize = 1024;

#[derive(Default)]
pub(crate) struct Tokens {
    /// What registries want to be shown.
    schemes: Mutex<HashMap<(Origin, String), Scheme>>,
    /// Held across the request for the token, by design: who comes meanwhile waits for it.
    slots: Mutex<HashMap<Key, Arc<tokio::sync::Mutex<Slot>>>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Scheme {
    Basic,
    Bearer { realm: String, service: String, scope: String },
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    home: Origin,
    /// The digest of who it is for: what stays here is no password.
    identity: Option<Digest>,
    scopes: Vec<String>,
}

#[derive(Clone, Default)]
enum Slot {
    #[default]
    Empty,
    Token {
        value: HeaderValue,
        until: Instant,
    },
    Refused {
        error: Error,
        at: Instant,
    },
}

/// The value of `Authorization`, and whether it was got for this very request.
#[derive(Clone)]
pub(crate) struct Shown {
    pub value: HeaderValue,
    pub is_fresh: bool,
}

/// The answer of a token server.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Grant {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<f64>,
    issued_at: Option<String>,
    pub refresh_token: Option<String>,
}

impl Tokens {
    /// What to show unasked, as this registry has wanted it before.
    pub async fn present(
        &self,
        shared: &Shared,
        endpoint: &Endpoint,
        home: &Origin,
        ask: &Ask,
    ) -> Result<Option<Shown>> {
        let scheme = self.scheme(endpoint, home);
        match scheme {
            None => Ok(None),
            Some(scheme) => self.shown(shared, endpoint, home, ask, &scheme, None).await,
        }
    }

    /// What to show after a refusal; nothing, where there is nothing that would help.
    pub async fn satisfy(
        &self,
        shared: &Shared,
        endpoint: &Endpoint,
        home: &Origin,
        ask: &Ask,
        challenges: &[Challenge],
        refused: Option<&Shown>,
    ) -> Result<Option<Shown>> {
        let wanted = |scheme| challenges.iter().find(|challenge| challenge.scheme == scheme);
        let scheme = match (wanted("bearer"), wanted("basic")) {
            (Some(bearer), _) if bearer.parameter("realm").is_some() => {
                let parameter = |name| bearer.parameter(name).unwrap_or_default().to_owned();
                Scheme::Bearer {
                    realm: parameter("realm"),
                    service: parameter("service"),
                    scope: parameter("scope"),
                }
            }
            // The same password again would be refused again.
            (_, Some(_)) if refused.is_some() => return Ok(None),
            (_, Some(_)) => Scheme::Basic,
            _ => return Ok(None),
        };
        {
            let mut schemes = self.schemes.lock().unwrap_or_else(PoisonError::into_inner);
            if schemes.len() >= KEPT_MAX {
                schemes.clear();
            }
            schemes.insert((home.clone(), endpoint.prefix.clone()), scheme.clone());
        }
        let shown = self.shown(shared, endpoint, home, ask, &scheme, refused).await?;
        Ok(shown.map(|shown| Shown { is_fresh: true, ..shown }))
    }

    fn scheme(&self, endpoint: &Endpoint, home: &Origin) -> Option<Scheme> {
        let schemes = self.schemes.lock().unwrap_or_else(PoisonError::into_inner);
        schemes.get(&(home.clone(), endpoint.prefix.clone())).cloned()
    }

    async fn shown(
        &self,
        shared: &Shared,
        endpoint: &Endpoint,
        home: &Origin,
        ask: &Ask,
        scheme: &Scheme,
        refused: Option<&Shown>,
    ) -> Result<Option<Shown>> {
        if let Some(Credentials::Token(token)) = &endpoint.credentials {
            // It was got elsewhere: there is no other where it is refused.
            let value = secret(&format!("Bearer {token}"), &home.to_string())?;
            return Ok(refused.is_none().then_some(Shown { value, is_fresh: true }));
        }
        let Scheme::Bearer { realm, service, scope } = scheme else {
            return match &endpoint.credentials {
                Some(Credentials::Password { name, password }) => Ok(Some(Shown {
                    value: secret(&basic(name, password), &home.to_string())?,
                    is_fresh: false,
                })),
                _ => Ok(None),
            };
        };
        let slot = self.slot(Key {
            home: home.clone(),
            identity: endpoint.credentials.as_ref().map(identity),
            scopes: ask.scopes.clone(),
        });
        let mut slot = slot.lock().await;
        match &*slot {
            Slot::Token { value, until }
                if *until > Instant::now() && refused.is_none_or(|refused| refused.value != *value) =>
            {
                return Ok(Some(Shown { value: value.clone(), is_fresh: false }));
            }
            Slot::Refused { error, at } if at.elapsed() < REFUSAL_FOR => return Err(error.clone()),
            _ => {}
        }
        let wanted = Wanted { realm, service, scopes: &scopes(&ask.scopes, scope), is_offline: false };
        let granted = match shared.grant(endpoint, home, &wanted).await {
            Ok(Ok(granted)) => Ok(granted),
            Ok(Err(answer)) => Err(no_token(realm, endpoint, answer, ask).await),
            Err(error) => Err(error),
        };
        match granted {
            Ok((grant, headers)) => {
                let value = grant.authorization(realm)?;
                *slot = Slot::Token { value: value.clone(), until: Instant::now() + grant.life(&headers) };
                Ok(Some(Shown { value, is_fresh: true }))
            }
            Err(error) => {
                *slot = Slot::Refused { error: error.clone(), at: Instant::now() };
                Err(error)
            }
        }
    }

    fn slot(&self, key: Key) -> Arc<tokio::sync::Mutex<Slot>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= KEPT_MAX {
            let now = Instant::now();
            slots.retain(|_, slot| match slot.try_lock().as_deref() {
                Ok(Slot::Token { until, .. }) => *until > now,
                Ok(_) => false,
                Err(_) => true,
            });
        }
        slots.entry(key).or_default().clone()
    }
}

fn identity(credentials: &Credentials) -> Digest {
    Digest::of(&match credentials {
        Credentials::Password { name, password } => [name.as_bytes(), b"\0", password.as_bytes()].concat(),
        Credentials::Identity(token) => [b"\0", token.as_bytes()].concat(),
        Credentials::Token(token) => [b"\0\0", token.as_bytes()].concat(),
    })
}

/// Ours, and those that the registry names beside them.
fn scopes(ours: &[String], theirs: &str) -> Vec<String> {
    let mut all = ours.to_vec();
    for scope in theirs.split(' ').filter(|scope| !scope.is_empty()).take(16) {
        if !all.iter().any(|ours| ours == scope) {
            all.push(scope.to_owned());
        }
    }
    all
}

/// What a token server is asked for.
pub(crate) struct Wanted<'a> {
    pub realm: &'a str,
    pub service: &'a str,
    pub scopes: &'a [String],
    /// With an identity token to be kept.
    pub is_offline: bool,
}

impl Shared {
    /// Asks the token server that a registry names. It is shown the credentials for that registry: so by TLS, unless the registry
    /// itself is spoken to in the open. An answer that gives nothing comes back as it is.
    pub async fn grant(
        &self,
        endpoint: &Endpoint,
        home: &Origin,
        wanted: &Wanted<'_>,
    ) -> Result<std::result::Result<(Grant, HeaderMap), Answer>> {
        let realm = wanted.realm;
        let odd = |why: &str| Error::Protocol {
            url: format!("{home}{}/v2/", endpoint.prefix),
            why: format!("its token server {realm:?} {why}"),
        };
        let url: Uri = realm.parse().map_err(|_| odd("is no URL"))?;
        let channel = self.token_channel(&url, home).await.map_err(odd)?;
        let mut headers = HeaderMap::new();
        let (method, url, payload) = match &endpoint.credentials {
            Some(Credentials::Identity(token)) => {
                let scopes = wanted.scopes.join(" ");
                let mut fields = vec![
                    ("grant_type", "refresh_token"),
                    ("refresh_token", token.as_str()),
                    ("client_id", CLIENT_ID),
                    ("service", wanted.service),
                ];
                fields.extend(Some(("scope", scopes.as_str())).filter(|(_, scopes)| !scopes.is_empty()));
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
                (Method::POST, url, Payload::Whole(Bytes::from(form(&fields))))
            }
            credentials => {
                let mut query = Vec::new();
                if let Some(Credentials::Password { name, password }) = credentials {
                    query.extend([("account", name.as_str()), ("client_id", CLIENT_ID)]);
                    headers.insert(AUTHORIZATION, secret(&basic(name, password), realm)?);
                }
                query.extend(Some(("offline_token", "true")).filter(|_| wanted.is_offline));
                query.extend(Some(("service", wanted.service)).filter(|(_, service)| !service.is_empty()));
                query.extend(wanted.scopes.iter().map(|scope| ("scope", scope.as_str())));
                let mark = if url.query().is_some() { '&' } else { '?' };
                let text = realm.split('#').next().unwrap_or_default();
                let text =
                    if query.is_empty() { text.to_owned() } else { format!("{text}{mark}{}", form(&query)) };
                (Method::GET, text.parse().map_err(|_| odd("is no URL"))?, Payload::Nothing)
            }
        };
        let request = Request {
            method,
            url,
            channel,
            headers,
            payload,
            patience: self.transport.options().patience.answer,
        };
        // Passwords don't go on to another place.
        let answer = self.persist(request, 0, None).await?;
        if answer.status != StatusCode::OK {
            return Ok(Err(answer));
        }
        let headers = answer.headers.clone();
        let body = answer.bytes(ANSWER_BYTES_MAX).await?;
        let grant: Grant = serde_json::from_slice(&body).map_err(|_| odd("gives no token"))?;
        if grant.value().is_none_or(|token| token.is_empty() || token.len() > TOKEN_BYTES_MAX) {
            return Err(odd("gives no token"));
        }
        Ok(Ok((grant, headers)))
    }

    async fn token_channel(&self, url: &Uri, home: &Origin) -> std::result::Result<Channel, &'static str> {
        let server = url.authority().and_then(|host| RegistryAddress::parse(host.as_str()).ok());
        let server = server.ok_or("has no proper host")?;
        match (url.scheme_str(), home.channel) {
            (Some("https"), _) if self.transport.is_insecure(&server).await => Ok(Channel::Encrypted),
            (Some("https"), _) => Ok(Channel::Proven),
            // Who is spoken to in the open anyway may send us to where that is so, too.
            (Some("http"), Channel::Plain) => Ok(Channel::Plain),
            (Some("http"), _) => Err("is not encrypted: it is shown no password"),
            _ => Err("is neither of https nor of http"),
        }
    }
}

/// What a token server means that gives nothing.
async fn no_token(realm: &str, endpoint: &Endpoint, answer: Answer, ask: &Ask) -> Error {
    if answer.status != StatusCode::UNAUTHORIZED || endpoint.credentials.is_none() {
        return ask.purpose.refused(answer).await;
    }
    Error::Unauthorized { url: realm.to_owned(), why: said(answer).await.why_unauthorized() }
}

impl Grant {
    fn value(&self) -> Option<&String> {
        [&self.token, &self.access_token].into_iter().flatten().find(|token| !token.is_empty())
    }

    pub fn authorization(&self, realm: &str) -> Result<HeaderValue> {
        secret(&format!("Bearer {}", self.value().map(String::as_str).unwrap_or_default()), realm)
    }

    /// How long it is good for from now on. A server may hand out one that it has kept; by its own clock, as ours may differ.
    fn life(&self, headers: &HeaderMap) -> Duration {
        let whole = self.expires_in.filter(|seconds| *seconds >= 1.0).unwrap_or(LIFE_DEFAULT.as_secs_f64());
        let whole = Duration::from_secs_f64(whole.min(LIFE_MAX.as_secs_f64()));
        let date = headers.get(DATE).and_then(|date| date.to_str().ok());
        let now = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()).map(|date| date.timestamp());
        let issued = self.issued_at.as_ref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let age = now.zip(issued).and_then(|(now, issued)| now.duration_since(issued).try_into().ok());
        let left = whole.saturating_sub(age.unwrap_or_default());
        left.saturating_sub(MARGIN.min(whole / 4))
    }
}

/// RFC 7617.
pub(crate) fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", base64::encode(format!("{name}:{password}").as_bytes()))
}

pub(crate) fn secret(value: &str, url: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| Error::Protocol { url: url.to_owned(), why: "its token is no text".to_owned() })?;
    value.set_sensitive(true);
    Ok(value)
}
