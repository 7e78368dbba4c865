//! `events`: statistics at intervals and out-of-memory kills, one JSON object per line in runc's shape.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use corten_runtime::cgroup::{BlockEntry, Pressure, PressureLine, Stats};
use serde_json::{Value, json};

use crate::Global;
use crate::arguments::Arguments;
use crate::failure::{Failure, Outcome};
use crate::limits::duration;
use crate::output;
use crate::store::{Container, Status};

/// How often is looked whether the container has ended or a process was killed.
const LOOK: Duration = Duration::from_millis(250);

pub fn events(global: &Global, arguments: &Arguments) -> Outcome<u8> {
    let container = Container::open(global, arguments.id())?;
    let interval = duration("interval", arguments.value("interval").unwrap_or("5s"))?;
    if container.status() == Status::Stopped {
        return Err(Failure::new("container not running"));
    }
    let cgroup = container.cgroup()?;
    if arguments.has("stats") {
        print(&container, "stats", Some(describe(&cgroup.stats()?)))?;
        return Ok(0);
    }
    let mut kills = cgroup.oom_kills()?;
    let mut next = Instant::now() + interval;
    while container.process().is_some() {
        std::thread::sleep(LOOK.min(interval));
        let now = cgroup.oom_kills().unwrap_or(kills);
        if now > kills {
            print(&container, "oom", None)?;
            kills = now;
        }
        if Instant::now() >= next {
            next += interval;
            if let Ok(stats) = cgroup.stats() {
                print(&container, "stats", Some(describe(&stats)))?;
            }
        }
    }
    Ok(0)
}

fn print(container: &Container, kind: &str, data: Option<Value>) -> Outcome<()> {
    let mut event = json!({"type": kind, "id": container.record.id});
    if let Some(data) = data {
        event["data"] = data;
    }
    output::line(event)
}

fn describe(stats: &Stats) -> Value {
    let (cpu, memory, block) = (&stats.cpu, &stats.memory, &stats.block);
    let mut value = json!({
        "cpu": {
            "usage": {"total": cpu.usage, "percpu": cpu.per_cpu, "kernel": cpu.system, "user": cpu.user},
            "throttling": {
                "periods": cpu.throttling.periods,
                "throttledPeriods": cpu.throttling.throttled_periods,
                "throttledTime": cpu.throttling.throttled_time_ns,
            },
        },
        "memory": {
            "usage": {
                "limit": memory.limit, "usage": memory.usage, "max": memory.usage_max, "failcnt": memory.limit_hits,
            },
            "swap": {
                "limit": memory.limit_with_swap, "usage": memory.usage_with_swap, "max": 0, "failcnt": 0,
            },
            "kernel": {"limit": 0, "usage": memory.kernel_usage, "max": 0, "failcnt": 0},
            "kernelTCP": {"limit": 0, "usage": memory.kernel_tcp_usage, "max": 0, "failcnt": 0},
            "raw": memory.detail,
        },
        "pids": {"current": stats.pids.current, "limit": stats.pids.limit},
        "blkio": {
            "ioServiceBytesRecursive": entries(&block.service_bytes),
            "ioServicedRecursive": entries(&block.serviced),
            "ioQueueRecursive": entries(&block.queued),
            "ioServiceTimeRecursive": entries(&block.service_time),
            "ioWaitTimeRecursive": entries(&block.wait_time),
            "ioMergedRecursive": entries(&block.merged),
            "ioTimeRecursive": entries(&block.time),
            "sectorsRecursive": entries(&block.sectors),
        },
        "hugetlb": stats.hugetlb.iter()
            .map(|(size, h)| (size.clone(), json!({"usage": h.usage, "max": h.usage_max, "failcnt": h.limit_hits})))
            .collect::<BTreeMap<_, _>>(),
    });
    for (name, pressure) in [("cpu", &cpu.pressure), ("memory", &memory.pressure), ("blkio", &block.pressure)]
    {
        if let Some(pressure) = pressure {
            value[name]["psi"] = psi(pressure);
        }
    }
    value
}

fn entries(entries: &[BlockEntry]) -> Value {
    let entry =
        |e: &BlockEntry| json!({"major": e.major, "minor": e.minor, "op": e.operation, "value": e.value});
    entries.iter().map(entry).collect()
}

fn psi(pressure: &Pressure) -> Value {
    let line = |l: &PressureLine| json!({"avg10": l.avg10, "avg60": l.avg60, "avg300": l.avg300, "total": l.total_us});
    json!({"some": line(&pressure.some), "full": line(&pressure.full)})
}
