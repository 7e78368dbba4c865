//! Version 1: which value goes into which file, how a directory becomes a usable group, device lines.

use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;

use super::devices::{self, Line, Rule};
use super::layout::{Controller, Group};
use super::settings::{Need, Setting, set};
use super::{Error, file};
use crate::spec::{BlockIo, Cpu, Memory, Resources};

/// Makes the group's directory and those above it.
pub(super) fn make(group: &Group, resources: &Resources, made: &mut Vec<PathBuf>) -> Result<(), Error> {
    make_dir(&group.path, made)?;
    if group.controllers.has(Controller::Cpuset) {
        let cpu = resources.cpu.as_ref();
        let set = |list: Option<&String>| list.is_some_and(|list| !list.is_empty());
        // A group without processors and memory takes no process; what will be set anyway needs no default.
        inherit(group, &group.path, "cpuset.cpus", set(cpu.and_then(|cpu| cpu.cpus.as_ref())))?;
        inherit(group, &group.path, "cpuset.mems", set(cpu.and_then(|cpu| cpu.mems.as_ref())))?;
    }
    Ok(())
}

/// `mkdir -p`, remembering what was not there.
pub(super) fn make_dir(path: &Path, made: &mut Vec<PathBuf>) -> Result<(), Error> {
    let mode = Mode::from_raw_mode(0o755);
    match rustix::fs::mkdir(path, mode) {
        Ok(()) => {
            made.push(path.to_owned());
            Ok(())
        }
        Err(Errno::EXIST) => Ok(()),
        Err(Errno::NOENT) if path.parent().is_some() => {
            make_dir(path.parent().unwrap_or(path), made)?;
            match rustix::fs::mkdir(path, mode) {
                Ok(()) => made.push(path.to_owned()),
                Err(Errno::EXIST) => {}
                Err(source) => return Err(Error::Create { path: path.to_owned(), source }),
            }
            Ok(())
        }
        Err(source) => Err(Error::Create { path: path.to_owned(), source }),
    }
}

/// Copies a list from the parent where it is empty. With `later` the group itself is left alone, but its parents need
/// theirs.
fn inherit(group: &Group, dir: &Path, name: &str, later: bool) -> Result<(), Error> {
    let Some(parent) = dir.parent().filter(|_| dir != group.mount) else { return Ok(()) };
    let mut inherited = file::text(parent, name)?;
    if inherited.trim().is_empty() {
        inherit(group, parent, name, false)?;
        inherited = file::text(parent, name)?;
    }
    if later {
        return Ok(());
    }
    // A group that was there before may have its own.
    if !file::text(dir, name)?.trim().is_empty() {
        return Ok(());
    }
    let value = inherited.trim();
    file::write(dir, name, value).map_err(|source| Error::Write {
        path: dir.join(name),
        value: value.to_owned(),
        source,
    })
}

/// Brings the device lists to what the rules say: from scratch in a new group, by the differences in one that lives, so
/// that no device that stays allowed is denied for a moment.
pub(super) fn filter_devices(group: &Group, rules: &[Rule], fresh: bool) -> Result<(), Error> {
    let target = devices::Lists::from_rules(rules)?;
    let changes = if fresh {
        target.changes_from_scratch()
    } else {
        target.changes(&devices::Lists::parse(&file::text(&group.path, "devices.list")?))
    };
    write_lines(group, "devices.deny", &changes.reset_deny)?;
    write_lines(group, "devices.allow", &changes.allow)?;
    write_lines(group, "devices.deny", &changes.deny)
}

fn write_lines(group: &Group, name: &str, lines: &[Line]) -> Result<(), Error> {
    if lines.is_empty() {
        return Ok(());
    }
    let mut last = String::new();
    let lines = lines.iter().map(|line| {
        last = line.to_string();
        last.clone()
    });
    let result = file::write_each(&group.path, name, lines);
    result.map_err(|source| Error::Write { path: group.path.join(name), value: last, source })
}

