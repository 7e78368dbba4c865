//! Images on the move: load, save, import. The engine works on a blocking thread; bodies are bridged to it.

use crate::bridge::{BodyPieces, BodyReader, SharedReader, body_writer};
use crate::http::body::{json_bytes, with_type};
use crate::http::{ApiError, Body, Call, Reply};
use bytes::Bytes;
use corten_api::auth::AuthConfig;
use corten_api::image::{ImageImportOptions, Platform};
use corten_api::stream::JsonMessage;
use corten_engine::{PullWish, PushWish};
use futures_util::stream;
use hyper::StatusCode;
use hyper::body::Incoming;
use std::future::Future;
use std::io;
use tokio::sync::{mpsc, oneshot};

/// Progress messages that may wait for a slow client; a full queue slows the work down instead of losing one.
const PROGRESS_QUEUE: usize = 64;

pub async fn load(call: Call) -> Reply {
    let platforms = platforms(&call)?;
    let quiet = call.query.flag_or("quiet", true);
    let Call { engine, body, .. } = call;
    with_progress(quiet, |progress| async move {
        let messages = progress.clone();
        let loaded =
            with_body(
                body,
                move |reader| async move { engine.image_load(reader, platforms, progress).await },
            );
        // Docker tells every failure of a load in the stream, and docker-py looks for it only there.
        if let Err(error) = loaded.await {
            let _ = messages.send(JsonMessage::failed(error.message)).await;
        }
        Ok(())
    })
    .await
}

/// `POST /images/create`: a pull, or an import from the body.
pub async fn create(call: Call) -> Reply {
    if call.query.option("fromImage").is_some() {
        return pull(call).await;
    }
    let query = &call.query;
    match query.text("fromSrc") {
        "-" => {}
        "" => return Err(ApiError::bad_request("one of fromImage and fromSrc is wanted")),
        url => {
            let message =
                format!("cannot import from {url}: download it and send it as the body (fromSrc=-)");
            return Err(ApiError::new(StatusCode::NOT_IMPLEMENTED, message));
        }
    }
    let options = ImageImportOptions {
        repo: query.text("repo").to_owned(),
        tag: query.text("tag").to_owned(),
        message: query.text("message").to_owned(),
        changes: query.all("changes").filter(|change| !change.is_empty()).map(str::to_owned).collect(),
        platform: query.option("platform").map(str::to_owned),
    };
    let Call { engine, body, .. } = call;
    with_progress(false, |progress| {
        with_body(body, move |reader| async move { engine.image_import(reader, options, progress).await })
    })
    .await
}

async fn pull(call: Call) -> Reply {
    let wish = PullWish {
        name: call.query.text("fromImage").to_owned(),
        tag: call.query.text("tag").to_owned(),
        platform: call.query.option("platform").map(str::to_owned),
        auth: registry_auth(&call),
    };
    let engine = call.engine;
    with_progress(
        false,
        |progress| async move { engine.image_pull(wish, progress).await.map_err(ApiError::from) },
    )
    .await
}

/// `POST /images/{name}/push`; `compression` (`gzip`, `zstd`) is our own.
pub async fn push(call: Call) -> Reply {
    let platform = match call.at_least(1, 46) {
        true => super::images::platforms(&call, "platform")?.into_iter().next(),
        false => None,
    };
    let wish = PushWish {
        name: call.capture("name").to_owned(),
        tag: call.query.text("tag").to_owned(),
        platform,
        compression: call.query.option("compression").map(str::to_owned),
        auth: registry_auth(&call),
    };
    let engine = call.engine;
    with_progress(false, |progress| async move {
        engine.image_push(wish, progress).await.map(drop).map_err(ApiError::from)
    })
    .await
}

/// Who the client is to a registry.
pub(super) fn registry_auth(call: &Call) -> AuthConfig {
    let header = call.headers.get("x-registry-auth").and_then(|value| value.to_str().ok());
    header.map(AuthConfig::from_header).unwrap_or_default()
}

/// What a save writes goes out in large pieces; a failure before the first of them is still a plain refusal.
pub async fn save(call: Call) -> Reply {
    let single = Some(call.capture("name")).filter(|name| !name.is_empty()).map(str::to_owned);
    // One parameter per name, or all in one with commas between.
    let asked = call.query.all("names").flat_map(|names| names.split(',')).filter(|name| !name.is_empty());
    let names: Vec<String> = single.into_iter().chain(asked.map(str::to_owned)).collect();
    if names.is_empty() {
        return Err(ApiError::bad_request("no image to save: names is wanted"));
    }
    call.engine.images_exist(&names)?;
    let platforms = platforms(&call)?;
    let (writer, pieces) = body_writer();
    let engine = call.engine.clone();
    let body =
        streamed(pieces, async move { engine.image_save(names, platforms, Box::new(writer)).await }).await?;
    Ok(with_type(StatusCode::OK, "application/x-tar", body))
}

