//! dpkg's status file (deb-control(5)), and what distroless images have in its place: a paragraph per package.

use crate::package::{Draft, Origin};
use crate::{bounded, draft};

pub fn packages(text: &str) -> Vec<Draft> {
    bounded(text.split("\n\n").filter_map(package))
}

fn package(paragraph: &str) -> Option<Draft> {
    let field = |name: &str| {
        let line = paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().trim()
    };
    // Removed ones stay for the sake of their configuration.
    let status = field("Status");
    if !status.is_empty() && !status.ends_with(" installed") {
        return None;
    }
    Some(Draft {
        architecture: crate::package::clean(field("Architecture")),
        supplier: field("Maintainer").to_owned(),
        ..draft(Origin::Deb, field("Package"), field("Version"))?
    })
}
