//! The door for this host's own commands: a socket in the data directory, for its owner only. It speaks HTTP; what it tells comes
//! as JSON, a line each.
//!
//! `POST /collect` with the query of [`Request`] collects, and tells of each thing that goes. `POST /reload` reads the configuration
//! again, and tells the keys that have changed. `GET /usage` tells what quotas and repositories hold, `GET /retired` which tags `POST
//! /restore` can put back.

use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use super::body::Body;
use super::catalogue::Restored;
use super::collect::{self, Collection};
use super::quota::Usage;
use super::refusal::{Code, Refusal};
use super::registry::Registry;
use super::reload::Reloader;
use super::retention::Retired;
use super::route::Query;
use super::settings::duration;
use crate::share::SocketPath;

const NAME: &str = "control";
/// Lines that wait for their reader.
const LINES: usize = 64;
/// A line of ours is some hundred bytes.
const LINE_MAX: usize = 64 << 10;

/// How to collect, as somebody asks for it; what isn't said is as the settings say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    pub dry_run: bool,
    pub undo: Option<Duration>,
    pub untagged: Option<Duration>,
    /// Tell of tags that retention keeps, too.
    pub kept: bool,
}

impl Request {
    pub fn collection(&self, registry: &Registry) -> Collection {
        let settings = registry.settings();
        Collection {
            undo: self.undo.unwrap_or(settings.undo),
            untagged: self.untagged.or(settings.untagged),
            dry_run: self.dry_run,
            kept: self.kept,
        }
    }

    pub fn query(&self) -> String {
        let time = |key, value: Option<Duration>| match value {
            Some(value) => format!("&{key}={}s", value.as_secs()),
            None => String::new(),
        };
        let (undo, untagged) = (time("undo", self.undo), time("untagged", self.untagged));
        format!("dry-run={}&kept={}{undo}{untagged}", self.dry_run, self.kept)
    }

    fn parse(query: &Query) -> Result<Request, Refusal> {
        let time = |key| {
            let value = query.get(key).map(|text| duration(key, text)).transpose();
            value.map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, Code::Unsupported, error.to_string()))
        };
        let is = |key| query.get(key) == Some("true");
        Ok(Request {
            dry_run: is("dry-run"),
            kept: is("kept"),
            undo: time("undo")?,
            untagged: time("untagged")?,
        })
    }
}

/// A line of an answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line<T> {
    #[serde(alias = "collected")]
    Told(T),
    Failed(String),
    /// The last one, when all went well: without it, the server has died.
    Done,
}

/// Opens the door.
pub fn open(data: &Path) -> io::Result<UnixListener> {
    bind(data, NAME)
}

