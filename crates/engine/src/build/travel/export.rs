//! A build's steps as a cache for others: their layers go where an image's would, and what others have already is not sent.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use corten_api::auth::AuthConfig;
use corten_build::{Asker, Built, CachePlace, CacheTarget, DoneStep, Elsewhere, Teller, Told, listed};
use corten_image::build::{CACHE_CONFIG, CachedSource, compose_cache};
use corten_image::manifest::Descriptor;
use corten_image::{Artifact, ArtifactLayer, DiffId, Digest, Reference, SendStage, Target};

use super::super::{progress, told};
use super::pack::WantedMount;
use super::{place, warn};
use crate::image::{Report, failed, refused, tell_sent};
use crate::{Engine, Error, Result};

/// A cache that a client has got: where it keeps it, and the manifest to be put into the list there.
pub struct SentCache {
    /// The target's place among those that were given.
    pub target: usize,
    pub manifest: Descriptor,
}

impl Engine {
    /// Sends what a build has done to where others find it; `names` are those of its image. Gives what has gone to the client's own places.
    ///
    /// # Errors
    /// Of the first place that doesn't take it, unless that may be.
    pub async fn build_cache_export(
        &self,
        built: &Built,
        targets: &[CacheTarget],
        names: &[String],
        auths: &BTreeMap<String, AuthConfig>,
        asker: &dyn Asker,
        teller: &Teller,
    ) -> corten_build::Result<Vec<SentCache>> {
        let mut sent_caches = Vec::new();
        for (number, target) in targets.iter().enumerate() {
            let place = match &target.place {
                CachePlace::Registry(name) => name.to_string(),
                CachePlace::Client(place) => place.clone(),
                CachePlace::Image => continue,
            };
            let id = Digest::of(format!("export {number} {place}").as_bytes());
            let mut step = Told::new(teller, id, format!("exporting build cache to {place}"), Vec::new());
            step.start().await?;
            let sent = self.send_cache(built, target, names, auths, asker, teller, id).await;
            let mut sent = sent.map(Some).map_err(|error| {
                let text = format!("failed to export the build cache to {place}: {}", error.message);
                told(Error::new(error.kind, text))
            });
            if let Err(error) = &sent
                && target.may_fail
            {
                warn(teller, id, error.to_string()).await;
                sent = Ok(None);
            }
            let sent = step.end(sent).await?;
            if matches!(target.place, CachePlace::Client(_)) {
                sent_caches.extend(sent.map(|manifest| SentCache { target: number, manifest }));
            }
        }
        Ok(sent_caches)
    }

