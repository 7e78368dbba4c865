//! Builds, as Corten's own client asks for them: `POST /corten/build`. The body is a line of JSON, a [`BuildRequest`], and behind it
//! the context as a tar archive where it is not a directory that the engine sees itself. The answer is a line of JSON per
//! [`BuildEvent`]; a [`BuildData`] has its bytes right behind it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::auth::AuthConfig;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BuildRequest {
    /// A question about the Dockerfile instead of a build: `check`, `outline`, `targets`.
    pub call: String,
    pub definition: BuildDefinition,
    /// The Dockerfile's path in the context, where the client has not read it (`Dockerfile` when empty): the engine tells it then
    /// ([`BuildEvent::Definition`]).
    pub dockerfile: Option<String>,
    pub context: BuildContext,
    /// Further contexts by name.
    pub contexts: BTreeMap<String, BuildNamedContext>,
    pub target: String,
    pub build_args: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub tags: Vec<String>,
    /// Several are separated by commas; the host's when empty.
    pub platform: String,
    /// What is said of the images: a kind (`provenance`, `sbom`), and `name=value` pairs between commas.
    pub attestations: BTreeMap<String, String>,
    pub no_cache: bool,
    /// Stages whose steps are done again.
    pub no_cache_stages: Vec<String>,
    pub pull: bool,
    /// `default`, `none`, `host`
    pub network: String,
    /// Steps may ask for the host's network.
    pub allows_host_network: bool,
    pub extra_hosts: Vec<String>,
    pub shm_size: u64,
    /// `name=soft:hard`
    pub ulimits: Vec<String>,
    pub limits: BuildLimits,
    pub cgroup_parent: String,
    /// By id, in base64.
    pub secrets: BTreeMap<String, String>,
    /// Ids of SSH agents that the client connects when it is asked to ([`BuildEvent::Agent`]).
    pub agents: Vec<String>,
    /// By the registry's address.
    pub auths: BTreeMap<String, AuthConfig>,
    /// Caches whose steps count as done, and where this build's steps go as one.
    pub cache_from: Vec<BuildCachePlace>,
    pub cache_to: Vec<BuildCachePlace>,
    /// Builds twice without remembered steps, and fails where the two differ.
    pub verify_reproducible: bool,
    /// The client looks into the container of a step that fails ([`BuildEvent::Failed`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debug: Option<BuildDebug>,
    /// Where the outcome goes; into the image store when empty.
    pub outputs: Vec<BuildOutput>,
}

impl BuildRequest {
    /// Whether an image is made: who gives names wants one, whatever else becomes of the files.
    pub fn wants_image(&self) -> bool {
        let files_alone = self.outputs.iter().all(|output| matches!(output, BuildOutput::Files(_)));
        !self.tags.is_empty() || self.outputs.is_empty() || !files_alone
    }
}

/// What a container of a step may use, in the units of containers. 0 and empty: the engine's defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BuildLimits {
    pub memory: i64,
    pub memory_swap: i64,
    pub cpu_shares: i64,
    pub cpu_period: i64,
    pub cpu_quota: i64,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
}

/// How a client looks into a failed step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BuildDebug {
    pub tty: bool,
}

/// Where a build cache is, in the keys of BuildKit's clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BuildCachePlace {
    /// `registry`, `local`, `inline`
    #[serde(rename = "Type")]
    pub kind: String,
    pub keys: BTreeMap<String, String>,
}

/// One thing that becomes of the outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub enum BuildOutput {
    /// An image in the store.
    Store,
    /// The image, sent to the registries of these names.
    Push(Vec<String>),
    /// The image with these names as an archive, to the client.
    Archive(Vec<String>),
    /// The files alone as a tar archive, to the client. Whether each platform's are below a directory of their own is what suits their
    /// number where it isn't said.
    Files(Option<bool>),
}

/// The Dockerfile, and what it leaves out of its context.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BuildDefinition {
    /// For people: `Dockerfile`
    pub name: String,
    pub text: String,
    /// The patterns of a `.dockerignore`.
    pub ignore: Option<String>,
}

/// Where the files are that steps copy.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub enum BuildContext {
    /// There are none.
    #[default]
    Nothing,
    /// Behind the request, as a tar archive.
    Archive,
    Directory(BuildDirectory),
    /// At a URL: a repository, an archive, or a Dockerfile alone.
    Remote(String),
}

