//! Collection: what nobody needs any more goes, while everything else goes on.
//!
//! A plan is made from one view of the catalogue; each step is checked again when it is taken (`catalogue::collection`). The bytes
//! of a blob go after its row, under the digest's lock, so that a push of the same blob is before or after all of that.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::catalogue::{Condemned, Excess, Why, now, seconds};
use super::refusal::Refusal;
use super::registry::Registry;
use super::retention::{TagFacts, judge};
use super::webhooks::{Deed, Event, Hook, Notice, notices};

/// Repositories whose tags are looked at together.
const REPOSITORIES: usize = 256;
/// Tags that go in one change.
const TAGS: usize = 500;

/// One thing that goes, or would go, and why: one line of a report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    pub what: What,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Bytes that come back.
    #[serde(default)]
    pub size: u64,
    pub why: String,
    /// It stays, and that is why.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kept: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    Tag,
    Manifest,
    /// A blob's place in a repository.
    Link,
    #[default]
    Blob,
    Repository,
    /// Of an upstream, to be had again from there.
    CachedBlob,
    CachedManifest,
}

/// How to collect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collection {
    /// For how long what nobody needs is kept nevertheless.
    pub undo: Duration,
    /// After how long manifests without a tag go.
    pub untagged: Option<Duration>,
    /// Only tells what would go.
    pub dry_run: bool,
    /// Tells of tags that retention keeps, too.
    pub kept: bool,
}

impl Collection {
    fn excess(&self) -> Excess {
        let ago = |time: Duration| SystemTime::now().checked_sub(time).map_or(0, seconds);
        // What was touched within this very second may be in somebody's hands.
        Excess { before: ago(self.undo), untagged_before: self.untagged.map(ago) }
    }
}

/// Collects, and tells of each thing; false from `tell` ends it.
pub async fn collect<F: Future<Output = bool>>(
    registry: &Registry,
    collection: Collection,
    mut tell: impl FnMut(Collected) -> F,
) -> Result<(), Refusal> {
    if !retire(registry, collection, &mut tell).await? {
        return Ok(());
    }
    let excess = collection.excess();
    loop {
        let (steps, more) = registry.catalogue.condemned(excess).await?;
        let mut taken = 0;
        for step in steps {
            if !collection.dry_run && !take(registry, &step, excess).await? {
                continue;
            }
            taken += 1;
            if let (Condemned::Blob { size, .. }, false) = (&step, collection.dry_run) {
                registry.metrics.collected(*size);
            }
            if !tell(describe(registry, step, collection)).await {
                return Ok(());
            }
        }
        // One that finds nothing to do would find it again.
        if collection.dry_run || !more || taken == 0 {
            break;
        }
    }
    surplus(registry, collection.dry_run, tell).await
}

