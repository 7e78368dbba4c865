//! Metrics of the engine, under Docker's names where Docker has one (`engine_daemon_…`), and of each container
//! (`containers`).
//!
//! What happens is counted as it happens; what is so at a moment is looked up for each scrape. Nothing is sampled between
//! scrapes. The result is OpenMetrics text; who wants the older format gets it from [`plain`].

mod containers;
mod plain;
mod process;

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

pub use plain::plain;

use crate::Engine;
use crate::container::Phase;
use crate::error::{Error, Result};

/// Seconds; those of Go's client, which Docker's metrics have.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What an action is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noun {
    Container,
    Image,
    Network,
    Volume,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Action {
    action: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    method: &'static str,
    code: u16,
}

/// The methods that are counted by name: a label's values must not be for clients to make up.
const METHODS: [&str; 6] = ["DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT"];

type Durations = Family<Action, Histogram, fn() -> Histogram>;

/// What is counted while the engine runs.
pub struct Metrics {
    containers: Durations,
    images: Durations,
    networks: Durations,
    volumes: Durations,
    requests: Family<Answer, Counter>,
    events: Counter,
    health_checks: Counter,
    health_checks_failed: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let durations = || Family::new_with_constructor((|| Histogram::new(BUCKETS)) as fn() -> Histogram);
        Self {
            containers: durations(),
            images: durations(),
            networks: durations(),
            volumes: durations(),
            requests: Family::default(),
            events: Counter::default(),
            health_checks: Counter::default(),
            health_checks_failed: Counter::default(),
        }
    }
}

impl Metrics {
    /// An action has succeeded.
    pub fn action(&self, noun: Noun, action: &'static str, took: Duration) {
        let durations = match noun {
            Noun::Container => &self.containers,
            Noun::Image => &self.images,
            Noun::Network => &self.networks,
            Noun::Volume => &self.volumes,
        };
        durations.get_or_create(&Action { action }).observe(took.as_secs_f64());
    }

    /// A request was answered.
    pub fn request(&self, method: &str, code: u16) {
        let method = METHODS.iter().find(|known| **known == method).copied().unwrap_or("other");
        self.requests.get_or_create(&Answer { method, code }).inc();
    }

    pub(crate) fn event(&self) {
        self.events.inc();
    }

    pub(crate) fn health_check(&self, passed: bool) {
        self.health_checks.inc();
        if !passed {
            self.health_checks_failed.inc();
        }
    }

    fn register(&self, registry: &mut Registry) {
        for (noun, durations) in [
            ("container", &self.containers),
            ("image", &self.images),
            ("network", &self.networks),
            ("volume", &self.volumes),
        ] {
            registry.register(
                format!("engine_daemon_{noun}_actions_seconds"),
                format!("The number of seconds it takes to process each {noun} action"),
                durations.clone(),
            );
        }
        registry.register(
            "engine_daemon_http_requests",
            "The number of requests that were answered",
            self.requests.clone(),
        );
        registry.register("engine_daemon_events", "The number of events logged", self.events.clone());
        registry.register(
            "engine_daemon_health_checks",
            "The total number of health checks",
            self.health_checks.clone(),
        );
        registry.register(
            "engine_daemon_health_checks_failed",
            "The total number of failed health checks",
            self.health_checks_failed.clone(),
        );
    }
}

impl Engine {
    /// What happened and is measured; for whoever serves requests.
    pub fn metrics(&self) -> &Metrics {
        &self.counted
    }

    /// All metrics, as OpenMetrics text.
    pub async fn scrape(&self) -> Result<String> {
        let engine = self.clone();
        crate::image::blocking(move || {
            let mut registry = Registry::default();
            engine.counted.register(&mut registry);
            engine.register_state(&mut registry);
            process::register(&mut registry);
            engine.register_containers(&mut registry);
            let mut text = String::with_capacity(16 << 10);
            encode(&mut text, &registry).map_err(|e| Error::internal(format!("encode metrics: {e}")))?;
            Ok(text)
        })
        .await
    }

    fn register_state(&self, registry: &mut Registry) {
        let states = Family::<Vec<(&'static str, String)>, Gauge>::default();
        let count = |state: &str, phases: &[Phase]| {
            let all = self.containers.listed();
            let count = all.iter().filter(|container| phases.contains(&container.phase())).count();
            let labels = vec![("state", state.to_owned())];
            states.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
        };
        count("paused", &[Phase::Paused]);
        count("running", &[Phase::Running, Phase::Restarting]);
        count("stopped", &[Phase::Created, Phase::Exited, Phase::Removing]);
        registry.register(
            "engine_daemon_container_states_containers",
            "The count of containers in various states",
            states,
        );
        let number = |registry: &mut Registry, name: &str, help: &str, value: u64| {
            let gauge = Gauge::<i64>::default();
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            registry.register(name, help, gauge);
        };
        let info = self.host.labels();
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        number(
            registry,
            "engine_daemon_engine_cpus_cpus",
            "The number of cpus that the host system of the engine has",
            cpus,
        );
        number(
            registry,
            "engine_daemon_engine_memory_bytes",
            "The number of bytes of memory that the host system of the engine has",
            self.host.memory_bytes,
        );
        number(
            registry,
            "engine_daemon_events_subscribers_total",
            "The number of current subscribers to events",
            self.events.listeners() as u64,
        );
        let about = Family::<Vec<(&'static str, String)>, Gauge>::default();
        let own = [
            ("version", self.options.version.clone()),
            ("commit", crate::system::COMMIT.to_owned()),
            ("daemon_id", self.instance.clone()),
            ("graphdriver", self.images.driver().name().to_owned()),
        ];
        about.get_or_create(&own.into_iter().chain(info).collect()).set(1);
        registry.register(
            "engine_daemon_engine_info",
            "The information related to the engine and the OS it is running on",
            about,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_do_not_make_up_labels() {
        let metrics = Metrics::default();
        for number in 0..1000 {
            metrics.request(&format!("X{number}"), 404);
        }
        metrics.request("GET", 200);
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let requests = text.lines().filter(|line| line.starts_with("engine_daemon_http_requests_total{"));
        let mut requests: Vec<&str> = requests.collect();
        requests.sort_unstable();
        assert_eq!(
            requests,
            [
                "engine_daemon_http_requests_total{method=\"GET\",code=\"200\"} 1",
                "engine_daemon_http_requests_total{method=\"other\",code=\"404\"} 1000"
            ]
        );
    }
}
