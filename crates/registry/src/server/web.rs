//! Pages to look at the registry with a browser: repositories, tags, images, usage. They only read, and show to each what they may
//! read: what somebody may not see isn't there for them. docs/registry-web.md
//!
//! A request comes in at [`answer`], becomes a [`Visit`] (who looks, at what), and one of `repositories`, `repository`, `image`, `usage`,
//! `account` and `entrance` makes a page of it, inside the `frame` that all have. `html` escapes, `address` knows paths and links,
//! `document` and `kinds` understand what people push, `configs` reads configurations, `figures` are for people.

mod account;
mod address;
mod assets;
mod configs;
mod document;
mod entrance;
mod figures;
mod frame;
mod html;
mod image;
mod kinds;
mod repositories;
mod repository;
mod usage;

use hyper::body::Incoming;
use hyper::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue,
    REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::{Method, Response, StatusCode};

use super::access::{Identity, Reason};
use super::body::Body;
use super::catalogue::{CatalogueError, Sees, now};
use super::gate::{Arrival, Caller, Gate};
use super::name::RepositoryName;
use super::refusal::Refusal;
use super::registry::Registry;
use super::route::Query;
use address::{Href, Page};
use entrance::Cookie;

/// What pages remember between requests.
#[derive(Debug, Default)]
pub struct Memory {
    pub configs: configs::Platforms,
    pub usage: usage::Measured,
}

/// Somebody who looks at a page.
struct Visit<'r> {
    registry: &'r Registry,
    /// As it was when they came.
    gate: &'r Gate,
    caller: Caller,
    query: Query,
    /// The registry as the visitor calls it: `hub.example:5000`.
    host: String,
    /// Whether the visitor's connection is encrypted.
    tls: bool,
    /// This page, to come back to.
    here: Option<Href>,
    /// Whether they are known by a session, which they can end.
    by_session: bool,
    now: i64,
}

impl Visit<'_> {
    /// Nobody yet, but may become somebody.
    fn is_stranger(&self) -> bool {
        self.caller.identity() == Some(&Identity::Anonymous)
    }

    fn may_read(&self, repository: &RepositoryName) -> bool {
        self.caller.may_read(repository)
    }

    fn sees(&self) -> Sees {
        let caller = self.caller.clone();
        Box::new(move |repository| caller.sees(repository))
    }

    /// A parameter of the query.
    fn asked(&self, key: &str) -> &str {
        self.query.get(key).unwrap_or_default()
    }

    /// Where a list is to begin.
    fn from(&self) -> usize {
        self.asked("from").parse::<u32>().map_or(0, |from| from as usize)
    }

    /// What is searched for.
    fn search(&self) -> String {
        self.asked("q").trim().chars().take(SEARCH_MAX).collect()
    }
}

/// Characters that are searched for.
const SEARCH_MAX: usize = 128;

/// Why there is no page.
enum Failure {
    /// There is nothing here, as far as this visitor is told.
    Nothing,
    /// Something shown was wrong.
    Refused(Reason),
    /// Something of ours has failed.
    Failed(Refusal),
}

impl From<CatalogueError> for Failure {
    fn from(error: CatalogueError) -> Failure {
        Failure::Failed(error.into())
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        Failure::Failed(refusal)
    }
}

type Reply = Result<Response<Body>, Failure>;

