//! A blob on its way to a registry: begun, sent as it comes, and named by its digest at the end.

use std::fs::File;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use corten_image::Digest;
use hyper::header::{CONTENT_TYPE, HeaderName, LOCATION};
use hyper::{Method, StatusCode, Uri};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::origin::join;
use super::payload::Payload;
use super::refusal::{Object, Purpose};
use super::repository::Repository;
use super::transport::{Answer, without_query};
use super::visit::{Ask, Target};
use crate::share;
use crate::{Action, Cause, Error, Result};

/// For the last word on a blob or a manifest: registries copy it in their object storage before.
pub(crate) const COMMIT_TIMEOUT: Duration = Duration::from_secs(300);
/// How long the other side may take nothing.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// What is that small goes with the last request.
const SMALL_BYTES_MAX: usize = 256 << 10;
/// Pieces that wait for the connection.
const QUEUE_LENGTH: usize = 4;
const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);

/// What came of the wish to have a blob of another repository.
pub enum Mounted {
    Yes,
    /// It has to be sent.
    No(Upload),
}

/// A blob that is being pushed; dropped means cancelled.
pub struct Upload {
    repository: Repository,
    /// Where the next request goes; nothing when it is over.
    location: Option<Uri>,
    /// The directory of a registry that is on this host.
    near: Option<PathBuf>,
    state: State,
}

enum State {
    Small(BytesMut),
    Streaming { queue: mpsc::Sender<Bytes>, answer: Request },
    Over,
}

/// The request that the bytes go by; it doesn't outlive whoever waits for its answer.
struct Request(JoinHandle<Result<Answer>>);

impl Drop for Request {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Repository {
    /// Begins to push a blob.
    pub async fn upload(&self) -> Result<Upload> {
        let target = Target::Path(format!("{}/blobs/uploads/", self.inner.path));
        let purpose = push(self);
        let ask = Ask::new(Method::POST, target, vec![self.scope("pull,push")], purpose.clone());
        let answer = self.ask(ask).await?;
        match answer.status {
            StatusCode::ACCEPTED => self.begun(answer).await,
            _ => Err(purpose.refused(answer).await),
        }
    }

    /// Takes a blob over from another repository of the same registry; where that can't be, an upload has begun.
    pub async fn mount(&self, digest: &Digest, from: &str) -> Result<Mounted> {
        let path = &self.inner.path;
        let query = super::origin::form(&[("mount", &digest.to_string()), ("from", from)]);
        let scopes = vec![self.scope("pull,push"), format!("repository:{from}:pull")];
        let purpose = push(self);
        let ask = Ask::new(
            Method::POST,
            Target::Path(format!("{path}/blobs/uploads/?{query}")),
            scopes,
            purpose.clone(),
        );
        let answer = self.ask(ask).await?;
        match answer.status {
            StatusCode::CREATED => {
                answer.dismiss().await;
                Ok(Mounted::Yes)
            }
            StatusCode::ACCEPTED => self.begun(answer).await.map(Mounted::No),
            // No access to the other repository, or none such: not our repository's fault.
            status if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                answer.dismiss().await;
                self.upload().await.map(Mounted::No)
            }
            _ => Err(purpose.refused(answer).await),
        }
    }

    async fn begun(&self, answer: Answer) -> Result<Upload> {
        let location = location(&answer)?;
        let near = near(&answer);
        answer.dismiss().await;
        Ok(Upload {
            repository: self.clone(),
            location: Some(location),
            near,
            state: State::Small(BytesMut::new()),
        })
    }
}

