//! `POST /corten/build`: the request in the body's first line, the context behind it or on the host; the answer tells each event, and
//! has what goes to the client between them.

use super::agents::ClientAgent;
use super::asker::Sent;
use crate::bridge::{BodyPieces, BodyReader, SharedReader, body_writer};
use crate::http::body::{json_bytes, with_type};
use crate::http::{ApiError, Body, Call, Reply};
use bytes::Bytes;
use corten_api::auth::AuthConfig;
use corten_api::base64;
use corten_api::build::{
    BuildAnswer, BuildContext, BuildData, BuildDefinition, BuildDirectory, BuildError, BuildEvent,
    BuildImage, BuildNamedContext, BuildOutput, BuildRecord, BuildRequest,
};
use corten_build::{
    Answer, Asker, Attestations, Built, CacheSource, CacheTarget, Debug, Definition, EVENTS_MAX, Error,
    Event, Limits, NamedContext, Network, NoCache, Options, Question, Teller, Told, Tree,
};
use corten_engine::{BuildEnd, BuildWish, Engine, check_split};
use corten_image::{Digest, Platform, Reference};
use futures_util::{StreamExt, stream};
use hyper::StatusCode;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead, Read};
use std::path::Path;
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
        for (number, output) in outputs.iter().enumerate() {
            outcome.give(number, output).await.map_err(refused)?;
        }
        let Outcome { auths, teller, .. } = outcome;
        let exported = engine.build_cache_export(&built, &caches, &names, &auths, &*asker, &teller);
        exported.await.map_err(refused)?;
        Ok::<_, BuildError>((built, names))
    };
    let (outcome, ()) = tokio::join!(outcome, forwarded);
    let last = match outcome {
        Ok((built, names)) => {
            let image = built.target.as_ref().map(|target| target.digest.to_string()).unwrap_or_default();
            recording.end(BuildEnd::Done { image, names: names.clone() }).await;
            BuildEvent::Image(built.target.as_ref().map_or_else(BuildImage::default, |target| BuildImage {
                id: built.id().map(|id| id.to_string()).unwrap_or_default(),
                names,
                digest: target.digest.to_string(),
                media_type: target.media_type.clone(),
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

/// What is known of a build when it begins.
fn about(request: &BuildRequest) -> BuildRecord {
    let name = match &request.context {
        BuildContext::Directory(directory) => Path::new(&directory.path).file_name(),
        // No password stands behind the last `@`.
        BuildContext::Remote(url) => {
            let path = url.split(['?', '#']).next().unwrap_or_default();
            Path::new(path.rsplit('@').next().unwrap_or_default()).file_name()
        }
        BuildContext::Nothing | BuildContext::Archive => None,
    };
    let dockerfile = request.dockerfile.as_ref().unwrap_or(&request.definition.name);
    BuildRecord {
        name: name.map_or_else(|| "-".to_owned(), |name| name.to_string_lossy().into_owned()),
        dockerfile: dockerfile.clone(),
        target: request.target.clone(),
        platform: request.platform.clone(),
        ..BuildRecord::default()
    }
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
        question.answer(&definition, &options).map_err(refused)?;
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
    async fn give(&self, number: usize, output: &BuildOutput) -> corten_build::Result<()> {
        let name = match output {
            BuildOutput::Store => return Ok(()),
            BuildOutput::Push(names) => {
                for name in names {
                    self.engine.build_push(name, &self.auths, self.asker, &self.teller).await?;
                }
                return Ok(());
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
        self.part(number, Bytes::new()).await
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

fn refused(error: Error) -> BuildError {
    let (first_line, last_line) = error.lines().unwrap_or_default();
    BuildError { message: error.to_string(), first_line, last_line, wants_archive: false }
}

fn invalid(message: impl Into<String>) -> BuildError {
    BuildError { message: message.into(), ..BuildError::default() }
}

async fn prepared(
    engine: &Engine,
    request: BuildRequest,
    reader: SharedReader,
    answer: &mpsc::Sender<Part>,
    teller: &Teller,
) -> Result<(BuildWish, Sent), BuildError> {
    let mut trees = HashMap::new();
    let mut contexts = BTreeMap::new();
    for (name, context) in &request.contexts {
        let named = match context {
            BuildNamedContext::Image(image) => NamedContext::Image(image.clone()),
            BuildNamedContext::Remote(url) => NamedContext::Remote(url.clone()),
            BuildNamedContext::Directory(directory) => {
                let tree = format!("context {name}");
                trees.insert(tree.clone(), directory_tree(engine, directory)?);
                NamedContext::Tree(tree)
            }
        };
        contexts.insert(name.clone(), named);
    }
    let mut secrets = BTreeMap::new();
    for (id, text) in &request.secrets {
        let bytes = base64::decode(text).ok_or_else(|| invalid(format!("secret {id} is not in base64")))?;
        secrets.insert(id.clone(), bytes);
    }
    let agent = |id: &String| {
        let agent = ClientAgent { engine: engine.clone(), id: id.clone(), answer: answer.downgrade() };
        (id.clone(), Arc::new(agent))
    };
    let agents = request.agents.iter().map(agent).collect();
    let auths = request.auths.clone();
    let only_files = !request.wants_image();
    let (context, path) = (request.context.clone(), request.dockerfile.clone());
    let mut options = options(request, contexts)?;
    let mut sent = Sent { trees, secrets, agents };
    let mut alone = None;
    match context {
        BuildContext::Nothing => {}
        BuildContext::Archive => {
            let tree = engine.build_context_of_archive(reader).await;
            sent.take(tree.map_err(|error| invalid(error.message))?);
        }
        BuildContext::Directory(directory) => sent.take(directory_tree(engine, &directory)?),
        BuildContext::Remote(url) => {
            alone = sent.fetch(engine, &url, &options, teller).await.map_err(refused)?;
        }
    }
    if let Some(path) = path {
        options.definition = None;
        options.dockerfile = alone.map_or(path, str::to_owned);
        let found = corten_build::definition(&sent, &options, teller).await.map_err(refused)?;
        let Definition { name, text, ignore } = found.clone();
        let told = BuildEvent::Definition(BuildDefinition { name, text, ignore });
        answer.send(told.into()).await.map_err(|_| refused(Error::Canceled))?;
        options.definition = Some(found);
    }
    Ok((BuildWish { options, auths, only_files }, sent))
}

fn directory_tree(engine: &Engine, directory: &BuildDirectory) -> Result<Tree, BuildError> {
    let BuildDirectory { path, device, inode } = directory;
    engine.build_context_of_directory(Path::new(path), *device, *inode).ok_or_else(|| BuildError {
        message: format!("the engine does not see the directory {path}"),
        wants_archive: true,
        ..BuildError::default()
    })
}

fn options(request: BuildRequest, contexts: BTreeMap<String, NamedContext>) -> Result<Options, BuildError> {
    let no_cache = match (request.no_cache, request.no_cache_stages) {
        (true, _) => NoCache::All,
        (false, stages) if stages.is_empty() => NoCache::None,
        (false, stages) => NoCache::Stages(stages),
    };
    let platforms = request.platform.split(',').filter(|platform| !platform.is_empty());
    let platforms: Result<_, _> = platforms.map(|text| text.trim().parse::<Platform>()).collect();
    let platforms = platforms.map_err(|error| invalid(error.to_string()))?;
    let mut attestations = Attestations::default();
    for (kind, text) in &request.attestations {
        attestations.read(kind, text).map_err(refused)?;
    }
    let definition = request.definition;
    let caches = request.cache_from.iter().map(|place| CacheSource::parse(&place.kind, &place.keys));
    let cache_from = caches.collect::<Result<_, _>>().map_err(|error| invalid(error.to_string()))?;
    Ok(Options {
        cache_from,
        definition: Some(Definition {
            name: definition.name,
            text: definition.text,
            ignore: definition.ignore,
        }),
        target: request.target,
        build_args: request.build_args,
        labels: request.labels,
        platforms,
        attestations,
        no_cache,
        pull: request.pull,
        network: network(&request.network).map_err(invalid)?,
        extra_hosts: request.extra_hosts,
        contexts,
        limits: Limits {
            shm_bytes: request.shm_size,
            ulimits: request.ulimits,
            cgroup_parent: request.cgroup_parent,
            ..Limits::default()
        },
        tags: request.tags,
        debug: request.debug.map(|debug| Debug { has_terminal: debug.tty }),
        ..Options::default()
    })
}

pub(super) fn network(text: &str) -> Result<Network, String> {
    match text {
        "" | "default" | "bridge" => Ok(Network::Default),
        "none" => Ok(Network::None),
        "host" => Ok(Network::Host),
        other if other.starts_with("container:") => Err(format!(
            "network mode {other:?} is not supported for a build: use default, none, host or a network's name"
        )),
        name => Ok(Network::Named(name.to_owned())),
    }
}
