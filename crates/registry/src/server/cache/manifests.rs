//! Manifests of upstreams. One that is here by its digest is good for ever. A tag is what the catalogue says for a while; then the
//! upstream is asked (`HEAD`, which costs nobody a pull), and if it can't tell, the tag is what it was.

use std::sync::Arc;

use hyper::StatusCode;

use super::failure::{Failure, Trouble};
use super::upstream::{Source, count};
use crate::client::Document;
use crate::server::catalogue::{ManifestRow, NewManifest, now};
use crate::server::digest::Digest;
use crate::server::manifest::{self, Manifest};
use crate::server::name::{Reference, Tag};
use crate::server::refusal::Refusal;
use crate::server::registry::Registry;

/// What a client waits for at most.
const WAIT: std::time::Duration = std::time::Duration::from_secs(60);

/// Where a manifest is to be had now.
#[derive(Clone, Debug)]
pub enum Found {
    /// As the catalogue has just said.
    Fresh,
    /// In the catalogue by now.
    Kept,
    /// There, though the upstream couldn't be asked whether it still is.
    Stale,
    /// Nowhere else: there was no room for it.
    Passing(Arc<(Digest, Document)>),
}

pub type Outcome = Result<Found, Failure>;

impl Registry {
    /// Sees to it that a manifest of an upstream is here as it should be. `row` is what the catalogue has of it.
    pub async fn cached_manifest(
        &self,
        source: &Source,
        reference: &Reference,
        row: Option<&ManifestRow>,
    ) -> Outcome {
        let counts = &source.upstream.counts;
        let is_fresh = match (reference, row) {
            (_, None) => false,
            (Reference::Digest(_), Some(_)) => true,
            (Reference::Tag(_), Some(row)) => {
                let age = now().checked_sub(row.checked_at.unwrap_or(i64::MIN));
                // Not what will have been looked at in times to come either.
                age.is_some_and(|age| (0..self.cache.fresh.as_secs() as i64).contains(&age))
            }
        };
        if is_fresh {
            count(&counts.manifest_hits);
            return Ok(Found::Fresh);
        }
        let known = row.map(|row| row.digest);
        let key = format!("{} {reference}", source.repository);
        let (registry, of, wanted) = (self.clone(), source.clone(), reference.clone());
        let begin = || async move {
            let outcome = match (&wanted, known) {
                (Reference::Tag(tag), Some(known)) => registry.renew(&of, tag, known).await,
                _ => registry.fetch_manifest_in_time(&of, &wanted).await,
            };
            if let Err(failure) = &outcome {
                of.note_failure(&wanted.to_string(), failure);
            }
            outcome
        };
        let outcome = self.cache.manifests.join(key, begin).await;
        outcome.unwrap_or_else(|| Err(Refusal::internal("the fetch of a manifest has ended").into()))
    }

    /// Asks what a tag is now that was something else, or the same, some time ago.
    async fn renew(&self, source: &Source, tag: &Tag, known: Digest) -> Outcome {
        let upstream = &source.upstream;
        if upstream.is_resting() {
            return Ok(self.stale(source, tag, "it is left alone after a failure"));
        }
        let asked = tokio::time::timeout(self.cache.patience, self.ask_tag(source, tag, known)).await;
        let trouble = match asked {
            Ok(Err(Failure::Trouble(trouble))) => trouble,
            Ok(Err(Failure::Gone)) => {
                self.catalogue.remove_tag(source.repository.to_string(), tag.to_string(), Vec::new()).await?;
                return Err(Failure::Gone);
            }
            Ok(Err(failure)) => return Err(failure),
            Ok(Ok(found)) => {
                upstream.rested();
                return Ok(found);
            }
            Err(_) => {
                let why = format!("no answer within {} s", self.cache.patience.as_secs_f64());
                Trouble::new(StatusCode::GATEWAY_TIMEOUT, why)
            }
        };
        upstream.rest(&trouble);
        count(&upstream.counts.errors);
        Ok(self.stale(source, tag, &trouble.why))
    }

