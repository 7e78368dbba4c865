//! Lists: repositories, tags, referrers; all in pages.

use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, LINK, WARNING};
use serde_json::{Map, Value, json};

use super::{Call, Reply, STALE, json as answer, value};
use crate::server::catalogue::ReferrersPage;
use crate::server::digest::Digest;
use crate::server::manifest::OCI_INDEX;
use crate::server::name::RepositoryName;
use crate::server::refusal::{Code, Refusal};
use crate::server::route::Query;

const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// Names in one answer, however many are asked for.
const PAGE_MAX: usize = 10_000;
/// Names that are looked at together.
const BATCH: usize = 256;
/// Of an answer about referrers, which is a manifest and so no longer than one.
const REFERRERS_BYTES_MAX: usize = 2 << 20;

/// Which part of a list is asked for.
struct Page {
    last: String,
    count: usize,
}

impl Page {
    fn of(query: &Query) -> Result<Page, Refusal> {
        let count = match query.get("n").map(str::parse::<usize>) {
            None => PAGE_MAX,
            Some(Ok(count)) => count.min(PAGE_MAX),
            Some(Err(_)) => {
                let text = "n is no number of results";
                return Err(Refusal::new(StatusCode::BAD_REQUEST, Code::Unsupported, text));
            }
        };
        Ok(Page { last: query.get("last").unwrap_or_default().to_owned(), count })
    }

    /// One more than asked for tells whether there are more.
    fn with_one_more(&self) -> usize {
        if self.count == 0 { 0 } else { self.count + 1 }
    }

    /// Takes the one more away, and says where to go on if there was one.
    fn cut(&self, path: &str, names: &mut Vec<String>) -> Option<String> {
        if names.len() <= self.count {
            return None;
        }
        names.truncate(self.count);
        names.last().map(|last| format!("<{path}?n={}&last={}>; rel=\"next\"", self.count, encode(last)))
    }
}

pub async fn repositories(call: Call<'_>) -> Reply {
    let page = Page::of(&call.query()?)?;
    let (wanted, mut last, mut names) = (page.with_one_more(), page.last.clone(), Vec::new());
    // Each is shown what they may read: what is left of a page is filled up from the next one.
    while names.len() < wanted {
        let batch = call.registry.catalogue.repositories(last, wanted.max(BATCH)).await?;
        let ended = batch.len() < wanted.max(BATCH);
        last = batch.last().cloned().unwrap_or_default();
        names.extend(batch.into_iter().filter(|name| call.caller.sees(name)));
        if ended {
            break;
        }
    }
    names.truncate(wanted);
    let next = page.cut("/v2/_catalog", &mut names);
    with_link(json!({"repositories": names}), next)
}

pub async fn tags(call: Call<'_>, repository: RepositoryName) -> Reply {
    let page = Page::of(&call.query()?)?;
    let mut stale = false;
    if let Some(source) = call.registry.cache.source(&repository)? {
        // What the upstream has said where to go on comes back as it was.
        let query = call.parts.uri.query().unwrap_or_default();
        let query: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("ns=")).collect();
        let listed = call.registry.upstream_tags(&source, &query.join("&")).await;
        let unknown = || unknown(&repository);
        match listed.map_err(|failure| failure.refusal(&source.upstream.name, unknown))? {
            Some((names, next)) => {
                let next = next.map(|query| format!("</v2/{repository}/tags/list?{query}>; rel=\"next\""));
                return with_link(json!({"name": repository.as_str(), "tags": names}), next);
            }
            None => stale = true,
        }
    }
    let listed =
        call.registry.catalogue.tags(repository.to_string(), page.last.clone(), page.with_one_more()).await?;
    let mut names = listed.ok_or_else(|| unknown(&repository))?;
    let next = page.cut(&format!("/v2/{repository}/tags/list"), &mut names);
    let mut response = with_link(json!({"name": repository.as_str(), "tags": names}), next)?;
    if stale {
        response.headers_mut().insert(WARNING, HeaderValue::from_static(STALE));
    }
    Ok(response)
}

