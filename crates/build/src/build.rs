//! A build: what it is asked for and what it has made, with what all of its platforms have in common.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use corten_image::build::{BuildSession, CacheList, CachedSource, Part, Shape, Statement};
use corten_image::config::ImageConfig;
use corten_image::manifest::{Descriptor, media};
use corten_image::{DiffId, Digest, Image, ImageId, Platform, Reference};
use futures_util::future::{try_join, try_join_all};
use tokio::sync::OnceCell;

use crate::attest::{Predicate, Subject};
use crate::cache::{CachePlace, DoneStep, UsedMount};
use crate::context::Context;
use crate::dockerfile::{self, Dockerfile};
use crate::error::{Error, Result};
use crate::image_form::Annotations;
use crate::input::Input;
use crate::material::{Material, purl};
use crate::platform::Build;
use crate::progress::{Event, Teller, Warning};
use crate::question::Checks;
use crate::remote_context::RemoteContext;
use crate::request::{Asker, Definition, Options, Tree};
use crate::state::State;
use crate::vertex::Told;
use crate::worker::Worker;

/// What a build has made.
pub struct Built {
    /// At least one, in the order in which the platforms were asked for.
    pub outcomes: Vec<Outcome>,
    /// The image, where one was asked for; of several platforms the one that suits this host best.
    pub image: Option<Arc<Image>>,
    /// What the image's names stand for: its manifest, or the index of all platforms.
    pub target: Option<Descriptor>,
    /// Whether it was asked for as one of several platforms, or as several.
    pub is_of_several: bool,
    pub session: Arc<BuildSession>,
    /// Who has done it, and knows of layers that are not here.
    pub worker: Arc<dyn Worker>,
}

impl Built {
    /// The image's id; none where its names stand for an index, which has one for each platform.
    pub fn id(&self) -> Option<ImageId> {
        let image = self.image.as_ref()?;
        self.target.as_ref().filter(|target| target.media_type != media::OCI_INDEX).map(|_| image.id)
    }
}

/// What a build has made for one platform.
pub struct Outcome {
    pub platform: Platform,
    pub state: State,
    /// All stages that were done, by name or number, in the order of the Dockerfile.
    pub stages: Vec<(String, Arc<State>)>,
    /// What went in from outside.
    pub materials: Vec<Material>,
    /// The steps that were done or found.
    pub steps: Vec<DoneStep>,
    /// Their cache mounts; the same one may be there several times.
    pub mounts: Vec<UsedMount>,
    /// What was read of layers.
    pub sources: Vec<CachedSource>,
    /// What is to be said of it.
    pub said: Vec<Predicate>,
}

impl Outcome {
    /// Those statements about a manifest with these names.
    fn statements(&self, names: &[Reference], manifest: &Descriptor) -> Vec<Statement> {
        let digest = manifest.digest;
        let subject = |name: &Reference| Subject { name: purl(name, Some(&self.platform)), digest };
        let mut subjects: Vec<Subject> = names.iter().map(subject).collect();
        if subjects.is_empty() {
            subjects.push(Subject { name: "_".to_owned(), digest });
        }
        let statement = |said: &Predicate| Statement {
            predicate_type: said.kind.to_owned(),
            bytes: said.statement(&subjects),
        };
        self.said.iter().map(statement).collect()
    }
}

