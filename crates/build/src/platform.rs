//! A build for one platform: which stages are needed, each done once, those that don't need each other at the same time.

use std::any::Any;
use std::collections::BTreeSet;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use corten_image::build::{CachedSource, Graft, Stack, StepLayer};
use corten_image::{Digest, Image, Platform, Reference};

use crate::build::{Outcome, Shared};
use crate::cache::{DoneStep, UsedMount};
use crate::dockerfile::{Dockerfile, Stage};
use crate::error::{Error, Result};
use crate::material::Material;
use crate::request::{NamedContext, NoCache, Tree};
use crate::stage::Running;
use crate::stages::Stages;
use crate::state::State;
use crate::variables::Globals;
use crate::vertex::Told;
use crate::{provenance, sbom, secrets};

/// A step that is to be.
pub enum Claim {
    /// It was done before; none where it changed no file.
    Known(Option<StepLayer>),
    /// It is to be done by whoever has this. Where nothing known is to be used nobody waits for it.
    Ours(Option<Box<dyn Any + Send + Sync>>),
}

/// A build for one platform on its way.
pub struct Build {
    shared: Arc<Shared>,
    pub globals: Globals,
    pub platform: Platform,
    stages: Stages,
    pub materials: Mutex<BTreeSet<Material>>,
    /// What a cache of this build would have.
    done: Mutex<Vec<DoneStep>>,
    mounts: Mutex<Vec<UsedMount>>,
    sources: Mutex<Vec<CachedSource>>,
    /// Whether programs could fetch things by themselves.
    pub has_network: AtomicBool,
}

impl Deref for Build {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Build {
    pub fn new(shared: &Arc<Shared>, platform: Platform) -> Result<Build> {
        let Dockerfile { global_args, directives, stages, .. } = &shared.dockerfile;
        let context = shared.options.origin.iter().map(|origin| origin.material.clone());
        Ok(Build {
            shared: shared.clone(),
            globals: Globals::new(global_args, &shared.options, directives.escape, &platform)?,
            platform,
            stages: Stages::new(stages.len()),
            materials: Mutex::new(context.collect()),
            done: Mutex::default(),
            mounts: Mutex::default(),
            sources: Mutex::default(),
            has_network: AtomicBool::new(false),
        })
    }

    /// Does the target stage, and all that it needs.
    pub async fn run(&mut self, target: usize) -> Result<Outcome> {
        let mut state = self.finished(target).await?;
        for (name, value) in &self.options.labels {
            state.config().labels.insert(name.clone(), value.clone());
        }
        let stages = self.dockerfile.stages.iter().enumerate().filter_map(|(number, stage)| {
            let name = stage.name().map_or_else(|| number.to_string(), str::to_owned);
            Some((name, self.stages.done(number)?.clone()))
        });
        let materials = self.materials.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Outcome {
            platform: self.platform.clone(),
            state,
            stages: stages.collect(),
            materials: materials.into_iter().collect(),
            steps: self.done.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            mounts: self.mounts.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            sources: self.sources.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            said: Vec::new(),
        })
    }

    /// Adds what is to be said of the outcome.
    pub async fn attest(&self, mut outcome: Outcome) -> Result<Outcome> {
        let wishes = &self.options.attestations;
        if let Some(format) = wishes.sbom {
            let platform = &self.platform;
            let mut told = Told::new(
                &self.teller,
                self.id("sbom"),
                format!("[{platform}] looking for packages",),
                Vec::new(),
            );
            told.start().await?;
            let (session, stack, created) =
                (self.session.clone(), outcome.state.stack.clone(), outcome.state.newest);
            let name = self.options.tags.first().map_or("image", String::as_str).to_owned();
            let found = crate::blocking(move || {
                let root = if stack.is_empty() { None } else { Some(session.merged(&stack)?) };
                let inventory = sbom::inventory(root.as_ref())?;
                Ok(sbom::document(&inventory, format, &name, &stack, created))
            });
            let content = told.end(found.await).await?;
            outcome.said.push(sbom::predicate(content, format));
        }
        if let Some(wish) = &wishes.provenance {
            let source = match wish.is_full {
                // It may be long.
                true => {
                    let shared = self.shared.clone();
                    let public = move || Ok(secrets::public(&shared.source.text, &shared.dockerfile));
                    Some(crate::blocking(public).await?)
                }
                false => None,
            };
            outcome.said.push(provenance::predicate(self, wish, source));
        }
        Ok(outcome)
    }

