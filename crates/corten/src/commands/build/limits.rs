//! What the containers of RUN steps may use.

use corten_api::build::BuildLimits;

use crate::options::OptionError;
use crate::options::values::{bytes_of, swap_of};

#[derive(Clone, Debug, Default, clap::Args)]
pub struct LimitFlags {
    /// Limit the CPU CFS (Completely Fair Scheduler) period of RUN steps
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<i64>,
    /// Limit the CPU CFS (Completely Fair Scheduler) quota of RUN steps
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_quota: Option<i64>,
    /// CPU shares of RUN steps (relative weight)
    #[arg(short, long, value_name = "WEIGHT")]
    cpu_shares: Option<i64>,
    /// CPUs in which to allow RUN steps (0-3, 0,1)
    #[arg(long, value_name = "CPUS")]
    cpuset_cpus: Option<String>,
    /// Memory nodes in which to allow RUN steps (0-3, 0,1)
    #[arg(long, value_name = "NODES")]
    cpuset_mems: Option<String>,
    /// Memory limit of each RUN step
    #[arg(short, long, value_name = "BYTES")]
    memory: Option<String>,
    /// Limit of memory plus swap: -1 to enable unlimited swap
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory_swap: Option<String>,
}

impl LimitFlags {
    pub fn limits(self) -> Result<BuildLimits, OptionError> {
        Ok(BuildLimits {
            memory: bytes_of("--memory", self.memory.as_deref())?,
            memory_swap: swap_of(self.memory_swap.as_deref())?,
            cpu_shares: self.cpu_shares.unwrap_or_default(),
            cpu_period: self.cpu_period.unwrap_or_default(),
            cpu_quota: self.cpu_quota.unwrap_or_default(),
            cpuset_cpus: self.cpuset_cpus.unwrap_or_default(),
            cpuset_mems: self.cpuset_mems.unwrap_or_default(),
        })
    }
}