/// Builds what the Dockerfile says, and an image of it unless `only_files`.
pub async fn build(
    worker: Arc<dyn Worker>,
    asker: Arc<dyn Asker>,
    options: Options,
    teller: Teller,
    only_files: bool,
) -> Result<Built> {
    let started = SystemTime::now();
    let session = worker.session();
    let source = crate::context::definition(asker.as_ref(), &options, &teller).await?;
    let dockerfile = dockerfile::parse(&source.text).map_err(|error| Error::Invalid(error.to_string()))?;
    let target = target(&dockerfile, &options.target)?;
    let names: Vec<Reference> = options
        .tags
        .iter()
        .map(|tag| Reference::parse(tag).map_err(|error| Error::Invalid(error.to_string())))
        .collect::<Result<_>>()?;
    options.form.check(&options.targets(), options.makes_index())?;
    let (targets, is_inline) = (options.targets(), is_inline(&options, only_files)?);
    let shared = Shared {
        epoch: epoch(&options)?,
        context: Context::new(source.ignore.as_deref())?,
        is_of_several: options.wants_index || targets.len() > 1,
        used: Mutex::default(),
        trees: tokio::sync::Mutex::default(),
        remotes: tokio::sync::Mutex::default(),
        images: Mutex::default(),
        inputs: Mutex::default(),
        asked_for: Mutex::default(),
        invocation: invocation(started),
        started,
        source,
        worker,
        asker,
        options,
        teller,
        session,
        dockerfile,
    };
    let shared = Arc::new(shared);
    let mut builds: Vec<Build> =
        targets.into_iter().map(|platform| Build::new(&shared, platform)).collect::<Result<_>>()?;
    let attested = builds.iter_mut().map(|build| async move {
        let outcome = build.run(target).await?;
        build.attest(outcome).await
    });
    // Bases that are not here come while other stages are on their way; what a warning is to stop must wait for them.
    let first = Build::new(&shared, shared.options.first_target())?;
    let survey = first.survey();
    let checks = Checks::new(&survey)?;
    let checked = warn(&first, &checks, target);
    let mut outcomes = match checks.are_strict() {
        true => {
            checked.await?;
            try_join_all(attested).await?
        }
        false => try_join(checked, try_join_all(attested)).await?.1,
    };
    let (mut image, mut made_as) = (None, None);
    if !only_files {
        let mut told =
            Told::new(&shared.teller, Digest::of(b"export"), "exporting to image".to_owned(), Vec::new());
        told.start().await?;
        let composed = told.end(shared.compose(&mut outcomes, names, is_inline).await).await?;
        (image, made_as) = (Some(composed.0), Some(composed.1));
    }
    let used = std::mem::take(&mut *shared.used.lock().unwrap_or_else(PoisonError::into_inner));
    if !used.is_empty() {
        shared.session.note_used(&used)?;
    }
    let (session, worker, is_of_several) =
        (shared.session.clone(), shared.worker.clone(), shared.is_of_several);
    Ok(Built { outcomes, image, target: made_as, is_of_several, session, worker })
}

