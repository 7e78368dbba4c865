//! Manifests: to be had, pushed and deleted, by tag or digest.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT, WARNING};
use hyper::{Response, StatusCode};
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;

use super::{Call, Reply, STALE, created, empty, identify, is_known, value};
use crate::client::Document;
use crate::server::body::Body;
use crate::server::cache::Found;
use crate::server::catalogue::{NewManifest, Pushed};
use crate::server::digest::{Algorithm, Digest};
use crate::server::gate::Arrival;
use crate::server::manifest::{self, Manifest, ManifestError};
use crate::server::name::{Reference, RepositoryName, Tag};
use crate::server::refusal::{Code, Refusal};
use crate::server::registry::Registry;
use crate::server::settings::Sparse;
use crate::server::webhooks::{Deed, Event, Notice, are_wanted, notices};

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");

/// How long a manifest may take to come.
const BODY: Duration = Duration::from_secs(60);
/// Bytes that are read, hashed and parsed as quickly as somebody could be found who waits for them.
const SMALL: u64 = 64 << 10;
/// A manifest's bytes, their digest, and what they say.
type Understood = (Vec<u8>, Digest, Result<Manifest, ManifestError>);

/// Tags that one push may set.
const TAGS_MAX: usize = 100;

pub async fn get(call: Call<'_>, repository: RepositoryName, reference: Reference) -> Reply {
    let registry = call.registry;
    let name = repository.to_string();
    let wanted = if call.is_head() { 0 } else { SMALL };
    let mut found = registry.catalogue.manifest(name.clone(), reference.clone(), wanted).await?;
    let mut stale = false;
    if let Some(source) = registry.cache.source(&repository)? {
        let cached = registry.cached_manifest(&source, &reference, found.as_ref()).await;
        match cached.map_err(|failure| failure.refusal(&source.upstream.name, || unknown(&reference)))? {
            Found::Fresh => {}
            Found::Stale => stale = true,
            Found::Kept => {
                found = registry.catalogue.manifest(name.clone(), reference.clone(), wanted).await?
            }
            Found::Passing(passing) => {
                let (digest, document) = (&passing.0, &passing.1);
                if !call.is_head() {
                    let size = document.bytes.len() as u64;
                    tell_of_pull(&call, &repository, &reference, digest, &document.media_type, size).await;
                }
                return pass(&call, digest, document);
            }
        }
    }
    let row = found.ok_or_else(|| unknown(&reference))?;
    if is_known(&call, &row.digest) {
        let mut response = empty(StatusCode::NOT_MODIFIED);
        identify(&mut response, &row.digest)?;
        return Ok(response);
    }
    if !call.is_head() {
        registry.pulls.note(row.id);
        let size = row.size;
        tell_of_pull(&call, &repository, &reference, &row.digest, &row.media_type, size).await;
    }
    let body = if call.is_head() {
        Body::empty()
    } else if row.size <= SMALL {
        Body::from(row.bytes)
    } else {
        let room = registry.manifest_room(row.size).await?;
        // As its digest names it: the tag may be another one's by now.
        let by_digest = Reference::Digest(row.digest);
        let found = registry.catalogue.manifest(name, by_digest, row.size).await?;
        Body::with_room(found.ok_or_else(|| unknown(&reference))?.bytes.into(), room)
    };
    let mut response = Response::new(body);
    identify(&mut response, &row.digest)?;
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(row.size));
    headers.insert(CONTENT_TYPE, value(row.media_type)?);
    if stale {
        headers.insert(WARNING, HeaderValue::from_static(STALE));
    }
    Ok(response)
}

/// Enters what webhooks are to be told of a pull. One that can't be told of goes on nevertheless: it changes nothing.
async fn tell_of_pull(
    call: &Call<'_>,
    repository: &RepositoryName,
    reference: &Reference,
    digest: &Digest,
    media_type: &str,
    size: u64,
) {
    let registry = call.registry;
    if !are_wanted(&registry.live().settings.webhooks, Event::Pull, repository.as_str()) {
        return;
    }
    let tags: Vec<String> = match reference {
        Reference::Tag(tag) => vec![tag.to_string()],
        Reference::Digest(_) => Vec::new(),
    };
    let pulled = Told {
        event: Event::Pull,
        repository,
        tags: &tags,
        digest: Some(*digest),
        media_type: Some(media_type),
        size: Some(size),
    };
    match registry.catalogue.tell(told(call, pulled)).await {
        Ok(()) => registry.wake_webhooks(),
        Err(error) => tracing::warn!(error = error.explain(), "note what a webhook is to be told of a pull"),
    }
}

