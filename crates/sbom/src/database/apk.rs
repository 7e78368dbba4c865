//! apk's list of what is installed: a paragraph per package, of lines that begin with a letter each.

use crate::package::{Draft, Origin};
use crate::{bounded, draft};

pub fn packages(text: &str) -> Vec<Draft> {
    bounded(text.split("\n\n").filter_map(package))
}

fn package(paragraph: &str) -> Option<Draft> {
    let field = |name: &str| {
        paragraph
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .unwrap_or_default()
            .trim()
    };
    Some(Draft {
        architecture: crate::package::clean(field("A")),
        supplier: field("m").to_owned(),
        licence: field("L").to_owned(),
        ..draft(Origin::Apk, field("P"), field("V"))?
    })
}
