//! Version 2: which value goes into which file, and how controllers are switched on along the way to a group.
//!
//! Configurations speak version 1's units; the conversions are those that runc and crun publish.

use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::layout::{Controller, Controllers, Group};
use super::settings::{Need, Setting, or_max, set};
use super::v1::make_dir;
use super::{Error, Warning, file};
use crate::spec::{BlockIo, Cpu, Memory, Resources};

const SUBTREE: &str = "cgroup.subtree_control";

/// Makes the group's directory and those above it, and hands the wanted controllers down to it.
pub(super) fn make(group: &Group, wanted: Controllers, made: &mut Vec<PathBuf>) -> Result<(), Error> {
    make_dir(&group.path, made)?;
    match group.path.parent() {
        Some(parent) if !wanted.is_empty() => enable(group, parent, wanted),
        _ => Ok(()),
    }
}

/// A controller reaches a group when all groups above distribute it; mostly they do already, from the top down.
fn enable(group: &Group, dir: &Path, wanted: Controllers) -> Result<(), Error> {
    let enabled = Controllers::parse(file::text(dir, SUBTREE)?.split_ascii_whitespace());
    let missing = wanted.without(enabled);
    if missing.is_empty() {
        return Ok(());
    }
    if let Some(parent) = dir.parent().filter(|_| dir != group.mount) {
        enable(group, parent, missing)?;
    }
    // One at a time: one that is not delegated to us must not take the others with it. What is missing in the end is
    // an error where a setting needs it.
    for controller in missing.iter() {
        let result = file::write(dir, SUBTREE, &format!("+{}", controller.unified_name()));
        if let Err(source @ Errno::BUSY) = result {
            return Err(Error::Enable { controller, path: dir.to_owned(), source });
        }
    }
    Ok(())
}

/// What the configuration wants of one controller. `current` reads a file of the group, where a value is only half given.
pub(super) fn settings(
    controller: Controller,
    resources: &Resources,
    current: &dyn Fn(&str) -> Option<String>,
    warnings: &mut Vec<Warning>,
) -> Result<Vec<Setting>, Error> {
    let mut list = Vec::new();
    match controller {
        Controller::Cpu => cpu(resources.cpu.as_ref(), current, &mut list)?,
        Controller::Cpuset => super::v1::cpuset(resources.cpu.as_ref(), &mut list),
        Controller::Memory => memory(resources.memory.as_ref(), &mut list, warnings)?,
        Controller::Block => block(resources.block_io.as_ref(), &mut list, warnings),
        Controller::Pids => super::v1::pids(resources, &mut list),
        Controller::Rdma => super::v1::rdma(resources, &mut list),
        Controller::Hugetlb => {
            for limit in &resources.hugepage_limits {
                let file = |kind: &str| format!("hugetlb.{}.{kind}max", limit.page_size);
                list.push(Setting::new("hugepageLimits", file(""), limit.limit));
                list.push(Setting::new("hugepageLimits", file("rsvd."), limit.limit).need(Need::Silent));
            }
        }
        // Not in version 2; who asks for them is told that nobody has them.
        Controller::NetCls | Controller::NetPrio => return super::v1::settings(controller, resources),
        Controller::Cpuacct | Controller::Devices | Controller::Freezer | Controller::PerfEvent => {}
    }
    Ok(list)
}

/// The configuration's own files for version 2.
pub(super) fn unified_settings(resources: &Resources) -> Result<Vec<Setting>, Error> {
    let setting = |(name, value): (&String, &String)| {
        if name.contains('/') || !name.contains('.') {
            let reason = format!("{name:?} is not the name of a control group file");
            return Err(Error::Value { field: "unified".into(), reason });
        }
        // Nested keys are written line by line.
        Ok(value.lines().map(|line| Setting::new("unified", name.clone(), line)).collect())
    };
    let settings: Result<Vec<Vec<_>>, _> = resources.unified.iter().map(setting).collect();
    Ok(settings?.concat())
}

fn cpu(
    cpu: Option<&Cpu>,
    current: &dyn Fn(&str) -> Option<String>,
    list: &mut Vec<Setting>,
) -> Result<(), Error> {
    let Some(cpu) = cpu else { return Ok(()) };
    if let Some(shares) = cpu.shares.filter(|shares| *shares != 0) {
        list.push(Setting::new("cpu.shares", "cpu.weight", weight_from_shares(shares)));
    }
    match (set(cpu.quota), cpu.period.filter(|period| *period != 0)) {
        (None, None) => {}
        // The quota alone leaves the period as it is.
        (Some(quota), None) => list.push(Setting::new("cpu.quota", "cpu.max", or_max(quota))),
        (Some(quota), Some(period)) => {
            list.push(Setting::new("cpu.quota", "cpu.max", format!("{} {period}", or_max(quota))));
        }
        (None, Some(period)) => {
            let old = current("cpu.max").unwrap_or_default();
            let quota = old.split_ascii_whitespace().next().unwrap_or("max");
            list.push(Setting::new("cpu.period", "cpu.max", format!("{quota} {period}")));
        }
    }
    list.extend(cpu.burst.map(|burst| Setting::new("cpu.burst", "cpu.max.burst", burst)));
    list.extend(cpu.idle.map(|idle| Setting::new("cpu.idle", "cpu.idle", idle)));
    if set(cpu.realtime_runtime).is_some() || cpu.realtime_period.is_some_and(|period| period != 0) {
        let reason = "version 2 cannot distribute real-time processor time".to_owned();
        return Err(Error::Value { field: "cpu.realtimeRuntime".into(), reason });
    }
    Ok(())
}

