//! One upstream: where it is, who we are to it, what of it may be had, whether it wants to be left alone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use tokio::sync::Semaphore;

use super::config::{CredentialFiles, UpstreamSettings};
use super::credentials;
use super::failure::{Failure, Trouble};
use crate::client::{Client, ClientOptions, Mirrors, Patience, Proxies, Repository};
use crate::server::access::Pattern;
use crate::server::name::RepositoryName;
use crate::server::refusal::Refusal;
use crate::{Insecure, RegistryAddress, Trust, TrustFiles};

/// Clients wait as long, and have their own patience.
const WAITS: Patience = Patience {
    connect: Duration::from_secs(10),
    answer: Duration::from_secs(30),
    stall: Duration::from_secs(30),
};
/// How long an upstream isn't asked that has just failed, where there is something older to serve.
const REST: Duration = Duration::from_secs(15);

/// Manifests of one upstream that are being fetched at once: each may take 8 MiB for a moment.
const MANIFESTS: usize = 8;

#[derive(Debug)]
pub struct Upstream {
    /// The first component of its repositories' names here.
    pub name: String,
    address: RegistryAddress,
    /// All upstreams': so that its bounds are for all of them together.
    client: Client,
    credentials: CredentialFiles,
    allow: Vec<Pattern>,
    resting_until: Mutex<Option<Instant>>,
    /// Each has its own: nobody waits for somebody else's upstream.
    pub blob_turns: Semaphore,
    pub manifest_turns: Semaphore,
    pub counts: Counts,
}

/// What became of requests for what is its.
#[derive(Debug, Default)]
pub struct Counts {
    pub manifest_hits: AtomicU64,
    pub manifest_misses: AtomicU64,
    pub blob_hits: AtomicU64,
    pub blob_misses: AtomicU64,
    pub stale: AtomicU64,
    pub errors: AtomicU64,
    pub fetched_bytes: AtomicU64,
    pub fetches: AtomicU64,
}

pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What asks all of them.
///
/// # Errors
/// When the environment's proxies make no sense, or a mirror.
pub fn client(upstreams: &BTreeMap<String, UpstreamSettings>) -> Result<Client, String> {
    // Not even what is on this host is insecure, unless it is said.
    let mut insecure = Insecure { networks: Vec::new(), registries: Vec::new() };
    let mut trust = Trust::default();
    let mut mirrors = Mirrors::default();
    for settings in upstreams.values() {
        let address = settings.registry.to_string();
        for url in &settings.mirrors {
            mirrors.add(&address, url).map_err(|error| error.to_string())?;
        }
        if settings.insecure {
            insecure.registries.push(settings.registry.clone());
        }
        let files = TrustFiles { ca: settings.ca.clone(), identity: settings.identity.clone() };
        trust.files.insert(address, files);
    }
    let proxies = proxies()?;
    let options =
        ClientOptions { insecure, trust, mirrors, proxies, patience: WAITS, ..ClientOptions::default() };
    Ok(Client::new(options))
}

impl Upstream {
    pub fn new(name: &str, settings: &UpstreamSettings, client: &Client, fetches: usize) -> Self {
        Self {
            name: name.to_owned(),
            address: settings.registry.clone(),
            client: client.clone(),
            credentials: settings.credentials.clone(),
            allow: settings.allow.clone(),
            resting_until: Mutex::default(),
            blob_turns: Semaphore::new(fetches),
            manifest_turns: Semaphore::new(MANIFESTS),
            counts: Counts::default(),
        }
    }

    /// Whether its credentials can be read. Waits for the disk.
    pub fn check(&self) -> Result<(), String> {
        credentials::read(&self.credentials, &self.address).map(drop)
    }

    /// Its repository of that name; `below` is the name here without the upstream's.
    fn path(&self, below: &str) -> String {
        // As Docker's clients have it.
        if self.address.is_hub() && !below.contains('/') {
            format!("library/{below}")
        } else {
            below.to_owned()
        }
    }

    fn allows(&self, path: &str) -> bool {
        self.allow.is_empty() || self.allow.iter().any(|pattern| pattern.matches(path, None))
    }

    /// Whether it is left alone for now.
    pub fn is_resting(&self) -> bool {
        let until = self.resting_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| until > Instant::now())
    }

    /// Notes that it is in trouble.
    pub fn rest(&self, trouble: &Trouble) {
        let until = Instant::now() + trouble.retry_after.unwrap_or(REST);
        *self.resting_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    pub fn rested(&self) {
        *self.resting_until.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn proxies() -> Result<Proxies, String> {
    let variable = |name: &str| {
        let value = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        value(&name.to_ascii_lowercase()).or_else(|| value(name))
    };
    let [http, https, none_for] = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"].map(variable);
    Proxies::new(http.as_deref(), https.as_deref(), none_for.as_deref()).map_err(|error| error.to_string())
}

/// A repository here, and where it comes from.
#[derive(Clone, Debug)]
pub struct Source {
    pub upstream: Arc<Upstream>,
    /// Its name here.
    pub repository: RepositoryName,
    /// At the upstream.
    pub path: String,
}

impl Source {
    /// `None` where the upstream's repository is not among those that may be had.
    pub fn new(upstream: &Arc<Upstream>, repository: &RepositoryName, below: &str) -> Option<Self> {
        let path = upstream.path(below);
        let source = Self { upstream: upstream.clone(), repository: repository.clone(), path };
        upstream.allows(&source.path).then_some(source)
    }

    /// The upstream's repository as it shows itself to us.
    pub async fn open(&self) -> Result<Repository, Failure> {
        let upstream = self.upstream.clone();
        let read = move || credentials::read(&upstream.credentials, &upstream.address);
        let read = tokio::task::spawn_blocking(read).await.map_err(Refusal::internal)?;
        // What is here may be served meanwhile.
        let credentials = read.map_err(|why| {
            tracing::error!(upstream = self.upstream.name, why, "credentials");
            let text = "this registry can't read its credentials for it";
            Failure::Trouble(Trouble::new(StatusCode::BAD_GATEWAY, text))
        })?;
        Ok(self.upstream.client.repository(&self.upstream.address, &self.path, credentials))
    }

    /// Notes in the log and in the counters that something was not to be had.
    pub fn note_failure(&self, what: &str, failure: &Failure) {
        let (upstream, repository) = (&self.upstream.name, &self.path);
        match failure {
            Failure::Gone => tracing::debug!(upstream, repository, what, "not at the upstream"),
            Failure::Denied(why) => {
                count(&self.upstream.counts.errors);
                tracing::warn!(upstream, repository, what, why, "the upstream refuses");
            }
            Failure::Trouble(trouble) => {
                count(&self.upstream.counts.errors);
                tracing::warn!(upstream, repository, what, why = trouble.why, "the upstream failed");
            }
            Failure::Own(refusal) => {
                let cause = refusal.cause.as_deref().unwrap_or_default();
                tracing::warn!(upstream, repository, what, %refusal, cause, "fetch");
            }
        }
    }
}
