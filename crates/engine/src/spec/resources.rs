//! Limits: what the request says in Docker's terms, in the OCI's.

use corten_api::container::{HostConfig, Ulimit};
use corten_runtime::spec::{
    BlockIo, Cpu, DeviceRule, Memory, Pids, Resources, Rlimit, ThrottleDevice, WeightDevice,
};

use crate::error::{Error, Result};

/// Default scheduling period of the CPU controller, in microseconds.
const CPU_PERIOD_US: u64 = 100_000;
/// Less memory than this and no process starts (Docker's limit).
const MEMORY_MIN: i64 = 6 << 20;

/// Refuses what can't be meant of a container to be made; texts as Docker's.
pub fn check(host: &HostConfig) -> Result<()> {
    if host.memory_swap > 0 && host.memory == 0 {
        return Err(Error::invalid(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ));
    }
    check_update(host)
}

/// Refuses what can't be meant of a change either, where zero is what stays as it is.
pub fn check_update(host: &HostConfig) -> Result<()> {
    check_memory(host)?;
    check_processors(host)?;
    if host.blkio_weight != 0 && !(10..=1000).contains(&host.blkio_weight) {
        return Err(Error::invalid("Range of blkio weight is from 10 to 1000"));
    }
    if host.shm_size < 0 {
        return Err(Error::invalid("SHM size can not be less than 0"));
    }
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return Err(Error::invalid(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        )));
    }
    Ok(())
}

fn check_memory(host: &HostConfig) -> Result<()> {
    if host.memory != 0 && host.memory < MEMORY_MIN {
        return Err(Error::invalid("Minimum memory limit allowed is 6MB"));
    }
    if host.memory_swap > 0 && host.memory_swap < host.memory {
        return Err(Error::invalid("Minimum memoryswap limit should be larger than memory limit, see usage"));
    }
    if host.memory_reservation > 0 && host.memory_reservation < MEMORY_MIN {
        return Err(Error::invalid("Minimum memory reservation allowed is 6MB"));
    }
    if host.memory_reservation > 0 && host.memory > 0 && host.memory < host.memory_reservation {
        return Err(Error::invalid(
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        ));
    }
    if let Some(swappiness) = host.memory_swappiness
        && !(-1..=100).contains(&swappiness)
    {
        return Err(Error::invalid(format!(
            "Invalid value: {swappiness}, valid memory swappiness range is 0-100"
        )));
    }
    Ok(())
}

