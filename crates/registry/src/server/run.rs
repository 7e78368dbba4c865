//! A registry's process: takes its directory, opens what is in it, listens, and stops when it is told to.

use std::cell::RefCell;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use rustix::fs::{FlockOperation, flock};
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::access::tls::{Clients, Tls, TlsError};
use super::access::{Access, AccessError, explained};
use super::cache;
use super::collect::{self, Collected, Collection, What};
use super::control;
use super::gate::Gate;
use super::metrics;
use super::name::{RepositoryName, Tag};
use super::quota::Usage;
use super::refusal::Refusal;
use super::registry::Registry;
use super::reload::{Reloader, Source};
use super::retention::Retired;
use super::serve::{Door, Server};
use super::settings::{Config, Settings, SettingsError};
use super::sharing;
use super::webhooks;

/// How often what is noted in memory is written down, and what is stale is looked for.
const CHORES: Duration = Duration::from_secs(30);
/// How old what is known of certificate files may be.
const TLS_LOOK: Duration = Duration::from_secs(1);
/// Threads that may wait for the disk. More would only wait there together.
const BLOCKING_THREADS: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(
        "{0} can be reached from other hosts, where anybody could push and delete: say who may in \"access\", listen on \
         127.0.0.1, or say --insecure-anonymous"
    )]
    Anonymous(SocketAddr),
    #[error(
        "{0} can be reached from other hosts, and passwords would be shown unencrypted: name a certificate in \"tls\", or say \
         --insecure-plain if something in front of it encrypts"
    )]
    Plain(SocketAddr),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("{}", explained(.0))]
    Access(#[from] AccessError),
    #[error("listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot use {path}: {source}")]
    Directory { path: PathBuf, source: io::Error },
    #[error("{0} is in use by another registry")]
    InUse(PathBuf),
    #[error("cannot open the registry in {path}: {why}")]
    Open { path: PathBuf, why: String },
    #[error("start the event loop: {0}")]
    Runtime(io::Error),
    #[error("{0}")]
    Collect(String),
    #[error("these can't change while the registry runs, so nothing has changed: {0}; restart it")]
    Fixed(String),
    #[error(transparent)]
    Ask(#[from] control::AskError),
    #[error("{0}")]
    Webhook(String),
    #[error("count for the quotas: {0}")]
    Quotas(String),
    #[error("the registry has failed: {0}")]
    Panic(String),
}

/// Serves until SIGTERM or SIGINT, on a runtime of its own. SIGHUP has the configuration read again from its source.
pub fn run(config: &Config, source: Source) -> Result<(), ServeError> {
    let settings = config.settings()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("registry")
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()
        .map_err(ServeError::Runtime)?;
    let served = runtime.block_on(serve(settings, source));
    // A thread that waits for the disk may take its time; what it does was acknowledged to nobody.
    runtime.shutdown_background();
    served
}

/// Collects in a directory, or asks the registry that runs there to, and tells of each thing; false from `tell` ends it.
pub fn collect(
    config: &Config,
    request: &control::Request,
    tell: impl FnMut(Collected) -> bool,
) -> Result<(), ServeError> {
    // One of the two has it, whichever it turns out to be.
    let tell = RefCell::new(tell);
    let tell = |one| (tell.borrow_mut())(one);
    let there = async |data: &Path| {
        let path = format!("/collect?{}", request.query());
        Ok(control::ask(data, (Method::POST, &path), tell).await?)
    };
    here_or_there(config, there, async |registry: &Registry| {
        if !request.dry_run {
            collect::sweep(registry).await?;
        }
        collect::collect(registry, request.collection(registry), |one| std::future::ready(tell(one))).await
    })
}

/// Has the registry that runs in a directory read its configuration again. The keys that have other values then.
pub fn reload(data: &Path) -> Result<Vec<String>, ServeError> {
    if let Err(source) = fs::metadata(data) {
        return Err(ServeError::Directory { path: data.to_owned(), source });
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(ServeError::Runtime)?;
    let mut changed = Vec::new();
    let asked = control::ask(data, (Method::POST, "/reload"), |key| {
        changed.push(key);
        true
    });
    runtime.block_on(asked)?;
    Ok(changed)
}

/// What is taken of quotas, and what each repository holds.
pub fn usage(config: &Config) -> Result<Vec<Usage>, ServeError> {
    here_or_there(config, async |data: &Path| all(data, (Method::GET, "/usage")).await, control::usage)
}

/// Tags that were taken away by retention, and can be put back.
pub fn retired(config: &Config) -> Result<Vec<Retired>, ServeError> {
    here_or_there(config, async |data: &Path| all(data, (Method::GET, "/retired")).await, control::retired)
}

/// Puts such a tag back. The digest that it stands for then.
pub fn restore(config: &Config, repository: &str, tag: &str) -> Result<String, ServeError> {
    let (repository, tag) = match (repository.parse::<RepositoryName>(), tag.parse::<Tag>()) {
        (Ok(repository), Ok(tag)) => (repository.to_string(), tag.to_string()),
        (Err(error), _) | (_, Err(error)) => return Err(ServeError::Collect(error.to_string())),
    };
    let path = format!("/restore?repository={repository}&tag={tag}");
    let there = async |data: &Path| all(data, (Method::POST, &path)).await;
    let restored = here_or_there(config, there, async |registry: &Registry| {
        control::restore(registry, repository, tag).await
    });
    Ok(restored?.pop().unwrap_or_default())
}

/// All that the registry which runs in a directory answers.
async fn all<T: DeserializeOwned>(data: &Path, question: (Method, &str)) -> Result<Vec<T>, ServeError> {
    let mut told = Vec::new();
    let tell = |one| {
        told.push(one);
        true
    };
    control::ask(data, question, tell).await?;
    Ok(told)
}

/// Has the registry that runs in a directory do something, or does it where none runs.
fn here_or_there<T>(
    config: &Config,
    there: impl AsyncFnOnce(&Path) -> Result<T, ServeError>,
    here: impl AsyncFnOnce(&Registry) -> Result<T, Refusal>,
) -> Result<T, ServeError> {
    let settings = config.settings()?;
    let data = settings.data.clone();
    if let Err(source) = fs::metadata(&data) {
        return Err(ServeError::Directory { path: data, source });
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(ServeError::Runtime)?;
    runtime.block_on(async {
        let lock = match take(&data) {
            Ok(lock) => lock,
            Err(ServeError::InUse(_)) => return there(&data).await,
            Err(error) => return Err(error),
        };
        // Nobody comes in, so nobody is to be let in.
        let registry = open(&Settings { access: None, ..settings }).await?;
        let failed = |refusal: Refusal| ServeError::Collect(refusal.cause.unwrap_or(refusal.message));
        let done = here(&registry).await.map_err(failed);
        drop(lock);
        done
    })
}

async fn serve(settings: Settings, source: Source) -> Result<(), ServeError> {
    // Who starts a registry and stops it at once shall not find it dead of the signal.
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Runtime)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(ServeError::Runtime)?;
    exposure(&settings)?;
    for hook in &settings.webhooks {
        webhooks::check(hook).map_err(ServeError::Webhook)?;
    }
    let lock = take(&settings.data)?;
    let tls = settings.tls.as_ref().map(|files| Tls::open(files, TLS_LOOK)).transpose()?.map(Arc::new);
    let mut listeners = Vec::new();
    for (address, mirror_of) in addresses(&settings) {
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| ServeError::Listen { address, source })?;
        listeners.push((listener, mirror_of.map(Arc::<str>::from)));
    }
    let metrics = match settings.metrics {
        None => None,
        Some(address) => {
            let listener = TcpListener::bind(address).await;
            Some(listener.map_err(|source| ServeError::Listen { address, source })?)
        }
    };
    let registry = open(&settings).await?;
    cache::settle(&registry).await.map_err(|refusal| not_open(&settings, refusal))?;
    let reloader = Reloader::new(registry.clone(), source);
    let mut chores =
        vec![tokio::spawn(chores(registry.clone())), tokio::spawn(collections(registry.clone()))];
    if registry.cache.size().is_some() {
        chores.push(tokio::spawn(surplus(registry.clone())));
    }
    // Before the ports are told of: who has heard of one finds all doors.
    match control::open(&settings.data) {
        Ok(door) => chores.push(tokio::spawn(control::serve(door, registry.clone(), reloader.clone()))),
        // Clients are served nevertheless, on a full disk for one.
        Err(error) => {
            tracing::warn!(%error, "open the door for commands: `corten registry gc` and `reload` can't ask this registry")
        }
    }
    match sharing::open(&settings.data) {
        Ok(door) => chores.push(tokio::spawn(sharing::serve(door, registry.clone()))),
        Err(error) => tracing::warn!(%error, "open the door for files: they will be sent"),
    }
    let mut server = Server::new(registry.clone());
    for (listener, mirror_of) in listeners {
        match (listener.local_addr(), &mirror_of) {
            (Ok(address), None) => {
                tracing::info!(%address, data = %settings.data.display(), tls = tls.is_some(), "registry listens");
            }
            (Ok(address), Some(upstream)) => {
                tracing::info!(mirror = %address, %upstream, tls = tls.is_some(), "mirror listens");
            }
            (Err(_), _) => {}
        }
        server.listen(listener, Door { tls: tls.clone(), mirror_of });
    }
    if let Some(listener) = metrics {
        if let Ok(address) = listener.local_addr() {
            tracing::info!(metrics = %address, "metrics listen");
        }
        chores.push(tokio::spawn(metrics::serve(listener, registry.clone())));
    }
    chores.push(tokio::spawn(webhooks::serve(registry.clone())));
    chores.push(tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            // What comes of it is in the log.
            let _ = reloader.reload().await;
        }
    }));
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
    }
    chores.iter().for_each(tokio::task::JoinHandle::abort);
    server.stop().await;
    note(&registry).await;
    drop(lock);
    Ok(())
}