/// A manifest of an upstream that there was no room for.
fn pass(call: &Call<'_>, digest: &Digest, document: &Document) -> Reply {
    let body = if call.is_head() { Body::empty() } else { Body::from(document.bytes.clone()) };
    let mut response = Response::new(body);
    identify(&mut response, digest)?;
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(document.bytes.len()));
    headers.insert(CONTENT_TYPE, value(&document.media_type)?);
    Ok(response)
}

pub async fn put(call: Call<'_>, repository: RepositoryName, reference: Reference) -> Reply {
    let mut tags = Vec::new();
    for tag in call.query()?.all("tag") {
        tags.push(tag.parse::<Tag>()?.to_string());
    }
    if tags.len() > TAGS_MAX {
        let text = format!("more than {TAGS_MAX} tags at once");
        return Err(Refusal::new(StatusCode::URI_TOO_LONG, Code::Unsupported, text));
    }
    let accepted = tags.join(", ");
    if let Reference::Tag(tag) = &reference {
        tags.push(tag.to_string());
    }
    let (bytes, _room) = collect(call.registry, call.body).await?;
    let algorithm = match &reference {
        Reference::Digest(digest) => digest.algorithm(),
        Reference::Tag(_) => Algorithm::Sha256,
    };
    let sent = call.header(&CONTENT_TYPE).map(str::to_owned);
    let (bytes, digest, parsed) = understand(bytes, algorithm, sent).await?;
    if let Reference::Digest(wanted) = &reference
        && *wanted != digest
    {
        let text = "provided digest did not match uploaded content";
        let refusal = Refusal::new(StatusCode::BAD_REQUEST, Code::DigestInvalid, text);
        return Err(refusal.detail(json!({"digest": wanted.to_string(), "uploaded": digest.to_string()})));
    }
    let manifest = parsed
        .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, Code::ManifestInvalid, error.to_string()))?;
    let subject = manifest.subject;
    let sparse = call.registry.settings().sparse;
    let new = NewManifest {
        repository: repository.to_string(),
        digest,
        bytes,
        manifest,
        tags,
        blobs_may_miss: sparse == Sparse::All,
        manifests_may_miss: sparse != Sparse::Refuse,
    };
    let told = told(
        &call,
        Told {
            event: Event::Push,
            repository: &repository,
            tags: &new.tags,
            digest: Some(digest),
            media_type: Some(&new.manifest.media_type),
            size: Some(new.bytes.len() as u64),
        },
    );
    let pushed = call.registry.catalogue.add_manifest(new, told).await?;
    call.registry.wake_webhooks();
    if let Pushed::Missing(missing) = pushed {
        let text = "manifest references a manifest or blob unknown to registry";
        let mut refusal = Refusal::new(StatusCode::NOT_FOUND, Code::ManifestBlobUnknown, text);
        refusal.details = missing.into_iter().map(|digest| json!({"digest": digest})).collect();
        return Err(refusal);
    }
    let mut response = created(format!("/v2/{repository}/manifests/{digest}"), &digest)?;
    if let Some(subject) = subject {
        response.headers_mut().insert(OCI_SUBJECT, value(subject)?);
    }
    if !accepted.is_empty() {
        response.headers_mut().insert(OCI_TAG, value(accepted)?);
    }
    Ok(response)
}