/// Takes away the tags that retention doesn't keep; false when nobody wants to hear more.
async fn retire<F: Future<Output = bool>>(
    registry: &Registry,
    collection: Collection,
    tell: &mut impl FnMut(Collected) -> F,
) -> Result<bool, Refusal> {
    let live = registry.live();
    let rules = &live.settings.retention;
    if rules.is_empty() {
        return Ok(true);
    }
    // What was pulled just now is known to have been.
    registry.pulls.write(&registry.catalogue).await?;
    let mut last = String::new();
    loop {
        let names = registry.catalogue.repositories(last, REPOSITORIES).await?;
        let Some(end) = names.last().cloned() else { return Ok(true) };
        last = end;
        for repository in names.into_iter().filter(|name| rules.iter().any(|rule| rule.is_about(name))) {
            let tags = registry.catalogue.tag_facts(repository.clone()).await?;
            let verdicts = judge(rules, &repository, &tags, now());
            for batch in tags.into_iter().zip(verdicts).collect::<Vec<_>>().chunks(TAGS) {
                let going: Vec<_> =
                    batch.iter().filter(|(_, verdict)| !verdict.keep).map(|(tag, _)| tag.clone()).collect();
                let gone: HashSet<String> = match collection.dry_run || going.is_empty() {
                    true => going.into_iter().map(|tag| tag.name).collect(),
                    false => {
                        let hooks = &live.settings.webhooks;
                        let told = |tag: TagFacts| {
                            let notices = retired(hooks, &repository, &tag);
                            (tag, notices)
                        };
                        let going = going.into_iter().map(told).collect();
                        let gone = registry.catalogue.retire_tags(repository.clone(), going).await?;
                        registry.wake_webhooks();
                        gone.into_iter().collect()
                    }
                };
                for (tag, verdict) in batch {
                    let is_gone = gone.contains(&tag.name);
                    if is_gone && !collection.dry_run {
                        registry.metrics.retired();
                        live.gate.note_retired(&repository, &tag.name, &verdict.why);
                    }
                    // One that was pushed or pulled meanwhile is nothing to tell of.
                    let is_told = is_gone || (collection.kept && verdict.keep);
                    if !is_told {
                        continue;
                    }
                    let one = Collected {
                        what: What::Tag,
                        repository: Some(repository.clone()),
                        tag: Some(tag.name.clone()),
                        digest: Some(tag.digest.clone()),
                        why: verdict.why.clone(),
                        kept: !is_gone,
                        ..Collected::default()
                    };
                    if !tell(one).await {
                        return Ok(false);
                    }
                }
            }
        }
    }
}

/// What webhooks are to be told of a tag that goes.
fn retired(hooks: &[Hook], repository: &str, tag: &TagFacts) -> Vec<Notice> {
    let deed = Deed {
        event: Event::Delete,
        repository,
        tags: std::slice::from_ref(&tag.name),
        digest: Some(tag.digest.clone()),
        media_type: None,
        size: None,
        base_url: None,
        actor: "registry".to_owned(),
        request: serde_json::Value::Null,
    };
    notices(hooks, &deed)
}

/// Gives up what is cached of upstreams as far as it is too much, and tells of each thing; false from `tell` ends it.
pub async fn surplus<F: Future<Output = bool>>(
    registry: &Registry,
    dry_run: bool,
    mut tell: impl FnMut(Collected) -> F,
) -> Result<(), Refusal> {
    let Some(size_max) = registry.cache.size() else { return Ok(()) };
    // What was used just now is known to have been.
    registry.pulls.write(&registry.catalogue).await?;
    super::cache::write_uses(registry).await?;
    loop {
        let (steps, more) = registry.catalogue.surplus(size_max).await?;
        let mut taken = 0;
        for step in steps {
            if !dry_run && !take(registry, &step, Excess::default()).await? {
                continue;
            }
            taken += 1;
            if let (Condemned::CachedBlob { size, .. }, false) = (&step, dry_run) {
                registry.metrics.collected(*size);
            }
            if !tell(describe(registry, step, Collection::default())).await {
                return Ok(());
            }
        }
        if dry_run || !more || taken == 0 {
            return Ok(());
        }
    }
}

/// Takes a step, if it is still to be taken.
pub(super) async fn take(registry: &Registry, step: &Condemned, excess: Excess) -> Result<bool, Refusal> {
    match step {
        Condemned::CachedBlob { digest, .. } if registry.cache.uses.is_read(*digest) => Ok(false),
        Condemned::Blob { digest, .. } | Condemned::CachedBlob { digest, .. } => {
            let _lock = registry.lock(*digest).await;
            if !registry.catalogue.condemn(step.clone(), excess).await? {
                return Ok(false);
            }
            registry.storage.remove(*digest).await?;
            Ok(true)
        }
        _ => Ok(registry.catalogue.condemn(step.clone(), excess).await?),
    }
}

