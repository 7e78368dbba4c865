//! Programs that say what they are made of.

use super::{cargo, elf, go};
use crate::Source;
use crate::package::Draft;

const GO: &str = ".go.buildinfo";
const CARGO: &str = ".dep-v0";

pub fn packages(source: &mut dyn Source) -> Result<Vec<Draft>, String> {
    let sections = elf::sections(source, &[GO, CARGO]).map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    for (name, section) in sections {
        found.extend(if name == GO { go::packages(&section)? } else { cargo::audited(&section)? });
    }
    Ok(found)
}
