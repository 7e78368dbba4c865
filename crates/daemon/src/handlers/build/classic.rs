//! `POST /build` as Docker's builder had it before BuildKit: the context as an archive, all else as parameters, progress as text.

use super::asker::Sent;
use super::posted;
use super::wish::network;
use crate::bridge::{BodyReader, SharedReader};
use crate::handlers::transfer::with_progress;
use crate::http::body::ok;
use crate::http::{ApiError, Call, Parameters, Reply};
use corten_api::auth::AuthConfig;
use corten_api::build::BuildRecord;
use corten_api::stream::JsonMessage;
use corten_api::{base64, json};
use corten_build::{CacheSource, EVENTS_MAX, Error, Event, Limits, NoCache, Options, Stream, Vertex};
use corten_engine::{BuildEnd, BuildWish, CacheBounds, Engine};
use corten_image::Reference;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use tokio::sync::mpsc;

pub async fn build(call: Call) -> Reply {
    match call.query.text("version") {
        "" | "1" => {}
        "2" => return posted::build(call).await,
        other => {
            let message = format!("builder version {other:?} is none: 1 is the older one, 2 BuildKit's");
            return Err(ApiError::bad_request(message));
        }
    }
    let options = match options(&call) {
        Ok(options) => options,
        Err(error) => return refuse(call, error).await,
    };
    let auths = auths(&call);
    let quiet = call.query.flag("q");
    let remote = call.query.text("remote").to_owned();
    let Call { engine, body, .. } = call;
    let reader = SharedReader::new(BodyReader::new(body));
    let wish = BuildWish { options, auths, only_files: false };
    with_progress(false, move |progress| async move {
        let outcome = run(&engine, wish, (remote, reader.clone()), quiet, progress).await;
        // A client that still sends would not see the answer.
        let _ = tokio::task::spawn_blocking(move || reader.drain()).await;
        outcome
    })
    .await
}

/// Reads what is sent before the answer, which a client that still sends would not see.
pub async fn refuse(call: Call, error: ApiError) -> Reply {
    let mut reader = BodyReader::new(call.body);
    let _ = tokio::task::spawn_blocking(move || reader.drain()).await;
    Err(error)
}

async fn run(
    engine: &Engine,
    mut wish: BuildWish,
    (remote, reader): (String, SharedReader),
    quiet: bool,
    progress: mpsc::Sender<JsonMessage>,
) -> Result<(), ApiError> {
    let tags = wish.options.tags.clone();
    let mut sent = Sent::default();
    if remote.is_empty() {
        sent.take(engine.build_context_of_archive(reader).await?);
    }
    let (teller, mut told) = mpsc::channel(EVENTS_MAX);
    let about = BuildRecord {
        name: wish.options.tags.first().cloned().unwrap_or_else(|| "-".to_owned()),
        dockerfile: wish.options.dockerfile.clone(),
        target: wish.options.target.clone(),
        platform: wish.options.platforms.first().map(ToString::to_string).unwrap_or_default(),
        ..BuildRecord::default()
    };
    let (recording, teller) = engine.record_build(about, teller);
    let shown = {
        let progress = progress.clone();
        async move {
            let mut text = Text::default();
            loop {
                let event = tokio::select! {
                    event = told.recv() => event,
                    // A client that is gone ends its build, also when there is nothing to tell.
                    () = progress.closed() => return,
                };
                let Some(event) = event else { return };
                for message in text.messages(event) {
                    if !quiet && progress.send(message).await.is_err() {
                        return;
                    }
                }
            }
        }
    };
    let built = async move {
        if !remote.is_empty() {
            let fetched = sent.fetch(engine, &remote, &wish.options, &teller).await?;
            wish.options.dockerfile = fetched.dockerfile.map_or(wish.options.dockerfile, str::to_owned);
            wish.options.origin = fetched.origin;
        }
        engine.build(wish, Arc::new(sent), teller).await
    };
    let (built, ()) = tokio::join!(built, shown);
    let end = match &built {
        Ok(built) => BuildEnd::Done {
            image: built.target.as_ref().map(|target| target.digest.to_string()).unwrap_or_default(),
            names: tags.clone(),
        },
        Err(error) => BuildEnd::Failed(error.to_string()),
    };
    recording.end(end).await;
    let built = match built {
        Ok(built) => built,
        Err(error) => {
            if let Error::Exit { command, code } = error.cause() {
                // Clients tell a failing program by these words, and end with its code.
                let message = format!("The command '{command}' returned a non-zero code: {code}");
                let mut failed = JsonMessage::failed(message);
                failed.error_detail.iter_mut().for_each(|detail| detail.code = *code);
                let _ = progress.send(failed).await;
                return Ok(());
            }
            return Err(refused(&error));
        }
    };
    let id = built.image.as_ref().map(|image| image.id.to_string()).unwrap_or_default();
    let short = id.strip_prefix("sha256:").unwrap_or(&id).get(..12).unwrap_or_default().to_owned();
    let mut last = vec![JsonMessage { aux: Some(json!({ "ID": id })), ..JsonMessage::default() }];
    if quiet {
        last = vec![JsonMessage::stream(format!("{id}\n"))];
    } else {
        last.push(JsonMessage::stream(format!("Successfully built {short}\n")));
        last.extend(
            tags.iter().map(|tag| JsonMessage::stream(format!("Successfully tagged {}\n", with_tag(tag)))),
        );
    }
    for message in last {
        let _ = progress.send(message).await;
    }
    Ok(())
}