/// Shares 2..=262144 with 1024 as the default become weights 1..=10000 with 100 as the default, on the curve that
/// runc 1.3.2 and crun 1.23 use: `10^((l² + 125·l)/612 − 7/34)` with `l = log2(shares)`.
pub(super) fn weight_from_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        shares => {
            let l = (shares as f64).log2();
            10_f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0).ceil() as u64
        }
    }
}

fn memory(
    memory: Option<&Memory>,
    list: &mut Vec<Setting>,
    warnings: &mut Vec<Warning>,
) -> Result<(), Error> {
    let Some(memory) = memory else { return Ok(()) };
    let limit = set(memory.limit);
    // Swap first: its file is a limit of its own here and cannot contradict the other.
    if let Some(swap) = swap_alone(set(memory.swap), limit)? {
        // "None" and "all there is" are what a kernel without swap accounting does anyway.
        let need = if swap <= 0 { Need::Silent } else { Need::Demand };
        list.push(Setting::new("memory.swap", "memory.swap.max", or_max(swap)).need(need));
    }
    list.extend(limit.map(|limit| Setting::new("memory.limit", "memory.max", or_max(limit))));
    let reservation = set(memory.reservation);
    list.extend(reservation.map(|v| Setting::new("memory.reservation", "memory.low", or_max(v))));
    let mut ignore = |there: bool, field: &str, reason: &str| {
        if there {
            warnings.push(Warning { field: field.into(), reason: reason.into() });
        }
    };
    ignore(set(memory.kernel).is_some(), "memory.kernel", "version 2 counts kernel memory with the rest");
    ignore(
        set(memory.kernel_tcp).is_some(),
        "memory.kernelTCP",
        "version 2 counts socket buffers with the rest",
    );
    ignore(memory.swappiness.is_some(), "memory.swappiness", "version 2 has no swappiness per group");
    ignore(
        memory.disable_oom_killer == Some(true),
        "memory.disableOOMKiller",
        "version 2 cannot stop processes instead of killing them",
    );
    Ok(())
}

/// Configurations limit memory and swap together, version 2 swap alone.
fn swap_alone(sum: Option<i64>, memory: Option<i64>) -> Result<Option<i64>, Error> {
    let refuse = |reason: &str| Err(Error::Value { field: "memory.swap".into(), reason: reason.into() });
    match (sum, memory) {
        (None, Some(-1)) => Ok(Some(-1)),
        (None, _) => Ok(None),
        (Some(..0), _) => Ok(Some(-1)),
        (Some(_), None | Some(..0)) => refuse("it needs a memory limit from which to count"),
        (Some(sum), Some(memory)) if sum < memory => {
            refuse("memory and swap together cannot be less than memory")
        }
        (Some(sum), Some(memory)) => Ok(Some(sum - memory)),
    }
}

fn block(block: Option<&BlockIo>, list: &mut Vec<Setting>, warnings: &mut Vec<Warning>) {
    let Some(block) = block else { return };
    if let Some(weight) = block.weight.filter(|weight| *weight != 0) {
        let setting = Setting::new("blockIO.weight", "io.bfq.weight", weight);
        list.push(setting.or("io.weight", format!("default {}", weight_from_blkio(weight))));
    }
    let leaf =
        block.leaf_weight.is_some() || block.weight_device.iter().any(|device| device.leaf_weight.is_some());
    if leaf {
        let reason = "version 2 has no weight for a group's own processes".into();
        warnings.push(Warning { field: "blockIO.leafWeight".into(), reason });
    }
    for device in &block.weight_device {
        if let Some(weight) = device.weight {
            let line = |weight: u64| format!("{}:{} {weight}", device.major, device.minor);
            let setting = Setting::new("blockIO.weightDevice", "io.bfq.weight", line(weight.into()));
            list.push(setting.or("io.weight", line(weight_from_blkio(weight))));
        }
    }
    for (field, key, devices) in [
        ("blockIO.throttleReadBpsDevice", "rbps", &block.throttle_read_bps_device),
        ("blockIO.throttleWriteBpsDevice", "wbps", &block.throttle_write_bps_device),
        ("blockIO.throttleReadIOPSDevice", "riops", &block.throttle_read_iops_device),
        ("blockIO.throttleWriteIOPSDevice", "wiops", &block.throttle_write_iops_device),
    ] {
        for device in devices {
            let rate = if device.rate == 0 { "max".into() } else { device.rate.to_string() };
            let line = format!("{}:{} {key}={rate}", device.major, device.minor);
            list.push(Setting::new(field, "io.max", line));
        }
    }
}

/// 10..=1000 becomes 1..=10000.
pub(super) fn weight_from_blkio(weight: u16) -> u64 {
    1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990
}