    /// Notes what went in from outside.
    pub fn note(&self, material: Material) {
        self.materials.lock().unwrap_or_else(PoisonError::into_inner).insert(material);
    }

    /// What stands in front of the names of steps on a platform: `linux/amd64->arm64 `; nothing where the build is for one platform.
    pub fn place(&self, platform: &Platform) -> String {
        if !self.is_of_several {
            return String::new();
        }
        let (platform, target) = (platform.clone().normalised(), &self.platform);
        if platform == *target {
            return format!("{platform} ");
        }
        let variant = target.variant.as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
        format!("{platform}->{}{variant} ", target.architecture)
    }

    /// An id for what this build tells of that other platforms' have too.
    pub fn id(&self, name: &str) -> Digest {
        match self.is_of_several {
            true => Digest::of(format!("{} {name}", self.platform).as_bytes()),
            false => Digest::of(name.as_bytes()),
        }
    }

    /// What the target becomes, with all its layers here. Where a cache has promised what it doesn't have the build begins anew: what
    /// was found on top of it counts no more.
    async fn finished(&mut self, target: usize) -> Result<State> {
        loop {
            self.stages = Stages::new(self.dockerfile.stages.len());
            (self.done, self.mounts, self.sources) = Default::default();
            match self.whole(target).await {
                Err(error) if matches!(error.cause(), Error::Lost) => {}
                ended => return ended,
            }
        }
    }

    async fn whole(&self, target: usize) -> Result<State> {
        let state = self.stages.run(target, |stage| self.run_stage(stage)).await?;
        let state = State::clone(&state);
        if !state.stack.absent().is_empty() {
            let (id, place) = (self.id("import"), self.place(&self.platform));
            let name = format!("{place}importing layers of the build cache");
            let mut told = Told::new(&self.teller, id, name, Vec::new());
            told.start().await?;
            let brought = self.bring(&state.stack, &told).await;
            told.end(brought).await?;
        }
        Ok(state)
    }

    /// Sees to it that the layers of a stack are here, as a part of a step.
    pub async fn bring(&self, stack: &Stack, told: &Told) -> Result<()> {
        let absent = stack.absent();
        if absent.is_empty() {
            return Ok(());
        }
        self.worker.bring(&self.session, &absent, &self.teller, told.id()).await
    }

    /// Notes a step for those to whom this build's cache goes. The description is for everybody: of ARG it has no values.
    pub fn note_step(&self, key: Digest, layer: Option<StepLayer>, description: String) {
        let step = DoneStep { key, layer: layer.map(|layer| layer.id()), description };
        self.done.lock().unwrap_or_else(PoisonError::into_inner).push(step);
    }

    /// Notes a cache mount for those to whom it goes, too.
    pub fn note_mount(&self, mount: UsedMount) {
        self.mounts.lock().unwrap_or_else(PoisonError::into_inner).push(mount);
    }