fn with_tag(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains(':') { name.to_owned() } else { format!("{name}:latest") }
}

fn refused(error: &Error) -> ApiError {
    match error.cause() {
        Error::Invalid(_) => ApiError::bad_request(error.to_string()),
        Error::NotFound(_) => ApiError::new(hyper::StatusCode::NOT_FOUND, error.to_string()),
        _ => ApiError::internal(error.to_string()),
    }
}

/// Progress as people read it.
#[derive(Default)]
struct Text {
    /// Steps whose beginning was told.
    begun: HashSet<corten_image::Digest>,
}

impl Text {
    fn messages(&mut self, event: Event) -> Vec<JsonMessage> {
        match event {
            Event::Vertex(vertex) => self.vertex(&vertex),
            Event::Log(log) => {
                let text = String::from_utf8_lossy(&log.bytes);
                vec![JsonMessage::stream(match log.stream {
                    Stream::Stdout => text.into_owned(),
                    // Clients know it by its color.
                    Stream::Stderr => format!("\x1b[91m{text}\x1b[0m"),
                })]
            }
            Event::Status(status) => {
                let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
                let (current, total) = (signed(status.current_bytes), signed(status.total_bytes));
                vec![JsonMessage::progress(status.id, "", current, total)]
            }
            Event::Warning(warning) => {
                vec![JsonMessage::stream(format!("[Warning] {}: {}\n", warning.rule, warning.short))]
            }
            // Nobody asks for it this way.
            Event::Failed(_) => Vec::new(),
        }
    }

    fn vertex(&mut self, vertex: &Vertex) -> Vec<JsonMessage> {
        // `[stage 2/5] RUN make`; what is internal is not told here.
        let Some((place, text)) = vertex.name.strip_prefix('[').and_then(|name| name.split_once("] ")) else {
            return Vec::new();
        };
        let Some(step) = place.rsplit(' ').next().filter(|step| step.contains('/')) else {
            return Vec::new();
        };
        let mut messages = Vec::new();
        if self.begun.insert(vertex.id) {
            messages.push(JsonMessage::stream(format!("Step {step} : {text}\n")));
        }
        if vertex.is_cached && !text.starts_with("FROM") {
            messages.push(JsonMessage::stream(" ---> Using cache\n"));
        }
        messages
    }
}