/// A directory that the engine may see as the client does: it is what the engine takes if it finds the same there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct BuildDirectory {
    /// Absolute.
    pub path: String,
    pub device: u64,
    pub inode: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub enum BuildNamedContext {
    Directory(BuildDirectory),
    Image(String),
    /// At a URL: a repository or an archive.
    Remote(String),
    /// An image that the client has.
    Layout(BuildLayout),
}

/// An image in a store of blobs that the client serves when it is asked to ([`BuildEvent::Content`]).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BuildLayout {
    /// What the client calls the store.
    pub store: String,
    /// Of the manifest or the index.
    pub digest: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub enum BuildEvent {
    Vertex(BuildVertex),
    Log(BuildLog),
    Status(BuildStatus),
    Warning(BuildWarning),
    Data(BuildData),
    /// The Dockerfile, which the client has not read.
    Definition(BuildDefinition),
    /// The last one where a question was asked.
    Answer(BuildAnswer),
    /// The client is to connect an SSH agent.
    Agent(BuildAgent),
    /// The client is to serve its stores of blobs.
    Content(BuildContent),
    /// A cache has gone to a store of the client's.
    Cache(BuildCache),
    /// A step's program has failed and its container is ready for a shell: the client starts it as any other, and removes it, for which
    /// the build waits.
    Failed(BuildFailed),
    /// The last one of a build that came to its end.
    Image(BuildImage),
    /// The last one of a build that did not.
    Error(BuildError),
}

/// A step, or its newer state. Times in Unix nanoseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BuildVertex {
    pub digest: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<String>,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed: Option<i64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cached: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BuildLog {
    pub vertex: String,
    /// 1 or 2.
    pub stream: u8,
    /// In base64.
    pub data: String,
    pub timestamp: i64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BuildStatus {
    pub vertex: String,
    pub id: String,
    pub current: u64,
    pub total: u64,
    pub started: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed: Option<i64>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BuildWarning {
    pub rule: String,
    pub short: String,
    pub detail: Vec<String>,
    pub url: String,
    pub first_line: usize,
    pub last_line: usize,
}

/// A piece of what an output sends to the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BuildData {
    /// The output's place in the request.
    pub output: usize,
    /// How many bytes follow the line; 0 says that the output is whole.
    pub bytes: usize,
}

/// What there is to say of a Dockerfile.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BuildAnswer {
    /// As BuildKit's subrequests have it.
    pub json: String,
    pub text: String,
    pub warnings: usize,
    /// The Dockerfile can't be built.
    pub has_error: bool,
}

/// A step wants to talk to an SSH agent: the client takes `POST /corten/build/connections/{connection}` over, as it does an attach,
/// and connects it with that agent.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BuildAgent {
    pub id: String,
    pub connection: String,
}

/// The build wants blobs of the client's, or to hand some over: the client takes `POST /corten/build/connections/{connection}` over, and
/// serves containerd's service `Content` on it (`docs/build-cache.md`).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BuildContent {
    pub connection: String,
}

/// All blobs of a cache are where they belong: the client lists its manifest there.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BuildCache {
    /// Its place among [`BuildRequest::cache_to`].
    pub cache: usize,
    /// Of the manifest, with its kind and its length in bytes.
    pub digest: String,
    pub media_type: String,
    pub size: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BuildFailed {
    pub container: String,
}

/// Empty where no image was made.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BuildImage {
    /// Of the configuration; empty where the image is an index.
    pub id: String,
    /// Canonical.
    pub names: Vec<String>,
    /// Of the manifest or the index, with its kind and its length in bytes.
    pub digest: String,
    pub media_type: String,
    pub size: u64,
}

/// A build that is under way, or one that was: `GET /corten/builds`. Times in Unix nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BuildRecord {
    pub reference: String,
    /// For people: what was built.
    pub name: String,
    pub dockerfile: String,
    pub target: String,
    pub platform: String,
    /// Where its files come from, as far as its client said.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub repository: String,
    pub started: i64,
    /// None as long as it goes on.
    pub completed: Option<i64>,
    /// Empty where nothing went wrong.
    pub error: String,
    /// Given up by its client.
    pub canceled: bool,
    pub steps: usize,
    pub completed_steps: usize,
    pub cached_steps: usize,
    pub warnings: usize,
    /// The digest of the image's manifest, where one was made, and its names.
    pub image: String,
    pub image_names: Vec<String>,
    /// It stays however many come after it.
    pub pinned: bool,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BuildError {
    pub message: String,
    /// In the Dockerfile, from 1; 0 where the error has no place there.
    pub first_line: usize,
    pub last_line: usize,
    /// The context can't be had as it was named: send it as an archive.
    pub wants_archive: bool,
}
