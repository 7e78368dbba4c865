//! `run`: create, start, and stay attached until the container ends.

use corten_api::container::{ContainerCreateRequest, WaitCondition};

use super::attachment::{Attachment, Keys, check_terminal, start_failure};
use super::create::Creation;
use crate::cli::{Context, EXIT_ENGINE, Failure, Outcome, Verb};
use crate::options::ContainerFlags;
use crate::output;
use crate::stream::window;

#[derive(Clone, Debug, clap::Args)]
pub struct Run {
    /// Run container in background and print container ID
    #[arg(short, long)]
    detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "KEYS", default_value = "", hide_default_value = true)]
    detach_keys: String,
    /// Proxy received signals to the process
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true",
        value_parser = crate::options::values::boolean, action = clap::ArgAction::Set, value_name = "BOOL")]
    sig_proxy: bool,
    #[command(flatten)]
    flags: ContainerFlags,
    /// The image, then the command and its arguments
    #[arg(required = true, num_args = 1.., trailing_var_arg = true, value_name = "IMAGE [COMMAND] [ARG...]",
        help_heading = "Arguments")]
    words: Vec<String>,
}

impl Verb for Run {
    const ABOUT: &'static str = "Create and run a new container from an image";
    const USAGE: &'static str = "[OPTIONS] IMAGE [COMMAND] [ARG...]";

    fn run(self, context: &Context) -> Outcome {
        let keys = Keys::of(context, &self.detach_keys, self.flags.process.tty && !self.detach)?;
        let mut creation = Creation::new(context, &self.flags, &self.words)?;
        let request = &mut creation.request;
        if self.detach {
            detach(request, &self.flags)?;
        } else {
            let config = &request.config;
            check_terminal(config.tty, config.attach_stdin, "leave out -t, or run this in a terminal")?;
        }
        if let Some((height, width)) = window().filter(|_| request.config.tty) {
            request.host_config.console_size = [height.into(), width.into()];
        }
        let client = context.client().map_err(|failure| failure.exit(EXIT_ENGINE))?;
        context.block_on(async {
            let id = creation.send(&client).await.map_err(|failure| failure.exit(EXIT_ENGINE))?;
            if self.detach {
                client.container_start(&id, &keys.text).await.map_err(start_failure)?;
                output::line(&id)?;
                return Ok(0);
            }
            let (config, removed) = (&creation.request.config, creation.request.host_config.auto_remove);
            let attachment = Attachment {
                client: &client,
                id: &id,
                keys,
                tty: config.tty,
                stdin: config.attach_stdin,
                stdout: config.attach_stdout,
                stderr: config.attach_stderr,
                signals: self.sig_proxy,
                until: if removed { WaitCondition::Removed } else { WaitCondition::NextExit },
            };
            let outcome = attachment.start().await;
            outcome.map_err(|failure| if failure.exit == 1 { failure.exit(EXIT_ENGINE) } else { failure })
        })?
    }
}

/// In the background nothing is attached.
fn detach(request: &mut ContainerCreateRequest, flags: &ContainerFlags) -> Result<(), Failure> {
    if !flags.process.attach.is_empty() {
        return Err(Failure::new("conflicting options: --attach and --detach exclude each other"));
    }
    let config = &mut request.config;
    config.attach_stdin = false;
    config.attach_stdout = false;
    config.attach_stderr = false;
    config.stdin_once = false;
    Ok(())
}
