//! The token service: gives tokens for passwords, robots' secrets, certificates and logins, as Docker's "Token Authentication" (GET) and
//! "OAuth2 Token Authentication" (POST) want it. What a token is for is cut to what policy allows its owner; asking for more is no
//! error. Reads requests and writes answers; who somebody is and what they may is found out in `mod`.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Method, Response, StatusCode};
use serde_json::json;

use super::accounts::Known;
use super::audit::Entry;
use super::clock::now_s;
use super::form::Form;
use super::policy::Identity;
use super::refusal::Reason;
use super::scope::Scope;
use super::secret::{self, Fingerprint};
use super::token::Token;
use super::visitor::{Shown, Visitor};
use super::{Access, Asker, explained};

/// More than any client sends.
pub const BODY_BYTES_MAX: usize = 64 << 10;
/// What stands before a login's token.
const MARK: &str = "corten_login_";
const CLIENT_MAX: usize = 64;

/// What a request for a token asks for.
struct Application<'a> {
    proof: Proof<'a>,
    service: Option<&'a str>,
    scope: Scope,
    /// Whether a login is to be kept, which later tokens can be had for.
    offline: bool,
    client: &'a str,
}

enum Proof<'a> {
    /// What the request's headers or its connection show.
    Shown,
    Password {
        name: &'a str,
        password: &'a str,
    },
    Login(&'a str),
}

/// Why there is no token.
enum Failure {
    /// And who they claimed to be.
    Refused(Reason, String),
    /// No client asks so: the code is OAuth's (RFC 6749, section 5.2).
    Malformed(&'static str, &'static str),
    Method,
}

impl Access {
    /// Answers a request to `/token`.
    pub async fn token(
        &self,
        visitor: &Visitor<'_>,
        method: &Method,
        query: Option<&str>,
        body: &[u8],
    ) -> Response<Full<Bytes>> {
        match self.give(visitor, method, query, body).await {
            Ok(answer) => respond(StatusCode::OK, answer),
            Err(failure) => self.refuse(visitor, failure),
        }
    }

    async fn give(
        &self,
        visitor: &Visitor<'_>,
        method: &Method,
        query: Option<&str>,
        body: &[u8],
    ) -> Result<serde_json::Value, Failure> {
        let malformed = |why| Failure::Malformed("invalid_request", why);
        let post = *method == Method::POST;
        let text = match *method {
            Method::GET => query.unwrap_or_default(),
            Method::POST if !is_form(visitor) => {
                return Err(malformed("the body must be application/x-www-form-urlencoded"));
            }
            Method::POST if body.len() > BODY_BYTES_MAX => return Err(malformed("the body is too long")),
            Method::POST => std::str::from_utf8(body).map_err(|_| malformed("the body is no form"))?,
            _ => return Err(Failure::Method),
        };
        let form = Form::parse(text).ok_or_else(|| malformed("the parameters can't be read"))?;
        let application = if post { oauth(&form)? } else { plain(&form) };
        if application.service.is_some_and(|service| service != self.token.service) {
            return Err(malformed("tokens for that service are not given here"));
        }
        let known = self.accounts.known().await;
        let asker = self.prove(visitor, &known, &application.proof).await;
        let asker = asker.map_err(|reason| Failure::Refused(reason, application.proof.claimed(visitor)))?;
        self.issue(visitor, &known, asker, &application, post).await
    }

    async fn prove(
        &self,
        visitor: &Visitor<'_>,
        known: &Arc<Known>,
        proof: &Proof<'_>,
    ) -> Result<Asker, Reason> {
        match proof {
            Proof::Password { name, password } => self.by_password(visitor, known, name, password).await,
            Proof::Login(token) => self.by_login(visitor, known, token).await,
            // A token is not worth another one: it would never end.
            Proof::Shown => match Shown::read(visitor.headers) {
                Shown::Token(_) => {
                    Err(Reason::Wrong("a token is given for a password, not for another token".to_owned()))
                }
                _ => self.authenticate(visitor, known).await,
            },
        }
    }

    async fn by_login(&self, visitor: &Visitor<'_>, known: &Known, token: &str) -> Result<Asker, Reason> {
        let now = now_s();
        let (print, oldest) = (Fingerprint::of(token.as_bytes()), self.oldest_login_s(now));
        let found = self.accounts.with_store(move |store| store.use_login(&print, now, oldest)).await;
        let found = found.map_err(|error| {
            tracing::error!(error = explained(&error), "look for a login");
            Reason::Unavailable
        })?;
        match found {
            Some((identity, account)) if known.account(&identity) == Some(account) => {
                self.standing(known, identity, account, now)
            }
            _ => Err(self.wrong(visitor, "", "the login has ended; log in again")),
        }
    }