    /// Notes what was read of layers for those to whom it goes, too.
    pub fn note_source(&self, source: CachedSource) {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).push(source);
    }

    /// What another stage becomes.
    pub async fn stage(&self, index: usize) -> Result<Arc<State>> {
        self.stages.get(index).await
    }

    /// Does a stage; those that it needs begin at the same time.
    async fn run_stage(&self, index: usize) -> Result<State> {
        self.needed_by(index).into_iter().for_each(|stage| self.stages.want(stage));
        let base = self.base_of(index).await?;
        Running::new(self, index, base).run().await
    }

    /// The stages that a stage names.
    fn needed_by(&self, index: usize) -> Vec<usize> {
        let Some(stage) = self.dockerfile.stages.get(index) else { return Vec::new() };
        stage.sources().filter_map(|name| self.find_stage(name, index)).collect()
    }

    /// The stage before `before` that has this name or number.
    pub fn find_stage(&self, name: &str, before: usize) -> Option<usize> {
        self.survey().find_stage(name, before)
    }

    pub fn parsed_stage(&self, index: usize) -> &Stage {
        &self.dockerfile.stages[index]
    }

    /// What FROM names.
    async fn base_of(&self, index: usize) -> Result<State> {
        let from = &self.parsed_stage(index).from;
        let at = |error: Error| error.at(from.span.first_line as usize, from.span.last_line as usize);
        let escape = self.dockerfile.directives.escape;
        let name = self.globals.expand(escape, &from.value.image).map_err(at)?;
        if name.is_empty() {
            let text = format!("base name ({}) should not be blank", from.value.image);
            return Err(at(Error::Invalid(text)));
        }
        let platform = match &from.value.platform {
            Some(text) => {
                let text = self.globals.expand(escape, text).map_err(at)?;
                text.parse::<Platform>().map_err(|error| at(Error::Invalid(error.to_string())))?
            }
            None => self.platform.clone(),
        };
        if let Some(stage) = self.find_stage(&name, index) {
            return Ok(State::clone(&*self.stage(stage).await?));
        }
        if name == "scratch" && !self.options.contexts.contains_key("scratch") {
            return Ok(State::scratch(&platform));
        }
        self.outside(&name, &platform).await.map_err(at)
    }

    /// An image, or an image of a named context's files.
    pub async fn outside(&self, name: &str, platform: &Platform) -> Result<State> {
        if let Some(tree) = self.named_tree(name).await? {
            return self.tree_image(name, tree, platform).await;
        }
        let image = match self.options.contexts.get(name) {
            Some(NamedContext::Image(image)) if image == "scratch" => return Ok(State::scratch(platform)),
            Some(NamedContext::Layout { store, manifest }) => {
                return self.layout(name, store, manifest, platform).await;
            }
            Some(NamedContext::Input(input)) => return self.input(name, input, platform).await,
            Some(NamedContext::Image(image)) => image,
            _ => name,
        };
        Ok(State::of_image(&*self.image(image, platform).await?))
    }

    async fn image(&self, name: &str, platform: &Platform) -> Result<Arc<Image>> {
        let canonical = Reference::parse(name).map_or_else(|_| name.to_owned(), |name| name.to_string());
        let pull = self.options.pull;
        let bring = |vertex| self.worker.image(name, platform, pull, &self.teller, vertex);
        let image = self.brought(&format!("{name} {platform}"), &canonical, platform, bring).await?;
        self.note(Material::image(name, platform, &image));
        Ok(image)
    }

    /// An image of the asker's.
    async fn layout(&self, name: &str, store: &str, manifest: &Digest, platform: &Platform) -> Result<State> {
        let id = format!("{store} {manifest} {platform}");
        let bring = |vertex| self.worker.layout_image(store, manifest, platform, &self.teller, vertex);
        let image = self.brought(&id, &format!("{name}@{manifest}"), platform, bring).await?;
        self.note(Material::layout(name, platform, manifest));
        Ok(State::of_image(&image))
    }

    /// What another build makes.
    async fn input(&self, name: &str, input: &str, platform: &Platform) -> Result<State> {
        let cell = {
            let mut inputs = self.inputs.lock().unwrap_or_else(PoisonError::into_inner);
            inputs.entry(input.to_owned()).or_default().clone()
        };
        let load = async || {
            let id = Digest::of(format!("input {input}").as_bytes());
            let label = format!("[context {name}] load from another build");
            let mut told = Told::new(&self.teller, id, label, Vec::new());
            told.start().await?;
            told.end(self.asker.input(input).await).await
        };
        let unusable = |error| match error {
            Error::Canceled => error,
            error => Error::Invalid(format!("cannot use the context {name}: {error}")),
        };
        let made = cell.get_or_try_init(load).await.map_err(unusable)?;
        let part = made.part(platform).map_err(unusable)?;
        part.materials.iter().for_each(|material| self.note(material.clone()));
        Ok(part.state.clone())
    }

    /// An image that is brought once, and stays as long as the build goes on. `shown` is for people.
    async fn brought<F: Future<Output = Result<Arc<Image>>>>(
        &self,
        id: &str,
        shown: &str,
        platform: &Platform,
        bring: impl FnOnce(Digest) -> F,
    ) -> Result<Arc<Image>> {
        let cell = {
            let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
            images.entry(id.to_owned()).or_default().clone()
        };
        let load = async || {
            let place = if self.is_of_several { format!("{platform} ") } else { String::new() };
            let label = format!("[{place}internal] load metadata for {shown}");
            let mut told = Told::new(&self.teller, Digest::of(id.as_bytes()), label, Vec::new());
            told.start().await?;
            let held = bring(told.id()).await.and_then(|image| {
                self.session.hold_image(&image)?;
                Ok(image)
            });
            told.end(held).await
        };
        cell.get_or_try_init(load).await.cloned()
    }

    /// Whether steps of a stage are to be done again although they are known.
    pub fn is_uncached(&self, index: usize) -> bool {
        match &self.options.no_cache {
            NoCache::None => false,
            NoCache::All => true,
            NoCache::Stages(stages) => {
                let own = self.parsed_stage(index).name();
                stages.iter().any(|name| {
                    own.is_some_and(|own| own.eq_ignore_ascii_case(name)) || name.parse() == Ok(index)
                })
            }
        }
    }

    /// What the step with that key, or else with one of the others, made; else the right to do it, after whoever was at it has given up or
    /// failed.
    pub async fn claim(&self, key: &Digest, others: &[Digest]) -> Result<Claim> {
        if let Some(layer) = self.find(key)? {
            return Ok(Claim::Known(layer));
        }
        match self.worker.imported(&self.session, key)? {
            Some(layer) => Ok(Claim::Known(layer)),
            None => self.claim_any_here(key, others).await,
        }
    }

    /// The same by what this host remembers alone.
    pub async fn claim_here(&self, key: &Digest) -> Result<Claim> {
        self.claim_any_here(key, &[]).await
    }

    async fn claim_any_here(&self, key: &Digest, others: &[Digest]) -> Result<Claim> {
        let find = || {
            let keys = std::iter::once(key).chain(others);
            keys.map(|key| self.find(key)).find_map(Result::transpose).transpose()
        };
        if let Some(layer) = find()? {
            return Ok(Claim::Known(layer));
        }
        let turn = self.worker.step_turn(key).await;
        // It may have been done meanwhile.
        Ok(find()?.map_or(Claim::Ours(Some(turn)), Claim::Known))
    }

    fn find(&self, key: &Digest) -> Result<Option<Option<StepLayer>>> {
        let found = self.session.find(key)?;
        if found.is_some() {
            self.used.lock().unwrap_or_else(PoisonError::into_inner).push(*key);
        }
        Ok(found)
    }

    /// The layers of a state, merged.
    pub async fn merged(&self, state: &State, told: &Told) -> Result<Option<OwnedFd>> {
        if state.stack.is_empty() {
            return Ok(None);
        }
        self.bring(&state.stack, told).await?;
        Ok(Some(self.session.merged(&state.stack)?))
    }

    /// Makes a layer of files and remembers it; `keep` is what they lie in.
    pub async fn graft(
        &self,
        key: Digest,
        graft: Graft,
        description: String,
        keep: Vec<Tree>,
    ) -> Result<Option<StepLayer>> {
        let session = self.session.clone();
        crate::blocking(move || {
            let layer = session.graft(&key, graft, &description);
            drop(keep);
            Ok(layer?)
        })
        .await
    }
}
