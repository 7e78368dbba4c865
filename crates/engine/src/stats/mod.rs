//! Statistics: one sampler for all clients. It reads the containers that somebody watches once per second, however many watch
//! them, and sleeps for good when nobody does.
//!
//! A container's newest sample lies in a `watch` channel: a client that is slow skips samples, it holds nothing up.
//! Reading the kernel's files is `sample`'s affair.

mod feed;
mod sample;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use corten_api::stats::ContainerStats;
use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;

pub use feed::{BatchFeed, StatsFeed};
pub(crate) use sample::HostCpu;

use crate::Engine;
use crate::container::Container;

/// Between two samples of a container, as Docker has it.
const INTERVAL: Duration = Duration::from_secs(1);

/// A sample is a moment, and what was used until then; without what was used before.
#[derive(Debug)]
pub struct Sample {
    taken: Instant,
    stats: ContainerStats,
}

impl Sample {
    fn age(&self) -> Duration {
        self.taken.elapsed()
    }
}

/// The newest sample of one container, for whoever watches it.
pub type SampleSender = watch::Sender<Option<Arc<Sample>>>;
type SampleReceiver = watch::Receiver<Option<Arc<Sample>>>;

/// Whether the sampler's task runs, and how to reach it.
pub struct Sampler {
    running: AtomicBool,
    /// Counts the seconds in which somebody watched.
    rounds: watch::Sender<u64>,
    /// Somebody began to watch a container that may have no sample yet.
    wake: Notify,
}

impl Default for Sampler {
    fn default() -> Self {
        Self { running: AtomicBool::new(false), rounds: watch::Sender::new(0), wake: Notify::new() }
    }
}

impl Engine {
    /// Begins to watch a container; the first sample is taken at once unless there is a fresh one.
    fn watch_stats(&self, container: &Container) -> SampleReceiver {
        let receiver = container.samples.subscribe();
        if !self.sampler.running.swap(true, Ordering::AcqRel) {
            let engine = self.clone();
            tokio::spawn(engine.sample_while_watched());
        }
        self.sampler.wake.notify_one();
        receiver
    }

    async fn sample_while_watched(self) {
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + INTERVAL, INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Who comes between two ticks is served at once, and joins the rhythm of the others with the tick that
            // leaves time enough for a difference.
            let (outdated_after, round) = tokio::select! {
                _ = ticks.tick() => (INTERVAL / 2, 1),
                () = self.sampler.wake.notified() => (INTERVAL, 0),
            };
            let watched = self.watched();
            if watched.is_empty() {
                self.sampler.running.store(false, Ordering::Release);
                // Whoever came before that line relies on this task.
                if self.watched().is_empty() || self.sampler.running.swap(true, Ordering::AcqRel) {
                    return;
                }
                continue;
            }
            let outdated = |container: &Arc<Container>| {
                container.samples.borrow().as_ref().is_none_or(|sample| sample.age() >= outdated_after)
            };
            let due: Vec<Arc<Container>> = watched.into_iter().filter(outdated).collect();
            if due.is_empty() && round == 0 {
                continue;
            }
            let engine = self.clone();
            let sampled = tokio::task::spawn_blocking(move || engine.sample_all(&due)).await;
            if let Err(error) = sampled {
                tracing::error!(%error, "statistics");
            }
            if round > 0 {
                self.sampler.rounds.send_modify(|rounds| *rounds += round);
            }
        }
    }

    fn watched(&self) -> Vec<Arc<Container>> {
        let mut all = self.containers.listed();
        all.retain(|container| container.samples.receiver_count() > 0);
        all
    }

    fn sample_all(&self, containers: &[Arc<Container>]) {
        let host = HostCpu::read();
        for container in containers {
            let stats = self.sample(container, host);
            container.samples.send_replace(Some(Arc::new(Sample { taken: Instant::now(), stats })));
        }
    }
}