    async fn issue(
        &self,
        visitor: &Visitor<'_>,
        known: &Known,
        asker: Asker,
        application: &Application<'_>,
        post: bool,
    ) -> Result<serde_json::Value, Failure> {
        let now = now_s();
        let catalogue = self.policy.knows(&asker.identity, asker.own());
        let allowed = |repository: &str| self.policy.allowed(&asker.identity, asker.own(), repository);
        let scope = application.scope.cut(catalogue, allowed);
        let account = asker.account;
        let token = Token { identity: asker.identity, account, scope: Arc::new(scope) };
        let lifetime_s = self.token.lifetime_s;
        let signed = token.sign(&known.keys, &self.token.service, now, lifetime_s);
        let signed =
            signed.ok_or_else(|| Failure::Refused(Reason::Unavailable, token.identity.to_string()))?;
        let mut answer = json!({
            "access_token": signed,
            "expires_in": lifetime_s,
            "issued_at": jiff::Timestamp::from_second(i64::try_from(now).unwrap_or(0)).unwrap_or_default().to_string(),
        });
        if post {
            answer["token_type"] = "Bearer".into();
            answer["scope"] = token.scope.text().into();
        } else {
            answer["token"] = signed.into();
        }
        let further = !matches!(application.proof, Proof::Login(_));
        if let Some(account) = account.filter(|_| application.offline && further)
            && let Some(login) = self.keep_login(&token.identity, account, application.client, now).await
        {
            answer["refresh_token"] = login.into();
            self.note(
                visitor,
                &Entry { action: "login", who: &token.identity.to_string(), status: 200, ..Entry::default() },
            );
        }
        Ok(answer)
    }

    /// A login to be shown instead of the password. Where it can't be kept (the disk is full), clients keep the password.
    async fn keep_login(
        &self,
        identity: &Identity,
        account: Fingerprint,
        client: &str,
        now: u64,
    ) -> Option<String> {
        let token = secret::generate(MARK)?;
        let (print, oldest) = (Fingerprint::of(token.as_bytes()), self.oldest_login_s(now));
        let (identity, client) = (identity.clone(), client.to_owned());
        let kept = self
            .accounts
            .with_store(move |store| store.add_login(&print, &identity, &account, &client, now, oldest))
            .await;
        match kept {
            Ok(()) => Some(token),
            Err(error) => {
                tracing::error!(error = explained(&error), "keep a login");
                None
            }
        }
    }

    fn oldest_login_s(&self, now: u64) -> u64 {
        now.saturating_sub(self.token.login_s)
    }

    fn refuse(&self, visitor: &Visitor<'_>, failure: Failure) -> Response<Full<Bytes>> {
        let (status, code, oauth, message) = match &failure {
            Failure::Method => {
                (StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "invalid_request", "want GET or POST")
            }
            Failure::Malformed(oauth, why) => (StatusCode::BAD_REQUEST, "UNSUPPORTED", *oauth, *why),
            Failure::Refused(reason, _) => {
                (reason.status(), reason.code(), "invalid_grant", reason.message())
            }
        };
        // Clients read one or the other.
        let body = json!({
            "errors": [{ "code": code, "message": message }], "error": oauth, "error_description": message,
        });
        let mut response = respond(status, body);
        let headers = response.headers_mut();
        if let Failure::Method = failure {
            headers.insert(ALLOW, HeaderValue::from_static("GET, POST"));
        }
        if let Failure::Refused(reason, who) = &failure {
            if let Some(seconds) = reason.retry_after_s() {
                headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
            }
            let realm = HeaderValue::from_str(&format!("Basic realm=\"{}\"", self.token.service));
            if let (StatusCode::UNAUTHORIZED, Ok(realm)) = (status, realm) {
                headers.insert(WWW_AUTHENTICATE, realm);
            }
            let entry = Entry {
                action: "token",
                who,
                status: status.as_u16(),
                why: Some(message),
                ..Entry::default()
            };
            self.note_refusal(visitor, &entry, false);
        }
        response
    }
}

impl Proof<'_> {
    fn claimed(&self, visitor: &Visitor<'_>) -> String {
        match self {
            Proof::Shown => Shown::read(visitor.headers).claimed(),
            Proof::Password { name, .. } => (*name).to_owned(),
            Proof::Login(_) => "a login".to_owned(),
        }
    }
}

fn is_form(visitor: &Visitor<'_>) -> bool {
    let kind = visitor.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// Docker's older way: who asks is in the headers.
fn plain(form: &Form) -> Application<'_> {
    Application {
        proof: Proof::Shown,
        service: form.get("service").filter(|service| !service.is_empty()),
        scope: Scope::parse(form.all("scope")),
        offline: matches!(form.get("offline_token"), Some("true" | "1")),
        client: client(form),
    }
}

/// RFC 6749, sections 4.3 and 6.
fn oauth(form: &Form) -> Result<Application<'_>, Failure> {
    let wanted = |name, why| form.get(name).ok_or(Failure::Malformed("invalid_request", why));
    let proof = match form.get("grant_type") {
        Some("password") => Proof::Password {
            name: wanted("username", "there is no username")?,
            password: wanted("password", "there is no password")?,
        },
        Some("refresh_token") => Proof::Login(wanted("refresh_token", "there is no refresh_token")?),
        Some(_) => {
            return Err(Failure::Malformed(
                "unsupported_grant_type",
                "the grant types are password and refresh_token",
            ));
        }
        None => return Err(Failure::Malformed("invalid_request", "there is no grant_type")),
    };
    let offline = form.get("access_type") == Some("offline");
    Ok(Application { proof, offline, ..plain(form) })
}

fn client(form: &Form) -> &str {
    let client = form.get("client_id").unwrap_or_default();
    let end = client.char_indices().nth(CLIENT_MAX).map_or(client.len(), |(at, _)| at);
    &client[..end]
}

fn respond(status: StatusCode, body: serde_json::Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // RFC 6749, section 5.1.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
