//! A build's steps as a cache for others: their layers go where an image's would, and what others have already is not sent.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use corten_api::auth::AuthConfig;
use corten_build::{Asker, Built, CachePlace, CacheTarget, DoneStep, Elsewhere, Teller, Told, listed};
use corten_image::build::{CACHE_CONFIG, compose_cache};
use corten_image::manifest::Descriptor;
use corten_image::{Artifact, ArtifactLayer, DiffId, Digest, Reference, SendStage, Target};
use corten_registry::RegistryAddress;

use super::super::{auth_for, progress, told};
use super::warn;
use crate::image::{RemoteTarget, Report, failed, refused, tell_sent};
use crate::registry::{credentials, notices};
use crate::{Engine, Error, Result};

impl Engine {
    /// Sends what a build has done to where others find it; `names` are those of its image.
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
    ) -> corten_build::Result<()> {
        for target in targets {
            let CachePlace::Registry(place) = &target.place else { continue };
            let id = Digest::of(format!("export {place}").as_bytes());
            let mut step = Told::new(teller, id, format!("exporting build cache to {place}"), Vec::new());
            step.start().await?;
            let sent = async {
                let auth = auth_for(auths, asker, place).await?;
                let sent = self.send_cache(built, target, place, names, auth, teller, id).await;
                sent.map_err(|error| {
                    let text = format!("failed to export the build cache to {place}: {}", error.message);
                    told(Error::new(error.kind, text))
                })
            };
            let mut sent = sent.await;
            if let Err(error) = &sent
                && target.may_fail
            {
                warn(teller, id, error.to_string()).await;
                sent = Ok(());
            }
            step.end(sent).await?;
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "one place, and all that is known of the build")]
    async fn send_cache(
        &self,
        built: &Built,
        target: &CacheTarget,
        place: &Reference,
        names: &[String],
        auth: AuthConfig,
        teller: &Teller,
        vertex: Digest,
    ) -> Result<()> {
        let registry = RegistryAddress::parse(place.domain())?;
        let messages = progress::statuses(teller.clone(), vertex);
        let repository = self.registries.repository(&registry, place.path(), credentials(auth));
        let repository = repository.without_mirrors().with_notices(notices(&messages));
        let result: HashSet<DiffId> =
            built.outcomes.iter().flat_map(|outcome| outcome.state.stack.ids()).collect();
        let done: Vec<DoneStep> = built.outcomes.iter().flat_map(|outcome| outcome.steps.clone()).collect();
        let is_wanted = |layer: &DiffId| target.is_whole || result.contains(layer);
        let steps = || listed(&done, &built.session, is_wanted);
        let layers: BTreeSet<DiffId> =
            steps().map_err(unlisted)?.into_iter().filter_map(|step| step.layer).collect();
        let absent = absent(built, &layers)?;
        let siblings = siblings(place, names, absent.values());
        let remote = Arc::new(RemoteTarget::new(&repository, siblings));
        let there = self.there(&remote, &absent).await?;
        let missing: Vec<DiffId> = absent.into_keys().filter(|layer| !there.contains_key(layer)).collect();
        let brought = built.worker.bring(&built.session, &missing, teller, vertex).await;
        brought.map_err(|error| Error::internal(error.to_string()))?;
        let parts = layers.iter().map(|layer| match there.get(layer) {
            Some(blob) => ArtifactLayer::There(Box::new(blob.clone())),
            None => ArtifactLayer::Here(*layer),
        });
        let parts = parts.collect();
        // What was brought has a size.
        let steps = steps().map_err(unlisted)?;
        let config = compose_cache(layers.into_iter().collect(), steps)
            .map_err(|error| Error::internal(error.to_string()))?;
        let artifact = Artifact {
            layers: parts,
            config: (CACHE_CONFIG, config),
            tag: place.tag().unwrap_or_default().to_owned(),
            compression: target.compression,
        };
        let engine = self.clone();
        let sent = self.heavily(move || {
            let report = Report::new(messages);
            let watch = |layer: &Descriptor, stage: SendStage| tell_sent(&report, layer, stage);
            engine.images.publish_artifact(&artifact, &*remote, &watch).map(drop).map_err(refused)
        });
        sent.await
    }

    /// Which of the layers that are not here the target has.
    async fn there(
        &self,
        target: &Arc<RemoteTarget>,
        absent: &HashMap<DiffId, Elsewhere>,
    ) -> Result<HashMap<DiffId, Descriptor>> {
        if absent.is_empty() {
            return Ok(HashMap::new());
        }
        let blobs: Vec<(DiffId, Descriptor)> =
            absent.iter().map(|(layer, elsewhere)| (*layer, elsewhere.blob.clone())).collect();
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
    let all = names.chain(elsewhere.map(|elsewhere| elsewhere.repository.clone()));
    let others = all.filter(|name| name.domain() == place.domain() && name.path() != place.path());
    others.map(|name| name.path().to_owned()).collect::<BTreeSet<_>>().into_iter().collect()
}
