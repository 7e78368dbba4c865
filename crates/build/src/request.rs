//! What is asked for: the options of a build, and the asker, who has the context and the secrets.

use std::any::Any;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use async_trait::async_trait;
use corten_image::{Digest, Platform};

use crate::attest::Attestations;
use crate::cache::{CacheSource, CacheTarget};
use crate::content::Content;
use crate::error::{Error, Result};
use crate::image_form::ImageForm;
use crate::input::Input;
use crate::remote_context::Origin;
use crate::worker::Agent;

/// The options of a build, as all ways in have them.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The Dockerfile, where the asker has it at hand.
    pub definition: Option<Definition>,
    /// Else its path in the context that holds it; `Dockerfile` when empty.
    pub dockerfile: String,
    /// A stage's name or number; the last one when empty.
    pub target: String,
    pub build_args: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    /// What to build for; the host's where there is none. Another one wants an emulator for its programs where a step runs any.
    pub platforms: Vec<Platform>,
    /// The image is an index, even of one platform.
    pub wants_index: bool,
    /// What is said of the images, beside them.
    pub attestations: Attestations,
    /// Where the context was fetched, if that is another host.
    pub origin: Option<Origin>,
    /// Where the Dockerfile comes from, as the asker has it: `source`, `revision`.
    pub vcs: BTreeMap<String, String>,
    pub no_cache: NoCache,
    /// Asks the registry for a newer base image although there is one.
    pub pull: bool,
    pub network: Network,
    /// Steps may ask for the host's network (`RUN --network=host`), whatever the network of the others is.
    pub allows_host_network: bool,
    /// `name:address`
    pub extra_hosts: Vec<String>,
    /// Other contexts by name.
    pub contexts: BTreeMap<String, NamedContext>,
    pub limits: Limits,
    /// The names that the image gets.
    pub tags: Vec<String>,
    pub form: ImageForm,
    /// Caches whose steps count as done, and where this build's steps go as one.
    pub cache_from: Vec<CacheSource>,
    pub cache_to: Vec<CacheTarget>,
    /// The asker looks into the container of a program that fails.
    pub debug: Option<Debug>,
}

/// How the asker wants to look into a failed step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Debug {
    /// By a terminal; else by streams alone.
    pub has_terminal: bool,
}

impl Options {
    /// What to build for: at least one platform, and each once.
    pub fn targets(&self) -> Vec<Platform> {
        let mut targets: Vec<Platform> = Vec::new();
        for platform in &self.platforms {
            let platform = platform.clone().normalised();
            if !targets.contains(&platform) {
                targets.push(platform);
            }
        }
        if targets.is_empty() {
            targets.push(Platform::host());
        }
        targets
    }

    /// Whether the image's names stand for an index: where there is more than an image of one platform.
    pub fn makes_index(&self) -> bool {
        let has_attestations = !self.attestations.is_empty() && !self.attestations.are_referrers();
        self.wants_index || has_attestations || self.targets().len() > 1
    }

    /// The platform that questions about the Dockerfile are answered for.
    pub fn first_target(&self) -> Platform {
        self.targets().swap_remove(0)
    }
}

/// A Dockerfile and what it leaves out of its context.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definition {
    /// For people: `Dockerfile`
    pub name: String,
    pub text: String,
    /// The patterns of its `.dockerignore`.
    pub ignore: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NoCache {
    #[default]
    None,
    All,
    Stages(Vec<String>),
}

/// The network of `RUN` steps that name none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Network {
    #[default]
    Default,
    None,
    Host,
    /// One of the engine's, by name or id.
    Named(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedContext {
    /// The tree that the asker knows by this name.
    Tree(String),
    Image(String),
    /// What is at a URL: a repository, an archive, a file.
    Remote(String),
    /// An image that a store of the asker's has, by the digest of its manifest or index ([`Asker::content`]).
    Layout {
        store: String,
        manifest: Digest,
    },
    /// What another build makes, by the asker's name for it ([`Asker::input`]).
    Input(String),
}

/// What the containers of `RUN` steps may use. 0 and empty: the engine's defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub shm_bytes: u64,
    /// `name=soft:hard`
    pub ulimits: Vec<String>,
    pub cgroup_parent: String,
    pub memory_bytes: i64,
    pub memory_swap_bytes: i64,
    pub cpu_shares: i64,
    pub cpu_period_us: i64,
    pub cpu_quota_us: i64,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
}

/// A tree of files that steps may copy from. It lives as long as the value does.
#[derive(Clone)]
pub struct Tree {
    pub root: Arc<OwnedFd>,
    /// What removes the tree when the last one lets go of it, if anything does.
    pub keep: Option<Arc<dyn Any + Send + Sync>>,
}

/// Who asked for the build: has what only they have.
#[async_trait]
pub trait Asker: Send + Sync {
    /// The tree with that name: `context`, `dockerfile`, or that of a [`NamedContext::Tree`].
    async fn tree(&self, name: &str) -> Result<Tree>;

    /// A secret by its id; none when the asker has none of that id.
    async fn secret(&self, id: &str) -> Result<Option<Vec<u8>>>;

    /// The SSH agent of that id; none when the asker forwards none.
    async fn ssh(&self, id: &str) -> Result<Option<Arc<dyn Agent>>>;

    /// What the asker logs in to a registry with; none when it knows of nothing.
    async fn login(&self, _registry: &str) -> Result<Option<Login>> {
        Ok(None)
    }

    /// A store of blobs by the asker's name for it; none when the asker has no such stores.
    async fn content(&self, _store: &str) -> Result<Option<Arc<dyn Content>>> {
        Ok(None)
    }

    /// What another build makes that the asker knows by this name; waits until it is made.
    async fn input(&self, name: &str) -> Result<Arc<Input>> {
        Err(Error::Invalid(format!("invalid input {name}")))
    }

    /// Whether the asker itself tells how far its trees are: they come over a line.
    fn tells_of_trees(&self) -> bool {
        false
    }
}

/// A name and a password; an identity token has no name.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub username: String,
    pub secret: String,
}