    #[expect(clippy::too_many_arguments, reason = "one place, and all that is known of the build")]
    async fn send_cache(
        &self,
        built: &Built,
        target: &CacheTarget,
        names: &[String],
        auths: &BTreeMap<String, AuthConfig>,
        asker: &dyn Asker,
        teller: &Teller,
        vertex: Digest,
    ) -> Result<Descriptor> {
        let messages = progress::statuses(teller.clone(), vertex);
        let result: HashSet<DiffId> =
            built.outcomes.iter().flat_map(|outcome| outcome.state.stack.ids()).collect();
        let done: Vec<DoneStep> = built.outcomes.iter().flat_map(|outcome| outcome.steps.clone()).collect();
        let is_wanted = |layer: &DiffId| target.is_whole || result.contains(layer);
        let steps = || listed(&done, &built.session, is_wanted);
        let layers: BTreeSet<DiffId> =
            steps().map_err(unlisted)?.into_iter().filter_map(|step| step.layer).collect();
        let mounts = self.wanted_mounts(built, target)?;
        let mut absent = absent(built, &layers)?;
        let elsewhere = mounts.iter().filter_map(WantedMount::elsewhere);
        absent.extend(elsewhere.filter_map(|layer| Some((layer, built.worker.elsewhere(&layer)?))));
        let (remote, tag) = match &target.place {
            CachePlace::Registry(name) => {
                let siblings = siblings(name, names, absent.values());
                let remote = self.target_at_registry(name, siblings, auths, asker, &messages).await?;
                (remote, name.tag().unwrap_or_default())
            }
            CachePlace::Client(place) => {
                (place::target_at_client(place, asker).await.map_err(Error::internal)?, "")
            }
            CachePlace::Image => return Err(Error::internal("an image's own cache is in the image")),
        };
        let blobs = absent.iter().map(|(layer, elsewhere)| (*layer, elsewhere.blob.clone()));
        let blobs = blobs.chain(mounts.iter().filter_map(WantedMount::known)).collect();
        let there = self.there(&remote, blobs).await?;
        let is_missing = |layer: &DiffId| layers.contains(layer) && !there.contains_key(layer);
        let missing: Vec<DiffId> = absent.into_keys().filter(is_missing).collect();
        let brought = built.worker.bring(&built.session, &missing, teller, vertex).await;
        brought.map_err(|error| Error::internal(error.to_string()))?;
        let format = target.mount_compression;
        let mounts = self.travelling_mounts(mounts, &there, format, built, teller, vertex).await?;
        let parts = layers.iter().map(|layer| match there.get(layer) {
            Some(blob) => ArtifactLayer::There(Box::new(blob.clone())),
            None => ArtifactLayer::Here(*layer),
        });
        let mut parts: Vec<ArtifactLayer> = parts.collect();
        let mut layers: Vec<DiffId> = layers.into_iter().collect();
        // Two may have the same in them.
        for mount in &mounts {
            if !layers.contains(&mount.listed.layer) {
                layers.push(mount.listed.layer);
                parts.push(mount.part.clone());
            }
        }
        // What was brought has a size.
        let steps = steps().map_err(unlisted)?;
        let mounts = mounts.into_iter().map(|mount| mount.listed).collect();
        let sources = if target.is_whole { sources(built) } else { Vec::new() };
        let config = compose_cache(layers, steps, mounts, sources)
            .map_err(|error| Error::internal(error.to_string()))?;
        let artifact = Artifact {
            layers: parts,
            config: (CACHE_CONFIG, config),
            tag: tag.to_owned(),
            compression: target.compression,
        };
        let engine = self.clone();
        let sent = self.heavily(move || {
            let report = Report::new(messages);
            let watch = |layer: &Descriptor, stage: SendStage| tell_sent(&report, layer, stage);
            engine.images.publish_artifact(&artifact, &*remote, &watch).map_err(refused)
        });
        sent.await
    }

    /// Which of these blobs the target has, by their layers.
    async fn there(
        &self,
        target: &Arc<dyn Target + Send>,
        blobs: HashMap<DiffId, Descriptor>,
    ) -> Result<HashMap<DiffId, Descriptor>> {
        if blobs.is_empty() {
            return Ok(HashMap::new());
        }
        let target = target.clone();
        let found = self.heavily(move || {
            let mut there = HashMap::new();
            for (layer, blob) in blobs {
                let found = target.find(&blob).map_err(|error| Error::internal(error.to_string()))?;
                if found.is_some() {
                    there.insert(layer, blob);
                }
            }
            Ok(there)
        });
        found.await
    }
}

/// The layers among them that are not here, and where they are.
fn absent(built: &Built, layers: &BTreeSet<DiffId>) -> Result<HashMap<DiffId, Elsewhere>> {
    let mut absent = HashMap::new();
    for layer in layers {
        if built.session.find_layer(layer).map_err(failed)?.is_none()
            && let Some(elsewhere) = built.worker.elsewhere(layer)
        {
            absent.insert(*layer, elsewhere);
        }
    }
    Ok(absent)
}

/// What was read of layers; each once, and always in the same order. It serves those who can do without the layers, and they have found
/// the steps that made them: of a cache that has not all steps nobody has any use of it.
fn sources(built: &Built) -> Vec<CachedSource> {
    let read = built.outcomes.iter().flat_map(|outcome| &outcome.sources);
    let by_request: BTreeMap<Digest, CachedSource> = read.map(|source| (source.request, *source)).collect();
    by_request.into_values().collect()
}

fn unlisted(error: corten_build::Error) -> Error {
    Error::internal(error.to_string())
}

/// Other repositories of the same registry that may have the layers.
fn siblings<'e>(
    place: &Reference,
    names: &[String],
    elsewhere: impl Iterator<Item = &'e Elsewhere>,
) -> Vec<String> {
    let names = names.iter().filter_map(|name| Reference::parse(name).ok());
    let all = names.chain(elsewhere.filter_map(|elsewhere| elsewhere.repository.clone()));
    let others = all.filter(|name| name.domain() == place.domain() && name.path() != place.path());
    others.map(|name| name.path().to_owned()).collect::<BTreeSet<_>>().into_iter().collect()
}
