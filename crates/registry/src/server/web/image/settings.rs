//! How an image is to run, labels and annotations, and configurations of what is no image.

use std::collections::BTreeMap;

use super::ROWS_MAX;
use crate::server::web::address::Href;
use crate::server::web::document::{Document, ImageConfig};
use crate::server::web::figures;
use crate::server::web::html::{Html, attribute, class, href};

/// Characters of one value.
const VALUE_MAX: usize = 600;
/// Of a configuration that we don't understand.
const FOREIGN_MAX: usize = 6000;

pub fn show(html: &mut Html, config: &ImageConfig) {
    html.element("section", &[], |html| {
        html.line("h2", &[], "Configuration");
        html.element("dl", &[class("rows")], |html| {
            words(html, "Entrypoint", &config.entrypoint);
            words(html, "Command", &config.command);
            one(html, "Working directory", config.directory.as_deref());
            one(html, "User", Some(config.user.as_deref().unwrap_or("root")));
            lines(html, "Ports", &config.ports);
            lines(html, "Volumes", &config.volumes);
            lines(html, "Environment", &config.environment);
            words(html, "Health check", &config.health);
            words(html, "Shell", &config.shell);
            one(html, "Stop signal", config.stop_signal.as_deref());
            one(html, "Author", config.author.as_deref());
        });
    });
    if !config.labels.is_empty() {
        html.element("section", &[], |html| {
            html.line("h2", &[], "Labels");
            pairs(html, &config.labels);
        });
    }
}

pub fn annotations(html: &mut Html, document: Option<&Document>) {
    let Some(document) = document.filter(|document| !document.annotations.is_empty()) else { return };
    html.element("section", &[], |html| {
        html.line("h2", &[], "Annotations");
        pairs(html, &document.annotations);
    });
}

/// What an artifact says of itself, as it stands there.
pub fn foreign(html: &mut Html, media_type: &str, text: Option<&str>) {
    html.element("section", &[], |html| {
        html.line("h2", &[], "Configuration");
        html.element("p", &[class("muted small")], |html| html.foreign(media_type, 200));
        match text.map(pretty) {
            Some(text) => html.element("pre", &[class("block")], |html| {
                html.element("code", &[], |html| html.foreign_lines(&text, FOREIGN_MAX));
            }),
            None => html.line("p", &[class("muted")], "It is no text."),
        }
    });
}

/// JSON with its lines broken; anything else as it is.
fn pretty(text: &str) -> String {
    let parsed: Option<serde_json::Value> = serde_json::from_str(text).ok();
    parsed.and_then(|value| serde_json::to_string_pretty(&value).ok()).unwrap_or_else(|| text.to_owned())
}

fn one(html: &mut Html, title: &str, value: Option<&str>) {
    if let Some(value) = value {
        html.line("dt", &[], title);
        html.element("dd", &[], |html| {
            html.element("code", &[], |html| html.foreign(value, VALUE_MAX));
        });
    }
}

/// The words of a command, told apart as in JSON.
fn words(html: &mut Html, title: &str, words: &[String]) {
    if !words.is_empty() {
        let text = serde_json::to_string(&words[..words.len().min(ROWS_MAX)]).unwrap_or_default();
        // Commas as people set them.
        one(html, title, Some(&text.replace("\",\"", "\", \"")));
    }
}

fn lines(html: &mut Html, title: &str, values: &[String]) {
    if values.is_empty() {
        return;
    }
    html.line("dt", &[], title);
    html.element("dd", &[], |html| {
        for value in values.iter().take(ROWS_MAX) {
            html.element("div", &[], |html| {
                html.element("code", &[], |html| html.foreign(value, VALUE_MAX));
            });
        }
        more(html, values.len());
    });
}

fn pairs(html: &mut Html, pairs: &BTreeMap<String, String>) {
    html.element("dl", &[class("rows")], |html| {
        for (key, value) in pairs.iter().take(ROWS_MAX) {
            html.element("dt", &[], |html| {
                html.element("code", &[], |html| html.foreign(key, 200));
            });
            html.element("dd", &[], |html| match Href::outside(value) {
                Some(to) => {
                    html.element(
                        "a",
                        &[href(&to), attribute("rel", "noopener noreferrer nofollow")],
                        |html| {
                            html.foreign(value, VALUE_MAX);
                        },
                    );
                }
                None => html.foreign(value, VALUE_MAX),
            });
        }
    });
    more(html, pairs.len());
}

fn more(html: &mut Html, count: usize) {
    if count > ROWS_MAX {
        let more = figures::count((count - ROWS_MAX) as u64);
        html.line("p", &[class("muted small")], format_args!("And {more} more."));
    }
}