/// Refuses to be reached by more than was said. Pure.
pub(super) fn exposure(settings: &Settings) -> Result<(), ServeError> {
    let exposed = addresses(settings).map(|(address, _)| address).find(|address| !address.ip().is_loopback());
    let Some(address) = exposed else { return Ok(()) };
    let certain = settings.tls.as_ref().is_some_and(|tls| tls.clients == Clients::Required);
    if settings.access.is_none() && !certain && !settings.insecure_anonymous {
        return Err(ServeError::Anonymous(address));
    }
    if settings.access.is_some() && settings.tls.is_none() && !settings.insecure_plain {
        return Err(ServeError::Plain(address));
    }
    Ok(())
}

/// Where it listens, with the upstream that it is a mirror of there.
fn addresses(settings: &Settings) -> impl Iterator<Item = (SocketAddr, Option<&str>)> {
    let upstreams = settings.cache.iter().flat_map(|cache| &cache.upstreams);
    let mirrors = upstreams.flat_map(|(name, upstream)| {
        upstream.listen.iter().map(move |address| (*address, Some(name.as_str())))
    });
    settings.listen.iter().map(|address| (*address, None)).chain(mirrors)
}

/// Takes the directory for this process alone.
fn take(data: &Path) -> Result<File, ServeError> {
    let failed = |source| ServeError::Directory { path: data.to_owned(), source };
    // What is pulled goes through the gate; nobody shall read it past that.
    DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(failed)?;
    let lock = File::options().write(true).create(true).truncate(false).open(data.join("lock"));
    let lock = lock.map_err(failed)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(ServeError::InUse(data.to_owned())),
        Err(error) => Err(failed(error.into())),
    }
}