fn unknown(repository: &RepositoryName) -> Refusal {
    let text = "repository name not known to registry";
    let refusal = Refusal::new(StatusCode::NOT_FOUND, Code::NameUnknown, text);
    refusal.detail(json!({"name": repository.as_str()}))
}

fn with_link(list: Value, next: Option<String>) -> Reply {
    let mut response = answer(list.to_string());
    if let Some(next) = next {
        response.headers_mut().insert(LINK, value(next)?);
    }
    Ok(response)
}

pub async fn referrers(call: Call<'_>, repository: RepositoryName, subject: Digest) -> Reply {
    let query = call.query()?;
    let artifact_type = query.get("artifactType").map(str::to_owned);
    let after = query.get("after").unwrap_or_default().to_owned();
    let name = repository.to_string();
    let mut stale = false;
    let mut page = None;
    if let Some(source) = call.registry.cache.source(&repository)? {
        let listed = call.registry.upstream_referrers(&source, subject, artifact_type.as_deref()).await;
        match listed.map_err(|failure| failure.refusal(&source.upstream.name, || unknown(&repository)))? {
            Some(list) => page = Some(ReferrersPage::of(list, &after, REFERRERS_BYTES_MAX)),
            None => stale = true,
        }
    }
    let page = match page {
        Some(page) => page,
        None => {
            let catalogue = &call.registry.catalogue;
            catalogue.referrers(name, subject, artifact_type.clone(), after, REFERRERS_BYTES_MAX).await?
        }
    };
    let manifests = page.referrers.into_iter().map(|referrer| {
        let mut descriptor = Map::new();
        descriptor.insert("mediaType".to_owned(), referrer.media_type.into());
        descriptor.insert("digest".to_owned(), referrer.digest.to_string().into());
        descriptor.insert("size".to_owned(), referrer.size.into());
        if let Some(artifact_type) = referrer.artifact_type {
            descriptor.insert("artifactType".to_owned(), artifact_type.into());
        }
        if !referrer.annotations.is_empty() {
            descriptor.insert("annotations".to_owned(), json!(referrer.annotations));
        }
        Value::Object(descriptor)
    });
    let manifests: Vec<Value> = manifests.collect();
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests});
    let filter = artifact_type.as_ref().map(|wanted| format!("artifactType={}&", encode(wanted)));
    let next = page.next.map(|after| {
        let filter = filter.as_deref().unwrap_or_default();
        format!("</v2/{repository}/referrers/{subject}?{filter}after={}>; rel=\"next\"", encode(&after))
    });
    let mut response = with_link(index, next)?;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(OCI_INDEX));
    if artifact_type.is_some() {
        headers.insert(OCI_FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    if stale {
        headers.insert(WARNING, HeaderValue::from_static(STALE));
    }
    Ok(response)
}

/// Percent-encodes what has a meaning in a query or in a `Link`.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(char::from(byte))
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages() {
        let page = |query| Page::of(&Query::parse(Some(query)).unwrap());
        let mut names: Vec<String> = ["a", "b", "c/d"].map(str::to_owned).into();
        let two = page("n=2&last=0").unwrap();
        assert_eq!((two.with_one_more(), two.last.as_str()), (3, "0"));
        assert_eq!(two.cut("/v2/x", &mut names).unwrap(), "</v2/x?n=2&last=b>; rel=\"next\"");
        assert_eq!(names, ["a", "b"]);
        assert_eq!(two.cut("/v2/x", &mut names), None);
        let none = page("n=0").unwrap();
        assert_eq!((none.with_one_more(), none.cut("/v2/x", &mut Vec::new())), (0, None));
        assert!(page("n=-1").is_err() && page("n=x").is_err());
        assert_eq!(page("n=999999999").unwrap().count, PAGE_MAX);
        assert_eq!(encode("a+b c>\u{e4}"), "a%2Bb%20c%3E%C3%A4");
    }
}
