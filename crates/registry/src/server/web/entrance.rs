//! Signing in and out: a form, and a cookie that no script can read and no other site can send along. The session in it is the access
//! module's.
//!
//! Both forms are only taken from our own pages, as the browser says it (`Sec-Fetch-Site`, which it sends where it trusts the connection;
//! `Origin` otherwise): else another site could sign somebody in as somebody else.

use hyper::body::Incoming;
use hyper::header::{COOKIE, HOST, HeaderMap, HeaderValue, ORIGIN, RETRY_AFTER, SET_COOKIE};
use hyper::{Response, StatusCode};

use super::address::{Href, Page};
use super::frame::{self, Section};
use super::html::{action, attribute, class};
use super::{Failure, Reply, Visit, page, redirect};
use crate::server::access::{Reason, SESSION_LIFETIME_S};
use crate::server::body::Body;
use crate::server::gate::{Arrival, receive};
use crate::server::route::Query;

/// The cookie that holds a session. Browsers tell cookies of one host apart by their names, not by ports: so its name has the port, for
/// registries side by side.
pub struct Cookie {
    name: String,
    secure: bool,
}

impl Cookie {
    pub fn of(tls: bool, host: &str) -> Cookie {
        let port = host
            .rsplit_once(':')
            .map(|(_, port)| port)
            .filter(|port| port.bytes().all(|b| b.is_ascii_digit()));
        let port = port.map(|port| format!("-{port}")).unwrap_or_default();
        // With this prefix no other host of the domain, and nobody without TLS, can set it.
        let prefix = if tls { "__Host-" } else { "" };
        Cookie { name: format!("{prefix}corten{port}"), secure: tls }
    }

    pub fn read<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        let values = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs
            .into_iter()
            .find(|(name, _)| *name == self.name)
            .map(|(_, value)| value)
            .filter(|value| !value.is_empty())
    }

    /// The header that sets it; without a session, that removes it.
    fn set(&self, session: Option<&str>) -> Option<HeaderValue> {
        let secure = if self.secure { "; Secure" } else { "" };
        let (session, age) = session.map_or(("", 0), |session| (session, SESSION_LIFETIME_S));
        let text =
            format!("{}={session}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{secure}", self.name);
        HeaderValue::try_from(text).ok()
    }
}

/// Whether a form comes from a page of ours.
fn is_ours(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin";
    }
    let authority = text(ORIGIN).and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    authority.is_some() && authority == text(HOST)
}

/// The way back, as the form or the query says it.
fn back(text: &str) -> Href {
    Href::back(text).unwrap_or_else(|| Page::Repositories.href())
}

pub fn show(visit: &Visit<'_>) -> Response<Body> {
    if !visit.is_stranger() {
        return redirect(&back(visit.asked("back")));
    }
    page(StatusCode::OK, form(visit, "", visit.asked("back"), None))
}

fn form(visit: &Visit<'_>, name: &str, back: &str, wrong: Option<&str>) -> String {
    frame::document(visit, Section::None, "Sign in", |html| {
        let to = Page::SignIn.href();
        html.element("form", &[class("card entrance"), attribute("method", "post"), action(&to)], |html| {
            html.line("h1", &[], "Sign in");
            html.line("p", &[class("muted")], format_args!("With your account at {}.", visit.host));
            if let Some(wrong) = wrong {
                html.element("p", &[class("wrong"), attribute("role", "alert")], |html| {
                    html.foreign(wrong, 300)
                });
            }
            html.element("label", &[], |html| {
                html.text("Name");
                let mut field = vec![
                    attribute("name", "name"),
                    attribute("value", name),
                    attribute("autocomplete", "username"),
                    attribute("autocapitalize", "none"),
                    attribute("spellcheck", "false"),
                    attribute("required", ""),
                ];
                if name.is_empty() {
                    field.push(attribute("autofocus", ""));
                }
                html.void("input", &field);
            });
            html.element("label", &[], |html| {
                html.text("Password");
                let mut field = vec![
                    attribute("type", "password"),
                    attribute("name", "password"),
                    attribute("autocomplete", "current-password"),
                    attribute("required", ""),
                ];
                if !name.is_empty() {
                    field.push(attribute("autofocus", ""));
                }
                html.void("input", &field);
            });
            html.void(
                "input",
                &[attribute("type", "hidden"), attribute("name", "back"), attribute("value", back)],
            );
            html.line("button", &[], "Sign in");
        });
    })
}

