//! Saying no as clients understand it: 401 with what is to be shown (RFC 6750, section 3; RFC 7617), 403 where showing anything else
//! would not help, 429 for who asks too often; with the distribution specification's error bodies.
//!
//! Docker's engine wants it in two places otherwise than RFC 6750 does. Where tokens are used, "not allowed" is 401 with
//! `insufficient_scope`, as its own registry says it: a 403 in answer to HEAD has no body to be understood by, and is tried again for
//! 50 seconds. And it leaves an error's text away that comes without a detail.

use std::fmt::Write;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde_json::json;

use super::Wanted;

/// Why somebody is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing was shown, and strangers may not.
    Stranger,
    /// What was shown is not right; the text is for whoever showed it.
    Wrong(String),
    /// The token is no longer, or never was.
    Token(&'static str),
    /// The token is right, but for something else; its owner may get one for this.
    Scope,
    /// Known, and not allowed.
    Denied,
    Later {
        retry_after_s: u64,
    },
    /// We can't find out.
    Unavailable,
}

impl Reason {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Stranger | Self::Wrong(_) | Self::Token(_) | Self::Scope => StatusCode::UNAUTHORIZED,
            Self::Denied => StatusCode::FORBIDDEN,
            Self::Later { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The specification's code, or one that registries have beside it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Denied => "DENIED",
            Self::Later { .. } => "TOOMANYREQUESTS",
            Self::Unavailable => "UNAVAILABLE",
            _ => "UNAUTHORIZED",
        }
    }

    pub fn message(&self) -> &str {
        match self {
            Self::Stranger => "authentication required",
            Self::Wrong(why) => why,
            Self::Token(why) => why,
            Self::Scope | Self::Denied => "requested access to the resource is denied",
            Self::Later { .. } => "too many failed logins; try again later",
            Self::Unavailable => "it can't be found out now who may do this; try again later",
        }
    }

    pub fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Later { retry_after_s } => Some(*retry_after_s),
            Self::Unavailable => Some(5),
            _ => None,
        }
    }
}

/// A refusal, ready to be sent.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub reason: Reason,
    /// Who was refused, or who they claimed to be.
    pub who: String,
    /// `WWW-Authenticate`, where the reason wants one.
    challenge: Option<Challenge>,
    /// What the request needs.
    detail: Option<serde_json::Value>,
}

#[derive(Clone, Debug)]
enum Challenge {
    Basic(String),
    Bearer(String),
}

/// What clients are asked to show.
#[derive(Clone, Debug)]
pub enum Demand<'a> {
    Basic { realm: &'a str },
    Bearer { realm: String, service: &'a str },
}

impl Refusal {
    pub fn new(reason: Reason, who: String, demand: &Demand<'_>, wanted: Wanted<'_>) -> Self {
        let shows = matches!(
            reason,
            Reason::Stranger | Reason::Wrong(_) | Reason::Token(_) | Reason::Scope | Reason::Denied
        );
        let challenge = match demand {
            Demand::Basic { realm } => Challenge::Basic(format!("Basic realm=\"{realm}\"")),
            Demand::Bearer { realm, service } => {
                let mut challenge = format!("Bearer realm=\"{realm}\",service=\"{service}\"");
                if let Some(scope) = wanted.scope() {
                    let _ = write!(challenge, ",scope=\"{scope}\"");
                }
                match reason {
                    Reason::Token(_) => challenge.push_str(",error=\"invalid_token\""),
                    Reason::Scope | Reason::Denied => challenge.push_str(",error=\"insufficient_scope\""),
                    _ => {}
                }
                Challenge::Bearer(challenge)
            }
        };
        Self { reason, who, challenge: Some(challenge).filter(|_| shows), detail: detail(wanted) }
    }

    /// The status; `head`: the answer can have no body.
    pub fn status(&self, head: bool) -> StatusCode {
        match (&self.reason, &self.challenge) {
            (Reason::Denied, Some(Challenge::Bearer(_))) => StatusCode::UNAUTHORIZED,
            (Reason::Denied, Some(Challenge::Basic(_))) if head => StatusCode::UNAUTHORIZED,
            _ => self.reason.status(),
        }
    }

    /// The answer, to a request that may have been a HEAD.
    pub fn into_response(self, head: bool) -> Response<Full<Bytes>> {
        let mut error = json!({ "code": self.reason.code(), "message": self.reason.message() });
        let status = self.status(head);
        if let Some(detail) = self.detail {
            error["detail"] = detail;
        }
        let body = json!({ "errors": [error] }).to_string();
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert("docker-distribution-api-version", HeaderValue::from_static("registry/2.0"));
        let challenge = match self.challenge {
            // Who is known and not allowed is not to be asked for another password.
            Some(Challenge::Basic(_)) if status == StatusCode::FORBIDDEN => None,
            Some(Challenge::Basic(text) | Challenge::Bearer(text)) => HeaderValue::from_str(&text).ok(),
            None => None,
        };
        if let Some(challenge) = challenge {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        if let Some(seconds) = self.reason.retry_after_s() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// What a request needs, as Docker's registry tells it: an entry for each action.
fn detail(wanted: Wanted<'_>) -> Option<serde_json::Value> {
    let entry = |kind: &str, name: &str, action: &str| json!({ "Type": kind, "Class": "", "Name": name, "Action": action });
    match wanted {
        Wanted::Ping => None,
        Wanted::Catalogue => Some(json!([entry("registry", "catalog", "*")])),
        Wanted::Repository { name, .. } => {
            let actions = wanted.scope_actions().split(',').map(|action| entry("repository", name, action));
            Some(actions.collect())
        }
    }
}
