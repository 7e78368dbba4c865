//! Who runs in the container: command, user, terminal, names, signals.

use corten_api::List;
use corten_api::container::ContainerCreateRequest;

use super::OptionError;

#[derive(Clone, Debug, Default, clap::Args)]
pub struct ProcessFlags {
    /// Attach to STDIN, STDOUT or STDERR
    #[arg(short, long, value_name = "STREAM")]
    pub attach: Vec<String>,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    pub interactive: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    pub tty: bool,
    /// Overwrite the default ENTRYPOINT of the image
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// Username or UID (format: <name|uid>[:<group|gid>])
    #[arg(short, long)]
    pub user: Option<String>,
    /// Add additional groups to join
    #[arg(long, value_name = "GROUP")]
    pub group_add: Vec<String>,
    /// Container host name
    #[arg(short = 'h', long)]
    pub hostname: Option<String>,
    /// Container NIS domain name
    #[arg(long)]
    pub domainname: Option<String>,
    /// Run an init inside the container that forwards signals and reaps processes
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true,
        value_parser = super::values::boolean, value_name = "BOOL")]
    pub init: Option<bool>,
    /// Signal to stop the container
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// Timeout (in seconds) to stop a container
    #[arg(long, value_name = "SECONDS")]
    pub stop_timeout: Option<i64>,
}

impl ProcessFlags {
    pub fn apply(&self, request: &mut ContainerCreateRequest) -> Result<(), OptionError> {
        let config = &mut request.config;
        for stream in &self.attach {
            match stream.to_ascii_lowercase().as_str() {
                "stdin" => config.attach_stdin = true,
                "stdout" => config.attach_stdout = true,
                "stderr" => config.attach_stderr = true,
                _ => {
                    let why = "the streams are STDIN, STDOUT and STDERR";
                    return Err(OptionError::invalid("--attach", stream, why));
                }
            }
        }
        if self.attach.is_empty() {
            config.attach_stdout = true;
            config.attach_stderr = true;
        }
        config.attach_stdin |= self.interactive;
        config.open_stdin = self.interactive;
        config.stdin_once = config.open_stdin && config.attach_stdin;
        config.tty = self.tty;
        config.user = self.user.clone().unwrap_or_default();
        config.working_dir = self.workdir.clone().unwrap_or_default();
        config.hostname = self.hostname.clone().unwrap_or_default();
        config.domainname = self.domainname.clone().unwrap_or_default();
        config.stop_signal = self.stop_signal.clone().unwrap_or_default();
        config.stop_timeout = self.stop_timeout;
        // `--entrypoint=` resets the image's: a list with one empty word says so.
        if let Some(entrypoint) = &self.entrypoint {
            config.entrypoint = vec![entrypoint.clone()].into();
        }
        request.host_config.group_add = non_empty(&self.group_add);
        request.host_config.init = self.init;
        Ok(())
    }
}

/// `null` when a flag was not given.
pub fn non_empty(values: &[String]) -> List<String> {
    if values.is_empty() { List::default() } else { values.to_vec().into() }
}
