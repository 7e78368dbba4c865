//! `POST /corten/build`: the request in the body's first line, the context behind it or on the host; the answer tells each event, and
//! has what goes to the client between them.

use super::asker::Sent;
use super::wish::{about, invalid, prepared, refused};
use crate::bridge::{BodyPieces, BodyReader, SharedReader, body_writer};
use crate::http::body::{json_bytes, with_type};
use crate::http::{ApiError, Body, Call, Reply};
use bytes::Bytes;
use corten_api::auth::AuthConfig;
use corten_api::build::{
    BuildAnswer, BuildCache, BuildData, BuildError, BuildEvent, BuildImage, BuildOutput, BuildRequest,
};
use corten_build::{
    Answer, Asker, Attestations, Built, CacheTarget, EVENTS_MAX, Error, Event, NoCache, Options, Question,
    Teller, Told,
};
use corten_engine::{BuildEnd, BuildWish, Engine, SentCache, check_referrers, check_split};
use corten_image::manifest::Descriptor;
use corten_image::{Digest, Reference};
use futures_util::{StreamExt, stream};
use hyper::StatusCode;
use std::collections::BTreeMap;
use std::io::{self, BufRead, Read};
use std::sync::Arc;
use tokio::sync::mpsc;

/// A request holds a Dockerfile and secrets.
const REQUEST_BYTES_MAX: u64 = 64 << 20;

/// Parts of the answer that wait for a client that reads slowly; then the build waits for it.
const PARTS_WAITING_MAX: usize = 8;

pub async fn build(call: Call) -> Reply {
    let Call { engine, body, .. } = call;
    let mut reader = SharedReader::new(BodyReader::new(body));
    let request = tokio::task::spawn_blocking(move || {
        let mut line = Vec::new();
        reader.by_ref().take(REQUEST_BYTES_MAX).read_until(b'\n', &mut line)?;
        io::Result::Ok((line, reader))
    });
    let (line, reader) = request
        .await
        .map_err(|error| ApiError::internal(format!("internal task: {error}")))?
        .map_err(|error| ApiError::bad_request(format!("cannot read the request: {error}")))?;
    let request: BuildRequest = serde_json::from_slice(&line)
        .map_err(|error| ApiError::bad_request(format!("invalid JSON: {error}")))?;
    let (answer, parts) = mpsc::channel::<Part>(PARTS_WAITING_MAX);
    tokio::spawn(run(engine, request, reader, answer));
    let pieces = stream::unfold(parts, |mut parts| async move { Some((parts.recv().await?, parts)) });
    let pieces = pieces.flat_map(|Part { event, data }| {
        let line = json_bytes(&event).map(Bytes::from).map_err(io::Error::other);
        stream::iter([line, Ok(data)])
    });
    Ok(with_type(StatusCode::OK, "application/json", Body::stream(pieces)))
}

/// A line of the answer, and what stands behind it.
pub(super) struct Part {
    event: BuildEvent,
    data: Bytes,
}

impl From<BuildEvent> for Part {
    fn from(event: BuildEvent) -> Part {
        Part { event, data: Bytes::new() }
    }
}