/// A body of what a job writes. The head is held back until the first piece, or the end, shows whether the job got under way: a
/// failure before that is a plain refusal, a later one breaks the body off.
pub(super) async fn streamed(
    mut pieces: BodyPieces,
    job: impl Future<Output = corten_engine::Result<()>> + Send + 'static,
) -> Result<Body, ApiError> {
    let mut job = Some(tokio::spawn(job));
    let first = pieces.next().await;
    if first.is_none()
        && let Some(job) = job.take()
    {
        job.await.map_err(|e| ApiError::internal(format!("internal task: {e}")))??;
    }
    let body = stream::unfold((first, pieces, job), |(first, mut pieces, mut job)| async move {
        if let Some(piece) = first {
            return Some((Ok(piece), (None, pieces, job)));
        }
        if let Some(piece) = pieces.next().await {
            return Some((Ok(piece), (None, pieces, job)));
        }
        let outcome = job.take()?.await.map_err(io::Error::other);
        let error = outcome.and_then(|done| done.map_err(io::Error::other)).err()?;
        tracing::warn!(%error, "an archive broke off");
        Some((Err(error), (None, pieces, job)))
    });
    Ok(Body::stream(body))
}

/// A job's progress and its end; what it sends goes out as lines of JSON.
struct Progress {
    first: Option<JsonMessage>,
    messages: mpsc::Receiver<JsonMessage>,
    outcome: Option<oneshot::Receiver<Result<(), ApiError>>>,
}

impl Progress {
    /// The next line: a message, and after the last one the failure if there was one.
    async fn next(&mut self) -> Option<JsonMessage> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        if let Some(message) = self.messages.recv().await {
            return Some(message);
        }
        match self.outcome.take()?.await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(JsonMessage::failed(error.message)),
            Err(_) => Some(JsonMessage::failed("the operation was given up")),
        }
    }
}

/// Runs a job that tells its progress. When it fails before it told any, the failure is a plain refusal, else the last message.
pub(super) async fn with_progress<J, F>(quiet: bool, job: J) -> Reply
where
    J: FnOnce(mpsc::Sender<JsonMessage>) -> F,
    F: Future<Output = Result<(), ApiError>> + Send + 'static,
{
    let (sender, messages) = mpsc::channel(PROGRESS_QUEUE);
    let (end, outcome) = oneshot::channel();
    let job = job(sender);
    tokio::spawn(async move {
        // A client that is gone doesn't ask for the outcome.
        let _ = end.send(job.await);
    });
    let mut progress = Progress { first: None, messages, outcome: Some(outcome) };
    progress.first = progress.messages.recv().await;
    if progress.first.is_none()
        && let Some(outcome) = progress.outcome.take()
    {
        outcome.await.map_err(|_| ApiError::internal("the operation was given up"))??;
    }
    let lines = stream::unfold(progress, move |mut progress| async move {
        loop {
            let message = progress.next().await?;
            if !(quiet && message.progress_detail.is_some()) {
                let line = json_bytes(&message).map(Bytes::from).map_err(io::Error::other);
                return Some((line, progress));
            }
        }
    });
    Ok(with_type(StatusCode::OK, "application/json", Body::stream(lines)))
}

/// Lets a job read the body, and reads what it leaves: a client that still sends would not see the answer.
pub(super) async fn with_body<J, F, T>(body: Incoming, job: J) -> Result<(), ApiError>
where
    J: FnOnce(SharedReader) -> F,
    F: Future<Output = corten_engine::Result<T>>,
{
    let reader = SharedReader::new(BodyReader::new(body));
    let outcome = job(reader.clone()).await;
    // Nothing more can be done when that thread panics.
    let _ = tokio::task::spawn_blocking(move || reader.drain()).await;
    outcome.map(drop).map_err(ApiError::from)
}

/// Which platforms of an image go into an archive or come out of one: one since API 1.48, several since 1.52.
fn platforms(call: &Call) -> Result<Vec<Platform>, ApiError> {
    if !call.at_least(1, 48) {
        return Ok(Vec::new());
    }
    let mut platforms = super::images::platforms(call, "platform")?;
    if !call.at_least(1, 52) {
        platforms.truncate(1);
    }
    Ok(platforms)
}
