//! What a client of Corten's own asks for, as the builder understands it.

use super::asker::Sent;
use super::connections::{ClientAgent, ClientContent, Listener};
use super::own::Part;
use crate::bridge::SharedReader;
use corten_api::base64;
use corten_api::build::{
    BuildContext, BuildDefinition, BuildDirectory, BuildError, BuildEvent, BuildLayout, BuildNamedContext,
    BuildRecord, BuildRequest,
};
use corten_build::{
    Attestations, CacheSource, Debug, Definition, Error, Limits, NamedContext, Network, NoCache, Options,
    Origin, RemoteContext, Teller, Tree,
};
use corten_engine::{BuildWish, Engine};
use corten_image::{Digest, Platform};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::mpsc;

/// What is known of a build when it begins.
pub fn about(request: &BuildRequest) -> BuildRecord {
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

/// What is to be built, and what the client has sent for it.
pub async fn prepared(
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
            BuildNamedContext::Layout(BuildLayout { store, digest }) => {
                let manifest = digest.parse::<Digest>();
                let manifest = manifest.map_err(|error| invalid(format!("build context {name}: {error}")))?;
                NamedContext::Layout { store: store.clone(), manifest }
            }
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
    let client = Listener { engine: engine.clone(), answer: answer.downgrade() };
    let agent = |id: &String| (id.clone(), Arc::new(ClientAgent { client: client.clone(), id: id.clone() }));
    let agents = request.agents.iter().map(agent).collect();
    let content = Some(Arc::new(ClientContent::new(client.clone())));
    let auths = request.auths.clone();
    let only_files = !request.wants_image();
    let (context, path) = (request.context.clone(), request.dockerfile.clone());
    let mut options = options(request, contexts)?;
    let mut sent = Sent { trees, secrets, agents, content };
    let mut alone = None;
    match context {
        BuildContext::Nothing => {}
        BuildContext::Archive => {
            let tree = engine.build_context_of_archive(reader).await;
            sent.take(tree.map_err(|error| invalid(error.message))?);
        }
        BuildContext::Directory(directory) => sent.take(directory_tree(engine, &directory)?),
        BuildContext::Remote(url) => {
            let RemoteContext { dockerfile, origin, .. } =
                sent.fetch(engine, &url, &options, teller).await.map_err(refused)?;
            alone = dockerfile;
            let has_dockerfile = path.is_some();
            options.origin = origin.map(|origin| Origin { has_dockerfile, ..origin });
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
    let (definition, own) = (request.definition, request.limits);
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
        allows_host_network: request.allows_host_network,
        extra_hosts: request.extra_hosts,
        contexts,
        limits: Limits {
            shm_bytes: request.shm_size,
            ulimits: request.ulimits,
            cgroup_parent: request.cgroup_parent,
            memory_bytes: own.memory,
            memory_swap_bytes: own.memory_swap,
            cpu_shares: own.cpu_shares,
            cpu_period_us: own.cpu_period,
            cpu_quota_us: own.cpu_quota,
            cpuset_cpus: own.cpuset_cpus,
            cpuset_mems: own.cpuset_mems,
        },
        tags: request.tags,
        debug: request.debug.map(|debug| Debug { has_terminal: debug.tty }),
        ..Options::default()
    })
}

pub fn network(text: &str) -> Result<Network, String> {
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

pub fn refused(error: Error) -> BuildError {
    let (first_line, last_line) = error.lines().unwrap_or_default();
    BuildError { message: error.to_string(), first_line, last_line, wants_archive: false }
}

pub fn invalid(message: impl Into<String>) -> BuildError {
    BuildError { message: message.into(), ..BuildError::default() }
}