fn check_processors(host: &HostConfig) -> Result<()> {
    for (given, what) in [(host.cpu_period > 0, "CPU Period"), (host.cpu_quota > 0, "CPU Quota")] {
        if host.nano_cpus > 0 && given {
            return Err(Error::invalid(format!(
                "Conflicting options: Nano CPUs and {what} cannot both be set"
            )));
        }
    }
    let cpus = std::thread::available_parallelism().map_or(1, usize::from) as i64;
    if host.nano_cpus < 0 || host.nano_cpus > cpus * 1_000_000_000 {
        return Err(Error::invalid(format!(
            "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        )));
    }
    check_cpuset(&host.cpuset_cpus)?;
    if host.cpu_period != 0 && !(1_000..=1_000_000).contains(&host.cpu_period) {
        return Err(Error::invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ));
    }
    if host.cpu_quota > 0 && host.cpu_quota < 1_000 {
        return Err(Error::invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)"));
    }
    Ok(())
}

pub fn resources(host: &HostConfig, devices: Vec<DeviceRule>) -> Result<Resources> {
    Ok(Resources {
        devices,
        memory: memory(host),
        cpu: cpu(host),
        pids: host.pids_limit.filter(|&limit| limit != 0).map(|limit| Pids { limit }),
        block_io: block_io(host)?,
        ..Resources::default()
    })
}

/// Refuses processors that are not there. What is no list of numbers is left to the kernel.
fn check_cpuset(wanted: &str) -> Result<()> {
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let online = online.trim();
    let last = |list: &str| list.split([',', '-']).filter_map(|n| n.trim().parse::<u32>().ok()).max();
    match (last(wanted), last(online)) {
        (Some(wanted_last), Some(online_last)) if wanted_last > online_last => Err(Error::invalid(format!(
            "Requested CPUs are not available - requested {wanted}, available: {online}"
        ))),
        _ => Ok(()),
    }
}

fn memory(host: &HostConfig) -> Option<Memory> {
    let positive = |value: i64| (value != 0).then_some(value);
    let memory = Memory {
        limit: positive(host.memory),
        reservation: positive(host.memory_reservation),
        swap: positive(host.memory_swap),
        swappiness: host.memory_swappiness.and_then(|value| u64::try_from(value).ok()),
        disable_oom_killer: host.oom_kill_disable.filter(|&disabled| disabled),
        ..Memory::default()
    };
    (memory != Memory::default()).then_some(memory)
}

fn cpu(host: &HostConfig) -> Option<Cpu> {
    let mut cpu = Cpu {
        shares: u64::try_from(host.cpu_shares).ok().filter(|&shares| shares != 0),
        quota: (host.cpu_quota != 0).then_some(host.cpu_quota),
        period: u64::try_from(host.cpu_period).ok().filter(|&period| period != 0),
        realtime_runtime: (host.cpu_realtime_runtime != 0).then_some(host.cpu_realtime_runtime),
        realtime_period: u64::try_from(host.cpu_realtime_period).ok().filter(|&period| period != 0),
        cpus: Some(host.cpuset_cpus.clone()).filter(|list| !list.is_empty()),
        mems: Some(host.cpuset_mems.clone()).filter(|list| !list.is_empty()),
        ..Cpu::default()
    };
    if host.nano_cpus > 0 {
        cpu.period = Some(CPU_PERIOD_US);
        cpu.quota = Some(host.nano_cpus * CPU_PERIOD_US as i64 / 1_000_000_000);
    }
    (cpu != Cpu::default()).then_some(cpu)
}

fn block_io(host: &HostConfig) -> Result<Option<BlockIo>> {
    let throttle = |list: &[corten_api::container::ThrottleDevice]| -> Result<Vec<ThrottleDevice>> {
        list.iter()
            .map(|device| {
                let (major, minor) = super::devices::block_number(&device.path)?;
                Ok(ThrottleDevice { major, minor, rate: device.rate })
            })
            .collect()
    };
    let weight_device = host
        .blkio_weight_device
        .iter()
        .map(|device| {
            let (major, minor) = super::devices::block_number(&device.path)?;
            Ok(WeightDevice { major, minor, weight: Some(device.weight), leaf_weight: None })
        })
        .collect::<Result<_>>()?;
    let io = BlockIo {
        weight: (host.blkio_weight != 0).then_some(host.blkio_weight),
        leaf_weight: None,
        weight_device,
        throttle_read_bps_device: throttle(&host.blkio_device_read_bps)?,
        throttle_write_bps_device: throttle(&host.blkio_device_write_bps)?,
        throttle_read_iops_device: throttle(&host.blkio_device_read_iops)?,
        throttle_write_iops_device: throttle(&host.blkio_device_write_iops)?,
    };
    Ok((io != BlockIo::default()).then_some(io))
}

/// Limits of the process: the engine's defaults, replaced by what the request says.
pub fn rlimits(host: &HostConfig, defaults: &[(String, i64, i64)]) -> Result<Vec<Rlimit>> {
    let mut limits: Vec<(String, i64, i64)> = defaults
        .iter()
        .filter(|(name, ..)| !host.ulimits.iter().any(|own| own.name.eq_ignore_ascii_case(name)))
        .cloned()
        .collect();
    for own in &host.ulimits {
        let name = own.name.to_ascii_lowercase();
        if limits.iter().any(|(other, ..)| *other == name) {
            return Err(Error::invalid(format!("ulimit {name} is given more than once")));
        }
        limits.push((name, own.soft, own.hard));
    }
    limits
        .into_iter()
        .map(|(name, soft, hard)| {
            if !Ulimit::NAMES.contains(&name.as_str()) {
                return Err(Error::invalid(format!("invalid ulimit type: {name}")));
            }
            if hard != -1 && (soft == -1 || soft > hard) {
                return Err(Error::invalid(format!(
                    "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
                )));
            }
            // -1 is "unlimited", which is all ones for the kernel too.
            Ok(Rlimit {
                kind: format!("RLIMIT_{}", name.to_ascii_uppercase()),
                hard: hard as u64,
                soft: soft as u64,
            })
        })
        .collect()
}

/// What the user asked for by name, and so is not cut down to what the host allows.
pub fn strict(host: &HostConfig) -> Vec<String> {
    let limits = host.ulimits.iter().map(|limit| format!("RLIMIT_{}", limit.name.to_ascii_uppercase()));
    limits.chain((host.oom_score_adj != 0).then(|| "oomScoreAdj".to_owned())).collect()
}
