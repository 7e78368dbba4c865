//! `attach`: join the streams of a running container.

use corten_api::client::Client;
use corten_api::container::WaitCondition;

use super::attachment::{Attachment, Keys, check_terminal};
use crate::cli::{Context, Failure, Outcome, Verb};

#[derive(Clone, Debug, clap::Args)]
pub struct Attach {
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "KEYS", default_value = "", hide_default_value = true)]
    detach_keys: String,
    /// Do not attach STDIN
    #[arg(long)]
    no_stdin: bool,
    /// Proxy all received signals to the process
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true",
        value_parser = crate::options::values::boolean, action = clap::ArgAction::Set, value_name = "BOOL")]
    sig_proxy: bool,
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Verb for Attach {
    const ABOUT: &'static str =
        "Attach local standard input, output, and error streams to a running container";
    const USAGE: &'static str = "[OPTIONS] CONTAINER";

    fn run(self, context: &Context) -> Outcome {
        let keys = Keys::of(context, &self.detach_keys, true)?;
        let client = context.client()?;
        context.block_on(self.attached(&client, keys))?
    }
}

impl Attach {
    async fn attached(&self, client: &Client, keys: Keys) -> Outcome {
        let container = client.container_inspect(&self.container, false).await?;
        let refuse = |state: &str, hint: &str| {
            Err(Failure::new(format!("can't attach to {}: it is {state}", self.container)).hint(hint))
        };
        if !container.state.running {
            return refuse("not running", "`corten start -a` starts and attaches");
        }
        if container.state.paused {
            return refuse("paused", "`corten unpause` lets it go on");
        }
        if container.state.restarting {
            return refuse("restarting", "try again when it runs");
        }
        let tty = container.config.tty;
        let stdin = !self.no_stdin && container.config.open_stdin;
        check_terminal(tty, stdin, "--no-stdin only listens")?;
        let attachment = Attachment {
            client,
            id: &container.id,
            keys,
            tty,
            stdin,
            stdout: true,
            stderr: true,
            signals: self.sig_proxy && !tty,
            until: WaitCondition::NotRunning,
        };
        attachment.join().await
    }
}
