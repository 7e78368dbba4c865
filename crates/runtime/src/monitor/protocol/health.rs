//! How health is asked after, and what is told of it.

use serde::{Deserialize, Serialize};

use super::Timestamp;
use crate::spec::Process;

/// A probe, and when to run it. All durations are set: defaults are the engine's.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HealthCheck {
    pub process: Box<Process>,
    /// As for an exec.
    pub user: Option<String>,
    pub groups: Vec<String>,
    /// From the end of one probe to the next.
    pub interval_ns: u64,
    /// Instead of that while the container is starting, within its start period.
    pub start_interval_ns: u64,
    /// The first of those probes come sooner: after 100 ms, 200 ms, and so on up to `start_interval_ns`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub eager: bool,
    /// How long a probe may run.
    pub timeout_ns: u64,
    /// Failures of a container that was never healthy do not count for so long after its start.
    pub start_period_ns: u64,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
    /// What is done with a container that has become unhealthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<Remedy>,
}

/// What is done with a container that has become unhealthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// The signal, and SIGKILL after `patience_s` seconds (negative: never); whether the engine is to start it again.
    Stop { signal: i32, patience_s: i64, again: bool },
    /// SIGKILL.
    Kill,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// Neither a success nor enough failures yet.
    #[default]
    Starting,
    Healthy,
    Unhealthy,
}

impl HealthStatus {
    /// Docker's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// All that is known of a container's health.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    pub status: HealthStatus,
    pub failing_streak: u64,
    /// The last results, the oldest first.
    pub log: Vec<ProbeResult>,
}

/// What one probe came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    pub start: Timestamp,
    pub end: Timestamp,
    /// 0: healthy. -1: it took too long, or could not be run.
    pub code: i32,
    pub output: String,
}
