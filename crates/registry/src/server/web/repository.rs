//! A repository's page: its tags, what they stand for, how to pull them.

use std::collections::{BTreeSet, HashMap};

use hyper::Response;

use super::address::{Href, Page};
use super::document::{Document, Platform};
use super::frame::{self, Section};
use super::html::{Html, attribute, class, href};
use super::kinds::Statement;
use super::{Failure, Reply, Visit, configs, figures, kinds};
use crate::server::body::Body;
use crate::server::catalogue::{TagOrder, TagSummary, TagsPage};
use crate::server::digest::Digest;
use crate::server::name::{Reference, RepositoryName};

/// Tags on one page.
const COUNT: usize = 50;
/// Platforms that are told of one tag.
const PLATFORMS_MAX: usize = 6;

pub async fn show(visit: &Visit<'_>, name: RepositoryName) -> Reply {
    if !visit.may_read(&name) {
        return Err(Failure::Nothing);
    }
    let order = if visit.asked("sort") == "name" { TagOrder::Name } else { TagOrder::Time };
    let all = visit.asked("all") == "1";
    let catalogue = &visit.registry.catalogue;
    let page = (visit.from(), COUNT);
    let found = catalogue.browse_tags(name.to_string(), visit.search(), order, page, all).await?;
    let found = found.ok_or(Failure::Nothing)?;
    let documents: HashMap<Digest, Document> = found
        .tags
        .iter()
        .filter_map(|tag| Some((tag.manifest.digest, Document::parse(&tag.manifest.text)?)))
        .collect();
    let configs: BTreeSet<Digest> = documents
        .values()
        .filter_map(|document| document.config.as_ref())
        .filter(|config| kinds::is_image_config(&config.media_type))
        .filter_map(|config| config.digest)
        .collect();
    let platforms = configs::platforms(visit.registry, &name, configs).await;
    Ok(list(visit, &name, &found, order, &Known { documents, platforms }))
}

/// What was read of the images that are listed.
struct Known {
    documents: HashMap<Digest, Document>,
    /// By configuration.
    platforms: HashMap<Digest, Platform>,
}

fn list(
    visit: &Visit<'_>,
    name: &RepositoryName,
    found: &TagsPage,
    order: TagOrder,
    known: &Known,
) -> Response<Body> {
    let (search, all) = (visit.search(), visit.asked("all") == "1");
    frame::show(visit, Section::Repositories, name.as_str(), |html| {
        crumbs(html, &[]);
        html.element("h1", &[class("mono")], |html| {
            frame::repository_name(html, name.as_str());
            if found.repository.cached {
                html.text(" ");
                html.line("span", &[class("badge")], "cached");
            }
        });
        facts(html, visit, found);
        let newest = found.tags.first().filter(|_| !all);
        let newest =
            newest.and_then(|tag| Some((tag.name.parse().ok()?, known.documents.get(&tag.manifest.digest)?)));
        if let Some((newest, document)) = newest {
            html.element("section", &[attribute("aria-label", "Pull")], |html| {
                frame::pull_commands(html, visit, name, &[Reference::Tag(newest)], document.pulled());
            });
        }
        html.element("div", &[class("title")], |html| {
            html.line("h2", &[], "Tags");
            let keep = [("sort", visit.asked("sort")), ("all", visit.asked("all"))];
            frame::search_form(html, &Page::Repository(name.clone()).href(), "Search tags", &search, &keep);
        });
        html.element("div", &[attribute("id", "found"), attribute("aria-live", "polite")], |html| {
            match found.tags.is_empty() {
                false => table(html, visit, name, found, order, known),
                true => html.line(
                    "p",
                    &[class("empty")],
                    match search.is_empty() {
                        true => "Nothing here has a tag.",
                        false => "No tag is called like that.",
                    },
                ),
            }
            frame::pager(
                html,
                &here(visit, name, visit.asked("sort"), all),
                visit.from(),
                COUNT,
                found.total,
            );
            if found.companions > 0 {
                companions(html, visit, name, found.companions, all);
            }
        });
    })
}

fn here(visit: &Visit<'_>, name: &RepositoryName, sort: &str, all: bool) -> Href {
    let base = Page::Repository(name.clone()).href();
    base.with("q", &visit.search()).with("sort", sort).with("all", if all { "1" } else { "" })
}

/// Where one is: the ways up.
pub fn crumbs(html: &mut Html, repository: &[&RepositoryName]) {
    html.element("nav", &[class("crumbs"), attribute("aria-label", "Path")], |html| {
        html.line("a", &[href(&Page::Repositories.href())], "Repositories");
        for name in repository {
            html.line("span", &[attribute("aria-hidden", "true")], "/");
            html.line("a", &[href(&Page::Repository((*name).clone()).href())], name);
        }
    });
}

fn facts(html: &mut Html, visit: &Visit<'_>, found: &TagsPage) {
    let repository = &found.repository;
    html.element("dl", &[class("facts")], |html| {
        let mut fact = |title: &str, inside: &dyn Fn(&mut Html)| {
            html.element("div", &[], |html| {
                html.line("dt", &[], title);
                html.element("dd", &[], |html| inside(html));
            });
        };
        fact("Tags", &|html| {
            html.text(figures::count(repository.tags - found.companions.min(repository.tags)))
        });
        fact("Size", &|html| html.text(figures::bytes(repository.bytes)));
        fact("Last push", &|html| frame::time_or(html, repository.pushed_at, visit.now, "never"));
        fact("Last pull", &|html| frame::time_or(html, repository.pulled_at, visit.now, "never"));
    });
}

