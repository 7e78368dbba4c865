//! What one client sees of the samples: each with the one before it that the same client has seen.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use corten_api::Timestamp;
use corten_api::stats::{BatchStatsOptions, ContainerStats, CpuStats, StatsOptions};

use tokio::sync::watch;

use super::sample::HostCpu;
use super::{INTERVAL, Sample, SampleReceiver};
use crate::Engine;
use crate::container::Container;
use crate::error::Result;

/// How long a list waits for the sample of one of its containers, which may be gone.
const PATIENCE: Duration = Duration::from_secs(3);

/// The samples of one container.
pub struct StatsFeed {
    source: Source,
    container: Arc<Container>,
}

enum Source {
    /// One document, which is here already.
    Ready(Option<Box<ContainerStats>>),
    Watching {
        samples: Samples,
        stream: bool,
    },
}

impl Engine {
    /// What one container uses; the first document comes at once, except without `stream` and `one_shot`.
    pub async fn container_stats(&self, key: &str, options: StatsOptions) -> Result<StatsFeed> {
        let container = self.containers.find(key)?;
        let source = if options.stream || container.phase().is_alive() && !options.one_shot {
            Source::Watching { samples: Samples::of(self, &container), stream: options.stream }
        } else {
            let (engine, own) = (self.clone(), container.clone());
            let stats = crate::image::blocking(move || Ok(engine.sample(&own, HostCpu::read()))).await?;
            Source::Ready(Some(Box::new(stats)))
        };
        Ok(StatsFeed { source, container })
    }

    /// What several containers use, all of one moment in one list.
    pub fn batch_stats(&self, options: BatchStatsOptions) -> Result<BatchFeed> {
        for name in &options.containers {
            self.containers.find(name)?;
        }
        Ok(BatchFeed {
            engine: self.clone(),
            options,
            watched: HashMap::new(),
            rounds: self.sampler.rounds.subscribe(),
            begun: false,
        })
    }
}

impl StatsFeed {
    /// The next document; none when the container is gone, or the only one has been had.
    pub async fn next(&mut self) -> Option<ContainerStats> {
        let (samples, stream) = match &mut self.source {
            Source::Ready(stats) => return stats.take().map(|stats| *stats),
            Source::Watching { samples, stream } => (samples, *stream),
        };
        let mut progress = self.container.progress.subscribe();
        let next = async {
            if !stream {
                // One to compare with.
                samples.next().await?;
            }
            samples.next().await
        };
        let stats = tokio::select! {
            stats = next => stats,
            _ = progress.wait_for(|now| now.removed) => None,
        };
        if !stream {
            self.source = Source::Ready(None);
        }
        stats
    }
}

/// The samples of a container, as one client sees them.
struct Samples {
    receiver: SampleReceiver,
    /// The last one, and the one before it.
    seen: Option<Arc<Sample>>,
    before: Option<Arc<Sample>>,
}

impl Samples {
    fn of(engine: &Engine, container: &Container) -> Self {
        Self { receiver: engine.watch_stats(container), seen: None, before: None }
    }

    /// Waits for a sample that has not been seen.
    async fn next(&mut self) -> Option<ContainerStats> {
        let seen = self.seen.as_ref().map(|sample| sample.taken);
        let unseen = |sample: &Option<Arc<Sample>>| {
            let sample = sample.as_ref();
            // At the beginning, one that is left from an earlier client may be old.
            sample.is_some_and(|s| seen.map_or_else(|| s.age() < INTERVAL, |seen| s.taken > seen))
        };
        let sample = self.receiver.wait_for(unseen).await.ok()?.clone()?;
        self.see(sample);
        self.document()
    }

    /// The newest, which may be the one that was the newest before.
    fn newest(&mut self) -> Option<ContainerStats> {
        let newest = self.receiver.borrow_and_update().clone();
        if let Some(sample) = newest
            && self.seen.as_ref().is_none_or(|seen| seen.taken < sample.taken)
        {
            self.see(sample);
        }
        self.document()
    }

    fn see(&mut self, sample: Arc<Sample>) {
        self.before = self.seen.replace(sample);
    }

    fn document(&self) -> Option<ContainerStats> {
        let (preread, precpu_stats) = match &self.before {
            Some(before) => (before.stats.read, before.stats.cpu_stats.clone()),
            None => (Timestamp::ZERO, CpuStats::default()),
        };
        Some(ContainerStats { preread, precpu_stats, ..self.seen.as_ref()?.stats.clone() })
    }
}

/// The samples of several containers, a list per second.
pub struct BatchFeed {
    engine: Engine,
    options: BatchStatsOptions,
    watched: HashMap<String, Samples>,
    rounds: watch::Receiver<u64>,
    begun: bool,
}

impl BatchFeed {
    /// The next list; none when the only one has been had. Sorted as `ps` sorts: the newest container first.
    pub async fn next(&mut self) -> Option<Vec<ContainerStats>> {
        match (self.options.stream, self.begun) {
            (true, false) => {}
            (true, true) => self.next_round().await,
            (false, false) => {
                // One to compare with.
                let members = self.members();
                self.watch(&members).await;
                self.second_samples().await;
            }
            (false, true) => return None,
        }
        self.begun = true;
        let members = self.members();
        self.watch(&members).await;
        Some(members.iter().map(|container| self.newest(container)).collect())
    }

    fn members(&self) -> Vec<Arc<Container>> {
        let containers = &self.engine.containers;
        if !self.options.containers.is_empty() {
            return self.options.containers.iter().filter_map(|name| containers.find(name).ok()).collect();
        }
        let mut all = containers.listed();
        all.retain(|container| self.options.all || container.phase().is_alive());
        all.sort_by_cached_key(|container| std::cmp::Reverse(container.read().created));
        all
    }

    /// Watches those that run and no others; returns when each has its first sample.
    async fn watch(&mut self, members: &[Arc<Container>]) {
        let mut living: HashMap<&str, &Arc<Container>> = members
            .iter()
            .filter(|container| container.phase().is_alive())
            .map(|container| (container.id.as_str(), container))
            .collect();
        self.watched.retain(|id, _| living.remove(id.as_str()).is_some());
        let mut new: Vec<(String, Samples)> = living
            .into_values()
            .map(|container| (container.id.clone(), Samples::of(&self.engine, container)))
            .collect();
        let first = async {
            for (_, samples) in &mut new {
                samples.next().await;
            }
        };
        // One that is removed right now gets none.
        let _ = tokio::time::timeout(PATIENCE, first).await;
        self.watched.extend(new);
    }

    async fn second_samples(&mut self) {
        let second = async {
            for samples in self.watched.values_mut() {
                samples.next().await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, second).await;
    }

    async fn next_round(&mut self) {
        if self.watched.is_empty() {
            tokio::time::sleep(INTERVAL).await;
        } else {
            let _ = tokio::time::timeout(PATIENCE, self.rounds.changed()).await;
        }
    }

    fn newest(&mut self, container: &Container) -> ContainerStats {
        let sampled = self.watched.get_mut(&container.id).and_then(Samples::newest);
        sampled.unwrap_or_else(|| super::sample::nothing(container))
    }
}
