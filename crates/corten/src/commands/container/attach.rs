//! `attach`: join the streams of a running container.

use corten_api::client::Client;
use corten_api::container::{AttachOptions, WaitCondition};

use super::run::exit_status;
use crate::cli::{Context, EXIT_ENGINE, Failure, Outcome, Verb};
use crate::stream::{
    DetachKeys, End, RawMode, Resized, Session, Wiring, follow_size, forward_signals, is_terminal,
};

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

    fn run(mut self, context: &Context) -> Outcome {
        if self.detach_keys.is_empty() {
            self.detach_keys = context.setting("detachKeys").unwrap_or_default();
        }
        let keys = DetachKeys::parse(&self.detach_keys).map_err(|why| {
            Failure::new(format!("invalid value for --detach-keys: {why}")).exit(EXIT_ENGINE)
        })?;
        let client = context.client()?;
        context.block_on(self.attached(&client, keys))?
    }
}

impl Attach {
    async fn attached(&self, client: &Client, keys: DetachKeys) -> Outcome {
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
        let (id, tty) = (&container.id, container.config.tty);
        let stdin = !self.no_stdin && container.config.open_stdin;
        if tty && stdin && !is_terminal() {
            return Err(Failure::new("the input device is not a TTY").hint("--no-stdin only listens"));
        }
        if self.sig_proxy && !tty {
            forward_signals(client, id)?;
        }
        let options = AttachOptions {
            stream: true,
            stdin,
            stdout: true,
            stderr: true,
            detach_keys: self.detach_keys.clone(),
            ..AttachOptions::default()
        };
        let (attached, waiting) = tokio::join!(
            client.container_attach(id, &options),
            client.container_wait(id, WaitCondition::NotRunning)
        );
        let (attached, waiting) = (attached?, waiting?);
        let raw = if tty && stdin { RawMode::enter()? } else { None };
        let session = Session::start(attached, Wiring { stdin, tty, detach_keys: tty.then_some(keys) })?;
        if tty {
            follow_size(client, Resized::Container(id.clone()))?;
        }
        let end = session.end().await?;
        drop(raw);
        match end {
            End::Detached => Ok(0),
            End::Closed => exit_status(waiting).await,
        }
    }
}
