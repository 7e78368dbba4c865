//! The build cache's budget: after builds and at the start, what was used longest ago goes until the rest fits.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use corten_api::filters::Filters;

use super::{CacheBounds, CachePrune, unwanted};
use crate::Engine;
use crate::disk::DiskSpace;
use crate::error::Result;

/// The cache's part of the disk when nobody says: one in so many bytes.
const SHARE: u64 = 10;
/// But no less than this is kept, in bytes.
const KEPT_BYTES_MIN: u64 = 2 << 30;

/// How many entries go at once, and how long the disk is others' then.
const BATCH: usize = 16;
const PAUSE: Duration = Duration::from_millis(50);

/// One rule of the budget; they apply one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CacheRule {
    pub all: bool,
    pub bounds: CacheBounds,
    /// Docker's filters; times count back from when the rule is applied.
    pub filters: Filters,
}

impl CacheRule {
    /// Whether its filters are known.
    pub fn check(&self) -> Result<()> {
        CachePrune::parse(&self.filters, self.all, self.bounds).map(drop)
    }

    /// What holds when nobody says anything.
    fn of_disk(disk: &DiskSpace) -> CacheRule {
        let used_bytes_max = (disk.total_bytes / SHARE).max(KEPT_BYTES_MIN);
        CacheRule { bounds: CacheBounds { used_bytes_max, ..CacheBounds::default() }, ..CacheRule::default() }
    }
}

/// Who is at it: one at a time, and once more when something was built meanwhile.
#[derive(Default)]
pub struct Turn(Mutex<Phase>);

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Idle,
    Busy,
    BusyAndAskedAgain,
}

impl Turn {
    /// Whether the asker is to do it.
    fn ask(&self) -> bool {
        let mut phase = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_idle = *phase == Phase::Idle;
        *phase = if is_idle { Phase::Busy } else { Phase::BusyAndAskedAgain };
        is_idle
    }

    /// Whether it is to be done once more.
    fn end(&self) -> bool {
        let mut phase = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let again = *phase == Phase::BusyAndAskedAgain;
        *phase = if again { Phase::Busy } else { Phase::Idle };
        again
    }
}

impl Engine {
    /// Has the cache brought within its budget, off everybody's path.
    pub(crate) fn keep_to_build_budget(&self) {
        if !self.builds.turn.ask() {
            return;
        }
        let engine = self.clone();
        tokio::spawn(async move {
            loop {
                if let Err(error) = engine.apply_build_budget().await {
                    tracing::warn!(%error, "the build cache stays larger than it should: it is tried again after the next build");
                }
                if !engine.builds.turn.end() {
                    return;
                }
            }
        });
    }

    async fn apply_build_budget(&self) -> Result<()> {
        let rules = match &self.options.build_cache {
            Some(rules) => rules.clone(),
            None => vec![CacheRule::of_disk(&self.disk_space()?)],
        };
        for rule in rules {
            loop {
                let (engine, rule) = (self.clone(), rule.clone());
                let (gone, bytes) = crate::image::blocking(move || {
                    let wanted = CachePrune::parse(&rule.filters, rule.all, rule.bounds)?;
                    let free = engine.disk_space()?.free_bytes;
                    let mut entries = unwanted(engine.builds.entries()?, &wanted, free);
                    entries.truncate(BATCH);
                    engine.builds.remove(entries)
                })
                .await?;
                // Nothing is left that could go.
                if gone.is_empty() {
                    break;
                }
                tracing::debug!(entries = gone.len(), bytes, "the build cache is beyond its budget");
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_has_a_tenth_of_the_disk_but_enough_to_be_of_use() {
        let most =
            |total_bytes| CacheRule::of_disk(&DiskSpace { total_bytes, free_bytes: 0 }).bounds.used_bytes_max;
        assert_eq!(most(100 << 30), 10 << 30);
        assert_eq!(most(5 << 30), 2 << 30);
    }

    #[test]
    fn who_asks_meanwhile_has_it_done_once_more() {
        let turn = Turn::default();
        assert!(turn.ask());
        assert!(!turn.ask() && !turn.ask());
        assert!(turn.end() && !turn.end());
        assert!(turn.ask());
    }
}
