//! Python's core metadata (packaging.python.org/specifications/core-metadata): headers as of a mail.

use crate::draft;
use crate::package::{Draft, Origin};

pub fn packages(text: &str) -> Vec<Draft> {
    let headers = || text.lines().take_while(|line| !line.trim().is_empty());
    let field = |name: &str| {
        let line = headers().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim).filter(|value| !value.is_empty() && *value != "UNKNOWN").unwrap_or_default()
    };
    let either = |one: &'static str, other: &'static str| match field(one) {
        "" => field(other).to_owned(),
        value => value.to_owned(),
    };
    let package = draft(Origin::Python, field("Name"), field("Version")).map(|package| Draft {
        supplier: either("Author", "Author-email"),
        licence: either("License-Expression", "License"),
        ..package
    });
    package.into_iter().collect()
}
