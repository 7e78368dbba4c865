//! Builds at this engine: what the builder asks of it. Images come from the store or their registries, programs run in containers
//! like all others, only that nobody sees these.

mod agent;
mod cache;
mod callbacks;
mod content;
mod context;
mod events;
mod fetch;
mod git;
mod history;
mod layout;
mod outputs;
mod progress;
mod reproducible;
mod step;
mod travel;
mod turns;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use corten_api::auth::AuthConfig;
use corten_build::{
    Answer, Asker, Built, CacheDirectory, CacheWish, Debug, Definition, Elsewhere, Event, Fetched, Options,
    Output, Question, Ran, RemoteContext, Repository, RunStep, Teller, Tree, Worker,
};
use corten_image::build::{BuildSession, CachedMount, CachedSource, Fingerprints, StepLayer};
use corten_image::manifest::media;
use corten_image::{DiffId, Digest, Image, ImageConfig, Platform, Reference};

use crate::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::image::{PullWish, failed};
use cache::mount_key;
pub(crate) use cache::{Builds, CacheMounts};
pub use cache::{CacheBounds, CacheEntry, CacheKind, CachePart, CachePrune, CacheRemoval, CacheRule};
pub use callbacks::Callback;
pub use events::told as build_event;
pub(crate) use history::History;
pub use history::{BuildEnd, Recording};
pub use outputs::{BuiltTree, check_referrers, check_split};
pub use travel::SentCache;

/// What a client wants to have built, and with whose names at registries.
pub struct BuildWish {
    pub options: Options,
    /// By the registry's address.
    pub auths: BTreeMap<String, AuthConfig>,
    /// No image is made: the files are wanted, not more.
    pub only_files: bool,
}

impl Engine {
    /// Where what outlives a build is kept, besides layers.
    pub fn build_root(&self) -> PathBuf {
        self.options.data_root.join("build")
    }

    /// Builds, and tells of it; ends when nobody listens any more.
    pub async fn build(
        &self,
        wish: BuildWish,
        asker: Arc<dyn Asker>,
        teller: Teller,
    ) -> corten_build::Result<Built> {
        let BuildWish { options, auths, only_files } = wish;
        let tags = options.tags.clone();
        let built = async {
            let platform = options.first_target();
            let imports =
                self.open_caches(&options.cache_from, &platform, &auths, asker.as_ref(), &teller).await?;
            let worker = EngineWorker { engine: self.clone(), auths, asker: asker.clone(), imports };
            corten_build::build(Arc::new(worker), asker, options, teller.clone(), only_files).await
        };
        let built = tokio::select! {
            built = built => built,
            () = teller.closed() => Err(corten_build::Error::Canceled),
        };
        // One that has failed has left steps, too.
        self.keep_to_build_budget();
        let built = built?;
        if let Some(image) = &built.image {
            let id = image.id.to_string();
            self.image_event(&id, "build", &id);
            for tag in &tags {
                self.image_event(&id, "tag", tag);
            }
        }
        self.collector().tidy();
        Ok(built)
    }
}

impl Engine {
    /// Fetches the context that is at a URL, before there is a build: the Dockerfile is in it.
    pub async fn build_remote_context(
        &self,
        url: &str,
        options: &Options,
        asker: Arc<dyn Asker>,
        teller: &Teller,
    ) -> corten_build::Result<RemoteContext> {
        let imports = travel::Imports::none(self);
        let worker = EngineWorker { engine: self.clone(), auths: BTreeMap::new(), asker, imports };
        let worker = Arc::new(worker);
        tokio::select! {
            fetched = corten_build::remote_context(worker, url, options, teller) => fetched,
            () = teller.closed() => Err(corten_build::Error::Canceled),
        }
    }
}

impl Engine {
    /// Answers a question about a Dockerfile. Of images it looks at those that are here.
    pub async fn build_answer(
        &self,
        question: Question,
        definition: Definition,
        options: Options,
    ) -> corten_build::Result<Answer> {
        let engine = self.clone();
        let find = move |name: &str, platform: &Platform| engine.base_here(name, platform);
        let answer = move || Ok(question.answer(&definition, &options, &find));
        crate::image::blocking(answer).await.map_err(told)?
    }

