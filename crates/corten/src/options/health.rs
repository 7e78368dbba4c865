//! How the container's health is probed.

use corten_api::container::{ContainerCreateRequest, HealthConfig};

use super::OptionError;
use super::values::nanoseconds;

/// What is done with a container that becomes unhealthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum OnFailure {
    None,
    Restart,
    Stop,
    Kill,
}

impl OnFailure {
    fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Restart => "restart",
            Self::Stop => "stop",
            Self::Kill => "kill",
        }
    }
}

/// The label by which the engine is told (docs/life-cycle.md).
const ON_FAILURE: &str = "com.corten.health-on-failure";

#[derive(Clone, Debug, Default, clap::Args)]
pub struct HealthFlags {
    /// Command to run to check health
    #[arg(long, value_name = "COMMAND", help_heading = "Health")]
    pub health_cmd: Option<String>,
    /// Time between running the check (ms|s|m|h)
    #[arg(long, value_name = "DURATION", value_parser = nanoseconds, help_heading = "Health")]
    pub health_interval: Option<i64>,
    /// Maximum time to allow one check to run (ms|s|m|h)
    #[arg(long, value_name = "DURATION", value_parser = nanoseconds, help_heading = "Health")]
    pub health_timeout: Option<i64>,
    /// Consecutive failures needed to report unhealthy
    #[arg(long, value_name = "N", help_heading = "Health")]
    pub health_retries: Option<i64>,
    /// Time for the container to initialise before failures count (ms|s|m|h)
    #[arg(long, value_name = "DURATION", value_parser = nanoseconds, help_heading = "Health")]
    pub health_start_period: Option<i64>,
    /// Time between running the check during the start period (ms|s|m|h)
    #[arg(long, value_name = "DURATION", value_parser = nanoseconds, help_heading = "Health")]
    pub health_start_interval: Option<i64>,
    /// What is done with a container that becomes unhealthy (none|restart|stop|kill)
    #[arg(long, value_enum, value_name = "ACTION", help_heading = "Health")]
    pub health_on_failure: Option<OnFailure>,
    /// Disable any container-specified HEALTHCHECK
    #[arg(long, help_heading = "Health")]
    pub no_healthcheck: bool,
}

impl HealthFlags {
    pub fn apply(&self, request: &mut ContainerCreateRequest) -> Result<(), OptionError> {
        let numbers = [
            ("--health-interval", self.health_interval),
            ("--health-timeout", self.health_timeout),
            ("--health-retries", self.health_retries),
            ("--health-start-period", self.health_start_period),
            ("--health-start-interval", self.health_start_interval),
        ];
        if let Some(action) = self.health_on_failure {
            request.config.labels.insert(ON_FAILURE.to_owned(), action.word().to_owned());
        }
        let any = self.health_cmd.is_some() || numbers.iter().any(|(_, number)| number.is_some());
        if self.no_healthcheck {
            if any {
                return Err(OptionError::Conflict(
                    "--no-healthcheck conflicts with --health-* options".into(),
                ));
            }
            let test = vec!["NONE".to_owned()].into();
            request.config.healthcheck = Some(HealthConfig { test, ..HealthConfig::default() });
            return Ok(());
        }
        if !any {
            return Ok(());
        }
        for (flag, number) in numbers {
            if let Some(number @ ..0) = number {
                let unit = if flag == "--health-retries" { "" } else { "ns" };
                return Err(OptionError::invalid(flag, format!("{number}{unit}"), "it can't be negative"));
            }
        }
        let mut health = HealthConfig {
            interval: self.health_interval.unwrap_or_default(),
            timeout: self.health_timeout.unwrap_or_default(),
            start_period: self.health_start_period.unwrap_or_default(),
            start_interval: self.health_start_interval.unwrap_or_default(),
            retries: self.health_retries.unwrap_or_default(),
            ..HealthConfig::default()
        };
        if let Some(command) = &self.health_cmd
            && !command.is_empty()
        {
            health.test = vec!["CMD-SHELL".to_owned(), command.clone()].into();
        }
        request.config.healthcheck = Some(health);
        Ok(())
    }
}