fn options(call: &Call) -> Result<Options, ApiError> {
    let query = &call.query;
    if query.flag("squash") {
        return Err(ApiError::bad_request("squash is not supported: an image's layers stay apart"));
    }
    refuse_foreign(query)?;
    let number = |name: &str| Ok::<_, ApiError>(query.number(name)?.unwrap_or(0));
    let build_args: BTreeMap<String, Option<String>> = document(call, "buildargs")?;
    let labels: Option<BTreeMap<String, String>> = document(call, "labels")?;
    let ulimits: Option<Vec<corten_api::container::Ulimit>> = document(call, "ulimits")?;
    let ulimits = ulimits.unwrap_or_default();
    let hosts = query.all("extrahosts").flat_map(|hosts| hosts.split(',')).filter(|host| !host.is_empty());
    let platforms = match query.text("platform") {
        "" => Vec::new(),
        text => vec![text.to_lowercase().parse().map_err(|error| ApiError::bad_request(format!("{error}")))?],
    };
    let sources: Vec<String> = document(call, "cachefrom")?;
    let source = |name: &String| {
        let parsed = Reference::parse(name);
        parsed
            .map(CacheSource::Image)
            .map_err(|error| ApiError::bad_request(format!("error reading cachefrom: {name}: {error}")))
    };
    Ok(Options {
        cache_from: sources.iter().map(source).collect::<Result<_, _>>()?,
        dockerfile: query.text("dockerfile").to_owned(),
        target: query.text("target").to_owned(),
        // A name without a value is one that the client's environment doesn't have.
        build_args: build_args.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
        labels: labels.unwrap_or_default(),
        platforms,
        no_cache: if query.flag("nocache") { NoCache::All } else { NoCache::None },
        pull: query.flag("pull"),
        network: network(query.text("networkmode")).map_err(ApiError::bad_request)?,
        extra_hosts: hosts.map(str::to_owned).collect(),
        limits: Limits {
            shm_bytes: u64::try_from(number("shmsize")?).unwrap_or(0),
            ulimits: ulimits.iter().map(|own| format!("{}={}:{}", own.name, own.soft, own.hard)).collect(),
            cgroup_parent: query.text("cgroupparent").to_owned(),
            memory_bytes: number("memory")?,
            memory_swap_bytes: number("memswap")?,
            cpu_shares: number("cpushares")?,
            cpu_period_us: number("cpuperiod")?,
            cpu_quota_us: number("cpuquota")?,
            cpuset_cpus: query.text("cpusetcpus").to_owned(),
            cpuset_mems: query.text("cpusetmems").to_owned(),
        },
        tags: query.all("t").filter(|tag| !tag.is_empty()).map(str::to_owned).collect(),
        ..Options::default()
    })
}

/// What only engines on Windows have.
pub fn refuse_foreign(query: &Parameters) -> Result<(), ApiError> {
    if query.has("securityopt") {
        return Err(ApiError::bad_request(
            "security options are not supported on linux for a build: leave --security-opt out",
        ));
    }
    match query.text("isolation") {
        "" | "default" => Ok(()),
        other => Err(ApiError::bad_request(format!(
            "unsupported isolation: {other:?}: the steps of a build run in containers; leave --isolation out"
        ))),
    }
}

pub fn document<T: DeserializeOwned + Default>(call: &Call, name: &str) -> Result<T, ApiError> {
    match call.query.text(name) {
        "" => Ok(T::default()),
        text => json::from_str(text)
            .map_err(|error| ApiError::bad_request(format!("error reading {name}: {error}"))),
    }
}

/// Who the client is to each registry.
fn auths(call: &Call) -> BTreeMap<String, AuthConfig> {
    let bytes = base64::decode(call.header("x-registry-config"));
    bytes.and_then(|bytes| json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// `POST /build/prune`: forgets what builds have made.
pub async fn prune(call: Call) -> Reply {
    let all = call.query.flag("all");
    let filters = call.query.filters()?;
    let bytes = |name: &str| -> Result<u64, ApiError> {
        let number: i64 = call.query.number(name)?.unwrap_or(0);
        u64::try_from(number).map_err(|_| ApiError::bad_request(format!("{name} can't be less than 0")))
    };
    let bounds = CacheBounds {
        // Two names of one thing.
        reserved_bytes: bytes("keep-storage")?.max(bytes("reserved-space")?),
        used_bytes_max: bytes("max-used-space")?,
        free_bytes_min: bytes("min-free-space")?,
    };
    Ok(ok(&call.engine.build_prune(&filters, all, bounds).await?))
}