pub async fn sign_in(visit: &Visit<'_>, arrival: Arrival<'_>, cookie: &Cookie, body: &mut Incoming) -> Reply {
    let bytes = receive(body).await?;
    let form_of = std::str::from_utf8(&bytes).ok().and_then(|text| Query::parse(Some(text)).ok());
    let Some(fields) = form_of.filter(|_| is_ours(&arrival.parts.headers)) else {
        return Err(Failure::Refused(Reason::Wrong(NOT_OURS.to_owned())));
    };
    let field = |key: &str| fields.get(key).unwrap_or_default();
    let (name, password) = (field("name").trim(), field("password"));
    match visit.gate.sign_in(arrival, name, password).await {
        // Nobody needs an account.
        None => Ok(redirect(&Page::Repositories.href())),
        Some(Ok(session)) => {
            let mut response = redirect(&back(field("back")));
            response.headers_mut().extend(cookie.set(Some(&session)).map(|cookie| (SET_COOKIE, cookie)));
            Ok(response)
        }
        Some(Err(reason)) => {
            let shown: String = name.chars().take(255).collect();
            // 401 would have to name a scheme of HTTP's that helps (RFC 9110, section 15.5.2).
            let status = match reason.status() {
                StatusCode::UNAUTHORIZED => StatusCode::FORBIDDEN,
                other => other,
            };
            let back = field("back").chars().take(1024).collect::<String>();
            let mut response = page(status, form(visit, &shown, &back, Some(&sentence(&reason))));
            if let Some(seconds) = reason.retry_after_s() {
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
            }
            Ok(response)
        }
    }
}

const NOT_OURS: &str =
    "the form does not come from a page of this registry; open the page again and try once more";

/// A reason as a form says it.
fn sentence(reason: &Reason) -> String {
    let message = match reason {
        Reason::Later { retry_after_s } => {
            return format!("Too many attempts. Try again in {retry_after_s} seconds.");
        }
        reason => reason.message(),
    };
    let mut characters = message.chars();
    let first = characters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(characters).chain(['.']).collect()
}

pub async fn sign_out(
    visit: &Visit<'_>,
    arrival: Arrival<'_>,
    cookie: &Cookie,
    session: Option<&str>,
) -> Reply {
    if !is_ours(&arrival.parts.headers) {
        return Err(Failure::Refused(Reason::Wrong(NOT_OURS.to_owned())));
    }
    if let Some(session) = session {
        visit.gate.sign_out(session).await;
    }
    let mut response = redirect(&Page::Repositories.href());
    response.headers_mut().extend(cookie.set(None).map(|cookie| (SET_COOKIE, cookie)));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let values = pairs.iter().map(|(name, value)| {
            (hyper::header::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        });
        values.collect()
    }

    #[test]
    fn cookies_are_kept_to_themselves() {
        let cookie = Cookie::of(true, "hub.example:5000");
        assert_eq!(
            cookie.set(Some("x.y.z")).unwrap(),
            "__Host-corten-5000=x.y.z; Path=/; Max-Age=28800; HttpOnly; SameSite=Strict; Secure"
        );
        let plain = Cookie::of(false, "[::1]");
        assert_eq!(plain.set(None).unwrap(), "corten=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict");
        assert_eq!(cookie.read(&headers(&[("cookie", "a=b; __Host-corten-5000=x.y; c")])), Some("x.y"));
        for other in ["__Host-corten=x", "corten-5000=x", "__Host-corten-5000=", "", ";;="] {
            assert_eq!(cookie.read(&headers(&[("cookie", other)])), None, "{other}");
        }
    }

    #[test]
    fn forms_come_from_our_own_pages() {
        for (pairs, expected) in [
            (&[("sec-fetch-site", "same-origin")][..], true),
            (&[("host", "hub:1"), ("origin", "http://hub:1")], true),
            (&[("sec-fetch-site", "cross-site"), ("host", "hub"), ("origin", "https://hub")], false),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("host", "hub:1"), ("origin", "http://hub:2")], false),
            (&[("host", "hub"), ("origin", "null")], false),
            (&[("host", "hub")], false),
            (&[], false),
        ] {
            assert_eq!(is_ours(&headers(pairs)), expected, "{pairs:?}");
        }
    }
}
