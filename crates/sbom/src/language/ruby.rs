//! Ruby's gems: specifications as `gem install` writes them, and lock files of Bundler.

use crate::package::{Draft, Origin};
use crate::{bounded, draft};

/// A specification is a program; the lines that assign texts are read.
pub fn installed(text: &str) -> Vec<Draft> {
    let value = |key: &str| {
        let line = text.lines().find_map(|line| {
            let (name, value) = line.trim().strip_prefix("s.")?.split_once('=')?;
            (name.trim() == key).then(|| value.trim())
        })?;
        let quote = line.find(['"', '\''])?;
        let rest = &line[quote + 1..];
        Some(rest[..rest.find(['"', '\''])?].to_owned())
    };
    let known = || {
        let (name, version) = (value("name")?, value("version")?);
        let (licence, supplier) = (value("licenses"), value("authors"));
        let texts = (licence.unwrap_or_default(), supplier.unwrap_or_default());
        Some(Draft { licence: texts.0, supplier: texts.1, ..draft(Origin::Gem, &name, &version)? })
    };
    known().into_iter().collect()
}

/// Below `specs:` the gems are those that are four columns in; what they need themselves is six in.
pub fn locked(text: &str) -> Vec<Draft> {
    let gem = |line: &str| {
        let line = line.strip_prefix("    ").filter(|line| !line.starts_with(' '))?;
        let (name, version) = line.split_once(" (")?;
        draft(Origin::Gem, name, version.strip_suffix(')')?)
    };
    bounded(text.lines().filter_map(gem))
}