/// What the configuration wants of one controller.
pub(super) fn settings(controller: Controller, resources: &Resources) -> Result<Vec<Setting>, Error> {
    let mut list = Vec::new();
    match controller {
        Controller::Cpu => cpu(resources.cpu.as_ref(), &mut list),
        Controller::Cpuset => cpuset(resources.cpu.as_ref(), &mut list),
        Controller::Memory => memory(resources.memory.as_ref(), &mut list)?,
        Controller::Block => block(resources.block_io.as_ref(), &mut list),
        Controller::Pids => pids(resources, &mut list),
        Controller::Hugetlb => {
            for limit in &resources.hugepage_limits {
                let file = |kind: &str| format!("hugetlb.{}.{kind}limit_in_bytes", limit.page_size);
                list.push(Setting::new("hugepageLimits", file(""), limit.limit));
                list.push(Setting::new("hugepageLimits", file("rsvd."), limit.limit).need(Need::Silent));
            }
        }
        Controller::NetCls => {
            let class = resources.network.as_ref().and_then(|network| network.class_id);
            list.extend(class.map(|id| Setting::new("network.classID", "net_cls.classid", id)));
        }
        Controller::NetPrio => {
            for priority in resources.network.iter().flat_map(|network| &network.priorities) {
                let value = format!("{} {}", priority.name, priority.priority);
                list.push(Setting::new("network.priorities", "net_prio.ifpriomap", value));
            }
        }
        Controller::Rdma => rdma(resources, &mut list),
        Controller::Cpuacct | Controller::Devices | Controller::Freezer | Controller::PerfEvent => {}
    }
    Ok(list)
}

pub(super) fn pids(resources: &Resources, list: &mut Vec<Setting>) {
    let Some(pids) = &resources.pids else { return };
    let limited = pids.limit > 0;
    let value = if limited { pids.limit.to_string() } else { "max".into() };
    let need = if limited { Need::Demand } else { Need::Silent };
    list.push(Setting::new("pids.limit", "pids.max", value).need(need));
}

pub(super) fn rdma(resources: &Resources, list: &mut Vec<Setting>) {
    for (device, limits) in &resources.rdma {
        let mut value = device.clone();
        if let Some(handles) = limits.hca_handles {
            value += &format!(" hca_handle={handles}");
        }
        if let Some(objects) = limits.hca_objects {
            value += &format!(" hca_object={objects}");
        }
        list.push(Setting::new("rdma", "rdma.max", value));
    }
}

pub(super) fn cpuset(cpu: Option<&Cpu>, list: &mut Vec<Setting>) {
    let Some(cpu) = cpu else { return };
    for (field, file, value) in
        [("cpu.cpus", "cpuset.cpus", &cpu.cpus), ("cpu.mems", "cpuset.mems", &cpu.mems)]
    {
        list.extend(value.iter().filter(|list| !list.is_empty()).map(|v| Setting::new(field, file, v)));
    }
}

fn cpu(cpu: Option<&Cpu>, list: &mut Vec<Setting>) {
    let Some(cpu) = cpu else { return };
    let unset = |value: &u64| *value != 0;
    let shares = cpu.shares.filter(unset);
    list.extend(shares.map(|shares| Setting::new("cpu.shares", "cpu.shares", shares)));
    let period = cpu.period.filter(unset);
    list.extend(period.map(|period| Setting::new("cpu.period", "cpu.cfs_period_us", period)));
    list.extend(set(cpu.quota).map(|quota| Setting::new("cpu.quota", "cpu.cfs_quota_us", quota)));
    list.extend(cpu.burst.map(|burst| Setting::new("cpu.burst", "cpu.cfs_burst_us", burst)));
    let period = cpu.realtime_period.filter(unset);
    list.extend(period.map(|period| Setting::new("cpu.realtimePeriod", "cpu.rt_period_us", period)));
    let runtime = set(cpu.realtime_runtime);
    list.extend(runtime.map(|runtime| Setting::new("cpu.realtimeRuntime", "cpu.rt_runtime_us", runtime)));
    list.extend(cpu.idle.map(|idle| Setting::new("cpu.idle", "cpu.idle", idle)));
}

