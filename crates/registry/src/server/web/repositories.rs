//! The first page: all repositories that a visitor sees, and what is found when they search.

use hyper::Response;

use super::address::{Href, Page};
use super::frame::{self, Section};
use super::html::{Html, attribute, class, href};
use super::{Reply, Visit, figures, redirect};
use crate::server::body::Body;
use crate::server::catalogue::{RepositoriesPage, RepositoryOrder, RepositorySummary};
use crate::server::name::{Reference, RepositoryName, Tag};

/// Repositories on one page.
const COUNT: usize = 50;
/// Tags that a search shows beside them.
const TAGS_MAX: usize = 12;

pub async fn show(visit: &Visit<'_>) -> Reply {
    let (search, from) = (visit.search().to_ascii_lowercase(), visit.from());
    let order = order(visit.asked("sort"));
    let catalogue = &visit.registry.catalogue;
    let name = search.split(':').next().unwrap_or_default().to_owned();
    let found = catalogue.browse_repositories(name, order, (from, COUNT), visit.sees()).await?;
    if found.total == 0 && search.is_empty() && visit.is_stranger() {
        return Ok(redirect(&Page::SignIn.href()));
    }
    // `app:1.2` looks for a tag of a repository, anything else for both. Tags may have capitals.
    let tags = match (visit.search().split_once(':'), from) {
        (_, 1..) => Vec::new(),
        (Some((repository, tag)), _) if !tag.is_empty() => {
            let repository = repository.to_ascii_lowercase();
            let sees = visit.sees();
            let sees = Box::new(move |name: &str| name.contains(&repository) && sees(name));
            catalogue.browse_all_tags(tag.to_owned(), TAGS_MAX, sees).await?
        }
        (None, _) if !search.is_empty() => {
            catalogue.browse_all_tags(visit.search(), TAGS_MAX, visit.sees()).await?
        }
        _ => Vec::new(),
    };
    Ok(list(visit, &found, &tags, order))
}

fn order(name: &str) -> RepositoryOrder {
    match name {
        "size" => RepositoryOrder::Size,
        "tags" => RepositoryOrder::Tags,
        "pushed" => RepositoryOrder::Pushed,
        "pulled" => RepositoryOrder::Pulled,
        _ => RepositoryOrder::Name,
    }
}

fn list(
    visit: &Visit<'_>,
    found: &RepositoriesPage,
    tags: &[(String, String)],
    order: RepositoryOrder,
) -> Response<Body> {
    let search = visit.search();
    frame::show(visit, Section::Repositories, "Repositories", |html| {
        html.element("div", &[class("title")], |html| {
            html.line("h1", &[], "Repositories");
            html.line(
                "p",
                &[class("muted")],
                match search.is_empty() {
                    true => figures::several(found.total, "repository", "repositories"),
                    false => format!("{} found", figures::count(found.total + tags.len() as u64)),
                },
            );
            let keep = [("sort", visit.asked("sort"))];
            frame::search_form(
                html,
                &Page::Repositories.href(),
                "Search repositories and tags",
                &search,
                &keep,
            );
        });
        html.element("div", &[attribute("id", "found"), attribute("aria-live", "polite")], |html| {
            if !tags.is_empty() {
                matching_tags(html, tags);
            }
            match (found.repositories.is_empty(), search.is_empty()) {
                (false, _) => table(html, visit, found, order),
                (true, true) => welcome(html, visit),
                (true, false) if tags.is_empty() => {
                    html.element("p", &[class("empty")], |html| {
                        html.text("Nothing is called ");
                        html.element("b", &[], |html| html.foreign(&search, 128));
                        html.text(" here, or anything like it.");
                    });
                }
                _ => {}
            }
            let base = here(visit, visit.asked("sort"));
            frame::pager(html, &base, visit.from(), COUNT, found.total);
        });
    })
}

fn here(visit: &Visit<'_>, sort: &str) -> Href {
    Page::Repositories.href().with("q", &visit.search()).with("sort", sort)
}

fn matching_tags(html: &mut Html, tags: &[(String, String)]) {
    html.element("section", &[class("matches"), attribute("aria-label", "Tags found")], |html| {
        html.line("h2", &[], "Tags");
        html.element("ul", &[], |html| {
            for (repository, tag) in tags {
                // What the catalogue holds was checked when it was pushed.
                let (Ok(name), Ok(reference)) = (repository.parse::<RepositoryName>(), tag.parse::<Tag>())
                else {
                    continue;
                };
                let to = Page::Image(name, Reference::Tag(reference)).href();
                html.element("li", &[], |html| {
                    html.element("a", &[href(&to)], |html| {
                        html.line("span", &[class("space")], format_args!("{repository}:"));
                        html.line("b", &[], tag);
                    });
                });
            }
        });
    });
}

fn table(html: &mut Html, visit: &Visit<'_>, found: &RepositoriesPage, order: RepositoryOrder) {
    html.element("table", &[class("list")], |html| {
        html.element("thead", &[], |html| {
            html.element("tr", &[], |html| {
                let mut column = |title: &str, sort: &str, of: RepositoryOrder, kind: &'static str| {
                    let mut attributes = vec![attribute("scope", "col"), class(kind)];
                    if order == of {
                        let way = if of == RepositoryOrder::Name { "ascending" } else { "descending" };
                        attributes.push(attribute("aria-sort", way));
                    }
                    html.element("th", &attributes, |html| {
                        html.line("a", &[href(&here(visit, sort))], title);
                    });
                };
                column("Name", "", RepositoryOrder::Name, "");
                column("Tags", "tags", RepositoryOrder::Tags, "number");
                column("Size", "size", RepositoryOrder::Size, "number");
                column("Last push", "pushed", RepositoryOrder::Pushed, "when");
                column("Last pull", "pulled", RepositoryOrder::Pulled, "when spare");
            });
        });
        html.element("tbody", &[], |html| {
            for repository in &found.repositories {
                row(html, visit, repository);
            }
        });
    });
}

fn row(html: &mut Html, visit: &Visit<'_>, repository: &RepositorySummary) {
    let Ok(name) = repository.name.parse::<RepositoryName>() else { return };
    html.element("tr", &[], |html| {
        html.element("th", &[attribute("scope", "row")], |html| {
            html.element("a", &[class("name"), href(&Page::Repository(name).href())], |html| {
                frame::repository_name(html, &repository.name);
            });
            if repository.cached {
                html.text(" ");
                html.line("span", &[class("badge")], "cached");
            }
        });
        html.line("td", &[class("number")], figures::count(repository.tags));
        html.line("td", &[class("number")], figures::bytes(repository.bytes));
        html.element("td", &[class("when")], |html| {
            frame::time_or(html, repository.pushed_at, visit.now, "never");
        });
        html.element("td", &[class("when spare")], |html| {
            frame::time_or(html, repository.pulled_at, visit.now, "never");
        });
    });
}

/// What to do with a registry that has nothing in it yet.
fn welcome(html: &mut Html, visit: &Visit<'_>) {
    html.element("div", &[class("empty")], |html| {
        html.line("p", &[], "There is nothing here yet. This brings an image here:");
        frame::copyable(html, format_args!("docker tag IMAGE {}/NAME:TAG", visit.host));
        frame::copyable(html, format_args!("docker push {}/NAME:TAG", visit.host));
    });
}
