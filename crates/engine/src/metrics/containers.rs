//! What each container uses, as metrics: read for the scrape, like a client's statistics.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use corten_api::stats::{BlkioEntry, ContainerStats, Pressure};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::Engine;
use crate::container::Container;
use crate::stats::HostCpu;

type Labels = Vec<(&'static str, String)>;
type Total = Family<Labels, Counter>;
type Seconds = Family<Labels, Counter<f64, AtomicU64>>;
type Level = Family<Labels, Gauge>;

const NANOSECONDS: f64 = 1e9;

#[derive(Default)]
struct Families {
    cpu: Seconds,
    cpu_user: Seconds,
    cpu_system: Seconds,
    throttled: Seconds,
    throttled_periods: Total,
    memory: Level,
    working_set: Level,
    memory_limit: Level,
    memory_failures: Total,
    reads: Total,
    writes: Total,
    received_bytes: Total,
    received_packets: Total,
    received_errors: Total,
    received_dropped: Total,
    sent_bytes: Total,
    sent_packets: Total,
    sent_errors: Total,
    sent_dropped: Total,
    processes: Level,
    pressure: Seconds,
    started: Level,
    restarts: Total,
    health: Level,
}

impl Engine {
    pub(super) fn register_containers(&self, registry: &mut Registry) {
        let families = Families::default();
        let host = HostCpu::read();
        for container in self.containers.listed() {
            let labels = labels(&container);
            families.life(&container, &labels);
            if container.phase().is_alive() {
                families.usage(&self.sample(&container, host), &labels);
            }
        }
        families.register(registry);
    }
}

fn labels(container: &Arc<Container>) -> Labels {
    let record = container.read();
    let mut labels = vec![
        ("id", record.id.clone()),
        ("name", record.name.clone()),
        ("image", record.config.image.clone()),
    ];
    let known = |(name, label): (&'static str, &str)| Some((name, record.config.labels.get(label)?.clone()));
    labels.extend(COMPOSE.into_iter().filter_map(known));
    labels
}

/// What Compose says of a container, and by what people look for it.
const COMPOSE: [(&str, &str); 2] =
    [("compose_project", "com.docker.compose.project"), ("compose_service", "com.docker.compose.service")];

fn with(labels: &Labels, name: &'static str, value: &str) -> Labels {
    let mut labels = labels.clone();
    labels.push((name, value.to_owned()));
    labels
}

fn level(family: &Level, labels: &Labels, value: u64) {
    family.get_or_create(labels).set(i64::try_from(value).unwrap_or(i64::MAX));
}

impl Families {
    fn life(&self, container: &Container, labels: &Labels) {
        let record = container.read();
        self.restarts.get_or_create(labels).inc_by(record.state.restart_count);
        if let Some(health) = record.state.health.as_ref().filter(|_| record.state.phase.is_alive()) {
            for status in ["starting", "healthy", "unhealthy"] {
                level(&self.health, &with(labels, "status", status), u64::from(health.status == status));
            }
        }
        if record.state.phase.is_alive() {
            level(&self.started, labels, u64::try_from(record.state.started.unix()).unwrap_or(0));
        }
    }

    fn usage(&self, stats: &ContainerStats, labels: &Labels) {
        let seconds = |family: &Seconds, nanoseconds: u64| {
            family.get_or_create(labels).inc_by(nanoseconds as f64 / NANOSECONDS);
        };
        let (used, throttled) = (&stats.cpu_stats.cpu_usage, &stats.cpu_stats.throttling_data);
        seconds(&self.cpu, used.total_usage);
        seconds(&self.cpu_user, used.usage_in_usermode);
        seconds(&self.cpu_system, used.usage_in_kernelmode);
        seconds(&self.throttled, throttled.throttled_time);
        self.throttled_periods.get_or_create(labels).inc_by(throttled.throttled_periods);
        let memory = &stats.memory_stats;
        level(&self.memory, labels, memory.usage);
        level(&self.working_set, labels, memory.used());
        level(&self.memory_limit, labels, memory.limit);
        self.memory_failures.get_or_create(labels).inc_by(memory.failcnt);
        let blocks = &stats.blkio_stats.io_service_bytes_recursive;
        self.reads.get_or_create(labels).inc_by(bytes(blocks, "read"));
        self.writes.get_or_create(labels).inc_by(bytes(blocks, "write"));
        level(&self.processes, labels, stats.pids_stats.current);
        for (interface, network) in stats.networks.iter() {
            let labels = with(labels, "interface", interface);
            for (family, value) in [
                (&self.received_bytes, network.rx_bytes),
                (&self.received_packets, network.rx_packets),
                (&self.received_errors, network.rx_errors),
                (&self.received_dropped, network.rx_dropped),
                (&self.sent_bytes, network.tx_bytes),
                (&self.sent_packets, network.tx_packets),
                (&self.sent_errors, network.tx_errors),
                (&self.sent_dropped, network.tx_dropped),
            ] {
                family.get_or_create(&labels).inc_by(value);
            }
        }
        let pressure = stats.pressure_stats.clone().unwrap_or_default();
        for (resource, pressure) in [("cpu", pressure.cpu), ("memory", pressure.memory), ("io", pressure.io)]
        {
            let Some(Pressure { some, full }) = pressure else { continue };
            for (kind, line) in [("some", some), ("full", full)] {
                let labels = with(&with(labels, "resource", resource), "kind", kind);
                self.pressure.get_or_create(&labels).inc_by(line.total as f64 / NANOSECONDS);
            }
        }
    }

    fn register(self, registry: &mut Registry) {
        for (name, help, family) in [
            ("cpu_usage_seconds", "Processor time", self.cpu),
            ("cpu_user_seconds", "Processor time in user mode", self.cpu_user),
            ("cpu_system_seconds", "Processor time in the kernel", self.cpu_system),
            ("cpu_throttled_seconds", "Time held back by the limit of processor time", self.throttled),
            (
                "pressure_waiting_seconds",
                "Time in which some process, or all (full), waited for a resource",
                self.pressure,
            ),
        ] {
            registry.register(format!("corten_container_{name}"), help, family);
        }
        for (name, help, family) in [
            (
                "cpu_throttled_periods",
                "Periods in which the limit of processor time was hit",
                self.throttled_periods,
            ),
            ("memory_failures", "How often the limit of memory was hit", self.memory_failures),
            ("block_read_bytes", "Bytes read from block devices", self.reads),
            ("block_written_bytes", "Bytes written to block devices", self.writes),
            ("network_receive_bytes", "Bytes received", self.received_bytes),
            ("network_receive_packets", "Packets received", self.received_packets),
            ("network_receive_errors", "Packets received with errors", self.received_errors),
            ("network_receive_dropped", "Packets dropped on receipt", self.received_dropped),
            ("network_transmit_bytes", "Bytes sent", self.sent_bytes),
            ("network_transmit_packets", "Packets sent", self.sent_packets),
            ("network_transmit_errors", "Packets not sent because of errors", self.sent_errors),
            ("network_transmit_dropped", "Packets dropped before they were sent", self.sent_dropped),
            ("restarts", "How often the restart policy has started it again", self.restarts),
        ] {
            registry.register(format!("corten_container_{name}"), help, family);
        }
        for (name, help, family) in [
            ("memory_usage_bytes", "Memory in use, with the page cache", self.memory),
            ("memory_working_set_bytes", "Memory in use, without inactive pages of files", self.working_set),
            ("memory_limit_bytes", "Limit of memory; the host's memory without one", self.memory_limit),
            ("processes", "Processes and threads", self.processes),
            ("start_time_seconds", "When it was started, in seconds since 1970", self.started),
            ("health", "1 for the state of its health check, 0 for the other states", self.health),
        ] {
            registry.register(format!("corten_container_{name}"), help, family);
        }
    }
}

fn bytes(entries: &[BlkioEntry], operation: &str) -> u64 {
    entries.iter().filter(|entry| entry.op.eq_ignore_ascii_case(operation)).map(|entry| entry.value).sum()
}