pub async fn delete(call: Call<'_>, repository: RepositoryName, reference: Reference) -> Reply {
    let catalogue = &call.registry.catalogue;
    let gone = Told {
        event: Event::Delete,
        repository: &repository,
        tags: &[],
        digest: None,
        media_type: None,
        size: None,
    };
    let removed = match &reference {
        Reference::Tag(tag) => {
            let tags = [tag.to_string()];
            let told = told(&call, Told { tags: &tags, ..gone });
            catalogue.remove_tag(repository.to_string(), tag.to_string(), told).await?
        }
        Reference::Digest(digest) => {
            let told = told(&call, Told { digest: Some(*digest), ..gone });
            catalogue.remove_manifest(repository.to_string(), *digest, told).await?
        }
    };
    call.registry.wake_webhooks();
    if removed { Ok(empty(StatusCode::ACCEPTED)) } else { Err(unknown(&reference)) }
}

/// What is to be told of a request.
struct Told<'a> {
    event: Event,
    repository: &'a RepositoryName,
    tags: &'a [String],
    digest: Option<Digest>,
    media_type: Option<&'a str>,
    size: Option<u64>,
}

/// What webhooks are to be told of it, if there are any.
fn told(call: &Call<'_>, told: Told<'_>) -> Vec<Notice> {
    let live = call.registry.live();
    if live.settings.webhooks.is_empty() {
        return Vec::new();
    }
    let arrival = Arrival { peer: call.peer, parts: call.parts, request_id: call.request_id };
    let request = json!({
        "id": call.request_id,
        "addr": call.peer.address.to_string(),
        "host": call.header(&HOST).unwrap_or_default(),
        "method": call.parts.method.as_str(),
        "useragent": call.header(&USER_AGENT).unwrap_or_default(),
    });
    let deed = Deed {
        event: told.event,
        repository: told.repository.as_str(),
        tags: told.tags,
        digest: told.digest.map(|digest| digest.to_string()),
        media_type: told.media_type,
        size: told.size,
        base_url: live.gate.base_url(arrival),
        actor: call.caller.name(),
        request,
    };
    notices(&live.settings.webhooks, &deed)
}

fn unknown(reference: &Reference) -> Refusal {
    let refusal = Refusal::new(StatusCode::NOT_FOUND, Code::ManifestUnknown, "manifest unknown");
    refusal.detail(match reference {
        Reference::Tag(tag) => json!({"tag": tag.as_str()}),
        Reference::Digest(digest) => json!({"digest": digest.to_string()}),
    })
}

/// Hashes and parses, elsewhere if that takes a while.
async fn understand(
    bytes: Vec<u8>,
    algorithm: Algorithm,
    sent: Option<String>,
) -> Result<Understood, Refusal> {
    let small = bytes.len() as u64 <= SMALL;
    let work = move || {
        let parsed = Manifest::parse(&bytes, sent.as_deref());
        let digest = Digest::of(algorithm, &bytes);
        (bytes, digest, parsed)
    };
    if small { Ok(work()) } else { tokio::task::spawn_blocking(work).await.map_err(Refusal::internal) }
}

/// Takes a manifest in. It has the room that it needs as it comes, so that those who send little or nothing take little.
async fn collect(
    registry: &Registry,
    body: &mut Incoming,
) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), Refusal> {
    let bad = |status, text: String| Refusal::new(status, Code::ManifestInvalid, text);
    let collected = async {
        let mut bytes = Vec::new();
        let mut room: Option<OwnedSemaphorePermit> = None;
        while let Some(frame) = body.frame().await {
            let frame = frame
                .map_err(|error| bad(StatusCode::BAD_REQUEST, format!("the body broke off: {error}")))?;
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > manifest::SIZE_MAX {
                let text = format!("the manifest is larger than {} bytes", manifest::SIZE_MAX);
                return Err(bad(StatusCode::PAYLOAD_TOO_LARGE, text));
            }
            let more = registry.manifest_room(data.len() as u64).await?;
            match &mut room {
                Some(room) => room.merge(more),
                None => room = Some(more),
            }
            bytes.extend_from_slice(&data);
        }
        Ok((bytes, room))
    };
    match tokio::time::timeout(BODY, collected).await {
        Ok(collected) => collected,
        Err(_) => Err(bad(StatusCode::REQUEST_TIMEOUT, "the manifest takes too long to come".to_owned())),
    }
}
