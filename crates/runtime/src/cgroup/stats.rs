//! What a group has used: the numbers of both versions in one shape, from which Docker's statistics and the runtime's
//! `events --stats` are made.
//!
//! A file that this kernel lacks leaves its numbers at zero or absent; statistics never fail for want of one.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::io_stats;
pub use super::io_stats::{BlockEntry, BlockStats};
use super::layout::{Controller, Version};
use super::{Cgroup, Error, file};

#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Stats {
    pub cpu: CpuStats,
    pub memory: MemoryStats,
    pub pids: PidStats,
    pub block: BlockStats,
    /// By page size (`2MB`).
    pub hugetlb: BTreeMap<String, HugetlbStats>,
}

/// How much to read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    Everything,
    /// What Docker's statistics are made of.
    Docker,
}

/// Nanoseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct CpuStats {
    pub usage: u64,
    pub user: u64,
    pub system: u64,
    /// One number per processor; version 2 does not tell.
    pub per_cpu: Vec<u64>,
    pub throttling: Throttling,
    pub pressure: Option<Pressure>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Throttling {
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled_time_ns: u64,
}

/// Bytes; a limit of `u64::MAX` is none.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct MemoryStats {
    pub usage: u64,
    pub usage_max: u64,
    pub limit: u64,
    /// How often the limit was hit.
    pub limit_hits: u64,
    /// How often hitting it found nothing to give back (version 2).
    #[serde(default)]
    pub out_of_memory: u64,
    /// Memory and swap together.
    pub usage_with_swap: u64,
    pub limit_with_swap: u64,
    pub kernel_usage: u64,
    pub kernel_tcp_usage: u64,
    pub oom_kills: u64,
    /// `memory.stat` as the kernel writes it; the names differ between the versions.
    pub detail: BTreeMap<String, u64>,
    pub pressure: Option<Pressure>,
}

impl MemoryStats {
    /// What `docker stats` shows: usage without the file pages that the kernel can drop at once.
    pub fn working_set(&self) -> u64 {
        let inactive = self.detail.get("total_inactive_file").or_else(|| self.detail.get("inactive_file"));
        self.usage.saturating_sub(inactive.copied().unwrap_or(0))
    }
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct PidStats {
    pub current: u64,
    /// 0: no limit.
    pub limit: u64,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct HugetlbStats {
    pub usage: u64,
    pub usage_max: u64,
    pub limit_hits: u64,
}

/// Pressure stall information.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Pressure {
    pub some: PressureLine,
    pub full: PressureLine,
}

/// Percentages over 10, 60 and 300 seconds, and microseconds in all.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct PressureLine {
    pub avg10: f64,
    pub avg60: f64,
    pub avg300: f64,
    pub total_us: u64,
}

impl Cgroup {
    /// Reads all statistics of the group.
    pub fn stats(&self) -> Result<Stats, Error> {
        Ok(Stats { hugetlb: self.hugetlb_stats(), ..self.read(Extent::Everything) })
    }

    /// Reads what Docker's statistics are made of, in half the time: no swap, no kernel memory, no huge pages.
    pub fn sample(&self) -> Stats {
        self.read(Extent::Docker)
    }

    fn read(&self, extent: Extent) -> Stats {
        Stats {
            cpu: self.cpu_stats(),
            memory: self.memory_stats(extent),
            pids: self.pid_stats(),
            block: self.block_stats(),
            hugetlb: BTreeMap::new(),
        }
    }

    fn cpu_stats(&self) -> CpuStats {
        let mut stats = CpuStats { pressure: self.pressure("cpu.pressure"), ..CpuStats::default() };
        let v1 = |controller| {
            self.groups
                .iter()
                .find(|group| group.version == Version::V1 && group.controllers.has(controller))
                .map(|group| group.path.as_path())
        };
        if let Some(dir) = v1(Controller::Cpuacct) {
            parse_usage_all(&file::read(dir, "cpuacct.usage_all").unwrap_or_default(), &mut stats);
        } else if let Some(group) = self.unified() {
            // There even where the controller is switched off.
            let all = table(&group.path, "cpu.stat");
            let us = |key: &str| all.get(key).copied().unwrap_or(0) * 1000;
            (stats.usage, stats.user, stats.system) = (us("usage_usec"), us("user_usec"), us("system_usec"));
        }
        if let Some(group) = self.holder(Controller::Cpu) {
            let all = table(&group.path, "cpu.stat");
            let get = |key: &str| all.get(key).copied().unwrap_or(0);
            stats.throttling = Throttling {
                periods: get("nr_periods"),
                throttled_periods: get("nr_throttled"),
                throttled_time_ns: match group.version {
                    Version::V1 => get("throttled_time"),
                    Version::V2 => get("throttled_usec") * 1000,
                },
            };
        }
        stats
    }

    fn memory_stats(&self, extent: Extent) -> MemoryStats {
        let mut stats = match self.holder(Controller::Memory) {
            Some(group) if group.version == Version::V1 => memory_v1(&group.path, extent),
            Some(group) => memory_v2(&group.path, extent),
            None => MemoryStats::default(),
        };
        stats.pressure = self.pressure("memory.pressure");
        stats
    }

    fn pid_stats(&self) -> PidStats {
        let Some(group) = self.holder(Controller::Pids) else {
            return PidStats { current: self.pids().map_or(0, |pids| pids.len() as u64), limit: 0 };
        };
        let limit = number(&group.path, "pids.max");
        PidStats {
            current: number(&group.path, "pids.current"),
            limit: if limit == u64::MAX { 0 } else { limit },
        }
    }

