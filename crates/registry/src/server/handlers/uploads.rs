//! Pushing blobs: at once, in chunks, or mounted from another repository.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderName, HeaderValue, LOCATION, RANGE};
use hyper::{Response, StatusCode};
use serde_json::json;

use super::{Call, Reply, created, empty, value};
use crate::server::body::Body;
use crate::server::digest::{Algorithm, Digest};
use crate::server::name::{RepositoryName, UploadId};
use crate::server::refusal::{Code, Refusal};
use crate::server::registry::Registry;
use crate::server::sharing;
use crate::server::storage::Ingest;
use crate::server::uploads::Upload;

const SHARE: HeaderName = HeaderName::from_static(crate::share::WHERE);
const DOCKER_UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// Bytes that are written and hashed at once, while as many more come in.
const BATCH: usize = 256 << 10;
/// How long a client may send nothing in the middle of a body.
pub const STALLED: Duration = Duration::from_secs(60);
/// How many repositories that have a blob are looked at when a client doesn't say where to mount it from.
const SOURCES: usize = 50;

/// `POST`: mounts a blob, takes a whole one, or begins an upload.
pub async fn begin(call: Call<'_>, repository: RepositoryName) -> Reply {
    let query = call.query()?;
    if let Some(digest) = query.get("mount") {
        let digest: Digest = digest.parse()?;
        if mount(&call, &repository, digest, query.get("from")).await? {
            return created(location(&repository, &digest), &digest);
        }
    }
    let digest = query.get("digest").map(str::parse::<Digest>).transpose()?;
    let algorithm = query.get("digest-algorithm").map(str::parse::<Algorithm>).transpose()?;
    let algorithm = digest.map(|digest| digest.algorithm()).or(algorithm).unwrap_or(Algorithm::Sha256);
    // Where nothing more fits, nothing has to come to find that out.
    let announced = length(&call).unwrap_or_default().max(1);
    call.registry.catalogue.ledger().coming(repository.as_str()).fits(announced)?;
    let upload = call.registry.uploads.begin(&repository, algorithm).await?;
    match digest {
        // A client that names the digest and sends nothing goes on with `PUT`, unless nothing is what it means.
        Some(digest) if !call.body.is_end_stream() || digest == Digest::of(algorithm, &[]) => {
            let ingest = call.registry.uploads.open_ingest(&upload).await?;
            if let Err(refusal) = receive(call.registry, call.body, &upload, &ingest, None).await {
                drop(ingest);
                call.registry.uploads.cancel(&upload).await?;
                return Err(refusal);
            }
            finish_upload(call.registry, repository, upload, ingest, digest).await
        }
        _ => {
            let mut response = progress(StatusCode::ACCEPTED, &repository, &upload)?;
            if let Some(place) = sharing::header(call.peer, &call.registry.settings().data) {
                response.headers_mut().insert(SHARE, place);
            }
            Ok(response)
        }
    }
}