impl Upload {
    /// Sends the next bytes; waits while the registry is slower than we.
    pub async fn send(&mut self, bytes: Bytes) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        if let State::Small(small) = &mut self.state {
            if small.len() + bytes.len() <= SMALL_BYTES_MAX {
                small.extend_from_slice(&bytes);
                return Ok(());
            }
            let small = std::mem::take(small).freeze();
            self.stream()?;
            self.push(small).await?;
        }
        self.push(bytes).await
    }

    /// Gives the registry a file in place of the bytes that were to be sent, where it is on this host and can take it. Nothing writes to
    /// the file any more. Waits for the registry.
    pub fn give(&mut self, file: &File) -> bool {
        let (Some(near), Some(location)) = (&self.near, &self.location) else { return false };
        let taken = share::offer(near, location.path(), file);
        if let Err(error) = &taken {
            tracing::debug!(directory = %near.display(), %error, "a file was not taken");
        }
        taken.unwrap_or(false)
    }

    /// Names what was sent.
    pub async fn finish(mut self, digest: &Digest) -> Result<()> {
        let purpose = push(&self.repository);
        let payload = match std::mem::replace(&mut self.state, State::Over) {
            State::Small(small) => Payload::Whole(small.freeze()),
            State::Streaming { queue, mut answer } => {
                drop(queue);
                let late = self.stalled(COMMIT_TIMEOUT);
                let answer = timeout(COMMIT_TIMEOUT, &mut answer.0).await.map_err(|_| late)?;
                let answer = answer.map_err(|error| self.broken(&error.to_string()))??;
                if !matches!(
                    answer.status,
                    StatusCode::ACCEPTED | StatusCode::NO_CONTENT | StatusCode::CREATED
                ) {
                    return Err(purpose.refused(answer).await);
                }
                self.location = Some(location(&answer)?);
                answer.dismiss().await;
                Payload::Nothing
            }
            State::Over => return Err(self.broken("the upload is over")),
        };
        let Some(location) = self.location.clone() else { return Err(self.broken("the upload is over")) };
        let url = with_digest(&location, digest)?;
        let mut ask = self.ask(Method::PUT, url, purpose.clone())?;
        ask.payload = payload;
        ask.patience = Some(COMMIT_TIMEOUT);
        let answer = self.repository.ask(ask).await?;
        if answer.status == StatusCode::NOT_FOUND {
            // Said twice after a connection broke, the second time nothing is left to do.
            let refused = purpose.refused(answer).await;
            return match self.repository.blob_exists(digest).await {
                Ok(Some(_)) => Ok(()),
                _ => Err(refused),
            };
        }
        if answer.status != StatusCode::CREATED && answer.status != StatusCode::NO_CONTENT {
            return Err(purpose.refused(answer).await);
        }
        self.location = None;
        answer.dismiss().await;
        Ok(())
    }

    /// Goes over from keeping the bytes to sending them.
    fn stream(&mut self) -> Result<()> {
        let Some(location) = self.location.clone() else { return Err(self.broken("the upload is over")) };
        let (queue, bytes) = mpsc::channel(QUEUE_LENGTH);
        let mut ask = self.ask(Method::PATCH, location, push(&self.repository))?;
        ask.payload = Payload::Stream(bytes);
        // The time counts where bytes are handed over, and after the last ones.
        ask.patience = Some(Duration::from_secs(7 * 24 * 3600));
        let repository = self.repository.clone();
        let answer = Request(tokio::spawn(async move { repository.ask(ask).await }));
        self.state = State::Streaming { queue, answer };
        Ok(())
    }

    async fn push(&mut self, bytes: Bytes) -> Result<()> {
        let State::Streaming { queue, .. } = &self.state else {
            return Err(self.broken("the upload is over"));
        };
        match timeout(STALL_TIMEOUT, queue.send(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Err(_) => Err(self.stalled(STALL_TIMEOUT)),
            Ok(Err(_)) => Err(self.why_refused().await),
        }
    }

    /// The registry has answered before it had everything.
    async fn why_refused(&mut self) -> Error {
        let State::Streaming { mut answer, .. } = std::mem::replace(&mut self.state, State::Over) else {
            return self.broken("the upload is over");
        };
        match timeout(STALL_TIMEOUT, &mut answer.0).await {
            Ok(Ok(Ok(answer))) if answer.status.is_success() => {
                self.broken("it has answered before it had everything")
            }
            Ok(Ok(Ok(answer))) => push(&self.repository).refused(answer).await,
            Ok(Ok(Err(error))) => error,
            Ok(Err(error)) => self.broken(&error.to_string()),
            Err(_) => self.stalled(STALL_TIMEOUT),
        }
    }

    fn ask(&self, method: Method, url: Uri, purpose: Purpose) -> Result<Ask> {
        let ask = Ask::new(method, Target::Url(url), vec![self.repository.scope("pull,push")], purpose);
        ask.header(CONTENT_TYPE, "application/octet-stream")
    }

    fn stalled(&self, after: Duration) -> Error {
        let why = format!("the registry has taken nothing for {} s", after.as_secs());
        Error::Unreachable { url: self.url(), cause: Cause::Timeout, why }
    }

    fn broken(&self, why: &str) -> Error {
        Error::Unreachable { url: self.url(), cause: Cause::Broken, why: why.to_owned() }
    }

    fn url(&self) -> String {
        self.location.as_ref().map(|url| without_query(&url.to_string()).to_owned()).unwrap_or_default()
    }
}

impl Drop for Upload {
    /// Tells the registry, as well as that can be done by the way.
    fn drop(&mut self) {
        self.state = State::Over;
        let Some(location) = self.location.take() else { return };
        let (Ok(runtime), Ok(ask)) = (
            tokio::runtime::Handle::try_current(),
            self.ask(Method::DELETE, location, push(&self.repository)),
        ) else {
            return;
        };
        let repository = self.repository.clone();
        runtime.spawn(async move {
            if let Ok(Ok(answer)) = timeout(CANCEL_TIMEOUT, repository.ask(ask)).await {
                answer.dismiss().await;
            }
        });
    }
}

fn push(repository: &Repository) -> Purpose {
    repository.purpose("PUT", Action::Push, Object::Repository)
}

fn location(answer: &Answer) -> Result<Uri> {
    match answer.header(LOCATION) {
        Some(location) => join(&answer.url, location),
        None => Err(Error::Protocol {
            url: without_query(&answer.url.to_string()).to_owned(),
            why: "it doesn't say where the upload goes on".to_owned(),
        }),
    }
}

/// Only a registry that is asked by this host's own address may name a directory of it.
fn near(answer: &Answer) -> Option<PathBuf> {
    let host = answer.url.host()?.trim_start_matches('[').trim_end_matches(']');
    let is_own = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let directory = answer.header(HeaderName::from_static(share::WHERE)).filter(|_| is_own)?;
    Some(directory).filter(|directory| directory.starts_with('/')).map(PathBuf::from)
}

fn with_digest(location: &Uri, digest: &Digest) -> Result<Uri> {
    let mark = if location.query().is_some() { '&' } else { '?' };
    let text = format!("{location}{mark}digest={}", super::origin::escaped(&digest.to_string()));
    text.parse().map_err(|_| Error::Protocol { url: text.clone(), why: "it is no URL".to_owned() })
}