fn memory(memory: Option<&Memory>, list: &mut Vec<Setting>) -> Result<(), Error> {
    let Some(memory) = memory else { return Ok(()) };
    if memory.use_hierarchy == Some(true) {
        // Since 5.11 there is no other way.
        list.push(Setting::new("memory.useHierarchy", "memory.use_hierarchy", 1).need(Need::Wish));
    }
    let limit = set(memory.limit);
    list.extend(limit.map(|limit| Setting::new("memory.limit", "memory.limit_in_bytes", limit)));
    if let Some(swap) = set(memory.swap) {
        list.push(Setting::new("memory.swap", "memory.memsw.limit_in_bytes", swap));
    } else if limit == Some(-1) {
        // The sum cannot stay limited to less than its part.
        list.push(Setting::new("memory.swap", "memory.memsw.limit_in_bytes", -1).need(Need::Silent));
    }
    let reservation = set(memory.reservation);
    list.extend(reservation.map(|v| Setting::new("memory.reservation", "memory.soft_limit_in_bytes", v)));
    let kernel = set(memory.kernel);
    // Kernels since 5.11 count kernel memory with the rest and refuse a limit of its own.
    list.extend(
        kernel.map(|v| Setting::new("memory.kernel", "memory.kmem.limit_in_bytes", v).need(Need::Wish)),
    );
    let tcp = set(memory.kernel_tcp);
    list.extend(tcp.map(|v| Setting::new("memory.kernelTCP", "memory.kmem.tcp.limit_in_bytes", v)));
    if let Some(swappiness) = memory.swappiness {
        if swappiness > 100 {
            let reason = format!("{swappiness} is not within 0 to 100");
            return Err(Error::Value { field: "memory.swappiness".into(), reason });
        }
        list.push(Setting::new("memory.swappiness", "memory.swappiness", swappiness));
    }
    if memory.disable_oom_killer == Some(true) {
        list.push(Setting::new("memory.disableOOMKiller", "memory.oom_control", 1));
    }
    Ok(())
}

fn block(block: Option<&BlockIo>, list: &mut Vec<Setting>) {
    let Some(block) = block else { return };
    if let Some(weight) = block.weight.filter(|weight| *weight != 0) {
        list.push(Setting::new("blockIO.weight", "blkio.weight", weight).or("blkio.bfq.weight", weight));
    }
    if let Some(weight) = block.leaf_weight.filter(|weight| *weight != 0) {
        list.push(Setting::new("blockIO.leafWeight", "blkio.leaf_weight", weight));
    }
    for device in &block.weight_device {
        let line = |weight: u16| format!("{}:{} {weight}", device.major, device.minor);
        if let Some(weight) = device.weight {
            let setting = Setting::new("blockIO.weightDevice", "blkio.weight_device", line(weight));
            list.push(setting.or("blkio.bfq.weight_device", line(weight)));
        }
        if let Some(weight) = device.leaf_weight {
            list.push(Setting::new("blockIO.weightDevice", "blkio.leaf_weight_device", line(weight)));
        }
    }
    for (field, file, devices) in [
        ("blockIO.throttleReadBpsDevice", "blkio.throttle.read_bps_device", &block.throttle_read_bps_device),
        (
            "blockIO.throttleWriteBpsDevice",
            "blkio.throttle.write_bps_device",
            &block.throttle_write_bps_device,
        ),
        (
            "blockIO.throttleReadIOPSDevice",
            "blkio.throttle.read_iops_device",
            &block.throttle_read_iops_device,
        ),
        (
            "blockIO.throttleWriteIOPSDevice",
            "blkio.throttle.write_iops_device",
            &block.throttle_write_iops_device,
        ),
    ] {
        for device in devices {
            let line = format!("{}:{} {}", device.major, device.minor, device.rate);
            list.push(Setting::new(field, file, line));
        }
    }
}
