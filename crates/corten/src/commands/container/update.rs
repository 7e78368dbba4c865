//! `update`: other limits for containers that exist.

use corten_api::container::HostConfig;

use crate::cli::{Context, Failure, Outcome, Verb};
use crate::commands::each::each;
use crate::options::restart_policy;
use crate::options::values::{bytes_of, nano_cpus, swap_of};
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct Update {
    /// Block IO (relative weight), between 10 and 1000, or 0 to disable
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,
    /// Limit CPU CFS (Completely Fair Scheduler) period
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<i64>,
    /// Limit CPU CFS (Completely Fair Scheduler) quota
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// Limit the CPU real-time period in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_rt_period: Option<i64>,
    /// Limit the CPU real-time runtime in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_rt_runtime: Option<i64>,
    /// CPU shares (relative weight)
    #[arg(short, long, value_name = "WEIGHT")]
    cpu_shares: Option<i64>,
    /// Number of CPUs
    #[arg(long, value_name = "DECIMAL")]
    cpus: Option<String>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "CPUS")]
    cpuset_cpus: Option<String>,
    /// Memory nodes in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "NODES")]
    cpuset_mems: Option<String>,
    /// Memory limit
    #[arg(short, long, value_name = "BYTES")]
    memory: Option<String>,
    /// Memory soft limit
    #[arg(long, value_name = "BYTES")]
    memory_reservation: Option<String>,
    /// Limit of memory plus swap: -1 to enable unlimited swap
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// Restart policy to apply when a container exits (no|always|unless-stopped|on-failure[:N])
    #[arg(long, value_name = "POLICY")]
    restart: Option<String>,
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Verb for Update {
    const ABOUT: &'static str = "Update configuration of one or more containers";
    const USAGE: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";

    fn run(self, context: &Context) -> Outcome {
        let Some(changes) = self.changes()? else {
            return Err(Failure::new("you must provide one or more flags when using this command")
                .hint("`corten update --help` lists them"));
        };
        let client = context.client()?;
        context.block_on(each(&client, self.containers, move |client, name| {
            let changes = changes.clone();
            async move {
                let answer = client.container_update(&name, &changes).await?;
                for warning in &answer.warnings {
                    output::say!("{warning}");
                }
                Ok(name)
            }
        }))?
    }
}

impl Update {
    /// What is asked for; none when nothing is.
    fn changes(&self) -> Result<Option<HostConfig>, Failure> {
        let mut changes = HostConfig {
            blkio_weight: self.blkio_weight.unwrap_or_default(),
            cpu_period: self.cpu_period.unwrap_or_default(),
            cpu_quota: self.cpu_quota.unwrap_or_default(),
            cpu_realtime_period: self.cpu_rt_period.unwrap_or_default(),
            cpu_realtime_runtime: self.cpu_rt_runtime.unwrap_or_default(),
            cpu_shares: self.cpu_shares.unwrap_or_default(),
            cpuset_cpus: self.cpuset_cpus.clone().unwrap_or_default(),
            cpuset_mems: self.cpuset_mems.clone().unwrap_or_default(),
            memory: bytes_of("--memory", self.memory.as_deref())?,
            memory_reservation: bytes_of("--memory-reservation", self.memory_reservation.as_deref())?,
            memory_swap: swap_of(self.memory_swap.as_deref())?,
            pids_limit: self.pids_limit,
            ..HostConfig::default()
        };
        if let Some(cpus) = &self.cpus {
            changes.nano_cpus =
                nano_cpus(cpus).map_err(|why| crate::options::OptionError::invalid("--cpus", cpus, why))?;
        }
        if let Some(policy) = self.restart.as_deref().filter(|policy| !policy.is_empty()) {
            changes.restart_policy = restart_policy(policy)?;
        }
        let given = [self.blkio_weight.is_some(), self.restart.is_some(), self.pids_limit.is_some()];
        // A zero that was written down is a request that changes nothing, as with docker.
        let numbers =
            [self.cpu_period, self.cpu_quota, self.cpu_rt_period, self.cpu_rt_runtime, self.cpu_shares];
        let words = [
            &self.cpus,
            &self.cpuset_cpus,
            &self.cpuset_mems,
            &self.memory,
            &self.memory_reservation,
            &self.memory_swap,
        ];
        let any = given.contains(&true)
            || numbers.iter().any(Option::is_some)
            || words.iter().any(|word| word.is_some());
        Ok(any.then_some(changes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args as _, FromArgMatches as _};

    fn changes(words: &[&str]) -> Option<HostConfig> {
        let command = Update::augment_args(clap::Command::new("update").no_binary_name(true));
        let matches = command.try_get_matches_from(words).unwrap();
        Update::from_arg_matches(&matches).unwrap().changes().unwrap()
    }

    #[test]
    fn only_what_is_given_is_sent() {
        let sent = changes(&["-m", "64m", "--memory-swap", "-1", "--pids-limit", "-1", "web"]).unwrap();
        assert_eq!((sent.memory, sent.memory_swap, sent.pids_limit), (64 << 20, -1, Some(-1)));
        assert_eq!(sent.restart_policy.name, "");
        let sent = changes(&["--cpus", "1.5", "--restart", "on-failure:3", "web"]).unwrap();
        assert_eq!((sent.nano_cpus, sent.pids_limit), (1_500_000_000, None));
        assert_eq!(sent.restart_policy.maximum_retry_count, 3);
    }

    #[test]
    fn nothing_is_no_update() {
        assert!(changes(&["web"]).is_none());
        assert!(changes(&["--cpu-quota", "0", "web"]).is_some());
    }
}
