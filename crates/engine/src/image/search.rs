//! Searching registries for repositories.

use corten_api::Filters;
use corten_api::auth::AuthConfig;
use corten_api::image::SearchResult;
use corten_registry::RegistryAddress;

use crate::registry::credentials;
use crate::{Engine, Error, Result};

/// Docker's.
const LIMIT: i64 = 25;
const LIMIT_MAX: i64 = 100;

impl Engine {
    /// Repositories that fit a term: of the registry that it begins with, else of Docker's hub.
    pub async fn image_search(
        &self,
        term: &str,
        limit: Option<i64>,
        filters: &Filters,
        auth: AuthConfig,
    ) -> Result<Vec<SearchResult>> {
        filters
            .validate(&["is-automated", "is-official", "stars"])
            .map_err(|e| Error::invalid(e.to_string()))?;
        let limit = limit.unwrap_or(LIMIT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(Error::invalid(format!("limit {limit} is outside the range of [1, {LIMIT_MAX}]")));
        }
        if term.contains("://") {
            let message =
                format!("invalid repository name: repository name ({term}) should not have a scheme");
            return Err(Error::invalid(message));
        }
        let (host, term) = match term.split_once('/') {
            Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest),
            _ => ("", term),
        };
        let registry = RegistryAddress::parse(host)?;
        let term = if registry.is_hub() { term.strip_prefix("library/").unwrap_or(term) } else { term };
        let wanted = |name: &str| filters.boolean(name).map_err(|e| Error::invalid(e.to_string()));
        let (is_official, is_automated) = (wanted("is-official")?, wanted("is-automated")?);
        let mut stars = 0;
        for text in filters.get("stars") {
            let least: u64 =
                text.parse().map_err(|_| Error::invalid(format!("invalid filter 'stars={text}'")))?;
            stars = stars.max(least);
        }
        let limit = usize::try_from(limit).unwrap_or_default();
        let found = self.registries.search(&registry, term, limit, credentials(auth)).await?;
        let fits = |one: &corten_registry::Found| {
            is_official.is_none_or(|is| one.is_official == is)
                && is_automated.is_none_or(|is| one.is_automated == is)
                && one.star_count >= stars
        };
        let result = |one: corten_registry::Found| SearchResult {
            name: one.name,
            description: one.description,
            star_count: one.star_count,
            is_official: one.is_official,
            is_automated: one.is_automated,
        };
        Ok(found.into_iter().filter(fits).map(result).collect())
    }
}
