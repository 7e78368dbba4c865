//! An image's page: what a tag or digest stands for. Of an index, its platforms, and one of them in full; of an image, its layers and
//! how it is to run; of anything else, what it is and what is in it. Below, what others say of it.

mod belongings;
mod layers;
mod settings;

use std::collections::BTreeSet;

use hyper::Response;

use super::address::{Href, Page};
use super::configs::{self, Unreadable};
use super::document::{Descriptor, Document, ImageConfig};
use super::frame::{self, Section};
use super::html::{Html, attribute, class, href};
use super::kinds::Pulled;
use super::{Failure, Reply, Visit, figures, kinds, repository};
use crate::server::body::Body;
use crate::server::catalogue::{ManifestDetails, ManifestSummary};
use crate::server::digest::Digest;
use crate::server::name::{Reference, RepositoryName};
use belongings::Belonging;

/// A manifest with what could be understood of it.
struct Subject {
    details: ManifestDetails,
    /// None: it is too long, or nothing that we understand.
    document: Option<Document>,
    config: Config,
}

/// What a manifest's configuration turned out to be.
enum Config {
    None,
    Image(Box<ImageConfig>),
    /// Of something else: its media type, and its text if it is any.
    Foreign(String, Option<String>),
    Unreadable(Unreadable),
    /// It should be an image's, and isn't JSON.
    Odd,
}

impl Subject {
    fn document(&self) -> Option<&Document> {
        self.document.as_ref()
    }

    fn is_index(&self) -> bool {
        self.document().is_some_and(|document| !document.manifests.is_empty())
    }
}

pub async fn show(visit: &Visit<'_>, name: RepositoryName, reference: Reference) -> Reply {
    if !visit.may_read(&name) {
        return Err(Failure::Nothing);
    }
    let row = visit.registry.catalogue.manifest(name.to_string(), reference.clone(), 0).await?;
    let digest = row.ok_or(Failure::Nothing)?.digest;
    let subject = look(visit, &name, digest).await?.ok_or(Failure::Nothing)?;
    let chosen = match subject.document() {
        Some(document) if subject.is_index() => choose(visit.asked("platform"), document, &subject.details),
        _ => None,
    };
    let child = match chosen {
        Some((_, digest)) => look(visit, &name, digest).await?,
        None => None,
    };
    let belongings = belongings::of(visit, &name, &subject, child.as_ref()).await?;
    let view =
        View { name: &name, reference: &reference, subject: &subject, child: child.as_ref(), belongings };
    Ok(view.page(visit))
}

async fn look(visit: &Visit<'_>, name: &RepositoryName, digest: Digest) -> Result<Option<Subject>, Failure> {
    let Some(details) = visit.registry.catalogue.browse_manifest(name.to_string(), digest).await? else {
        return Ok(None);
    };
    let document = Document::parse(&details.summary.text);
    let config = match document.as_ref().and_then(|document| document.config.as_ref()) {
        None => Config::None,
        Some(descriptor) => match descriptor.digest {
            None => Config::Unreadable(Unreadable::Missing),
            Some(digest) => {
                understand(&descriptor.media_type, configs::read(visit.registry, name, digest).await?)
            }
        },
    };
    Ok(Some(Subject { details, document, config }))
}

fn understand(media_type: &str, read: Result<Vec<u8>, Unreadable>) -> Config {
    match read {
        Err(why) => Config::Unreadable(why),
        Ok(bytes) if kinds::is_image_config(media_type) => match ImageConfig::parse(&bytes) {
            Some(config) => Config::Image(Box::new(config)),
            None => Config::Odd,
        },
        // `{}` says nothing.
        Ok(bytes) if bytes.trim_ascii() == b"{}" => Config::None,
        Ok(bytes) => Config::Foreign(media_type.to_owned(), String::from_utf8(bytes).ok()),
    }
}

/// The platform of an index that is shown in full: the one that is asked for, else the usual one, else the first that is here.
fn choose<'d>(
    asked: &str,
    document: &'d Document,
    details: &ManifestDetails,
) -> Option<(&'d Descriptor, Digest)> {
    let here = |digest: &Digest| details.children.iter().any(|child| child.digest == *digest);
    let listed = document.platforms();
    let mut there = listed.into_iter().filter_map(|child| Some((child, child.digest.filter(here)?)));
    let called = |child: &Descriptor, name: &str| {
        child.platform.as_ref().is_some_and(|platform| platform.to_string() == name)
    };
    let all: Vec<_> = there.by_ref().collect();
    let of =
        |name: &str| all.iter().find(|(child, digest)| called(child, name) || digest.to_string() == name);
    of(asked).or_else(|| of("linux/amd64")).or_else(|| all.first()).copied()
}