/// Opens a door for its owner only. The directory is ours alone, so whatever lies there is of a process that is gone.
pub fn bind(data: &Path, name: &str) -> io::Result<UnixListener> {
    let path = SocketPath::of(data, name)?;
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Spawns what is to be done with each who comes in; until it is dropped.
pub async fn each<W>(listener: UnixListener, work: impl Fn(UnixStream) -> W)
where
    W: Future<Output = ()> + Send + 'static,
{
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(work(stream))),
            Err(error) => {
                tracing::warn!(%error, "accept a command");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// Serves until it is dropped.
pub async fn serve(listener: UnixListener, registry: Registry, reloader: Reloader) {
    each(listener, |stream| {
        let (registry, reloader) = (registry.clone(), reloader.clone());
        async move {
            let answer = service_fn(|request| {
                let (registry, reloader) = (registry.clone(), reloader.clone());
                async move {
                    Ok::<_, Infallible>(
                        answer(registry, reloader, request).unwrap_or_else(Refusal::into_response),
                    )
                }
            });
            if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await {
                tracing::debug!(%error, "command");
            }
        }
    })
    .await;
}

fn answer(
    registry: Registry,
    reloader: Reloader,
    request: hyper::Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let (lines, body) = mpsc::channel(LINES);
    match (request.method(), request.uri().path()) {
        (&Method::POST, "/collect") => {
            let wanted = Request::parse(&Query::parse(request.uri().query())?)?;
            tokio::spawn(async move {
                let collection = wanted.collection(&registry);
                let done = async {
                    if !collection.dry_run {
                        collect::sweep_if_untidy(&registry).await?;
                    }
                    collect::collect(&registry, collection, |one| tell(&lines, one)).await
                };
                end(&lines, done.await.map_err(|refusal| refusal.cause.unwrap_or(refusal.message))).await;
            });
        }
        (&Method::GET, "/usage") => {
            tokio::spawn(async move { list(&lines, usage(&registry).await).await });
        }
        (&Method::GET, "/retired") => {
            tokio::spawn(async move { list(&lines, retired(&registry).await).await });
        }
        (&Method::POST, "/restore") => {
            let query = Query::parse(request.uri().query())?;
            let part = |key| query.get(key).unwrap_or_default().to_owned();
            let (repository, tag) = (part("repository"), part("tag"));
            tokio::spawn(async move { list(&lines, restore(&registry, repository, tag).await).await });
        }
        (&Method::POST, "/reload") => {
            tokio::spawn(async move {
                let reloaded = reloader.reload().await;
                for key in reloaded.iter().flatten() {
                    tell(&lines, key).await;
                }
                end(&lines, reloaded.map(drop).map_err(|error| error.to_string())).await;
            });
        }
        _ => return Err(Refusal::new(StatusCode::NOT_FOUND, Code::Unsupported, "no such command")),
    }
    Ok(Response::new(Body::lines(body)))
}

/// What is taken of quotas, and what each repository holds.
pub async fn usage(registry: &Registry) -> Result<Vec<Usage>, Refusal> {
    let mut used = registry.catalogue.ledger().usage();
    used.extend(registry.catalogue.held().await?);
    Ok(used)
}

/// Tags that can be put back.
pub async fn retired(registry: &Registry) -> Result<Vec<Retired>, Refusal> {
    Ok(registry.catalogue.retired().await?)
}

/// Puts a tag back that retention took away. What it stands for.
pub async fn restore(registry: &Registry, repository: String, tag: String) -> Result<Vec<String>, Refusal> {
    let name = format!("{repository}:{tag}");
    let refused = |text| Err(Refusal::new(StatusCode::CONFLICT, Code::Unsupported, text));
    match registry.catalogue.restore_tag(repository, tag).await? {
        Restored::Done(digest) => Ok(vec![digest]),
        Restored::Unknown => refused(format!("{name} was not taken away, or its manifest has gone since")),
        Restored::Taken(digest) => refused(format!("{name} stands for {digest} by now; remove it first")),
    }
}

async fn list<T: Serialize>(lines: &mpsc::Sender<Bytes>, listed: Result<Vec<T>, Refusal>) {
    for one in listed.iter().flatten() {
        tell(lines, one).await;
    }
    end(lines, listed.map(drop).map_err(|refusal| refusal.cause.unwrap_or(refusal.message))).await;
}

/// False when nobody reads any more.
async fn tell<T: Serialize>(lines: &mpsc::Sender<Bytes>, one: T) -> bool {
    send(lines, Line::Told(one)).await
}

/// How it went, which is the last line.
async fn end(lines: &mpsc::Sender<Bytes>, done: Result<(), String>) {
    let last: Line<()> = match done {
        Ok(()) => Line::Done,
        Err(why) => Line::Failed(why),
    };
    send(lines, last).await;
}

async fn send<T: Serialize>(lines: &mpsc::Sender<Bytes>, line: Line<T>) -> bool {
    let mut text = serde_json::to_vec(&line).unwrap_or_default();
    text.push(b'\n');
    lines.send(text.into()).await.is_ok()
}

/// Why nothing came of a question.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("ask the registry that runs in {data}: {why}")]
    Unreachable { data: PathBuf, why: String },
    /// The registry's own words.
    #[error("{0}")]
    Refused(String),
}

/// Asks the registry that has the directory, and tells what it says, line by line; false from `tell` ends it.
pub async fn ask<T: DeserializeOwned>(
    data: &Path,
    (method, path): (Method, &str),
    mut tell: impl FnMut(T) -> bool,
) -> Result<(), AskError> {
    let failed =
        |why: &dyn std::fmt::Display| AskError::Unreachable { data: data.to_owned(), why: why.to_string() };
    let socket = SocketPath::of(data, NAME).map_err(|error| failed(&error))?;
    let stream = UnixStream::connect(&socket).await.map_err(|error| failed(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    let connection = tokio::spawn(connection);
    let asked = hyper::Request::builder()
        .method(method)
        .uri(path)
        .header(hyper::header::HOST, "registry")
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(&error))?;
    let response = sender.send_request(asked).await.map_err(|error| failed(&error))?;
    if response.status() != StatusCode::OK {
        return Err(failed(&response.status()));
    }
    let mut body = response.into_body();
    let mut held = Vec::new();
    while let Some(frame) = body.frame().await {
        let data = frame.map_err(|error| failed(&error))?.into_data().unwrap_or_default();
        held.extend_from_slice(&data);
        while let Some(end) = held.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = held.drain(..=end).collect();
            match serde_json::from_slice(&line).map_err(|error| failed(&error))? {
                Line::Told(one) => {
                    if !tell(one) {
                        return Ok(());
                    }
                }
                Line::Failed(why) => return Err(AskError::Refused(why)),
                Line::Done => {
                    connection.abort();
                    return Ok(());
                }
            }
        }
        if held.len() > LINE_MAX {
            return Err(failed(&"its answer makes no sense"));
        }
    }
    Err(failed(&"it has gone away before it was done"))
}
