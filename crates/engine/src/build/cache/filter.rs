//! Docker's filters of the build cache: `until`, `unused-for`, `id`, `type`, `description`, `inuse`, `shared`, `private`.

use corten_api::filters::Filters;

use super::{CacheBounds, CachePrune};
use crate::container::until;
use crate::error::{Error, Result};

const KNOWN: [&str; 8] = ["until", "unused-for", "id", "type", "description", "inuse", "shared", "private"];

impl CachePrune {
    pub fn parse(filters: &Filters, all: bool, bounds: CacheBounds) -> Result<CachePrune> {
        filters.validate(&KNOWN).map_err(invalid)?;
        // Two names of one thing: when it was used last.
        let mut times = filters.clone();
        for age in filters.get("unused-for") {
            times.add("until", age);
        }
        let used_before = until(&times)?;
        let flag = |name: &str| filters.boolean(name).map_err(invalid);
        let (in_use, shared, private) = (flag("inuse")?, flag("shared")?, flag("private")?);
        let filters = filters.clone();
        let filter = Box::new(move |entry: &super::CacheEntry| {
            filters.any("id", |id| entry.id.starts_with(id))
                && filters.any("type", |kind| entry.kind.name() == kind)
                && filters.any("description", |text| entry.description == text)
                && in_use.is_none_or(|wanted| entry.is_in_use == wanted)
                && shared.is_none_or(|wanted| entry.is_shared == wanted)
                && private.is_none_or(|wanted| entry.is_shared != wanted)
        });
        Ok(CachePrune { all, used_before, bounds, filter })
    }
}

fn invalid(error: corten_api::filters::FilterError) -> Error {
    Error::invalid(error.to_string())
}