fn companions(html: &mut Html, visit: &Visit<'_>, name: &RepositoryName, count: u64, all: bool) {
    html.element("p", &[class("muted small")], |html| {
        let several = figures::several(count, "tag", "tags");
        let to = here(visit, name, visit.asked("sort"), !all);
        match all {
            false => {
                html.text(format_args!("{several} of signatures and the like not shown. "));
                html.line("a", &[href(&to)], "Show them");
            }
            true => html.line("a", &[href(&to)], "Leave tags of signatures and the like away"),
        }
    });
}

fn table(
    html: &mut Html,
    visit: &Visit<'_>,
    name: &RepositoryName,
    found: &TagsPage,
    order: TagOrder,
    known: &Known,
) {
    let all = visit.asked("all") == "1";
    // On phones a style makes two lines of each row, which takes a table's meaning away in some browsers: so roles say it.
    html.element("table", &[class("list tags"), attribute("role", "table")], |html| {
        html.element("thead", &[attribute("role", "rowgroup")], |html| {
            html.element("tr", &[attribute("role", "row")], |html| {
                let sorted = |of: TagOrder, way: &'static str, kind: &'static str| {
                    let mut attributes = vec![attribute("role", "columnheader"), class(kind)];
                    attributes.extend((order == of).then(|| attribute("aria-sort", way)));
                    attributes
                };
                html.element("th", &sorted(TagOrder::Name, "ascending", ""), |html| {
                    html.line("a", &[href(&here(visit, name, "name", all))], "Tag");
                });
                html.line("th", &[attribute("role", "columnheader")], "Platforms");
                html.line("th", &[attribute("role", "columnheader"), class("spare")], "Digest");
                html.line("th", &[attribute("role", "columnheader"), class("number")], "Size");
                html.element("th", &sorted(TagOrder::Time, "descending", "when"), |html| {
                    html.line("a", &[href(&here(visit, name, "", all))], "Tagged");
                });
            });
        });
        html.element("tbody", &[attribute("role", "rowgroup")], |html| {
            for tag in &found.tags {
                row(html, visit, name, tag, known);
            }
        });
    });
}

fn row(html: &mut Html, visit: &Visit<'_>, name: &RepositoryName, tag: &TagSummary, known: &Known) {
    let Ok(reference) = tag.name.parse::<Reference>() else { return };
    let manifest = &tag.manifest;
    let document = known.documents.get(&manifest.digest);
    html.element("tr", &[attribute("role", "row")], |html| {
        html.element("th", &[attribute("role", "rowheader")], |html| {
            html.line("a", &[class("name"), href(&Page::Image(name.clone(), reference).href())], &tag.name);
            let statements = document.map(|document| statements(tag, document)).unwrap_or_default();
            badges(html, &statements);
        });
        html.element("td", &[attribute("role", "cell"), class("platforms")], |html| match document {
            Some(document) => what(html, document, known),
            None => html.line("span", &[class("muted")], kinds::manifest(&manifest.media_type)),
        });
        html.element("td", &[attribute("role", "cell"), class("spare")], |html| {
            let to = Page::image(name, manifest.digest).href();
            html.line("a", &[class("digest"), href(&to)], frame::short(&manifest.digest));
        });
        html.line("td", &[attribute("role", "cell"), class("number")], figures::bytes(manifest.bytes));
        html.element("td", &[attribute("role", "cell"), class("when")], |html| {
            frame::time(html, tag.tagged_at, visit.now)
        });
    });
}

/// What there is beside an image that says something of it.
fn statements(tag: &TagSummary, document: &Document) -> BTreeSet<Statement> {
    let referrers = tag.manifest.referrers.iter();
    let mut found: BTreeSet<Statement> = referrers
        .map(|referrer| Statement::of(referrer.artifact_type.as_deref(), &referrer.annotations))
        .collect();
    found.extend(tag.manifest.companions.iter().map(|(tag, _)| Statement::of_companion(tag)));
    if document.manifests.iter().any(|child| child.is_attestation()) {
        found.insert(Statement::Attestation);
    }
    found
}

/// What there is beside an image, in a word each.
pub fn badges(html: &mut Html, statements: &BTreeSet<Statement>) {
    for statement in statements {
        let kind = match statement {
            Statement::Signature => "badge good",
            _ => "badge",
        };
        html.text(" ");
        html.line("span", &[attribute("class", kind)], statement.badge());
    }
}

/// The platforms that an image is for, or what it is else.
fn what(html: &mut Html, document: &Document, known: &Known) {
    if let Some(artifact) = document.artifact() {
        return html.element("span", &[class("muted")], |html| html.foreign(&artifact, 60));
    }
    let listed: Vec<String> = match document.manifests.is_empty() {
        false => document
            .platforms()
            .iter()
            .map(|child| child.platform.as_ref().map_or_else(|| "unknown".to_owned(), ToString::to_string))
            .collect(),
        true => {
            let config = document.config.as_ref().and_then(|config| config.digest);
            let platform = config.and_then(|config| known.platforms.get(&config));
            platform.map(ToString::to_string).into_iter().collect()
        }
    };
    for (at, platform) in listed.iter().take(PLATFORMS_MAX).enumerate() {
        if at > 0 {
            html.text(", ");
        }
        html.foreign(platform, 40);
    }
    if listed.len() > PLATFORMS_MAX {
        html.line("span", &[class("muted")], format_args!(" and {} more", listed.len() - PLATFORMS_MAX));
    }
}