/// Tells what could be better in the stages that the target needs; an error where that is to be one.
async fn warn(build: &Build, checks: &Checks<'_>, target: usize) -> Result<()> {
    let needed = build.survey().needed(target);
    let bases = build.bases(&needed).await?;
    let found = checks.findings(build.source.ignore.as_deref(), &needed, &bases)?;
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
        crate::vertex::tell(&build.teller, Event::Warning(warning)).await?;
    }
    if checks.are_strict() && !rules.is_empty() {
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

/// A number for a build that no other has: of its time and of what this process has begun before.
fn invocation(started: SystemTime) -> String {
    static BUILDS: AtomicU64 = AtomicU64::new(0);
    let number = BUILDS.fetch_add(1, Ordering::Relaxed);
    Digest::of(format!("{started:?} {} {number}", std::process::id()).as_bytes()).hex()[..32].to_owned()
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

/// Whether the image is to tell of its steps: by `--cache-to type=inline`, or as `docker build` says it.
fn is_inline(options: &Options, only_files: bool) -> Result<bool> {
    if options.cache_to.iter().any(|target| target.place == CachePlace::Image) {
        return match only_files {
            true => Err(Error::Invalid(
                "a build cache of type inline is in an image, and only files are asked for".to_owned(),
            )),
            false => Ok(true),
        };
    }
    let wish = options.build_args.get("BUILDKIT_INLINE_CACHE").map_or("", String::as_str);
    Ok(matches!(wish, "1" | "t" | "T" | "true" | "TRUE" | "True"))
}

/// What the platforms of a build have in common.
pub struct Shared {
    pub worker: Arc<dyn Worker>,
    pub asker: Arc<dyn Asker>,
    pub options: Options,
    pub teller: Teller,
    pub session: Arc<BuildSession>,
    pub dockerfile: Dockerfile,
    pub epoch: Option<i64>,
    pub context: Context,
    /// Whether there are other platforms, or might be: steps then say theirs.
    pub is_of_several: bool,
    /// The keys that were found, to be noted at the end.
    pub used: Mutex<Vec<Digest>>,
    /// The trees of the asker's, each asked for once.
    pub trees: tokio::sync::Mutex<HashMap<String, Tree>>,
    /// What named contexts have at URLs, each fetched once.
    pub remotes: tokio::sync::Mutex<HashMap<String, RemoteContext>>,
    /// The images that were asked for, each once.
    pub images: Mutex<HashMap<String, Arc<OnceCell<Arc<Image>>>>>,
    /// What other builds make, each waited for once.
    pub inputs: Mutex<HashMap<String, Arc<OnceCell<Arc<Input>>>>>,
    /// What only the asker has, by its kind (`local`, `secret`, `ssh`) and name.
    pub asked_for: Mutex<BTreeSet<(&'static str, String)>>,
    pub started: SystemTime,
    /// What tells this build from all others.
    pub invocation: String,
    /// The Dockerfile.
    pub source: Definition,
}

impl Shared {
    /// Makes an image of what all platforms have become.
    async fn compose(
        &self,
        outcomes: &mut Vec<Outcome>,
        names: Vec<Reference>,
        is_inline: bool,
    ) -> Result<(Arc<Image>, Descriptor)> {
        let mut configs = Vec::new();
        for Outcome { state, steps, .. } in &*outcomes {
            let mut config = state.image.clone();
            config.created = Some(crate::state::time(state.newest));
            if is_inline {
                let own: HashSet<DiffId> = state.stack.ids().into_iter().collect();
                let steps = crate::cache::listed(steps, &self.session, |layer| own.contains(layer))?;
                let list = CacheList::new(steps, Vec::new(), Vec::new())
                    .map_err(|error| Error::Internal(error.to_string()))?;
                config.build_cache = Some(list);
            }
            configs.push(config);
        }
        let has_referrers = self.options.attestations.are_referrers();
        let (is_index, form) = (self.options.makes_index(), &self.options.form);
        let is_plain = !is_index && !has_referrers && form.is_default();
        if let ([Outcome { state, .. }], true) = (&outcomes[..], is_plain) {
            let config = configs.pop().unwrap_or_default();
            let (image, named) = self.session.compose(&state.stack, config, state.base, &names)?;
            // The same image may be part of an index, or have another form, too.
            let own = match names.is_empty() {
                // Nobody's image may be pruned at any time.
                true => match self.session.manifest(&image) {
                    Err(corten_image::Error::NoContent(_)) => named,
                    own => own?,
                },
                false => named,
            };
            return Ok((image, own));
        }
        let shape = Shape {
            is_index,
            has_referrers,
            transport: form.transport(),
            annotations: form.annotations.index.clone(),
        };
        let part = |(outcome, config): (&Outcome, ImageConfig)| Part {
            stack: outcome.state.stack.clone(),
            config,
            parent: outcome.state.base,
            platform: outcome.platform.clone(),
            annotations: Annotations::of(&form.annotations.manifests, &outcome.platform),
            listed_annotations: Annotations::of(&form.annotations.listed, &outcome.platform),
        };
        let (session, parts) = (self.session.clone(), outcomes.iter().zip(configs).map(part).collect());
        let own = std::mem::take(outcomes);
        let (own, composed) = crate::blocking(move || {
            let said = |number: usize, manifest: &Descriptor| Ok(own[number].statements(&names, manifest));
            let composed: Result<_> = session.compose_parts(parts, &names, shape, said);
            Ok((own, composed?))
        })
        .await?;
        *outcomes = own;
        Ok(composed)
    }

    /// Notes that something of the asker's is used.
    pub fn note_asked_for(&self, kind: &'static str, name: &str) {
        let mut known = self.asked_for.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert((kind, name.to_owned()));
    }
}