async fn run(engine: Engine, request: BuildRequest, reader: SharedReader, answer: mpsc::Sender<Part>) {
    if !request.call.is_empty() {
        let answered = ask(&engine, request, reader.clone(), &answer).await;
        return end(reader, &answer, answered.map_or_else(BuildEvent::Error, BuildEvent::Answer)).await;
    }
    let (teller, mut told) = mpsc::channel::<Event>(EVENTS_MAX);
    let (recording, teller) = engine.record_build(about(&request), teller);
    let forwarded = {
        let answer = answer.clone();
        async move {
            loop {
                tokio::select! {
                    event = told.recv() => {
                        let Some(event) = event else { return };
                        if answer.send(corten_engine::build_event(event).into()).await.is_err() {
                            return;
                        }
                    }
                    // A client that is gone ends its build, also when there is nothing to tell.
                    () = answer.closed() => return,
                }
            }
        }
    };
    let outcome = async {
        let outputs = request.outputs.clone();
        let caches = request.cache_to.iter().map(|place| CacheTarget::parse(&place.kind, &place.keys));
        let caches = caches.collect::<Result<Vec<_>, _>>().map_err(|error| invalid(error.to_string()))?;
        let names = request.tags.iter().filter_map(|tag| Reference::parse(tag).ok());
        let names: Vec<String> = names.map(|name| name.to_string()).collect();
        let verifies = request.verify_reproducible;
        let (mut wish, sent) = prepared(&engine, request, reader.clone(), &answer, &teller).await?;
        wish.options.cache_to.clone_from(&caches);
        let (auths, asker) = (wish.auths.clone(), Arc::new(sent));
        for output in &outputs {
            if let BuildOutput::Files(split) = output {
                check_split(&wish.options, *split).map_err(refused)?;
            }
            if let BuildOutput::Files(_) | BuildOutput::Archive(_) = output {
                check_referrers(&wish.options).map_err(refused)?;
            }
        }
        let mut second = None;
        if verifies {
            wish.options.no_cache = NoCache::All;
            second = Some(BuildWish {
                // The names are those of the first.
                options: Options {
                    tags: Vec::new(),
                    attestations: Attestations::default(),
                    ..wish.options.clone()
                },
                auths: auths.clone(),
                only_files: true,
            });
        }
        let built = engine.build(wish, asker.clone(), teller.clone()).await.map_err(refused)?;
        if let Some(wish) = second {
            let again = build_again(&engine, wish, asker.clone(), teller.clone()).await.map_err(refused)?;
            let difference = engine.build_difference(&built, &again).await;
            if let Some(found) = difference.map_err(|error| invalid(error.message))? {
                return Err(invalid(format!("the build is not reproducible: two runs differ\n  {found}")));
            }
        }
        let outcome =
            Outcome { engine: &engine, built: &built, auths, asker: &*asker, teller, answer: &answer };
        let mut target = built.target.clone();
        for (number, output) in outputs.iter().enumerate() {
            // What is at a registry is what others look for.
            target = outcome.give(number, output).await.map_err(refused)?.or(target);
        }
        let Outcome { auths, teller, .. } = outcome;
        let exported = engine.build_cache_export(&built, &caches, &names, &auths, &*asker, &teller);
        for SentCache { target, manifest } in exported.await.map_err(refused)? {
            let cache = BuildCache {
                cache: target,
                digest: manifest.digest.to_string(),
                media_type: manifest.media_type,
                size: manifest.size,
            };
            answer.send(BuildEvent::Cache(cache).into()).await.map_err(|_| refused(Error::Canceled))?;
        }
        Ok::<_, BuildError>((built.id(), target, names))
    };
    let (outcome, ()) = tokio::join!(outcome, forwarded);
    let last = match outcome {
        Ok((id, target, names)) => {
            let image = target.as_ref().map(|target| target.digest.to_string()).unwrap_or_default();
            recording.end(BuildEnd::Done { image, names: names.clone() }).await;
            BuildEvent::Image(target.map_or_else(BuildImage::default, |target| BuildImage {
                id: id.map(|id| id.to_string()).unwrap_or_default(),
                names,
                digest: target.digest.to_string(),
                media_type: target.media_type,
                size: target.size,
            }))
        }
        Err(error) => {
            recording.end(BuildEnd::Failed(error.message.clone())).await;
            BuildEvent::Error(error)
        }
    };
    end(reader, &answer, last).await;
}

/// Sends the last event, when the client has nothing more to send: else the connection would break under it.
async fn end(reader: SharedReader, answer: &mpsc::Sender<Part>, last: BuildEvent) {
    let _ = tokio::task::spawn_blocking(move || reader.drain()).await;
    // A client that is gone wants no answer.
    let _ = answer.send(last.into()).await;
}

