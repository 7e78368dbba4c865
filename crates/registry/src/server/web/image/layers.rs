//! An image's layers: how each came to be, its size, its part of the whole. Of an artifact, its files.

use super::ROWS_MAX;
use crate::server::catalogue::ManifestDetails;
use crate::server::name::RepositoryName;
use crate::server::web::document::{Descriptor, Document, ImageConfig, Step};
use crate::server::web::html::{Html, attribute, class};
use crate::server::web::{figures, frame, kinds};

/// Characters of a step that are shown at once.
const STEP_SHORT: usize = 180;
/// And all that are shown of it.
const STEP_LONG: usize = 4000;

/// A line of the list: a layer, a step of the build, or a layer with the step that made it.
struct Line<'a> {
    layer: Option<(&'a Descriptor, u64)>,
    step: Option<&'a Step>,
}

pub fn show(
    html: &mut Html,
    _repository: &RepositoryName,
    document: &Document,
    details: &ManifestDetails,
    config: Option<&ImageConfig>,
    platform: Option<&str>,
) {
    if document.layers.is_empty() && config.is_none_or(|config| config.history.is_empty()) {
        return;
    }
    let size = |layer: &Descriptor| {
        let known = layer.digest.and_then(|digest| details.blobs.get(&digest).copied());
        // What is had from elsewhere is only known by what the manifest says.
        known.unwrap_or(layer.size)
    };
    let total = document.layers.iter().fold(0_u64, |total, layer| total.saturating_add(size(layer)));
    let lines = lines(document, config, size);
    let is_image = config.is_some() || document.artifact().is_none();
    html.element("section", &[], |html| {
        html.element("div", &[class("title")], |html| {
            html.line("h2", &[], if is_image { "Layers" } else { "Files" });
            html.element("p", &[class("muted")], |html| {
                html.text(match is_image {
                    true => figures::several(document.layers.len() as u64, "layer", "layers"),
                    false => figures::several(document.layers.len() as u64, "file", "files"),
                });
                html.text(format_args!(", {}", figures::bytes(total)));
                if let Some(platform) = platform {
                    html.text(", ");
                    html.foreign(platform, 60);
                }
            });
        });
        html.element("ol", &[class("layers")], |html| {
            for line in lines.iter().take(ROWS_MAX) {
                row(html, line, total, is_image);
            }
        });
        if lines.len() > ROWS_MAX {
            html.line("p", &[class("muted small")], format_args!("And {} more.", lines.len() - ROWS_MAX));
        }
    });
}

/// Layers and steps in their order, as far as they fit together.
fn lines<'a>(
    document: &'a Document,
    config: Option<&'a ImageConfig>,
    size: impl Fn(&Descriptor) -> u64,
) -> Vec<Line<'a>> {
    let layers = &document.layers;
    let history = config.map(|config| config.history.as_slice()).unwrap_or_default();
    let fits = config.is_some_and(|config| config.steps_of_layers(layers.len()).is_some());
    let mut next = layers.iter().map(|layer| (layer, size(layer)));
    if fits {
        let line =
            |step: &'a Step| Line { layer: if step.is_empty { None } else { next.next() }, step: Some(step) };
        return history.iter().map(line).collect();
    }
    let steps: Vec<Line<'a>> = history.iter().map(|step| Line { layer: None, step: Some(step) }).collect();
    next.map(|layer| Line { layer: Some(layer), step: None }).chain(steps).collect()
}

fn row(html: &mut Html, line: &Line<'_>, total: u64, is_image: bool) {
    let kind = if line.layer.is_some() { "layer" } else { "step" };
    html.element("li", &[class(kind)], |html| {
        html.element("div", &[class("what")], |html| {
            match (line.step, line.layer) {
                (Some(step), _) if !step.command.is_empty() => command(html, &step.command),
                (Some(Step { comment: Some(comment), .. }), _) => html.foreign(comment, 200),
                (_, Some((layer, _))) => file(html, layer, is_image),
                _ => html.line("span", &[class("muted")], "a step that says nothing"),
            }
            if let Some((layer, _)) = line.layer {
                html.element("div", &[class("meta")], |html| {
                    if let Some(digest) = layer.digest {
                        html.line(
                            "span",
                            &[class("digest"), attribute("title", digest.to_string())],
                            frame::short(&digest),
                        );
                    }
                    html.text(" ");
                    html.text(kinds::layer(&layer.media_type));
                });
            }
        });
        if let Some((_, bytes)) = line.layer {
            html.element("div", &[class("amount")], |html| {
                html.line("span", &[class("number")], figures::bytes(bytes));
                html.line("span", &[class("percent")], figures::percent(bytes, total));
                frame::share(html, bytes, total);
            });
        }
    });
}

fn command(html: &mut Html, text: &str) {
    if text.chars().count() <= STEP_SHORT {
        return html.element("code", &[], |html| html.foreign(text, STEP_SHORT));
    }
    let short: String = text.chars().take(STEP_SHORT - 20).collect();
    html.element("details", &[], |html| {
        html.element("summary", &[], |html| {
            html.element("code", &[], |html| {
                html.foreign(&short, STEP_SHORT);
                html.text("…");
            });
        });
        html.element("pre", &[], |html| {
            html.element("code", &[], |html| html.foreign_lines(text, STEP_LONG));
        });
    });
}

/// A layer without a step: the name of its file, if it has one.
fn file(html: &mut Html, layer: &Descriptor, is_image: bool) {
    match layer.annotations.get("org.opencontainers.image.title") {
        Some(title) => html.element("code", &[], |html| html.foreign(title, 200)),
        None if is_image => html.line("span", &[class("muted")], "layer"),
        None => html.element("span", &[class("muted")], |html| html.foreign(&layer.media_type, 120)),
    }
}
