//! What all pages have: the head, the bar on top, and parts that several of them show. And the pages that say that there is none.

use std::fmt::Display;

use hyper::header::{HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};

use super::address::{Href, Page};
use super::html::{Html, action, attribute, class, href, source};
use super::kinds::Pulled;
use super::{Visit, assets, figures, page};
use crate::server::access::{Identity, Reason};
use crate::server::body::Body;
use crate::server::digest::Digest;
use crate::server::name::{Reference, RepositoryName};
use crate::server::refusal::Refusal;

/// Which entry of the bar a page belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    Repositories,
    Usage,
    Account,
    None,
}

/// A page that is there.
pub fn show(
    visit: &Visit<'_>,
    section: Section,
    title: &str,
    inside: impl FnOnce(&mut Html),
) -> Response<Body> {
    page(StatusCode::OK, document(visit, section, title, inside))
}

pub fn document(visit: &Visit<'_>, section: Section, title: &str, inside: impl FnOnce(&mut Html)) -> String {
    let mut html = Html::document();
    html.element("html", &[attribute("lang", "en")], |html| {
        html.element("head", &[], |html| head(html, visit, title));
        html.element("body", &[], |html| {
            html.element("a", &[class("skip"), attribute("tabindex", "0"), href(&main())], |html| {
                html.text("Skip to the content");
            });
            html.element("header", &[class("bar")], |html| bar(html, visit, section));
            html.element("main", &[attribute("id", "main")], inside);
            html.element("footer", &[], |html| {
                html.text("Corten registry ");
                html.text(env!("CARGO_PKG_VERSION"));
            });
        });
    });
    html.into_string()
}

/// The anchor of a page's content.
fn main() -> Href {
    Href::anchor("main")
}

fn head(html: &mut Html, visit: &Visit<'_>, title: &str) {
    let (style, script, icon) = (assets::STYLE.href(), assets::SCRIPT.href(), assets::ICON.href());
    html.void("meta", &[attribute("charset", "utf-8")]);
    html.void(
        "meta",
        &[attribute("name", "viewport"), attribute("content", "width=device-width, initial-scale=1")],
    );
    html.void("meta", &[attribute("name", "color-scheme"), attribute("content", "light dark")]);
    html.line("title", &[], format_args!("{title} · {}", visit.host));
    html.void("link", &[attribute("rel", "stylesheet"), href(&style)]);
    html.void("link", &[attribute("rel", "icon"), attribute("type", "image/svg+xml"), href(&icon)]);
    html.element("script", &[source(&script), attribute("defer", "")], |_| {});
}

fn bar(html: &mut Html, visit: &Visit<'_>, section: Section) {
    html.element("div", &[], |html| {
        html.element("a", &[class("brand"), href(&Page::Repositories.href())], |html| {
            html.void(
                "img",
                &[
                    source(&assets::ICON.href()),
                    attribute("alt", ""),
                    attribute("width", "22"),
                    attribute("height", "22"),
                ],
            );
            html.line("span", &[], &visit.host);
        });
        html.element("nav", &[attribute("aria-label", "Main")], |html| {
            let mut entry = |name: &str, page: Page, here: bool| {
                let to = page.href();
                let mut attributes = vec![href(&to)];
                if here {
                    attributes.push(attribute("aria-current", "page"));
                }
                html.line("a", &attributes, name);
            };
            entry("Repositories", Page::Repositories, section == Section::Repositories);
            entry("Usage", Page::Usage, section == Section::Usage);
            match visit.caller.identity() {
                None => {}
                Some(Identity::Anonymous) => {
                    let back = visit.here.as_ref().map_or("", Href::as_str);
                    html.line(
                        "a",
                        &[class("sign-in"), href(&Page::SignIn.href().with("back", back))],
                        "Sign in",
                    );
                }
                Some(identity) => {
                    entry(name(identity), Page::Account, section == Section::Account);
                    if visit.by_session {
                        let to = Page::SignOut.href();
                        html.element("form", &[attribute("method", "post"), action(&to)], |html| {
                            html.line("button", &[class("plain")], "Sign out");
                        });
                    }
                }
            }
        });
    });
}

/// Whom somebody is known as.
pub fn name(identity: &Identity) -> &str {
    match identity {
        Identity::Anonymous => "anonymous",
        Identity::User(name) | Identity::Robot(name) | Identity::Certificate(name) => name,
    }
}