struct View<'v> {
    name: &'v RepositoryName,
    reference: &'v Reference,
    subject: &'v Subject,
    /// The one of an index's platforms that is shown in full.
    child: Option<&'v Subject>,
    belongings: Vec<Belonging>,
}

impl View<'_> {
    fn page(&self, visit: &Visit<'_>) -> Response<Body> {
        let shown = match self.reference {
            Reference::Tag(tag) => tag.to_string(),
            Reference::Digest(digest) => frame::short(digest),
        };
        let title = format!("{}:{shown}", self.name);
        frame::show(visit, Section::Repositories, &title, |html| {
            repository::crumbs(html, &[self.name]);
            html.element("h1", &[class("mono")], |html| {
                html.line("span", &[class("space")], self.name);
                html.void("wbr", &[]);
                html.line(
                    "span",
                    &[class("space")],
                    if matches!(self.reference, Reference::Tag(_)) { ":" } else { "@" },
                );
                html.line("b", &[], &shown);
                let statements: BTreeSet<_> = self.belongings.iter().map(|one| one.statement).collect();
                repository::badges(html, &statements);
            });
            self.facts(html, visit);
            self.pull(html, visit);
            if self.subject.is_index() {
                self.platforms(html, visit);
            }
            let whole = self.child.unwrap_or(self.subject);
            self.contents(html, whole);
            settings::annotations(html, self.subject.document());
            belongings::show(html, visit, self.name, &self.belongings);
        })
    }

    fn facts(&self, html: &mut Html, visit: &Visit<'_>) {
        let details = &self.subject.details;
        let summary = &details.summary;
        html.element("dl", &[class("facts")], |html| {
            let mut fact = |title: &str, inside: &dyn Fn(&mut Html)| {
                html.element("div", &[], |html| {
                    html.line("dt", &[], title);
                    html.element("dd", &[], |html| inside(html));
                });
            };
            fact("Size", &|html| html.text(figures::bytes(summary.bytes)));
            if let Config::Image(config) = &self.subject.config
                && let Some(platform) = &config.platform
            {
                fact("Platform", &|html| html.foreign(&platform.to_string(), 60));
            }
            if let Some(artifact) = self.subject.document().and_then(Document::artifact) {
                fact("Kind", &|html| html.foreign(&artifact, 100));
            }
            fact("Format", &|html| html.text(kinds::manifest(&summary.media_type)));
            let config = self.child.map_or(&self.subject.config, |child| &child.config);
            if let Config::Image(config) = config
                && let Some(built) = config.created.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok())
                // Builds that can be repeated say that they were made at the beginning of time.
                && built.as_second() > 0
            {
                fact("Built", &|html| frame::time(html, built.as_second(), visit.now));
            }
            fact("Pushed", &|html| frame::time(html, summary.pushed_at, visit.now));
            fact("Last pull", &|html| frame::time_or(html, summary.pulled_at, visit.now, "never"));
        });
        html.element("dl", &[class("rows")], |html| {
            html.line("dt", &[], "Digest");
            html.element("dd", &[], |html| frame::copyable(html, summary.digest));
            if let Some(subject) = details.subject {
                html.line("dt", &[], "Says something of");
                html.element("dd", &[], |html| {
                    let to = Page::image(self.name, subject).href();
                    html.line("a", &[class("digest"), href(&to)], subject);
                });
            }
            let others: Vec<&String> =
                details.tags.iter().filter(|tag| **tag != self.reference.to_string()).collect();
            if !others.is_empty() {
                html.line("dt", &[], "Also tagged");
                html.element("dd", &[class("also")], |html| {
                    for tag in others {
                        let Ok(reference) = tag.parse::<Reference>() else { continue };
                        let to = Page::Image(self.name.clone(), reference).href();
                        html.line("a", &[class("tag"), href(&to)], tag);
                        html.text(" ");
                    }
                });
            }
        });
    }

    fn pull(&self, html: &mut Html, visit: &Visit<'_>) {
        let by_digest = Reference::Digest(self.subject.details.summary.digest);
        let mut references = vec![self.reference.clone()];
        if *self.reference != by_digest {
            references.push(by_digest);
        }
        html.element("section", &[attribute("aria-label", "Pull")], |html| {
            let what = self.subject.document().map_or(Pulled::Image, Document::pulled);
            frame::pull_commands(html, visit, self.name, &references, what);
        });
    }

    fn platforms(&self, html: &mut Html, visit: &Visit<'_>) {
        let Some(document) = self.subject.document() else { return };
        let shown = self.child.map(|child| child.details.summary.digest);
        let summaries = &self.subject.details.children;
        html.element("section", &[], |html| {
            html.line("h2", &[], "Platforms");
            html.element("table", &[class("list platforms")], |html| {
                html.element("thead", &[], |html| {
                    html.element("tr", &[], |html| {
                        html.line("th", &[attribute("scope", "col")], "Platform");
                        html.line("th", &[attribute("scope", "col")], "Digest");
                        html.line("th", &[attribute("scope", "col"), class("number")], "Size");
                        html.line("th", &[attribute("scope", "col"), class("when spare")], "Last pull");
                    });
                });
                html.element("tbody", &[], |html| {
                    for child in document.platforms().into_iter().take(ROWS_MAX) {
                        let summary = summaries.iter().find(|summary| Some(summary.digest) == child.digest);
                        self.platform(html, visit, child, summary, shown);
                    }
                });
            });
        });
    }

    fn platform(
        &self,
        html: &mut Html,
        visit: &Visit<'_>,
        child: &Descriptor,
        summary: Option<&ManifestSummary>,
        shown: Option<Digest>,
    ) {
        let name = child.platform.as_ref().map_or_else(|| "unknown".to_owned(), ToString::to_string);
        let current = shown.is_some() && child.digest == shown;
        let row = if current { vec![class("current")] } else { Vec::new() };
        html.element("tr", &row, |html| {
            html.element("th", &[attribute("scope", "row")], |html| match summary {
                Some(summary) => {
                    let to = self.with_platform(&name, summary.digest);
                    let mut link = vec![class("name"), href(&to)];
                    link.extend(current.then(|| attribute("aria-current", "true")));
                    html.element("a", &link, |html| html.foreign(&name, 60));
                }
                None => html.foreign(&name, 60),
            });
            html.element("td", &[], |html| {
                if let Some(digest) = child.digest {
                    let to = Page::image(self.name, digest).href();
                    html.line("a", &[class("digest"), href(&to)], frame::short(&digest));
                }
            });
            html.element("td", &[class("number")], |html| match summary {
                Some(summary) => html.text(figures::bytes(summary.bytes)),
                None => html.line("span", &[class("muted")], "not here"),
            });
            html.element("td", &[class("when spare")], |html| {
                let pulled = summary.and_then(|summary| summary.pulled_at);
                frame::time_or(html, pulled, visit.now, "never");
            });
        });
    }

    /// This page, with another platform in full: by its name where that is enough.
    fn with_platform(&self, name: &str, digest: Digest) -> Href {
        let page = Page::Image(self.name.clone(), self.reference.clone()).href();
        let document = self.subject.document();
        let called = |child: &&Descriptor| {
            child.platform.as_ref().is_some_and(|platform| platform.to_string() == name)
        };
        let alike = document.map_or(0, |document| document.platforms().into_iter().filter(called).count());
        if alike == 1 && name.len() < 64 {
            page.with("platform", name)
        } else {
            page.with("platform", &digest.to_string())
        }
    }

    /// Layers and configuration of an image, or what else there is.
    fn contents(&self, html: &mut Html, whole: &Subject) {
        let Some(document) = whole.document() else {
            return html.line(
                "p",
                &[class("empty")],
                "This manifest is too long to be shown, or nothing that this page understands.",
            );
        };
        let config = match &whole.config {
            Config::Image(config) => Some(&**config),
            _ => None,
        };
        let of = match (self.child, config.and_then(|config| config.platform.as_ref())) {
            (Some(_), Some(platform)) => Some(platform.to_string()),
            _ => None,
        };
        layers::show(html, self.name, document, &whole.details, config, of.as_deref());
        match &whole.config {
            Config::None => {}
            Config::Image(config) => settings::show(html, config),
            Config::Foreign(media_type, text) => settings::foreign(html, media_type, text.as_deref()),
            Config::Unreadable(why) => html.element("section", &[], |html| {
                html.line("h2", &[], "Configuration");
                html.element("p", &[class("wrong")], |html| match why {
                    Unreadable::Missing => html.text("The configuration is not in this repository."),
                    Unreadable::TooLong(bytes) => {
                        let bytes = figures::bytes(*bytes);
                        html.text(format_args!("The configuration has {bytes}, which is too much to show."));
                    }
                    Unreadable::Damaged => {
                        html.text("The configuration is damaged: what lies in the storage is not what its digest says.");
                    }
                });
            }),
            Config::Odd => html.element("section", &[], |html| {
                html.line("h2", &[], "Configuration");
                html.line("p", &[class("wrong")], "The configuration says that it is an image's, and is no JSON object.");
            }),
        }
    }
}

/// Rows of one list on this page; what is beyond is counted.
const ROWS_MAX: usize = 100;
