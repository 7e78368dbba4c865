//! The engine's own process, under the names that every client library of Prometheus uses.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// `/proc` counts in hundredths of a second on all our architectures (USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;

pub(super) fn register(registry: &mut Registry) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let Some(process) = Process::parse(&stat) else { return };
    let cpu = Counter::<f64, AtomicU64>::default();
    cpu.inc_by(process.cpu_ticks as f64 / TICKS_PER_SECOND);
    registry.register("process_cpu_seconds", "Total user and system CPU time spent in seconds", cpu);
    let page = rustix::param::page_size() as u64;
    for (name, help, value) in [
        ("process_virtual_memory_bytes", "Virtual memory size in bytes", process.virtual_bytes),
        ("process_resident_memory_bytes", "Resident memory size in bytes", process.resident_pages * page),
        (
            "process_open_fds",
            "Number of open file descriptors",
            std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64),
        ),
        (
            "process_max_fds",
            "Maximum number of open file descriptors",
            rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX),
        ),
        ("process_threads", "Number of threads", process.threads),
    ] {
        let gauge = Gauge::<i64>::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(name, help, gauge);
    }
    if let Some(boot) = boot_time() {
        let gauge = Gauge::<f64, AtomicU64>::default();
        gauge.set(boot as f64 + process.start_ticks as f64 / TICKS_PER_SECOND);
        let help = "Start time of the process since unix epoch in seconds";
        registry.register("process_start_time_seconds", help, gauge);
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Process {
    cpu_ticks: u64,
    threads: u64,
    /// Since the machine's start.
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Process {
    /// Reads `/proc/PID/stat` (proc(5)); the second field may hold blanks and parentheses.
    fn parse(stat: &str) -> Option<Self> {
        let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().collect();
        // The first one here is the third there.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

/// Seconds since 1970.
fn boot_time() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::Process;

    #[test]
    fn a_name_may_look_like_the_rest() {
        let stat = "7 (a) b (1 2) S 1 7 7 0 -1 4194304 100 0 0 0 25 17 0 0 20 0 9 0 4242 1048576 300 18446744073709551615 1";
        let process = Process::parse(stat).unwrap();
        assert_eq!((process.cpu_ticks, process.threads, process.start_ticks), (42, 9, 4242));
        assert_eq!((process.virtual_bytes, process.resident_pages), (1_048_576, 300));
        assert!(Process::parse("7 (broken").is_none());
    }
}
