//! Who takes how much room, and what is shared. Everything that a visitor sees is looked through for that, so it is remembered for a
//! while, for each kind of visitor.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::address::Page;
use super::frame::{self, Section};
use super::html::{Html, attribute, class, href};
use super::{Failure, Reply, Visit, figures, redirect};
use crate::server::access::Standing;
use crate::server::catalogue::{RepositoryUsage, Usage};
use crate::server::name::RepositoryName;

/// How old what is shown may be.
const FRESH: Duration = Duration::from_secs(60);
/// Visitors whose view is remembered.
const REMEMBERED_MAX: usize = 16;
/// Repositories on one page.
const COUNT: usize = 50;

/// What was measured lately, and for whom: somebody else, and the same one with other rights, sees something else.
#[derive(Debug, Default)]
pub struct Measured {
    known: std::sync::Mutex<Vec<View>>,
    /// One at a time measures; the others find what it has found.
    measuring: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug)]
struct View {
    of: Option<Standing>,
    when: Instant,
    usage: Arc<Usage>,
}

impl Measured {
    fn get(&self, of: &Option<Standing>) -> Option<View> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|view| view.of == *of && view.when.elapsed() < FRESH).cloned()
    }

    fn put(&self, view: View) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|other| other.of != view.of && other.when.elapsed() < FRESH);
        // The oldest stands first.
        if known.len() >= REMEMBERED_MAX {
            known.remove(0);
        }
        known.push(view);
    }
}

async fn measure(visit: &Visit<'_>) -> Result<View, Failure> {
    let of = visit.caller.standing();
    let memory = &visit.registry.web.usage;
    if let Some(found) = memory.get(&of) {
        return Ok(found);
    }
    let _turn = memory.measuring.lock().await;
    if let Some(found) = memory.get(&of) {
        return Ok(found);
    }
    let usage = Arc::new(visit.registry.catalogue.usage(visit.sees()).await?);
    let view = View { of, when: Instant::now(), usage };
    memory.put(view.clone());
    Ok(view)
}

pub async fn show(visit: &Visit<'_>) -> Reply {
    let View { when, usage, .. } = measure(visit).await?;
    if usage.repositories.is_empty() && visit.is_stranger() {
        return Ok(redirect(&Page::SignIn.href().with("back", "/usage")));
    }
    let apart: u64 = usage.repositories.iter().map(|repository| repository.bytes).sum();
    Ok(frame::show(visit, Section::Usage, "Usage", |html| {
        html.element("div", &[class("title")], |html| {
            html.line("h1", &[], "Usage");
            html.element("p", &[class("muted")], |html| match when.elapsed().as_secs() {
                0..5 => html.text("as of now"),
                seconds => html.text(format_args!("as of {seconds} seconds ago")),
            });
        });
        tiles(html, &usage, apart);
        if usage.repositories.is_empty() {
            return html.line("p", &[class("empty")], "There is nothing here yet.");
        }
        repositories(html, visit, &usage);
        largest(html, &usage);
    }))
}

fn tiles(html: &mut Html, usage: &Usage, apart: u64) {
    html.element("dl", &[class("facts tiles")], |html| {
        let mut tile = |title: &str, value: String, note: String| {
            html.element("div", &[], |html| {
                html.line("dt", &[], title);
                html.line("dd", &[], value);
                html.line("dd", &[class("muted small")], note);
            });
        };
        tile("Stored", figures::bytes(usage.bytes), figures::several(usage.blobs, "blob", "blobs"));
        let saved = apart.saturating_sub(usage.bytes);
        tile(
            "Saved by sharing",
            figures::bytes(saved),
            format!("{} of {} apart", figures::percent(saved, apart), figures::bytes(apart)),
        );
        let count = usage.repositories.len() as u64;
        tile("Repositories", figures::count(count), figures::several(usage.tags, "tag", "tags"));
    });
}

fn repositories(html: &mut Html, visit: &Visit<'_>, usage: &Usage) {
    let (from, total) = (visit.from(), usage.repositories.len() as u64);
    let most = usage.repositories.first().map_or(0, |most| most.bytes);
    html.element("section", &[], |html| {
        html.line("h2", &[], "By repository");
        html.element("p", &[class("key muted small")], |html| {
            html.line("span", &[class("own")], "only there");
            html.line("span", &[class("shared")], "shared with others");
        });
        html.element("table", &[class("list")], |html| {
            html.element("thead", &[], |html| {
                html.element("tr", &[], |html| {
                    html.line("th", &[attribute("scope", "col")], "Name");
                    html.line("th", &[attribute("scope", "col"), class("spare")], "Part");
                    html.line("th", &[attribute("scope", "col"), class("number")], "Only there");
                    html.line("th", &[attribute("scope", "col"), class("number")], "Size");
                });
            });
            html.element("tbody", &[], |html| {
                for repository in usage.repositories.iter().skip(from).take(COUNT) {
                    row(html, repository, most);
                }
            });
        });
        frame::pager(html, &Page::Usage.href(), from, COUNT, total);
    });
}

fn row(html: &mut Html, repository: &RepositoryUsage, most: u64) {
    let Ok(name) = repository.name.parse::<RepositoryName>() else { return };
    html.element("tr", &[], |html| {
        html.element("th", &[attribute("scope", "row")], |html| {
            html.element("a", &[class("name"), href(&Page::Repository(name).href())], |html| {
                frame::repository_name(html, &repository.name);
            });
        });
        html.element("td", &[class("spare")], |html| {
            frame::two_shares(html, repository.own_bytes, repository.bytes, most)
        });
        html.line("td", &[class("number")], figures::bytes(repository.own_bytes));
        html.line("td", &[class("number")], figures::bytes(repository.bytes));
    });
}

fn largest(html: &mut Html, usage: &Usage) {
    html.element("section", &[], |html| {
        html.line("h2", &[], "Largest blobs");
        html.element("table", &[class("list")], |html| {
            html.element("thead", &[], |html| {
                html.element("tr", &[], |html| {
                    html.line("th", &[attribute("scope", "col")], "Digest");
                    html.line("th", &[attribute("scope", "col")], "In");
                    html.line("th", &[attribute("scope", "col"), class("number")], "Size");
                });
            });
            html.element("tbody", &[], |html| {
                for blob in &usage.largest {
                    let Ok(name) = blob.repository.parse::<RepositoryName>() else { continue };
                    html.element("tr", &[], |html| {
                        html.line(
                            "th",
                            &[
                                attribute("scope", "row"),
                                class("digest"),
                                attribute("title", blob.digest.to_string()),
                            ],
                            frame::short(&blob.digest),
                        );
                        html.element("td", &[], |html| {
                            let to = Page::Repository(name).href();
                            html.element("a", &[class("name"), href(&to)], |html| {
                                frame::repository_name(html, &blob.repository)
                            });
                            if blob.repositories > 1 {
                                let others = figures::count(blob.repositories - 1);
                                html.line("span", &[class("muted")], format_args!(" and {others} more"));
                            }
                        });
                        html.line("td", &[class("number")], figures::bytes(blob.bytes));
                    });
                }
            });
        });
    });
}
