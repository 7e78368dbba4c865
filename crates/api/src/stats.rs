//! What a container uses: one document of `GET /containers/{id}/stats`, and what `/corten/stats` adds.

use crate::json::{List, Map, is_zero};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// One sample. A container that does not run has zeros, and the zero time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerStats {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// With a leading slash.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Since API 1.52.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub os_type: String,
    pub read: Timestamp,
    pub cpu_stats: CpuStats,
    pub memory_stats: MemoryStats,
    /// By the interface's name inside; absent when there are none.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub networks: Map<NetworkStats>,
    pub pids_stats: PidsStats,
    pub blkio_stats: BlkioStats,
    pub num_procs: u32,
    pub storage_stats: StorageStats,
    /// When the sample before this one was taken, in the same stream.
    pub preread: Timestamp,
    pub precpu_stats: CpuStats,
    /// Corten's own: how long processes waited for what they need. Absent where the kernel does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pressure_stats: Option<PressureStats>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuStats {
    pub cpu_usage: CpuUsage,
    /// Nanoseconds that all processors of the host have been there for.
    #[serde(skip_serializing_if = "is_zero")]
    pub system_cpu_usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub online_cpus: u32,
    pub throttling_data: ThrottlingData,
}

/// Nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuUsage {
    pub total_usage: u64,
    /// Control groups of version 1 only.
    #[serde(skip_serializing_if = "List::is_empty")]
    pub percpu_usage: List<u64>,
    pub usage_in_kernelmode: u64,
    pub usage_in_usermode: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThrottlingData {
    pub periods: u64,
    pub throttled_periods: u64,
    /// Nanoseconds.
    pub throttled_time: u64,
}

/// Bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryStats {
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// Control groups of version 1 only.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_usage: u64,
    /// `memory.stat`, by the kernel's names.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub stats: Map<u64>,
    #[serde(skip_serializing_if = "is_zero")]
    pub failcnt: u64,
    /// The host's memory when there is no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

impl MemoryStats {
    /// What `docker stats` shows: usage without the pages of files that the kernel drops when it needs room.
    pub fn used(&self) -> u64 {
        let inactive = self.stats.get("total_inactive_file").or_else(|| self.stats.get("inactive_file"));
        // A page cache that is larger than the usage is none that is counted in it.
        inactive.and_then(|inactive| self.usage.checked_sub(*inactive)).unwrap_or(self.usage)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PidsStats {
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlkioStats {
    pub io_service_bytes_recursive: List<BlkioEntry>,
    pub io_serviced_recursive: List<BlkioEntry>,
    pub io_queue_recursive: List<BlkioEntry>,
    pub io_service_time_recursive: List<BlkioEntry>,
    pub io_wait_time_recursive: List<BlkioEntry>,
    pub io_merged_recursive: List<BlkioEntry>,
    pub io_time_recursive: List<BlkioEntry>,
    pub sectors_recursive: List<BlkioEntry>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlkioEntry {
    pub major: u64,
    pub minor: u64,
    pub op: String,
    pub value: u64,
}

/// What other systems have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StorageStats {
    #[serde(skip_serializing_if = "is_zero")]
    pub read_count_normalized: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub read_size_bytes: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub write_count_normalized: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub write_size_bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkStats {
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

/// Pressure stall information of the container's control group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PressureStats {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Pressure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Pressure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io: Option<Pressure>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pressure {
    /// At least one process waited.
    pub some: PressureLine,
    /// All of them waited.
    pub full: PressureLine,
}

/// Percent of the last 10, 60 and 300 seconds, and nanoseconds in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PressureLine {
    pub avg10: f64,
    pub avg60: f64,
    pub avg300: f64,
    pub total: u64,
}

/// How `GET /containers/{id}/stats` answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatsOptions {
    /// A document per second, until the container is gone.
    pub stream: bool,
    /// Without `stream`: do not wait for a second sample to compare with.
    pub one_shot: bool,
}

/// Which containers `GET /corten/stats` tells of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchStatsOptions {
    /// Names or ids; empty is every container that runs.
    pub containers: Vec<String>,
    /// Of no name: those that do not run, too.
    pub all: bool,
    /// A line per second.
    pub stream: bool,
}
