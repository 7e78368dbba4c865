//! How much the container may use: memory, CPUs, processes, block I/O, limits.

use corten_api::List;
use corten_api::container::{ContainerCreateRequest, ThrottleDevice, Ulimit, WeightDevice};

use super::OptionError;
use super::values::{bytes, bytes_of, nano_cpus, swap_of};

#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Resources")]
pub struct ResourceFlags {
    /// Memory limit
    #[arg(short, long, value_name = "BYTES")]
    pub memory: Option<String>,
    /// Memory soft limit
    #[arg(long, value_name = "BYTES")]
    pub memory_reservation: Option<String>,
    /// Limit of memory plus swap: '-1' to enable unlimited swap
    #[arg(long, value_name = "BYTES")]
    pub memory_swap: Option<String>,
    /// Tune container memory swappiness (0 to 100)
    #[arg(long, value_name = "PERCENT")]
    pub memory_swappiness: Option<i64>,
    /// Kernel memory limit: refused, as kernels have it no more
    #[arg(long, value_name = "BYTES", hide = true)]
    pub kernel_memory: Option<String>,
    /// Disable OOM Killer
    #[arg(long)]
    pub oom_kill_disable: bool,
    /// Tune host's OOM preferences (-1000 to 1000)
    #[arg(long, value_name = "SCORE")]
    pub oom_score_adj: Option<i32>,
    /// Number of CPUs
    #[arg(long, value_name = "DECIMAL")]
    pub cpus: Option<String>,
    /// CPU shares (relative weight)
    #[arg(short, long, value_name = "WEIGHT")]
    pub cpu_shares: Option<i64>,
    /// Limit CPU CFS (Completely Fair Scheduler) period
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_period: Option<i64>,
    /// Limit CPU CFS (Completely Fair Scheduler) quota
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_quota: Option<i64>,
    /// Limit CPU real-time period in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_rt_period: Option<i64>,
    /// Limit CPU real-time runtime in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_rt_runtime: Option<i64>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "CPUS")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "NODES")]
    pub cpuset_mems: Option<String>,
    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long, value_name = "N")]
    pub pids_limit: Option<i64>,
    /// Ulimit options
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub ulimit: Vec<String>,
    /// Optional parent cgroup for the container
    #[arg(long, value_name = "PATH")]
    pub cgroup_parent: Option<String>,
    /// Block IO (relative weight), between 10 and 1000, or 0 to disable
    #[arg(long, value_name = "WEIGHT")]
    pub blkio_weight: Option<u16>,
    /// Block IO weight (relative device weight)
    #[arg(long, value_name = "PATH:WEIGHT")]
    pub blkio_weight_device: Vec<String>,
    /// Limit read rate (bytes per second) from a device
    #[arg(long, value_name = "PATH:RATE")]
    pub device_read_bps: Vec<String>,
    /// Limit write rate (bytes per second) to a device
    #[arg(long, value_name = "PATH:RATE")]
    pub device_write_bps: Vec<String>,
    /// Limit read rate (IO per second) from a device
    #[arg(long, value_name = "PATH:RATE")]
    pub device_read_iops: Vec<String>,
    /// Limit write rate (IO per second) to a device
    #[arg(long, value_name = "PATH:RATE")]
    pub device_write_iops: Vec<String>,
    /// CPU count (Windows containers only)
    #[arg(long, hide = true)]
    pub cpu_count: Option<i64>,
    /// CPU percent (Windows containers only)
    #[arg(long, hide = true)]
    pub cpu_percent: Option<i64>,
    /// Maximum IOps limit for the system drive (Windows containers only)
    #[arg(long, hide = true)]
    pub io_maxiops: Option<u64>,
    /// Maximum IO bandwidth limit for the system drive (Windows containers only)
    #[arg(long, hide = true)]
    pub io_maxbandwidth: Option<String>,
}