    fn block_stats(&self) -> BlockStats {
        let mut stats = match self.holder(Controller::Block) {
            Some(group) if group.version == Version::V1 => io_stats::read_v1(&group.path),
            Some(group) => io_stats::read_v2(&group.path),
            None => BlockStats::default(),
        };
        stats.pressure = self.pressure("io.pressure");
        stats
    }

    fn hugetlb_stats(&self) -> BTreeMap<String, HugetlbStats> {
        let Some(group) = self.holder(Controller::Hugetlb) else { return BTreeMap::new() };
        let dir = &group.path;
        let of_size = |size: String| {
            let stats = match group.version {
                Version::V1 => HugetlbStats {
                    usage: number(dir, &format!("hugetlb.{size}.usage_in_bytes")),
                    usage_max: number(dir, &format!("hugetlb.{size}.max_usage_in_bytes")),
                    limit_hits: number(dir, &format!("hugetlb.{size}.failcnt")),
                },
                Version::V2 => HugetlbStats {
                    usage: number(dir, &format!("hugetlb.{size}.current")),
                    usage_max: 0,
                    limit_hits: table(dir, &format!("hugetlb.{size}.events")).remove("max").unwrap_or(0),
                },
            };
            (size, stats)
        };
        page_sizes().into_iter().map(of_size).collect()
    }

    /// Version 2 accounts pressure for every group, also where version 1 has the controllers.
    fn pressure(&self, name: &str) -> Option<Pressure> {
        parse_pressure(&file::read(&self.unified()?.path, name).ok()?)
    }
}

fn memory_v1(dir: &Path, extent: Extent) -> MemoryStats {
    let stats = MemoryStats {
        usage: number(dir, "memory.usage_in_bytes"),
        usage_max: number(dir, "memory.max_usage_in_bytes"),
        limit: limit_v1(number(dir, "memory.limit_in_bytes")),
        limit_hits: number(dir, "memory.failcnt"),
        detail: table(dir, "memory.stat"),
        ..MemoryStats::default()
    };
    if extent == Extent::Docker {
        return stats;
    }
    MemoryStats {
        usage_with_swap: number(dir, "memory.memsw.usage_in_bytes"),
        limit_with_swap: limit_v1(number(dir, "memory.memsw.limit_in_bytes")),
        kernel_usage: number(dir, "memory.kmem.usage_in_bytes"),
        kernel_tcp_usage: number(dir, "memory.kmem.tcp.usage_in_bytes"),
        oom_kills: table(dir, "memory.oom_control").remove("oom_kill").unwrap_or(0),
        ..stats
    }
}

fn memory_v2(dir: &Path, extent: Extent) -> MemoryStats {
    let detail = table(dir, "memory.stat");
    let mut events = table(dir, "memory.events");
    let (usage, limit) = (number(dir, "memory.current"), number(dir, "memory.max"));
    let stats = MemoryStats {
        usage,
        limit,
        limit_hits: events.remove("max").unwrap_or(0),
        out_of_memory: events.remove("oom").unwrap_or(0),
        kernel_usage: detail.get("kernel").copied().unwrap_or(0),
        kernel_tcp_usage: detail.get("sock").copied().unwrap_or(0),
        oom_kills: events.remove("oom_kill").unwrap_or(0),
        detail,
        ..MemoryStats::default()
    };
    if extent == Extent::Docker {
        return stats;
    }
    MemoryStats {
        usage_max: number(dir, "memory.peak"),
        usage_with_swap: usage + number(dir, "memory.swap.current"),
        limit_with_swap: limit.saturating_add(number(dir, "memory.swap.max")),
        ..stats
    }
}

/// `cpu user system`, then a line per processor, in nanoseconds.
fn parse_usage_all(text: &str, stats: &mut CpuStats) {
    for line in text.lines().skip(1) {
        let mut columns = line.split_ascii_whitespace().skip(1).map(file::parse_number);
        let (user, system) = (columns.next().unwrap_or(0), columns.next().unwrap_or(0));
        stats.user += user;
        stats.system += system;
        stats.usage += user + system;
        stats.per_cpu.push(user + system);
    }
}

/// Version 1 shows "no limit" as the largest number of whole pages.
fn limit_v1(limit: u64) -> u64 {
    if limit >= i64::MAX as u64 - 0xffff { u64::MAX } else { limit }
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same with `full`.
pub(super) fn parse_pressure(text: &str) -> Option<Pressure> {
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let (kind, values) = line.split_once(' ')?;
        let value = |key: &str| values.split(' ').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        let share = |key| value(key).and_then(|number| number.parse().ok()).unwrap_or(0.0);
        let line = PressureLine {
            avg10: share("avg10"),
            avg60: share("avg60"),
            avg300: share("avg300"),
            total_us: value("total").map_or(0, file::parse_number),
        };
        match kind {
            "some" => pressure.some = line,
            "full" => pressure.full = line,
            _ => {}
        }
    }
    Some(pressure)
}

/// The sizes of huge pages that this kernel offers, as control groups name them.
fn page_sizes() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/sys/kernel/mm/hugepages") else { return Vec::new() };
    let size = |entry: std::fs::DirEntry| {
        let name = entry.file_name();
        let kib: u64 = name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        Some(match kib {
            gib if gib >= 1 << 20 => format!("{}GB", gib >> 20),
            mib if mib >= 1 << 10 => format!("{}MB", mib >> 10),
            kib => format!("{kib}KB"),
        })
    };
    entries.flatten().filter_map(size).collect()
}

fn number(dir: &Path, name: &str) -> u64 {
    file::read(dir, name).map_or(0, |text| file::parse_number(&text))
}

fn table(dir: &Path, name: &str) -> BTreeMap<String, u64> {
    let text = file::read(dir, name).unwrap_or_default();
    file::pairs(&text).map(|(key, value)| (key.to_owned(), value)).collect()
}
