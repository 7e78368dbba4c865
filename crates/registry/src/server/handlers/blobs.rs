//! Blobs: to be had whole or in part, looked for, and taken out of a repository.

use std::ops::Range;

use hyper::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, IF_RANGE,
    LOCATION, RANGE,
};
use hyper::{Response, StatusCode};
use serde_json::json;

use super::{Call, Reply, empty, identify, is_known, value};
use crate::server::body::Body;
use crate::server::cache::{Content, Failure, Source};
use crate::server::catalogue::{Unlinked, now};
use crate::server::digest::Digest;
use crate::server::name::RepositoryName;
use crate::server::refusal::{Code, Refusal};

pub async fn get(call: Call<'_>, repository: RepositoryName, digest: Digest) -> Reply {
    let registry = call.registry;
    if let Some(source) = registry.cache.source(&repository)? {
        return get_cached(call, source, digest).await;
    }
    let found = registry.catalogue.blob(repository.to_string(), digest).await?;
    let linked = found.ok_or_else(|| unknown(&digest))?;
    // Who hears that a blob is there doesn't push it, and pushes a manifest that needs it. So it has to stay for a while, and
    // whether it is there is asked in the order of all changes when it might just be going.
    let half = (registry.settings().undo.as_secs() / 2) as i64;
    if call.is_head() && linked.touched_at <= now() - half {
        match registry.catalogue.touch_blob(repository.to_string(), digest).await {
            Ok(true) => {}
            Ok(false) => return Err(unknown(&digest)),
            // It can be pulled nevertheless.
            Err(error) if error.is_no_space() => {}
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(answer) = elsewhere(&call, digest).await? {
        return Ok(answer);
    }
    answer(&call, digest, linked.size, async |range: Range<u64>| {
        let stored = registry.storage.read(digest, linked.size, range).await?;
        let stored = stored.ok_or_else(|| {
            Refusal::internal(format!("{digest}: the catalogue has this blob, the storage hasn't"))
        })?;
        Ok(Body::blob(stored))
    })
    .await
}

/// The same for a blob of an upstream.
async fn get_cached(call: Call<'_>, source: Source, digest: Digest) -> Reply {
    let (registry, upstream) = (call.registry, source.upstream.clone());
    let refused = |failure: Failure| failure.refusal(&upstream.name, || unknown(&digest));
    if call.is_head() || is_known(&call, &digest) {
        let size = registry.cached_blob_size(&source, digest).await.map_err(refused)?;
        return answer(&call, digest, size, async |_| Ok(Body::empty())).await;
    }
    match registry.cached_blob(&source, digest).await.map_err(refused)? {
        Content::Stored { size, reading } => {
            if let Some(answer) = elsewhere(&call, digest).await? {
                return Ok(answer);
            }
            answer(&call, digest, size, async |range: Range<u64>| {
                let stored = registry.storage.read(digest, size, range).await?;
                let stored = stored.ok_or_else(|| Refusal::internal(format!("{digest} has just gone")))?;
                Ok(Body::kept_blob(stored, reading))
            })
            .await
        }
        Content::Growing(blob) => {
            answer(&call, digest, blob.size(), async |range| Ok(Body::growing(blob.part(range)))).await
        }
        Content::Through(blob) => {
            answer(&call, digest, blob.size(), async |range| Ok(Body::passing(blob.part(range)))).await
        }
    }
}

/// What a client gets of a blob of that size. `open` is for what of it is sent.
async fn answer(
    call: &Call<'_>,
    digest: Digest,
    size: u64,
    open: impl AsyncFnOnce(Range<u64>) -> Result<Body, Refusal>,
) -> Reply {
    if is_known(call, &digest) {
        let mut response = empty(StatusCode::NOT_MODIFIED);
        identify(&mut response, &digest)?;
        return Ok(response);
    }
    let wanted = match (call.header(&RANGE), call.header(&IF_RANGE)) {
        // Ranges are for GET (RFC 9110, 14.2).
        _ if call.is_head() => Wanted::All,
        (Some(range), None) => Wanted::parse(range, size),
        (Some(range), Some(tag)) if tag.trim_matches('"') == digest.to_string() => Wanted::parse(range, size),
        _ => Wanted::All,
    };
    let (status, range) = match wanted {
        Wanted::All => (StatusCode::OK, 0..size),
        Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Wanted::Nothing => {
            let text = "the blob has no such range";
            let refusal = Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, Code::SizeInvalid, text);
            return Err(refusal.header(CONTENT_RANGE, value(format!("bytes */{size}"))?));
        }
    };
    let length = range.end - range.start;
    let body = if call.is_head() { Body::empty() } else { open(range.clone()).await? };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    identify(&mut response, &digest)?;
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // What a digest names never changes; who may have it may.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable"));
    if status == StatusCode::PARTIAL_CONTENT {
        let text = format!("bytes {}-{}/{}", range.start, range.end - 1, size);
        headers.insert(CONTENT_RANGE, value(text)?);
    }
    Ok(response)
}

/// Sends the client to where the bytes can be had, if it is to get them there. The address is good for a while, for who has it.
async fn elsewhere(call: &Call<'_>, digest: Digest) -> Result<Option<Response<Body>>, Refusal> {
    if call.is_head() || is_known(call, &digest) {
        return Ok(None);
    }
    let Some(link) = call.registry.storage.link(digest).await? else { return Ok(None) };
    let mut response = empty(StatusCode::TEMPORARY_REDIRECT);
    identify(&mut response, &digest)?;
    let headers = response.headers_mut();
    headers.insert(LOCATION, value(link)?);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(Some(response))
}

pub async fn delete(call: Call<'_>, repository: RepositoryName, digest: Digest) -> Reply {
    if call.registry.cache.is_upstreams(&repository) {
        let gone = call.registry.catalogue.forget_cached_blob(repository.to_string(), digest).await?;
        return if gone { Ok(empty(StatusCode::ACCEPTED)) } else { Err(unknown(&digest)) };
    }
    match call.registry.catalogue.unlink_blob(repository.to_string(), digest).await? {
        Unlinked::Done => Ok(empty(StatusCode::ACCEPTED)),
        Unlinked::Unknown => Err(unknown(&digest)),
        // The specification knows no status for this; 405 is what clients take for "not here".
        Unlinked::Needed(manifest) => {
            let text = "a manifest of the repository needs the blob: delete that one first";
            let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unsupported, text);
            Err(refusal.detail(json!({"digest": digest.to_string(), "manifest": manifest})))
        }
    }
}