    fn stale(&self, source: &Source, tag: &Tag, why: &str) -> Found {
        count(&source.upstream.counts.stale);
        let (upstream, repository) = (&source.upstream.name, &source.path);
        tracing::warn!(
            upstream,
            repository,
            tag = tag.as_str(),
            why,
            "served as it was: the upstream can't be asked"
        );
        Found::Stale
    }

    async fn ask_tag(&self, source: &Source, tag: &Tag, known: Digest) -> Outcome {
        let (repository, name) = (source.open().await?, source.repository.to_string());
        let checked_at = now();
        let descriptor = repository.manifest_descriptor(tag.as_str()).await?.ok_or(Failure::Gone)?;
        let digest: Digest = descriptor.digest.to_string().parse().map_err(Refusal::from)?;
        match self.catalogue.check_cached_tag(name, tag.to_string(), digest, checked_at).await {
            Ok(true) => {}
            Ok(false) => return self.fetch_manifest(source, &Reference::Tag(tag.clone())).await,
            // It is asked again the next time.
            Err(error) if error.is_no_space() && digest == known => {}
            Err(error) => return Err(error.into()),
        }
        count(&source.upstream.counts.manifest_hits);
        Ok(Found::Kept)
    }

    async fn fetch_manifest_in_time(&self, source: &Source, reference: &Reference) -> Outcome {
        let fetched = tokio::time::timeout(WAIT, self.fetch_manifest(source, reference)).await;
        fetched.unwrap_or_else(|_| {
            let why = format!("no manifest within {} s", WAIT.as_secs());
            Err(Failure::Trouble(Trouble::new(StatusCode::GATEWAY_TIMEOUT, why)))
        })
    }

    async fn fetch_manifest(&self, source: &Source, reference: &Reference) -> Outcome {
        count(&source.upstream.counts.manifest_misses);
        if let Reference::Digest(digest) = reference {
            super::asked(digest)?;
        }
        let turn = source.upstream.manifest_turns.acquire().await;
        let repository = source.open().await?;
        let checked_at = now();
        let document = repository.manifest(&reference.to_string()).await?;
        drop(turn);
        let odd = |why: String| Failure::Trouble(Trouble::new(StatusCode::BAD_GATEWAY, why));
        if document.bytes.len() > manifest::SIZE_MAX {
            return Err(odd(format!("the manifest is larger than {} bytes", manifest::SIZE_MAX)));
        }
        let digest: Digest = document.digest.to_string().parse().map_err(Refusal::from)?;
        let bytes = document.bytes.to_vec();
        let media_type = document.media_type.clone();
        // Large ones take a while.
        let parsed = tokio::task::spawn_blocking(move || {
            let parsed = Manifest::parse(&bytes, Some(&media_type));
            (bytes, parsed)
        });
        let (bytes, parsed) = parsed.await.map_err(Refusal::internal)?;
        let manifest = parsed.map_err(|error| odd(error.to_string()))?;
        let tag = match reference {
            Reference::Tag(tag) => Some(tag.to_string()),
            Reference::Digest(_) => None,
        };
        let size = bytes.len();
        let new = NewManifest {
            repository: source.repository.to_string(),
            digest,
            bytes,
            manifest,
            tags: tag.into_iter().collect(),
            // They are fetched when somebody wants them.
            blobs_may_miss: true,
            manifests_may_miss: true,
        };
        let (upstream, repository) = (&source.upstream.name, &source.path);
        tracing::info!(upstream, repository, %reference, %digest, size, "manifest fetched");
        source.upstream.counts.fetched_bytes.fetch_add(size as u64, std::sync::atomic::Ordering::Relaxed);
        match self.catalogue.add_cached_manifest(new, checked_at).await {
            Ok(()) => {
                self.cache.grew(size as u64);
                Ok(Found::Kept)
            }
            Err(error) if error.is_no_space() => Ok(Found::Passing(Arc::new((digest, document)))),
            Err(error) => Err(error.into()),
        }
    }
}
