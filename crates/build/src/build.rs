//! One build: which stages are needed, each done once, those that don't need each other at the same time.

use std::any::Any;
use std::collections::{BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use corten_image::build::{BuildSession, Graft, StepLayer};
use corten_image::{Digest, Image, Platform, Reference};
use futures_util::future::{BoxFuture, FutureExt, join_all, pending};
use tokio::sync::OnceCell;

use crate::context::Context;
use crate::dockerfile::{self, Dockerfile, Stage};
use crate::error::{Error, Result};
use crate::progress::{Event, Teller, Warning};
use crate::request::{Asker, NamedContext, NoCache, Options, Tree};
use crate::stage::Running;
use crate::state::State;
use crate::variables::Globals;
use crate::vertex::Told;
use crate::worker::Worker;

/// What a build has made.
pub struct Built {
    pub state: State,
    /// The image, where one was asked for.
    pub image: Option<Arc<Image>>,
    pub session: Arc<BuildSession>,
    /// All stages that were done, by name or number, in the order of the Dockerfile.
    pub stages: Vec<(String, Arc<State>)>,
}

/// Builds what the Dockerfile says, and an image of it unless `only_files`.
pub async fn build(
    worker: Arc<dyn Worker>,
    asker: Arc<dyn Asker>,
    options: Options,
    teller: Teller,
    only_files: bool,
) -> Result<Built> {
    let session = worker.session();
    let source = crate::context::definition(asker.as_ref(), &options, &teller).await?;
    let dockerfile = dockerfile::parse(&source.text).map_err(|error| Error::Invalid(error.to_string()))?;
    let platform = options.platform.clone().unwrap_or_else(Platform::host);
    let globals = Globals::new(&dockerfile.global_args, &options, dockerfile.directives.escape, &platform)?;
    let target = target(&dockerfile, &options.target)?;
    warn(&teller, &dockerfile, &options, &platform, source.ignore.as_deref()).await?;
    let names: Vec<Reference> = options
        .tags
        .iter()
        .map(|tag| Reference::parse(tag).map_err(|error| Error::Invalid(error.to_string())))
        .collect::<Result<_>>()?;
    let build = Build {
        stages: dockerfile.stages.iter().map(|_| OnceCell::new()).collect(),
        epoch: epoch(&options)?,
        context: Context::new(source.ignore.as_deref())?,
        used: Mutex::default(),
        trees: tokio::sync::Mutex::default(),
        images: tokio::sync::Mutex::default(),
        worker,
        asker,
        options,
        teller,
        session,
        dockerfile,
        globals,
        platform,
    };
    let mut state = State::clone(&*build.stage(target).await?);
    for (name, value) in &build.options.labels {
        state.config().labels.insert(name.clone(), value.clone());
    }
    let mut image = None;
    if !only_files {
        let mut told =
            Told::new(&build.teller, Digest::of(b"export"), "exporting to image".to_owned(), Vec::new());
        told.start().await?;
        let composed = build.compose(&state, &names);
        image = Some(told.end(composed).await?);
    }
    let used = std::mem::take(&mut *build.used.lock().unwrap_or_else(PoisonError::into_inner));
    if !used.is_empty() {
        build.session.note_used(&used)?;
    }
    let stages = build.stages.iter().zip(&build.dockerfile.stages).enumerate();
    let stages = stages.filter_map(|(number, (done, stage))| {
        let name = stage.name().map_or_else(|| number.to_string(), str::to_owned);
        Some((name, done.get()?.clone()))
    });
    Ok(Built { state, image, stages: stages.collect(), session: build.session })
}

/// Tells what could be better in the Dockerfile; an error where that is to be one.
async fn warn(
    teller: &Teller,
    dockerfile: &Dockerfile,
    options: &Options,
    platform: &Platform,
    ignore: Option<&str>,
) -> Result<()> {
    let (found, is_error) = crate::question::findings(dockerfile, options, platform, ignore)?;
    let rules: BTreeSet<&str> = found.iter().map(|warning| warning.rule.name).collect();
    for warning in &found {
        let warning = Warning {
            vertex: None,
            rule: warning.rule.name.to_owned(),
            short: warning.detail.clone(),
            detail: vec![warning.rule.description.to_owned()],
            url: warning.url(),
            lines: Some((warning.span.first_line as usize, warning.span.last_line as usize)),
        };
        crate::vertex::tell(teller, Event::Warning(warning)).await?;
    }
    if is_error && !rules.is_empty() {
        let rules: Vec<&str> = rules.into_iter().collect();
        return Err(Error::Invalid(format!("lint violation found for rules: {}", rules.join(", "))));
    }
    Ok(())
}

/// The stage that is asked for: by name, by number, else the last.
pub fn target(dockerfile: &Dockerfile, wanted: &str) -> Result<usize> {
    let last = dockerfile.stages.len() - 1;
    if wanted.is_empty() {
        return Ok(last);
    }
    let named = dockerfile
        .stages
        .iter()
        .rposition(|stage| stage.name().is_some_and(|name| name.eq_ignore_ascii_case(wanted)));
    let numbered = wanted.parse::<usize>().ok().filter(|number| *number <= last);
    named.or(numbered).ok_or_else(|| Error::Invalid(format!("target stage {wanted:?} could not be found")))
}

/// The time beyond which no file's goes, where one is given (reproducible-builds.org/specs/source-date-epoch).
fn epoch(options: &Options) -> Result<Option<i64>> {
    let Some(text) = options.build_args.get("SOURCE_DATE_EPOCH").filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    text.parse().map(Some).map_err(|_| {
        Error::Invalid(format!("invalid SOURCE_DATE_EPOCH: {text}: give the seconds since 1970"))
    })
}

/// A step that is to be.
pub enum Claim {
    /// It was done before; none where it changed no file.
    Known(Option<StepLayer>),
    /// It is to be done by whoever has this. Where nothing known is to be used nobody waits for it.
    Ours(Option<Box<dyn Any + Send + Sync>>),
}

/// A build on its way.
pub struct Build {
    pub worker: Arc<dyn Worker>,
    pub asker: Arc<dyn Asker>,
    pub options: Options,
    pub teller: Teller,
    pub session: Arc<BuildSession>,
    pub dockerfile: Dockerfile,
    pub globals: Globals,
    pub platform: Platform,
    pub epoch: Option<i64>,
    pub context: Context,
    /// The keys that were found, to be noted at the end.
    pub used: Mutex<Vec<Digest>>,
    stages: Vec<OnceCell<Arc<State>>>,
    /// The trees of the asker's, each asked for once.
    pub trees: tokio::sync::Mutex<HashMap<String, Tree>>,
    images: tokio::sync::Mutex<HashMap<String, Arc<Image>>>,
}

impl Build {
    /// What a stage becomes; done by the first that asks.
    pub fn stage(&self, index: usize) -> BoxFuture<'_, Result<Arc<State>>> {
        async move {
            let cell = self.stages.get(index);
            let cell = cell.ok_or_else(|| Error::Invalid(format!("invalid stage index {index}")))?;
            cell.get_or_try_init(|| self.run_stage(index)).await.cloned()
        }
        .boxed()
    }

    /// Does a stage, and at the same time those that it needs.
    async fn run_stage(&self, index: usize) -> Result<Arc<State>> {
        let needed = self.needed_by(index);
        let ahead = async {
            // What went wrong with one of them is told by whoever needs it.
            join_all(needed.into_iter().map(|stage| self.stage(stage))).await;
            pending().await
        };
        let own = async {
            let base = self.base_of(index).await?;
            Running::new(self, index, base).run().await
        };
        tokio::select! {
            biased;
            state = own => Ok(Arc::new(state?)),
            never = ahead => never,
        }
    }

    /// The stages that a stage names.
    fn needed_by(&self, index: usize) -> Vec<usize> {
        let Some(stage) = self.dockerfile.stages.get(index) else { return Vec::new() };
        stage.sources().filter_map(|name| self.find_stage(name, index)).collect()
    }

    /// The stage before `before` that has this name or number.
    pub fn find_stage(&self, name: &str, before: usize) -> Option<usize> {
        if self.options.contexts.contains_key(name) {
            return None;
        }
        self.dockerfile.find_stage(name, before)
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
            Some(NamedContext::Image(image)) => image,
            _ => name,
        };
        Ok(State::of_image(&*self.image(image, platform).await?))
    }

    async fn image(&self, name: &str, platform: &Platform) -> Result<Arc<Image>> {
        let id = format!("{name} {platform}");
        let mut images = self.images.lock().await;
        if let Some(image) = images.get(&id) {
            return Ok(image.clone());
        }
        let canonical = Reference::parse(name).map_or_else(|_| name.to_owned(), |name| name.to_string());
        let label = format!("[internal] load metadata for {canonical}");
        let mut told = Told::new(&self.teller, Digest::of(id.as_bytes()), label, Vec::new());
        told.start().await?;
        let vertex = told.id();
        let found = self.worker.image(name, platform, self.options.pull, &self.teller, vertex).await;
        let held = found.and_then(|image| {
            self.session.hold_image(&image)?;
            Ok(image)
        });
        let image = told.end(held).await?;
        images.insert(id, image.clone());
        Ok(image)
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

    /// What the step with that key made; else the right to do it, after whoever was at it has given up or failed.
    pub async fn claim(&self, key: &Digest) -> Result<Claim> {
        if let Some(layer) = self.find(key)? {
            return Ok(Claim::Known(layer));
        }
        let turn = self.worker.step_turn(key).await;
        // It may have been done meanwhile.
        Ok(self.find(key)?.map_or(Claim::Ours(Some(turn)), Claim::Known))
    }

    fn find(&self, key: &Digest) -> Result<Option<Option<StepLayer>>> {
        let found = self.session.find(key)?;
        if found.is_some() {
            self.used.lock().unwrap_or_else(PoisonError::into_inner).push(*key);
        }
        Ok(found)
    }

    /// The layers of a state, merged.
    pub fn merged(&self, state: &State) -> Result<Option<OwnedFd>> {
        if state.stack.is_empty() {
            return Ok(None);
        }
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

    fn compose(&self, state: &State, names: &[Reference]) -> Result<Arc<Image>> {
        let mut config = state.image.clone();
        config.created = Some(crate::state::time(state.newest));
        Ok(self.session.compose(&state.stack, config, state.base, names)?)
    }
}