pub fn unknown(digest: &Digest) -> Refusal {
    let refusal = Refusal::new(StatusCode::NOT_FOUND, Code::BlobUnknown, "blob unknown to registry");
    refusal.detail(json!({"digest": digest.to_string()}))
}

/// What a `Range` header asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    All,
    Part(Range<u64>),
    /// Something that isn't there.
    Nothing,
}

impl Wanted {
    /// One range of bytes. Several at once get the whole, as every server may answer.
    fn parse(header: &str, size: u64) -> Wanted {
        let Some(spec) = header.trim().strip_prefix("bytes=").filter(|spec| !spec.contains(',')) else {
            return Wanted::All;
        };
        let Some((first, last)) = spec.trim().split_once('-') else { return Wanted::All };
        let number =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok());
        let range = match (first, last) {
            ("", "") => return Wanted::All,
            ("", last) => match number(last).flatten() {
                Some(count) => size.saturating_sub(count)..size,
                None => return Wanted::All,
            },
            (first, "") => match number(first).flatten() {
                Some(first) => first..size,
                None => return Wanted::All,
            },
            (first, last) => match (number(first).flatten(), number(last).flatten()) {
                (Some(first), Some(last)) if last >= first => first..last.saturating_add(1).min(size),
                (Some(_), Some(_)) => return Wanted::Nothing,
                _ => return Wanted::All,
            },
        };
        if range.start < range.end { Wanted::Part(range) } else { Wanted::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (header, wanted) in [
            ("bytes=0-0", Wanted::Part(0..1)),
            ("bytes=5-", Wanted::Part(5..10)),
            ("bytes=-3", Wanted::Part(7..10)),
            ("bytes=-30", Wanted::Part(0..10)),
            ("bytes=2-100", Wanted::Part(2..10)),
            ("bytes=2-18446744073709551615", Wanted::Part(2..10)),
            ("bytes=10-", Wanted::Nothing),
            ("bytes=5-2", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=0-1,3-4", Wanted::All),
            ("bytes=a-b", Wanted::All),
            ("bytes=+1-2", Wanted::All),
            ("bytes=-", Wanted::All),
            ("lines=1-2", Wanted::All),
            ("bytes=99999999999999999999999-", Wanted::All),
        ] {
            assert_eq!(Wanted::parse(header, 10), wanted, "{header}");
        }
        assert_eq!(Wanted::parse("bytes=0-0", 0), Wanted::Nothing);
    }
}