/// Answers a request, if it is for a page.
pub async fn answer(
    registry: &Registry,
    gate: &Gate,
    arrival: Arrival<'_>,
    body: &mut Incoming,
) -> Option<Result<Response<Body>, Refusal>> {
    let parts = arrival.parts;
    let page = Page::parse(parts.uri.path())?;
    let reads = matches!(parts.method, Method::GET | Method::HEAD);
    let posts = parts.method == Method::POST && matches!(page, Page::SignIn | Page::SignOut);
    if !reads && !posts {
        return Some(Err(Refusal::not_allowed(match page {
            Page::SignIn => "GET, HEAD, POST",
            Page::SignOut => "POST",
            _ => "GET, HEAD",
        })));
    }
    let mut response = match &page {
        Page::Asset(hash, name) => match assets::find(hash, name) {
            Some(asset) => asset.answer(parts, true),
            None => return None,
        },
        Page::Icon => assets::ICON.answer(parts, false),
        _ => match document(registry, gate, arrival, body, page).await {
            Ok(response) => response,
            Err(refusal) => return Some(Err(refusal)),
        },
    };
    protect(&mut response);
    if parts.method == Method::HEAD {
        let length = hyper::body::Body::size_hint(response.body()).exact().unwrap_or_default();
        *response.body_mut() = Body::empty();
        response.headers_mut().insert(hyper::header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Some(Ok(response))
}

async fn document(
    registry: &Registry,
    gate: &Gate,
    arrival: Arrival<'_>,
    body: &mut Incoming,
    page: Page,
) -> Result<Response<Body>, Refusal> {
    let parts = arrival.parts;
    let base = gate.base_url(arrival).unwrap_or_else(|| "http://localhost".to_owned());
    let (scheme, host) = base.split_once("://").unwrap_or(("http", "localhost"));
    let cookie = Cookie::of(scheme == "https", host);
    let session = cookie.read(&parts.headers);
    let whole = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut visit = Visit {
        registry,
        gate,
        caller: Caller::Anybody,
        query: Query::parse(parts.uri.query())?,
        host: host.to_owned(),
        tls: scheme == "https",
        here: Href::back(whole),
        by_session: false,
        now: now(),
    };
    let reply = match visit.gate.visit(arrival, session).await {
        Err(reason) => Err(Failure::Refused(reason)),
        Ok(caller) => {
            visit.caller = caller;
            visit.by_session =
                session.is_some() && !visit.is_stranger() && !parts.headers.contains_key(AUTHORIZATION);
            match page {
                Page::Repositories => repositories::show(&visit).await,
                Page::Repository(name) => repository::show(&visit, name).await,
                Page::Image(name, reference) => image::show(&visit, name, reference).await,
                Page::Usage => usage::show(&visit).await,
                Page::Account => account::show(&visit).await,
                Page::SignIn if parts.method == Method::POST => {
                    entrance::sign_in(&visit, arrival, &cookie, body).await
                }
                Page::SignIn => Ok(entrance::show(&visit)),
                Page::SignOut if parts.method == Method::POST => {
                    entrance::sign_out(&visit, arrival, &cookie, session).await
                }
                Page::SignOut => return Err(Refusal::not_allowed("POST")),
                Page::Asset(..) | Page::Icon | Page::Nothing => Err(Failure::Nothing),
            }
        }
    };
    let mut response = match reply {
        Ok(response) => response,
        Err(Failure::Nothing) => frame::nothing(&visit),
        Err(Failure::Refused(reason)) => frame::refused(&visit, &reason),
        Err(Failure::Failed(refusal)) => {
            let cause = refusal.cause.as_deref().unwrap_or_default();
            tracing::error!(id = arrival.request_id, path = parts.uri.path(), %refusal, cause, "page failed");
            frame::failed(&visit, &refusal)
        }
    };
    // What is there for one visitor isn't for another one.
    let keep = match visit.caller.identity() {
        None | Some(Identity::Anonymous) => "private, no-cache",
        Some(_) => "private, no-store",
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(keep));
    headers.insert(VARY, HeaderValue::from_static("Cookie, Authorization"));
    Ok(response)
}

/// Nothing but what is ours may be loaded, run or sent to; nobody may show a page of ours within one of theirs.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

fn protect(response: &mut Response<Body>) {
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    // Other sites are told nothing. Not `no-referrer`: with that browsers don't say of our own forms either where they come from
    // (Fetch, section 3.1), which is what `entrance` wants to know.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    let same = HeaderValue::from_static("same-origin");
    headers.insert(HeaderName::from_static("cross-origin-opener-policy"), same.clone());
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), same);
}

fn page(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

fn redirect(to: &Href) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    // Our own addresses are printable ASCII.
    if let Ok(to) = HeaderValue::from_str(to.as_str()) {
        response.headers_mut().insert(hyper::header::LOCATION, to);
    }
    response
}

#[cfg(test)]
mod tests;