    /// The image that a build would start from, where the store has it.
    fn base_here(&self, name: &str, platform: &Platform) -> Option<ImageConfig> {
        let name = &meant(name);
        let known = self.images.resolve(name).ok()?;
        // Its registry has the other platforms of an index.
        let is_alone = media::kind(&known.descriptor.media_type) != Some(media::Kind::Index);
        let image = self.images.on_platform(name, platform).ok().or(is_alone.then_some(known))?;
        Some(image.config.clone())
    }
}

struct EngineWorker {
    engine: Engine,
    auths: BTreeMap<String, AuthConfig>,
    asker: Arc<dyn Asker>,
    imports: travel::Imports,
}

#[async_trait]
impl Worker for EngineWorker {
    fn session(&self) -> Arc<BuildSession> {
        Arc::new(BuildSession::new(self.engine.images.clone(), self.engine.layers.clone()))
    }

    fn fingerprints(&self) -> Arc<Fingerprints> {
        self.engine.builds.fingerprints.clone()
    }

    async fn image(
        &self,
        name: &str,
        platform: &Platform,
        pull: bool,
        teller: &Teller,
        vertex: Digest,
    ) -> corten_build::Result<Arc<Image>> {
        let found = self.there(name, platform).await;
        match found {
            Ok(image) if !pull => return Ok(image),
            // An image by its ID is nowhere else.
            Ok(image) if Reference::parse(name).is_err() => return Ok(image),
            Err(error) if error.kind != ErrorKind::NotFound => return Err(told(error)),
            _ => {}
        }
        let reference = Reference::parse(name).map_err(|error| {
            corten_build::Error::Invalid(format!("failed to parse stage name {name:?}: {error}"))
        })?;
        let auth = auth_for(&self.auths, self.asker.as_ref(), &reference).await?;
        let wish = PullWish {
            name: reference.to_string(),
            tag: String::new(),
            platform: Some(platform.to_string()),
            auth,
        };
        let sender = progress::statuses(teller.clone(), vertex);
        self.engine.image_pull(wish, sender).await.map_err(|error| {
            let text = format!("failed to resolve source metadata for {reference}: {}", error.message);
            told(Error::new(error.kind, text))
        })?;
        self.there(name, platform).await.map_err(told)
    }

    async fn layout_image(
        &self,
        store: &str,
        manifest: &Digest,
        platform: &Platform,
        teller: &Teller,
        vertex: Digest,
    ) -> corten_build::Result<Arc<Image>> {
        let (asker, sender) = (self.asker.as_ref(), progress::statuses(teller.clone(), vertex));
        self.engine.build_layout_image(asker, store, manifest, platform, sender).await.map_err(told)
    }

    async fn fetch(
        &self,
        url: &str,
        expected: Option<&Digest>,
        wants_file: bool,
    ) -> corten_build::Result<Fetched> {
        self.engine.build_fetch(url, expected, wants_file).await
    }

    async fn repository(&self, repository: &Repository, wants_files: bool) -> corten_build::Result<Fetched> {
        self.engine.build_repository(self.asker.as_ref(), repository, wants_files).await
    }

    async fn unpack(&self, archive: File) -> corten_build::Result<Tree> {
        self.engine.build_context_of_archive(BufReader::new(archive)).await.map_err(told)
    }

    fn imported(
        &self,
        session: &BuildSession,
        key: &Digest,
    ) -> corten_build::Result<Option<Option<StepLayer>>> {
        self.imports.find(session, key)
    }

    fn imported_source(&self, request: &Digest) -> Option<CachedSource> {
        self.imports.find_source(request)
    }

    async fn bring(
        &self,
        session: &Arc<BuildSession>,
        layers: &[DiffId],
        teller: &Teller,
        vertex: Digest,
    ) -> corten_build::Result<()> {
        self.imports.bring(session, layers, teller, vertex).await
    }

    fn elsewhere(&self, layer: &DiffId) -> Option<Elsewhere> {
        self.imports.elsewhere(layer)
    }

    async fn run(&self, step: RunStep, output: Output<'_>) -> corten_build::Result<Ran> {
        step::run(&self.engine, step, output).await.map_err(told)
    }

