//! One reading of what a container uses, in the API's shape.
//!
//! Everything is read from files: the control group's, and `/proc/PID/net/dev`, which shows the interfaces of that process's
//! namespace to a reader outside of it.

use corten_api::stats::{
    BlkioEntry, BlkioStats, ContainerStats, CpuStats, CpuUsage, MemoryStats, NetworkStats, PidsStats,
    Pressure, PressureLine, PressureStats, ThrottlingData,
};
use corten_api::{List, Map, Timestamp};
use corten_runtime::cgroup::{self, BlockEntry};

use crate::Engine;
use crate::container::Container;

/// `/proc/stat` counts in hundredths of a second on all our architectures (USER_HZ).
const NANOSECONDS_PER_TICK: u64 = 10_000_000;

/// The host's processors: how many, and the time that all of them together have been there for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostCpu {
    pub usage: u64,
    pub online: u32,
}

impl HostCpu {
    pub fn read() -> Self {
        Self::parse(&std::fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    /// User, nice, system, idle, iowait, irq and softirq, as Docker's clients expect; guests are in user already.
    fn parse(text: &str) -> Self {
        let mut host = Self::default();
        for line in text.lines().take_while(|line| line.starts_with("cpu")) {
            let mut words = line.split_ascii_whitespace();
            if words.next() == Some("cpu") {
                let ticks: u64 = words.take(7).filter_map(|word| word.parse::<u64>().ok()).sum();
                host.usage = ticks * NANOSECONDS_PER_TICK;
            } else {
                host.online += 1;
            }
        }
        host
    }
}

impl Engine {
    /// Reads everything about one container; blocks for a fraction of a millisecond. Zeros when it does not run.
    pub(crate) fn sample(&self, container: &Container, host: HostCpu) -> ContainerStats {
        let nothing = nothing(container);
        let (pid, alive, shares_host_network) = {
            let record = container.read();
            let shares = record.host_config.network_mode == "host";
            (record.state.pid, record.state.phase.is_alive(), shares)
        };
        let group = if alive { self.cgroup(container).ok() } else { None };
        let Some(group) = group else { return nothing };
        let read = Timestamp::now();
        let used = group.sample();
        let networks = match shares_host_network {
            true => Map::default(),
            false => networks(pid),
        };
        ContainerStats {
            read,
            cpu_stats: cpu(&used.cpu, host),
            memory_stats: memory(&used.memory, self.host.memory_bytes, group.is_unified()),
            networks,
            pids_stats: PidsStats {
                current: used.pids.current,
                limit: match (used.pids.limit, group.is_unified()) {
                    // "max" is the largest number there, and nothing in version 1.
                    (0, true) => u64::MAX,
                    (limit, _) => limit,
                },
            },
            blkio_stats: blkio(&used.block, group.is_unified()),
            pressure_stats: pressure(&used),
            ..nothing
        }
    }
}

/// What is told of a container that does not run.
pub(super) fn nothing(container: &Container) -> ContainerStats {
    let (id, name) = (container.id.clone(), format!("/{}", container.name()));
    ContainerStats { id, name, os_type: "linux".into(), ..ContainerStats::default() }
}

fn cpu(used: &cgroup::CpuStats, host: HostCpu) -> CpuStats {
    CpuStats {
        cpu_usage: CpuUsage {
            total_usage: used.usage,
            percpu_usage: used.per_cpu.clone().into(),
            usage_in_kernelmode: used.system,
            usage_in_usermode: used.user,
        },
        system_cpu_usage: host.usage,
        online_cpus: host.online,
        throttling_data: ThrottlingData {
            periods: used.throttling.periods,
            throttled_periods: used.throttling.throttled_periods,
            throttled_time: used.throttling.throttled_time_ns,
        },
    }
}

fn memory(used: &cgroup::MemoryStats, host_bytes: u64, unified: bool) -> MemoryStats {
    MemoryStats {
        usage: used.usage,
        max_usage: used.usage_max,
        stats: used.detail.iter().map(|(name, value)| (name.clone(), *value)).collect(),
        failcnt: if unified { used.out_of_memory } else { used.limit_hits },
        limit: used.limit.min(host_bytes),
    }
}

fn blkio(used: &cgroup::BlockStats, unified: bool) -> BlkioStats {
    let entry = |entry: &BlockEntry| BlkioEntry {
        major: entry.major,
        minor: entry.minor,
        op: if unified { entry.operation.to_ascii_lowercase() } else { entry.operation.clone() },
        value: entry.value,
    };
    if unified {
        let bytes = used.service_bytes.iter().filter(|entry| entry.operation != "Discard");
        let bytes: Vec<BlkioEntry> = bytes.map(entry).collect();
        // Nil without a device, as the other lists always are.
        let bytes = if bytes.is_empty() { List::default() } else { bytes.into() };
        return BlkioStats { io_service_bytes_recursive: bytes, ..BlkioStats::default() };
    }
    let list = |entries: &[BlockEntry]| entries.iter().map(entry).collect();
    BlkioStats {
        io_service_bytes_recursive: list(&used.service_bytes),
        io_serviced_recursive: list(&used.serviced),
        io_queue_recursive: list(&used.queued),
        io_service_time_recursive: list(&used.service_time),
        io_wait_time_recursive: list(&used.wait_time),
        io_merged_recursive: list(&used.merged),
        io_time_recursive: list(&used.time),
        sectors_recursive: list(&used.sectors),
    }
}

fn pressure(used: &cgroup::Stats) -> Option<PressureStats> {
    let line = |line: cgroup::PressureLine| PressureLine {
        avg10: line.avg10,
        avg60: line.avg60,
        avg300: line.avg300,
        total: line.total_us * 1000,
    };
    let resource = |pressure: Option<cgroup::Pressure>| {
        pressure.map(|pressure| Pressure { some: line(pressure.some), full: line(pressure.full) })
    };
    let stats = PressureStats {
        cpu: resource(used.cpu.pressure),
        memory: resource(used.memory.pressure),
        io: resource(used.block.pressure),
    };
    (stats != PressureStats::default()).then_some(stats)
}

fn networks(pid: i32) -> Map<NetworkStats> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    let found: Map<NetworkStats> = parse_devices(&text).collect();
    if found.is_empty() { Map::default() } else { found }
}

/// Two lines of titles, then `eth0: ` and sixteen numbers: bytes, packets, errors, drops, … received, then the same sent.
fn parse_devices(text: &str) -> impl Iterator<Item = (String, NetworkStats)> {
    text.lines().skip(2).filter_map(|line| {
        let (name, numbers) = line.split_once(':')?;
        let name = name.trim();
        if is_the_kernels(name) {
            return None;
        }
        let mut columns = [0; 12];
        for (column, word) in columns.iter_mut().zip(numbers.split_ascii_whitespace()) {
            *column = word.parse().ok()?;
        }
        let [rx_bytes, rx_packets, rx_errors, rx_dropped, _, _, _, _, rest @ ..] = columns;
        let [tx_bytes, tx_packets, tx_errors, tx_dropped] = rest;
        let stats = NetworkStats {
            rx_bytes,
            rx_packets,
            rx_errors,
            rx_dropped,
            tx_bytes,
            tx_packets,
            tx_errors,
            tx_dropped,
        };
        Some((name.to_owned(), stats))
    })
}

/// Interfaces that a namespace has from birth: loopback, and one per tunnel module that is loaded (`fb_tunnels_only_for_init_net`).
fn is_the_kernels(name: &str) -> bool {
    matches!(
        name,
        "lo" | "tunl0"
            | "gre0"
            | "gretap0"
            | "erspan0"
            | "ip_vti0"
            | "ip6_vti0"
            | "sit0"
            | "ip6tnl0"
            | "ip6gre0"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_processors() {
        let text = "cpu  1 2 3 4 5 6 7 800 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\ncpu1 0 0 0 0 0 0 0 0 0 0\nintr 5\ncpu9 1\n";
        assert_eq!(HostCpu::parse(text), HostCpu { usage: 28 * NANOSECONDS_PER_TICK, online: 2 });
        assert!(HostCpu::read().online > 0);
    }

    #[test]
    fn interfaces_of_a_namespace() {
        let text = "Inter-|   Receive |  Transmit\n face |bytes packets|bytes packets\n    lo:  9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9\n  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n tunl0: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
        let found: Vec<_> = parse_devices(text).collect();
        assert_eq!(found.len(), 1);
        let (name, stats) = &found[0];
        assert_eq!(name, "eth0");
        assert_eq!([stats.rx_bytes, stats.rx_packets, stats.rx_errors, stats.rx_dropped], [1, 2, 3, 4]);
        assert_eq!([stats.tx_bytes, stats.tx_packets, stats.tx_errors, stats.tx_dropped], [9, 10, 11, 12]);
    }

    #[test]
    fn no_limit_is_the_hosts_memory() {
        let used = cgroup::MemoryStats { usage: 5, limit: u64::MAX, limit_hits: 3, ..Default::default() };
        let stats = memory(&used, 1000, false);
        assert_eq!((stats.limit, stats.failcnt), (1000, 3));
        assert_eq!(memory(&used, 1000, true).failcnt, 0);
    }

    #[test]
    fn block_devices_by_version() {
        let entry =
            |operation: &str| BlockEntry { major: 8, minor: 0, operation: operation.into(), value: 7 };
        let used = cgroup::BlockStats {
            service_bytes: vec![entry("Read"), entry("Discard")],
            serviced: vec![entry("Read")],
            ..Default::default()
        };
        let json = |unified| serde_json::to_value(blkio(&used, unified)).unwrap();
        assert_eq!(json(true)["io_service_bytes_recursive"].as_array().unwrap().len(), 1);
        assert_eq!(json(true)["io_service_bytes_recursive"][0]["op"], "read");
        assert!(json(true)["io_serviced_recursive"].is_null());
        assert_eq!(json(false)["io_service_bytes_recursive"][1]["op"], "Discard");
        assert_eq!(json(false)["sectors_recursive"], serde_json::json!([]));
    }
}
