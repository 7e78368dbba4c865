//! Searching: by Docker's `/v1/search`, which its hub and some other registries have; of the others the list of all repositories is
//! gone through.

use hyper::{Method, StatusCode};
use serde::Deserialize;

use super::origin::{Origin, form};
use super::refusal::{Object, Purpose};
use super::repository::{json, next_page};
use super::visit::{Ask, Endpoint, Target};
use crate::{Action, Client, Credentials, Error, RegistryAddress, Result};

/// Docker's hub is searched at another host than it is pulled from.
const HUB_SEARCH: &str = "https://index.docker.io/v1/search";
const CATALOGUE_PAGES_MAX: usize = 100;

/// A repository that fits a search.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Found {
    pub name: String,
    pub description: String,
    pub star_count: u64,
    pub is_official: bool,
    pub is_automated: bool,
}

#[derive(Deserialize)]
struct Results {
    #[serde(default)]
    results: Vec<Found>,
}

#[derive(Deserialize)]
struct Catalogue {
    repositories: Option<Vec<String>>,
}

impl Client {
    /// Repositories of a registry that fit a term, `limit` at most; named as they are pulled.
    pub async fn search(
        &self,
        registry: &RegistryAddress,
        term: &str,
        limit: usize,
        credentials: Option<Credentials>,
    ) -> Result<Vec<Found>> {
        let endpoint = Endpoint::of_registry(registry, credentials);
        let target = self.search_target(&endpoint, term, limit).await?;
        let ask = Ask::new(Method::GET, target, Vec::new(), purpose(registry));
        let answer = self.shared.ask(&endpoint, ask).await?;
        let mut found = match answer.status {
            StatusCode::OK => json::<Results>(answer).await?.results,
            // It doesn't know version 1 of the protocol.
            status if !registry.is_hub() && is_unknown(status) => {
                answer.dismiss().await;
                self.search_catalogue(&endpoint, term, limit).await?
            }
            _ => return Err(purpose(registry).refused(answer).await),
        };
        found.truncate(limit);
        if !registry.is_hub() {
            let host = format!("{registry}/");
            for one in found.iter_mut().filter(|one| !one.name.starts_with(&host)) {
                one.name.insert_str(0, &host);
            }
        }
        Ok(found)
    }

    async fn search_target(&self, endpoint: &Endpoint, term: &str, limit: usize) -> Result<Target> {
        let query = form(&[("q", term), ("n", &limit.to_string())]);
        let home = if endpoint.registry.is_hub() {
            HUB_SEARCH.to_owned()
        } else {
            let channel = self.shared.transport.channel(&endpoint.registry).await?;
            format!("{}/v1/search", Origin::of_registry(&endpoint.registry, channel))
        };
        let odd = |_| Error::Protocol { url: home.clone(), why: "it is no URL".to_owned() };
        Ok(Target::Url(format!("{home}?{query}").parse().map_err(odd)?))
    }

    /// Goes through all repositories, page by page, for names that contain the term.
    async fn search_catalogue(&self, endpoint: &Endpoint, term: &str, limit: usize) -> Result<Vec<Found>> {
        let term = term.to_lowercase();
        let mut target = Target::Path("_catalog?n=1000".to_owned());
        let mut found = Vec::new();
        for _ in 0..CATALOGUE_PAGES_MAX {
            let scopes = vec!["registry:catalog:*".to_owned()];
            let ask = Ask::new(Method::GET, target, scopes, purpose(&endpoint.registry));
            let answer = self.shared.ask(endpoint, ask).await?;
            if answer.status != StatusCode::OK {
                return Err(purpose(&endpoint.registry).refused(answer).await);
            }
            let (next, url) = (next_page(&answer)?, answer.url.clone());
            let names = json::<Catalogue>(answer).await?.repositories.unwrap_or_default();
            let is_empty = names.is_empty();
            let fitting = names.into_iter().filter(|name| name.contains(&term));
            found.extend(fitting.map(|name| Found { name, ..Found::default() }));
            match next {
                Some(next) if !is_empty && next != url && found.len() < limit => target = Target::Url(next),
                _ => break,
            }
        }
        Ok(found)
    }
}

fn is_unknown(status: StatusCode) -> bool {
    (status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS)
        || status == StatusCode::NOT_IMPLEMENTED
}

fn purpose(registry: &RegistryAddress) -> Purpose {
    Purpose {
        method: "GET",
        action: Action::List,
        repository: registry.to_string(),
        object: Object::Repository,
    }
}