async fn open(settings: &Settings) -> Result<Registry, ServeError> {
    let gate = match &settings.access {
        None => Gate::Open,
        Some(access) => Gate::Guarded(Arc::new(Access::open(access, &settings.data)?)),
    };
    let opened = Registry::open(&settings.data, gate, settings.clone()).await;
    opened.map_err(|refusal| not_open(settings, refusal))
}

fn not_open(settings: &Settings, refusal: Refusal) -> ServeError {
    ServeError::Open { path: settings.data.clone(), why: refusal.cause.unwrap_or(refusal.message) }
}

/// Writes down what was noted in memory.
async fn note(registry: &Registry) {
    let pulls = registry.pulls.write(&registry.catalogue).await;
    let uses = cache::write_uses(registry).await;
    for error in [pulls, uses].into_iter().filter_map(Result::err) {
        tracing::warn!(error = error.explain(), "note pulls");
    }
}

/// Gives up what was cached and is too much, whenever there may be.
async fn surplus(registry: Registry) {
    loop {
        let (mut count, mut bytes) = (0, 0);
        let given_up = collect::surplus(&registry, false, |collected| {
            tracing::debug!(?collected, "given up");
            count += 1;
            bytes += collected.size;
            std::future::ready(true)
        });
        match given_up.await {
            Ok(()) if count == 0 => {}
            Ok(()) => tracing::info!(count, bytes, "gave up what is cached and was not used for long"),
            Err(refusal) => tracing::warn!(cause = refusal.cause, "give up what is cached"),
        }
        match registry.catalogue.cached_bytes().await {
            Ok(bytes) => registry.cache.counted(bytes),
            Err(error) => tracing::warn!(error = error.explain(), "count what is cached"),
        }
        registry.cache.is_large().await;
    }
}