async fn mount(
    call: &Call<'_>,
    repository: &RepositoryName,
    digest: Digest,
    from: Option<&str>,
) -> Result<bool, Refusal> {
    let catalogue = &call.registry.catalogue;
    let sources = match from {
        Some(from) => vec![from.to_owned()],
        None => catalogue.repositories_with(digest, SOURCES).await?,
    };
    for source in sources {
        let source: RepositoryName = source.parse()?;
        // Not to be told from a blob that isn't there.
        if call.caller.may_read(&source)
            && catalogue.mount_blob(repository.to_string(), source.to_string(), digest).await?.is_some()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `PATCH`: the next bytes.
pub async fn append(call: Call<'_>, repository: RepositoryName, id: UploadId) -> Reply {
    let upload = call.registry.uploads.take(&repository, id).await?;
    let limit = check_range(&call, &repository, &upload)?;
    let ingest = call.registry.uploads.open_ingest(&upload).await?;
    let received = match room(&call, &upload) {
        Ok(()) => receive(call.registry, call.body, &upload, &ingest, limit).await,
        refused => refused,
    };
    keep_if_there_is_room(call.registry, &upload, received).await?;
    progress(StatusCode::ACCEPTED, &repository, &upload)
}

/// `PUT`: the last bytes, if any, and the digest of them all.
pub async fn finish(call: Call<'_>, repository: RepositoryName, id: UploadId) -> Reply {
    let query = call.query()?;
    let digest: Digest = match query.get("digest") {
        Some(digest) => digest.parse()?,
        None => {
            let text = "the digest of the upload is missing";
            return Err(Refusal::new(StatusCode::BAD_REQUEST, Code::DigestInvalid, text));
        }
    };
    let mut upload = call.registry.uploads.take(&repository, id).await?;
    let limit = check_range(&call, &repository, &upload)?;
    if upload.offset() == 0 {
        // Nothing has been hashed yet: what comes is hashed as it will be checked.
        upload.algorithm = digest.algorithm();
    }
    let ingest = call.registry.uploads.open_ingest(&upload).await?;
    let received = match room(&call, &upload) {
        Ok(()) => receive(call.registry, call.body, &upload, &ingest, limit).await,
        refused => refused,
    };
    keep_if_there_is_room(call.registry, &upload, received).await?;
    finish_upload(call.registry, repository, upload, ingest, digest).await
}

/// How long the body is said to be.
fn length(call: &Call<'_>) -> Option<u64> {
    call.header(&CONTENT_LENGTH)?.parse().ok()
}

/// Whether a quota has room for the body, as far as its length is said.
fn room(call: &Call<'_>, upload: &Upload) -> Result<(), Refusal> {
    match length(call) {
        None | Some(0) => Ok(()),
        Some(length) => Ok(upload.has_room(length)?),
    }
}

/// On a full disk, or a full quota, the upload is given up: what has come of it takes room that somebody needs.
async fn keep_if_there_is_room(
    registry: &Registry,
    upload: &Upload,
    received: Result<(), Refusal>,
) -> Result<(), Refusal> {
    if let Err(refusal) = &received
        && (refusal.status == StatusCode::INSUFFICIENT_STORAGE || refusal.code == Code::Denied)
    {
        registry.uploads.cancel(upload).await?;
    }
    received
}

/// Comes to its end also when the client goes away.
async fn finish_upload(
    registry: &Registry,
    repository: RepositoryName,
    upload: Upload,
    ingest: Ingest,
    digest: Digest,
) -> Reply {
    let registry = registry.clone();
    let task = tokio::spawn(async move {
        registry.finish_upload(&repository, upload, ingest, digest).await?;
        created(location(&repository, &digest), &digest)
    });
    task.await.unwrap_or_else(|error| Err(Refusal::internal(error)))
}

/// `GET`: how far it is.
pub async fn status(call: Call<'_>, repository: RepositoryName, id: UploadId) -> Reply {
    let upload = call.registry.uploads.take(&repository, id).await?;
    progress(StatusCode::NO_CONTENT, &repository, &upload)
}

/// `DELETE`.
pub async fn cancel(call: Call<'_>, repository: RepositoryName, id: UploadId) -> Reply {
    let upload = call.registry.uploads.take(&repository, id).await?;
    call.registry.uploads.cancel(&upload).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

fn location(repository: &RepositoryName, digest: &Digest) -> String {
    format!("/v2/{repository}/blobs/{digest}")
}

/// Where to go on, and from which byte.
fn progress(status: StatusCode, repository: &RepositoryName, upload: &Upload) -> Reply {
    let mut response: Response<Body> = empty(status);
    let headers = response.headers_mut();
    for (name, value) in progress_headers(repository, upload)? {
        headers.insert(name, value);
    }
    Ok(response)
}

fn progress_headers(
    repository: &RepositoryName,
    upload: &Upload,
) -> Result<[(HeaderName, HeaderValue); 3], Refusal> {
    Ok([
        (LOCATION, value(format!("/v2/{repository}/blobs/uploads/{}", upload.id))?),
        // Of nothing, there is no better way to say it.
        (RANGE, value(format!("0-{}", upload.offset().saturating_sub(1)))?),
        (DOCKER_UPLOAD_UUID, value(upload.id)?),
    ])
}

/// Whether the chunk is the next one. How long it is, where it says so.
fn check_range(
    call: &Call<'_>,
    repository: &RepositoryName,
    upload: &Upload,
) -> Result<Option<u64>, Refusal> {
    let Some(header) = call.header(&CONTENT_RANGE) else { return Ok(None) };
    let bad = |why: &str| Refusal::new(StatusCode::BAD_REQUEST, Code::SizeInvalid, why);
    let (start, end) = parse_content_range(header).ok_or_else(|| bad("want Content-Range: START-END"))?;
    if start != upload.offset() {
        let text = "the chunk is not the next one";
        let mut refusal = Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, Code::BlobUploadInvalid, text);
        refusal.headers.extend(progress_headers(repository, upload)?);
        return Err(refusal);
    }
    let length = end - start + 1;
    let claimed = call.header(&CONTENT_LENGTH).map(str::parse::<u64>);
    if claimed.is_some_and(|claimed| claimed != Ok(length)) {
        return Err(bad("Content-Range and Content-Length don't agree"));
    }
    Ok(Some(length))
}

/// `START-END`, both included; also as HTTP has it, `bytes START-END/TOTAL`.
fn parse_content_range(header: &str) -> Option<(u64, u64)> {
    let range = header.strip_prefix("bytes").unwrap_or(header).trim_start_matches([' ', '=']);
    let range = range.split('/').next()?;
    let (start, end) = range.split_once('-')?;
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
    let (start, end) = (number(start)?, number(end)?);
    (start <= end && end < u64::MAX).then_some((start, end))
}

/// Takes a body in: while one batch is written and hashed, the next one comes. What has arrived stays when the client goes away.
async fn receive(
    registry: &Registry,
    body: &mut Incoming,
    upload: &Upload,
    ingest: &Ingest,
    limit: Option<u64>,
) -> Result<(), Refusal> {
    let mut left = limit.unwrap_or(u64::MAX);
    let mut batch: Vec<Bytes> = Vec::new();
    let mut held = 0;
    let mut writing = None;
    let mut refusal = None;
    loop {
        let frame = match tokio::time::timeout(STALLED, body.frame()).await {
            Err(_) => {
                let text = "nothing has come for a minute";
                refusal = Some(Refusal::new(StatusCode::REQUEST_TIMEOUT, Code::BlobUploadInvalid, text));
                break;
            }
            Ok(None) => break,
            Ok(Some(Err(error))) => {
                let text = format!("the body broke off: {error}");
                refusal = Some(Refusal::new(StatusCode::BAD_REQUEST, Code::BlobUploadInvalid, text));
                break;
            }
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        let length = data.len() as u64;
        if length > left {
            let text = "more bytes have come than Content-Range says";
            refusal = Some(Refusal::new(StatusCode::BAD_REQUEST, Code::SizeInvalid, text));
            break;
        }
        left -= length;
        registry.metrics.received(length);
        held += data.len();
        batch.push(data);
        if held >= BATCH {
            if let Err(exceeded) = upload.take_room(held as u64) {
                batch.clear();
                refusal = Some(exceeded.into());
                break;
            }
            written(writing.take()).await?;
            writing = Some(ingest.write(std::mem::take(&mut batch)));
            held = 0;
        }
    }
    written(writing).await?;
    if !batch.is_empty() {
        upload.take_room(batch.iter().map(|piece| piece.len() as u64).sum())?;
        written(Some(ingest.write(batch))).await?;
    }
    match (refusal, limit) {
        (Some(refusal), _) => Err(refusal),
        (None, Some(limit)) if left > 0 => {
            let text = "fewer bytes have come than Content-Range says";
            let refusal = Refusal::new(StatusCode::BAD_REQUEST, Code::SizeInvalid, text);
            Err(refusal.detail(json!({"expected": limit, "missing": left})))
        }
        _ => Ok(()),
    }
}

async fn written(
    writing: Option<tokio::task::JoinHandle<Result<(), crate::server::storage::StorageError>>>,
) -> Result<(), Refusal> {
    match writing {
        Some(writing) => Ok(writing.await.map_err(Refusal::internal)??),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        assert_eq!(parse_content_range("0-9"), Some((0, 9)));
        assert_eq!(parse_content_range("bytes 10-19/*"), Some((10, 19)));
        assert_eq!(parse_content_range("bytes=10-19"), Some((10, 19)));
        for bad in [
            "",
            "-",
            "5",
            "5-",
            "-5",
            "9-0",
            "a-b",
            "+1-2",
            "0-18446744073709551615",
            "0-99999999999999999999",
        ] {
            assert_eq!(parse_content_range(bad), None, "{bad}");
        }
    }
}