    async fn look_into(
        &self,
        failed: &Ran,
        shell: Vec<String>,
        debug: Debug,
        teller: &Teller,
    ) -> corten_build::Result<()> {
        let gone = step::ready_shell(&self.engine, &failed.snapshot, shell, debug).map_err(told)?;
        let event = Event::Failed(failed.snapshot.clone());
        teller.send(event).await.map_err(|_| corten_build::Error::Canceled)?;
        gone.await;
        Ok(())
    }

    async fn cache_directory(
        &self,
        wish: CacheWish,
        teller: &Teller,
        vertex: Digest,
    ) -> corten_build::Result<CacheDirectory> {
        let name = mount_key(&wish).hex();
        let slot = Arc::new(self.engine.builds.mounts.enter(&name, wish.is_private).await);
        if let Some(brought) = self.imports.mount(&wish, &slot, teller, vertex).await? {
            return Ok(brought);
        }
        let engine = self.engine.clone();
        crate::image::blocking(move || engine.build_cache_directory(&wish, slot)).await.map_err(told)
    }

    fn imported_mount(&self, wish: &CacheWish) -> Option<CachedMount> {
        self.imports.find_mount(wish)
    }

    async fn cache_turn(&self, id: &str) -> Box<dyn std::any::Any + Send + Sync> {
        Box::new(self.engine.builds.mount_turns.take(id).await)
    }

    async fn step_turn(&self, key: &Digest) -> Box<dyn std::any::Any + Send + Sync> {
        Box::new(self.engine.builds.step_turns.take(&key.hex()).await)
    }
}

impl EngineWorker {
    /// The image for that platform, where the store has it.
    async fn there(&self, name: &str, platform: &Platform) -> Result<Arc<Image>> {
        let name = &meant(name);
        let image = self.engine.images.resolve(name).map_err(failed)?;
        if image.config.platform().fitness(platform).is_some() {
            return Ok(image);
        }
        let (engine, name, platform) = (self.engine.clone(), name.to_owned(), platform.clone());
        let found = move || engine.images.resolve_platform(&name, &platform).map_err(failed);
        crate::image::blocking(found).await
    }
}

/// The digits of an ID that people are shown.
const ID_DIGITS_MIN: usize = 12;

/// What a build means by a name. An image's ID it is only with as many digits as people are shown: a repository may be called `cafe`, and
/// must not be another image wherever an ID begins so.
fn meant(name: &str) -> String {
    let digits = name.strip_prefix("sha256:").unwrap_or(name);
    let is_id = digits.len() >= ID_DIGITS_MIN && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    match Reference::parse(name) {
        Ok(reference) if !is_id => reference.to_string(),
        _ => name.to_owned(),
    }
}

/// Who to be at an image's registry: what came with the wish, else what the asker says when it is asked.
async fn auth_for(
    auths: &BTreeMap<String, AuthConfig>,
    asker: &dyn Asker,
    reference: &Reference,
) -> corten_build::Result<AuthConfig> {
    let hub = ["https://index.docker.io/v1/", "docker.io", "index.docker.io"];
    let domain = reference.domain();
    let known = match domain {
        "docker.io" => hub.iter().find_map(|name| auths.get(*name)),
        _ => auths.get(domain).or_else(|| auths.get(&format!("https://{domain}"))),
    };
    match known {
        Some(known) => Ok(known.clone()),
        None => login(asker, domain).await,
    }
}

/// Who the asker is at a registry.
async fn login(asker: &dyn Asker, domain: &str) -> corten_build::Result<AuthConfig> {
    // The Hub's own address is what clients know it by.
    let registry = if domain == "docker.io" { "registry-1.docker.io" } else { domain };
    let login = asker.login(registry).await?;
    Ok(login.map_or_else(AuthConfig::default, |login| match login.username.is_empty() {
        true => AuthConfig { identitytoken: login.secret, ..AuthConfig::default() },
        false => AuthConfig { username: login.username, password: login.secret, ..AuthConfig::default() },
    }))
}

/// An error of the engine's as the builder tells it.
fn told(error: Error) -> corten_build::Error {
    match error.kind {
        ErrorKind::NotFound => corten_build::Error::NotFound(error.message),
        ErrorKind::InvalidParameter => corten_build::Error::Invalid(error.message),
        _ => corten_build::Error::Internal(error.message),
    }
}