/// What is done now and then.
async fn chores(registry: Registry) {
    let mut turn = tokio::time::interval(CHORES);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turn.tick().await;
        note(&registry).await;
        match registry.uploads.expire(registry.settings().upload_expiry).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "uploads that nothing came of were given up"),
            Err(refusal) => tracing::warn!(cause = refusal.cause, "give up uploads"),
        }
    }
}

/// Removes what a crash has left, and then collects, as often as the settings say.
async fn collections(registry: Registry) {
    match collect::sweep(&registry).await {
        Ok(0) => {}
        Ok(count) => tracing::info!(count, "bytes that no blob's row knows were removed"),
        Err(refusal) => tracing::warn!(cause = refusal.cause, "look for what a crash has left"),
    }
    let mut changes = registry.subscribe();
    let mut last = tokio::time::Instant::now();
    loop {
        let settings = registry.settings();
        let due = settings.collect_every.map(|every| last + every);
        let turn = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = turn => {}
            // Other times may count now.
            _ = changes.changed() => continue,
        }
        last = tokio::time::Instant::now();
        let collection =
            Collection { undo: settings.undo, untagged: settings.untagged, ..Collection::default() };
        if let Err(refusal) = collect::sweep_if_untidy(&registry).await {
            tracing::warn!(cause = refusal.cause, "look for what was left in the storage");
        }
        let (mut blobs, mut bytes, mut tags) = (0, 0, 0);
        let collected = collect::collect(&registry, collection, |collected| {
            tracing::debug!(?collected, "collected");
            tags += usize::from(collected.what == What::Tag);
            blobs += usize::from(collected.what == What::Blob);
            bytes += collected.size;
            std::future::ready(true)
        });
        match collected.await {
            Ok(()) if blobs == 0 && tags == 0 => {}
            Ok(()) => tracing::info!(tags, blobs, bytes, "collected what nobody needs"),
            Err(refusal) => tracing::warn!(cause = refusal.cause, "collect"),
        }
    }
}
