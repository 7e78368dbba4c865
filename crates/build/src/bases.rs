//! What stages start from that is no stage: found for the checks, which follow variables from there.

use std::collections::BTreeSet;

use corten_image::{ImageConfig, Platform};
use futures_util::future::try_join_all;

use crate::dockerfile::Dockerfile;
use crate::dockerfile::check::{Base, Bases};
use crate::error::{Error, Result};
use crate::platform::Build;
use crate::request::{NamedContext, Options};
use crate::variables::Globals;

/// Finds the configuration of an image for a platform, where it is here.
pub type FindImage<'f> = dyn Fn(&str, &Platform) -> Option<ImageConfig> + 'f;

/// A Dockerfile as it is built for one platform.
pub struct Survey<'s> {
    pub dockerfile: &'s Dockerfile,
    pub options: &'s Options,
    pub globals: &'s Globals,
    pub platform: &'s Platform,
}

/// What FROM names, and the platform that it is wanted for.
struct Origin {
    stage: usize,
    name: String,
    platform: Platform,
}

impl Survey<'_> {
    /// The stages that the target needs, itself among them.
    pub fn needed(&self, target: usize) -> BTreeSet<usize> {
        let mut needed = BTreeSet::new();
        let mut open = vec![target];
        while let Some(index) = open.pop() {
            if needed.insert(index) {
                let stage = &self.dockerfile.stages[index];
                let base = self.expand(&stage.from.value.image);
                let names = stage.sources().chain(base.as_deref());
                open.extend(names.filter_map(|name| self.find_stage(name, index)));
            }
        }
        needed
    }

    /// All stages that there are.
    pub fn all(&self) -> BTreeSet<usize> {
        (0..self.dockerfile.stages.len()).collect()
    }

    /// Describes bases as far as they are here.
    pub fn bases(&self, stages: &BTreeSet<usize>, find: &FindImage) -> Bases {
        let base = |Origin { stage, name, platform }: Origin| {
            let image = |name: &str| Some(Base::from(&find(name, &platform)?));
            let base = match self.options.contexts.get(&name) {
                Some(NamedContext::Tree(_) | NamedContext::Remote(_)) => Some(Base::default()),
                Some(NamedContext::Image(name)) if name == "scratch" => Some(Base::default()),
                Some(NamedContext::Image(name)) => image(name),
                Some(NamedContext::Layout { .. } | NamedContext::Input(_)) => None,
                None => image(&name),
            };
            (stage, base)
        };
        self.origins(stages).into_iter().map(base).collect()
    }

    /// What stages start from, but for other stages and nothing. What can't be read is told of by whoever builds it.
    fn origins(&self, stages: &BTreeSet<usize>) -> Vec<Origin> {
        let origin = |&stage: &usize| {
            let from = &self.dockerfile.stages[stage].from.value;
            let name = self.expand(&from.image).filter(|name| !name.is_empty())?;
            let is_scratch = name == "scratch" && !self.options.contexts.contains_key(&name);
            if is_scratch || self.find_stage(&name, stage).is_some() {
                return None;
            }
            let platform = match &from.platform {
                Some(text) => self.expand(text)?.parse().ok()?,
                None => self.platform.clone(),
            };
            Some(Origin { stage, name, platform })
        };
        stages.iter().filter_map(origin).collect()
    }

    /// The stage before `before` that has this name or number.
    pub fn find_stage(&self, name: &str, before: usize) -> Option<usize> {
        match self.options.contexts.contains_key(name) {
            true => None,
            false => self.dockerfile.find_stage(name, before),
        }
    }

    fn expand(&self, text: &str) -> Option<String> {
        self.globals.expand(self.dockerfile.directives.escape, text).ok()
    }
}

impl Build {
    pub fn survey(&self) -> Survey<'_> {
        let Build { globals, platform, .. } = self;
        Survey { dockerfile: &self.dockerfile, options: &self.options, globals, platform }
    }

    /// Describes bases, each after it was brought here.
    pub async fn bases(&self, stages: &BTreeSet<usize>) -> Result<Bases> {
        let origins = self.survey().origins(stages).into_iter();
        let described = origins.map(|Origin { stage, name, platform }| async move {
            let base = self.base(&name, &platform).await;
            let span = self.parsed_stage(stage).from.span;
            let base = base.map_err(|error| error.at(span.first_line as usize, span.last_line as usize))?;
            Ok::<_, Error>((stage, Some(base)))
        });
        Ok(try_join_all(described).await?.into_iter().collect())
    }

    async fn base(&self, name: &str, platform: &Platform) -> Result<Base> {
        match self.options.contexts.get(name) {
            // Files have no settings, and reading them is the stage's own step.
            Some(NamedContext::Tree(_) | NamedContext::Remote(_)) => Ok(Base::default()),
            _ => Ok(Base::from(&self.outside(name, platform).await?.image)),
        }
    }
}