/// Nothing is here, or nothing for this visitor: both are told alike.
pub fn nothing(visit: &Visit<'_>) -> Response<Body> {
    let text = document(visit, Section::None, "Not found", |html| {
        html.element("div", &[class("message")], |html| {
            html.line("h1", &[], "There is nothing here");
            html.element("p", &[], |html| {
                html.text(match visit.is_stranger() {
                    true => "No repository or image has this address, or only people who are signed in may see it.",
                    false => "No repository or image has this address, or none that you may see.",
                });
            });
            html.element("p", &[], |html| {
                if visit.is_stranger() {
                    let back = visit.here.as_ref().map_or("", Href::as_str);
                    html.line("a", &[class("button"), href(&Page::SignIn.href().with("back", back))], "Sign in");
                }
                html.line("a", &[class("button quiet"), href(&Page::Repositories.href())], "All repositories");
            });
        });
    });
    page(StatusCode::NOT_FOUND, text)
}

/// What was shown was wrong.
pub fn refused(visit: &Visit<'_>, reason: &Reason) -> Response<Body> {
    let text = document(visit, Section::None, "Refused", |html| {
        html.element("div", &[class("message")], |html| {
            html.line("h1", &[], "That was not right");
            html.element("p", &[], |html| html.foreign(reason.message(), 300));
        });
    });
    let mut response = page(reason.status(), text);
    if let Some(seconds) = reason.retry_after_s() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

pub fn failed(visit: &Visit<'_>, refusal: &Refusal) -> Response<Body> {
    let text = document(visit, Section::None, "Failed", |html| {
        html.element("div", &[class("message")], |html| {
            html.line("h1", &[], "This page could not be made");
            html.element("p", &[], |html| html.text(&refusal.message));
            html.line("p", &[class("muted")], "The registry's log says why. Trying again may help.");
        });
    });
    page(refusal.status, text)
}

/// How long ago something was; exactly, where one points at it.
pub fn time(html: &mut Html, then: i64, now: i64) {
    let (stamp, moment) = (figures::stamp(then), figures::moment(then));
    html.line("time", &[attribute("datetime", stamp), attribute("title", moment)], figures::age(then, now));
}

/// The same, of something that may never have been.
pub fn time_or(html: &mut Html, then: Option<i64>, now: i64, otherwise: &str) {
    match then {
        Some(then) => time(html, then, now),
        None => html.line("span", &[class("muted")], otherwise),
    }
}

/// A digest as far as people compare it.
pub fn short(digest: &Digest) -> String {
    digest.hex()[..12].to_owned()
}

/// A part of a whole as a bar. No style is needed for that, which the policy forbids.
pub fn share(html: &mut Html, part: u64, whole: u64) {
    let width = format!("{:.2}", figures::share(part, whole));
    let frame = [
        class("share"),
        attribute("viewBox", "0 0 100 4"),
        attribute("preserveAspectRatio", "none"),
        attribute("aria-hidden", "true"),
    ];
    html.element("svg", &frame, |html| {
        html.element("rect", &[attribute("width", width), attribute("height", "4")], |_| {});
    });
}

/// A part of a whole, and of that a part that is only its own.
pub fn two_shares(html: &mut Html, own: u64, all: u64, whole: u64) {
    let (all, own) = (figures::share(all, whole), figures::share(own, whole));
    let frame = [
        class("share"),
        attribute("viewBox", "0 0 100 4"),
        attribute("preserveAspectRatio", "none"),
        attribute("aria-hidden", "true"),
    ];
    html.element("svg", &frame, |html| {
        for (kind, width) in [("shared", all), ("own", own)] {
            html.element(
                "rect",
                &[class(kind), attribute("width", format!("{width:.2}")), attribute("height", "4")],
                |_| {},
            );
        }
    });
}

/// A repository's name, its last part before all others.
pub fn repository_name(html: &mut Html, name: &str) {
    match name.rsplit_once('/') {
        Some((space, last)) => {
            html.line("span", &[class("space")], format_args!("{space}/"));
            html.void("wbr", &[]);
            html.line("b", &[], last);
        }
        None => html.line("b", &[], name),
    }
}

/// Text that one wants to have elsewhere.
pub fn copyable(html: &mut Html, text: impl Display) {
    html.element("div", &[class("copy")], |html| html.line("code", &[], text));
}

/// How to pull something, for each client: by tag, and by digest.
pub fn pull_commands(
    html: &mut Html,
    visit: &Visit<'_>,
    repository: &RepositoryName,
    references: &[Reference],
    what: Pulled,
) {
    let clients: &[&str] = match what {
        Pulled::Image => &["corten", "docker", "podman"],
        Pulled::Chart => &["helm", "oras"],
        Pulled::Artifact => &["corten", "oras"],
    };
    html.element("div", &[class("pull")], |html| {
        for (at, client) in clients.iter().enumerate() {
            let id = format!("client-{client}");
            let mut attributes =
                vec![attribute("type", "radio"), attribute("name", "client"), attribute("id", id.clone())];
            if at == 0 {
                attributes.push(attribute("checked", ""));
            }
            html.void("input", &attributes);
            html.line("label", &[attribute("for", id)], client);
        }
        for client in clients {
            html.element("div", &[attribute("class", format!("panel {client}"))], |html| {
                for reference in references {
                    copyable(html, pull_command(client, visit, repository, reference, what));
                }
            });
        }
    });
}

fn pull_command(
    client: &str,
    visit: &Visit<'_>,
    repository: &RepositoryName,
    reference: &Reference,
    what: Pulled,
) -> String {
    let host = &visit.host;
    let at = if matches!(reference, Reference::Tag(_)) { ":" } else { "@" };
    // Without TLS some have to be told; the others take this host, or what their configuration names.
    let plain = |flag| if visit.tls { "" } else { flag };
    match (client, reference) {
        ("helm", Reference::Tag(tag)) => {
            format!("helm pull{} oci://{host}/{repository} --version {tag}", plain(" --plain-http"))
        }
        ("helm", Reference::Digest(digest)) => {
            format!("helm pull{} oci://{host}/{repository}@{digest}", plain(" --plain-http"))
        }
        ("oras", _) => format!("oras pull{} {host}/{repository}{at}{reference}", plain(" --plain-http")),
        ("podman", _) => {
            format!("podman pull{} {host}/{repository}{at}{reference}", plain(" --tls-verify=false"))
        }
        ("corten", _) if what == Pulled::Artifact => {
            format!("corten artifact pull {host}/{repository}{at}{reference}")
        }
        _ => format!("{client} pull {host}/{repository}{at}{reference}"),
    }
}

/// The way to the pages before and after this one of a list.
pub fn pager(html: &mut Html, base: &Href, from: usize, count: usize, total: u64) {
    if total <= count as u64 && from == 0 {
        return;
    }
    let to =
        |from: usize| base.clone().with("from", &if from == 0 { String::new() } else { from.to_string() });
    html.element("nav", &[class("pager"), attribute("aria-label", "Pages")], |html| {
        if from > 0 {
            let before = to(from.saturating_sub(count));
            html.line("a", &[attribute("rel", "prev"), href(&before)], "← Previous");
        }
        let last = (from as u64 + count as u64).min(total);
        let first = (from as u64 + 1).min(total);
        html.line(
            "span",
            &[class("muted")],
            format_args!("{}–{} of {}", figures::count(first), figures::count(last), figures::count(total)),
        );
        if last < total {
            html.line("a", &[attribute("rel", "next"), href(&to(from + count))], "Next →");
        }
    });
}

/// A field to search with, which works without the script; with it, as one types.
pub fn search_form(html: &mut Html, to: &Href, label: &str, value: &str, keep: &[(&'static str, &str)]) {
    html.element("form", &[class("search"), attribute("role", "search"), action(to)], |html| {
        html.void(
            "input",
            &[
                attribute("type", "search"),
                attribute("name", "q"),
                attribute("value", value),
                attribute("placeholder", label),
                attribute("aria-label", label),
                attribute("autocomplete", "off"),
                attribute("spellcheck", "false"),
            ],
        );
        for (name, value) in keep.iter().filter(|(_, value)| !value.is_empty()) {
            html.void(
                "input",
                &[attribute("type", "hidden"), attribute("name", *name), attribute("value", *value)],
            );
        }
        html.line("button", &[], "Search");
    });
}
