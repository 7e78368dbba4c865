//! What belongs to an image: signatures, SBOMs, attestations and other artifacts; found as its referrers, by cosign's tags, or as BuildKit
//! lists them in the index.

use std::collections::BTreeMap;

use super::{ROWS_MAX, Subject};
use crate::server::catalogue::ReferrerSummary;
use crate::server::digest::Digest;
use crate::server::name::RepositoryName;
use crate::server::web::address::Page;
use crate::server::web::document::Document;
use crate::server::web::html::{Html, attribute, class, href};
use crate::server::web::kinds::{self, Statement};
use crate::server::web::{Failure, Visit, figures, frame};

pub struct Belonging {
    pub statement: Statement,
    /// What exactly: an artifact's type, or what a statement is about.
    kind: String,
    digest: Digest,
    bytes: Option<u64>,
    pushed_at: Option<i64>,
}

/// All that belongs to a manifest and, of an index, to the platform that is shown in full.
pub async fn of(
    visit: &Visit<'_>,
    name: &RepositoryName,
    subject: &Subject,
    child: Option<&Subject>,
) -> Result<Vec<Belonging>, Failure> {
    let mut found = Vec::new();
    for manifest in [Some(subject), child].into_iter().flatten() {
        found.extend(manifest.details.summary.referrers.iter().map(referrer));
        found.extend(manifest.details.summary.companions.iter().map(|(tag, digest)| Belonging {
            statement: Statement::of_companion(tag),
            kind: "by cosign's tag".to_owned(),
            digest: *digest,
            bytes: None,
            pushed_at: None,
        }));
    }
    let shown = child.map(|child| child.details.summary.digest);
    let listed = subject.document().into_iter().flat_map(|document| &document.manifests);
    let attestations = listed
        .filter(|child| child.is_attestation() && child.about().is_some_and(|about| Some(about) == shown));
    for digest in attestations.filter_map(|child| child.digest).take(ROWS_MAX) {
        found.extend(attestation(visit, name, digest).await?);
    }
    found.sort_by(|a, b| (a.statement, &a.kind, a.digest).cmp(&(b.statement, &b.kind, b.digest)));
    Ok(found)
}

fn referrer(referrer: &ReferrerSummary) -> Belonging {
    let kind = kinds::predicate(&referrer.annotations).or(referrer.artifact_type.as_deref());
    Belonging {
        statement: Statement::of(referrer.artifact_type.as_deref(), &referrer.annotations),
        kind: kind.unwrap_or("of no type").to_owned(),
        digest: referrer.digest,
        bytes: Some(referrer.bytes),
        pushed_at: Some(referrer.pushed_at),
    }
}

/// What BuildKit has listed beside an image: a statement in each layer.
async fn attestation(
    visit: &Visit<'_>,
    name: &RepositoryName,
    digest: Digest,
) -> Result<Vec<Belonging>, Failure> {
    let Some(details) = visit.registry.catalogue.browse_manifest(name.to_string(), digest).await? else {
        return Ok(Vec::new());
    };
    let layers = Document::parse(&details.summary.text).map(|document| document.layers).unwrap_or_default();
    let pushed_at = Some(details.summary.pushed_at);
    let statements = layers.iter().take(ROWS_MAX).map(|layer| {
        let predicate = layer.annotations.get("in-toto.io/predicate-type");
        Belonging {
            statement: predicate
                .map_or(Statement::Attestation, |predicate| Statement::of_predicate(predicate)),
            kind: predicate.unwrap_or(&layer.media_type).clone(),
            digest,
            bytes: layer.digest.and_then(|digest| details.blobs.get(&digest).copied()),
            pushed_at,
        }
    });
    Ok(statements.collect())
}

pub fn show(html: &mut Html, visit: &Visit<'_>, name: &RepositoryName, belongings: &[Belonging]) {
    if belongings.is_empty() {
        return;
    }
    let mut counts: BTreeMap<Statement, u64> = BTreeMap::new();
    for one in belongings {
        *counts.entry(one.statement).or_default() += 1;
    }
    html.element("section", &[], |html| {
        html.line("h2", &[], "Signatures and attachments");
        html.element("table", &[class("list")], |html| {
            html.element("thead", &[], |html| {
                html.element("tr", &[], |html| {
                    html.line("th", &[attribute("scope", "col")], "Kind");
                    html.line("th", &[attribute("scope", "col"), class("spare")], "Type");
                    html.line("th", &[attribute("scope", "col")], "Digest");
                    html.line("th", &[attribute("scope", "col"), class("number")], "Size");
                    html.line("th", &[attribute("scope", "col"), class("when spare")], "Pushed");
                });
            });
            html.element("tbody", &[], |html| {
                for one in belongings.iter().take(ROWS_MAX) {
                    row(html, visit, name, one);
                }
            });
        });
        if belongings.len() > ROWS_MAX {
            html.line("p", &[class("muted small")], format_args!("And {} more.", belongings.len() - ROWS_MAX));
        }
        if counts.contains_key(&Statement::Signature) {
            html.line(
                "p",
                &[class("muted small")],
                "Signatures are listed, not verified: whose they must be is for those to say who run the image.",
            );
        }
    });
}

fn row(html: &mut Html, visit: &Visit<'_>, name: &RepositoryName, one: &Belonging) {
    html.element("tr", &[], |html| {
        html.line("th", &[attribute("scope", "row")], one.statement.name());
        html.element("td", &[class("type spare")], |html| html.foreign(&one.kind, 120));
        html.element("td", &[], |html| {
            let to = Page::image(name, one.digest).href();
            html.line("a", &[class("digest"), href(&to)], frame::short(&one.digest));
        });
        html.element("td", &[class("number")], |html| {
            if let Some(bytes) = one.bytes {
                html.text(figures::bytes(bytes));
            }
        });
        html.element("td", &[class("when spare")], |html| {
            if let Some(pushed) = one.pushed_at {
                frame::time(html, pushed, visit.now);
            }
        });
    });
}
