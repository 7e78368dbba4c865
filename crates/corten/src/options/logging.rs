//! Where the container's output is kept.

use corten_api::container::ContainerCreateRequest;

use super::OptionError;
use super::environment::key_values;

#[derive(Clone, Debug, Default, clap::Args)]
pub struct LoggingFlags {
    /// Logging driver for the container
    #[arg(long, value_name = "DRIVER")]
    pub log_driver: Option<String>,
    /// Log driver options
    #[arg(long, value_name = "KEY=VALUE")]
    pub log_opt: Vec<String>,
}

impl LoggingFlags {
    pub fn apply(&self, request: &mut ContainerCreateRequest) -> Result<(), OptionError> {
        let log = &mut request.host_config.log_config;
        log.kind = self.log_driver.clone().unwrap_or_default();
        if log.kind == "none" && !self.log_opt.is_empty() {
            return Err(OptionError::Conflict("--log-driver none has no options".into()));
        }
        log.config = key_values("--log-opt", &self.log_opt)?;
        Ok(())
    }
}