impl ResourceFlags {
    pub fn apply(&self, request: &mut ContainerCreateRequest) -> Result<(), OptionError> {
        self.memory(request)?;
        let host = &mut request.host_config;
        if let Some(cpus) = &self.cpus {
            host.nano_cpus = nano_cpus(cpus).map_err(|why| OptionError::invalid("--cpus", cpus, why))?;
        }
        host.cpu_shares = self.cpu_shares.unwrap_or_default();
        host.cpu_period = self.cpu_period.unwrap_or_default();
        host.cpu_quota = self.cpu_quota.unwrap_or_default();
        host.cpu_realtime_period = self.cpu_rt_period.unwrap_or_default();
        host.cpu_realtime_runtime = self.cpu_rt_runtime.unwrap_or_default();
        host.cpuset_cpus = self.cpuset_cpus.clone().unwrap_or_default();
        host.cpuset_mems = self.cpuset_mems.clone().unwrap_or_default();
        host.cpu_count = self.cpu_count.unwrap_or_default();
        host.cpu_percent = self.cpu_percent.unwrap_or_default();
        host.pids_limit = Some(self.pids_limit.unwrap_or_default());
        host.cgroup_parent = self.cgroup_parent.clone().unwrap_or_default();
        host.ulimits = List::empty();
        for text in &self.ulimit {
            let limit = ulimit(text).map_err(|why| OptionError::invalid("--ulimit", text, why))?;
            host.ulimits.retain(|known| known.name != limit.name);
            host.ulimits.push(limit);
        }
        host.ulimits.sort_by(|a, b| a.name.cmp(&b.name));
        host.blkio_weight = self.blkio_weight.unwrap_or_default();
        host.blkio_weight_device = weights(&self.blkio_weight_device)?;
        host.blkio_device_read_bps = rates("--device-read-bps", &self.device_read_bps, true)?;
        host.blkio_device_write_bps = rates("--device-write-bps", &self.device_write_bps, true)?;
        host.blkio_device_read_iops = rates("--device-read-iops", &self.device_read_iops, false)?;
        host.blkio_device_write_iops = rates("--device-write-iops", &self.device_write_iops, false)?;
        host.io_maximum_iops = self.io_maxiops.unwrap_or_default();
        host.io_maximum_bandwidth = bytes_of("--io-maxbandwidth", self.io_maxbandwidth.as_deref())? as u64;
        Ok(())
    }

    fn memory(&self, request: &mut ContainerCreateRequest) -> Result<(), OptionError> {
        let host = &mut request.host_config;
        host.memory = bytes_of("--memory", self.memory.as_deref())?;
        host.memory_reservation = bytes_of("--memory-reservation", self.memory_reservation.as_deref())?;
        host.memory_swap = swap_of(self.memory_swap.as_deref())?;
        if self.kernel_memory.is_some() {
            let why = "Linux has no such limit any more; --memory covers it";
            return Err(OptionError::Unsupported { flag: "--kernel-memory", why });
        }
        let swappiness = self.memory_swappiness.unwrap_or(-1);
        if !(-1..=100).contains(&swappiness) {
            let why = "expected 0 to 100, or -1 for the engine's default";
            return Err(OptionError::invalid("--memory-swappiness", swappiness.to_string(), why));
        }
        host.memory_swappiness = Some(swappiness);
        host.oom_kill_disable = Some(self.oom_kill_disable);
        host.oom_score_adj = self.oom_score_adj.unwrap_or_default();
        Ok(())
    }
}

/// Parses `name=soft[:hard]`; -1 is without limit, a single number is both.
pub fn ulimit(text: &str) -> Result<Ulimit, String> {
    let (name, limits) = text.split_once('=').ok_or("expected name=soft[:hard]")?;
    if !Ulimit::NAMES.contains(&name) {
        return Err(format!("there is no limit {name:?}; there are: {}", Ulimit::NAMES.join(", ")));
    }
    let number = |text: &str| text.parse::<i64>().map_err(|_| format!("{text:?} is no number"));
    let (soft, hard) = match limits.split_once(':') {
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(limits)?, number(limits)?),
    };
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(format!("the soft limit {soft} is above the hard limit {hard}"));
    }
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}

fn weights(words: &[String]) -> Result<List<WeightDevice>, OptionError> {
    let mut devices = Vec::new();
    for word in words {
        let bad = |why: &str| OptionError::invalid("--blkio-weight-device", word, why);
        let (path, weight) = word.rsplit_once(':').ok_or_else(|| bad("expected PATH:WEIGHT"))?;
        if !path.starts_with("/dev/") {
            return Err(bad("the path must begin with /dev/"));
        }
        let weight: u16 = weight.parse().map_err(|_| bad("the weight is no number"))?;
        if weight != 0 && !(10..=1000).contains(&weight) {
            return Err(bad("the weight must be 10 to 1000, or 0"));
        }
        devices.push(WeightDevice { path: path.to_owned(), weight });
    }
    Ok(devices.into())
}

fn rates(flag: &'static str, words: &[String], in_bytes: bool) -> Result<List<ThrottleDevice>, OptionError> {
    let mut devices = Vec::new();
    for word in words {
        let bad = |why: &str| OptionError::invalid(flag, word, why);
        let (path, rate) = word.rsplit_once(':').ok_or_else(|| bad("expected PATH:RATE"))?;
        if !path.starts_with("/dev/") {
            return Err(bad("the path must begin with /dev/"));
        }
        let rate = if in_bytes { bytes(rate).map(|rate| rate as u64) } else { rate.parse().ok() };
        let rate = rate.ok_or_else(|| {
            bad(if in_bytes { "the rate must be a size such as 1mb" } else { "the rate is no number" })
        })?;
        devices.push(ThrottleDevice { path: path.to_owned(), rate });
    }
    Ok(devices.into())
}