fn describe(registry: &Registry, step: Condemned, collection: Collection) -> Collected {
    let undo = Span(collection.undo);
    match step {
        Condemned::Manifest { repository, digest, size, why, .. } => Collected {
            what: What::Manifest,
            repository: Some(repository),
            digest: Some(digest.to_string()),
            size,
            why: match why {
                Why::SubjectDeleted => {
                    format!("its subject was deleted more than {undo} ago, and it has no tag")
                }
                Why::Retired => {
                    format!("a retention rule took its last tag more than {undo} ago")
                }
                Why::Untagged => {
                    format!(
                        "it has no tag and was pushed more than {} ago",
                        Span(collection.untagged.unwrap_or_default())
                    )
                }
            },
            ..Collected::default()
        },
        Condemned::Link { repository, digest, .. } => Collected {
            what: What::Link,
            repository: Some(repository),
            digest: Some(digest.to_string()),
            size: 0,
            why: format!("no manifest of the repository has needed the blob for {undo}"),
            ..Collected::default()
        },
        Condemned::Blob { digest, size, .. } => Collected {
            what: What::Blob,
            repository: None,
            digest: Some(digest.to_string()),
            size,
            why: "no repository has the blob".to_owned(),
            ..Collected::default()
        },
        Condemned::Repository { name, .. } => Collected {
            what: What::Repository,
            repository: Some(name),
            digest: None,
            size: 0,
            why: "it holds nothing".to_owned(),
            ..Collected::default()
        },
        Condemned::CachedBlob { digest, size, used_at, .. } => Collected {
            what: What::CachedBlob,
            repository: None,
            digest: Some(digest.to_string()),
            size,
            why: too_much(registry, used_at),
            ..Collected::default()
        },
        Condemned::CachedManifest { repository, digest, size, used_at, .. } => Collected {
            what: What::CachedManifest,
            repository: Some(repository),
            digest: Some(digest.to_string()),
            size,
            why: too_much(registry, used_at),
            ..Collected::default()
        },
    }
}

fn too_much(registry: &Registry, used_at: i64) -> String {
    let ago = Duration::from_secs(u64::try_from(now().saturating_sub(used_at)).unwrap_or_default());
    let size_max = registry.cache.size().unwrap_or_default();
    format!("more than {size_max} bytes of upstreams are cached, and it was last used {} ago", Span(ago))
}

/// Removes the bytes that the catalogue doesn't know: a crash has come between them and their row. Returns how many blobs.
pub async fn sweep(registry: &Registry) -> Result<usize, Refusal> {
    // What comes to be left from now on is for the next time.
    registry.storage.set_untidy(false);
    let swept = sweep_all(registry).await;
    if swept.is_err() {
        registry.storage.set_untidy(true);
    }
    swept
}

/// As `sweep`, if something may have been left since the last one.
pub async fn sweep_if_untidy(registry: &Registry) -> Result<usize, Refusal> {
    if registry.storage.is_untidy() { sweep(registry).await } else { Ok(0) }
}

async fn sweep_all(registry: &Registry) -> Result<usize, Refusal> {
    let mut count = 0;
    for digest in registry.storage.unfinished().await? {
        // Somebody who has it is about to finish it.
        if let Some(_lock) = registry.try_lock(digest) {
            count += usize::from(registry.storage.give_up(digest).await?);
        }
    }
    let mut blobs = registry.storage.list();
    while let Some(page) = blobs.next().await? {
        for digest in page {
            if registry.catalogue.stored_blob(digest).await?.is_some() {
                continue;
            }
            let _lock = registry.lock(digest).await;
            // It may just have been put there.
            if registry.catalogue.stored_blob(digest).await?.is_none() {
                registry.storage.remove(digest).await?;
                count += 1;
            }
        }
    }
    Ok(count)
}

/// A duration as people say it.
pub(super) struct Span(pub(super) Duration);

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.0.as_secs();
        for (unit, length) in [("d", 24 * 3600), ("h", 3600), ("m", 60)] {
            if seconds >= length && seconds.is_multiple_of(length) {
                return write!(f, "{}{unit}", seconds / length);
            }
        }
        write!(f, "{seconds}s")
    }
}