/// The second run of a build, whose steps are told as steps of their own.
async fn build_again(
    engine: &Engine,
    wish: BuildWish,
    asker: Arc<Sent>,
    teller: Teller,
) -> corten_build::Result<Built> {
    let (own, mut told) = mpsc::channel::<Event>(EVENTS_MAX);
    let id = |id: Digest| Digest::of(format!("again {id}").as_bytes());
    let renamed = async move {
        while let Some(mut event) = told.recv().await {
            match &mut event {
                Event::Vertex(vertex) => {
                    vertex.id = id(vertex.id);
                    vertex.inputs.iter_mut().for_each(|input| *input = id(*input));
                    vertex.name.insert_str(0, "again: ");
                }
                Event::Log(log) => log.vertex = id(log.vertex),
                Event::Status(status) => status.vertex = id(status.vertex),
                // They were told before.
                Event::Warning(_) => continue,
                Event::Failed(_) => {}
            }
            if teller.send(event).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(engine.build(wish, asker, own), renamed).0
}

/// Answers a question about the Dockerfile.
async fn ask(
    engine: &Engine,
    request: BuildRequest,
    reader: SharedReader,
    answer: &mpsc::Sender<Part>,
) -> Result<BuildAnswer, BuildError> {
    let question = Question::parse(&request.call).ok_or_else(|| {
        invalid(format!("unknown call {:?}: it is check, outline or targets", request.call))
    })?;
    // How a Dockerfile elsewhere is fetched is no part of the answer.
    let (teller, mut told) = mpsc::channel::<Event>(EVENTS_MAX);
    let unheard = async move { while told.recv().await.is_some() {} };
    let prepared = async move { prepared(engine, request, reader, answer, &teller).await };
    let (prepared, ()) = tokio::join!(prepared, unheard);
    let options = prepared?.0.options;
    let definition = options.definition.clone().unwrap_or_default();
    let Answer { json, text, warnings, has_error } =
        engine.build_answer(question, definition, options).await.map_err(refused)?;
    Ok(BuildAnswer { json, text, warnings, has_error })
}

/// What a build made, on its way to where it is wanted.
struct Outcome<'o> {
    engine: &'o Engine,
    built: &'o Built,
    auths: BTreeMap<String, AuthConfig>,
    asker: &'o dyn Asker,
    teller: Teller,
    answer: &'o mpsc::Sender<Part>,
}

impl Outcome<'_> {
    /// Gives what it was pushed as.
    async fn give(&self, number: usize, output: &BuildOutput) -> corten_build::Result<Option<Descriptor>> {
        let name = match output {
            BuildOutput::Store => return Ok(None),
            BuildOutput::Push(names) => {
                let mut pushed = None;
                for name in names {
                    pushed = self.engine.build_push(name, &self.auths, self.asker, &self.teller).await?;
                }
                return Ok(pushed);
            }
            BuildOutput::Archive(_) => "sending the image",
            BuildOutput::Files(_) => "sending the files",
        };
        let id = Digest::of(format!("output {number}").as_bytes());
        let mut step = Told::new(&self.teller, id, name.to_owned(), Vec::new());
        step.start().await?;
        let (writer, pieces) = body_writer();
        let written = async {
            match (output, &self.built.target) {
                (BuildOutput::Archive(names), Some(target)) => {
                    let names =
                        if names.is_empty() { vec![target.digest.to_string()] } else { names.clone() };
                    self.engine.image_save(names, Vec::new(), Box::new(writer)).await
                }
                (BuildOutput::Files(split), _) => self.engine.build_files(self.built, *split, writer).await,
                _ => Ok(()),
            }
        };
        let (written, sent) = tokio::join!(written, self.send(number, pieces));
        // A client that is gone is why nothing could be written.
        let sent = sent.and(written.map_err(|error| Error::Internal(error.message)));
        step.end(sent).await?;
        self.part(number, Bytes::new()).await?;
        Ok(None)
    }

    async fn send(&self, output: usize, mut pieces: BodyPieces) -> corten_build::Result<()> {
        while let Some(piece) = pieces.next().await {
            self.part(output, piece).await?;
        }
        Ok(())
    }

    async fn part(&self, output: usize, data: Bytes) -> corten_build::Result<()> {
        let event = BuildEvent::Data(BuildData { output, bytes: data.len() });
        self.answer.send(Part { event, data }).await.map_err(|_| Error::Canceled)
    }
}
